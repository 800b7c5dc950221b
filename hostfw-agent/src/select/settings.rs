//! The settings of one node.

use hostfw_common::verdict::Direction;

use crate::model::{Failsafe, FelixSettings, InterfaceNames};

/// Prefix of workload interfaces where nothing else is set (Calico:
/// felix/config/config_params.go, InterfacePrefix).
const DEFAULT_WORKLOAD_PREFIX: &str = "cali";

/// Excluded interface where nothing else is set (Calico: InterfaceExclude).
const DEFAULT_EXCLUDED: &str = "kube-ipvs0";

/// Ports of tunnels where nothing else is set (Calico: VXLANPort,
/// WireguardListeningPort, WireguardListeningPortV6).
const DEFAULT_VXLAN_PORT: u16 = 4789;
const DEFAULT_WIREGUARD_PORT: u16 = 51820;
const DEFAULT_WIREGUARD_PORT_V6: u16 = 51821;

/// What an event of a rule with action Log begins with where nothing else is
/// set (Calico: LogPrefix).
const DEFAULT_LOG_PREFIX: &str = "calico-packet";

/// What holds on one node, with nothing left to inherit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) failsafe_inbound: Vec<Failsafe>,
    pub(super) failsafe_outbound: Vec<Failsafe>,
    pub(super) disable_invalid_check: bool,
    pub(super) vxlan_port: u16,
    /// `None`: there are no such tunnels.
    pub(super) geneve_port: Option<u16>,
    pub(super) wireguard_port: u16,
    pub(super) wireguard_port_v6: u16,
    pub(super) log_prefix: String,
    workload_prefixes: Vec<String>,
    excluded_interfaces: Vec<InterfaceNames>,
}

impl Settings {
    /// Field by field: what `node.<name>` says, else what `default` says, else
    /// the built-in value.
    pub(super) fn of_node(settings: &[FelixSettings], node: &str) -> Self {
        let own = settings.iter().find(|s| s.node.as_deref() == Some(node));
        let common = settings.iter().find(|s| s.node.is_none());
        let layers = || own.into_iter().chain(common);
        Self {
            failsafe_inbound: layers()
                .find_map(|s| s.failsafe_inbound.clone())
                .unwrap_or_else(|| Failsafe::defaults(Direction::Ingress).to_vec()),
            failsafe_outbound: layers()
                .find_map(|s| s.failsafe_outbound.clone())
                .unwrap_or_else(|| Failsafe::defaults(Direction::Egress).to_vec()),
            disable_invalid_check: layers()
                .find_map(|s| s.disable_invalid_check)
                .unwrap_or(false),
            vxlan_port: layers()
                .find_map(|s| s.vxlan_port)
                .unwrap_or(DEFAULT_VXLAN_PORT),
            geneve_port: layers().find_map(|s| s.geneve_port),
            wireguard_port: layers()
                .find_map(|s| s.wireguard_port)
                .unwrap_or(DEFAULT_WIREGUARD_PORT),
            wireguard_port_v6: layers()
                .find_map(|s| s.wireguard_port_v6)
                .unwrap_or(DEFAULT_WIREGUARD_PORT_V6),
            log_prefix: layers()
                .find_map(|s| s.log_prefix.clone())
                .unwrap_or_else(|| DEFAULT_LOG_PREFIX.to_owned()),
            workload_prefixes: layers()
                .find_map(|s| s.workload_prefixes.clone())
                .unwrap_or_else(|| vec![DEFAULT_WORKLOAD_PREFIX.to_owned()]),
            excluded_interfaces: layers()
                .find_map(|s| s.excluded_interfaces.clone())
                .unwrap_or_else(|| vec![InterfaceNames::Exact(DEFAULT_EXCLUDED.to_owned())]),
        }
    }

    /// Whether the name is that of a workload's interface: it begins so, or is
    /// like a pattern.
    pub(super) fn is_workload(&self, interface: &str) -> bool {
        self.workload_prefixes.iter().any(|prefix| {
            if prefix.contains(['*', '?']) {
                is_like(interface.as_bytes(), prefix.as_bytes())
            } else {
                interface.starts_with(prefix)
            }
        })
    }

    /// Whether no endpoint may govern the interface.
    pub(super) fn is_excluded(&self, interface: &str) -> bool {
        self.excluded_interfaces
            .iter()
            .any(|names| names.mean(interface))
    }
}

