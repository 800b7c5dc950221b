//! The first rule of a list that decides about a packet.
//!
//! The [`index`](crate::index) gives the packet's class in each dimension, and
//! the [`search`](crate::search) the first rule that all four classes accept.
//! What it costs hardly depends on how many rules there are.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use hostfw_common::{
    index::NO_RULE,
    limits::MAX_LOGS_PER_PACKET,
    policy::{Action, ListId, PolicyTable, RuleEntry, TABLE_HAS_LOG},
};

use crate::{
    index::{BROKEN, classes},
    judge, maps,
    packet::Veil,
    parse::Headers,
    remember::{Outcome, recall, remember, remembers},
    report::{self, Origin},
    search::{self, Search},
    tally,
};

/// What a list of rules says of a packet.
pub(crate) enum Classified {
    /// The action of the first rule that matches and decides, its number among
    /// all rules, and the rule itself, unless nobody is to be told of it.
    Rule(u8, u32, Option<&'static RuleEntry>),
    /// No rule that decides matches.
    NoMatch,
    /// The tables are not what the compiler makes.
    Broken,
}

/// Finds the first rule that matches. `None` if that decides nothing: then it
/// is for [`go_on`] to find the one that does.
#[inline(always)]
pub(crate) fn classify(
    list: ListId,
    table: &PolicyTable,
    headers: &Headers,
    origin: &Origin,
) -> Option<Classified> {
    if table.rule_count == 0 {
        return Some(Classified::NoMatch);
    }
    let Some(search) = search::this_cpus(origin) else {
        return Some(Classified::Broken);
    };
    classes(table, headers, origin.generation, &mut search.classes);
    let remembered = is_remembered(table, origin);
    if remembered && let Some(outcome) = recall(list, &search.classes, origin.generation) {
        return Some(recalled(outcome, table, origin));
    }
    let rule = search.first(table, origin.generation);
    let found = decided(table, rule, origin);
    match &found {
        Classified::Rule(action, ..) => {
            if !decides(*action) {
                return None;
            }
            tally::rule(origin, rule);
            if remembered {
                remember(
                    list,
                    &search.classes,
                    origin.generation,
                    Outcome::rule(rule, *action),
                );
            }
        }
        Classified::NoMatch => {
            if remembered {
                remember(list, &search.classes, origin.generation, Outcome::NO_MATCH);
            }
        }
        Classified::Broken => {}
    }
    Some(found)
}

/// What it means that this is remembered.
#[inline(always)]
fn recalled(outcome: Outcome, table: &PolicyTable, origin: &Origin) -> Classified {
    if let Some(passed) = outcome.passed() {
        tally::rule(origin, passed);
    }
    if outcome.is_no_match() {
        return Classified::NoMatch;
    }
    tally::rule(origin, outcome.number());
    if judge::tells(origin) {
        decided(table, outcome.number(), origin)
    } else {
        let number = table.first_rule + outcome.number();
        Classified::Rule(outcome.action(), number, None)
    }
}

/// Finds the first rule that decides, and reports those in front of it that
/// have something to tell. On this CPU [`classify`] has just returned `None`
/// for the same packet and list.
#[inline(always)]
pub(crate) fn go_on(
    list: ListId,
    table: &PolicyTable,
    headers: &Headers,
    origin: &Origin,
) -> Classified {
    let Some(search) = search::this_cpus(origin) else {
        return Classified::Broken;
    };
    let Walked { rule, passed } = walk(search, table, headers, origin);
    let found = decided(table, rule, origin);
    // Who has passed more than one tier is to be counted at all of them.
    if is_remembered(table, origin) && passed != MANY {
        let outcome = match &found {
            Classified::Rule(action, ..) => Outcome::rule(rule, *action),
            Classified::NoMatch => Outcome::NO_MATCH,
            Classified::Broken => return found,
        };
        remember(
            list,
            &search.classes,
            origin.generation,
            outcome.behind(passed),
        );
    }
    found
}

/// Whether the search ends with a rule of this action.
#[inline(always)]
fn decides(action: u8) -> bool {
    matches!(
        Action::from_number(action),
        Some(Action::Allow | Action::Deny | Action::TierDeny)
    )
}

/// Whether verdicts of a list are remembered. What reports is to do so for
/// every packet.
#[inline(always)]
fn is_remembered(table: &PolicyTable, origin: &Origin) -> bool {
    table.flags & TABLE_HAS_LOG == 0 && remembers(origin)
}

/// What it means that a rule, [`NO_RULE`] or [`BROKEN`] was found.
#[inline(always)]
fn decided(table: &PolicyTable, rule: u32, origin: &Origin) -> Classified {
    if rule == NO_RULE {
        return Classified::NoMatch;
    }
    if rule >= u32::from(table.rule_count) {
        return Classified::Broken;
    }
    let number = table.first_rule + rule;
    match entry(origin.generation, number) {
        Some(entry) => Classified::Rule(entry.action, number, Some(entry)),
        None => Classified::Broken,
    }
}

#[inline(always)]
fn entry(generation: u64, rule: u32) -> Option<&'static RuleEntry> {
    maps::rule(generation, rule)
}

