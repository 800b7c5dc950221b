use crate::model::{Kind, ObjectRef};

/// A kind that cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// Namespaced policies, which a host has no use for.
    #[error(
        "{0:?} means NetworkPolicy, the policies of one namespace, which hostfw does not enforce. \
         The policies of hosts are global: use `gnp` (GlobalNetworkPolicy)"
    )]
    Namespaced(String),
    /// A kind of Calico's that hostfw does not enforce.
    #[error("kind {0} is not enforced by this release: expected one of {KNOWN}")]
    NotEnforced(&'static str),
    /// Nothing of Calico's.
    #[error("unknown kind {0:?}: expected one of {KNOWN}")]
    Unknown(String),
    /// The tables of counters have all their columns.
    #[error("--counters: expected -o ps, wide, yaml or json, found custom-columns")]
    CustomCounters,
    /// Counters were asked for of what counts nothing.
    #[error(
        "--counters: expected a kind with rules (globalnetworkpolicy, \
         stagedglobalnetworkpolicy, profile or tier), found {0}"
    )]
    NoRules(Kind),
    /// A namespace was given for a kind that lives in none.
    #[error(
        "--namespace: expected a kind that lives in a namespace (networkset, \
         workloadendpoint or endpointslice), found {0}, which is \
         global"
    )]
    Global(Kind),
}

const KNOWN: &str = "hostendpoint (hep), hostendpointtemplate (hept), node, globalnetworkpolicy (gnp), \
                     stagedglobalnetworkpolicy (sgnp), globalnetworkset (gnetset), networkset \
                     (netset), tier, profile (pro), felixconfiguration (felixconfig), \
                     workloadendpoint (wep), endpointslice, nodeaddresses (naddr)";

/// The namespace that a namespaced kind has if none is given.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// The kind that a name on the command line stands for, in any case.
pub(super) fn parse(text: &str) -> Result<Kind, KindError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "hostendpoint" | "hostendpoints" | "hep" | "heps" => Kind::HostEndpoint,
        "hostendpointtemplate" | "hostendpointtemplates" | "hept" | "hepts" => {
            Kind::HostEndpointTemplate
        }
        "node" | "nodes" | "no" | "nos" => Kind::Node,
        "globalnetworkpolicy" | "globalnetworkpolicies" | "gnp" | "gnps" => {
            Kind::GlobalNetworkPolicy
        }
        "stagedglobalnetworkpolicy" | "stagedglobalnetworkpolicies" | "sgnp" | "sgnps" => {
            Kind::StagedGlobalNetworkPolicy
        }
        "globalnetworkset" | "globalnetworksets" | "gnetset" | "gnetsets" => Kind::GlobalNetworkSet,
        "networkset" | "networksets" | "netset" | "netsets" => Kind::NetworkSet,
        "workloadendpoint" | "workloadendpoints" | "wep" | "weps" => Kind::WorkloadEndpoint,
        "endpointslice" | "endpointslices" => Kind::EndpointSlice,
        "nodeaddresses" | "naddr" | "naddrs" => Kind::NodeAddresses,
        "tier" | "tiers" => Kind::Tier,
        "profile" | "profiles" | "pro" | "pros" => Kind::Profile,
        "felixconfiguration" | "felixconfigurations" | "felixconfig" | "felixconfigs" => {
            Kind::FelixConfiguration
        }
        "networkpolicy" | "networkpolicies" | "np" | "nps" | "policy" | "policies" | "pol"
        | "pols" => return Err(KindError::Namespaced(text.to_owned())),
        other => {
            return Err(match not_enforced(other) {
                Some(kind) => KindError::NotEnforced(kind),
                None => KindError::Unknown(text.to_owned()),
            });
        }
    })
}

/// The object of this name, in the namespace that was given, or else the
/// default one if the kind lives in one.
pub(super) fn object(
    kind: Kind,
    namespace: Option<&str>,
    name: &str,
) -> Result<ObjectRef, KindError> {
    let name = match (kind.is_namespaced(), namespace) {
        (true, namespace) => format!("{}/{name}", namespace.unwrap_or(DEFAULT_NAMESPACE)),
        (false, None) => name.to_owned(),
        (false, Some(_)) => return Err(KindError::Global(kind)),
    };
    Ok(ObjectRef { kind, name })
}

fn not_enforced(text: &str) -> Option<&'static str> {
    Some(match text {
        "stagednetworkpolicy" | "stagednetworkpolicies" | "snp" | "snps" => "StagedNetworkPolicy",
        "stagedkubernetesnetworkpolicy" | "stagedkubernetesnetworkpolicies" | "sknp" | "sknps" => {
            "StagedKubernetesNetworkPolicy"
        }
        "ippool" | "ippools" | "ipp" | "ipps" | "pool" | "pools" => "IPPool",
        "bgppeer" | "bgppeers" | "bgpp" | "bgpps" | "bp" | "bps" => "BGPPeer",
        "bgpconfiguration" | "bgpconfigurations" | "bgpconfig" | "bgpconfigs" => "BGPConfiguration",
        "clusterinformation" | "clusterinformations" | "clusterinfo" | "clusterinfos" => {
            "ClusterInformation"
        }
        "kubecontrollersconfiguration"
        | "kubecontrollersconfigurations"
        | "kubecontrollersconfig" => "KubeControllersConfiguration",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calicos_short_names_and_plurals() {
        for (kind, names) in [
            (Kind::HostEndpoint, "hep heps HostEndpoint hostendpoints"),
            (Kind::HostEndpointTemplate, "hept hostendpointtemplates"),
            (Kind::Node, "no nodes Node"),
            (Kind::GlobalNetworkPolicy, "gnp gnps globalNetworkPolicies"),
            (Kind::StagedGlobalNetworkPolicy, "sgnp sgnps"),
            (Kind::GlobalNetworkSet, "globalnetworksets gnetsets"),
            (Kind::NetworkSet, "netsets networkset"),
            (Kind::WorkloadEndpoint, "wep workloadendpoints"),
            (Kind::EndpointSlice, "endpointslice EndpointSlices"),
            (Kind::NodeAddresses, "naddr NodeAddresses"),
            (Kind::Tier, "tier Tiers"),
            (Kind::Profile, "pro profiles"),
            (Kind::FelixConfiguration, "felixconfig FelixConfiguration"),
        ] {
            for name in names.split(' ') {
                assert_eq!(parse(name), Ok(kind), "{name}");
            }
        }
    }

    #[test]
    fn namespaced_policy_points_to_gnp() {
        for text in ["pol", "pols", "np", "policy", "networkpolicy"] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains("`gnp`"), "{message}");
        }
    }

    #[test]
    fn other_kinds_are_named() {
        let message = |text| parse(text).unwrap_err().to_string();
        assert!(message("ipp").starts_with("kind IPPool is not enforced"));
        assert!(message("xyz").starts_with("unknown kind \"xyz\""));
    }

    #[test]
    fn namespaces_are_for_namespaced_kinds() {
        let named = |kind, namespace| object(kind, namespace, "a").map(|object| object.name);
        assert_eq!(named(Kind::NetworkSet, None), Ok("default/a".to_owned()));
        assert_eq!(named(Kind::NetworkSet, Some("b")), Ok("b/a".to_owned()));
        assert_eq!(named(Kind::Tier, None), Ok("a".to_owned()));
        let refused = named(Kind::Tier, Some("b")).unwrap_err().to_string();
        assert_eq!(
            refused,
            "--namespace: expected a kind that lives in a namespace (networkset, workloadendpoint \
             or endpointslice), found Tier, which is global"
        );
    }
}
