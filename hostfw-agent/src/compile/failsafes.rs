//! Fail-safe ports, and tunnels between nodes, as keys of the tries.

use hostfw_common::{
    endpoint::Family,
    failsafe::{CLASS_TUNNEL, FAILSAFE_BITS, FailsafeV4, FailsafeV6, ListedPorts},
    verdict::Direction,
};

use super::{
    image::Image,
    limits::{CompileError, Limit},
    prefix::Prefix,
};
use crate::{
    model::{Kind, ObjectRef},
    select::Selection,
};

/// Adds the fail-safes of both directions, and the tunnels.
pub(super) fn add(image: &mut Image, selection: &Selection) -> Result<(), CompileError> {
    for direction in Direction::ALL {
        let list = match direction {
            Direction::Ingress => &selection.failsafe_inbound,
            Direction::Egress => &selection.failsafe_outbound,
        };
        for (position, failsafe) in list.iter().enumerate() {
            for family in Family::ALL {
                let remote = match &failsafe.net {
                    None => Some(Prefix::ALL),
                    Some(net) => Prefix::net(net, family),
                };
                if let Some(remote) = remote {
                    let class = direction as u8;
                    let (protocol, port) = (failsafe.protocol, failsafe.port);
                    let key = Key {
                        class,
                        protocol,
                        port,
                    };
                    key.add(image, family, remote, position as u32);
                }
            }
        }
    }
    for (family, protocols) in Family::ALL.into_iter().zip(&selection.tunnels.protocols) {
        let nodes = selection.tunnels.nodes.iter();
        for node in nodes.filter_map(|&node| Prefix::net(&node.into(), family)) {
            for (position, &(protocol, port)) in protocols.iter().enumerate() {
                let class = CLASS_TUNNEL;
                let key = Key {
                    class,
                    protocol,
                    port,
                };
                key.add(image, family, node, position as u32);
            }
        }
    }
    let found = image.failsafes_v4.len().max(image.failsafes_v6.len());
    if found > Limit::Failsafes.value() {
        return Err(CompileError {
            limit: Limit::Failsafes,
            found,
            object: ObjectRef {
                kind: Kind::FelixConfiguration,
                name: "default".to_owned(),
            },
            policy: None,
        });
    }
    let listed = listed(image);
    for endpoint in image.endpoints.values_mut() {
        endpoint.listed = listed;
    }
    Ok(())
}

/// What the tries list, for any address.
fn listed(image: &Image) -> ListedPorts {
    let mut listed = ListedPorts::default();
    for (_, key) in image.failsafes_v4.keys() {
        listed.add(key.class, key.protocol, key.port);
    }
    for (_, key) in image.failsafes_v6.keys() {
        listed.add(key.class, key.protocol, key.port);
    }
    listed
}

/// What is matched exactly.
struct Key {
    class: u8,
    protocol: u8,
    port: u16,
}

impl Key {
    /// Adds the entry for an address or network. Given twice, the first one
    /// counts.
    fn add(self, image: &mut Image, family: Family, remote: Prefix, position: u32) {
        let Self {
            class,
            protocol,
            port,
        } = self;
        let port = port.to_be_bytes();
        let length = FAILSAFE_BITS + remote.len();
        match family {
            Family::V4 => {
                let key = FailsafeV4 {
                    class,
                    protocol,
                    port,
                    remote: remote.to_v4(),
                };
                image.failsafes_v4.entry((length, key)).or_insert(position);
            }
            Family::V6 => {
                let key = FailsafeV6 {
                    class,
                    protocol,
                    port,
                    remote: remote.to_v6(),
                };
                image.failsafes_v6.entry((length, key)).or_insert(position);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ipnet::IpNet;

    use super::*;
    use crate::{model::Failsafe, select::Tunnels};

    fn failsafe(port: u16, net: Option<&str>) -> Failsafe {
        Failsafe {
            protocol: 6,
            port,
            net: net.map(|net| net.parse().unwrap()),
        }
    }

    #[test]
    fn a_net_limits_the_family_and_no_net_means_both() {
        let selection = Selection {
            failsafe_inbound: vec![
                failsafe(22, None),
                failsafe(80, Some("10.0.0.0/8")),
                failsafe(22, None),
            ],
            failsafe_outbound: vec![failsafe(53, Some("fd00::/8"))],
            ..Selection::default()
        };
        let mut image = Image::default();
        add(&mut image, &selection).unwrap();
        let v4: Vec<_> = image
            .failsafes_v4
            .iter()
            .map(|((length, key), position)| (*length, key.class, key.port, key.remote, *position))
            .collect();
        assert_eq!(
            v4,
            [
                (32, 0, [0, 22], [0, 0, 0, 0], 0),
                (40, 0, [0, 80], [10, 0, 0, 0], 1),
            ]
        );
        let v6: Vec<_> = image
            .failsafes_v6
            .iter()
            .map(|((length, key), position)| {
                (*length, key.class, key.port, key.remote[0], *position)
            })
            .collect();
        assert_eq!(v6, [(32, 0, [0, 22], 0, 0), (40, 1, [0, 53], 0xfd, 0)]);
    }

    #[test]
    fn tunnels_have_an_entry_for_each_node_and_protocol_of_the_family() {
        let selection = Selection {
            tunnels: Tunnels {
                protocols: [vec![(4, 0), (17, 4789)], vec![(17, 51821)]],
                nodes: ["10.0.0.1", "10.0.0.2", "fd00::1"]
                    .map(|node| node.parse().unwrap())
                    .into(),
            },
            ..Selection::default()
        };
        let mut image = Image::default();
        add(&mut image, &selection).unwrap();
        let v4: Vec<_> = image
            .failsafes_v4
            .keys()
            .map(|(length, key)| (*length, key.class, key.protocol, key.port, key.remote[3]))
            .collect();
        let vxlan = 4789u16.to_be_bytes();
        assert_eq!(
            v4,
            [
                (64, CLASS_TUNNEL, 4, [0, 0], 1),
                (64, CLASS_TUNNEL, 4, [0, 0], 2),
                (64, CLASS_TUNNEL, 17, vxlan, 1),
                (64, CLASS_TUNNEL, 17, vxlan, 2),
            ]
        );
        assert_eq!(image.failsafes_v6.len(), 1);
    }

    #[test]
    fn too_many_are_refused() {
        let count = Limit::Failsafes.value() as u32;
        let net = |number| IpNet::V4(Ipv4Addr::from_bits(number).into());
        let one = |number| Failsafe {
            net: Some(net(number)),
            ..failsafe(22, None)
        };
        let with = |count| Selection {
            failsafe_inbound: (0..count).map(one).collect(),
            ..Selection::default()
        };
        add(&mut Image::default(), &with(count)).unwrap();
        let error = add(&mut Image::default(), &with(count + 1)).unwrap_err();
        let found = count as usize + 1;
        assert_eq!((error.limit, error.found), (Limit::Failsafes, found));
    }
}
