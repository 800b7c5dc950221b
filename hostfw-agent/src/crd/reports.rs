//! Definitions of what the agents write. A test of `publish` holds the fields to
//! those that are written.

use serde_json::{Value, json};

/// A definition of what agents write.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportCrd {
    /// Its file in `deploy/crds`.
    pub file: String,
    /// The object.
    pub value: Value,
}

/// The definitions of all that agents write.
#[must_use]
pub fn reports() -> Vec<ReportCrd> {
    let condition = |name: &str| format!(".status.conditions[?(@.type==\"{name}\")].status");
    let columns: Vec<Value> = [
        ("Programmed", "string", condition("Programmed")),
        ("Accepted", "string", condition("Accepted")),
        ("Degraded", "string", condition("Degraded")),
        ("Endpoints", "integer", ".status.endpoints.total".to_owned()),
        ("Generation", "integer", ".status.generation".to_owned()),
        ("Age", "date", ".metadata.creationTimestamp".to_owned()),
    ]
    .into_iter()
    .map(|(name, kind, path)| json!({"name": name, "type": kind, "jsonPath": path}))
    .collect();
    let value = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "nodeenforcements.hostfw.io"},
        "spec": {
            "group": "hostfw.io",
            "names": {
                "kind": "NodeEnforcement",
                "listKind": "NodeEnforcementList",
                "plural": "nodeenforcements",
                "singular": "nodeenforcement",
                "shortNames": ["nenf"],
            },
            "scope": "Cluster",
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "description": "NodeEnforcement: what is enforced on the node of the same \
                                    name, as its agent says; see docs/status.md of hostfw.",
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "status": status(),
                    },
                }},
            }],
        },
    });
    vec![ReportCrd {
        file: "hostfw.io/nodeenforcements.yaml".to_owned(),
        value,
    }]
}

fn status() -> Value {
    let text = || json!({"type": "string"});
    let count = || json!({"type": "integer", "format": "int64", "minimum": 0});
    let list = |fields: Value| json!({"type": "array", "items": fields});
    let texts = |names: &[&str]| {
        let fields = names.iter().map(|name| ((*name).to_owned(), text()));
        json!({"type": "object", "properties": Value::Object(fields.collect())})
    };
    let counts = |names: &[&str]| {
        let fields = names.iter().map(|name| ((*name).to_owned(), count()));
        json!({"type": "object", "properties": Value::Object(fields.collect())})
    };
    let mut hook = texts(&["ingress", "egress"]);
    hook["properties"]["interfaces"] = count();
    let mut condition = texts(&["type", "status", "reason", "message"]);
    condition["properties"]["lastTransitionTime"] =
        json!({"type": "string", "format": "date-time"});
    json!({
        "type": "object",
        "properties": {
            "agentVersion": text(),
            "wantedRevision": text(),
            "enforcedRevision": text(),
            "generation": count(),
            "observeOnly": {"type": "boolean"},
            "endpoints": counts(&["total", "programmed", "policies"]),
            "hooks": list(hook),
            "objects": counts(&["total", "enforced", "pending", "lastGood", "refused"]),
            "conditions": list(condition),
            "fallbacks": list(texts(&["endpoint", "interface", "hook", "reason"])),
            "failures": list(texts(&["endpoint", "interface", "condition", "reason", "message"])),
            "notEnforced": list(texts(&["object", "field", "message"])),
            "problems": list(texts(&["object", "message"])),
            "leftOut": count(),
        },
    })
}
