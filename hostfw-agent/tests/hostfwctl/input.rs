use crate::{EMPTY, endpoint, misspelt, policy, sandbox::Sandbox};

#[test]
fn nothing_is_written_unless_all_input_is_valid() {
    let sandbox = Sandbox::new();
    let good = sandbox.write("good.yaml", &policy("a", 1));
    let cases = [
        (misspelt("b"), "GlobalNetworkPolicy(b)"),
        (
            policy("b", 1).replace("Allow", "allow"),
            "spec.egress[0].action: expected one of Allow, Deny, Log, Pass, found \"allow\"",
        ),
        (policy("b", 1) + "---\nkind: [\n", "document 2"),
        (policy("../b", 1), "metadata.name"),
        (
            endpoint("e").replace("HostEndpoint", "NetworkPolicy"),
            "NetworkPolicy",
        ),
    ];
    for (bad, message) in cases {
        let bad = sandbox.write("bad.yaml", &bad);
        for verb in ["apply", "create", "replace"] {
            let done = sandbox
                .run(&[verb, "-f", &good, "-f", &bad], EMPTY)
                .fails()
                .says("")
                .complains(message);
            assert!(done.err.starts_with(&bad), "{done:?}");
        }
    }
    sandbox
        .run(&["apply", "-f", &good, "-f", "/nowhere"], EMPTY)
        .fails()
        .complains("/nowhere: No such file");
    assert!(sandbox.files().is_empty());
}

#[test]
fn every_error_of_the_input_is_told() {
    let sandbox = Sandbox::new();
    let input = misspelt("a") + &endpoint("e").replace("node: node1", "node: 7") + &misspelt("b");
    let done = sandbox.run(&["apply", "-f", "-"], &input).fails();
    for text in [
        "<stdin>: document 1: GlobalNetworkPolicy(a): spec.egress[0].protocol",
        "<stdin>: document 2 (line ",
        "HostEndpoint(e): spec.node",
        "<stdin>: document 3: GlobalNetworkPolicy(b): spec.egress[0].protocol",
    ] {
        assert!(done.err.contains(text), "{text:?} in {}", done.err);
    }
}

#[test]
fn same_object_twice_in_the_input_is_refused() {
    let sandbox = Sandbox::new();
    let one = sandbox.write("one.yaml", &policy("a", 1));
    let two = sandbox.write("two.yaml", &(policy("b", 1) + &policy("a", 2)));
    sandbox
        .run(&["apply", "-f", &one, "-f", &two], EMPTY)
        .fails()
        .complains("two.yaml: document 2: GlobalNetworkPolicy(a)")
        .complains("one.yaml: document 1");
    assert!(sandbox.files().is_empty());
}

#[test]
fn empty_input_is_an_error() {
    let sandbox = Sandbox::new();
    for verb in ["apply", "create", "replace", "delete", "validate"] {
        sandbox
            .run(&[verb, "-f", "-"], "# nothing\n")
            .fails()
            .complains("expected resources in the input, found none");
    }
}

#[test]
fn folders_are_read_and_sub_folders_on_request() {
    let sandbox = Sandbox::new();
    sandbox.write("in/one.yaml", &policy("a", 1));
    sandbox.write("in/two.yml", &policy("b", 1));
    sandbox.write("in/notes.txt", "not a resource");
    sandbox.write("in/.hidden.yaml", "kind: [");
    sandbox.write("in/sub/deep/three.yaml", &policy("c", 1));
    std::os::unix::fs::symlink("..", sandbox.path("in/sub/circle")).unwrap();
    let folder = sandbox.path("in").display().to_string();
    sandbox
        .run(&["apply", "-f", &folder], EMPTY)
        .succeeds()
        .says("Successfully applied 2 'GlobalNetworkPolicy' resource(s)\n");
    sandbox
        .run(&["apply", "-R", "-f", &folder], EMPTY)
        .succeeds()
        .says("Successfully applied 3 'GlobalNetworkPolicy' resource(s)\n");
}

