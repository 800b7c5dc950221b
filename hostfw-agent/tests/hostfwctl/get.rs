use crate::{EMPTY, endpoint, policy, sandbox::Sandbox};

#[test]
fn get_shows_tables() {
    let sandbox = Sandbox::new();
    let addresses = "  interfaceName: eth0\n  expectedIPs: [10.0.0.1, \"2001:db8::1\"]\n";
    let felix = "---\napiVersion: projectcalico.org/v3\nkind: FelixConfiguration\n\
                 metadata:\n  name: default\nspec:\n  failsafeInboundHostPorts:\n  \
                 - {protocol: TCP, port: 22}\n  - {protocol: UDP, port: 68, net: 10.0.0.0/8}\n";
    let endpoint = endpoint("node1-eth0").replace("  interfaceName: eth0\n", addresses);
    sandbox.apply(&(policy("b", 20) + &policy("a", 5) + &endpoint + felix));
    let get = |arguments: &[&str]| {
        let arguments = [&["get"], arguments].concat();
        sandbox.run(&arguments, EMPTY).succeeds().out
    };
    assert_eq!(
        get(&["gnp"]),
        "NAME   TIER\na      default\nb      default\n"
    );
    assert_eq!(
        get(&["gnp", "b", "-o", "wide"]),
        "NAME   TIER      ORDER   SELECTOR\nb      default   20      has(host-endpoint)\n"
    );
    assert_eq!(
        get(&["hep", "-o", "ps"]),
        "NAME         NODE\nnode1-eth0   node1\n"
    );
    assert_eq!(
        get(&["HostEndpoints", "-o", "wide"]),
        "NAME         NODE    INTERFACE   IPS                    PROFILES\n\
         node1-eth0   node1   eth0        10.0.0.1,2001:db8::1   <none>\n"
    );
    assert_eq!(get(&["felixconfig"]), "NAME\ndefault\n");
    let wide = get(&["felixconfig", "-o", "wide"]);
    let cells: Vec<&str> = wide.split_whitespace().collect();
    assert_eq!(
        cells,
        [
            "NAME",
            "FAILSAFE-INBOUND",
            "FAILSAFE-OUTBOUND",
            "default",
            "tcp:22,udp:68@10.0.0.0/8",
            "(default)"
        ]
    );
}

#[test]
fn what_get_shows_can_be_applied() {
    let sandbox = Sandbox::new();
    sandbox.apply(&(policy("a", 1) + &policy("b", 1)));
    for form in ["yaml", "json"] {
        let list = sandbox
            .run(&["get", "gnp", "-o", form], EMPTY)
            .succeeds()
            .out;
        assert!(list.contains("GlobalNetworkPolicyList"), "{list}");
        let other = Sandbox::new();
        let export = sandbox
            .run(&["get", "gnp", "a", "-o", form, "--export"], EMPTY)
            .succeeds()
            .out;
        for stripped in ["uid", "resourceVersion", "generation", "creationTimestamp"] {
            assert!(list.contains(stripped) && !export.contains(stripped));
        }
        other
            .run(&["create", "-f", "-"], &export)
            .succeeds()
            .says("Successfully created 1 'GlobalNetworkPolicy' resource(s)\n");
        sandbox
            .run(&["apply", "-f", "-"], &list)
            .succeeds()
            .says("Successfully applied 2 'GlobalNetworkPolicy' resource(s)\n");
    }
}

#[test]
fn get_tells_what_is_missing() {
    let sandbox = Sandbox::new();
    sandbox.apply(&policy("a", 1));
    sandbox
        .run(&["get", "gnp", "a", "b"], EMPTY)
        .fails()
        .says("NAME   TIER\na      default\n")
        .complains("resource does not exist: GlobalNetworkPolicy(b)");
    sandbox
        .run(&["get", "hep"], EMPTY)
        .succeeds()
        .says("NAME   NODE\n");
    sandbox
        .run(&["get", "pol"], EMPTY)
        .fails()
        .complains("use `gnp`");
    sandbox
        .run(&["get", "ipp"], EMPTY)
        .fails()
        .complains("kind IPPool is not enforced by this release");
    sandbox
        .run(&["get", "gnp", "--store", "/nowhere"], EMPTY)
        .fails()
        .complains("/nowhere");
}

