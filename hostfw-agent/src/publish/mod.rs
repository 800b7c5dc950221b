//! What the agent writes into the cluster: the state of its node, in a
//! `NodeEnforcement` that has the node's name; the addresses of its endpoints, in
//! a `NodeAddresses`; and an Event for each object that is not valid.
//!
//! Nothing that is enforced waits for it or depends on it: what cannot be
//! written is noted in the status, logged once, and tried again.

#![forbid(unsafe_code)]

mod addresses;
mod events;
pub mod report;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{DynamicObject, PostParams},
};
use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use self::{
    events::Invalid,
    report::Report,
    write::{MANAGER, Pen, resource},
};
use crate::{
    model::EndpointAddresses,
    observe::{
        notes::Notes,
        socket::{Question, Reply, Request},
        status::Status,
    },
    source::kubernetes::Known,
};

/// Most Events that wait to be written.
const MOST_EVENTS: usize = 100;

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// After a change, for more of them.
    pub gather: Duration,
    /// Between two writes, if what is wrong has changed.
    pub urgent: Duration,
    /// Between two writes otherwise.
    pub calm: Duration,
    /// At most, before addresses that have changed are written: not all nodes
    /// write at once, and an interface may flap.
    pub settle: Duration,
    /// Until the object is written once more although nothing has changed:
    /// someone may have deleted it.
    pub refresh: Duration,
    /// At most, before an Event is written, so that not all nodes write it at
    /// once.
    pub spread: Duration,
    /// Between attempts after a failure: doubled each time, up to the last.
    pub retry: [Duration; 2],
    /// For an answer.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            gather: Duration::from_secs(1),
            urgent: Duration::from_secs(10),
            calm: Duration::from_secs(60),
            settle: Duration::from_secs(4),
            refresh: Duration::from_secs(3600),
            spread: Duration::from_secs(30),
            retry: [Duration::from_secs(5), Duration::from_secs(300)],
            patience: Duration::from_secs(30),
        }
    }
}

/// What the writer needs of the rest of the agent.
#[derive(Debug)]
pub struct Agent {
    /// Name of the node.
    pub node: String,
    /// Changes whenever there may be something new to tell.
    pub passes: watch::Receiver<u64>,
    /// Takes questions about the status.
    pub questions: mpsc::Sender<Question>,
    /// The objects as the cluster gave them.
    pub known: Known,
    /// What other nodes have to be told of this one; `None` before it is known.
    pub told: watch::Receiver<Option<Vec<EndpointAddresses>>>,
    /// Takes what goes wrong.
    pub notes: Notes,
}

/// Writes for as long as the agent answers.
pub async fn run(client: Client, mut agent: Agent, pace: Pace) {
    let pen = Pen {
        client,
        notes: agent.notes.clone(),
        node: agent.node.clone(),
        patience: pace.patience,
    };
    let told = agent.told.clone();
    // Two of its kind, so that a slow answer to one holds up no other.
    tokio::join!(
        state(pen.clone(), &mut agent, pace),
        addresses::run(pen, told, pace),
    );
}

