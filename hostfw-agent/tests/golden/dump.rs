//! An image as text that people can check.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

use hostfw_agent::{compile::image::Image, select::Selection};
use hostfw_common::{
    endpoint::{
        FLAG_DROP_INVALID, FLAG_DROP_INVALID_PRE_DNAT, FLAG_LEARNING, FLAG_NETFILTER,
        FLAG_NO_LINK_HEADER, FLAG_WORKLOAD,
    },
    failsafe::{CLASS_TUNNEL, FAILSAFE_BITS},
    index::{CLASS_BASE, LINE_WORDS, Line, NO_RULE, RECORD_FIRST, RECORD_WORDS, Record},
    policy::{Action, Dim, PolicyTable, TABLE_DEFAULT_DENY, TABLE_HAS_JUMP, TABLE_HAS_LOG},
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
        for (list, ids) in List::ALL.into_iter().zip(endpoint.lists) {
            let [v4, v6] = ids.map(|id| id.number);
            if [v4, v6] != [0, 0] {
                writeln!(
                    text,
                    "  {}: IPv4 list {v4}, IPv6 list {v6}",
                    list_name(list)
                )?;
            }
        }
    }
    for (number, list) in image.lists.iter().enumerate().skip(1) {
        write!(text, "list {number}: ")?;
        table(text, image, list)?;
    }
    writeln!(
        text,
        "lines: {} of index, {} of rows",
        image.index.len(),
        image.rows.len()
    )?;
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

fn table(text: &mut String, image: &Image, table: &PolicyTable) -> std::fmt::Result {
    let flags = flags(
        table.flags.into(),
        &[
            (TABLE_HAS_LOG.into(), "reports"),
            (TABLE_HAS_JUMP.into(), "has-jump"),
            (TABLE_DEFAULT_DENY.into(), "default-deny"),
        ],
    );
    if table.rule_count == 0 {
        return writeln!(text, "no rules{flags}");
    }
    let record = line(image, table.rows);
    writeln!(
        text,
        "record {}, {}{flags}",
        table.rows,
        first(Record { line: record }.first())
    )?;
    assert_eq!(table.first, Record { line: record }.first());
    let rules = image.rules_of(table).expect("all rules");
    for (bit, rule) in rules.iter().enumerate() {
        let action = Action::from_number(rule.action).expect("an action");
        write!(text, "  entry {bit}: {action:?}, ")?;
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
    for dim in Dim::ALL {
        dimension(text, image, table, dim)?;
    }
    Ok(())
}

/// A dimension: where the index has it, its base row, and its prefixes.
fn dimension(text: &mut String, image: &Image, list: &PolicyTable, dim: Dim) -> std::fmt::Result {
    let place = &list.dimensions[dim as usize];
    let name = dim_name(dim);
    let base: Vec<u64> = (0..list.lines())
        .flat_map(|number| line(image, list.base_row(dim) + number).words)
        .collect();
    write!(text, "  {name}: table {}, ", place.table.number)?;
    match place.stride {
        0 => write!(text, "all class {}", place.root)?,
        stride => write!(text, "{stride} bits at line {}", place.root)?,
    }
    writeln!(text, ", base {{{}}}", rules(&base))?;
    let mut classes: Vec<(String, u32)> = Vec::new();
    if let Some(table) = image.prefixes_v4.get(&place.table) {
        classes.extend(table.iter().map(|prefix| {
            let address = Ipv4Addr::from(prefix.key.address);
            let net = format!("{address}/{}", prefix.length - TABLE_BITS);
            (net, prefix.class)
        }));
    }
    if let Some(table) = image.prefixes_v6.get(&place.table) {
        classes.extend(table.iter().map(|prefix| {
            let address = Ipv6Addr::from(prefix.key.address);
            let net = format!("{address}/{}", prefix.length - TABLE_BITS);
            (net, prefix.class)
        }));
    }
    if let Some(table) = image.services.get(&place.table) {
        classes.extend(table.iter().map(|prefix| {
            let service = service(&prefix.key, prefix.length - TABLE_BITS);
            (service, prefix.class)
        }));
    }
    for (prefix, class) in classes {
        write!(text, "    {prefix}: ")?;
        if class == CLASS_BASE {
            writeln!(text, "base")?;
            continue;
        }
        let record = Record {
            line: line(image, class),
        };
        let mut row = base.clone();
        let differing = (0..list.lines()).filter(|number| record.lines() >> number & 1 == 1);
        for (number, at) in differing.zip(class + 1..) {
            let words = number as usize * LINE_WORDS;
            row[words..words + LINE_WORDS].copy_from_slice(&line(image, at).words);
        }
        let clears = if record.clears() { ", clears" } else { "" };
        writeln!(
            text,
            "class {class} {{{}}}, words {{{}}}, {}{clears}",
            rules(&row),
            rules(&record.line.words[RECORD_WORDS..RECORD_FIRST]),
            first(record.first())
        )?;
    }
    Ok(())
}

fn line(image: &Image, number: u32) -> &Line {
    image.rows.get(number).expect("a line that is there")
}

fn first(rule: u32) -> String {
    match rule {
        NO_RULE => "first none".to_owned(),
        rule => format!("first {rule}"),
    }
}

/// The positions of the bits that are set.
fn rules(words: &[u64]) -> String {
    let set = (0..64 * words.len()).filter(|bit| words[bit / 64] >> (bit % 64) & 1 == 1);
    let set: Vec<String> = set.map(|bit| bit.to_string()).collect();
    set.join(" ")
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

const fn dim_name(dim: Dim) -> &'static str {
    match dim {
        Dim::Source => "source",
        Dim::Destination => "destination",
        Dim::Service => "service",
        Dim::SourcePort => "source port",
    }
}
