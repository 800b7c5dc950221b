//! What a node says of itself in the cluster: counts, and what is wrong.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::observe::status::{EndpointStatus, HookStatus, ObjectState, Status};

/// Most entries of a list; how many more there are is told.
const MOST: usize = 16;
/// Most bytes of a message.
const MESSAGE: usize = 256;

/// The `status` of a node's `NodeEnforcement`, but for times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of the agent.
    pub agent_version: String,
    /// What changes with every change of policy.
    #[serde(flatten)]
    pub progress: Progress,
    /// The rest.
    #[serde(flatten)]
    pub state: State,
}

/// How far the node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Revision of the objects that the agent has seen.
    pub wanted_revision: String,
    /// Revision of the objects that is in force.
    pub enforced_revision: String,
    /// The dataplane's generation in force.
    pub generation: u64,
}

/// What holds and what does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Nothing is dropped.
    pub observe_only: bool,
    /// Interfaces that are governed, and endpoints that govern none.
    pub endpoints: EndpointCounts,
    /// How many interfaces have these hooks.
    pub hooks: Vec<HookCount>,
    /// Objects, by what is in force of them.
    pub objects: ObjectCounts,
    /// `Accepted`, `Programmed`, `Degraded`.
    pub conditions: Vec<Condition>,
    /// Interfaces whose hook is not the first choice.
    pub fallbacks: Vec<Fallback>,
    /// Conditions of endpoints that do not hold.
    pub failures: Vec<Failure>,
    /// What objects ask for and do not get.
    pub not_enforced: Vec<Unenforced>,
    /// What is wrong with objects.
    pub problems: Vec<Problem>,
    /// How many entries were left out of the lists.
    pub left_out: usize,
}

/// Counts of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointCounts {
    /// All.
    pub total: usize,
    /// Those that are judged as they should be.
    pub programmed: usize,
    /// Policies that apply to any of them.
    pub policies: usize,
}

/// How many interfaces have the same hooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HookCount {
    /// `xdp native`, `tcx`, ...
    pub ingress: String,
    /// `tcx` or `clsact`.
    pub egress: String,
    /// How many.
    pub interfaces: usize,
}

/// Counts of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectCounts {
    /// All.
    pub total: usize,
    /// As they are stored.
    pub enforced: usize,
    /// Not yet.
    pub pending: usize,
    /// As they were before: what is stored is not valid.
    pub last_good: usize,
    /// Not at all: what is stored is not valid.
    pub refused: usize,
}

/// A condition in the manner of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `True` or `False`.
    pub status: &'static str,
    /// One word.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// An interface whose hook is not the first choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// Name of the endpoint.
    pub endpoint: String,
    /// The interface.
    pub interface: String,
    /// The hook that it got.
    pub hook: String,
    /// Why not the first choice.
    pub reason: String,
}

/// A condition of an endpoint that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Name of the endpoint.
    pub endpoint: String,
    /// The interface that it governs, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The condition.
    pub condition: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
}

/// Something that an object asks for and does not get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unenforced {
    /// `Kind(name)`.
    pub object: String,
    /// The field.
    pub field: String,
    /// Why not.
    pub message: String,
}

/// Something wrong with an object, or with all of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `Kind(name)`, or the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What was expected and what was found.
    pub message: String,
}

impl Report {
    /// What is to be told of this state.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        let mut left_out = 0;
        let endpoints = &status.endpoints;
        let failures = failures(endpoints);
        let not_enforced = status.objects.iter().flat_map(|object| {
            object.not_enforced.iter().map(|not| Unenforced {
                object: format!("{}({})", object.kind, object.name),
                field: not.field.clone(),
                message: cut(&not.message),
            })
        });
        let not_enforced: Vec<Unenforced> = not_enforced.collect();
        let problems = status.problems.iter().map(|problem| Problem {
            object: problem.object.clone().or_else(|| problem.file.clone()),
            message: cut(&problem.message),
        });
        let conditions = vec![
            accepted(status),
            programmed(status),
            degraded(&failures, not_enforced.len()),
        ];
        Self {
            agent_version: status.version.clone(),
            progress: Progress {
                wanted_revision: status.store_revision.clone(),
                enforced_revision: status.enforced_revision.clone(),
                generation: status.generation,
            },
            state: State {
                observe_only: status.observe_only,
                endpoints: EndpointCounts {
                    total: endpoints.len(),
                    programmed: endpoints.iter().filter(|one| is_programmed(one)).count(),
                    policies: policies(endpoints),
                },
                hooks: first(hooks(endpoints).into_iter(), &mut left_out),
                objects: counts(status),
                conditions,
                fallbacks: first(fallbacks(endpoints), &mut left_out),
                failures: first(failures.into_iter(), &mut left_out),
                not_enforced: first(not_enforced.into_iter(), &mut left_out),
                problems: first(problems, &mut left_out),
                left_out,
            },
        }
    }
}

fn first<T>(mut all: impl Iterator<Item = T>, left_out: &mut usize) -> Vec<T> {
    let kept = all.by_ref().take(MOST).collect();
    *left_out += all.count();
    kept
}

