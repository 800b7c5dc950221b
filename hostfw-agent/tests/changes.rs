//! What is worked out from what has changed is what would be worked out anew: random
//! sequences of changes of all that a cluster holds, from texts to the image.

#![expect(clippy::expect_used, reason = "what fails ends the test")]

use std::{collections::BTreeMap, sync::Arc};

use hostfw_agent::{
    accept::{Accepted, Acceptor, Assembler, accept},
    compile::{self, compile, compile_with},
    model::Interface,
    select::{self, Selection, select, select_with},
    source::{Snapshot, SourceFile, Text},
};
use serde_json::{Value, json};

const NODE: &str = "node0";

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % bound
    }

    fn chance(&mut self, one_of: usize) -> bool {
        self.below(one_of) == 0
    }

    fn labels(&mut self) -> Value {
        let mut labels = json!({});
        for key in ["app", "tier"] {
            if !self.chance(3) {
                labels[key] = json!(format!("v{}", self.below(3)));
            }
        }
        labels
    }

    fn selector(&mut self) -> String {
        match self.below(6) {
            0 => "all()".to_owned(),
            1 => "has(app)".to_owned(),
            2 => format!("pcns.team == 'v{}'", self.below(3)),
            3 => format!("app == 'v{}' && !has(tier)", self.below(3)),
            4 => format!("tier in {{'v0', 'v{}'}}", self.below(3)),
            _ => format!("app == 'v{}'", self.below(3)),
        }
    }

    /// One side of a rule.
    fn side(&mut self, destination: bool) -> Value {
        let mut side = json!({});
        match self.below(6) {
            0 if !destination => {
                let service = json!({"name": format!("s{}", self.below(3)), "namespace": "n0"});
                side["services"] = service;
                return side;
            }
            1 => side["notSelector"] = json!(self.selector()),
            2 => {
                side["selector"] = json!(self.selector());
                side["notSelector"] = json!(self.selector());
            }
            3 => side["namespaceSelector"] = json!(format!("team == 'v{}'", self.below(3))),
            4 => side["nets"] = json!([format!("172.16.{}.0/24", self.below(9))]),
            _ => side["selector"] = json!(self.selector()),
        }
        if destination && self.chance(3) {
            side["ports"] = json!([format!("port{}", self.below(3)), 443]);
        }
        side
    }

    fn object(&mut self) -> Value {
        const V3: &str = "projectcalico.org/v3";
        let name = self.below(8);
        let namespace = format!("n{}", self.below(3));
        let object = |kind: &str, metadata: Value, spec: Value| {
            json!({"apiVersion": V3,
            "kind": kind, "metadata": metadata, "spec": spec})
        };
        match self.below(20) {
            0..=8 => {
                let addresses: Vec<String> = (0..1 + self.below(2))
                    .map(|_| format!("10.0.{}.{}", self.below(3), self.below(30)))
                    .collect();
                let ports = json!([{"name": format!("port{}", self.below(3)), "protocol": "TCP",
                    "port": 80 + self.below(2)}]);
                object(
                    "WorkloadEndpoint",
                    json!({"name": format!("w{}", self.below(25)), "namespace": namespace,
                        "labels": self.labels()}),
                    json!({"ipNetworks": addresses, "ports": ports,
                        "profiles": [format!("kns.{namespace}")]}),
                )
            }
            9 | 10 => object(
                "Profile",
                json!({"name": format!("kns.{namespace}")}),
                json!({"labelsToApply": {"pcns.team": format!("v{}", self.below(3))}}),
            ),
            11 | 12 => object(
                "GlobalNetworkSet",
                json!({"name": format!("s{name}"), "labels": self.labels()}),
                json!({"nets": [format!("192.0.2.{}", self.below(9)), "10.0.1.0/28"]}),
            ),
            13 => object(
                "NetworkSet",
                json!({"name": format!("s{name}"), "namespace": namespace, "labels": self.labels()}),
                json!({"nets": [format!("198.51.100.{}", self.below(9))]}),
            ),
            14 => {
                let mut spec = json!({"node": format!("node{}", self.below(4)),
                    "interfaceName": "eth0"});
                if !self.chance(3) {
                    spec["expectedIPs"] = json!([format!("10.240.0.{}", self.below(9))]);
                }
                object(
                    "HostEndpoint",
                    json!({"name": format!("h{name}"), "labels": self.labels()}),
                    spec,
                )
            }
            15 => json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": format!("s-{name}"), "namespace": "n0",
                    "labels": {"kubernetes.io/service-name": format!("s{}", self.below(3))}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [format!("10.0.2.{}", self.below(9))]}],
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}),
            _ => {
                let mut rules = Vec::new();
                for _ in 0..1 + self.below(3) {
                    let action = ["Allow", "Deny"][self.below(2)];
                    let (source, destination) = (self.side(false), self.side(true));
                    rules.push(
                        json!({"action": action, "protocol": "TCP", "source": source,
                        "destination": destination}),
                    );
                }
                object(
                    "GlobalNetworkPolicy",
                    json!({"name": format!("p{name}")}),
                    json!({"order": name, "selector": if self.chance(2) { String::new() } else {
                        self.selector() }, "types": ["Ingress"], "ingress": rules}),
                )
            }
        }
    }
}

