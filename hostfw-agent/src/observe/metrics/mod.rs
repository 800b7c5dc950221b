//! Metrics for Prometheus.

pub mod families;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use hostfw_common::{counter::Checkpoint, verdict::Reason};
use prometheus::{
    Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::{Atomic, Collector, GenericGauge, GenericGaugeVec},
};

use self::families::{
    BUILD_INFO, COMPILE_DURATION, DENIALS_NOT_SHOWN, ENDPOINT_ENFORCED, ENDPOINTS,
    ENFORCED_TIMESTAMP, FLOW_FILTER_FILL, FLOWS, FLOWS_CAPACITY, Family, GENERATION_ENFORCED,
    GENERATION_WANTED, MAP_BYTES, MAP_CAPACITY, MAP_ENTRIES, OBJECTS, OBSERVE_ONLY, PACKET_BYTES,
    PACKETS, PASS_DURATION, PASSES, POLICY_BYTES, POLICY_PACKETS, PROBLEMS, READY,
    RULES_NOT_COUNTED, SOURCE_KIND_FOLLOWED, SOURCE_READABLE, STAGED_PACKETS, SWITCH_DURATION,
    WARNINGS,
};
use super::{
    rules::PolicyCount,
    status::{EndpointStatus, ObjectState, StagedStatus, Status},
};
use crate::model::Kind;

/// Of more policies than these, the rest count together: what a
/// Prometheus server keeps for each label is dear.
const MOST_POLICIES: usize = 500;

/// What [`MOST_POLICIES`] leaves out is called.
const OTHERS: &str = "(others)";

/// Seconds: a small change takes milliseconds, the first pass of a large node
/// some seconds.
const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// How many entries a map of the generation in force has, and may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// Name of the map.
    pub name: &'static str,
    /// Entries that it has.
    pub entries: usize,
    /// Entries that it may have.
    pub capacity: usize,
}

/// How full the tables of flows are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FlowFill {
    /// Flows alive in `HALF_OPEN` and `CONFIRMED`.
    pub alive: [u64; 2],
    /// Flows that the two have room for.
    pub capacity: [u32; 2],
    /// Share of the filter's bits that are set.
    pub filter: f64,
}

/// What is told beside the [`Status`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// Whether the last pass left everything enforced.
    pub complete: bool,
    /// Whether the source could be read.
    pub readable: bool,
    /// What the maps of the generation hold.
    pub maps: Vec<MapFill>,
    /// What the tables of flows hold, if that was counted yet.
    pub flows: Option<FlowFill>,
    /// Kinds of objects that the source follows one by one, and whether it can.
    pub kinds: Vec<(&'static str, bool)>,
    /// What policies have counted.
    pub policies: Vec<PolicyCount>,
    /// Rules that are not counted.
    pub not_counted: u64,
    /// Packets that were dropped and not reported one by one.
    pub hidden: Vec<(Checkpoint, Reason, u64)>,
}

/// The metrics of an agent.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    ready: IntGauge,
    observe_only: IntGauge,
    wanted: IntGauge,
    enforced: IntGauge,
    enforced_at: IntGauge,
    passes: IntCounterVec,
    pass: Histogram,
    compile: Histogram,
    switch: Histogram,
    objects: IntGaugeVec,
    problems: IntGauge,
    warnings: IntGauge,
    endpoints: IntGaugeVec,
    endpoint_enforced: IntGaugeVec,
    packets: IntCounterVec,
    packet_bytes: IntCounterVec,
    hidden: IntCounterVec,
    staged: IntCounterVec,
    policy_packets: IntCounterVec,
    policy_bytes: IntCounterVec,
    not_counted: IntGauge,
    flows: IntGaugeVec,
    flows_capacity: IntGaugeVec,
    filter_fill: GenericGauge<prometheus::core::AtomicF64>,
    map_entries: IntGaugeVec,
    map_capacity: IntGaugeVec,
    map_bytes: IntGaugeVec,
    readable: IntGauge,
    followed: IntGaugeVec,
}

