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
    policy::{Action, PolicyTable, Row, RuleEntry, TABLE_HAS_JUMP, TABLE_HAS_LOG},
    prefix::{PORT_BITS, PROTOCOL_BITS, PrefixV4, PrefixV6, Service, TABLE_BITS},
};

use crate::{
    maps::{PREFIXES_V4, PREFIXES_V6, ROWS, RULES, SERVICES, slot},
    packet::Veil,
    parse::{Headers, protocol},
    report::{self, Origin},
};

/// What a list of rules says of a packet.
pub(crate) enum Classified {
    /// The first rule that matches and decides.
    Rule(&'static RuleEntry),
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

/// Finds the first rule that decides, and reports those in front of it that
/// have something to tell.
#[inline(always)]
pub(crate) fn classify(table: &PolicyTable, headers: &Headers, origin: &Origin) -> Classified {
    if table.rule_count == 0 {
        return Classified::NoMatch;
    }
    let Some(matched) = look_up(table, headers, origin.generation) else {
        return Classified::Broken;
    };
    let rule = first_rule(&matched, Wanted::NotLogs);
    // Most packets are done here: nothing to report, nowhere to jump.
    if matched.logs.is_none() || origin.quiet || first_rule(&matched, Wanted::Logs) >= rule {
        if rule == NONE {
            return Classified::NoMatch;
        }
        let Some(entry) = entry(origin.generation, table.first_rule + rule) else {
            return Classified::Broken;
        };
        if table.flags & TABLE_HAS_JUMP == 0
            || Action::from_number(entry.action).is_some_and(|action| !action.jumps())
        {
            return Classified::Rule(entry);
        }
    }
    walk(&matched, table.first_rule, headers, origin)
}

#[inline(always)]
fn entry(generation: u64, rule: u32) -> Option<&'static RuleEntry> {
    RULES.get_value(slot(generation), &rule)
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

/// Which rules to look for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Wanted {
    /// Those with action Log.
    Logs,
    /// All others.
    NotLogs,
}

/// The number of the first rule of those wanted whose bit all rows have set;
/// [`NONE`] if there is none.
///
/// A function of its own, so that the verifier looks at it apart from its
/// caller's many paths.
#[inline(never)]
fn first_rule(matched: &Match<'_>, wanted: Wanted) -> u32 {
    let [a, b, c, d] = matched.rows;
    let mut alive = a.summary & b.summary & c.summary & d.summary;
    for _ in 0..ROW_WORDS {
        if alive == 0 {
            return NONE;
        }
        let index = lowest(alive);
        let mut word = a.words[index] & b.words[index] & c.words[index] & d.words[index];
        if let Some(logs) = matched.logs {
            word &= match wanted {
                Wanted::Logs => logs.words[index],
                Wanted::NotLogs => !logs.words[index],
            };
        }
        if word != 0 {
            return (index * 64 + lowest(word)) as u32;
        }
        alive &= alive - 1;
    }
    NONE
}

/// A search that reports and jumps, between its rounds.
struct Walk<'a> {
    matched: &'a Match<'a>,
    headers: &'a Headers,
    origin: &'a Origin,
    /// Words not looked at yet.
    alive: u64,
    /// The bits of the word at `index` that are left.
    word: u64,
    index: u32,
    /// Rules below are passed over.
    start: u32,
    /// Index of bit 0 among all rules.
    base: u32,
    reported: u32,
    outcome: Outcome,
    /// Index of the rule that decides among all rules, if one does.
    rule: u32,
}

#[derive(Clone, Copy)]
#[repr(u32)]
enum Outcome {
    /// It did not come to an end, or not to a good one.
    Broken,
    NoMatch,
    Rule,
}

/// Goes from match to match until one decides.
///
/// Rounds of the `bpf_loop` helper: the verifier follows every round of an
/// ordinary loop, and here each has too many ways. Minimum kernel version 5.17.
#[inline(always)]
fn walk(matched: &Match<'_>, base: u32, headers: &Headers, origin: &Origin) -> Classified {
    /// Every word is taken up once at most, and every bit.
    const ROUNDS: u32 = (ROW_WORDS + 64 * ROW_WORDS + 1) as u32;
    let [a, b, c, d] = matched.rows;
    let alive = a.summary & b.summary & c.summary & d.summary;
    // The first round is to look like any other.
    let zero = Veil::new(alive as u32).draw(0);
    let mut walk = Walk {
        matched,
        headers,
        origin,
        alive,
        word: zero.into(),
        index: zero,
        start: zero,
        base,
        reported: zero,
        outcome: Outcome::Broken,
        rule: zero,
    };
    // SAFETY: the helper calls back with the context given here, and returns
    // before this function does.
    unsafe {
        bpf_loop(ROUNDS, step as *mut c_void, (&raw mut walk).cast(), 0);
    }
    match walk.outcome {
        Outcome::Broken => Classified::Broken,
        Outcome::NoMatch => Classified::NoMatch,
        Outcome::Rule => match entry(origin.generation, walk.rule) {
            Some(entry) => Classified::Rule(entry),
            None => Classified::Broken,
        },
    }
}

/// One round: takes up the next word, or the next rule of the one at hand. 1
/// ends the loop.
#[inline(never)]
extern "C" fn step(_round: u32, walk: *mut Walk<'_>) -> i64 {
    // SAFETY: `walk` hands its own variable to this function only.
    let walk = unsafe { &mut *walk };
    if walk.word == 0 {
        if walk.alive == 0 {
            walk.outcome = Outcome::NoMatch;
            return 1;
        }
        take_up_word(walk);
        return 0;
    }
    let rule = walk.index * 64 + lowest(walk.word) as u32;
    walk.word &= walk.word - 1;
    let Some(entry) = entry(walk.origin.generation, walk.base + rule) else {
        return 1;
    };
    let Some(action) = Action::from_number(entry.action) else {
        return 1;
    };
    match action {
        Action::Allow | Action::Deny | Action::TierDeny => {
            walk.rule = walk.base + rule;
            walk.outcome = Outcome::Rule;
            return 1;
        }
        Action::Log | Action::StagedAllow | Action::StagedDeny | Action::StagedPass => {
            if walk.reported < MAX_LOGS_PER_PACKET && !walk.origin.quiet {
                report::rule(walk.origin, walk.headers, entry);
                walk.reported += 1;
            }
        }
        Action::Pass | Action::Skip => {}
    }
    if action.jumps() {
        let next = u32::from(entry.next);
        // Backwards: no compiler makes it.
        if next <= rule {
            return 1;
        }
        jump(walk, next);
    }
    0
}

#[inline(always)]
fn take_up_word(walk: &mut Walk<'_>) {
    let [a, b, c, d] = walk.matched.rows;
    let index = lowest(walk.alive);
    walk.alive &= walk.alive - 1;
    walk.index = index as u32;
    walk.word = a.words[index] & b.words[index] & c.words[index] & d.words[index];
    if let Some(logs) = walk.matched.logs
        && walk.reported == MAX_LOGS_PER_PACKET
    {
        walk.word &= !logs.words[index];
    }
    if walk.index == walk.start / 64 {
        walk.word &= u64::MAX << (walk.start % 64);
    }
}

/// Goes on with the rule `next`, which comes behind the one at hand.
#[inline(always)]
fn jump(walk: &mut Walk<'_>, next: u32) {
    walk.start = next;
    let index = next / 64;
    if index == walk.index {
        walk.word &= u64::MAX << (next % 64);
        return;
    }
    walk.word = 0;
    walk.alive &= if index < ROW_WORDS as u32 {
        u64::MAX << index
    } else {
        0
    };
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
