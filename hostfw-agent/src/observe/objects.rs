//! What is in force of each object.

use std::collections::{BTreeMap, BTreeSet};

use super::status::{NotEnforced, ObjectState, ObjectStatus, Problem, Warning};
use crate::{
    accept::{self, Accepted, AcceptedObject, Stored},
    lint::{self, Unenforced},
    model::{Kind, ObjectRef},
};

/// The dataplane generation that first held the version in force of each
/// object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstHeld(BTreeMap<ObjectRef, u64>);

impl FirstHeld {
    /// Notes that `now` is in force with this generation, after `before` was.
    pub fn update(&mut self, before: &Accepted, now: &Accepted, generation: u64) {
        if before.objects.len() != self.0.len() {
            // The agent has just begun.
            self.0 = before
                .objects
                .iter()
                .map(|object| (object.named.clone(), generation))
                .collect();
        }
        for change in now.objects.changes_from(&before.objects) {
            match (change.before, change.now) {
                (Some(before), None) => {
                    self.0.remove(&before.named);
                }
                (Some(before), Some(now))
                    if before.same_object(now) && version(before) == version(now) => {}
                (_, Some(now)) => {
                    self.0.insert(now.named.clone(), generation);
                }
                (None, None) => {}
            }
        }
    }
}

/// The status of every object that the store holds or that is in force, sorted
/// by kind and name. `latest` is what the store asks for; `enforced` is in
/// force.
#[must_use]
pub fn object_statuses(
    latest: &Accepted,
    enforced: &Accepted,
    first: &FirstHeld,
) -> Vec<ObjectStatus> {
    // Those, too, that the store no longer holds, as long as they are in force.
    let objects = latest.objects.iter().chain(&enforced.objects);
    let named = objects.map(|object| &object.named);
    statuses(named, latest, enforced, first, &enforced.unenforced())
}

/// As [`object_statuses`], but only of objects of which something else is to be told
/// than that they are enforced as they are stored; and how many others there are of
/// each kind. `unenforced` is of what is in force.
#[must_use]
pub fn notable_objects(
    latest: &Accepted,
    enforced: &Accepted,
    first: &FirstHeld,
    unenforced: &[Unenforced],
) -> (Vec<ObjectStatus>, BTreeMap<Kind, usize>) {
    let changes = latest.objects.changes_from(&enforced.objects);
    let changes = changes.into_iter().filter_map(|it| it.before.or(it.now));
    let mut notable: BTreeSet<&ObjectRef> = changes.map(|object| &object.named).collect();
    notable.extend(unenforced.iter().map(|unenforced| &unenforced.about));
    let mut others: BTreeMap<Kind, usize> = BTreeMap::new();
    for object in &latest.objects {
        if object.stored == Stored::LastGood {
            notable.insert(&object.named);
        }
        *others.entry(object.named.kind).or_default() += 1;
    }
    for named in notable.iter().filter(|it| latest.object(it).is_some()) {
        *others.entry(named.kind).or_default() -= 1;
    }
    let notable = notable.into_iter();
    (
        statuses(notable, latest, enforced, first, unenforced),
        others,
    )
}

