//! Which objects of the store are in force.
//!
//! Input that is not valid is never silently absent, for the absence of a
//! policy can open as well as close: the last valid version of an object stays
//! in force until its file is mended or removed, and is reported for as long.

mod parsed;
mod saved;
mod splice;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    lint::{self, Unenforced, Warning},
    model::{Model, ObjectRef},
    resource::Resource,
    source::Snapshot,
    validate::{self, Object},
};

use self::parsed::{Parsed, ParsedFile, ParsedObject};
pub use saved::{LoadError, load, save};

/// What is in force, and what is wrong with the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accepted {
    /// Objects that are in force, sorted by kind and name.
    pub objects: Vec<AcceptedObject>,
    /// Objects that the store holds, but none of whose versions ever was valid;
    /// sorted by kind and name.
    pub refused: Vec<RefusedObject>,
    /// What is wrong with the store, sorted by file.
    pub problems: Vec<Problem>,
}

/// An object that is in force. A copy shares what is large.
#[derive(Clone, Debug)]
pub struct AcceptedObject {
    /// The files of the store that mean the object, sorted: one, unless
    /// something is wrong.
    pub files: Vec<String>,
    /// The version in force, as written.
    pub resource: Arc<Resource>,
    /// The version in force.
    pub object: Arc<Object>,
    /// Whether the store holds that version.
    pub stored: Stored,
    /// `metadata.generation` of the version in the store, if it is known.
    pub stored_generation: Option<u64>,
}

impl AcceptedObject {
    /// Whether both have the same version in force, as written.
    #[must_use]
    pub fn same_resource(&self, other: &Self) -> bool {
        same(&self.resource, &other.resource)
    }

    /// Whether both have versions in force that mean the same.
    #[must_use]
    pub fn same_object(&self, other: &Self) -> bool {
        same(&self.object, &other.object)
    }
}

impl PartialEq for AcceptedObject {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
            && self.stored == other.stored
            && self.stored_generation == other.stored_generation
            && self.same_resource(other)
            && self.same_object(other)
    }
}

/// Equal; what is shared is not looked at.
fn same<T: PartialEq>(one: &Arc<T>, other: &Arc<T>) -> bool {
    Arc::ptr_eq(one, other) || one == other
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
    pub files: Vec<String>,
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
        validate::assemble(self.objects.iter().map(|object| (*object.object).clone()))
    }

    /// What is valid, and yet probably not meant. `model` is
    /// [`model`](Self::model)'s.
    #[must_use]
    pub fn warnings(&self, model: &Model) -> Vec<Warning> {
        let resources = self.objects.iter().map(|object| &*object.resource);
        let mut warnings = lint::lint(model);
        warnings.extend(resources.flat_map(lint::lint_resource));
        warnings
    }

    /// What is valid, in force, and not enforced.
    #[must_use]
    pub fn unenforced(&self) -> Vec<Unenforced> {
        let resources = || self.objects.iter().map(|object| &*object.resource);
        let known = lint::Known::among(resources());
        let mut unenforced: Vec<Unenforced> = resources()
            .flat_map(|resource| lint::unenforced(resource, known))
            .collect();
        unenforced.extend(lint::unenforced_together(&self.model()));
        unenforced.sort();
        unenforced
    }

    /// The object of this kind and name, if it is in force.
    #[must_use]
    pub fn object(&self, object: &ObjectRef) -> Option<&AcceptedObject> {
        let found = self
            .objects
            .binary_search_by(|accepted| accepted.resource.object_ref().cmp(object));
        found.ok().map(|index| &self.objects[index])
    }
}

/// A file that means an object.
struct Claim {
    file: String,
    document: Option<usize>,
    generation: Option<u64>,
    version: Version,
}

