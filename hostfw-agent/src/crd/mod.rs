//! The kinds as `CustomResourceDefinition`s, for clusters that do not have
//! them.
//!
//! Shapes and descriptions come from the resource types themselves; what values
//! are legal is added by [`rules`], as far as an API server can check it within
//! its limits. It refuses less than [`validate`](crate::validate), never more,
//! but for numbers in quotes that begin with zeros.

#![forbid(unsafe_code)]

mod reports;
mod rules;
mod shape;

use serde_json::{Value, json};

use crate::model::Kind;

pub use reports::{ReportCrd, reports};

/// A definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Crd {
    /// The kind that it defines.
    pub kind: Kind,
    /// Its file in `deploy/crds`: `projectcalico.org/hostendpoints.yaml`.
    pub file: String,
    /// The object.
    pub value: Value,
}

/// What users call a kind.
struct Names {
    plural: &'static str,
    short: &'static [&'static str],
    /// Heading, path, and whether only `-o wide` shows it.
    columns: &'static [(&'static str, &'static str, &'static str, bool)],
}

/// The definitions of all kinds but `Node`, which Kubernetes has itself.
#[must_use]
pub fn all() -> Vec<Crd> {
    Kind::ALL.into_iter().filter_map(of).collect()
}

fn of(kind: Kind) -> Option<Crd> {
    let names = names(kind)?;
    let (group, version) = kind.api_version().split_once('/')?;
    let singular = kind.name().to_ascii_lowercase();
    let mut columns: Vec<Value> = names
        .columns
        .iter()
        .map(|&(name, kind, path, wide)| {
            let mut column = json!({"name": name, "type": kind, "jsonPath": path});
            if wide {
                column["priority"] = json!(1);
            }
            column
        })
        .collect();
    columns.push(json!({
        "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"
    }));
    let value = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{group}", names.plural)},
        "spec": {
            "group": group,
            "names": {
                "kind": kind.name(),
                "listKind": format!("{}List", kind.name()),
                "plural": names.plural,
                "singular": singular,
                "shortNames": names.short,
            },
            "scope": if kind.is_namespaced() { "Namespaced" } else { "Cluster" },
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": schema(kind)},
            }],
        },
    });
    Some(Crd {
        kind,
        file: format!("{group}/{}.yaml", names.plural),
        value,
    })
}

/// The schema of a whole object.
fn schema(kind: Kind) -> Value {
    let mut schema = json!({
        "type": "object",
        "description": format!("{}: see docs/policy.md of hostfw.", kind.name()),
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": shape::of_spec(kind),
        },
    });
    rules::add(kind, &mut schema);
    schema
}

const fn names(kind: Kind) -> Option<Names> {
    const TIER: (&str, &str, &str, bool) = ("Tier", "string", ".spec.tier", false);
    const ORDER: (&str, &str, &str, bool) = ("Order", "number", ".spec.order", false);
    const SELECTOR: (&str, &str, &str, bool) = ("Selector", "string", ".spec.selector", true);
    Some(match kind {
        Kind::HostEndpoint => Names {
            plural: "hostendpoints",
            short: &["hep", "heps"],
            columns: &[
                ("Node", "string", ".spec.node", false),
                ("Interface", "string", ".spec.interfaceName", false),
                ("IPs", "string", ".spec.expectedIPs", true),
                ("Profiles", "string", ".spec.profiles", true),
            ],
        },
        Kind::HostEndpointTemplate => Names {
            plural: "hostendpointtemplates",
            short: &["hept", "hepts"],
            columns: &[
                ("Interfaces", "string", ".spec.interfacePattern", false),
                ("Nodes", "string", ".spec.nodeSelector", false),
                ("Order", "number", ".spec.order", true),
            ],
        },
        Kind::GlobalNetworkPolicy => Names {
            plural: "globalnetworkpolicies",
            short: &["gnp", "gnps"],
            columns: &[TIER, ORDER, SELECTOR],
        },
        Kind::StagedGlobalNetworkPolicy => Names {
            plural: "stagedglobalnetworkpolicies",
            short: &["sgnp", "sgnps"],
            columns: &[
                TIER,
                ORDER,
                ("Action", "string", ".spec.stagedAction", false),
                SELECTOR,
            ],
        },
        Kind::GlobalNetworkSet => Names {
            plural: "globalnetworksets",
            short: &["gnetset", "gnetsets"],
            columns: &[("Nets", "string", ".spec.nets", true)],
        },
        Kind::NetworkSet => Names {
            plural: "networksets",
            short: &["netset", "netsets"],
            columns: &[("Nets", "string", ".spec.nets", true)],
        },
        Kind::Tier => Names {
            plural: "tiers",
            short: &[],
            columns: &[ORDER, ("Default", "string", ".spec.defaultAction", false)],
        },
        Kind::Profile => Names {
            plural: "profiles",
            short: &["pro", "pros"],
            columns: &[("Labels", "string", ".spec.labelsToApply", true)],
        },
        Kind::FelixConfiguration => Names {
            plural: "felixconfigurations",
            short: &["felixconfig", "felixconfigs"],
            columns: &[],
        },
        Kind::NodeAddresses => Names {
            plural: "nodeaddresses",
            short: &["naddr", "naddrs"],
            columns: &[],
        },
        // Nobody but Kubernetes and Calico writes them into a cluster.
        Kind::EndpointSlice | Kind::Node | Kind::WorkloadEndpoint => return None,
    })
}
