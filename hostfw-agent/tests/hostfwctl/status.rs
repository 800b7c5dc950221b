use std::time::{Duration, Instant};

use hostfw_agent::observe::status::{ObjectState, ObjectStatus, Problem, Status};

use crate::{EMPTY, policy, sandbox::Sandbox};

#[test]
fn status_without_an_agent_fails_with_one_line() {
    let sandbox = Sandbox::new();
    let done = sandbox
        .run(&["status"], EMPTY)
        .fails()
        .says("")
        .complains("no agent answers on");
    assert_eq!(done.err.lines().count(), 1);
    sandbox.apply(&policy("a", 1));
    sandbox
        .run(&["status", "--wait", "--timeout", "200ms"], EMPTY)
        .fails()
        .complains("timed out after 0.2s: no agent answers on");
}

fn refused(name: &str) -> ObjectStatus {
    ObjectStatus {
        kind: "GlobalNetworkPolicy".to_owned(),
        name: name.to_owned(),
        stored_generation: Some(1),
        enforced_generation: None,
        state: ObjectState::Refused,
        dataplane_generation: None,
        not_enforced: Vec::new(),
    }
}

#[test]
fn status_shows_what_is_refused_and_succeeds() {
    let sandbox = Sandbox::new();
    let status = Status {
        node: "node1".to_owned(),
        objects: vec![refused("a")],
        problems: vec![Problem {
            file: Some("x.yaml".to_owned()),
            object: None,
            message: "broken".to_owned(),
        }],
        ..Status::default()
    };
    let expected = status.clone();
    sandbox.agent(move || status.clone());
    let text = sandbox.run(&["status"], EMPTY).succeeds().out;
    assert!(text.contains("x.yaml: broken"), "{text}");
    assert!(text.contains("Refused"), "{text}");
    let json = sandbox.run(&["status", "-o", "json"], EMPTY).succeeds().out;
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), expected);
    let yaml = sandbox.run(&["status", "-o", "yaml"], EMPTY).succeeds().out;
    assert!(yaml.contains("node: node1\n"), "{yaml}");
}

#[test]
fn wait_returns_when_the_revision_is_enforced() {
    let sandbox = Sandbox::new();
    sandbox.apply(&policy("a", 1));
    let revision = sandbox.revision();
    let start = Instant::now();
    sandbox.agent(move || Status {
        enforced_revision: if start.elapsed() > Duration::from_millis(500) {
            revision.clone()
        } else {
            "older".to_owned()
        },
        ..Status::default()
    });
    sandbox.run(&["status", "--wait"], EMPTY).succeeds();
    assert!(start.elapsed() > Duration::from_millis(500));
}

#[test]
fn wait_says_what_is_pending() {
    let sandbox = Sandbox::new();
    sandbox.apply(&policy("a", 1));
    sandbox.agent(|| Status {
        store_revision: "older".to_owned(),
        enforced_revision: "older".to_owned(),
        error: Some("too many rules".to_owned()),
        ..Status::default()
    });
    let revision = sandbox.revision();
    sandbox
        .run(&["status", "--wait", "--timeout", "300ms"], EMPTY)
        .fails()
        .complains("timed out")
        .complains(&format!("expected revision {revision}"))
        .complains("found older")
        .complains("too many rules");
}

#[test]
fn wait_fails_at_once_if_an_object_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.apply(&policy("a", 1));
    let revision = sandbox.revision();
    sandbox.agent(move || Status {
        enforced_revision: revision.clone(),
        objects: vec![refused("a")],
        ..Status::default()
    });
    let start = Instant::now();
    sandbox
        .run(&["status", "--wait"], EMPTY)
        .fails()
        .complains("GlobalNetworkPolicy(a): refused");
    assert!(start.elapsed() < Duration::from_secs(20));
}