/// A search that reports and jumps, between its rounds.
struct Walk<'a> {
    search: &'a mut Search,
    table: &'a PolicyTable,
    headers: &'a Headers,
    origin: &'a Origin,
    /// Rules below are passed over.
    start: u32,
    reported: u32,
    end: Walked,
}

/// How a walk ended.
#[derive(Clone, Copy)]
struct Walked {
    /// The rule that decides, [`NO_RULE`], or [`BROKEN`] until the walk has
    /// come to a good end.
    rule: u32,
    /// The rule with action Pass that was met, [`NO_PASS`] or [`MANY`].
    passed: u32,
}

/// No rule with action Pass was met.
const NO_PASS: u32 = Outcome::NO_PASS;
/// More than one was. No list has that many rules.
const MANY: u32 = Outcome::NO_PASS - 1;

/// Goes from match to match until one decides, and counts them.
///
/// Rounds of the `bpf_loop` helper: the verifier follows every round of an
/// ordinary loop, and here each has too many ways. Minimum kernel version 5.17.
#[inline(always)]
fn walk(search: &mut Search, table: &PolicyTable, headers: &Headers, origin: &Origin) -> Walked {
    let mut end = Walked {
        rule: BROKEN,
        passed: NO_PASS,
    };
    if !search.widen(table) {
        return end;
    }
    // The first round is to look like any other.
    let zero = Veil::new(table.first_rule).draw(0);
    let mut walk = Walk {
        search,
        table,
        headers,
        origin,
        start: zero,
        reported: zero,
        end,
    };
    // No round goes back, so there are at most as many as rules, and one that
    // finds none.
    let rounds = u32::from(table.rule_count) + 1;
    // SAFETY: the helper calls back with the context given here, and returns
    // before this function does.
    unsafe {
        bpf_loop(rounds, step as *mut c_void, (&raw mut walk).cast(), 0);
    }
    end = walk.end;
    end
}

/// One round: the next rule that matches. 1 ends the loop.
#[inline(never)]
extern "C" fn step(_round: u32, walk: *mut Walk<'_>) -> i64 {
    // SAFETY: `walk` hands its own variable to this function only.
    let walk = unsafe { &mut *walk };
    let generation = walk.origin.generation;
    let rule = walk.search.next(walk.start);
    if rule == NO_RULE {
        walk.end.rule = NO_RULE;
        return 1;
    }
    if rule >= walk.table.rule_count.into() {
        return 1;
    }
    let Some(entry) = entry(generation, walk.table.first_rule + rule) else {
        return 1;
    };
    let Some(action) = Action::from_number(entry.action) else {
        return 1;
    };
    if action != Action::Skip {
        tally::rule(walk.origin, rule);
    }
    match action {
        Action::Allow | Action::Deny | Action::TierDeny => {
            walk.end.rule = rule;
            return 1;
        }
        Action::Log | Action::StagedAllow | Action::StagedDeny | Action::StagedPass => {
            if walk.reported < MAX_LOGS_PER_PACKET && !walk.origin.quiet {
                report::rule(walk.origin, walk.headers, entry);
                walk.reported += 1;
            }
        }
        Action::Pass => {
            walk.end.passed = if walk.end.passed == NO_PASS {
                rule
            } else {
                MANY
            };
        }
        Action::Skip => {}
    }
    walk.start = rule + 1;
    if action.jumps() {
        // Backwards: no compiler makes it.
        if u32::from(entry.next) <= rule {
            return 1;
        }
        walk.start = entry.next.into();
    }
    0
}
