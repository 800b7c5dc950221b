//! Asks an agent how it is doing. Only the fields that are shown are read, so
//! xtask does not have to be built with the agent.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// A part of what `hostfw-agent` answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    node: String,
    store_revision: String,
    enforced_revision: String,
    generation: u64,
    error: Option<String>,
    endpoints: Vec<Endpoint>,
    problems: Vec<Problem>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    name: String,
    interface: Option<String>,
    ingress: Option<Hook>,
    egress: Option<Hook>,
    policies: Vec<Policy>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
struct Hook {
    hook: String,
    mode: Option<String>,
    fallback: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Policy {
    stage: String,
    direction: String,
    name: String,
}

#[derive(Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: bool,
    message: String,
}

#[derive(Debug, Deserialize)]
struct Problem {
    file: Option<String>,
    object: Option<String>,
    message: String,
}

/// Asks the agent that listens on the socket.
pub(super) fn ask(socket: &Path) -> Result<Status> {
    let mut stream = UnixStream::connect(socket).context("connecting to hostfw-agent")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"{\"request\":\"status\"}\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    serde_json::from_str(&answer).context("the agent's answer")
}

impl Status {
    /// Whether the agent has done with the store, well or not.
    pub(super) fn settled(&self) -> bool {
        self.error.is_some()
            || (self.generation > 0 && self.store_revision == self.enforced_revision)
    }

    /// What is attached and what is wrong, for a reader.
    pub(super) fn summary(&self, interface: &str) -> String {
        let mut text = format!("node {}, generation {}", self.node, self.generation);
        // Writing to a String cannot fail.
        let mut line = |arguments: std::fmt::Arguments<'_>| {
            let _ = write!(text, "\n{arguments}");
        };
        if let Some(error) = &self.error {
            line(format_args!("error: {error}"));
        }
        for problem in &self.problems {
            let about = problem.object.as_ref().or(problem.file.as_ref());
            let about = about.map_or("store", String::as_str);
            line(format_args!("problem: {about}: {}", problem.message));
        }
        let mut governed = false;
        for endpoint in &self.endpoints {
            if endpoint.interface.as_deref() != Some(interface) {
                continue;
            }
            governed = true;
            line(format_args!("{interface}: HostEndpoint {}", endpoint.name));
            line(format_args!(
                "  ingress: {}",
                hook(endpoint.ingress.as_ref())
            ));
            line(format_args!("  egress: {}", hook(endpoint.egress.as_ref())));
            let list = |one: &Policy| (one.stage.clone(), one.direction.clone());
            for policies in endpoint.policies.chunk_by(|a, b| list(a) == list(b)) {
                let names: Vec<&str> = policies.iter().map(|one| &*one.name).collect();
                let (stage, direction) = list(&policies[0]);
                line(format_args!("  {stage} {direction}: {}", names.join(", ")));
            }
            for condition in &endpoint.conditions {
                let word = if condition.status { "yes" } else { "no" };
                line(format_args!(
                    "  {}: {word}: {}",
                    condition.kind, condition.message
                ));
            }
        }
        if !governed {
            line(format_args!(
                "{interface}: no HostEndpoint of node {} governs it, nothing is attached",
                self.node
            ));
        }
        text
    }
}

fn hook(hook: Option<&Hook>) -> String {
    let Some(hook) = hook else {
        return "nothing attached".to_owned();
    };
    let mut text = hook.hook.clone();
    if let Some(mode) = &hook.mode {
        let _ = write!(text, " ({mode})");
    }
    if let Some(why) = &hook.fallback {
        let _ = write!(text, ", because {why}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{
        "node": "n1", "version": "0.1.0", "storeRevision": "b", "enforcedRevision": "b",
        "generation": 3, "error": null, "objects": [], "problems": [], "counters": [],
        "endpoints": [{
            "name": "n1-eth1", "interface": "eth1",
            "ingress": {"hook": "xdp", "mode": "generic", "fallback": "the driver has no XDP"},
            "egress": {"hook": "tcx", "mode": null, "fallback": null},
            "workload": false,
            "policies": [
                {"stage": "preDNAT", "direction": "ingress", "tier": "default", "kind": "K", "name": "a"},
                {"stage": "preDNAT", "direction": "ingress", "tier": "default", "kind": "K", "name": "b"}
            ],
            "conditions": [{"type": "Programmed", "status": true, "reason": "R", "message": "All is well."}]
        }]
    }"#;

    #[test]
    fn what_is_attached_is_shown_with_its_mode() {
        let status: Status = serde_json::from_str(ANSWER).unwrap();
        assert!(status.settled());
        let text = status.summary("eth1");
        assert!(
            text.contains("ingress: xdp (generic), because the driver has no XDP"),
            "{text}"
        );
        assert!(text.contains("egress: tcx\n"), "{text}");
        assert!(text.contains("preDNAT ingress: a, b"), "{text}");
        assert!(status.summary("eth0").contains("nothing is attached"));
    }

    #[test]
    fn an_agent_at_work_is_not_settled() {
        for (before, after) in [
            ("\"enforcedRevision\": \"b\"", "\"enforcedRevision\": \"a\""),
            ("\"generation\": 3", "\"generation\": 0"),
        ] {
            let answer = ANSWER.replace(before, after);
            let status: Status = serde_json::from_str(&answer).unwrap();
            assert!(!status.settled(), "{after}");
        }
    }
}
