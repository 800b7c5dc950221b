use crate::{
    EMPTY, endpoint, pre_dnat,
    sandbox::{Done, Sandbox},
};

/// A node whose endpoint has a pinhole before DNAT, and rules behind it.
fn resources() -> String {
    endpoint("node1-eth0")
        + &pre_dnat(
            "pinhole",
            10,
            "{action: Allow, protocol: TCP, destination: {selector: has(host-endpoint), ports: \
             [31852]}}\n  - {action: Deny, protocol: TCP, destination: {ports: [31853]}}",
        )
        + "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: \
           inside}\nspec:\n  selector: has(host-endpoint)\n  applyOnForward: true\n  ingress:\n  - \
           {action: Log}\n  - {action: Allow, protocol: ICMP, icmp: {type: 8}}\n  - {action: \
           Allow, destination: {nets: [10.48.0.0/16]}}\n"
}

impl Sandbox {
    /// Asks about node1, which has the resources of a file.
    fn explain(&self, arguments: &[&str], input: &str) -> Done {
        let file = self.write("resources.yaml", &resources());
        let node = [
            "explain",
            "--resources",
            &file,
            "--node",
            "node1",
            "--address",
            "eth0=10.240.0.11/24",
        ];
        self.run(&[&node[..], arguments].concat(), input)
    }

    fn judged(&self, packets: &str) -> Vec<String> {
        let done = self
            .explain(&["--packets", "-", "-o", "json"], packets)
            .succeeds();
        assert_eq!(done.err, "");
        done.out.lines().map(str::to_owned).collect()
    }
}

/// By flags: from outside, for a local process.
const INBOUND: [&str; 9] = [
    "--interface",
    "eth0",
    "--in",
    "--path",
    "local",
    "--protocol",
    "TCP",
    "--source",
    "192.0.2.9:40000",
];

/// A line of JSON: the keys of every packet, and more.
fn line(direction: &str, path: &str, protocol: &str, more: &str) -> String {
    format!(
        "{{\"interface\": \"eth0\", \"direction\": \"{direction}\", \"path\": \"{path}\", \
         \"protocol\": {protocol}, \"source\": \"192.0.2.9\", \"destination\": \
         \"10.240.0.11\"{more}}}\n"
    )
}

fn tcp(direction: &str, path: &str, port: u16, more: &str) -> String {
    let more = format!(", \"sourcePort\": 40000, \"destinationPort\": {port}{more}");
    line(direction, path, "\"TCP\"", &more)
}

#[test]
fn a_packet_by_flags_is_answered_in_words() {
    let sandbox = Sandbox::new();
    let to = |port: &str| {
        let destination = format!("10.240.0.11:{port}");
        let arguments = [&INBOUND[..], &["--destination", &destination]].concat();
        sandbox.explain(&arguments, EMPTY).succeeds()
    };
    to("31852").says(
        "allow: rule ingress[0] of GlobalNetworkPolicy(pinhole) in tier default, at the preDNAT \
         stage\n  rule: {\"action\":\"Allow\",\"protocol\":\"TCP\",\"destination\":{\"ports\":\
         [31852],\"selector\":\"has(host-endpoint)\"}}\n  packet: eth0 in, for a local process: \
         TCP 192.0.2.9:40000 -> 10.240.0.11:31852, new\n  endpoint: HostEndpoint(node1-eth0)\n  \
         stages: untracked no-match, preDNAT allow, normal skipped\n",
    );
    let told = |port| to(port).out.lines().next().map(str::to_owned);
    assert_eq!(
        told("22").as_deref(),
        Some("allow: a fail-safe port, at the normal stage")
    );
    assert_eq!(
        told("80").as_deref(),
        Some(
            "deny: the default action of tier default, whose rules do not match, at the normal \
             stage"
        )
    );
}

#[test]
fn verbose_tells_every_rule_that_was_passed_over() {
    let sandbox = Sandbox::new();
    let arguments = [&INBOUND[..], &["--destination", "10.240.0.11:31853", "-v"]].concat();
    let done = sandbox.explain(&arguments, EMPTY).succeeds();
    let steps: Vec<&str> = done
        .out
        .lines()
        .filter(|line| line.starts_with("  - "))
        .collect();
    assert_eq!(
        steps,
        [
            "  - preDNAT: tier default, GlobalNetworkPolicy(pinhole) [0] Allow: passed over, \
             destination.ports: the packet has TCP, port 31853 of 10.240.0.11",
            "  - preDNAT: tier default, GlobalNetworkPolicy(pinhole) [1] Deny: matches",
        ]
    );
    let arguments = [&arguments[..], &["-o", "json"]].concat();
    let done = sandbox.explain(&arguments, EMPTY).succeeds();
    let line: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(line["endpoint"], "node1-eth0");
    assert_eq!(line["steps"][0]["criterion"], "destination.ports");
    assert_eq!(line["steps"][1]["matched"], true);
}

