//! `apply`, `create`, `replace` and `delete`.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;

use super::{
    CtlError, Streams,
    input::{Files, Input, InputError, Item},
    join, kind,
    place::{Place, Writer},
    summary::Summary,
};
use crate::{
    accept::{self, Accepted},
    lint::Warning,
    model::{Kind, ObjectRef, Tier},
    resource::Resource,
    source::store::{Change, StoreError},
};

#[derive(Debug, Args)]
pub(super) struct Apply {
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    files: Files,
    /// Leave resources alone that exist already.
    #[arg(long)]
    skip_exists: bool,
}

#[derive(Debug, Args)]
pub(super) struct Replace {
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// Kind of the resources: hep, gnp, sgnp, gnetset, netset, tier, profile or
    /// felixconfig.
    #[arg(required_unless_present = "filename", conflicts_with = "filename")]
    kind: Option<String>,
    /// Their names.
    #[arg(required_unless_present = "filename", conflicts_with = "filename")]
    name: Vec<String>,
    /// Namespace of the resources, for a kind that lives in one.
    #[arg(short, long, conflicts_with = "filename")]
    namespace: Option<String>,
    /// File or folder with the resources in YAML or JSON; `-` is standard
    /// input. May be repeated.
    #[arg(short = 'f', long, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Read sub-folders too.
    #[arg(short = 'R', long, requires = "filename")]
    recursive: bool,
    /// Do not mind resources that do not exist.
    #[arg(short = 's', long)]
    skip_not_exists: bool,
}

/// Some objects could not be changed; the others are.
#[derive(Debug, thiserror::Error)]
#[error("{}", join(.errors))]
pub struct ChangeError {
    /// One for each object that could not be changed.
    pub errors: Vec<StoreError>,
}

impl Apply {
    pub(super) fn run(
        &self,
        place: &Place,
        streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    ) -> Result<(), CtlError> {
        let items = read_valid(&self.files, &mut streams.input)?;
        check_tiers(place, &items)?;
        change(place, streams, "applied", items, |writer, item| {
            writer.apply(item.resource).map(Outcome::from)
        })
    }
}

impl Create {
    pub(super) fn run(
        &self,
        place: &Place,
        streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    ) -> Result<(), CtlError> {
        let items = read_valid(&self.files, &mut streams.input)?;
        check_tiers(place, &items)?;
        change(
            place,
            streams,
            "created",
            items,
            |writer, item| match writer.create(item.resource) {
                Err(StoreError::Exists(object)) if self.skip_exists => {
                    Ok(Outcome::Skipped(format!("{object} exists already")))
                }
                other => other.map(Outcome::from),
            },
        )
    }
}

impl Replace {
    pub(super) fn run(
        &self,
        place: &Place,
        streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    ) -> Result<(), CtlError> {
        let items = read_valid(&self.files, &mut streams.input)?;
        change(place, streams, "replaced", items, |writer, item| {
            writer.replace(item.resource).map(Outcome::from)
        })
    }
}

/// What `delete` is asked to remove.
struct Doomed {
    object: ObjectRef,
    /// As given in a file.
    version: Option<Resource>,
}

impl Delete {
    pub(super) fn run(
        &self,
        place: &Place,
        streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    ) -> Result<(), CtlError> {
        let doomed = self.read(&mut streams.input)?;
        change(
            place,
            streams,
            "deleted",
            doomed,
            |writer, doomed| match writer.delete(&doomed.object, doomed.version.as_ref()) {
                Err(StoreError::NotFound(object)) if self.skip_not_exists => {
                    Ok(Outcome::Skipped(format!("{object} does not exist")))
                }
                other => other.map(|()| Outcome::Changed),
            },
        )
    }

    fn read(&self, stdin: &mut impl io::Read) -> Result<Vec<Doomed>, CtlError> {
        if let Some(kind) = &self.kind {
            let kind = kind::parse(kind)?;
            return self
                .name
                .iter()
                .map(|name| {
                    Ok(Doomed {
                        object: kind::object(kind, self.namespace.as_deref(), name)?,
                        version: None,
                    })
                })
                .collect();
        }
        let files = Files {
            filename: self.filename.clone(),
            recursive: self.recursive,
        };
        // Not validated: what this release refuses must be possible to remove.
        let items = Input::read(&files, stdin).finish()?;
        let doomed = |item: Item| Doomed {
            object: item.resource.object_ref(),
            version: Some(item.resource),
        };
        Ok(items.into_iter().map(doomed).collect())
    }
}

fn read_valid(files: &Files, stdin: &mut impl io::Read) -> Result<Vec<Item>, CtlError> {
    let mut input = Input::read(files, stdin);
    input.validate();
    input.finish()
}

