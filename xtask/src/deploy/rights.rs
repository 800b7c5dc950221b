//! What the agent may ask of the API server: what it needs, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

const CALICO: &[&str] = &[
    "felixconfigurations",
    "globalnetworkpolicies",
    "globalnetworksets",
    "hostendpoints",
    "networksets",
    "profiles",
    "stagedglobalnetworkpolicies",
    "tiers",
];
const FOLLOWED: &[&str] = &["list", "watch"];

/// Groups, resources and verbs.
const NEEDED: &[(&str, &[&str], &[&str])] = &[
    ("projectcalico.org", CALICO, FOLLOWED),
    ("crd.projectcalico.org", CALICO, FOLLOWED),
    // For Calico's API server, which asks for them as well.
    ("projectcalico.org", &["tiers"], &["get"]),
    (
        "projectcalico.org",
        &[
            "tier.globalnetworkpolicies",
            "tier.stagedglobalnetworkpolicies",
        ],
        FOLLOWED,
    ),
    (
        "hostfw.io",
        &["hostendpointtemplates", "nodeaddresses"],
        FOLLOWED,
    ),
    (
        "hostfw.io",
        &["nodeaddresses", "nodeenforcements"],
        &["create", "patch"],
    ),
    ("events.k8s.io", &["events"], &["create"]),
    // Whose uid the node's objects refer to.
    ("", &["nodes"], &["get"]),
    (
        "",
        &["namespaces", "nodes", "pods", "serviceaccounts"],
        FOLLOWED,
    ),
    ("discovery.k8s.io", &["endpointslices"], FOLLOWED),
];

/// Verbs by group and resource.
type Rights = BTreeMap<(String, String), BTreeSet<String>>;

/// Holds the roles to what is needed, and has them bound to the pod's account
/// alone.
pub(super) fn of_agent(objects: &[Value], pod: &Value) -> Result<()> {
    for kind in ["Role", "RoleBinding"] {
        let found = of_kind(objects, kind).count();
        ensure!(found == 0, "a {kind} that nothing needs");
    }
    let role = one(objects, "ClusterRole")?;
    let found = granted(role)?;
    let needed = needed();
    for (resource, verbs) in &found {
        let allowed = needed.get(resource);
        let more: Vec<&String> = verbs
            .iter()
            .filter(|verb| allowed.is_none_or(|allowed| !allowed.contains(*verb)))
            .collect();
        ensure!(more.is_empty(), "{resource:?}: nothing needs {more:?}");
    }
    for (resource, verbs) in &needed {
        let missing: Vec<&String> = verbs
            .iter()
            .filter(|verb| !found.get(resource).is_some_and(|it| it.contains(*verb)))
            .collect();
        ensure!(missing.is_empty(), "{resource:?}: lacks {missing:?}");
    }

    let binding = one(objects, "ClusterRoleBinding")?;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
        "name": role["metadata"]["name"]});
    ensure!(
        binding["roleRef"] == role,
        "roleRef: {}",
        binding["roleRef"]
    );
    let account = one(objects, "ServiceAccount")?;
    let metadata = &account["metadata"];
    let subjects = json!([{"kind": "ServiceAccount", "name": metadata["name"],
        "namespace": metadata["namespace"]}]);
    ensure!(
        binding["subjects"] == subjects,
        "expected {subjects}, found {}",
        binding["subjects"]
    );
    // Of what runs under the account, only this pod has its token.
    ensure!(
        pod["serviceAccountName"] == metadata["name"]
            && pod["automountServiceAccountToken"] == true
            && account["automountServiceAccountToken"] == false,
        "the token of the account is not the pod's alone"
    );
    Ok(())
}

fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

fn one<'a>(objects: &'a [Value], kind: &'a str) -> Result<&'a Value> {
    let mut all = of_kind(objects, kind);
    let first = all.next().with_context(|| format!("no {kind}"))?;
    ensure!(all.next().is_none(), "more than one {kind}");
    Ok(first)
}