impl Metrics {
    /// Nothing has happened yet.
    ///
    /// # Errors
    ///
    /// If a name or label is not one, or there twice: a defect.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let build: IntGaugeVec = gauges(&registry, BUILD_INFO)?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            ready: gauge(&registry, READY)?,
            observe_only: gauge(&registry, OBSERVE_ONLY)?,
            wanted: gauge(&registry, GENERATION_WANTED)?,
            enforced: gauge(&registry, GENERATION_ENFORCED)?,
            enforced_at: gauge(&registry, ENFORCED_TIMESTAMP)?,
            passes: counters(&registry, PASSES)?,
            pass: histogram(&registry, PASS_DURATION)?,
            compile: histogram(&registry, COMPILE_DURATION)?,
            switch: histogram(&registry, SWITCH_DURATION)?,
            objects: gauges(&registry, OBJECTS)?,
            problems: gauge(&registry, PROBLEMS)?,
            warnings: gauge(&registry, WARNINGS)?,
            endpoints: gauges(&registry, ENDPOINTS)?,
            endpoint_enforced: gauges(&registry, ENDPOINT_ENFORCED)?,
            packets: counters(&registry, PACKETS)?,
            packet_bytes: counters(&registry, PACKET_BYTES)?,
            hidden: counters(&registry, DENIALS_NOT_SHOWN)?,
            staged: counters(&registry, STAGED_PACKETS)?,
            policy_packets: counters(&registry, POLICY_PACKETS)?,
            policy_bytes: counters(&registry, POLICY_BYTES)?,
            not_counted: gauge(&registry, RULES_NOT_COUNTED)?,
            flows: gauges(&registry, FLOWS)?,
            flows_capacity: gauges(&registry, FLOWS_CAPACITY)?,
            filter_fill: gauge(&registry, FLOW_FILTER_FILL)?,
            map_entries: gauges(&registry, MAP_ENTRIES)?,
            map_capacity: gauges(&registry, MAP_CAPACITY)?,
            map_bytes: gauges(&registry, MAP_BYTES)?,
            readable: gauge(&registry, SOURCE_READABLE)?,
            followed: gauges(&registry, SOURCE_KIND_FOLLOWED)?,
            registry,
        };
        // A rate needs a series from before the first event.
        for result in ["complete", "incomplete"] {
            metrics.passes.with_label_values(&[result]).inc_by(0);
        }
        Ok(metrics)
    }

    /// A pass ended, with everything enforced or not.
    pub fn passed(&self, complete: bool, took: Duration) {
        let result = if complete { "complete" } else { "incomplete" };
        self.passes.with_label_values(&[result]).inc();
        self.pass.observe(took.as_secs_f64());
        if complete {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let seconds = since.map_or(0, |since| since.as_secs());
            self.enforced_at.set(whole(seconds));
        }
    }

    /// A generation was compiled.
    pub fn compiled(&self, took: Duration) {
        self.compile.observe(took.as_secs_f64());
    }

    /// A generation was put in force.
    pub fn switched(&self, took: Duration) {
        self.switch.observe(took.as_secs_f64());
    }

    /// All metrics in the text format, as things are now.
    ///
    /// # Errors
    ///
    /// If a metric cannot be written: a defect.
    pub fn render(
        &self,
        status: &Status,
        readings: &Readings,
    ) -> Result<String, prometheus::Error> {
        self.ready
            .set((readings.complete && readings.readable).into());
        self.readable.set(readings.readable.into());
        self.observe_only.set(status.observe_only.into());
        self.enforced.set(whole(status.generation));
        // Numbers are given when a generation is written.
        let next = u64::from(!readings.complete);
        self.wanted.set(whole(status.generation + next));
        self.problems.set(whole(status.problems.len() as u64));
        self.warnings.set(whole(status.warnings.len() as u64));
        self.set_objects(status);
        self.set_endpoints(&status.endpoints);
        self.set_counters(status);
        self.set_hidden(readings);
        self.set_policies(readings);
        self.set_maps(status, readings);
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    fn set_objects(&self, status: &Status) {
        self.objects.reset();
        for kind in Kind::ALL {
            for state in ["enforced", "pending", "last_good", "refused"] {
                self.objects.with_label_values(&[kind.name(), state]);
            }
        }
        for (kind, others) in &status.others {
            self.objects
                .with_label_values(&[kind.name(), "enforced"])
                .add(whole(*others as u64));
        }
        for object in &status.objects {
            let state = match object.state {
                ObjectState::Enforced => "enforced",
                ObjectState::Pending => "pending",
                ObjectState::LastGood => "last_good",
                ObjectState::Refused => "refused",
            };
            self.objects
                .with_label_values(&[&*object.kind, state])
                .inc();
        }
    }

    fn set_endpoints(&self, endpoints: &[EndpointStatus]) {
        self.endpoints.reset();
        self.endpoint_enforced.reset();
        for state in ["enforced", "degraded", "inert"] {
            self.endpoints.with_label_values(&[state]);
        }
        let mut hooks: BTreeMap<[&str; 3], bool> = BTreeMap::new();
        for endpoint in endpoints {
            let Some(interface) = &endpoint.interface else {
                self.endpoints.with_label_values(&["inert"]).inc();
                continue;
            };
            let interface = if endpoint.workload {
                "workloads"
            } else {
                interface
            };
            let enforced = enforced_at(endpoint);
            let all = enforced.iter().all(|(_, enforced)| *enforced);
            let state = if all { "enforced" } else { "degraded" };
            self.endpoints.with_label_values(&[state]).inc();
            for (hook, enforced) in enforced {
                *hooks
                    .entry([&endpoint.name, interface, hook])
                    .or_insert(true) &= enforced;
            }
        }
        for (labels, enforced) in hooks {
            self.endpoint_enforced
                .with_label_values(&labels)
                .set(enforced.into());
        }
    }

    fn set_counters(&self, status: &Status) {
        self.packets.reset();
        self.packet_bytes.reset();
        for counter in &status.counters {
            let labels = [&*counter.checkpoint, &*counter.verdict, &*counter.reason];
            self.packets
                .with_label_values(&labels)
                .inc_by(counter.packets);
            self.packet_bytes
                .with_label_values(&labels)
                .inc_by(counter.bytes);
        }
        self.staged.reset();
        let last = last_of(status.staged.iter().map(|one| &*one.policy));
        for StagedStatus {
            stage,
            tier,
            policy,
            would,
            packets,
            ..
        } in &status.staged
        {
            let tier = tier.as_deref().unwrap_or_default();
            let labels = if last.is_none_or(|last| &**policy <= last) {
                [stage, tier, policy, &**would]
            } else {
                [stage, "", OTHERS, &**would]
            };
            self.staged.with_label_values(&labels).inc_by(*packets);
        }
    }

    fn set_hidden(&self, readings: &Readings) {
        self.hidden.reset();
        for (checkpoint, reason, packets) in &readings.hidden {
            self.hidden
                .with_label_values(&[checkpoint.name(), reason.name()])
                .inc_by(*packets);
        }
    }

    fn set_policies(&self, readings: &Readings) {
        self.policy_packets.reset();
        self.policy_bytes.reset();
        self.not_counted.set(whole(readings.not_counted));
        let last = last_of(readings.policies.iter().map(|one| &*one.policy));
        for one in &readings.policies {
            let labels = if last.is_none_or(|last| &*one.policy <= last) {
                [one.stage, &*one.tier, &*one.policy, one.action]
            } else {
                [one.stage, "", OTHERS, one.action]
            };
            let packets = self.policy_packets.with_label_values(&labels);
            packets.inc_by(one.packets);
            self.policy_bytes
                .with_label_values(&labels)
                .inc_by(one.bytes);
        }
    }

    fn set_maps(&self, status: &Status, readings: &Readings) {
        for vec in [
            &self.map_bytes,
            &self.map_entries,
            &self.map_capacity,
            &self.followed,
        ] {
            vec.reset();
        }
        for map in &status.maps {
            self.map_bytes
                .with_label_values(&[&*map.name])
                .set(whole(map.bytes));
        }
        for map in &readings.maps {
            self.map_entries
                .with_label_values(&[map.name])
                .set(whole(map.entries as u64));
            self.map_capacity
                .with_label_values(&[map.name])
                .set(whole(map.capacity as u64));
        }
        if let Some(flows) = readings.flows {
            let tables = ["half_open", "confirmed"];
            for (table, capacity) in tables.iter().zip(flows.capacity) {
                self.flows_capacity
                    .with_label_values(&[*table])
                    .set(capacity.into());
            }
            for (table, alive) in tables.iter().zip(flows.alive) {
                self.flows.with_label_values(&[*table]).set(whole(alive));
            }
            self.filter_fill.set(flows.filter);
        }
        for (kind, followed) in &readings.kinds {
            self.followed
                .with_label_values(&[kind])
                .set((*followed).into());
        }
    }
}

