//! What the agent says of itself when it is asked.

use std::collections::BTreeMap;

use hostfw_common::counter::Outcome as Counted;
use tracing::warn;

use super::{Dataplane, Reconciler};
use crate::{
    accept::Problem,
    maps::MapSize,
    observe::{
        counters::counter_statuses,
        objects::{notable_objects, object_statuses, problem_statuses, warning_statuses},
        status::{MapStatus, Status},
    },
    source::is_resource_file,
};

impl<D: Dataplane> Reconciler<D> {
    /// The state of the node, with counters as they are now.
    pub(super) fn status(&self) -> Status {
        Status {
            objects: object_statuses(&self.latest, &self.enforced, &self.first_held),
            ..self.status_but_objects()
        }
    }

    /// The same, for what asks all the time, without the objects of which there is
    /// nothing to be told.
    pub(super) fn brief(&mut self) -> Status {
        let unenforced = self.shortfall.of(&self.enforced);
        let (objects, others) =
            notable_objects(&self.latest, &self.enforced, &self.first_held, &unenforced);
        Status {
            objects,
            others,
            ..self.status_but_objects()
        }
    }

    fn status_but_objects(&self) -> Status {
        let dataplane = self.enforcer.dataplane();
        let cannot = |error: &D::Error| warn!(%error, "cannot read the counters");
        let counters = dataplane.counters().inspect_err(cannot).unwrap_or_default();
        let would_drop = dataplane.would_drop().inspect_err(cannot);
        let staged = dataplane.staged().inspect_err(cannot).unwrap_or_default();
        let maps = dataplane.map_sizes().unwrap_or_else(|error| {
            warn!(%error, "cannot tell what the maps take");
            Vec::new()
        });
        Status {
            node: self.settings.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store_revision: self
                .snapshot
                .as_ref()
                .map(|snapshot| snapshot.revision.clone())
                .unwrap_or_default(),
            enforced_revision: self.enforced_revision.clone(),
            generation: dataplane.generation(),
            observe_only: self.settings.observe_only,
            error: self.read_error.clone().or_else(|| self.error.clone()),
            objects: Vec::new(),
            others: BTreeMap::new(),
            endpoints: self.endpoints.clone(),
            problems: problem_statuses(&self.problems()),
            warnings: warning_statuses(&self.warnings)
                .into_iter()
                .chain(self.notes.warnings())
                .chain(self.tally.warning())
                .collect(),
            counters: counter_statuses(counters, Counted::Enforced)
                .into_iter()
                .chain(counter_statuses(
                    would_drop.unwrap_or_default(),
                    Counted::Observed,
                ))
                .collect(),
            staged: self.staged.statuses(&staged, &self.names),
            maps: maps
                .into_iter()
                .map(|MapSize { name, bytes }| MapStatus {
                    name: name.to_owned(),
                    bytes,
                })
                .collect(),
        }
    }

    /// What is wrong with the store, and what it takes time for.
    fn problems(&self) -> Vec<Problem> {
        let waiting = self
            .being_written
            .iter()
            .filter(|name| is_resource_file(name))
            // A new one is among them already: there is nothing before it.
            .filter(|name| {
                let known = |problem: &Problem| problem.file.as_ref() == Some(name);
                !self.latest.problems.iter().any(known)
            })
            .map(|name| Problem {
                file: Some(name.clone()),
                object: None,
                message: "someone is writing it: what it held before counts until it is closed"
                    .to_owned(),
            });
        self.latest
            .problems
            .iter()
            .cloned()
            .chain(waiting)
            .collect()
    }
}