/// The status of these objects, and of all that are refused.
fn statuses<'a>(
    objects: impl Iterator<Item = &'a ObjectRef>,
    latest: &'a Accepted,
    enforced: &'a Accepted,
    first: &FirstHeld,
    unenforced: &[Unenforced],
) -> Vec<ObjectStatus> {
    let mut not_enforced: BTreeMap<&ObjectRef, Vec<NotEnforced>> = BTreeMap::new();
    for unenforced in unenforced {
        not_enforced
            .entry(&unenforced.about)
            .or_default()
            .push(NotEnforced {
                field: unenforced.field.clone(),
                message: unenforced.why.clone(),
            });
    }
    let mut statuses = BTreeMap::new();
    for named in objects {
        let (stored, in_force) = (latest.object(named), enforced.object(named));
        let state = match (stored.map(|object| (object, object.stored)), in_force) {
            (Some((_, Stored::LastGood)), _) => ObjectState::LastGood,
            (Some((object, Stored::Current)), Some(in_force)) if in_force.same_resource(object) => {
                ObjectState::Enforced
            }
            (Some((_, Stored::Current)) | None, _) => ObjectState::Pending,
        };
        let generation = stored.and_then(|object| object.stored_generation);
        statuses.insert(named, (generation, state, in_force));
    }
    for refused in &latest.refused {
        let refusal = (refused.stored_generation, ObjectState::Refused, None);
        statuses.insert(&refused.object, refusal);
    }
    let told = statuses.into_iter();
    told.map(
        |(named, (stored_generation, state, in_force))| ObjectStatus {
            kind: named.kind.name().to_owned(),
            name: named.name.clone(),
            stored_generation,
            enforced_generation: in_force.and_then(version),
            state,
            dataplane_generation: in_force.and_then(|_| first.0.get(named).copied()),
            not_enforced: not_enforced.remove(named).unwrap_or_default(),
        },
    )
    .collect()
}

/// Problems for the status, in the order in which they come.
#[must_use]
pub fn problem_statuses(problems: &[accept::Problem]) -> Vec<Problem> {
    problems
        .iter()
        .map(|problem| Problem {
            file: problem.file.clone(),
            object: problem.object.as_ref().map(ToString::to_string),
            message: problem.message.clone(),
        })
        .collect()
}

/// Warnings for the status, in the order in which they come.
#[must_use]
pub fn warning_statuses(warnings: &[lint::Warning]) -> Vec<Warning> {
    warnings
        .iter()
        .map(|warning| Warning {
            object: warning.about.to_string(),
            message: warning.message.clone(),
        })
        .collect()
}

