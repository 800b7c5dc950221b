//! What values are legal (semantics section 1): bounds and patterns, which cost
//! an API server nothing, and CEL rules where fields have to agree.
//!
//! CEL is paid for by an estimate: per rule, what one evaluation may cost, as
//! often as there may be values. So lists with rules inside have a length, and
//! texts that rules look into too. The lengths are those of `validate`.

use serde_json::{Value, json};

use crate::model::{Kind, MOST_ADDRESSES, MOST_ENDPOINTS};

/// Adds what the objects of a kind must keep to.
pub(super) fn add(kind: Kind, schema: &mut Value) {
    let mut at = Schema(schema);
    match kind {
        Kind::HostEndpoint => endpoint(&mut at),
        Kind::HostEndpointTemplate => template(&mut at),
        Kind::GlobalNetworkPolicy => policy(&mut at),
        Kind::StagedGlobalNetworkPolicy => {
            policy(&mut at);
            staged(&mut at);
        }
        Kind::GlobalNetworkSet | Kind::NetworkSet => {
            at.constrain("spec.nets[]", json!({"pattern": NET_OR_ADDRESS}));
        }
        Kind::Tier => tier(&mut at),
        Kind::Profile => {
            rules(&mut at);
            at.constrain("spec.labelsToApply{}", json!({"pattern": LABEL_VALUE}));
        }
        Kind::FelixConfiguration => felix(&mut at),
        Kind::NodeAddresses => addresses(&mut at),
        Kind::EndpointSlice | Kind::Node | Kind::WorkloadEndpoint => {}
    }
}

/// Texts of nets: what they are made of, not what they mean.
const NET: &str = "^[0-9A-Fa-f:.]{2,45}/[0-9]{1,3}$";
const NET_OR_ADDRESS: &str = "^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?$";
const ADDRESS: &str = "^[0-9A-Fa-f:.]{2,45}$";
/// Longest of them: IPv6 with the last part in IPv4's notation, and a length.
const LONGEST_NET: u32 = 49;
const LABEL_VALUE: &str = "^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$";
const PORT_NAME: &str = "^[A-Za-z0-9]([A-Za-z0-9-]{0,13}[A-Za-z0-9])?$";
const PROTOCOL: &str = "^(TCP|UDP|ICMP|ICMPv6|SCTP|UDPLite|[1-9][0-9]{0,2})$";
const PORT_PROTOCOL: &str = "^(TCP|UDP|SCTP|6|17|132)$";
/// A number, a range, or a name.
const PORTS: &str =
    "^([1-9][0-9]{0,4}(:[1-9][0-9]{0,4})?|[A-Za-z0-9]([A-Za-z0-9-]{0,13}[A-Za-z0-9])?)$";

/// A schema that is being added to.
struct Schema<'a>(&'a mut Value);

impl Schema<'_> {
    /// Adds constraints to the schema at a path: `a.b` is a property, `a[]` the
    /// items of a list, `a{}` the values of an object.
    fn constrain(&mut self, path: &str, constraints: Value) {
        let at = self.at(path);
        if let (Some(at), Value::Object(constraints)) = (at.as_object_mut(), constraints) {
            at.extend(constraints);
        }
    }

    /// Adds a rule in CEL to the schema at a path.
    fn rule(&mut self, path: &str, rule: &str, message: &str) {
        let at = self.at(path);
        let rule = json!({"rule": rule, "message": message});
        match at["x-kubernetes-validations"].as_array_mut() {
            Some(rules) => rules.push(rule),
            None => at["x-kubernetes-validations"] = json!([rule]),
        }
    }

    fn at(&mut self, path: &str) -> &mut Value {
        let mut at = &mut *self.0;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let name = part.trim_end_matches("[]").trim_end_matches("{}");
            at = &mut at["properties"][name];
            // A path to nothing would be a rule for nothing.
            assert!(at.is_object(), "{path}: the types have no {name}");
            if part.ends_with("[]") {
                at = &mut at["items"];
            } else if part.ends_with("{}") {
                at = &mut at["additionalProperties"];
            }
        }
        at
    }
}

fn addresses(at: &mut Schema<'_>) {
    at.constrain("spec.endpoints", json!({"maxItems": MOST_ENDPOINTS}));
    at.constrain(
        "spec.endpoints[].name",
        json!({"pattern": "^[a-z0-9.-]{1,253}(/[A-Za-z0-9_.-]{1,15})?$"}),
    );
    at.constrain("spec.endpoints[].labels{}", json!({"pattern": LABEL_VALUE}));
    at.constrain(
        "spec.endpoints[].addresses",
        json!({"maxItems": MOST_ADDRESSES}),
    );
    at.constrain("spec.endpoints[].addresses[]", json!({"pattern": ADDRESS}));
}