fn path(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let kind = object["kind"].as_str().unwrap_or_default();
    format!("{kind}/{}/{}", text("namespace"), text("name"))
}

fn interfaces(address: usize) -> Vec<Interface> {
    let interface = |index, name: &str, address: String| Interface {
        index,
        name: name.to_owned(),
        addresses: vec![address.parse().expect("an address")],
        link_header: true,
        loopback: name == "lo",
        up: true,
        master: None,
    };
    vec![
        interface(1, "lo", "127.0.0.1".to_owned()),
        interface(2, "eth0", format!("10.240.0.{address}")),
    ]
}

fn snapshot(files: &BTreeMap<String, Text>) -> Snapshot {
    Snapshot::of(files.iter().map(|(path, text)| SourceFile {
        path: Arc::from(&**path),
        content: Ok(text.clone()),
    }))
}

fn members(selection: &Selection) -> usize {
    let lists = selection.governed.iter().flat_map(|it| &it.lists);
    let policies = lists.flat_map(|list| list.policies());
    let rules = policies.flat_map(|policy| &policy.rules);
    rules
        .flat_map(|rule| [&rule.source, &rule.destination])
        .map(|side| side.members.as_ref().map_or(0, |members| members.len()))
        .sum()
}

#[test]
fn what_follows_changes_is_what_begins_anew() {
    let mut most = 0;
    for seed in 1..=12 {
        let mut random = Random(seed);
        let mut acceptor = Acceptor::default();
        let mut assembler = Assembler::default();
        let mut selected = select::Cache::default();
        let mut compiled = compile::Cache::default();
        let mut accepted = Accepted::default();
        let mut files: BTreeMap<String, Text> = BTreeMap::new();
        for step in 0..120 {
            // Now and then, much at once; a copy that reads the same changes nothing.
            let changes = if random.chance(15) {
                60
            } else {
                random.below(4)
            };
            for _ in 0..changes {
                let object = random.object();
                let path = path(&object);
                if random.chance(4) {
                    let at = random.below(files.len().max(1));
                    let path = files.keys().nth(at).cloned();
                    path.map(|path| files.remove(&path));
                } else {
                    files.insert(path, Text::from(object.to_string()));
                }
            }
            let snapshot = snapshot(&files);
            let interfaces = interfaces(11 + random.below(8) / 7);
            accepted = acceptor.accept(&snapshot, &accepted);
            let model = assembler.model(&accepted);
            let selection = select_with(&model, NODE, &interfaces, &mut selected);
            let image = compile_with(&selection, &mut compiled).expect("it fits");

            let anew = accept(&snapshot, &Accepted::default());
            assert_eq!(anew.problems, [], "seed {seed}, step {step}");
            assert_eq!(accepted, anew, "seed {seed}, step {step}");
            let plain = anew.model();
            assert_eq!(*model, plain, "seed {seed}, step {step}");
            assert_eq!(*assembler.warnings(&accepted), *anew.warnings(&plain));
            let expected = select(&plain, NODE, &interfaces);
            assert_eq!(selection, expected, "seed {seed}, step {step}");
            most = most.max(members(&selection));
            // Where lines stand in an image depends on what was there before; what
            // it enforces does not.
            let fresh = compile(&expected).expect("it fits");
            assert_eq!(image.names, fresh.names, "seed {seed}, step {step}");
            assert_eq!(image.endpoints.len(), fresh.endpoints.len());
        }
    }
    // Selectors stood for something.
    assert!(most > 20, "{most}");
}