/// The hooks that an endpoint's policy is for, and whether it is enforced there.
fn enforced_at(endpoint: &EndpointStatus) -> Vec<(&'static str, bool)> {
    let fails = |kind: &str| {
        endpoint
            .conditions
            .iter()
            .any(|one| one.kind == kind && !one.status)
    };
    let at_all = !fails("Programmed") && !fails("DenialsEnforced");
    let mut hooks = vec![
        ("wire-in", at_all && endpoint.ingress.is_some()),
        ("forward", at_all && !fails("ForwardEnforced")),
    ];
    if !endpoint.workload {
        hooks.push(("wire-out", at_all && endpoint.egress.is_some()));
        hooks.push(("local-in", at_all && !fails("NormalIngressEnforced")));
    }
    hooks
}

/// The last policy by name that has labels of its own; `None`: all have.
fn last_of<'a>(policies: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut policies: Vec<&str> = policies.collect();
    policies.sort_unstable();
    policies.dedup();
    policies.get(MOST_POLICIES - 1).copied()
}

/// Gauges are signed.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn opts(family: Family) -> Opts {
    Opts::new(family.name, family.help)
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn gauge<P: Atomic + 'static>(
    registry: &Registry,
    family: Family,
) -> Result<GenericGauge<P>, prometheus::Error> {
    register(registry, GenericGauge::with_opts(opts(family))?)
}

fn gauges<P: Atomic + 'static>(
    registry: &Registry,
    family: Family,
) -> Result<GenericGaugeVec<P>, prometheus::Error> {
    register(registry, GenericGaugeVec::new(opts(family), family.labels)?)
}

fn counters(registry: &Registry, family: Family) -> Result<IntCounterVec, prometheus::Error> {
    register(registry, IntCounterVec::new(opts(family), family.labels)?)
}

fn histogram(registry: &Registry, family: Family) -> Result<Histogram, prometheus::Error> {
    let opts = HistogramOpts::new(family.name, family.help).buckets(BUCKETS.to_vec());
    register(registry, Histogram::with_opts(opts)?)
}

#[cfg(test)]
mod tests;