#[test]
fn half_written_file_is_told_and_does_not_hide_the_others() {
    let sandbox = Sandbox::new();
    sandbox.apply(&(policy("a", 1) + &policy("b", 1)));
    let text = sandbox.stored("globalnetworkpolicy.b.yaml");
    let (half, _) = text.split_once("egress:").unwrap();
    sandbox.write(
        "store/globalnetworkpolicy.b.yaml",
        &format!("{half}egress: [{{"),
    );

    sandbox
        .run(&["get", "gnp"], EMPTY)
        .fails()
        .says("NAME   TIER\na      default\n")
        .complains("globalnetworkpolicy.b.yaml: document 1");
    sandbox
        .run(&["get", "gnp", "a"], EMPTY)
        .succeeds()
        .complains("Warning: ");
    sandbox.apply(&policy("c", 1));
    sandbox.apply(&policy("b", 2));
    sandbox
        .run(&["get", "gnp"], EMPTY)
        .succeeds()
        .says("NAME   TIER\na      default\nb      default\nc      default\n");
}

#[test]
fn object_in_two_files_is_told() {
    let sandbox = Sandbox::new();
    sandbox.apply(&(policy("a", 1) + &policy("b", 1)));
    sandbox.write("store/copy.yaml", &policy("a", 2));
    sandbox
        .run(&["get", "gnp"], EMPTY)
        .succeeds()
        .says("NAME   TIER\na      default\na      default\nb      default\n")
        .complains("Warning: GlobalNetworkPolicy(a)")
        .complains("copy.yaml and globalnetworkpolicy.a.yaml");
    let done = sandbox.run(&["get", "gnp", "b"], EMPTY).succeeds();
    assert_eq!(done.err, "");
}

const OTHER_KINDS: &str = "\
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: platform}
spec: {order: 100, defaultAction: Pass}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: partners, labels: {role: partner}}
spec: {nets: [192.0.2.0/24, \"2001:db8::/32\"]}
---
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {name: partners, namespace: web}
spec: {nets: [198.51.100.7]}
---
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {name: own, namespace: default}
spec: {nets: [203.0.113.0/24]}
---
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: base}
spec: {labelsToApply: {zone: a, role: edge}}
---
apiVersion: projectcalico.org/v3
kind: StagedGlobalNetworkPolicy
metadata: {name: platform.try}
spec: {tier: platform, order: 5, selector: has(x), ingress: [{action: Deny}]}
";

#[test]
fn every_kind_has_its_columns() {
    let sandbox = Sandbox::new();
    sandbox.apply(OTHER_KINDS);
    let get = |arguments: &str| {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        sandbox
            .run(&[&["get"], &arguments[..]].concat(), EMPTY)
            .succeeds()
            .out
    };
    assert_eq!(get("tiers"), "NAME       ORDER\nplatform   100\n");
    assert_eq!(
        get("tier -o custom-columns=default-action,NAME"),
        "DEFAULT-ACTION   NAME\nPass             platform\n"
    );
    assert_eq!(
        get("gnetsets -o wide"),
        "NAME       NETS\npartners   192.0.2.0/24,2001:db8::/32\n"
    );
    assert_eq!(
        get("pro -o wide"),
        "NAME   LABELS\nbase   role=edge,zone=a\n"
    );
    assert_eq!(
        get("sgnp -o wide"),
        "NAME           TIER       ORDER   SELECTOR\nplatform.try   platform   5       has(x)\n"
    );
    assert_eq!(get("netset"), "NAMESPACE   NAME\ndefault     own\n");
    assert_eq!(
        get("netsets -n web -o wide"),
        "NAMESPACE   NAME       NETS\nweb         partners   198.51.100.7\n"
    );
    assert_eq!(
        get("netset -a"),
        "NAMESPACE   NAME\ndefault     own\nweb         partners\n"
    );
    sandbox
        .run(&["delete", "netset", "partners", "-n", "web"], EMPTY)
        .succeeds()
        .says("Successfully deleted 1 'NetworkSet' resource(s)\n");
    assert_eq!(get("netset -a"), "NAMESPACE   NAME\ndefault     own\n");
}

#[test]
fn wrong_columns_and_namespaces_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.apply(OTHER_KINDS);
    sandbox
        .run(&["get", "tier", "-o", "custom-columns=NAME,NODE"], EMPTY)
        .fails()
        .complains("expected headings of Tier (NAME, ORDER, DEFAULT-ACTION), found \"NODE\"");
    sandbox
        .run(&["get", "tier", "-n", "web"], EMPTY)
        .fails()
        .complains("--namespace: expected a kind that lives in a namespace");
    sandbox
        .run(&["delete", "gnetset", "partners", "-n", "web"], EMPTY)
        .fails()
        .complains("found GlobalNetworkSet, which is global");
    let done = sandbox.run(&["get", "tier", "-o", "xml"], EMPTY);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.err.contains("custom-columns=HEADING"), "{done:?}");
}