/// That every policy names a tier that exists, or will: Calico's API server
/// refuses to create others (api/pkg/apis/projectcalico/v3).
fn check_tiers(place: &Place, items: &[Item]) -> Result<(), CtlError> {
    let stored = match place.read() {
        Ok(snapshot) => {
            accept::accept(&snapshot, &Accepted::default())
                .model()
                .tiers
        }
        // Not there yet, or not to be read, which writing will tell.
        Err(_) => Vec::new(),
    };
    let mut known: BTreeSet<String> = Tier::always_there()
        .into_iter()
        .chain(stored)
        .map(|tier| tier.name)
        .collect();
    let tiers = items
        .iter()
        .filter(|item| item.resource.kind() == Kind::Tier);
    known.extend(tiers.map(|item| item.resource.metadata().name.clone()));
    let errors: Vec<InputError> = items
        .iter()
        .filter_map(|item| {
            let tier = match &item.resource {
                Resource::GlobalNetworkPolicy(policy) => policy.spec.tier.as_ref(),
                Resource::StagedGlobalNetworkPolicy(policy) => policy.spec.tier.as_ref(),
                Resource::FelixConfiguration(_)
                | Resource::GlobalNetworkSet(_)
                | Resource::HostEndpoint(_)
                | Resource::HostEndpointTemplate(_)
                | Resource::NetworkSet(_)
                | Resource::Node(_)
                | Resource::NodeAddresses(_)
                | Resource::Profile(_)
                | Resource::EndpointSlice(_)
                | Resource::Tier(_)
                | Resource::WorkloadEndpoint(_) => None,
            }?;
            (!tier.is_empty() && !known.contains(tier)).then(|| InputError::NoTier {
                place: item.place.clone(),
                object: item.resource.object_ref(),
                tier: tier.clone(),
                known: known.iter().cloned().collect(),
            })
        })
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(CtlError::Input(errors))
    }
}

/// What a change is about.
trait Subject {
    fn object_ref(&self) -> ObjectRef;
}

impl Subject for Item {
    fn object_ref(&self) -> ObjectRef {
        self.resource.object_ref()
    }
}

impl Subject for Doomed {
    fn object_ref(&self) -> ObjectRef {
        self.object.clone()
    }
}

enum Outcome {
    Changed,
    Skipped(String),
}

impl From<Change> for Outcome {
    fn from(change: Change) -> Self {
        match change {
            Change::Created | Change::Updated | Change::Unchanged => Self::Changed,
        }
    }
}

/// Changes one object after the other, and does not stop at one that fails.
fn change<T: Subject>(
    place: &Place,
    streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    done: &'static str,
    subjects: Vec<T>,
    mut one: impl FnMut(&mut Writer<'_>, T) -> Result<Outcome, StoreError>,
) -> Result<(), CtlError> {
    let objects: Vec<ObjectRef> = subjects.iter().map(Subject::object_ref).collect();
    let mut summary = Summary {
        done,
        kinds: objects
            .iter()
            .map(|object| object.kind)
            .collect::<Vec<Kind>>(),
        handled: 0,
        total: objects.len(),
    };
    let mut skipped = Vec::new();
    let mut errors = Vec::new();

    let mut writer = place.writer()?;
    let before = warnings(&writer)?;
    for subject in subjects {
        match one(&mut writer, subject) {
            Ok(Outcome::Changed) => summary.handled += 1,
            Ok(Outcome::Skipped(what)) => skipped.push(what),
            Err(error) => errors.push(error),
        }
    }
    let after = warnings(&writer)?;
    drop(writer);

    for what in &skipped {
        writeln!(streams.output, "Skipped: {what}")?;
    }
    if errors.is_empty() && summary.handled > 0 {
        writeln!(streams.output, "{}", summary.success())?;
    } else if summary.handled > 0 {
        writeln!(streams.output, "{}", summary.partial())?;
    }
    for warning in after {
        // What was wrong before, with other objects, is not news.
        if objects.contains(&warning.about) || !before.contains(&warning) {
            writeln!(streams.warnings, "Warning: {warning}")?;
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ChangeError { errors }.into())
    }
}

/// What is probably not meant or not enforced, in the whole store.
fn warnings(writer: &Writer<'_>) -> Result<Vec<Warning>, StoreError> {
    let stored = accept::accept(&writer.snapshot()?, &Accepted::default());
    let mut warnings = stored.warnings(&stored.model());
    warnings.extend(stored.unenforced().into_iter().map(Warning::from));
    Ok(warnings)
}