fn endpoint(at: &mut Schema<'_>) {
    at.constrain("", json!({"required": ["spec"]}));
    at.constrain("spec", json!({"required": ["node"]}));
    at.constrain("spec.node", json!({"minLength": 1}));
    at.constrain(
        "spec.interfaceName",
        json!({"pattern": r"^(\*|[A-Za-z0-9_.-]{1,15})?$"}),
    );
    at.constrain("spec.expectedIPs[]", json!({"pattern": ADDRESS}));
    at.rule(
        "spec",
        "(has(self.interfaceName) && self.interfaceName != '') || \
         (has(self.expectedIPs) && size(self.expectedIPs) > 0)",
        "interfaceName or expectedIPs, or both, must be given",
    );
    named_ports(at);
}

fn named_ports(at: &mut Schema<'_>) {
    at.constrain("spec.profiles[]", json!({"minLength": 1, "maxLength": 253}));
    at.constrain("spec.ports[].name", json!({"pattern": PORT_NAME}));
    at.constrain("spec.ports[].port", port());
    at.constrain(
        "spec.ports[].protocol",
        json!({"pattern": PORT_PROTOCOL, "minimum": 1, "maximum": 255}),
    );
}

fn port() -> Value {
    json!({"minimum": 1, "maximum": 65535})
}

fn template(at: &mut Schema<'_>) {
    at.constrain("", json!({"required": ["spec"]}));
    at.constrain("spec", json!({"required": ["interfacePattern"]}));
    at.constrain("spec.interfacePattern", json!({"minLength": 1}));
    at.constrain("spec.nodeSelector", json!({"maxLength": 1024}));
    at.constrain("spec.labels{}", json!({"pattern": LABEL_VALUE}));
    at.constrain("spec.labelsFromNode", json!({"maxItems": 64}));
    // A prefix of 253, a slash, a name of 63.
    at.constrain(
        "spec.labelsFromNode[]",
        json!({"minLength": 1, "maxLength": 317}),
    );
    at.rule(
        "spec",
        "!has(self.labels) || !has(self.labelsFromNode) || \
         self.labelsFromNode.all(key, !(key in self.labels))",
        "labelsFromNode may not name what labels holds",
    );
    named_ports(at);
}

fn policy(at: &mut Schema<'_>) {
    // That it is a DNS subdomain, Kubernetes checks itself.
    at.rule(
        "",
        r"self.metadata.name.matches('^[^.]{1,63}([.][^.]{1,63})?$')",
        "the name must be one label, or two joined by a dot, each of at most 63 characters",
    );
    for field in ["selector", "namespaceSelector", "serviceAccountSelector"] {
        at.constrain(&format!("spec.{field}"), json!({"maxLength": 1024}));
    }
    at.constrain(
        "spec.tier",
        json!({"pattern": "^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$"}),
    );
    at.constrain("spec.types", json!({"maxItems": 2}));
    at.constrain(
        "spec.performanceHints[]",
        json!({"enum": ["AssumeNeededOnEveryNode"]}),
    );
    at.rule(
        "spec.types",
        "size(self) < 2 || self[0] != self[1]",
        "each type may stand only once",
    );
    at.rule(
        "spec",
        "!has(self.preDNAT) || !self.preDNAT || \
         (has(self.applyOnForward) && self.applyOnForward)",
        "applyOnForward must be true if preDNAT is",
    );
    at.rule(
        "spec",
        "!has(self.doNotTrack) || !self.doNotTrack || \
         (has(self.applyOnForward) && self.applyOnForward)",
        "applyOnForward must be true if doNotTrack is",
    );
    at.rule(
        "spec",
        "!has(self.preDNAT) || !self.preDNAT || !has(self.doNotTrack) || !self.doNotTrack",
        "preDNAT and doNotTrack may not both be true",
    );
    at.rule(
        "spec",
        "!has(self.preDNAT) || !self.preDNAT || !has(self.egress) || size(self.egress) == 0",
        "a preDNAT policy may not have egress rules",
    );
    at.rule(
        "spec",
        "!has(self.preDNAT) || !self.preDNAT || !has(self.types) || !('Egress' in self.types)",
        "a preDNAT policy may not have the type Egress",
    );
    rules(at);
}

fn staged(at: &mut Schema<'_>) {
    at.constrain(
        "spec.stagedAction",
        json!({"enum": ["", "Set", "Delete", "Learn", "Ignore"]}),
    );
    let lists = ["types", "ingress", "egress", "performanceHints"]
        .map(|field| format!("has(self.{field}) && size(self.{field}) > 0"));
    let texts = ["selector", "namespaceSelector", "serviceAccountSelector"]
        .map(|field| format!("has(self.{field}) && self.{field} != ''"));
    let switches = ["preDNAT", "doNotTrack", "applyOnForward"]
        .map(|field| format!("has(self.{field}) && self.{field}"));
    let given: Vec<String> = [lists.to_vec(), texts.to_vec(), switches.to_vec()]
        .concat()
        .into_iter()
        .map(|given| format!("({given})"))
        .collect();
    at.rule(
        "spec",
        &format!(
            "!has(self.stagedAction) || self.stagedAction != 'Delete' || \
             !(has(self.order) || {})",
            given.join(" || ")
        ),
        "nothing but tier may be given if stagedAction is Delete",
    );
}