#[test]
fn packets_as_lines_are_answered_line_by_line() {
    let packets = [
        tcp("in", "local", 31852, ""),
        tcp("in", "local", 31853, ", \"state\": \"new\""),
        tcp("in", "local", 31853, ", \"state\": \"established\""),
        tcp("in", "local", 22, ", \"state\": \"invalid\""),
        tcp("in", "local", 22, ", \"icmpType\": null"),
        tcp(
            "in",
            "forward",
            80,
            ", \"translatedDestination\": \"10.48.0.9\", \"translatedDestinationPort\": 8080",
        ),
        "\n".to_owned(),
        tcp("in", "forward", 80, ""),
        line("in", "local", "1", ", \"icmpType\": 8, \"icmpCode\": 0"),
        line("in", "local", "\"icmp\"", ", \"icmpType\": 0"),
        tcp("out", "local", 80, ""),
        tcp("out", "forward", 80, ""),
        tcp(
            "out",
            "local",
            80,
            ", \"translatedDestination\": \"10.48.0.9\", \"translatedDestinationPort\": 6443",
        ),
        tcp("in", "local", 80, "").replace("eth0", "eth1"),
    ];
    let stages = |outcomes: [&str; 3], last: &str| {
        let [untracked, pre_dnat, other] = outcomes;
        format!(
            "[{{\"stage\":\"untracked\",\"outcome\":\"{untracked}\"}},{{\"stage\":\"preDNAT\",\
             \"outcome\":\"{pre_dnat}\"}},{{\"stage\":\"{last}\",\"outcome\":\"{other}\"}}]"
        )
    };
    let by = |verdict: &str, what: &str, reason: &str, stages: &str| {
        format!("{{\"verdict\":\"{verdict}\",{what},\"reason\":\"{reason}\",\"stages\":{stages}}}")
    };
    let rule = |stage: &str, policy: &str, rule: u16| {
        format!(
            "\"stage\":\"{stage}\",\"tier\":\"default\",\"policy\":\"{policy}\",\"rule\":{rule}"
        )
    };
    let bare =
        |stage: &str| format!("\"stage\":{stage},\"tier\":null,\"policy\":null,\"rule\":null");
    let tier = |stage: &str| {
        format!("\"stage\":\"{stage}\",\"tier\":\"default\",\"policy\":null,\"rule\":null")
    };
    let none = "no-match";
    // Decided by the last stage.
    let last = |verdict: &str, what: &str, reason: &str, stage: &str| {
        by(verdict, what, reason, &stages([none, none, verdict], stage))
    };
    let out_local = "[{\"stage\":\"untracked\",\"outcome\":\"no-match\"},{\"stage\":\"normal\",\
                     \"outcome\":\"deny\"}]";
    let out_forward = "[{\"stage\":\"forward\",\"outcome\":\"no-match\"}]";
    let expected = [
        by(
            "allow",
            &rule("preDNAT", "pinhole", 0),
            "rule",
            &stages([none, "allow", "skipped"], "normal"),
        ),
        by(
            "deny",
            &rule("preDNAT", "pinhole", 1),
            "rule",
            &stages([none, "deny", "skipped"], "normal"),
        ),
        by(
            "allow",
            &bare("null"),
            "established",
            &stages([none, "skipped", "skipped"], "normal"),
        ),
        by(
            "deny",
            &bare("\"preDNAT\""),
            "invalid",
            &stages([none, "deny", "skipped"], "normal"),
        ),
        by(
            "allow",
            &bare("\"normal\""),
            "failsafe",
            &stages([none, none, "allow"], "normal"),
        ),
        last("allow", &rule("forward", "inside", 2), "rule", "forward"),
        last("deny", &tier("forward"), "tier-default", "forward"),
        last("allow", &rule("normal", "inside", 1), "rule", "normal"),
        last("deny", &tier("normal"), "tier-default", "normal"),
        by("deny", &bare("\"normal\""), "endpoint-default", out_local),
        by("allow", &bare("null"), "no-match", out_forward),
        by(
            "allow",
            &bare("\"normal\""),
            "failsafe",
            &out_local.replace("deny", "allow"),
        ),
        by(
            "allow",
            &bare("null"),
            "no-endpoint",
            &stages(["skipped"; 3], "normal"),
        ),
    ];
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.judged(&packets.concat()), expected);

    // The same from a file, by the tables, and compared.
    let file = sandbox.write("packets.jsonl", &packets.concat());
    for judge in ["reference", "tables"] {
        let done = sandbox
            .explain(&["--packets", &file, "-o", "json", "--judge", judge], EMPTY)
            .succeeds();
        assert_eq!(done.out.lines().collect::<Vec<_>>(), expected, "{judge}");
    }
}

