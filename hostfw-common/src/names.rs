//! Names of the pinned maps and programs, shared by declaration and look-up.
//!
//! They are the names that `bpftool map show` and the pin folder use.

use crate::limits;

/// Array, one entry: the number of the generation in force. Its lowest bit is
/// the slot of every map below [`PER_GENERATION`] that belongs to it.
pub const ACTIVE: &str = "ACTIVE";
/// Interface index to [`Endpoint`](crate::endpoint::Endpoint).
pub const ENDPOINTS: &str = "ENDPOINTS";
/// Number of a list to [`PolicyTable`](crate::policy::PolicyTable).
pub const LISTS: &str = "LISTS";
/// IPv4 prefixes of rules to classes.
pub const PREFIXES_V4: &str = "PREFIXES_V4";
/// IPv6 prefixes of rules to classes.
pub const PREFIXES_V6: &str = "PREFIXES_V6";
/// Protocols with ports or ICMP types to classes.
pub const SERVICES: &str = "SERVICES";
/// What [`PREFIXES_V4`] and [`SERVICES`] say, for the programs to read fast:
/// see [`index`](crate::index).
pub const INDEX: &str = "INDEX";
/// Records of classes and lists with rows of bits, one bit for each rule.
pub const ROWS: &str = "ROWS";
/// What a rule does and where it came from.
pub const RULES: &str = "RULES";
/// IPv4 fail-safe ports.
pub const FAILSAFES_V4: &str = "FAILSAFES_V4";
/// IPv6 fail-safe ports.
pub const FAILSAFES_V6: &str = "FAILSAFES_V6";
/// Flows that one side has opened and the other has not yet answered.
pub const HALF_OPEN: &str = "HALF_OPEN";
/// Flows that both sides have been seen to send in.
pub const CONFIRMED: &str = "CONFIRMED";
/// What tells packets of no flow, mostly, without a look into the two maps above:
/// see [`filter`](crate::filter).
pub const FLOW_FILTER: &str = "FLOW_FILTER";
/// Datagrams whose first fragment was allowed.
pub const FRAGMENTS: &str = "FRAGMENTS";
/// Packets and bytes by checkpoint and reason, per CPU.
pub const COUNTERS: &str = "COUNTERS";
/// Packets by rule of a staged policy
/// ([`StagedKey`](crate::counter::StagedKey)), per CPU.
pub const STAGED: &str = "STAGED";
/// Packets and bytes by rule ([`CounterPage`](crate::counter::CounterPage)), per
/// CPU. Not pinned: each agent's programs have their own.
pub const RULE_COUNTERS: &str = "RULE_COUNTERS";
/// Ring buffer of [`Event`](crate::event::Event)s.
pub const EVENTS: &str = "EVENTS";

/// Array, one entry: what a test run is to believe
/// ([`Trial`](crate::trial::Trial)).
pub const TRIAL: &str = "TRIAL";
/// Array, one entry: the way of the last packet of a test run
/// ([`Trace`](crate::trial::Trace)).
pub const TRACE: &str = "TRACE";
/// Constant of the programs: 0 if they are to remember no verdicts. 1 unless
/// set.
pub const REMEMBER: &str = "REMEMBER";

/// Constant of the programs: not 0 in test runs that use the two above.
pub const TRIAL_MODE: &str = "TRIAL_MODE";

/// Constants of the programs: how long flows may be silent
/// ([`Timeouts`](crate::conntrack::Timeouts)).
pub const TIMEOUTS: &str = "TIMEOUTS";

/// The maps of which every generation has its own: arrays of maps, of which slot
/// `generation & 1` belongs to the generation. Those in [`parts`] have a slot for
/// each part and generation: that of part `n` is `2 * n + (generation & 1)`.
pub const PER_GENERATION: [&str; 10] = [
    ENDPOINTS,
    LISTS,
    PREFIXES_V4,
    PREFIXES_V6,
    SERVICES,
    INDEX,
    ROWS,
    RULES,
    FAILSAFES_V4,
    FAILSAFES_V6,
];

/// How many parts a map of [`PER_GENERATION`] may have: maps of one size, of which
/// as many are there as there are elements for, and at least one.
#[must_use]
pub fn parts(name: &str) -> u32 {
    match name {
        INDEX => limits::MAX_INDEX_LINES / limits::PART_LINES,
        ROWS => limits::MAX_ROW_LINES / limits::PART_LINES,
        RULES => limits::MAX_RULE_ENTRIES / limits::PART_RULES,
        _ => 1,
    }
}

/// The maps that outlive every generation.
pub const LASTING: [&str; 8] = [
    ACTIVE,
    HALF_OPEN,
    CONFIRMED,
    FLOW_FILTER,
    FRAGMENTS,
    COUNTERS,
    STAGED,
    EVENTS,
];

/// XDP program that judges what comes in.
pub const PROGRAM_XDP: &str = "hostfw_xdp";
/// TC program that judges what comes in where XDP cannot be attached.
pub const PROGRAM_TC_INGRESS: &str = "hostfw_tc_in";
/// TC program that judges what goes out.
pub const PROGRAM_TC_EGRESS: &str = "hostfw_tc_out";
/// Netfilter program that judges what is for this host, after DNAT.
pub const PROGRAM_LOCAL_IN: &str = "hostfw_local_in";
/// Netfilter program that judges what the host forwards, after routing.
pub const PROGRAM_FORWARD: &str = "hostfw_forward";

/// Constant of the programs: the [`Layout`](crate::layout::Layout) of the
/// running kernel.
pub const LAYOUT: &str = "LAYOUT";
