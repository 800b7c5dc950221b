//! What is in force of each object.

use std::collections::BTreeMap;

use super::status::{NotEnforced, ObjectState, ObjectStatus, Problem, Warning};
use crate::{
    accept::{self, Accepted, AcceptedObject, Stored},
    lint,
    model::ObjectRef,
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
    let mut not_enforced: BTreeMap<ObjectRef, Vec<NotEnforced>> = BTreeMap::new();
    for unenforced in enforced.unenforced() {
        not_enforced
            .entry(unenforced.about)
            .or_default()
            .push(NotEnforced {
                field: unenforced.field,
                message: unenforced.why,
            });
    }
    let mut statuses = BTreeMap::new();
    // Those that the store no longer holds, as long as they are in force.
    for object in &enforced.objects {
        statuses.insert(
            object.named.clone(),
            (None, ObjectState::Pending, Some(object)),
        );
    }
    for object in &latest.objects {
        let named = object.named.clone();
        let in_force = enforced.object(&named);
        let state = match object.stored {
            Stored::LastGood => ObjectState::LastGood,
            Stored::Current if in_force.is_some_and(|in_force| in_force.same_resource(object)) => {
                ObjectState::Enforced
            }
            Stored::Current => ObjectState::Pending,
        };
        statuses.insert(named, (object.stored_generation, state, in_force));
    }
    for refused in &latest.refused {
        statuses.insert(
            refused.object.clone(),
            (refused.stored_generation, ObjectState::Refused, None),
        );
    }
    statuses
        .into_iter()
        .map(
            |(named, (stored_generation, state, in_force))| ObjectStatus {
                kind: named.kind.name().to_owned(),
                name: named.name.clone(),
                stored_generation,
                enforced_generation: in_force.and_then(version),
                state,
                dataplane_generation: in_force.and_then(|_| first.0.get(&named).copied()),
                not_enforced: not_enforced.remove(&named).unwrap_or_default(),
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
}