#[test]
fn resources_come_from_files_folders_documents_and_lists() {
    let sandbox = Sandbox::new();
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: projectcalico.org/v3\n  kind: \
                HostEndpoint\n  metadata: {name: a, labels: {host-endpoint: ingress}}\n  spec: \
                {node: node1, interfaceName: eth0}\n- apiVersion: projectcalico.org/v3\n  kind: \
                Tier\n  metadata: {name: t}\n  spec: {order: 1}\n";
    sandbox.write("folder/list.yaml", list);
    sandbox.write(
        "folder/deeper/more.json",
        "{\"apiVersion\": \"projectcalico.org/v3\", \"kind\": \
        \"GlobalNetworkPolicy\", \"metadata\": {\"name\": \"t.j\"}, \"spec\": {\"tier\": \"t\", \
        \"ingress\": [{\"action\": \"Pass\"}]}}",
    );
    sandbox.write("folder/notes.txt", "no resource");
    let folder = sandbox.path("folder").display().to_string();
    let file = sandbox.write(
        "two.yml",
        &(pre_dnat("x", 1, "{action: Log}") + &pre_dnat("z", 2, "{action: Deny}")),
    );
    let arguments = [
        "explain",
        "--resources",
        &folder,
        &file,
        "--node",
        "node1",
        "--packets",
        "-",
        "-o",
        "json",
        "-v",
    ];
    let done = sandbox
        .run(&arguments, &tcp("in", "local", 80, ""))
        .succeeds();
    let line: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&line["policy"], &line["rule"]), (&"z".into(), &0.into()));
    assert_eq!(line["steps"][0]["policy"], "x");
    let input = tcp("in", "local", 80, "").replace("\"TCP\"", "6");
    let reply = sandbox.run(&arguments, &input).succeeds().out;
    assert_eq!(reply, done.out);
}

#[track_caller]
fn is_bad_input(done: Done, message: &str) {
    assert_eq!(done.code, Some(2), "{done:?}");
    done.says("").complains(message);
}

#[test]
fn invalid_resources_are_bad_input() {
    let sandbox = Sandbox::new();
    for (text, message) in [
        (
            pre_dnat("p", 1, "{action: Allow, protocol: tcp}"),
            "GlobalNetworkPolicy(p): spec.ingress[0].protocol",
        ),
        (endpoint("a") + &endpoint("a"), "expected the object once"),
        ("kind: [".to_owned(), "document 1"),
        (
            pre_dnat("p", 1, "{action: Reject}"),
            "spec.ingress[0].action",
        ),
        (String::new(), "--resources: expected resources, found none"),
    ] {
        let file = sandbox.write("bad.yaml", &text);
        let arguments = [
            "explain",
            "--resources",
            &file,
            "--node",
            "node1",
            "--packets",
            "-",
        ];
        is_bad_input(
            sandbox.run(&arguments, &tcp("in", "local", 80, "")),
            message,
        );
    }
    let arguments = [
        "explain",
        "--resources",
        "/nowhere",
        "--node",
        "node1",
        "--packets",
        "-",
    ];
    is_bad_input(sandbox.run(&arguments, EMPTY), "/nowhere");
}

