//! The first rule of a list that matches a packet.
//!
//! One look-up in each dimension gives a row of bits, one bit for each rule;
//! the first bit that all rows have set is the rule. The cost does not depend
//! on how many rules there are, but for one step for each 64 of them that are
//! alive in all dimensions.

use core::{ffi::c_void, hint::black_box};

use aya_ebpf::{btf_maps::lpm_trie::Key, helpers::generated::bpf_loop};
use hostfw_common::{
    endpoint::Family,
    limits::{MAX_LOGS_PER_PACKET, ROW_WORDS},
    policy::{PolicyTable, Row, RuleEntry, TABLE_HAS_LOG},
    prefix::{PORT_BITS, PROTOCOL_BITS, PrefixV4, PrefixV6, Service, TABLE_BITS},
};

use crate::{
    maps::{PREFIXES_V4, PREFIXES_V6, ROWS, RULES, SERVICES, slot},
    parse::{Headers, protocol},
    report::{self, Origin},
};

/// What a list of rules says of a packet.
pub(crate) enum Classified {
    /// The first rule that matches and decides.
    Rule(RuleEntry),
    /// No rule that decides matches.
    NoMatch,
    /// The tables are not what the compiler makes.
    Broken,
}

/// The rows of a packet, and the row of the rules that only log.
struct Match<'a> {
    rows: [&'a Row; 4],
    logs: Option<&'a Row>,
}

/// Finds the first rule that decides, and reports the rules with action Log in
/// front of it.
#[inline(always)]
pub(crate) fn classify(table: &PolicyTable, headers: &Headers, origin: &Origin) -> Classified {
    if table.rule_count == 0 {
        return Classified::NoMatch;
    }
    let Some(matched) = look_up(table, headers, origin.generation) else {
        return Classified::Broken;
    };
    let rule = first_rule(&matched);
    if matched.logs.is_some() {
        report_logs(&matched, table.first_rule, rule, headers, origin);
    }
    if rule == NONE {
        return Classified::NoMatch;
    }
    match RULES.get_value(slot(origin.generation), &(table.first_rule + rule)) {
        Some(entry) => Classified::Rule(*entry),
        None => Classified::Broken,
    }
}

#[inline(always)]
fn look_up(table: &PolicyTable, headers: &Headers, generation: u64) -> Option<Match<'static>> {
    let slot = slot(generation);
    let (source, destination) = match headers.family() {
        Family::V4 => {
            let prefixes = PREFIXES_V4.get(slot)?;
            let mut key = Key::new(
                TABLE_BITS + 32,
                PrefixV4 {
                    table: table.table,
                    address: headers.source.v4(),
                },
            );
            let source = *prefixes.get(&key)?;
            key.data.table.number = table.destination();
            key.data.address = headers.destination.v4();
            (source, *prefixes.get(&key)?)
        }
        Family::V6 => {
            let prefixes = PREFIXES_V6.get(slot)?;
            let mut key = Key::new(
                TABLE_BITS + 128,
                PrefixV6 {
                    table: table.table,
                    address: headers.source.bytes,
                },
            );
            let source = *prefixes.get(&key)?;
            key.data.table.number = table.destination();
            key.data.address = headers.destination.bytes;
            (source, *prefixes.get(&key)?)
        }
    };
    let services = SERVICES.get(slot)?;
    let mut key = Key::new(
        TABLE_BITS + PROTOCOL_BITS + PORT_BITS,
        Service {
            table: table.table,
            protocol: headers.protocol,
            port: headers.destination_port,
            _pad: 0,
        },
    );
    let service = *services.get(&key)?;
    key.data.table.number = table.destination();
    key.data.protocol = 0;
    key.data.port = source_port(headers);
    let source_port = *services.get(&key)?;

    let row = |index: u32| ROWS.get_value(slot, &index);
    let logs = if table.flags & TABLE_HAS_LOG == 0 {
        None
    } else {
        Some(row(table.log_row)?)
    };
    Some(Match {
        rows: [
            row(source)?,
            row(destination)?,
            row(service)?,
            row(source_port)?,
        ],
        logs,
    })
}

