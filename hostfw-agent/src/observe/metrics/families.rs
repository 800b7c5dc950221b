//! Every metric that the agent tells, with its type, labels and meaning:
//! `docs/metrics.md` is made from this.

use std::fmt::Write as _;

/// What kind of figure a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows, until the agent or the node starts anew.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How long something takes, in buckets.
    Histogram,
}

impl Type {
    /// The name in the text format and the documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric: one name, with a series for each combination of its labels' values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name; the unit is a part of it.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// What it means, in one sentence.
    pub help: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
}

macro_rules! families {
    ($($constant:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)+) => {
        $(pub(super) const $constant: Family = Family {
            name: $name,
            kind: Type::$kind,
            help: $help,
            labels: &[$($label),*],
        };)+

        /// All metrics, in the order of the documentation.
        pub const FAMILIES: &[Family] = &[$($constant),+];
    };
}

families! {
    BUILD_INFO = "hostfw_build_info", Gauge, ["version"],
        "Always 1; the label tells the version of the agent.";
    READY = "hostfw_ready", Gauge, [],
        "1 if what the source wants is enforced on every governed interface, as /readyz says.";
    OBSERVE_ONLY = "hostfw_observe_only", Gauge, [],
        "1 if the agent judges, counts and reports, and drops nothing.";
    GENERATION_WANTED = "hostfw_generation_wanted", Gauge, [],
        "Number of the generation that holds what the source wants: that in force, or the next one while not everything is enforced as the source says.";
    GENERATION_ENFORCED = "hostfw_generation_enforced", Gauge, [],
        "Number of the generation in force; 0 before the first.";
    ENFORCED_TIMESTAMP = "hostfw_enforced_timestamp_seconds", Gauge, [],
        "When a pass last ended with everything enforced, in seconds since 1970; 0 if none has.";
    PASSES = "hostfw_passes_total", Counter, ["result"],
        "Passes from the source to the kernel, by whether all was enforced (complete) or not (incomplete).";
    PASS_DURATION = "hostfw_pass_duration_seconds", Histogram, [],
        "How long passes take from what was read to what is enforced.";
    COMPILE_DURATION = "hostfw_compile_duration_seconds", Histogram, [],
        "How long the compilation of a generation takes.";
    SWITCH_DURATION = "hostfw_switch_duration_seconds", Histogram, [],
        "How long it takes to write a generation into the kernel and put it in force.";
    OBJECTS = "hostfw_objects", Gauge, ["kind", "state"],
        "Objects by kind and by what is in force of them: enforced, pending, last_good (invalid, an earlier version is in force) or refused (invalid, nothing is).";
    PROBLEMS = "hostfw_problems", Gauge, [],
        "What is wrong with the source, by object or file: as many as hostfwctl status lists.";
    WARNINGS = "hostfw_warnings", Gauge, [],
        "What is valid and probably not meant: as many as hostfwctl status lists.";
    ENDPOINTS = "hostfw_endpoints", Gauge, ["state"],
        "Endpoints of this node: enforced at all their hooks, degraded (not at all of them), or inert (they govern no interface).";
    ENDPOINT_ENFORCED = "hostfw_endpoint_enforced", Gauge, ["endpoint", "interface", "hook"],
        "1 if policy is enforced for the endpoint at the hook: wire-in, wire-out, local-in or forward. The interfaces of workloads have one series together, with interface=\"workloads\", which is 0 if one of them is.";
    PACKETS = "hostfw_packets_total", Counter, ["checkpoint", "verdict", "reason"],
        "Packets judged at each checkpoint, by what became of them (pass, drop, would-drop) and why. A packet counts at every checkpoint that it passes.";
    PACKET_BYTES = "hostfw_packet_bytes_total", Counter, ["checkpoint", "verdict", "reason"],
        "Bytes of these packets, link-layer header included where the checkpoint sees it.";
    DENIALS_NOT_SHOWN = "hostfw_denials_not_shown_total", Counter, ["checkpoint", "reason"],
        "Packets that were dropped and that the kernel left out of what hostfwctl flows shows, for there were too many.";
    STAGED_PACKETS = "hostfw_staged_packets_total", Counter, ["stage", "tier", "policy", "would"],
        "Packets that rules of a staged policy matched since the agent was started, by what the rule would have done. Policies beyond the first 500 by name count together as \"(others)\".";
    POLICY_PACKETS = "hostfw_policy_packets_total", Counter, ["stage", "tier", "policy", "action"],
        "Packets that rules of each policy matched since the agent was started, by what the rule does: allow, deny, pass or log, and of a staged policy would-allow, would-deny or would-pass. Without a policy: the default of the tier. Packets of established flows are not among them. Policies beyond the first 500 by name count together as \"(others)\"; one that is removed begins anew when it comes back.";
    POLICY_BYTES = "hostfw_policy_bytes_total", Counter, ["stage", "tier", "policy", "action"],
        "Bytes of these packets, link-layer header included where the stage sees it.";
    RULES_NOT_COUNTED = "hostfw_rules_not_counted", Gauge, [],
        "Rules, by endpoint, stage, direction and IP version, that are enforced and whose packets are not counted by policy, for there are no more counters.";
    FLOWS = "hostfw_flows", Gauge, ["table"],
        "Flows that are alive in each table of connection tracking. Counted at most once a minute, and only while somebody asks for metrics, who is told the last count.";
    FLOWS_CAPACITY = "hostfw_flows_capacity", Gauge, ["table"],
        "Flows that the table has room for.";
    FLOW_FILTER_FILL = "hostfw_flow_filter_fill_ratio", Gauge, [],
        "Share of the flow filter's bits that are set, when flows were counted; at a quarter it is made anew. 0 if it is not in use.";
    MAP_ENTRIES = "hostfw_map_entries", Gauge, ["map"],
        "Entries of each map of the generation in force.";
    MAP_CAPACITY = "hostfw_map_capacity_entries", Gauge, ["map"],
        "Most entries that a generation may have in the map.";
    MAP_BYTES = "hostfw_map_bytes", Gauge, ["map"],
        "Kernel memory that the map takes; of maps that every generation has, both together.";
    SOURCE_READABLE = "hostfw_source_readable", Gauge, [],
        "1 if the source could be read when that was tried last; while it cannot, what it last held stays in force.";
    SOURCE_KIND_FOLLOWED = "hostfw_source_kind_followed", Gauge, ["kind"],
        "With a cluster as the source: 1 if objects of the kind were listed and are watched. A kind that the cluster does not serve, and nothing of which is in force, is left out.";
}