#[test]
fn packets_that_are_none_are_bad_input() {
    let sandbox = Sandbox::new();
    let icmp = |more: &str| line("in", "local", "\"ICMP\"", more);
    for (packet, message) in [
        (
            tcp("inside", "local", 80, ""),
            "line 2: direction: expected one of in, out, found \"inside\"",
        ),
        (
            tcp("in", "pod", 80, ""),
            "line 2: path: expected one of local, forward, found \"pod\"",
        ),
        (
            line("in", "local", "\"TCP\"", ""),
            "line 2: destinationPort: expected a port, for protocol TCP has ports, found nothing",
        ),
        (
            tcp("in", "local", 80, ", \"state\": 1"),
            "line 2: state: expected one of new, established, invalid, found 1",
        ),
        (
            tcp("in", "local", 80, ", \"port\": 1"),
            "found the unknown key \"port\"",
        ),
        (
            tcp("in", "local", 80, ", \"sourcePort\": 1"),
            "line 2: sourcePort: expected the key once, found it twice",
        ),
        (
            tcp("in", "local", 80, ", \"translatedDestinationPort\": -1"),
            "line 2: translatedDestinationPort: expected a port from 0 to 65535, found -1",
        ),
        (
            tcp(
                "in",
                "local",
                80,
                ", \"translatedDestination\": \"fd00::1\"",
            ),
            "line 2: translatedDestination: expected an IPv4 address, as 10.240.0.11 is, found \
             fd00::1",
        ),
        (
            tcp("in", "local", 80, "").replace("192.0.2.9", "fd00::9"),
            "line 2: destination: expected an IPv6 address, as fd00::9 is, found 10.240.0.11",
        ),
        (
            tcp("in", "local", 80, "").replace("192.0.2.9", "192.0.2.999"),
            "line 2: source: expected an IPv4 or IPv6 address, found \"192.0.2.999\"",
        ),
        (
            tcp("in", "local", 80, ", \"icmpType\": 8"),
            "line 2: icmpType: expected nothing, for the protocol is TCP, found 8",
        ),
        (
            icmp(", \"icmpType\": 256"),
            "line 2: icmpType: expected a number from 0 to 255, found 256",
        ),
        (
            icmp(", \"icmpCode\": 1"),
            "line 2: icmpType: expected a type, for a code is given, found nothing",
        ),
        (
            icmp(", \"sourcePort\": 7"),
            "line 2: sourcePort: expected no port, for protocol ICMP has none, found 7",
        ),
        (
            line("in", "local", "\"ICMPv6\"", ""),
            "line 2: source: expected an IPv6 address, for the protocol is ICMPv6, found 192.0.2.9",
        ),
        (
            line("in", "local", "\"HTTP\"", ""),
            "line 2: protocol: expected TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number",
        ),
        (
            line("in", "local", "44", "")
                .replace("192.0.2.9", "fd00::9")
                .replace("10.240.0.11", "fd00::11"),
            "line 2: protocol: expected the protocol behind the extension headers of IPv6, found \
             44",
        ),
        (
            tcp("in", "local", 80, "")
                .replace("192.0.2.9", "::ffff:192.0.2.9")
                .replace("10.240.0.11", "fd00::11"),
            "line 2: source: expected an IPv4 address in its own notation, as 192.0.2.9, found \
             ::ffff:192.0.2.9",
        ),
        (
            line("in", "local", "256", ""),
            "line 2: protocol: expected a name or a number from 0 to 255, found 256",
        ),
        (
            tcp("in", "local", 80, "").replace("\"interface\": \"eth0\", ", ""),
            "line 2: interface: expected the name of an interface, found nothing",
        ),
        (
            "80\n".to_owned(),
            "line 2: expected one JSON object, found \"80\"",
        ),
        (
            "{\n".to_owned(),
            "line 2: expected one JSON object, found \"{\" (EOF",
        ),
    ] {
        let good = tcp("in", "local", 80, "");
        let packets = good.clone() + &packet + &good;
        let done = sandbox.explain(&["--packets", "-", "-o", "json"], &packets);
        assert!(done.err.starts_with("<stdin>: line 2: "), "{done:?}");
        is_bad_input(done, message);
    }
    is_bad_input(
        sandbox.explain(&["--packets", "/nowhere"], EMPTY),
        "--packets /nowhere: ",
    );
}

