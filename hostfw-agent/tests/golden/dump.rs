//! An image as text that people can check.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

use hostfw_agent::{compile::image::Image, select::Selection};
use hostfw_common::{
    endpoint::{
        FLAG_DROP_INVALID, FLAG_DROP_INVALID_PRE_DNAT, FLAG_LEARNING, FLAG_NETFILTER,
        FLAG_NO_LINK_HEADER, FLAG_WORKLOAD, Family,
    },
    failsafe::{CLASS_TUNNEL, FAILSAFE_BITS},
    policy::{Action, PolicyTable, TABLE_DEFAULT_DENY, TABLE_HAS_JUMP, TABLE_HAS_LOG},
    prefix::{PROTOCOL_BITS, Service, TABLE_BITS},
    stage::List,
};

/// What is not in the image but came to light on the way, then the image.
pub(crate) fn dump(selection: &Selection, image: &Image) -> String {
    let mut text = String::new();
    write(&mut text, selection, image).expect("writing to a string");
    text
}

fn write(text: &mut String, selection: &Selection, image: &Image) -> std::fmt::Result {
    for inert in &selection.inert {
        writeln!(text, "inert: {}: {:?}", inert.endpoint, inert.reason)?;
    }
    for unknown in &selection.unknown_addresses {
        writeln!(
            text,
            "unknown addresses: {}, asked for by {}",
            unknown.endpoint, unknown.policy
        )?;
    }
    for (index, endpoint) in &image.endpoints {
        let name = image.names.endpoint(endpoint.id).expect("a known endpoint");
        let flags = flags(
            endpoint.flags,
            &[
                (FLAG_NO_LINK_HEADER, "no-link-header"),
                (FLAG_LEARNING, "learning"),
                (FLAG_DROP_INVALID_PRE_DNAT, "drop-invalid-pre-dnat"),
                (FLAG_DROP_INVALID, "drop-invalid"),
                (FLAG_WORKLOAD, "workload"),
                (FLAG_NETFILTER, "netfilter"),
            ],
        );
        writeln!(
            text,
            "interface {index}: {name}, number {}{flags}",
            endpoint.id.number
        )?;
        for (list, tables) in List::ALL.into_iter().zip(endpoint.tables) {
            if tables == [PolicyTable::default(); 2] {
                continue;
            }
            for family in Family::ALL {
                write!(text, "  {} {}: ", list_name(list), family_name(family))?;
                table(text, image, family, tables[family as usize])?;
            }
        }
    }
    writeln!(text, "rows: {}", image.rows.len())?;
    writeln!(text, "rule entries: {}", image.rules.len())?;
    for ((bits, key), position) in &image.failsafes_v4 {
        let remote = Ipv4Addr::from(key.remote);
        let entry = (key.class, key.protocol, key.port, *bits);
        failsafe(text, entry, &remote.to_string(), *position)?;
    }
    for ((bits, key), position) in &image.failsafes_v6 {
        let remote = Ipv6Addr::from(key.remote);
        let entry = (key.class, key.protocol, key.port, *bits);
        failsafe(text, entry, &remote.to_string(), *position)?;
    }
    Ok(())
}

fn table(text: &mut String, image: &Image, family: Family, table: PolicyTable) -> std::fmt::Result {
    let flags = flags(
        table.flags.into(),
        &[
            (TABLE_HAS_LOG.into(), "has-log"),
            (TABLE_HAS_JUMP.into(), "has-jump"),
            (TABLE_DEFAULT_DENY.into(), "default-deny"),
        ],
    );
    if table.rule_count == 0 {
        return writeln!(text, "no rules{flags}");
    }
    writeln!(
        text,
        "tables {} and {}{flags}",
        table.source(),
        table.destination()
    )?;
    let first = table.first_rule as usize;
    for (bit, rule) in image.rules[first..first + usize::from(table.rule_count)]
        .iter()
        .enumerate()
    {
        let action = Action::from_number(rule.action).expect("an action");
        write!(text, "    entry {bit}: {action:?}, ")?;
        if action == Action::TierDeny {
            let tier = image.names.tier(rule.policy.number);
            writeln!(text, "tier {}", tier.expect("a known tier"))?;
            continue;
        }
        let policy = image.names.policy(rule.policy).expect("a known policy");
        let tier = image.names.tier_of(rule.policy);
        let tier = tier.map(|tier| format!(" of tier {tier}"));
        let direction = ["ingress", "egress"][usize::from(rule.direction)];
        write!(
            text,
            "{policy}{} {direction}[{}]",
            tier.unwrap_or_default(),
            rule.index
        )?;
        if action.jumps() {
            write!(text, ", then {}", rule.next)?;
        }
        writeln!(text)?;
    }
    if table.flags & TABLE_HAS_LOG != 0 {
        let row = &image.rows[table.log_row as usize];
        let rules: Vec<usize> = (0..row.words.len() * 64)
            .filter(|rule| row.contains(*rule))
            .collect();
        writeln!(text, "    only log: row {} {rules:?}", table.log_row)?;
    }
    addresses(text, image, family, "source", table.source())?;
    addresses(text, image, family, "destination", table.destination())?;
    services(text, image, "service", table.source())?;
    services(text, image, "source port", table.destination())
}

