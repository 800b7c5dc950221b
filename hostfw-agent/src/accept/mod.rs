//! Which objects of the store are in force.
//!
//! Input that is not valid is never silently absent, for the absence of a
//! policy can open as well as close: the last valid version of an object stays
//! in force until its file is mended or removed, and is reported for as long.

mod acceptor;
mod assembler;
mod intern;
mod parsed;
mod saved;
mod splice;
mod written;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    lint::{self, Unenforced, Warning},
    model::{Kind, Model, ObjectRef},
    resource::Resource,
    sorted::{Keyed, Sorted},
    source::Snapshot,
    validate::{self, Object},
};

pub use acceptor::Acceptor;
pub use assembler::{Assembler, Shortfall};
pub use saved::{LoadError, load, save};
pub use written::Written;

/// What is in force, and what is wrong with the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accepted {
    /// Objects that are in force, sorted by kind and name.
    pub objects: Sorted<AcceptedObject>,
    /// Objects that the store holds, but none of whose versions ever was valid;
    /// sorted by kind and name.
    pub refused: Vec<RefusedObject>,
    /// What is wrong with the store, sorted by file.
    pub problems: Vec<Problem>,
}

/// An object that is in force. A copy shares what is large.
#[derive(Clone, Debug)]
pub struct AcceptedObject {
    /// The object.
    pub named: ObjectRef,
    /// The files of the store that mean the object, sorted: one, unless
    /// something is wrong.
    pub files: Arc<[Arc<str>]>,
    /// The version in force, as written.
    pub resource: Written,
    /// The version in force.
    pub object: Object,
    /// Whether the store holds that version.
    pub stored: Stored,
    /// `metadata.generation` of the version in the store, if it is known.
    pub stored_generation: Option<u64>,
}

impl AcceptedObject {
    /// Whether both have the same version in force, as written.
    #[must_use]
    pub fn same_resource(&self, other: &Self) -> bool {
        self.resource == other.resource
    }

    /// Whether both have versions in force that mean the same.
    #[must_use]
    pub fn same_object(&self, other: &Self) -> bool {
        self.object == other.object
    }
}

impl PartialEq for AcceptedObject {
    fn eq(&self, other: &Self) -> bool {
        self.named == other.named
            && self.files == other.files
            && self.stored == other.stored
            && self.stored_generation == other.stored_generation
            && self.same_resource(other)
            && self.same_object(other)
    }
}

impl Keyed for AcceptedObject {
    type Key = ObjectRef;

    fn key(&self) -> &ObjectRef {
        &self.named
    }
}

/// Whether the version in force is the one in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stored {
    /// It is.
    Current,
    /// What the store holds is not valid: an earlier version is in force.
    LastGood,
}

/// An object that is not in force, because no version of it was valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedObject {
    /// The object.
    pub object: ObjectRef,
    /// The files of the store that mean it, sorted.
    pub files: Arc<[Arc<str>]>,
    /// `metadata.generation` of the version in the store, if it is known.
    pub stored_generation: Option<u64>,
}

/// Something wrong with the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, relative to the store, if it is about one.
    pub file: Option<String>,
    /// The object, where that can be told.
    pub object: Option<ObjectRef>,
    /// What was expected and what was found.
    pub message: String,
}

impl Accepted {
    /// What is in force, for [`select`](crate::select).
    #[must_use]
    pub fn model(&self) -> Model {
        validate::assemble(self.objects.iter().map(|object| object.object.clone()))
    }

    /// What is valid, and yet probably not meant. `model` is
    /// [`model`](Self::model)'s.
    #[must_use]
    pub fn warnings(&self, model: &Model) -> Vec<Warning> {
        let mut warnings = lint::lint(model);
        warnings.extend(self.warnings_of_each());
        warnings
    }

    fn warnings_of_each(&self) -> impl Iterator<Item = Warning> {
        self.resources().flat_map(lint::lint_resource)
    }

    /// What is valid, in force, and not enforced.
    #[must_use]
    pub fn unenforced(&self) -> Vec<Unenforced> {
        let any = |kind| self.of_kind(kind).next().is_some();
        let known = lint::Known {
            workloads: any(Kind::WorkloadEndpoint),
            services: any(Kind::EndpointSlice),
        };
        let mut unenforced: Vec<Unenforced> = self
            .resources()
            .flat_map(|resource| lint::unenforced(resource, known))
            .collect();
        let model = validate::assemble(self.not_silent().map(|object| object.object.clone()));
        unenforced.extend(lint::unenforced_together(&model));
        unenforced.sort();
        unenforced
    }

    /// The object of this kind and name, if it is in force.
    #[must_use]
    pub fn object(&self, object: &ObjectRef) -> Option<&AcceptedObject> {
        self.objects.get(object)
    }

    /// The objects of a kind that are in force, sorted by name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &AcceptedObject> {
        let first = ObjectRef {
            kind,
            name: String::new(),
        };
        let objects = self.objects.from(&first);
        objects.take_while(move |object| object.named.kind == kind)
    }

    /// Those of which something may be said: not of pods and services, of which there
    /// may be very many.
    fn not_silent(&self) -> impl Iterator<Item = &AcceptedObject> {
        let kinds = Kind::ALL.into_iter().filter(|kind| !lint::silent(*kind));
        kinds.flat_map(|kind| self.of_kind(kind))
    }

    fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.not_silent()
            .filter_map(|object| object.resource.resource().map(|resource| &**resource))
    }

    /// Every object, with the files that mean it.
    fn meant(&self) -> impl Iterator<Item = (&ObjectRef, &Arc<[Arc<str>]>)> {
        let in_force = self.objects.iter().map(|it| (&it.named, &it.files));
        let refused = self.refused.iter().map(|it| (&it.object, &it.files));
        in_force.chain(refused)
    }
}

/// What is in force once the store holds the snapshot, if `last` was in force
/// before.
///
/// - An object that one file means, in a valid version, is in force.
/// - A file with an error still means all objects that it meant last.
/// - An object that is not valid, or that more than one document means, stays
///   in force as it was; if it was not, it is refused.
/// - An object that no file means is gone.
#[must_use]
pub fn accept(snapshot: &Snapshot, last: &Accepted) -> Accepted {
    Acceptor::default().accept(snapshot, last)
}

#[cfg(test)]
mod tests;