#[test]
fn flags_that_are_no_packet_are_bad_input() {
    let sandbox = Sandbox::new();
    let to = |destination: &str, more: &[&str]| {
        sandbox.explain(
            &[&INBOUND[..], &["--destination", destination], more].concat(),
            EMPTY,
        )
    };
    for (done, message) in [
        (sandbox.explain(&["--in"], EMPTY), "--destination"),
        (sandbox.explain(&INBOUND, EMPTY), "--destination"),
        (to("10.240.0.11:80", &["--out"]), "--in"),
        (to("10.240.0.11:80", &["--path", "pod"]), "--path"),
        (
            to("10.240.0.11", &[]),
            "--destination: expected a port, for protocol TCP has ports, found nothing",
        ),
        (
            to("nowhere:80", &[]),
            "--destination: expected ADDRESS or ADDRESS:PORT (an IPv6 address in brackets, if a \
             port follows), found \"nowhere:80\"",
        ),
        (
            to("[fd00::1]:80", &[]),
            "--destination: expected an IPv4 address, as 192.0.2.9 is, found fd00::1",
        ),
        (
            to("10.240.0.11:80", &["--icmp-type", "8"]),
            "--icmp-type: expected nothing, for the protocol is TCP, found 8",
        ),
        (
            to("10.240.0.11:80", &["--packets", "-"]),
            "--packets: expected no flags of a packet beside it, found some",
        ),
        (to("10.240.0.11:80", &["--judge", "me"]), "--judge"),
        (to("10.240.0.11:80", &["-o", "yaml"]), "--output"),
    ] {
        is_bad_input(done, message);
    }
    let file = sandbox.write("r.yaml", &resources());
    is_bad_input(
        sandbox.run(&["explain", "--resources", &file, "--packets", "-"], EMPTY),
        "--node",
    );
    is_bad_input(
        sandbox.run(&["explain", "--node", "node1", "--packets", "-"], EMPTY),
        "--node: expected --resources beside it",
    );
    is_bad_input(
        sandbox.explain(&["--resources", "-", "--packets", "-"], EMPTY),
        "expected standard input to be named once",
    );
}

const ENFORCED: &str = r#"{"node": "node1", "generation": 7, "interfaces": [{"index": 2, "name":
    "eth0", "addresses": ["10.240.0.11"], "linkHeader": true, "loopback": false, "up": true}],
    "resources": [{"apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint", "metadata":
    {"name": "a"}, "spec": {"node": "node1", "interfaceName": "eth0"}}]}"#;

const FLOWS: &str = r#"{"flows": [{"protocol": 6, "remote": "192.0.2.9", "remotePort": 40000,
    "local": "10.240.0.11", "localPort": 80, "openedByRemote": true, "confirmed": true},
    {"protocol": 6, "remote": "192.0.2.9", "remotePort": 40000, "local": "10.240.0.11",
    "localPort": 81, "openedByRemote": true, "confirmed": false}]}"#;

#[test]
fn a_live_node_tells_its_generation_and_whether_an_entry_decides_first() {
    let sandbox = Sandbox::new();
    sandbox.agent_says(FLOWS, ENFORCED);
    let packets: String = [80, 81, 82]
        .map(|port| tcp("in", "local", port, ""))
        .concat();
    let arguments = ["explain", "--packets", "-", "-o", "json"];
    let done = sandbox.run(&arguments, &packets).succeeds();
    let told: Vec<serde_json::Value> = done
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let conntrack: Vec<_> = told.iter().map(|line| &line["conntrack"]).collect();
    assert_eq!(
        conntrack,
        [
            &"established".into(),
            &"half-open".into(),
            &serde_json::Value::Null
        ]
    );
    for line in &told {
        // What policy says, all the same.
        assert_eq!(
            (&line["verdict"], &line["generation"]),
            (&"deny".into(), &7.into())
        );
        assert_eq!(line["reason"], "endpoint-default");
    }

    let text = sandbox.run(&arguments[..3], &packets).succeeds().out;
    assert!(
        text.starts_with("node node1, generation 7\ndeny: nothing allows it"),
        "{text}"
    );
    assert!(
        text.contains("\n  conntrack: an entry decides first"),
        "{text}"
    );
    assert!(text.contains("\n  conntrack: no entry\n"), "{text}");

    let elsewhere = packets.replace("eth0", "eth7");
    sandbox
        .run(&arguments, &elsewhere)
        .succeeds()
        .complains("Warning: node1 has no interface eth7 (it has eth0)");
}

#[test]
fn without_an_agent_it_is_no_bad_input() {
    let sandbox = Sandbox::new();
    sandbox
        .run(&["explain", "--packets", "-"], &tcp("in", "local", 80, ""))
        .fails()
        .complains("no agent answers on");
}

#[test]
fn what_is_not_enforced_is_told() {
    let sandbox = Sandbox::new();
    let file = sandbox.write(
        "r.yaml",
        &(endpoint("a")
            + &pre_dnat(
                "p",
                1,
                "{action: Allow, source: {services: {name: web, namespace: prod}}}",
            )),
    );
    let arguments = [
        "explain",
        "--resources",
        &file,
        "--node",
        "node1",
        "--packets",
        "-",
    ];
    sandbox
        .run(&arguments, &tcp("in", "local", 80, ""))
        .succeeds()
        .complains("Warning: GlobalNetworkPolicy(p): spec.ingress[0].source.services");
}