/// The source port of protocols that have one: the field holds an identifier
/// for ICMP.
#[inline(always)]
fn source_port(headers: &Headers) -> [u8; 2] {
    match headers.protocol {
        protocol::ICMP | protocol::ICMPV6 => [0; 2],
        _ => headers.source_port,
    }
}

/// No rule.
const NONE: u32 = u32::MAX;

/// The number of the first rule whose bit all rows have set, rules that only
/// log left out; [`NONE`] if there is none.
///
/// A function of its own, so that the verifier looks at it apart from its
/// caller's many paths.
#[inline(never)]
fn first_rule(matched: &Match<'_>) -> u32 {
    let [a, b, c, d] = matched.rows;
    let mut alive = a.summary & b.summary & c.summary & d.summary;
    for _ in 0..ROW_WORDS {
        if alive == 0 {
            return NONE;
        }
        let index = lowest(alive);
        let mut word = a.words[index] & b.words[index] & c.words[index] & d.words[index];
        if let Some(logs) = matched.logs {
            word &= !logs.words[index];
        }
        if word != 0 {
            return (index * 64 + lowest(word)) as u32;
        }
        alive &= alive - 1;
    }
    NONE
}

/// The state of [`report_logs`] between rounds.
struct Logs<'a> {
    matched: &'a Match<'a>,
    headers: &'a Headers,
    origin: &'a Origin,
    /// Words not looked at yet.
    alive: u64,
    /// The bits of the word at `index` that are left.
    word: u64,
    index: u32,
    /// Index of bit 0 among all rules.
    base: u32,
    /// The rule to stop at.
    end: u32,
    reported: u32,
}

/// Reports the rules with action Log that match and come before `end`.
///
/// Rounds of the `bpf_loop` helper: the verifier follows every round of an
/// ordinary loop, and here each has too many ways. Minimum kernel version 5.17.
#[inline(always)]
fn report_logs(matched: &Match<'_>, base: u32, end: u32, headers: &Headers, origin: &Origin) {
    let Some(row) = matched.logs else {
        return;
    };
    let [a, b, c, d] = matched.rows;
    let mut logs = Logs {
        matched,
        headers,
        origin,
        alive: row.summary & a.summary & b.summary & c.summary & d.summary,
        word: 0,
        index: 0,
        base,
        end,
        reported: 0,
    };
    // SAFETY: the helper calls back with the context given here, and returns
    // before this function does.
    unsafe {
        bpf_loop(
            ROW_WORDS as u32 + MAX_LOGS_PER_PACKET,
            next_log as *mut c_void,
            (&raw mut logs).cast(),
            0,
        );
    }
}

/// One round: takes up the next word, or reports a rule of the one at hand. 1
/// ends the loop.
#[inline(never)]
extern "C" fn next_log(_round: u32, logs: *mut Logs<'_>) -> i64 {
    // SAFETY: `report_logs` hands its own variable to this function only.
    let logs = unsafe { &mut *logs };
    let Some(row) = logs.matched.logs else {
        return 1;
    };
    if logs.word == 0 {
        if logs.alive == 0 {
            return 1;
        }
        let [a, b, c, d] = logs.matched.rows;
        let index = lowest(logs.alive);
        logs.alive &= logs.alive - 1;
        logs.word =
            row.words[index] & a.words[index] & b.words[index] & c.words[index] & d.words[index];
        logs.index = index as u32;
        return 0;
    }
    let rule = logs.index * 64 + lowest(logs.word) as u32;
    logs.word &= logs.word - 1;
    if rule >= logs.end || logs.reported == MAX_LOGS_PER_PACKET {
        return 1;
    }
    let slot = slot(logs.origin.generation);
    if let Some(entry) = RULES.get_value(slot, &(logs.base + rule)) {
        report::rule(logs.origin, logs.headers, entry);
        logs.reported += 1;
    }
    0
}

/// The position of the lowest bit that is set, below 64 for any argument.
///
/// Not `trailing_zeros`: for this target it becomes a table in memory, whose
/// bounds check the compiler leaves out and the verifier wants. The black box
/// keeps the compiler from seeing through.
#[inline(always)]
fn lowest(word: u64) -> usize {
    let below = black_box(word & word.wrapping_neg()).wrapping_sub(1);
    (below.count_ones() & 63) as usize
}