async fn state(pen: Pen, agent: &mut Agent, pace: Pace) {
    let mut writer = Writer {
        pen,
        pace,
        transitions: BTreeMap::new(),
        written: None,
        retry: None,
        failures: 0,
        events: BTreeMap::new(),
        told: BTreeSet::new(),
    };
    let passes = &mut agent.passes;
    loop {
        passes.borrow_and_update();
        let Some(status) = ask(&agent.questions).await else {
            return;
        };
        let next = writer.tell(&status, &agent.known).await;
        tokio::time::sleep(pace.gather).await;
        tokio::select! {
            changed = passes.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

async fn ask(questions: &mpsc::Sender<Question>) -> Option<Status> {
    let (reply, answer) = oneshot::channel();
    let request = Request::Brief;
    questions.send(Question { request, reply }).await.ok()?;
    match answer.await.ok()? {
        Reply::Status(status) => Some(*status),
        Reply::Enforced(_)
        | Reply::Flows(_)
        | Reply::Metrics(_)
        | Reply::Health(_)
        | Reply::Reports(_)
        | Reply::Rules(_)
        | Reply::Refusal(_) => None,
    }
}

/// What was written last.
struct Written {
    when: Instant,
    report: Report,
}

struct Writer {
    pen: Pen,
    pace: Pace,
    /// The conditions with the times since when they are as they are.
    transitions: BTreeMap<&'static str, (&'static str, Time)>,
    written: Option<Written>,
    /// When to try again what has failed.
    retry: Option<Instant>,
    failures: u32,
    /// When Events that were not written yet are due, by name.
    events: BTreeMap<String, Instant>,
    /// Names of those that were written.
    told: BTreeSet<String>,
}

impl Writer {
    /// Writes what is due, and gives the time when something else is.
    async fn tell(&mut self, status: &Status, known: &Known) -> Instant {
        let now = Instant::now();
        if self.retry.is_none_or(|retry| retry <= now) {
            let results = [
                self.tell_state(status, now).await,
                self.tell_events(status, known, now).await,
            ];
            if results.contains(&false) {
                let [first, last] = self.pace.retry;
                let wait = (first * 2u32.saturating_pow(self.failures)).min(last);
                self.failures = self.failures.saturating_add(1).min(16);
                self.retry = Some(Instant::now() + some_of(wait));
            } else {
                self.failures = 0;
                self.retry = None;
            }
        }
        if let Some(retry) = self.retry {
            return retry;
        }
        let state = self.due(&Report::of(status), now);
        self.events.values().copied().fold(state, Instant::min)
    }

    /// When the report is to be written.
    fn due(&self, report: &Report, now: Instant) -> Instant {
        let Some(written) = &self.written else {
            return now;
        };
        written.when
            + if written.report == *report {
                self.pace.refresh
            } else if written.report.state != report.state {
                self.pace.urgent
            } else {
                self.pace.calm
            }
    }

    /// Whether nothing has failed.
    async fn tell_state(&mut self, status: &Status, now: Instant) -> bool {
        let report = Report::of(status);
        if self.due(&report, now) > now {
            return true;
        }
        let about = format!("NodeEnforcement({})", self.pen.node);
        let done = self.write_state(&report).await;
        let done = self
            .pen
            .note(&about, done, "the state of this node is not told");
        if done {
            let when = Instant::now();
            self.written = Some(Written { when, report });
        }
        done
    }

    async fn write_state(&mut self, report: &Report) -> Result<(), kube::Error> {
        let mut body = json!({
            "apiVersion": "hostfw.io/v1alpha1",
            "kind": "NodeEnforcement",
            "metadata": {"name": self.pen.node},
            "status": report,
        });
        for condition in &report.state.conditions {
            let now = (condition.status, Time(Timestamp::now()));
            let since = self
                .transitions
                .entry(condition.kind)
                .or_insert(now.clone());
            if since.0 != condition.status {
                *since = now;
            }
        }
        let conditions = body["status"]["conditions"].as_array_mut();
        for condition in conditions.into_iter().flatten() {
            let kind = condition["type"].as_str().unwrap_or_default();
            if let Some((_, since)) = self.transitions.get(kind) {
                condition["lastTransitionTime"] = json!(since);
            }
        }
        self.pen.apply("nodeenforcements", body).await
    }

    /// Whether nothing has failed.
    async fn tell_events(&mut self, status: &Status, known: &Known, now: Instant) -> bool {
        let mut invalid = BTreeMap::new();
        for problem in &status.problems {
            let text = problem.file.as_ref().and_then(|path| known.text(path));
            if let Some(one) = Invalid::of(problem, text.as_ref()) {
                invalid.insert(one.name.clone(), one);
            }
            if invalid.len() >= MOST_EVENTS {
                break;
            }
        }
        // What is well again need not be told any more.
        self.told.retain(|name| invalid.contains_key(name));
        self.events.retain(|name, _| invalid.contains_key(name));
        let mut all_done = true;
        for (name, one) in invalid {
            if self.told.contains(&name) {
                continue;
            }
            let spread = self.pace.spread;
            let due = *self
                .events
                .entry(name.clone())
                .or_insert_with(|| now + some_of(spread));
            if due > now {
                continue;
            }
            let done = self.write_event(&one).await;
            if !self.pen.note(
                "Event",
                done,
                "that an object is not valid is told on nodes only",
            ) {
                all_done = false;
                break;
            }
            self.events.remove(&name);
            self.told.insert(name);
        }
        if self.events.is_empty() && all_done {
            self.pen.notes.clear("Event");
        }
        all_done
    }

    async fn write_event(&self, invalid: &Invalid) -> Result<(), kube::Error> {
        let events = resource("events.k8s.io", "v1", "Event", "events");
        let api = Api::<DynamicObject>::namespaced_with(
            self.pen.client.clone(),
            &invalid.namespace,
            &events,
        );
        let event = serde_json::from_value(invalid.event(&self.pen.node));
        let event: DynamicObject = event.map_err(kube::Error::SerdeError)?;
        let how = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        match self.pen.in_time(api.create(&how, &event)).await {
            // Another node has told it.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop),
        }
    }
}

/// Between half of it and all of it, never the same on two nodes.
fn some_of(full: Duration) -> Duration {
    // Each RandomState has other keys, taken from the kernel's randomness.
    let share = RandomState::new().hash_one(()) % 1024;
    full / 2 + full / 2 * u32::try_from(share).unwrap_or(0) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd;
    use serde_json::Value;

    /// Paths of a value's fields; of lists, those of the items.
    fn fields(value: &Value, at: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(all) => {
                for (name, value) in all {
                    let path = format!("{at}.{name}");
                    found.insert(path.clone());
                    fields(value, &path, found);
                }
            }
            Value::Array(all) => all.iter().for_each(|one| fields(one, at, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// The same of a schema.
    fn properties(schema: &Value, at: &str, found: &mut BTreeSet<String>) {
        if let Some(all) = schema["properties"].as_object() {
            for (name, schema) in all {
                let path = format!("{at}.{name}");
                found.insert(path.clone());
                properties(schema, &path, found);
            }
        }
        if schema.get("items").is_some() {
            properties(&schema["items"], at, found);
        }
    }

    #[test]
    fn the_definition_has_the_fields_that_are_written() {
        let written = json!(Report::of(&report::tests::full()));
        let mut told = BTreeSet::new();
        fields(&written, "", &mut told);
        told.insert(".conditions.lastTransitionTime".to_owned());
        let definition = &crd::reports()[0].value;
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut known = BTreeSet::new();
        properties(&schema["properties"]["status"], "", &mut known);
        assert_eq!(told, known);
    }
}