/// Rules of a policy or a profile.
fn rules(at: &mut Schema<'_>) {
    for (list, other, side) in [
        ("ingress", "destination", "source"),
        ("egress", "source", "destination"),
    ] {
        let rule = format!("spec.{list}[]");
        at.constrain(&format!("spec.{list}"), json!({"maxItems": 1024}));
        at.constrain(&format!("{rule}.ipVersion"), json!({"enum": [4, 6]}));
        for field in ["protocol", "notProtocol"] {
            at.constrain(
                &format!("{rule}.{field}"),
                json!({"pattern": PROTOCOL, "maxLength": 7, "minimum": 1, "maximum": 255}),
            );
            versions(at, &rule, field);
        }
        for field in ["icmp", "notICMP"] {
            icmp(at, &format!("{rule}.{field}"));
        }
        at.rule(
            &rule,
            &format!(
                "!has(self.icmp) || {}",
                protocol_is(&[("ICMP", 1), ("ICMPv6", 58)])
            ),
            "protocol must be ICMP or ICMPv6 if icmp is given",
        );
        http(at, &rule, list);
        at.rule(
            &rule,
            &format!("!has(self.{other}) || !has(self.{other}.services)"),
            &format!("services may be given for the {side} only"),
        );
        families(at, &rule);
        for end in ["source", "destination"] {
            entity(at, &rule, end);
        }
        at.rule(
            &format!("{rule}.{side}"),
            &service_alone(side),
            "no selectors, nets, serviceAccounts or destination ports may stand beside services",
        );
    }
}

/// A rule's protocol is one of these.
fn protocol_is(these: &[(&str, u8)]) -> String {
    let these: Vec<String> = these
        .iter()
        .map(|(name, number)| {
            format!(
                "self.protocol == '{name}' || self.protocol == {number} || \
                 self.protocol == '{number}'"
            )
        })
        .collect();
    format!("(has(self.protocol) && ({}))", these.join(" || "))
}

const WITH_PORTS: [(&str, u8); 3] = [("TCP", 6), ("UDP", 17), ("SCTP", 132)];

/// ICMP is IPv4's, ICMPv6 is IPv6's.
fn versions(at: &mut Schema<'_>, rule: &str, field: &str) {
    for (name, number, other) in [("ICMP", 1, 6), ("ICMPv6", 58, 4)] {
        at.rule(
            rule,
            &format!(
                "!has(self.ipVersion) || self.ipVersion != {other} || !has(self.{field}) || \
                 !(self.{field} == '{name}' || self.{field} == {number} || \
                 self.{field} == '{number}')"
            ),
            &format!("ipVersion may not be {other} if {field} is {name}"),
        );
    }
}

fn icmp(at: &mut Schema<'_>, path: &str) {
    at.constrain(
        &format!("{path}.type"),
        json!({"minimum": 0, "maximum": 254}),
    );
    at.constrain(
        &format!("{path}.code"),
        json!({"minimum": 0, "maximum": 255}),
    );
    at.rule(
        path,
        "!has(self.code) || has(self.type)",
        "a code needs a type",
    );
}

fn http(at: &mut Schema<'_>, rule: &str, list: &str) {
    if list == "egress" {
        at.rule(rule, "!has(self.http)", "an egress rule may not have http");
        return;
    }
    at.rule(
        rule,
        &format!(
            "!has(self.http) || (self.action == 'Allow' && (!has(self.protocol) || {}))",
            protocol_is(&[("TCP", 6)])
        ),
        "http is for rules with action Allow, and protocol TCP or none",
    );
}

/// All nets of a rule are of one family: the lists agree by their first, and
/// each in itself (see [`entity`]).
fn families(at: &mut Schema<'_>, rule: &str) {
    const LISTS: [&str; 4] = [
        "source.nets",
        "source.notNets",
        "destination.nets",
        "destination.notNets",
    ];
    let missing = |list: &str| {
        let (side, _) = list.split_once('.').unwrap_or((list, ""));
        format!("!has(self.{side}) || !has(self.{list}) || size(self.{list}) == 0")
    };
    for (index, one) in LISTS.iter().enumerate() {
        at.rule(
            rule,
            &format!(
                "!has(self.ipVersion) || {} || self.{one}[0].contains(':') == (self.ipVersion == 6)",
                missing(one)
            ),
            &format!("{one} must be of the family that ipVersion says"),
        );
        for other in &LISTS[index + 1..] {
            at.rule(
                rule,
                &format!(
                    "{} || {} || self.{one}[0].contains(':') == self.{other}[0].contains(':')",
                    missing(one),
                    missing(other)
                ),
                &format!("{one} and {other} must be of one family"),
            );
        }
    }
}

