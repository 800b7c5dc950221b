use hostfw_common::verdict::Direction;
use ipnet::IpNet;

use super::InterfaceNames;

/// One `FelixConfiguration`, as far as it concerns hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct FelixSettings {
    /// `None`: `default`, for every node. Otherwise `node.<name>`, whose
    /// fields override those of `default` on that node.
    pub node: Option<String>,
    /// `None` if the list is absent, and so is inherited.
    pub failsafe_inbound: Option<Vec<Failsafe>>,
    /// `None` if the list is absent, and so is inherited.
    pub failsafe_outbound: Option<Vec<Failsafe>>,
    /// `disableConntrackInvalidCheck`; `None` if absent.
    pub disable_invalid_check: Option<bool>,
    /// `interfacePrefix`: how names of workload interfaces begin, or patterns
    /// for whole names in which `*` stands for any characters and `?` for one;
    /// `None` if absent.
    pub workload_prefixes: Option<Vec<String>>,
    /// `interfaceExclude`: interfaces that no endpoint governs; `None` if
    /// absent.
    pub excluded_interfaces: Option<Vec<InterfaceNames>>,
    /// `vxlanPort`: UDP port of VXLAN; `None` if absent.
    pub vxlan_port: Option<u16>,
    /// `genevePort`: UDP port of Geneve; `None` if absent: there is no Geneve
    /// then.
    pub geneve_port: Option<u16>,
    /// `wireguardListeningPort`: UDP port of WireGuard over IPv4; `None` if
    /// absent.
    pub wireguard_port: Option<u16>,
    /// `wireguardListeningPortV6`: UDP port of WireGuard over IPv6; `None` if
    /// absent.
    pub wireguard_port_v6: Option<u16>,
    /// `logPrefix`: what an event of a rule with action Log begins with;
    /// `None` if absent.
    pub log_prefix: Option<String>,
}

/// A port that no policy can close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Failsafe {
    /// Protocol number: TCP 6, UDP 17 or SCTP 132.
    pub protocol: u8,
    /// Destination port.
    pub port: u16,
    /// The other side's addresses; `None` means all.
    pub net: Option<IpNet>,
}

const fn failsafe(protocol: u8, port: u16) -> Failsafe {
    Failsafe {
        protocol,
        port,
        net: None,
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;

impl Failsafe {
    /// What is in force when no `FelixConfiguration` says otherwise (Calico:
    /// felix/config/config_params.go, FailsafeInboundHostPorts and
    /// FailsafeOutboundHostPorts).
    #[must_use]
    pub const fn defaults(direction: Direction) -> &'static [Self] {
        match direction {
            Direction::Ingress => {
                const {
                    &[
                        failsafe(TCP, 22),
                        failsafe(UDP, 68),
                        failsafe(TCP, 179),
                        failsafe(TCP, 2379),
                        failsafe(TCP, 2380),
                        failsafe(TCP, 5473),
                        failsafe(TCP, 6443),
                        failsafe(TCP, 6666),
                        failsafe(TCP, 6667),
                    ]
                }
            }
            Direction::Egress => {
                const {
                    &[
                        failsafe(UDP, 53),
                        failsafe(UDP, 67),
                        failsafe(TCP, 179),
                        failsafe(TCP, 2379),
                        failsafe(TCP, 2380),
                        failsafe(TCP, 5473),
                        failsafe(TCP, 6443),
                        failsafe(TCP, 6666),
                        failsafe(TCP, 6667),
                    ]
                }
            }
        }
    }
}
