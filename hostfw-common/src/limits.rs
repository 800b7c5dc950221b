//! Capacities that both sides obey. A policy set that exceeds one is refused
//! as a whole, naming the limit.

/// Words of 64 rules in a row: what the four words at the head of a
/// [record](crate::index::RECORD_WORDS) have bits for.
pub const ROW_WORDS: usize = 256;

/// Rule entries that one endpoint can have for one stage, direction and address
/// family. A rule takes one, with named ports more; the default of a tier takes
/// one.
pub const MAX_RULES: u32 = (ROW_WORDS * 64) as u32;

/// Distinct lists of rules of a generation, the empty one included.
pub const MAX_LISTS: u32 = 1 << 16;

/// Entries of each per-generation prefix trie, over all endpoints.
pub const MAX_PREFIXES: u32 = 1 << 20;

/// Lines of [`ROWS`](crate::names::ROWS): 64 bytes each.
pub const MAX_ROW_LINES: u32 = 1 << 20;

/// Lines of [`INDEX`](crate::names::INDEX): 64 bytes each.
pub const MAX_INDEX_LINES: u32 = 1 << 20;

/// Rule entries of a generation, over all endpoints, stages and families.
pub const MAX_RULE_ENTRIES: u32 = 1 << 20;

/// Lines of a part of [`INDEX`](crate::names::INDEX) or
/// [`ROWS`](crate::names::ROWS), which is a map of its own. The kernel looks up
/// in line what is in a map of a size that it knows when it loads a program, and
/// calls a function for what is in others.
pub const PART_LINES: u32 = 1 << 13;

/// Entries of a part of [`RULES`](crate::names::RULES), likewise.
pub const PART_RULES: u32 = 1 << 13;

/// Interfaces that can be governed at the same time.
pub const MAX_ENDPOINTS: u32 = 4096;

/// Fail-safe entries of each family, and entries for each node and kind of
/// tunnel.
pub const MAX_FAILSAFES: u32 = 1 << 16;

/// Half-open flows kept, least recently used first to go, unless the agent is
/// told otherwise or the machine has more or less memory.
pub const HALF_OPEN_FLOWS: u32 = CONFIRMED_FLOWS / 4;

/// Confirmed flows kept, likewise.
pub const CONFIRMED_FLOWS: u32 = 1 << 18;

/// The fewest confirmed flows that a machine of little memory keeps by default.
pub const MIN_CONFIRMED_FLOWS: u32 = 1 << 16;

/// The most confirmed flows that a machine of much memory keeps by default.
pub const MAX_CONFIRMED_FLOWS: u32 = 1 << 20;

/// Datagrams in fragments kept, least recently used first to go.
pub const FRAGMENTED_DATAGRAMS: u32 = 1 << 13;

/// Bytes of the event ring buffer.
pub const EVENT_BYTES: u32 = 1 << 18;

/// Packets that are dropped and shown one by one in a second: on each CPU, at each
/// checkpoint, for each reason. In a second that has more, one of each kind (rule or
/// reason, interface, protocol and destination port, which share 64 places) is shown
/// besides. The figure is ours: more than anybody reads, and nothing to a CPU.
pub const DENIALS_PER_SECOND: u32 = 100;

/// Rules of staged policies whose packets are counted, over all endpoints and
/// stages; those of the generation before are among them until the agent has
/// collected their counts. What is beyond is reported, and not counted.
pub const MAX_STAGED_COUNTS: u32 = 1 << 13;

/// Counters of rules: of all endpoints, stages and families together, one for each
/// entry of a list. Lists beyond are enforced, and not counted by rule. Each CPU
/// takes 16 bytes for each.
pub const MAX_RULE_COUNTERS: u32 = 1 << 15;

/// Rules with action Log or of staged policies that one packet reports for one
/// list; those that it matches beyond are not reported. They decide nothing, so
/// no verdict depends on it.
pub const MAX_LOGS_PER_PACKET: u32 = 8;

/// IPv6 extension headers that are parsed before a packet counts as
/// undecodable. The figure is ours: more than traffic has that means well, and
/// few enough for the verifier, which follows each.
pub const MAX_EXTENSION_HEADERS: u32 = 8;

/// Verdicts that each CPU remembers, by the classes that led to them. A power
/// of two.
pub const REMEMBERED: u32 = 1 << 10;

/// Interfaces of which each CPU keeps at hand what governs them; with more, some
/// share a place. A power of two.
pub const KNOWN_INTERFACES: u32 = 1 << 4;
