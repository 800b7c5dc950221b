//! What is followed of a cluster, and what of it only while something refers to
//! it.

use std::fmt;

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

    /// How the API server serves what is followed only while something refers to it;
    /// `None` of what is always followed, which discovery finds.
    pub(super) fn on_demand(self) -> Option<ApiResource> {
        let (group, version, plural) = match self {
            Self::Kind(Kind::Node) => ("", "v1", "nodes"),
            Self::Kind(Kind::NodeAddresses) => ("hostfw.io", "v1alpha1", "nodeaddresses"),
            Self::Kind(Kind::EndpointSlice) => ("discovery.k8s.io", "v1", "endpointslices"),
            Self::Namespace => ("", "v1", "namespaces"),
            Self::Pod => ("", "v1", "pods"),
            Self::ServiceAccount => ("", "v1", "serviceaccounts"),
            Self::Kind(_) => return None,
        };
        Some(ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: if group.is_empty() {
                version.to_owned()
            } else {
                format!("{group}/{version}")
            },
            kind: self.name().to_owned(),
            plural: plural.to_owned(),
        })
    }

    /// By which it is told from others in a word.
    const fn bit(self) -> u32 {
        const KINDS: u32 = Kind::ALL.len() as u32;
        let number = match self {
            Self::Kind(kind) => kind as u32,
            Self::Namespace => KINDS,
            Self::Pod => KINDS + 1,
            Self::ServiceAccount => KINDS + 2,
        };
        1 << number
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
            Self::Kind(Kind::HostEndpointTemplate) => {
                needs.add(Self::Kind(Kind::Node));
                needs.hidden = true;
            }
            Self::Kind(Kind::HostEndpoint) => {
                let given = object["spec"]["expectedIPs"].as_array();
                needs.hidden = given.is_none_or(Vec::is_empty);
            }
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// A bit for each.
    followed: u32,
    /// There are endpoints whose addresses only their nodes know.
    hidden: bool,
}

impl Needs {
    fn add(&mut self, what: Followed) {
        self.followed |= what.bit();
    }

    /// And what those are.
    pub(super) const fn extend(&mut self, others: Self) {
        self.followed |= others.followed;
        self.hidden |= others.hidden;
    }

    /// Whether it is to be followed. What nodes tell of themselves serves only
    /// rules that ask, and only for endpoints that do not say it.
    pub(super) fn contain(&self, what: Followed) -> bool {
        let needless = what == Followed::Kind(Kind::NodeAddresses) && !self.hidden;
        !needless && self.followed & what.bit() != 0
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
        let named = ["ports", "notPorts"].into_iter().any(|field| {
            let ports = side[field].as_array();
            ports.into_iter().flatten().any(|port| {
                port.as_str()
                    .is_some_and(|port| port.contains(|c: char| c.is_ascii_alphabetic()))
            })
        });
        // With it, what lives in a namespace is not meant.
        let outside = namespaces
            .chars()
            .filter(|c| !matches!(c, ' ' | '\t'))
            .eq("global()".chars());
        let inside = !outside && (!namespaces.is_empty() || accounts.is_object());
        let asked = selectors[..2].iter().any(|text| !text.is_empty());
        // Hosts live in no namespace, and run under no account.
        if !inside && (outside || named || asked) {
            self.add(Followed::Kind(Kind::NodeAddresses));
        }
        if outside {
            return;
        }
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
        let hosts = Followed::Kind(Kind::NodeAddresses);
        for (side, expected) in [
            (json!({}), vec![]),
            (
                json!({"nets": ["10.0.0.0/8"], "ports": [80, "1:5"]}),
                vec![],
            ),
            (json!({"selector": "", "namespaceSelector": ""}), vec![]),
            (json!({"selector": "a == 'b'"}), vec![hosts, pod]),
            (json!({"notSelector": "a == 'b'"}), vec![hosts, pod]),
            (json!({"ports": ["http"]}), vec![hosts, pod]),
            (json!({"notPorts": ["http"]}), vec![hosts, pod]),
            (json!({"namespaceSelector": "all()"}), vec![namespace, pod]),
            (
                json!({"selector": "has(a)", "namespaceSelector": " global() "}),
                vec![hosts],
            ),
            (
                json!({"selector": "has(pcns.a)"}),
                vec![hosts, namespace, pod],
            ),
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
                let needed: Vec<_> = expected.iter().map(|it| it.bit()).collect();
                assert_eq!(needs.followed, needed.into_iter().sum::<u32>(), "{side}");
                assert_eq!(Followed::Pod.needs_of(&policy), Needs::default());
            }
        }
    }

    #[test]
    fn addresses_of_nodes_are_needed_where_endpoints_hide_theirs() {
        let rule = json!({"spec": {"ingress": [{"source": {"selector": "has(a)"}}]}});
        let rule = Followed::Kind(Kind::GlobalNetworkPolicy).needs_of(&rule);
        let hosts = Followed::Kind(Kind::NodeAddresses);
        for (kind, spec, needed) in [
            (Kind::HostEndpoint, json!({"interfaceName": "eth0"}), true),
            (Kind::HostEndpoint, json!({"expectedIPs": []}), true),
            (
                Kind::HostEndpoint,
                json!({"expectedIPs": ["10.0.0.1"]}),
                false,
            ),
            (Kind::HostEndpointTemplate, json!({}), true),
            (Kind::GlobalNetworkSet, json!({}), false),
        ] {
            let mut all = Followed::Kind(kind).needs_of(&json!({"spec": spec}));
            assert!(!all.contain(hosts));
            all.extend(rule);
            assert_eq!(all.contain(hosts), needed, "{kind} {spec}");
        }
    }
}
