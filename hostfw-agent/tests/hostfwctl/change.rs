use std::path::Path;

use crate::{
    EMPTY, endpoint, misspelt, policy, pre_dnat,
    sandbox::{Done, Sandbox},
};

#[test]
fn apply_creates_and_updates() {
    let sandbox = Sandbox::new();
    let both = policy("a", 1) + &policy("b", 2);
    sandbox
        .run(&["apply", "-f", "-"], &both)
        .succeeds()
        .says("Successfully applied 2 'GlobalNetworkPolicy' resource(s)\n");
    sandbox
        .run(&["apply", "-f", "-"], &(policy("a", 3) + &endpoint("e")))
        .succeeds()
        .says("Successfully applied 2 resource(s)\n");
    assert_eq!(
        sandbox.files(),
        [
            "globalnetworkpolicy.a.yaml",
            "globalnetworkpolicy.b.yaml",
            "hostendpoint.e.yaml"
        ]
    );
    let stored = sandbox.stored("globalnetworkpolicy.a.yaml");
    assert!(stored.contains("order: 3\n"), "{stored}");
    assert!(stored.contains("generation: 2\n"), "{stored}");
}

#[test]
fn create_fails_if_it_exists() {
    let sandbox = Sandbox::new();
    sandbox
        .run(&["create", "-f", "-"], &policy("a", 1))
        .succeeds()
        .says("Successfully created 1 'GlobalNetworkPolicy' resource(s)\n");
    sandbox
        .run(&["create", "-f", "-"], &policy("a", 2))
        .fails()
        .says("")
        .complains("resource already exists: GlobalNetworkPolicy(a)");
    let both = policy("a", 2) + &policy("b", 2);
    sandbox
        .run(&["create", "-f", "-"], &both)
        .fails()
        .says("Partial success: created the first 1 out of 2 'GlobalNetworkPolicy' resources:\n")
        .complains("resource already exists: GlobalNetworkPolicy(a)");
    let input = both + &endpoint("e");
    sandbox
        .run(&["create", "--skip-exists", "-f", "-"], &input)
        .succeeds()
        .says(
            "Skipped: GlobalNetworkPolicy(a) exists already\n\
             Skipped: GlobalNetworkPolicy(b) exists already\n\
             Successfully created 1 resource(s)\n",
        );
    let stored = sandbox.stored("globalnetworkpolicy.a.yaml");
    assert!(stored.contains("order: 1\n"), "{stored}");
}

#[test]
fn replace_fails_if_it_is_missing_and_goes_on() {
    let sandbox = Sandbox::new();
    sandbox.apply(&policy("b", 1));
    let input = policy("a", 2) + &policy("b", 2) + &policy("c", 2);
    sandbox
        .run(&["replace", "-f", "-"], &input)
        .fails()
        .says("Partial success: replaced the first 1 out of 3 'GlobalNetworkPolicy' resources:\n")
        .complains("resource does not exist: GlobalNetworkPolicy(a)\n")
        .complains("resource does not exist: GlobalNetworkPolicy(c)\n");
    let stored = sandbox.stored("globalnetworkpolicy.b.yaml");
    assert!(stored.contains("order: 2\n"), "{stored}");
    sandbox
        .run(&["replace", "-f", "-"], &policy("b", 3))
        .succeeds()
        .says("Successfully replaced 1 'GlobalNetworkPolicy' resource(s)\n");
}

#[test]
fn delete_by_name_and_by_file() {
    let sandbox = Sandbox::new();
    sandbox.apply(&(policy("a", 1) + &policy("b", 1) + &policy("c", 1) + &endpoint("e")));
    sandbox
        .run(&["delete", "gnp", "a", "b"], EMPTY)
        .succeeds()
        .says("Successfully deleted 2 'GlobalNetworkPolicy' resource(s)\n");
    sandbox
        .run(&["delete", "gnp", "a", "c"], EMPTY)
        .fails()
        .says("Partial success: deleted the first 1 out of 2 'GlobalNetworkPolicy' resources:\n")
        .complains("resource does not exist: GlobalNetworkPolicy(a)");
    sandbox
        .run(&["delete", "-f", "-"], &endpoint("e"))
        .succeeds()
        .says("Successfully deleted 1 'HostEndpoint' resource(s)\n");
    assert!(sandbox.files().is_empty());
    for skip in ["-s", "--skip-not-exists"] {
        sandbox
            .run(&["delete", skip, "-f", "-"], &endpoint("e"))
            .succeeds()
            .says("Skipped: HostEndpoint(e) does not exist\n");
    }
    sandbox.run(&["delete", "gnp"], EMPTY).fails();
    sandbox.run(&["delete"], EMPTY).fails();
    sandbox
        .run(&["delete", "gnp", "a", "-f", "x.yaml"], EMPTY)
        .fails();
    sandbox
        .run(&["delete", "hep", "../../etc/passwd"], EMPTY)
        .fails()
        .complains("metadata.name");
}

