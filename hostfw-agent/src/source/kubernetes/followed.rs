//! What is followed of a cluster, and what of it only while something refers to
//! it.

use std::{collections::BTreeSet, fmt};

use kube::core::ApiResource;
use serde_json::Value;

use crate::model::Kind;

/// Objects that are listed and watched together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Followed {
    /// Those of a kind, each of which stands for itself.
    Kind(Kind),
    /// Namespaces, each of which stands for a `Profile`.
    Namespace,
    /// Pods, each of which stands for a `WorkloadEndpoint`.
    Pod,
    /// Service accounts, each of which stands for a `Profile`.
    ServiceAccount,
}

impl Followed {
    /// All that may be followed.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let kinds = Kind::ALL.into_iter().map(Self::Kind);
        // No API server holds them: pods stand for them.
        let kinds = kinds.filter(|it| *it != Self::Kind(Kind::WorkloadEndpoint));
        kinds.chain([Self::Namespace, Self::Pod, Self::ServiceAccount])
    }

    /// As in the `kind` field of the objects.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kind(kind) => kind.name(),
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::ServiceAccount => "ServiceAccount",
        }
    }

    /// How Kubernetes serves what is followed only while something refers to it;
    /// `None` of what is always followed, which discovery finds.
    pub(super) fn on_demand(self) -> Option<ApiResource> {
        let (group, plural) = match self {
            Self::Kind(Kind::Node) => ("", "nodes"),
            Self::Kind(Kind::EndpointSlice) => ("discovery.k8s.io", "endpointslices"),
            Self::Namespace => ("", "namespaces"),
            Self::Pod => ("", "pods"),
            Self::ServiceAccount => ("", "serviceaccounts"),
            Self::Kind(_) => return None,
        };
        Some(ApiResource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            api_version: if group.is_empty() {
                "v1".to_owned()
            } else {
                format!("{group}/v1")
            },
            kind: self.name().to_owned(),
            plural: plural.to_owned(),
        })
    }

    /// Whether metadata is all that is asked of the objects.
    pub(super) const fn is_bare(self) -> bool {
        matches!(
            self,
            Self::Kind(Kind::Node) | Self::Namespace | Self::ServiceAccount
        )
    }

    /// What an object, as a user writes it, refers to.
    pub(super) fn needs_of(self, object: &Value) -> Needs {
        let mut needs = Needs::default();
        match self {
            Self::Kind(Kind::HostEndpointTemplate) => needs.add(Self::Kind(Kind::Node)),
            Self::Kind(
                Kind::GlobalNetworkPolicy | Kind::StagedGlobalNetworkPolicy | Kind::Profile,
            ) => {
                for direction in ["ingress", "egress"] {
                    let rules = object["spec"][direction].as_array();
                    for rule in rules.into_iter().flatten() {
                        needs.of_side(&rule["source"]);
                        needs.of_side(&rule["destination"]);
                    }
                }
            }
            Self::Kind(_) | Self::Namespace | Self::Pod | Self::ServiceAccount => {}
        }
        needs
    }
}

impl fmt::Display for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is to be followed for an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs(BTreeSet<Followed>);

impl Needs {
    fn add(&mut self, what: Followed) {
        self.0.insert(what);
    }

    /// And what those are.
    pub(super) fn extend(&mut self, others: &Self) {
        self.0.extend(&others.0);
    }

    pub(super) fn contain(&self, what: Followed) -> bool {
        self.0.contains(&what)
    }

    /// What one side of a rule refers to.
    fn of_side(&mut self, side: &Value) {
        let text = |field: &str| side[field].as_str().unwrap_or_default();
        let namespaces = text("namespaceSelector");
        let accounts = &side["serviceAccounts"];
        let selectors = [
            text("selector"),
            text("notSelector"),
            accounts["selector"].as_str().unwrap_or_default(),
        ];
        if side["services"].is_object() {
            self.add(Followed::Kind(Kind::EndpointSlice));
        }
        // With it, what lives in a namespace is not meant.
        let outside = namespaces
            .chars()
            .filter(|c| !matches!(c, ' ' | '\t'))
            .eq("global()".chars());
        if outside {
            return;
        }
        let named = ["ports", "notPorts"].into_iter().any(|field| {
            let ports = side[field].as_array();
            ports.into_iter().flatten().any(|port| {
                port.as_str()
                    .is_some_and(|port| port.contains(|c: char| c.is_ascii_alphabetic()))
            })
        });
        if named
            || !namespaces.is_empty()
            || accounts.is_object()
            || selectors.iter().any(|text| !text.is_empty())
        {
            self.add(Followed::Pod);
        }
        // Their labels have these prefixes.
        let any = |part: &str| selectors.iter().any(|text| text.contains(part));
        if !namespaces.is_empty() || any("pcns.") {
            self.add(Followed::Namespace);
        }
        if !selectors[2].is_empty() || any("pcsa.") {
            self.add(Followed::ServiceAccount);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_needs_what_it_speaks_of() {
        let [namespace, pod, account] =
            [Followed::Namespace, Followed::Pod, Followed::ServiceAccount];
        let slice = Followed::Kind(Kind::EndpointSlice);
        for (side, expected) in [
            (json!({}), vec![]),
            (
                json!({"nets": ["10.0.0.0/8"], "ports": [80, "1:5"]}),
                vec![],
            ),
            (json!({"selector": "", "namespaceSelector": ""}), vec![]),
            (json!({"selector": "a == 'b'"}), vec![pod]),
            (json!({"notSelector": "a == 'b'"}), vec![pod]),
            (json!({"ports": ["http"]}), vec![pod]),
            (json!({"notPorts": ["http"]}), vec![pod]),
            (json!({"namespaceSelector": "all()"}), vec![namespace, pod]),
            (
                json!({"selector": "has(a)", "namespaceSelector": " global() "}),
                vec![],
            ),
            (json!({"selector": "has(pcns.a)"}), vec![namespace, pod]),
            (json!({"serviceAccounts": {"names": ["a"]}}), vec![pod]),
            (
                json!({"serviceAccounts": {"selector": "has(a)"}}),
                vec![pod, account],
            ),
            (
                json!({"services": {"name": "a", "namespace": "b"}}),
                vec![slice],
            ),
            (json!({"selector": 5, "ports": "x", "services": 1}), vec![]),
            (json!([1]), vec![]),
        ] {
            for field in ["source", "destination"] {
                let policy = json!({"spec": {"egress": [{"action": "Allow"}, {field: side}]}});
                let needs = Followed::Kind(Kind::Profile).needs_of(&policy);
                assert_eq!(needs.0, expected.iter().copied().collect(), "{side}");
                assert_eq!(Followed::Pod.needs_of(&policy), Needs::default());
            }
        }
    }
}
