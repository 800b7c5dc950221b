use crate::model::Kind;

/// A kind that cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// Namespaced policies, which a host has no use for.
    #[error(
        "{0:?} means NetworkPolicy, the policies of one namespace, which this release does not \
         enforce. The policies of hosts are global: use `gnp` (GlobalNetworkPolicy)"
    )]
    Namespaced(String),
    /// A kind of Calico's that this release does not enforce.
    #[error("kind {0} is not enforced by this release: expected one of {KNOWN}")]
    NotEnforced(&'static str),
    /// Nothing of Calico's.
    #[error("unknown kind {0:?}: expected one of {KNOWN}")]
    Unknown(String),
}

const KNOWN: &str = "hostendpoint (hep), globalnetworkpolicy (gnp), felixconfiguration \
                     (felixconfig)";

/// The kind that a name on the command line stands for, in any case.
pub(super) fn parse(text: &str) -> Result<Kind, KindError> {
    match text.to_ascii_lowercase().as_str() {
        "hostendpoint" | "hostendpoints" | "hep" | "heps" => Ok(Kind::HostEndpoint),
        "globalnetworkpolicy" | "globalnetworkpolicies" | "gnp" | "gnps" => {
            Ok(Kind::GlobalNetworkPolicy)
        }
        "felixconfiguration" | "felixconfigurations" | "felixconfig" | "felixconfigs" => {
            Ok(Kind::FelixConfiguration)
        }
        "networkpolicy" | "networkpolicies" | "np" | "nps" | "policy" | "policies" | "pol"
        | "pols" => Err(KindError::Namespaced(text.to_owned())),
        other => Err(match not_enforced(other) {
            Some(kind) => KindError::NotEnforced(kind),
            None => KindError::Unknown(text.to_owned()),
        }),
    }
}

fn not_enforced(text: &str) -> Option<&'static str> {
    Some(match text {
        "globalnetworkset" | "globalnetworksets" | "gnetset" | "gnetsets" => "GlobalNetworkSet",
        "networkset" | "networksets" | "netset" | "netsets" => "NetworkSet",
        "tier" | "tiers" => "Tier",
        "profile" | "profiles" | "pro" | "pros" => "Profile",
        "stagedglobalnetworkpolicy" | "stagedglobalnetworkpolicies" | "sgnp" | "sgnps" => {
            "StagedGlobalNetworkPolicy"
        }
        "stagednetworkpolicy" | "stagednetworkpolicies" | "snp" | "snps" => "StagedNetworkPolicy",
        "stagedkubernetesnetworkpolicy" | "stagedkubernetesnetworkpolicies" | "sknp" | "sknps" => {
            "StagedKubernetesNetworkPolicy"
        }
        "workloadendpoint" | "workloadendpoints" | "wep" | "weps" => "WorkloadEndpoint",
        "node" | "nodes" | "no" | "nos" => "Node",
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
        for text in ["hep", "heps", "HostEndpoint", "hostendpoints"] {
            assert_eq!(parse(text), Ok(Kind::HostEndpoint));
        }
        for text in ["gnp", "gnps", "globalNetworkPolicies"] {
            assert_eq!(parse(text), Ok(Kind::GlobalNetworkPolicy));
        }
        for text in ["felixconfig", "FelixConfiguration", "felixconfigurations"] {
            assert_eq!(parse(text), Ok(Kind::FelixConfiguration));
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
        assert!(message("gnetsets").starts_with("kind GlobalNetworkSet is not enforced"));
        assert!(message("tier").starts_with("kind Tier is not enforced"));
        assert!(message("xyz").starts_with("unknown kind \"xyz\""));
    }
}