fn needed() -> Rights {
    let mut rights = Rights::new();
    for (group, resources, verbs) in NEEDED {
        for resource in *resources {
            let at = ((*group).to_owned(), (*resource).to_owned());
            let verbs = verbs.iter().map(|verb| (*verb).to_owned());
            rights.entry(at).or_default().extend(verbs);
        }
    }
    rights
}

/// What the rules of a role grant.
fn granted(role: &Value) -> Result<Rights> {
    let words = |rule: &Value, field: &str| -> Result<Vec<String>> {
        let words = rule[field].as_array();
        let words = words.with_context(|| format!("a rule without {field}: {rule}"))?;
        let words = words.iter().map(|word| word.as_str().map(str::to_owned));
        words
            .collect::<Option<_>>()
            .with_context(|| format!("{field}: expected words, found {rule}"))
    };
    let mut rights = Rights::new();
    for rule in role["rules"].as_array().context("a role without rules")? {
        for resource in words(rule, "resources")? {
            for group in words(rule, "apiGroups")? {
                let verbs = words(rule, "verbs")?;
                let at = (group, resource.clone());
                rights.entry(at).or_default().extend(verbs);
            }
        }
        let fields = rule.as_object().into_iter().flatten();
        for (field, _) in fields {
            ensure!(
                ["apiGroups", "resources", "verbs"].contains(&field.as_str()),
                "a rule with {field}: {rule}"
            );
        }
    }
    Ok(rights)
}

/// What grants just that, for tests.
#[cfg(test)]
pub(super) fn granting() -> Vec<Value> {
    let rules: Vec<Value> = NEEDED
        .iter()
        .map(|(group, resources, verbs)| {
            json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
        })
        .collect();
    let metadata = json!({"name": "hostfw-agent"});
    vec![
        json!({"kind": "ServiceAccount", "automountServiceAccountToken": false,
            "metadata": {"name": "hostfw-agent", "namespace": "hostfw"}}),
        json!({"kind": "ClusterRole", "metadata": metadata, "rules": rules}),
        json!({"kind": "ClusterRoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": "hostfw-agent"},
            "subjects": [{"kind": "ServiceAccount", "name": "hostfw-agent",
                "namespace": "hostfw"}]}),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"serviceAccountName": "hostfw-agent", "automountServiceAccountToken": true})
    }

    #[test]
    fn every_right_too_much_or_too_little_is_found() {
        of_agent(&granting(), &pod()).unwrap();
        for (at, value) in [
            ("/0/automountServiceAccountToken", json!(true)),
            ("/1/rules/0/verbs", json!(["*"])),
            ("/1/rules/0/verbs", json!(["list", "watch", "delete"])),
            ("/1/rules/0/verbs", json!(["list"])),
            ("/1/rules/0/resources", json!(["*"])),
            ("/1/rules/8/apiGroups", json!(["*"])),
            (
                "/1/rules/8/resources",
                json!(["namespaces", "nodes", "pods", "serviceaccounts", "secrets"]),
            ),
            ("/2/roleRef/name", json!("cluster-admin")),
            ("/2/subjects/0/name", json!("default")),
            ("/2/subjects/0/namespace", json!("kube-system")),
        ] {
            let mut all = Value::Array(granting());
            *all.pointer_mut(at).unwrap() = value.clone();
            let found = of_agent(all.as_array().unwrap(), &pod());
            assert!(found.is_err(), "{at}: {value}");
        }
        for kind in ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"] {
            let mut all = granting();
            all.push(json!({"kind": kind, "metadata": {"name": "x"}}));
            assert!(of_agent(&all, &pod()).is_err(), "{kind}");
        }
        let mut other = pod();
        other["serviceAccountName"] = json!("default");
        assert!(of_agent(&granting(), &other).is_err());
        let mut more = granting();
        let rule = json!({"nonResourceURLs": ["*"], "verbs": ["get"]});
        more[1]["rules"].as_array_mut().unwrap().push(rule);
        assert!(of_agent(&more, &pod()).is_err());
    }
}