/// What a file makes of an object.
#[derive(Clone, Debug)]
enum Version {
    Valid(Arc<Resource>, Arc<Object>),
    /// Why not is among the problems.
    Invalid,
    /// The file meant the object before, and is too broken to tell whether it
    /// still does.
    Unknown,
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

/// Accepts one snapshot after another, and reads of each only the files whose
/// text is another than in the one before.
#[derive(Debug, Default)]
pub struct Acceptor {
    parsed: Parsed,
}

impl Acceptor {
    /// As [`accept`].
    pub fn accept(&mut self, snapshot: &Snapshot, last: &Accepted) -> Accepted {
        self.parsed.update(snapshot);
        let mut claims = Claims::default();
        for (file, said) in self.parsed.files() {
            match said {
                Ok(parsed) => claims.read(file, parsed, last),
                Err(reason) => claims.report(file, None, reason.to_owned()),
            }
        }
        claims.presume(last);
        claims.decide(last)
    }
}

#[derive(Default)]
struct Claims {
    of: BTreeMap<ObjectRef, Vec<Claim>>,
    broken: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Claims {
    /// What a file says.
    fn read(&mut self, file: &str, parsed: &ParsedFile, last: &Accepted) {
        let mut broken = Vec::new();
        for (number, document) in parsed.documents() {
            match document {
                Ok(objects) => {
                    for object in objects {
                        self.claim(file, number, object);
                    }
                }
                Err(error) => broken.push(error),
            }
        }
        for mut error in broken {
            let object = error.object.take();
            self.report(file, object.as_ref(), error.to_string());
            if let Some(named) = object {
                self.of.entry(named).or_default().push(Claim {
                    file: file.to_owned(),
                    document: Some(error.document),
                    generation: None,
                    version: Version::Invalid,
                });
            }
        }
        // Writers that truncate first leave an empty file for a moment, or
        // for good if they fail.
        if parsed.blank && last.means_any(file) {
            let message = "expected the resources that the file held before, or no file, \
                           found an empty one";
            self.report(file, None, message.to_owned());
        }
    }

    fn claim(&mut self, file: &str, document: usize, object: &ParsedObject) {
        for error in &object.errors {
            let message = format!("document {document}: {error}");
            self.report(file, Some(&object.named), message);
        }
        let claims = self.of.entry(object.named.clone()).or_default();
        claims.push(Claim {
            file: file.to_owned(),
            document: Some(document),
            generation: object.generation,
            version: object.version.clone(),
        });
    }

    fn report(&mut self, file: &str, object: Option<&ObjectRef>, message: String) {
        self.broken.insert(file.to_owned());
        self.problems.push(Problem {
            file: Some(file.to_owned()),
            object: object.cloned(),
            message,
        });
    }

    /// What broken files may still mean.
    fn presume(&mut self, last: &Accepted) {
        for (named, files) in last.meant() {
            for file in files.iter().filter(|file| self.broken.contains(*file)) {
                let claims = self.of.entry(named.clone()).or_default();
                if claims.iter().all(|claim| claim.file != *file) {
                    claims.push(Claim {
                        file: file.clone(),
                        document: None,
                        generation: None,
                        version: Version::Unknown,
                    });
                }
            }
        }
        self.of.retain(|_, claims| !claims.is_empty());
    }

    fn decide(mut self, last: &Accepted) -> Accepted {
        let mut accepted = Accepted::default();
        let previous: BTreeMap<ObjectRef, &AcceptedObject> = last
            .objects
            .iter()
            .map(|object| (object.resource.object_ref(), object))
            .collect();
        for (named, claims) in self.of {
            let files: BTreeSet<String> = claims.iter().map(|claim| claim.file.clone()).collect();
            let files = Vec::from_iter(files);
            let stored_generation = claims.first().and_then(|claim| claim.generation);
            if let [
                Claim {
                    version: Version::Valid(resource, object),
                    ..
                },
            ] = &claims[..]
            {
                // The copy that is in force already, if it says the same.
                let known = previous.get(&named);
                accepted.objects.push(AcceptedObject {
                    files,
                    resource: shared(resource, known.map(|known| &known.resource)),
                    object: shared(object, known.map(|known| &known.object)),
                    stored: Stored::Current,
                    stored_generation,
                });
                continue;
            }
            let previous = previous.get(&named);
            if claims.len() > 1 {
                self.problems
                    .push(ambiguous(&named, &claims, previous.is_some()));
            }
            match previous {
                Some(previous) => accepted.objects.push(AcceptedObject {
                    files,
                    resource: previous.resource.clone(),
                    object: previous.object.clone(),
                    stored: Stored::LastGood,
                    stored_generation,
                }),
                None => accepted.refused.push(RefusedObject {
                    object: named,
                    files,
                    stored_generation,
                }),
            }
        }
        self.problems.sort();
        accepted.problems = self.problems;
        accepted
    }
}

fn shared<T: PartialEq>(new: &Arc<T>, known: Option<&Arc<T>>) -> Arc<T> {
    Arc::clone(known.filter(|known| same(known, new)).unwrap_or(new))
}

fn ambiguous(named: &ObjectRef, claims: &[Claim], in_force: bool) -> Problem {
    let places: Vec<String> = claims
        .iter()
        .map(|claim| match (claim.document, &claim.version) {
            (_, Version::Unknown) => format!("{} (which cannot be read now)", claim.file),
            (Some(document), _) => format!("{} (document {document})", claim.file),
            (None, _) => claim.file.clone(),
        })
        .collect();
    let outcome = if in_force {
        "the version that was accepted last stays in force"
    } else {
        "none of them is in force"
    };
    Problem {
        file: None,
        object: Some(named.clone()),
        message: format!(
            "expected the object in one place, found it in {}: {outcome}",
            places.join(" and ")
        ),
    }
}

impl Accepted {
    /// Every object, with the files that mean it.
    fn meant(&self) -> impl Iterator<Item = (ObjectRef, &[String])> {
        let in_force = self
            .objects
            .iter()
            .map(|object| (object.resource.object_ref(), &object.files[..]));
        let refused = self
            .refused
            .iter()
            .map(|refused| (refused.object.clone(), &refused.files[..]));
        in_force.chain(refused)
    }

    fn means_any(&self, file: &str) -> bool {
        self.meant()
            .any(|(_, files)| files.iter().any(|known| known == file))
    }
}

#[cfg(test)]
mod tests;
