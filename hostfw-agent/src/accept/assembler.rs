//! The model of what is accepted, kept from one version to the next.

use std::{collections::HashMap, sync::Arc};

use super::{Accepted, AcceptedObject};
use crate::{
    lint::{self, Unenforced, Warning},
    model::{Kind, Model, WorkloadEndpoint},
    sorted::{Change, Sorted},
    validate::{Object, assemble},
};

/// More changes of pods than this are not put in one by one.
const FEW: usize = 1000;

/// Follows what is accepted: what has changed is put into the model, and what is
/// said of it is worked out anew only if something has changed of which something
/// may be said. What comes of it is what [`Accepted::model`] and
/// [`Accepted::warnings`] give.
#[derive(Debug, Default)]
pub struct Assembler {
    objects: Sorted<AcceptedObject>,
    model: Arc<Model>,
    /// The names that workloads call their ports by: all of workloads that anything
    /// is said about. How many workloads have each.
    ports: HashMap<String, usize>,
    warnings: Option<Arc<[Warning]>>,
}

impl Assembler {
    /// What is in force, for [`select`](crate::select).
    pub fn model(&mut self, accepted: &Accepted) -> Arc<Model> {
        let before = std::mem::replace(&mut self.objects, accepted.objects.clone());
        let changes = self.objects.changes_from(&before);
        if changes.is_empty() {
            return Arc::clone(&self.model);
        }
        let kind = |change: &Change<'_, AcceptedObject>| {
            change.before.or(change.now).map(|it| it.named.kind)
        };
        let pods =
            |change: &Change<'_, AcceptedObject>| kind(change) == Some(Kind::WorkloadEndpoint);
        let mut said = changes
            .iter()
            .filter_map(kind)
            .any(|kind| !lint::silent(kind));
        for change in changes.iter().filter(|change| pods(change)) {
            said |= count(&mut self.ports, change.before, change.now);
        }
        if said {
            self.warnings = None;
        }
        let (pods, others): (Vec<_>, Vec<_>) = changes.iter().partition(|change| pods(change));
        if pods.len() > FEW {
            self.model = accepted.model().into();
            return Arc::clone(&self.model);
        }
        let model = Arc::make_mut(&mut self.model);
        for change in pods {
            put(&mut model.workloads, change);
        }
        if !others.is_empty() {
            let kinds = Kind::ALL.into_iter();
            let kinds = kinds.filter(|kind| *kind != Kind::WorkloadEndpoint);
            let objects = kinds.flat_map(|kind| accepted.of_kind(kind));
            *model = Model {
                workloads: std::mem::take(&mut model.workloads),
                ..assemble(objects.map(|object| object.object.clone()))
            };
        }
        Arc::clone(&self.model)
    }

    /// What is valid, and yet probably not meant; of what [`model`](Self::model)
    /// was asked for last.
    pub fn warnings(&mut self, accepted: &Accepted) -> Arc<[Warning]> {
        let (model, ports) = (&self.model, &self.ports);
        let warnings = self.warnings.get_or_insert_with(|| {
            let mut warnings = lint::lint_with(model, |name| ports.contains_key(name));
            warnings.extend(accepted.warnings_of_each());
            warnings.into()
        });
        Arc::clone(warnings)
    }
}

/// What is in force and not enforced, worked out anew only if something has changed of
/// which that may be said. It is what [`Accepted::unenforced`] gives.
#[derive(Debug, Default)]
pub struct Shortfall {
    objects: Sorted<AcceptedObject>,
    /// With whether there are workloads, and services.
    told: Option<([bool; 2], Arc<[Unenforced]>)>,
}

impl Shortfall {
    /// What is in force and not enforced.
    pub fn of(&mut self, accepted: &Accepted) -> Arc<[Unenforced]> {
        let before = std::mem::replace(&mut self.objects, accepted.objects.clone());
        let mut changes = self.objects.changes_from(&before).into_iter();
        let said = changes.any(|change| {
            let object = change.before.or(change.now);
            object.is_some_and(|it| !lint::silent(it.named.kind))
        });
        let known = [Kind::WorkloadEndpoint, Kind::EndpointSlice]
            .map(|kind| accepted.of_kind(kind).next().is_some());
        match &self.told {
            Some((before, told)) if !said && *before == known => Arc::clone(told),
            Some(_) | None => {
                let told: Arc<[Unenforced]> = accepted.unenforced().into();
                self.told = Some((known, Arc::clone(&told)));
                told
            }
        }
    }
}

fn workload(object: &AcceptedObject) -> Option<&Arc<WorkloadEndpoint>> {
    if let Object::Workload(workload) = &object.object {
        Some(workload)
    } else {
        None
    }
}

/// Counts names of ports, and says whether one has come or gone.
fn count(
    ports: &mut HashMap<String, usize>,
    before: Option<&AcceptedObject>,
    now: Option<&AcceptedObject>,
) -> bool {
    let [before, now] = [before, now].map(|object| object.and_then(workload));
    if let (Some(before), Some(now)) = (before, now)
        && before.ports == now.ports
    {
        return false;
    }
    let mut changed = false;
    for port in now.into_iter().flat_map(|it| it.ports.iter()) {
        let count = ports.entry(port.name.clone()).or_default();
        changed |= *count == 0;
        *count += 1;
    }
    for port in before.into_iter().flat_map(|it| it.ports.iter()) {
        if let Some(count) = ports.get_mut(&port.name) {
            *count -= 1;
            if *count == 0 {
                ports.remove(&port.name);
                changed = true;
            }
        }
    }
    changed
}

/// Puts what has become of a workload into the list of all.
fn put(all: &mut Vec<Arc<WorkloadEndpoint>>, change: &Change<'_, AcceptedObject>) {
    let [before, now] = [change.before, change.now].map(|object| object.and_then(workload));
    let Some(named) = now.or(before) else { return };
    let key =
        |it: &WorkloadEndpoint| (&*it.namespace, &*it.name) < (&*named.namespace, &*named.name);
    let at = all.partition_point(|it| key(it));
    match (before, now) {
        (Some(_), Some(now)) => {
            if let Some(place) = all.get_mut(at) {
                place.clone_from(now);
            }
        }
        (None, Some(now)) => all.insert(at, Arc::clone(now)),
        (Some(_), None) => {
            all.remove(at);
        }
        (None, None) => {}
    }
}