fn version(object: &AcceptedObject) -> Option<u64> {
    object.resource.generation()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        accept::accept,
        source::{Snapshot, SourceFile},
    };

    fn endpoint(generation: u64, interface: &str) -> String {
        format!(
            "apiVersion: projectcalico.org/v3\n\
             kind: HostEndpoint\n\
             metadata: {{name: hep, generation: {generation}}}\n\
             spec: {{node: node1, interfaceName: {interface}}}\n"
        )
    }

    fn stored(text: &str, last: &Accepted) -> Accepted {
        let snapshot = Snapshot::of(vec![SourceFile {
            path: "a.yaml".into(),
            content: Ok(text.into()),
        }]);
        accept(&snapshot, last)
    }

    fn only(statuses: &[ObjectStatus]) -> (ObjectState, Option<u64>, Option<u64>, Option<u64>) {
        let [status] = statuses else {
            panic!("expected one status: {statuses:?}");
        };
        (
            status.state,
            status.stored_generation,
            status.enforced_generation,
            status.dataplane_generation,
        )
    }

    #[test]
    fn an_object_is_pending_until_it_is_in_force() {
        let nothing = Accepted::default();
        let mut first = FirstHeld::default();
        let one = stored(&endpoint(1, "eth0"), &nothing);
        assert_eq!(
            only(&object_statuses(&one, &nothing, &first)),
            (ObjectState::Pending, Some(1), None, None)
        );
        first.update(&nothing, &one, 5);
        assert_eq!(
            only(&object_statuses(&one, &one, &first)),
            (ObjectState::Enforced, Some(1), Some(1), Some(5))
        );
        // Still the same version in a later generation.
        first.update(&one, &one, 6);
        assert_eq!(
            only(&object_statuses(&one, &one, &first)),
            (ObjectState::Enforced, Some(1), Some(1), Some(5))
        );
        let two = stored(&endpoint(2, "eth1"), &one);
        assert_eq!(
            only(&object_statuses(&two, &one, &first)),
            (ObjectState::Pending, Some(2), Some(1), Some(5))
        );
        first.update(&one, &two, 7);
        assert_eq!(
            only(&object_statuses(&two, &two, &first)),
            (ObjectState::Enforced, Some(2), Some(2), Some(7))
        );
    }

    #[test]
    fn a_broken_version_leaves_the_last_good_one() {
        let nothing = Accepted::default();
        let mut first = FirstHeld::default();
        let good = stored(&endpoint(1, "eth0"), &nothing);
        first.update(&nothing, &good, 5);
        let broken = stored(&endpoint(2, "much/too-long-a-name"), &good);
        assert_eq!(
            only(&object_statuses(&broken, &broken, &first)),
            (ObjectState::LastGood, Some(2), Some(1), Some(5))
        );
        assert!(!problem_statuses(&broken.problems).is_empty());
        let refused = stored(&endpoint(2, "much/too-long-a-name"), &nothing);
        assert_eq!(
            only(&object_statuses(&refused, &nothing, &FirstHeld::default())),
            (ObjectState::Refused, Some(2), None, None)
        );
    }

    #[test]
    fn a_removed_object_is_pending_while_it_is_in_force() {
        let nothing = Accepted::default();
        let one = stored(&endpoint(1, "eth0"), &nothing);
        assert_eq!(
            only(&object_statuses(&nothing, &one, &FirstHeld::default())).0,
            ObjectState::Pending
        );
    }

    #[test]
    fn what_the_version_in_force_does_not_get_is_told() {
        let policy = "apiVersion: projectcalico.org/v3\n\
                      kind: GlobalNetworkPolicy\n\
                      metadata: {name: web}\n\
                      spec:\n  ingress:\n  - action: Allow\n    protocol: TCP\n    \
                      http: {methods: [GET]}\n";
        let nothing = Accepted::default();
        let stored = stored(policy, &nothing);
        assert_eq!(stored.problems, []);
        let status = |enforced: &Accepted| {
            object_statuses(&stored, enforced, &FirstHeld::default()).remove(0)
        };
        let [one] = &status(&stored).not_enforced[..] else {
            panic!("expected one: {:?}", status(&stored));
        };
        assert_eq!(one.field, "spec.ingress[0].http");
        assert_eq!(status(&nothing).not_enforced, []);
    }

    #[test]
    fn what_is_left_out_is_enforced_as_it_is_stored() {
        let tier = |name: &str, order: &str| {
            format!(
                "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: \
                 {name}}}\nspec: {{order: {order}}}\n"
            )
        };
        let policy = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: \
                      {name: p}\nspec: {ingress: [{action: Allow, http: {methods: [GET]}, \
                      protocol: TCP}]}\n";
        let accept = |files: &[(&str, &str)], last: &Accepted| {
            let files = files.iter().map(|(path, text)| SourceFile {
                path: (*path).into(),
                content: Ok((*text).into()),
            });
            accept(&Snapshot::of(files), last)
        };
        let enforced = accept(
            &[
                ("a", &tier("a", "1")),
                ("b", &tier("b", "1")),
                ("c", &tier("c", "1")),
                ("d", &tier("d", "1")),
                ("p", policy),
            ],
            &Accepted::default(),
        );
        // One stays, one changes, one breaks, one goes, one comes and one is refused.
        let latest = accept(
            &[
                ("a", &tier("a", "1")),
                ("b", &tier("b", "2")),
                ("c", &tier("c", "high")),
                ("e", &tier("e", "1")),
                ("f", &tier("f", "high")),
                ("p", policy),
            ],
            &enforced,
        );
        let mut first = FirstHeld::default();
        first.update(&Accepted::default(), &enforced, 1);
        let all = object_statuses(&latest, &enforced, &first);
        let unenforced = enforced.unenforced();
        let (notable, others) = notable_objects(&latest, &enforced, &first, &unenforced);
        let (told, left_out): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|status| notable.contains(status));
        assert_eq!(told, notable);
        let names: Vec<&str> = notable.iter().map(|status| &*status.name).collect();
        assert_eq!(names, ["p", "b", "c", "d", "e", "f"]);
        let [left_out] = &left_out[..] else {
            panic!("expected one: {left_out:?}");
        };
        assert_eq!(
            (&*left_out.name, left_out.state),
            ("a", ObjectState::Enforced)
        );
        let none = (Kind::GlobalNetworkPolicy, 0);
        assert_eq!(others, [none, (Kind::Tier, 1)].into());
    }
}
