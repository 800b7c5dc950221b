use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{
    CtlError,
    client::{self, Agent},
};
use crate::{
    observe::status::{ObjectState, Status},
    source::read_folder,
};

/// How often to ask. The agent answers from memory.
const PAUSE: Duration = Duration::from_millis(100);

/// The store is not in force as it is.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// It was not in time.
    #[error("timed out after {}: {pending}", seconds(*.timeout))]
    TimedOut {
        /// How long it was waited for.
        timeout: Duration,
        /// What is still to be done, and by whom.
        pending: String,
    },
    /// It is, but for what is not valid.
    #[error("the {store} is in force, except: {}", invalid.join("; "))]
    Invalid {
        /// The store, or the cluster.
        store: String,
        /// Objects and problems.
        invalid: Vec<String>,
    },
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

/// Waits until the agent enforces what the store holds; without one, what it has
/// heard of its cluster. The store is read anew
/// each time: whoever changes it meanwhile is waited for, too.
///
/// The status that was seen last is handed back in either case.
pub(super) fn wait(
    store: Option<&Path>,
    agent: &Agent,
    timeout: Duration,
) -> (Option<Status>, Result<(), CtlError>) {
    let start = Instant::now();
    loop {
        let wanted = match store.map(read_folder).transpose() {
            Ok(snapshot) => snapshot.map(|snapshot| snapshot.revision),
            Err(error) => return (None, Err(error.into())),
        };
        let answer = client::status(agent);
        let pending = match &answer {
            Ok(status) => match pending(status, wanted.as_deref()) {
                Some(pending) => pending,
                None => {
                    let result = all_valid(store, status).map_err(CtlError::from);
                    return (answer.ok(), result);
                }
            },
            // The agent may just be starting, or be restarted.
            Err(error) => error.to_string(),
        };
        if start.elapsed() >= timeout {
            let error = WaitError::TimedOut { timeout, pending };
            return (answer.ok(), Err(error.into()));
        }
        thread::sleep(
            agent
                .pause(PAUSE)
                .min(timeout.saturating_sub(start.elapsed())),
        );
    }
}

/// What the agent has not done yet.
fn pending(status: &Status, wanted: Option<&str>) -> Option<String> {
    let mut pending = Vec::new();
    let wanted = wanted.unwrap_or(&status.store_revision);
    if wanted.is_empty() {
        pending.push("the agent has read nothing yet".to_owned());
    }
    if let Some(error) = &status.error {
        pending.push(format!("the agent reports: {error}"));
    }
    if status.enforced_revision != wanted {
        pending.push(format!(
            "expected revision {wanted} of the store to be enforced, found {} ({} was read last)",
            or_none(&status.enforced_revision),
            or_none(&status.store_revision),
        ));
        for object in &status.objects {
            if object.state == ObjectState::Pending {
                pending.push(format!("{}({}) is pending", object.kind, object.name));
            }
        }
        // Among them is what the agent waits for.
        pending.extend(status.problems.iter().map(super::status::problem));
    }
    (!pending.is_empty()).then(|| pending.join("; "))
}

fn or_none(revision: &str) -> &str {
    if revision.is_empty() {
        "none"
    } else {
        revision
    }
}

fn all_valid(store: Option<&Path>, status: &Status) -> Result<(), WaitError> {
    let mut invalid = Vec::new();
    for object in &status.objects {
        let what = match object.state {
            ObjectState::Enforced | ObjectState::Pending => continue,
            ObjectState::LastGood => "an earlier version is in force",
            ObjectState::Refused => "refused",
        };
        invalid.push(format!("{}({}): {what}", object.kind, object.name));
    }
    for problem in &status.problems {
        invalid.push(super::status::problem(problem));
    }
    if invalid.is_empty() {
        Ok(())
    } else {
        Err(WaitError::Invalid {
            store: store.map_or_else(
                || "cluster".to_owned(),
                |store| format!("store {}", store.display()),
            ),
            invalid,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::status::{ObjectStatus, Problem};

    fn enforced(revision: &str) -> Status {
        Status {
            store_revision: revision.to_owned(),
            enforced_revision: revision.to_owned(),
            ..Status::default()
        }
    }

    #[test]
    fn another_revision_or_an_error_is_pending() {
        assert_eq!(pending(&enforced("a"), Some("a")), None);
        // Of a cluster, what the agent has heard.
        assert_eq!(pending(&enforced("a"), None), None);
        let silent = pending(&enforced(""), None).unwrap();
        assert_eq!(silent, "the agent has read nothing yet");
        let other = pending(&enforced("a"), Some("b")).unwrap();
        assert!(other.contains("expected revision b"), "{other}");
        let waiting = Status {
            problems: vec![Problem {
                file: Some("a.yaml".to_owned()),
                object: None,
                message: "someone is writing it".to_owned(),
            }],
            ..enforced("a")
        };
        let waiting = pending(&waiting, Some("b")).unwrap();
        assert!(waiting.contains("a.yaml: someone"), "{waiting}");
        let failed = Status {
            error: Some("too many rules".to_owned()),
            ..enforced("a")
        };
        let failed = pending(&failed, Some("a")).unwrap();
        assert!(failed.contains("too many rules"), "{failed}");
    }

    #[test]
    fn objects_and_problems_count() {
        let object = |state| ObjectStatus {
            kind: "GlobalNetworkPolicy".to_owned(),
            name: "p".to_owned(),
            stored_generation: None,
            enforced_generation: None,
            state,
            dataplane_generation: None,
            not_enforced: Vec::new(),
        };
        let check = |status: &Status| all_valid(Some(Path::new("store")), status);
        let mut status = enforced("a");
        status.objects = vec![object(ObjectState::Enforced)];
        check(&status).unwrap();
        for state in [ObjectState::LastGood, ObjectState::Refused] {
            status.objects = vec![object(state)];
            let error = check(&status).unwrap_err().to_string();
            assert!(error.contains("GlobalNetworkPolicy(p)"), "{error}");
        }
        status.objects.clear();
        status.problems = vec![Problem {
            file: Some("a.yaml".to_owned()),
            object: None,
            message: "broken".to_owned(),
        }];
        let error = check(&status).unwrap_err().to_string();
        assert!(error.contains("a.yaml: broken"), "{error}");
    }
}