/// The message, or its beginning.
pub(super) fn cut(message: &str) -> String {
    if message.len() <= MESSAGE {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(MESSAGE - 3);
    format!("{}...", &message[..end])
}

fn is_programmed(endpoint: &EndpointStatus) -> bool {
    let mut conditions = endpoint.conditions.iter();
    conditions.any(|it| it.kind == "Programmed" && it.status)
}

fn policies(endpoints: &[EndpointStatus]) -> usize {
    let all = endpoints.iter().flat_map(|endpoint| &endpoint.policies);
    let names: BTreeSet<_> = all.map(|policy| (&policy.kind, &policy.name)).collect();
    names.len()
}

fn name_of(hook: &HookStatus) -> String {
    match &hook.mode {
        Some(mode) => format!("{} {mode}", hook.hook),
        None => hook.hook.clone(),
    }
}

fn hooks(endpoints: &[EndpointStatus]) -> Vec<HookCount> {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for endpoint in endpoints {
        if let (Some(ingress), Some(egress)) = (&endpoint.ingress, &endpoint.egress) {
            *counts
                .entry((name_of(ingress), name_of(egress)))
                .or_default() += 1;
        }
    }
    let counts = counts
        .into_iter()
        .map(|((ingress, egress), interfaces)| HookCount {
            ingress,
            egress,
            interfaces,
        });
    counts.collect()
}

fn fallbacks(endpoints: &[EndpointStatus]) -> impl Iterator<Item = Fallback> {
    endpoints.iter().flat_map(|endpoint| {
        let hooks = [&endpoint.ingress, &endpoint.egress];
        hooks.into_iter().flatten().filter_map(|hook| {
            Some(Fallback {
                endpoint: endpoint.name.clone(),
                interface: endpoint.interface.clone().unwrap_or_default(),
                hook: name_of(hook),
                reason: cut(hook.fallback.as_deref()?),
            })
        })
    })
}

fn failures(endpoints: &[EndpointStatus]) -> Vec<Failure> {
    let failures = endpoints.iter().flat_map(|endpoint| {
        let failed = endpoint.conditions.iter().filter(|it| !it.status);
        failed.map(|condition| Failure {
            endpoint: endpoint.name.clone(),
            interface: endpoint.interface.clone(),
            condition: condition.kind.clone(),
            reason: condition.reason.clone(),
            message: cut(&condition.message),
        })
    });
    failures.collect()
}

fn counts(status: &Status) -> ObjectCounts {
    let others = status.others.values().sum();
    let mut counts = ObjectCounts {
        total: status.objects.len() + others,
        enforced: others,
        ..ObjectCounts::default()
    };
    for object in &status.objects {
        *match object.state {
            ObjectState::Enforced => &mut counts.enforced,
            ObjectState::Pending => &mut counts.pending,
            ObjectState::LastGood => &mut counts.last_good,
            ObjectState::Refused => &mut counts.refused,
        } += 1;
    }
    counts
}

fn condition(kind: &'static str, status: bool, reason: &'static str, message: String) -> Condition {
    Condition {
        kind,
        status: if status { "True" } else { "False" },
        reason,
        message: cut(&message),
    }
}

fn accepted(status: &Status) -> Condition {
    match &status.problems[..] {
        [] => condition(
            "Accepted",
            true,
            "Valid",
            "all objects are valid".to_owned(),
        ),
        [first, rest @ ..] => {
            let more = match rest.len() {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            let about = first.object.as_ref().or(first.file.as_ref());
            let about = about.map(|it| format!("{it}: ")).unwrap_or_default();
            let message = cut(&first.message);
            condition(
                "Accepted",
                false,
                "Invalid",
                format!("{about}{message}{more}"),
            )
        }
    }
}

fn programmed(status: &Status) -> Condition {
    let kind = "Programmed";
    let failed = status.endpoints.iter().filter(|one| !is_programmed(one));
    let failed = failed.count();
    if let Some(error) = &status.error {
        condition(kind, false, "NotInForce", error.clone())
    } else if failed > 0 {
        let total = status.endpoints.len();
        let message = format!("{failed} of {total} endpoints govern no interface as they should");
        condition(kind, false, "EndpointsNotProgrammed", message)
    } else {
        let message = "every endpoint of this node governs its interface";
        condition(kind, true, "Enforced", message.to_owned())
    }
}

fn degraded(failures: &[Failure], not_enforced: usize) -> Condition {
    let kind = "Degraded";
    let failure = failures.iter().find(|it| it.condition != "Programmed");
    if let Some(failure) = failure {
        let message = format!(
            "{}: {}: {}",
            failure.endpoint, failure.reason, failure.message
        );
        condition(kind, true, "EndpointsDegraded", message)
    } else if not_enforced > 0 {
        let message = format!("{not_enforced} fields of objects are not enforced");
        condition(kind, true, "FieldsNotEnforced", message)
    } else {
        let message = "everything that is in force is enforced";
        condition(kind, false, "Enforced", message.to_owned())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        model::Kind,
        observe::status::{self, NotEnforced, ObjectStatus, PolicyStatus},
    };

    fn endpoint(name: &str) -> EndpointStatus {
        let hook = |hook: &str, mode: Option<&str>, fallback: Option<&str>| HookStatus {
            hook: hook.to_owned(),
            mode: mode.map(str::to_owned),
            fallback: fallback.map(str::to_owned),
        };
        EndpointStatus {
            name: name.to_owned(),
            interface: Some("eth0".to_owned()),
            ingress: Some(hook("xdp", Some("generic"), Some("no native XDP"))),
            egress: Some(hook("tcx", None, None)),
            workload: false,
            policies: vec![PolicyStatus {
                stage: "normal".to_owned(),
                direction: "ingress".to_owned(),
                tier: None,
                kind: "Profile".to_owned(),
                name: "p".to_owned(),
            }],
            conditions: vec![status::Condition {
                kind: "Programmed".to_owned(),
                status: true,
                reason: "Enforced".to_owned(),
                message: String::new(),
            }],
        }
    }

    fn object(name: &str, state: ObjectState) -> ObjectStatus {
        ObjectStatus {
            kind: "Tier".to_owned(),
            name: name.to_owned(),
            stored_generation: None,
            enforced_generation: None,
            state,
            dataplane_generation: None,
            not_enforced: Vec::new(),
        }
    }

    /// A status of which every list has something.
    pub(in crate::publish) fn full() -> Status {
        let mut bad = endpoint("b");
        bad.conditions.push(status::Condition {
            kind: "ForwardEnforced".to_owned(),
            status: false,
            reason: "NoNetfilter".to_owned(),
            message: "too old".to_owned(),
        });
        let mut object = object("t", ObjectState::LastGood);
        object.not_enforced.push(NotEnforced {
            field: "spec.x".to_owned(),
            message: "no".to_owned(),
        });
        Status {
            endpoints: vec![endpoint("a"), bad],
            objects: vec![object],
            problems: vec![status::Problem {
                file: Some("Tier/t".to_owned()),
                object: Some("Tier(t)".to_owned()),
                message: "wrong".to_owned(),
            }],
            ..Status::default()
        }
    }

    fn conditions(report: &Report) -> Vec<(&str, &str, &str)> {
        let all = report.state.conditions.iter();
        all.map(|it| (it.kind, it.status, it.reason)).collect()
    }

    #[test]
    fn a_node_where_all_is_well_says_so_in_few_words() {
        let status = Status {
            endpoints: vec![endpoint("a"), endpoint("b")],
            objects: vec![object("t", ObjectState::Enforced)],
            others: [(Kind::WorkloadEndpoint, 5), (Kind::Tier, 2)].into(),
            ..Status::default()
        };
        let report = Report::of(&status);
        let ObjectCounts {
            total, enforced, ..
        } = report.state.objects;
        assert_eq!((total, enforced), (8, 8));
        assert_eq!(
            conditions(&report),
            [
                ("Accepted", "True", "Valid"),
                ("Programmed", "True", "Enforced"),
                ("Degraded", "False", "Enforced"),
            ]
        );
        let State {
            endpoints, hooks, ..
        } = &report.state;
        assert_eq!((endpoints.total, endpoints.programmed), (2, 2));
        assert_eq!(endpoints.policies, 1);
        assert_eq!(hooks.len(), 1);
        assert_eq!(
            (&*hooks[0].ingress, hooks[0].interfaces),
            ("xdp generic", 2)
        );
        assert!(report.state.failures.is_empty() && report.state.problems.is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_reason() {
        let report = Report::of(&full());
        assert_eq!(
            conditions(&report),
            [
                ("Accepted", "False", "Invalid"),
                ("Programmed", "True", "Enforced"),
                ("Degraded", "True", "EndpointsDegraded"),
            ]
        );
        assert_eq!(report.state.conditions[0].message, "Tier(t): wrong");
        assert_eq!(report.state.failures[0].reason, "NoNetfilter");
        assert_eq!(report.state.fallbacks[0].reason, "no native XDP");
        assert_eq!(report.state.not_enforced[0].object, "Tier(t)");
        assert_eq!(report.state.objects.last_good, 1);

        let mut failed = full();
        failed.endpoints[0].conditions[0].status = false;
        assert_eq!(
            conditions(&Report::of(&failed))[1].2,
            "EndpointsNotProgrammed"
        );
        failed.error = Some("too many rules".to_owned());
        assert_eq!(conditions(&Report::of(&failed))[1].2, "NotInForce");
    }

    #[test]
    fn it_stays_small() {
        let mut status = full();
        status.problems = vec![status.problems[0].clone(); 1000];
        status.problems[0].message = "ä".repeat(10_000);
        status.endpoints = vec![status.endpoints[1].clone(); 1000];
        let report = Report::of(&status);
        assert_eq!(report.state.problems.len(), MOST);
        assert_eq!(report.state.left_out, 3 * (1000 - MOST));
        let size = serde_json::to_string(&report).unwrap().len();
        assert!(size < 16 << 10, "{size} bytes");
    }
}