/// Whether the whole name is like the pattern, in which `*` stands for any
/// characters and `?` for one. Both are as short as names of interfaces.
fn is_like(name: &[u8], pattern: &[u8]) -> bool {
    match (pattern, name) {
        ([], _) => name.is_empty(),
        // Several stars say what one says, and would be tried in every
        // combination.
        ([b'*', b'*', ..], _) => is_like(name, &pattern[1..]),
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|skipped| is_like(&name[skipped..], rest)),
        ([one, rest @ ..], [first, behind @ ..]) => {
            (*one == b'?' || one == first) && is_like(behind, rest)
        }
        (_, []) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::fixture::settings;

    #[test]
    fn without_configuration_the_built_in_values_hold() {
        let settings = Settings::of_node(&[], "node1");
        assert_eq!(
            settings.failsafe_inbound,
            Failsafe::defaults(Direction::Ingress)
        );
        assert_eq!(
            settings.failsafe_outbound,
            Failsafe::defaults(Direction::Egress)
        );
        assert!(!settings.disable_invalid_check);
        assert!(settings.is_workload("cali1234"));
        assert!(!settings.is_workload("eth0"));
        assert!(settings.is_excluded("kube-ipvs0"));
        assert!(!settings.is_excluded("kube-ipvs"));
        assert_eq!(settings.vxlan_port, 4789);
        assert_eq!(settings.wireguard_port, 51820);
        assert_eq!(settings.wireguard_port_v6, 51821);
        assert_eq!(settings.log_prefix, "calico-packet");
    }

    #[test]
    fn node_overrides_default_field_by_field() {
        let ssh = Failsafe {
            protocol: 6,
            port: 22,
            net: None,
        };
        let common = FelixSettings {
            failsafe_inbound: Some(vec![ssh]),
            failsafe_outbound: Some(vec![ssh]),
            disable_invalid_check: Some(true),
            workload_prefixes: Some(vec!["veth".to_owned()]),
            vxlan_port: Some(8472),
            wireguard_port: Some(1),
            log_prefix: Some("all".to_owned()),
            ..settings(None)
        };
        let own = FelixSettings {
            // An empty list is a value: it does not inherit.
            failsafe_inbound: Some(Vec::new()),
            disable_invalid_check: Some(false),
            wireguard_port: Some(2),
            wireguard_port_v6: Some(3),
            log_prefix: Some(String::new()),
            ..settings(Some("node1"))
        };
        let other = FelixSettings {
            failsafe_outbound: Some(Vec::new()),
            ..settings(Some("node2"))
        };
        let all = [common, own, other];

        let settings = Settings::of_node(&all, "node1");
        assert_eq!(settings.failsafe_inbound, []);
        assert_eq!(settings.failsafe_outbound, [ssh]);
        assert!(!settings.disable_invalid_check);
        assert!(settings.is_workload("veth0") && !settings.is_workload("cali0"));
        assert!(settings.is_excluded("kube-ipvs0"));
        assert_eq!(settings.vxlan_port, 8472);
        assert_eq!(
            (settings.wireguard_port, settings.wireguard_port_v6),
            (2, 3)
        );
        assert_eq!(settings.log_prefix, "");

        let settings = Settings::of_node(&all, "node2");
        assert_eq!(settings.failsafe_inbound, [ssh]);
        assert_eq!(settings.failsafe_outbound, []);
        assert_eq!(settings.log_prefix, "all");
    }

    #[test]
    fn workload_interfaces_are_told_by_prefix_or_pattern() {
        let settings = |prefix: &str| {
            let common = FelixSettings {
                workload_prefixes: Some(vec!["tap".to_owned(), prefix.to_owned()]),
                ..settings(None)
            };
            Settings::of_node(&[common], "node1")
        };
        for (prefix, name, expected) in [
            ("veth", "veth0", true),
            ("veth", "tap1", true),
            ("veth", "xveth", false),
            ("veth*", "veth", true),
            ("veth*_h", "veth12_h", true),
            ("veth*_h", "veth12_hx", false),
            ("*_h", "_h", true),
            ("v?t*", "vet", true),
            ("v?t*", "vt", false),
            ("?", "", false),
            ("*a*b*", "xaxbx", true),
            ("**a**b", "xaxb", true),
            ("**************b", "aaaaaaaaaaaaaaa", false),
            ("*a*b*", "xbxax", false),
        ] {
            assert_eq!(
                settings(prefix).is_workload(name),
                expected,
                "{prefix} {name}"
            );
        }
    }
}