fn addresses(
    text: &mut String,
    image: &Image,
    family: Family,
    dimension: &str,
    table: u32,
) -> std::fmt::Result {
    match family {
        Family::V4 => {
            for ((bits, key), row) in &image.prefixes_v4 {
                if key.table.number == table {
                    let address = Ipv4Addr::from(key.address);
                    let net = format!("{address}/{}", bits - TABLE_BITS);
                    entry(text, image, dimension, &net, *row)?;
                }
            }
        }
        Family::V6 => {
            for ((bits, key), row) in &image.prefixes_v6 {
                if key.table.number == table {
                    let address = Ipv6Addr::from(key.address);
                    let net = format!("{address}/{}", bits - TABLE_BITS);
                    entry(text, image, dimension, &net, *row)?;
                }
            }
        }
    }
    Ok(())
}

fn services(text: &mut String, image: &Image, dimension: &str, table: u32) -> std::fmt::Result {
    for ((bits, key), row) in &image.services {
        if key.table.number == table {
            let service = service(key, bits - TABLE_BITS);
            entry(text, image, dimension, &service, *row)?;
        }
    }
    Ok(())
}

/// Protocol, then the bytes that stand for port, or type and code, with how
/// many bits of them count.
fn service(key: &Service, bits: u32) -> String {
    if bits == 0 {
        return "any".to_owned();
    }
    let protocol = key.protocol;
    match (protocol, bits - PROTOCOL_BITS) {
        (_, 0) => format!("protocol {protocol}"),
        (1 | 58, 8) => format!("protocol {protocol} type {}", key.port[0]),
        (1 | 58, 16) => {
            let [kind, code] = key.port;
            format!("protocol {protocol} type {kind} code {code}")
        }
        (_, bits) => {
            let first = u16::from_be_bytes(key.port);
            let last = first | 0xffffu16.checked_shr(bits).unwrap_or(0);
            format!("protocol {protocol} port {first}-{last}")
        }
    }
}

/// A prefix and the rules that accept what falls into it.
fn entry(
    text: &mut String,
    image: &Image,
    dimension: &str,
    prefix: &str,
    row: u32,
) -> std::fmt::Result {
    let bits = &image.rows[row as usize];
    let rules: Vec<String> = (0..64 * bits.words.len())
        .filter(|&rule| bits.contains(rule))
        .map(|rule| rule.to_string())
        .collect();
    writeln!(
        text,
        "    {dimension} {prefix}: row {row} {{{}}}",
        rules.join(" ")
    )
}

fn failsafe(
    text: &mut String,
    (class, protocol, port, bits): (u8, u8, [u8; 2], u32),
    remote: &str,
    position: u32,
) -> std::fmt::Result {
    let port = u16::from_be_bytes(port);
    if class == CLASS_TUNNEL {
        return writeln!(
            text,
            "tunnel[{position}]: protocol {protocol} port {port}, node {remote}"
        );
    }
    let direction = ["inbound", "outbound"][usize::from(class)];
    writeln!(
        text,
        "fail-safe {direction}[{position}]: protocol {protocol} port {port}, remote {remote}/{}",
        bits - FAILSAFE_BITS
    )
}

fn flags(value: u32, names: &[(u32, &str)]) -> String {
    let mut text = String::new();
    let mut known = 0;
    for (bit, name) in names {
        known |= bit;
        if value & bit != 0 {
            text.push_str(", ");
            text.push_str(name);
        }
    }
    assert_eq!(value & !known, 0, "a flag without a name");
    text
}

const fn list_name(list: List) -> &'static str {
    match list {
        List::UntrackedIn => "untracked in",
        List::UntrackedOut => "untracked out",
        List::PreDnat => "pre-DNAT",
        List::ForwardIn => "forward in",
        List::ForwardOut => "forward out",
        List::NormalIn => "normal in",
        List::NormalOut => "normal out",
    }
}

const fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
