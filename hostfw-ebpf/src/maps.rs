//! The maps. Their names are those of [`hostfw_common::names`].

use aya_ebpf::{
    bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE},
    btf_maps::{
        Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf,
    },
    macros::btf_map,
};
use hostfw_common::{
    conntrack::{Flow, FlowKey, FragmentKey},
    counter::{COUNTER_PAGES, COUNTER_SLOTS, CounterPage, ReasonCounter, StagedKey},
    endpoint::Endpoint,
    event::Event,
    failsafe::{FailsafeV4, FailsafeV6},
    index::Line,
    limits::{
        self, CONFIRMED_FLOWS, EVENT_BYTES, FRAGMENTED_DATAGRAMS, HALF_OPEN_FLOWS, MAX_INDEX_LINES,
        MAX_ROW_LINES, MAX_RULE_ENTRIES, MAX_STAGED_COUNTS, PART_LINES, PART_RULES,
    },
    policy::{PolicyTable, RuleEntry},
    prefix::{PrefixV4, PrefixV6, Service},
    trial::{Trace, Trial},
};

use crate::{known::Place, remember::Remembered, search::Search};

/// Two slots for every per-generation map. What stands here as inner map is a
/// template: the agent puts in maps as large as the generation needs. For
/// arrays that takes a flag, since the verifier otherwise relies on their size.
type PerGeneration<M> = ArrayOfMaps<M, 2>;
const SIZE_VARIES: usize = BPF_F_INNER_MAP as usize;

/// Two slots for every part of a per-generation map. All parts are of one size:
/// only then does the kernel look up without a call.
type InParts<M, const SLOTS: usize> = ArrayOfMaps<M, SLOTS>;

/// A part of an array of lines. What can be mapped begins on a page, so that each
/// of the lines is one of the cache, too.
type LinePart = Array<Line, { PART_LINES as usize }, { BPF_F_MMAPABLE as usize }>;
type RulePart = Array<RuleEntry, { PART_RULES as usize }>;

#[btf_map]
pub(crate) static ACTIVE: Array<u64, 1> = Array::new();

#[btf_map]
pub(crate) static ENDPOINTS: PerGeneration<HashMap<u32, Endpoint, 1>> = ArrayOfMaps::new();

#[btf_map]
pub(crate) static LISTS: PerGeneration<Array<PolicyTable, 1, SIZE_VARIES>> = ArrayOfMaps::new();

#[btf_map]
pub(crate) static PREFIXES_V4: PerGeneration<LpmTrie<PrefixV4, u32, 1>> = ArrayOfMaps::new();

#[btf_map]
pub(crate) static PREFIXES_V6: PerGeneration<LpmTrie<PrefixV6, u32, 1>> = ArrayOfMaps::new();

#[btf_map]
pub(crate) static SERVICES: PerGeneration<LpmTrie<Service, u32, 1>> = ArrayOfMaps::new();

#[btf_map]
static INDEX: InParts<LinePart, { 2 * (MAX_INDEX_LINES / PART_LINES) as usize }> =
    ArrayOfMaps::new();

#[btf_map]
static ROWS: InParts<LinePart, { 2 * (MAX_ROW_LINES / PART_LINES) as usize }> = ArrayOfMaps::new();

#[btf_map]
static RULES: InParts<RulePart, { 2 * (MAX_RULE_ENTRIES / PART_RULES) as usize }> =
    ArrayOfMaps::new();

#[btf_map]
pub(crate) static FAILSAFES_V4: PerGeneration<LpmTrie<FailsafeV4, u32, 1>> = ArrayOfMaps::new();

#[btf_map]
pub(crate) static FAILSAFES_V6: PerGeneration<LpmTrie<FailsafeV6, u32, 1>> = ArrayOfMaps::new();

#[btf_map]
pub(crate) static HALF_OPEN: LruHashMap<FlowKey, Flow, { HALF_OPEN_FLOWS as usize }> =
    LruHashMap::new();

#[btf_map]
pub(crate) static CONFIRMED: LruHashMap<FlowKey, Flow, { CONFIRMED_FLOWS as usize }> =
    LruHashMap::new();

/// As many entries as the agent makes it with. It begins on a page: see
/// [`LinePart`].
#[btf_map]
pub(crate) static FLOW_FILTER: Array<Line, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The value is the time at which the first fragment was allowed.
#[btf_map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, u64, { FRAGMENTED_DATAGRAMS as usize }> =
    LruHashMap::new();

#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<ReasonCounter, { COUNTER_SLOTS as usize }> =
    PerCpuArray::new();

/// What the programs at the wire remember. Not pinned: other programs would
/// take it for what they remember themselves.
#[btf_map]
pub(crate) static REMEMBERED: PerCpuArray<Remembered, { limits::REMEMBERED as usize }> =
    PerCpuArray::new();

/// Not pinned, as above. Each interface has a place for each direction.
#[btf_map]
pub(crate) static KNOWN: PerCpuArray<Place, { 2 * limits::KNOWN_INTERFACES as usize }> =
    PerCpuArray::new();

/// Not pinned, as above.
#[btf_map]
pub(crate) static SEARCH: PerCpuArray<Search, 2> = PerCpuArray::new();

/// Not pinned, as above: an earlier agent's programs count what they still judge in
/// a map of theirs, and never in counters that this one's agent has given away.
#[btf_map]
pub(crate) static RULE_COUNTERS: PerCpuArray<CounterPage, { COUNTER_PAGES as usize }> =
    PerCpuArray::new();

#[btf_map]
pub(crate) static STAGED: PerCpuHashMap<StagedKey, u64, { MAX_STAGED_COUNTS as usize }> =
    PerCpuHashMap::new();

#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, { EVENT_BYTES as usize }> = RingBuf::new();

/// Used by test runs only.
#[btf_map]
pub(crate) static TRIAL: Array<Trial, 1> = Array::new();

/// Used by test runs only.
#[btf_map]
pub(crate) static TRACE: Array<Trace, 1> = Array::new();

/// The number of the generation in force. Read once for a packet, so that all
/// its look-ups are in the tables of the same generation.
#[inline(always)]
pub(crate) fn generation() -> u64 {
    match ACTIVE.get_ptr(0) {
        // SAFETY: an aligned word of an array map, which is never freed while
        // the program runs. Volatile: read once, and not again later.
        Some(word) => unsafe { word.read_volatile() },
        None => 0,
    }
}

/// The slot of a generation's maps.
#[inline(always)]
pub(crate) const fn slot(generation: u64) -> u32 {
    (generation & 1) as u32
}

/// A line of a generation's index.
#[inline(always)]
pub(crate) fn index_line(generation: u64, number: u32) -> Option<&'static Line> {
    let part = 2 * (number / PART_LINES) + slot(generation);
    INDEX.get(part)?.get(number % PART_LINES)
}

/// A line of a generation's rows.
#[inline(always)]
pub(crate) fn row_line(generation: u64, number: u32) -> Option<&'static Line> {
    let part = 2 * (number / PART_LINES) + slot(generation);
    ROWS.get(part)?.get(number % PART_LINES)
}

/// A rule of a generation.
#[inline(always)]
pub(crate) fn rule(generation: u64, number: u32) -> Option<&'static RuleEntry> {
    let part = 2 * (number / PART_RULES) + slot(generation);
    RULES.get(part)?.get(number % PART_RULES)
}