/// The documentation of all metrics.
#[must_use]
pub fn documentation() -> String {
    let mut text = String::from(BEGINNING);
    for family in FAMILIES {
        let labels: Vec<String> = family.labels.iter().map(|one| format!("`{one}`")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            family.name,
            family.kind.name(),
            labels.join(", "),
            family.help
        );
    }
    text
}

const BEGINNING: &str = "\
# Metrics

<!-- Made from hostfw-agent/src/observe/metrics/families.rs; to renew it:
HOSTFW_BLESS=1 cargo test -p hostfw-agent --test metrics -->

`hostfw-agent` serves over HTTP, on 127.0.0.1:9739 unless `--metrics-address` and
`--metrics-port` say otherwise:

| path | answer |
|-|-|
| `/metrics` | the metrics below, in the text format of Prometheus |
| `/livez` | 200 while the loop that enforces answers |
| `/readyz` | 200 if what the source wants is enforced on every governed interface; else 503 and, in one line, why not |

An invalid object does not make a node unready: its last good version stays in
force, and `hostfw_objects` tells. Nor does a kernel without netfilter programs:
`hostfw_endpoint_enforced` does.

No label has more values than the node has interfaces, or the cluster
policies (500 at most). Histograms have the suffixes `_bucket`, `_sum` and `_count`.
Counts of packets go on when the agent starts anew, and begin anew with the node,
except where it says otherwise.

`deploy/monitoring` has alert rules and a dashboard for Grafana.

| metric | type | labels | meaning |
|-|-|-|-|
";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        for family in FAMILIES {
            let name = family.name;
            assert!(name.starts_with("hostfw_"), "{name}");
            assert_eq!(
                name.ends_with("_total"),
                family.kind == Type::Counter,
                "{name}"
            );
            if family.kind == Type::Histogram {
                assert!(name.ends_with("_seconds"), "{name}");
            }
            assert!(family.help.ends_with('.'), "{name}");
        }
    }
}
