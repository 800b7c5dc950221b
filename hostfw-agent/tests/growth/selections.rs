//! Selections that grow in one respect each.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use hostfw_agent::{
    model::{Interface, Kind, ObjectRef, PortRange, Protocol, RuleAction},
    select::{
        Governed, SelectedEntity, SelectedList, SelectedPolicy, SelectedRule, SelectedTier,
        Selection,
    },
};
use hostfw_common::stage::List;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Numbers that are all different and in no order: multiplied by a constant that
/// is odd and otherwise arbitrary.
const fn scattered(number: u32) -> u32 {
    number.wrapping_mul(0x9e37_79b1)
}

fn rule(action: RuleAction) -> SelectedRule {
    SelectedRule {
        action,
        ip_version: None,
        protocol: None,
        not_protocol: None,
        icmp: None,
        not_icmp: None,
        source: SelectedEntity::default(),
        destination: SelectedEntity::default(),
    }
}

fn to_ports(ports: impl IntoIterator<Item = u16>) -> SelectedRule {
    let mut to_ports = rule(RuleAction::Allow);
    to_ports.protocol = Some(Protocol {
        number: 6,
        implied_version: None,
    });
    to_ports.destination.ports = ports
        .into_iter()
        .map(|port| PortRange {
            first: port,
            last: port,
        })
        .collect();
    to_ports
}

/// A list with these rules, for what comes in before DNAT.
fn list(name: &str, rules: Vec<SelectedRule>) -> Arc<SelectedList> {
    Arc::new(SelectedList {
        tiers: vec![SelectedTier {
            name: "default".to_owned(),
            default_deny: false,
            policies: vec![SelectedPolicy {
                object: ObjectRef {
                    kind: Kind::GlobalNetworkPolicy,
                    name: name.to_owned(),
                },
                staged: None,
                missing: false,
                rules,
            }],
        }],
        profiles: Vec::new(),
        default_deny: false,
    })
}

fn governed(index: u32, pre_dnat: Arc<SelectedList>) -> Governed {
    let empty = Arc::new(SelectedList::default());
    let mut lists = List::ALL.map(|_| Arc::clone(&empty));
    lists[List::PreDnat as usize] = pre_dnat;
    Governed {
        endpoint: format!("e{index}"),
        interface: Interface {
            index,
            name: format!("eth{index}"),
            addresses: Vec::new(),
            link_header: true,
            loopback: false,
            up: true,
            master: None,
        },
        workload: false,
        lists,
    }
}

fn of_one_policy(rules: Vec<SelectedRule>) -> Selection {
    of_endpoints(vec![governed(2, list("p", rules))])
}

fn of_endpoints(governed: Vec<Governed>) -> Selection {
    Selection {
        governed,
        ..Selection::default()
    }
}

/// So many rules, each with two networks and two ports; one in eight asks for no
/// network, and one in eight for no port.
pub(crate) fn rules(count: usize) -> Selection {
    let rules = (0..count as u32)
        .map(|number| {
            let mut one = match number % 8 {
                1 => rule(RuleAction::Deny),
                _ => to_ports([number as u16, (number % 61) as u16]),
            };
            if number % 8 != 2 {
                let net = |number| net_v4(scattered(number), 24);
                one.source.nets = vec![net(2 * number), net(2 * number + 1)];
            }
            one
        })
        .collect();
    of_one_policy(rules)
}

fn net_v4(bits: u32, length: u8) -> IpNet {
    Ipv4Net::new(Ipv4Addr::from_bits(bits), length)
        .map(|net| net.trunc().into())
        .unwrap_or_else(|_| unreachable!("no length is above 32"))
}

fn net_v6(bits: u32, length: u8) -> IpNet {
    let bits = 0x2001_0db8 << 96 | u128::from(bits) << 64 | u128::from(bits);
    Ipv6Net::new(Ipv6Addr::from_bits(bits), length)
        .map(|net| net.trunc().into())
        .unwrap_or_else(|_| unreachable!("no length is above 128"))
}

/// The networks of a set, by number, of lengths 20 to 32, or 48 to 128: few hold
/// others.
fn nets(numbers: std::ops::Range<u32>, v6: bool) -> Arc<[IpNet]> {
    numbers
        .map(|number| {
            let bits = scattered(number);
            if v6 {
                net_v6(bits, 48 + (number % 21 * 4) as u8)
            } else {
                net_v4(bits, 20 + (number % 13) as u8)
            }
        })
        .collect()
}

/// A rule that asks for a set of so many networks, from the `first` on, among nine
/// others.
pub(crate) fn set(first: usize, count: usize, v6: bool) -> Selection {
    let mut rules: Vec<_> = (0..8).map(|number| to_ports([number + 1])).collect();
    let mut member = rule(RuleAction::Deny);
    member.source.members = Some(nets(first as u32..(first + count) as u32, v6));
    rules.push(member);
    rules.push(rule(RuleAction::Deny));
    of_one_policy(rules)
}

/// Rules with fifty ports each, so many ports in all.
pub(crate) fn ports(count: usize) -> Selection {
    let rules = (0..count as u32)
        .step_by(50)
        .map(|first| {
            let ports = first..(first + 50).min(count as u32);
            to_ports(ports.map(|port| scattered(port) as u16))
        })
        .collect();
    of_one_policy(rules)
}

/// So many endpoints with the same policy of a hundred rules.
pub(crate) fn endpoints_alike(count: usize) -> Selection {
    let [one] = &rules(100).governed[..] else {
        unreachable!("one endpoint")
    };
    let shared = &one.lists[List::PreDnat as usize];
    let all = (0..count as u32).map(|index| governed(2 + index, Arc::clone(shared)));
    of_endpoints(all.collect())
}

/// So many endpoints, each with a policy of its own of ten rules.
pub(crate) fn endpoints_apart(count: usize) -> Selection {
    let all = (0..count as u32).map(|index| {
        let rules = (0..10).map(|rule| {
            let number = 10 * index + rule;
            let mut one = to_ports([number as u16]);
            one.source.nets = vec![net_v4(scattered(number), 24)];
            one
        });
        governed(2 + index, list(&format!("p{index}"), rules.collect()))
    });
    of_endpoints(all.collect())
}

/// As many rules as a policy can have, each with as many networks and ports.
pub(crate) fn thousand() -> Selection {
    let rules = (0..1024).map(|number: u32| {
        let ports = number % 1000 * 50;
        let mut one = to_ports((ports..ports + 50).map(|port| port as u16 + 1));
        let nets = 0..256;
        one.source.nets = nets
            .map(|net| net_v4(number << 16 | net << 4, 32))
            .collect();
        one
    });
    of_one_policy(rules.collect())
}

/// 0.0.0.0/0 beside so many addresses.
pub(crate) fn beside_all(count: u32) -> Selection {
    let mut all = rule(RuleAction::Allow);
    all.source.nets = vec![net_v4(0, 0)];
    all.destination.nets = vec![net_v4(1, 32)];
    let mut many = rule(RuleAction::Deny);
    many.source.members = Some((0..count).map(|n| net_v4(n << 8 | 7, 32)).collect());
    of_one_policy(vec![all, many])
}

/// Ten sets, each of the numbers with one of ten bits set.
pub(crate) fn overlapping() -> Selection {
    let rules = (0..10).map(|bit| {
        let mut member = rule(RuleAction::Allow);
        let members = (0..1024_u32).filter(|n| n >> bit & 1 == 1);
        member.source.members = Some(members.map(|n| net_v4(n << 3, 32)).collect());
        member
    });
    of_one_policy(rules.collect())
}