#[test]
fn object_that_is_refused_by_now_can_be_deleted() {
    let sandbox = Sandbox::new();
    sandbox.write("store/globalnetworkpolicy.a.yaml", &misspelt("a"));
    sandbox
        .run(&["delete", "-f", "-"], &misspelt("a"))
        .succeeds();
    assert!(sandbox.files().is_empty());
}

#[test]
fn older_version_is_an_update_conflict() {
    let sandbox = Sandbox::new();
    sandbox.apply(&policy("a", 1));
    let get = |form| {
        sandbox
            .run(&["get", "gnp", "a", "-o", form], EMPTY)
            .succeeds()
            .out
    };
    let read = get("yaml");
    sandbox.apply(&policy("a", 2));
    for verb in ["apply", "replace", "delete"] {
        sandbox
            .run(&[verb, "-f", "-"], &read)
            .fails()
            .says("")
            .complains("update conflict: GlobalNetworkPolicy(a)");
    }
    let stored = sandbox.stored("globalnetworkpolicy.a.yaml");
    assert!(stored.contains("order: 2\n"), "{stored}");

    let edited = get("json").replace("\"order\": 2", "\"order\": 3");
    sandbox.run(&["replace", "-f", "-"], &edited).succeeds();
    let stored = sandbox.stored("globalnetworkpolicy.a.yaml");
    assert!(stored.contains("order: 3\n"), "{stored}");
}

#[test]
fn apply_warns_of_what_it_causes() {
    let sandbox = Sandbox::new();
    let allow = "{action: Allow, source: {nets: [10.240.0.0/16]}}";
    let done = sandbox.run(&["apply", "-f", "-"], &pre_dnat("allow-cluster", 10, allow));
    assert_eq!(done.succeeds().err, "");
    let deny = pre_dnat("drop-other", 20, "{action: Deny}");
    let warned = sandbox
        .run(&["apply", "-f", "-"], &deny)
        .succeeds()
        .says("Successfully applied 1 'GlobalNetworkPolicy' resource(s)\n")
        .complains("Warning: GlobalNetworkPolicy(")
        .complains("IPv6");
    sandbox
        .run(&["validate", "-f", "-"], &(pre_dnat("a", 1, allow) + &deny))
        .succeeds()
        .complains("Warning: ");
    // What was wrong before is not said again with something else.
    let done = sandbox.run(&["apply", "-f", "-"], &policy("other", 1));
    assert_eq!(done.succeeds().err, "", "after {warned:?}");
    // Nor is it said once it is right.
    let v6 = "{action: Allow, source: {nets: [\"fd00::/8\"]}}";
    let done = sandbox.run(&["apply", "-f", "-"], &pre_dnat("allow-cluster-v6", 11, v6));
    assert_eq!(done.succeeds().err, "");
}

#[test]
fn files_of_others_are_not_rewritten() {
    let sandbox = Sandbox::new();
    let text = policy("a", 1) + &policy("b", 1);
    sandbox.write("store/ansible.yaml", &text);
    sandbox
        .run(&["apply", "-f", "-"], &(policy("a", 2) + &policy("c", 2)))
        .fails()
        .says("Partial success: applied the first 1 out of 2 'GlobalNetworkPolicy' resources:\n")
        .complains("GlobalNetworkPolicy(a)")
        .complains("ansible.yaml");
    assert_eq!(sandbox.stored("ansible.yaml"), text);
    sandbox
        .run(&["get", "gnp"], EMPTY)
        .succeeds()
        .says("NAME   TIER\na      default\nb      default\nc      default\n");
}

#[test]
fn processes_at_once_lose_no_update() {
    let sandbox = Sandbox::new();
    let children: Vec<_> = (0..8)
        .map(|number| {
            let text = policy("shared", number) + &policy(&format!("own-{number}"), number);
            let file = sandbox.write(&format!("in/{number}.yaml"), &text);
            sandbox.command(&["apply", "-f", &file]).spawn().unwrap()
        })
        .collect();
    for child in children {
        Done::from(child.wait_with_output().unwrap()).succeeds();
    }
    assert_eq!(sandbox.files().len(), 9);
    let shared = sandbox.stored("globalnetworkpolicy.shared.yaml");
    assert!(shared.contains("generation: 8\n"), "{shared}");
    let all = std::fs::read_dir(sandbox.store()).unwrap().count();
    assert_eq!(all, 10, "the lock, and nothing that was left behind");
}

#[test]
fn store_that_cannot_be_written_is_told() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("file", "");
    let below = Path::new(&file).join("store").display().to_string();
    sandbox
        .run(&["apply", "--store", &below, "-f", "-"], &policy("a", 1))
        .fails()
        .complains(&below);
}
