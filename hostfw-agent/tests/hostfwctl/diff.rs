//! `hostfwctl diff`.

use serde_json::Value;

use crate::{EMPTY, endpoint, misspelt, pre_dnat, sandbox::Sandbox};

const NODE: [&str; 4] = ["--node", "node1", "--address", "eth0=10.0.0.1/24"];

const OPEN_NODEPORT: &str = "{action: Allow, protocol: TCP, destination: {ports: [31852]}}";
const DENY: &str = "{action: Deny}";

/// Closed from outside but for fail-safes, and for a NodePort.
fn closed() -> Sandbox {
    let sandbox = Sandbox::new();
    let open = pre_dnat("open", 10, OPEN_NODEPORT);
    sandbox.apply(&(endpoint("node1-eth0") + &open + &pre_dnat("shut", 20, DENY)));
    sandbox
}

fn changes(sandbox: &Sandbox, more: &[&str], new: &str) -> Vec<Value> {
    let arguments = [&["diff", "-f", "-", "-o", "json"], &NODE[..], more].concat();
    let out = sandbox.run(&arguments, new).succeeds().out;
    out.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn nothing_changes_if_the_same_is_applied_again() {
    let sandbox = closed();
    let same = pre_dnat("shut", 20, DENY);
    assert_eq!(changes(&sandbox, &[], &same), Vec::<Value>::new());
    let out = sandbox
        .run(&[&["diff", "-f", "-"], &NODE[..]].concat(), &same)
        .succeeds()
        .out;
    assert!(out.starts_with("0 of "), "{out}");
}

#[test]
fn a_pinhole_that_closes_is_told_with_the_rules_that_decide() {
    let sandbox = closed();
    let moved = pre_dnat("open", 10, &OPEN_NODEPORT.replace("31852", "31853"));
    let found = changes(&sandbox, &[], &moved);
    let of = |port: u16| -> Vec<&Value> {
        found
            .iter()
            .filter(|change| change["destinationPort"] == port)
            .filter(|change| change["direction"] == "in")
            .collect()
    };
    assert_eq!(
        found.len(),
        of(31_852).len() + of(31_853).len(),
        "{found:?}"
    );
    for change in of(31_852) {
        assert_eq!(change["before"]["verdict"], "allow");
        assert_eq!(change["before"]["policy"], "open");
        assert_eq!(change["after"]["verdict"], "deny");
        assert_eq!(change["after"]["stage"], "preDNAT");
        assert_eq!(change["after"]["policy"], "shut");
        assert_eq!(change["after"]["rule"], 0);
    }
    assert!(!of(31_852).is_empty());
    for change in of(31_853) {
        assert_eq!(change["before"]["policy"], "shut");
        assert_eq!(change["after"]["policy"], "open");
    }
    assert!(!of(31_853).is_empty());
    // Nothing was stored.
    assert!(
        sandbox
            .stored("globalnetworkpolicy.open.yaml")
            .contains("31852")
    );
}

#[test]
fn fail_safes_that_go_away_are_seen() {
    let sandbox = closed();
    let felix = "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\n\
                 metadata: {name: default}\nspec: {failsafeInboundHostPorts: []}\n";
    let found = changes(&sandbox, &[], felix);
    let ssh = found.iter().find(|change| {
        change["destinationPort"] == 22 && change["path"] == "local" && change["protocol"] == 6
    });
    let ssh = ssh.expect("SSH is shut");
    assert_eq!(ssh["before"]["reason"], "failsafe");
    assert_eq!(ssh["after"]["verdict"], "deny");
}

#[test]
fn what_is_not_in_the_files_counts_as_deleted_if_asked() {
    let sandbox = closed();
    let found = changes(&sandbox, &["--replace-all"], &endpoint("node1-eth0"));
    let opened =
        |change: &&Value| change["path"] == "forward" && change["after"]["reason"] == "no-match";
    assert!(found.iter().any(|change| opened(&change)), "{found:?}");
}

#[test]
fn the_flows_of_the_node_are_tried() {
    let sandbox = closed();
    sandbox.agent_says(
        r#"{"flows":[{"protocol":6,"remote":"198.51.100.9","remotePort":41234,"local":"10.0.0.1",
            "localPort":31852,"openedByRemote":true,"confirmed":true}]}"#,
        r#"{"node":"node1","generation":3,"resources":[],"interfaces":[{"index":2,"name":"eth0",
            "addresses":["10.0.0.1"],"linkHeader":true,"loopback":false,"up":true}]}"#,
    );
    let shut = pre_dnat("open", 10, &OPEN_NODEPORT.replace("Allow", "Deny"));
    let out = sandbox.run(&["diff", "-f", "-"], &shut).succeeds().out;
    let flow: Vec<&str> = out
        .lines()
        .filter(|line| line.starts_with("flow"))
        .collect();
    assert_eq!(flow.len(), 2, "{out}");
    assert!(
        flow[0].contains("198.51.100.9:41234   10.0.0.1:31852   allow: preDNAT default/open ingress[0]   deny: preDNAT default/open ingress[0]"),
        "{out}"
    );
}

#[test]
fn bad_input_and_a_missing_agent_are_told() {
    let sandbox = closed();
    sandbox
        .run(&["diff", "-f", "-"], &pre_dnat("a", 1, DENY))
        .fails()
        .complains("no agent answers on");
    sandbox
        .run(&[&["diff", "-f", "-"], &NODE[..]].concat(), &misspelt("a"))
        .fails()
        .complains("spec.egress[0].protocol");
    sandbox
        .run(&["diff", "-f", "/nowhere", "--node", "n"], EMPTY)
        .fails()
        .complains("/nowhere");
    sandbox
        .run(&["diff", "-f", "-", "--address", "eth0"], EMPTY)
        .fails()
        .complains("--node");
}