#[test]
fn lists_and_json_are_taken() {
    let sandbox = Sandbox::new();
    let list = "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [\
        {\"apiVersion\": \"projectcalico.org/v3\", \"kind\": \"HostEndpoint\", \
         \"metadata\": {\"name\": \"e\"}, \"spec\": {\"node\": \"n\", \"interfaceName\": \"*\"}}, \
        {\"apiVersion\": \"projectcalico.org/v3\", \"kind\": \"FelixConfiguration\", \
         \"metadata\": {\"name\": \"default\"}, \"spec\": {\"failsafeInboundHostPorts\": []}}]}";
    sandbox
        .run(&["apply", "-f", "-"], list)
        .succeeds()
        .says("Successfully applied 2 resource(s)\n");
    assert_eq!(
        sandbox.files(),
        ["felixconfiguration.default.yaml", "hostendpoint.e.yaml"]
    );
}

#[test]
fn validate_lists_all_problems_and_stores_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("in/a.yaml", &(policy("a", 1) + &misspelt("b")));
    sandbox.write("in/b.json", "{");
    sandbox.write("in/c.yaml", &endpoint("e").replace("eth0", "eth0/1"));
    let folder = sandbox.path("in").display().to_string();
    sandbox
        .run(&["validate", "-f", &folder], EMPTY)
        .fails()
        .complains("a.yaml: document 2: GlobalNetworkPolicy(b)")
        .complains("b.json: document 1")
        .complains("c.yaml: document 1: HostEndpoint(e): spec.interfaceName");
    sandbox
        .run(&["validate", "-f", "-"], &policy("a", 1))
        .succeeds()
        .says("Successfully validated 1 'GlobalNetworkPolicy' resource(s)\n");
    assert!(!sandbox.store().exists());
}

#[test]
fn usage_errors_end_with_1_and_help_with_0() {
    let sandbox = Sandbox::new();
    sandbox.run(&["frobnicate"], EMPTY).fails();
    sandbox.run(&["apply"], EMPTY).fails();
    sandbox
        .run(&["status", "--wait", "--timeout", "soon"], EMPTY)
        .fails();
    for flag in ["--help", "--version"] {
        let done = sandbox.run(&[flag], EMPTY).succeeds();
        assert!(done.out.contains("hostfwctl"), "{done:?}");
    }
}

#[test]
fn rules_that_types_leave_out_are_warned_of() {
    let sandbox = Sandbox::new();
    let input = policy("a", 1) + "  ingress:\n  - action: Deny\n";
    for verb in ["validate", "apply"] {
        sandbox
            .run(&[verb, "-f", "-"], &input)
            .complains("Warning: GlobalNetworkPolicy(a): spec.ingress has 1 rules");
    }
}

#[test]
fn what_is_not_enforced_is_told() {
    let sandbox = Sandbox::new();
    let input = policy("a", 1).replace(
        "action: Allow",
        "action: Allow\n    destination: {services: {name: web, namespace: prod}}",
    );
    for verb in ["validate", "apply"] {
        sandbox
            .run(&[verb, "-f", "-"], &input)
            .succeeds()
            .complains(
                "Warning: GlobalNetworkPolicy(a): spec.egress[0].destination.services is not \
                 enforced: no services are known here",
            );
    }
}

#[test]
fn a_policy_needs_its_tier() {
    let sandbox = Sandbox::new();
    let tiered = policy("platform.a", 1).replace("spec:\n", "spec:\n  tier: platform\n");
    let tier = "---\napiVersion: projectcalico.org/v3\nkind: Tier\n\
                metadata: {name: platform}\nspec: {order: 1}\n";
    for verb in ["apply", "create"] {
        sandbox
            .run(&[verb, "-f", "-"], &(policy("b", 1) + &tiered))
            .fails()
            .says("")
            .complains(
                "<stdin>: document 2: GlobalNetworkPolicy(platform.a): spec.tier: expected a Tier \
                 that is stored or in the input (default, kube-admin, kube-baseline), found \
                 \"platform\"",
            );
    }
    assert!(sandbox.files().is_empty());
    // Behind the policy, in the same input.
    sandbox.apply(&(tiered.clone() + tier));
    sandbox.apply(&tiered.replace("order: 1", "order: 2"));
}