/// One side of a rule.
fn entity(at: &mut Schema<'_>, rule: &str, side: &str) {
    let path = format!("{rule}.{side}");
    for field in ["nets", "notNets"] {
        at.constrain(&format!("{path}.{field}"), json!({"maxItems": 256}));
        at.constrain(
            &format!("{path}.{field}[]"),
            json!({"pattern": NET, "maxLength": LONGEST_NET}),
        );
        // In CEL, a look into each net of each rule would cost too much.
        at.constrain(
            &format!("{path}.{field}"),
            json!({"anyOf": [{"items": {"pattern": "^[^:]*$"}}, {"items": {"pattern": ":"}}]}),
        );
    }
    at.rule(
        &format!("{path}.notNets"),
        "self.all(net, !net.endsWith('/0'))",
        "notNets must leave some address over",
    );
    for field in ["ports", "notPorts"] {
        at.constrain(&format!("{path}.{field}"), json!({"maxItems": 50}));
        at.constrain(
            &format!("{path}.{field}[]"),
            json!({"pattern": PORTS, "maxLength": 15, "minimum": 1, "maximum": 65535}),
        );
        at.rule(
            rule,
            &format!(
                "!has(self.{side}) || !has(self.{side}.{field}) || \
                 size(self.{side}.{field}) == 0 || {} || (!has(self.protocol) && \
                 self.{side}.{field}.all(port, type(port) == string && \
                 port.matches('[A-Za-z]')))",
                protocol_is(&WITH_PORTS)
            ),
            &format!(
                "{side}.{field} needs protocol TCP, UDP or SCTP; names of ports may stand alone"
            ),
        );
    }
    at.constrain(
        &format!("{path}.services"),
        json!({"required": ["name", "namespace"]}),
    );
    for field in ["name", "namespace"] {
        at.constrain(&format!("{path}.services.{field}"), json!({"minLength": 1}));
    }
}

/// What may not stand beside `services`.
fn service_alone(side: &str) -> String {
    let mut absent = vec!["!has(self.serviceAccounts)".to_owned()];
    for text in ["selector", "notSelector", "namespaceSelector"] {
        absent.push(format!("(!has(self.{text}) || self.{text} == '')"));
    }
    let mut lists = vec!["nets", "notNets"];
    if side == "destination" {
        lists.extend(["ports", "notPorts"]);
    }
    for list in lists {
        absent.push(format!("(!has(self.{list}) || size(self.{list}) == 0)"));
    }
    format!("!has(self.services) || ({})", absent.join(" && "))
}

fn tier(at: &mut Schema<'_>) {
    at.constrain("spec.defaultAction", json!({"enum": ["", "Deny", "Pass"]}));
    at.rule(
        "",
        "size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')",
        "the name must be one label of at most 63 characters",
    );
    for (name, order, action) in [
        ("default", "1000000.0", "Deny"),
        ("kube-admin", "1000.0", "Pass"),
        ("kube-baseline", "10000000.0", "Pass"),
    ] {
        let fitting = if action == "Deny" {
            "(!has(self.spec.defaultAction) || self.spec.defaultAction != 'Pass')".to_owned()
        } else {
            format!("has(self.spec.defaultAction) && self.spec.defaultAction == '{action}'")
        };
        at.rule(
            "",
            &format!(
                "self.metadata.name != '{name}' || (has(self.spec) && has(self.spec.order) && \
                 self.spec.order == {order} && {fitting})"
            ),
            &format!("order and defaultAction of the tier {name} are fixed"),
        );
    }
}

fn felix(at: &mut Schema<'_>) {
    at.rule(
        "",
        "self.metadata.name == 'default' || self.metadata.name.startsWith('node.')",
        "the name must be default or node.<name of a node>",
    );
    for list in ["failsafeInboundHostPorts", "failsafeOutboundHostPorts"] {
        at.constrain(&format!("spec.{list}"), json!({"maxItems": 1024}));
        at.constrain(&format!("spec.{list}[].port"), port());
        at.constrain(
            &format!("spec.{list}[].protocol"),
            json!({"enum": ["TCP", "UDP", "SCTP"]}),
        );
        at.constrain(
            &format!("spec.{list}[].net"),
            json!({"pattern": "^([0-9A-Fa-f:.]{2,45}/[0-9]{1,3})?$"}),
        );
    }
    for field in [
        "vxlanPort",
        "genevePort",
        "wireguardListeningPort",
        "wireguardListeningPortV6",
    ] {
        at.constrain(&format!("spec.{field}"), port());
    }
}
