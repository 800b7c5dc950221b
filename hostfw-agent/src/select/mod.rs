//! From the model to what governs each interface of one node: which endpoint
//! means the interface, which policies apply to it, in which order, and which
//! addresses their selectors stand for.
//!
//! Pure: everything that it knows comes in as arguments.

#![forbid(unsafe_code)]

mod addresses;
#[cfg(test)]
mod fixture;
mod govern;
mod labels;
mod made;
mod matches;
mod members;
mod policies;
mod rules;
mod settings;
mod tiers;
mod told;
mod tunnels;
mod workloads;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use hostfw_common::stage::List;
use ipnet::IpNet;

pub use self::members::Cache;
use self::{
    addresses::{Addresses, Cluster},
    govern::{Pair, govern},
    labels::Profiles,
    made::Made,
    policies::{Candidates, Governing, governing, ignored_untracked},
    settings::Settings,
    tiers::Tiers,
    tunnels::tunnels,
};
use crate::model::{
    EndpointAddresses, Failsafe, HostEndpoint, IcmpMatch, Interface, IpVersion, Model, ObjectRef,
    PortRange, Protocol, RuleAction, StagedAction,
};

/// Works out what `node`, which has `interfaces`, is to enforce.
///
/// `node` is compared with the `node` of endpoints and settings exactly. The
/// result does not depend on the order of `interfaces`.
#[must_use]
pub fn select(model: &Model, node: &str, interfaces: &[Interface]) -> Selection {
    select_with(model, node, interfaces, &mut Cache::default())
}

/// As [`select`], with what is left of an earlier selection.
#[must_use]
pub fn select_with(
    model: &Model,
    node: &str,
    interfaces: &[Interface],
    cache: &mut Cache,
) -> Selection {
    let settings = Settings::of_node(&model.settings, node);
    let all = model.endpoints.iter().map(|endpoint| &**endpoint);
    let here: Vec<&HostEndpoint> = all.filter(|e| e.node == node).collect();
    let made = Made::new(model, node, interfaces, &settings);
    let (pairs, mut inert) = govern(&here, &made.here, interfaces, &settings);
    inert.extend(made.idle);
    inert.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));

    let profiles = Profiles::new(&model.profiles);
    let endpoints = governing(&pairs, &profiles);
    let mut addresses = Addresses::new(
        Cluster {
            endpoints: &model.endpoints,
            made: [&made.here, &made.elsewhere],
            networks: &model.sets,
            workloads: &model.workloads,
            slices: &model.slices,
            told: &model.addresses,
        },
        &profiles,
        node,
        &pairs,
        cache,
    );
    let candidates = Candidates::new(
        &model.policies,
        &Tiers::new(&model.tiers),
        &profiles,
        &endpoints,
        &mut addresses,
    );

    Selection {
        told: told::told(&here, &made.here, &model.templates, &pairs),
        governed: governed(&pairs, &endpoints, &candidates),
        inert,
        tunnels: tunnels(&settings, addresses.of_endpoints()),
        unknown_addresses: addresses.into_unknown(),
        ignored_untracked: ignored_untracked(&model.policies, &endpoints),
        failsafe_inbound: settings.failsafe_inbound,
        failsafe_outbound: settings.failsafe_outbound,
        disable_invalid_check: settings.disable_invalid_check,
        log_prefix: settings.log_prefix,
    }
}

/// The pairs with what applies to them. The interfaces of an endpoint share
/// it, for a `*` endpoint can govern hundreds.
fn governed(
    pairs: &[Pair<'_>],
    endpoints: &[Governing<'_>],
    candidates: &Candidates<'_>,
) -> Vec<Governed> {
    let endpoints: BTreeMap<&str, &Governing<'_>> = endpoints
        .iter()
        .map(|endpoint| (&*endpoint.endpoint.name, endpoint))
        .collect();
    let mut shared: BTreeMap<(&str, bool), [Arc<SelectedList>; List::COUNT]> = BTreeMap::new();
    pairs
        .iter()
        .filter_map(|pair| {
            let name = &*pair.endpoint.name;
            let endpoint = endpoints.get(name)?;
            let lists = shared.entry((name, pair.workload)).or_insert_with(|| {
                List::ALL.map(|list| Arc::new(candidates.list(list, endpoint, pair.workload)))
            });
            Some(Governed {
                endpoint: name.to_owned(),
                interface: pair.interface.clone(),
                workload: pair.workload,
                lists: lists.clone(),
            })
        })
        .collect()
}

/// What one node enforces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// One for each governed interface, sorted by interface index.
    pub governed: Vec<Governed>,
    /// Endpoints of this node that govern nothing, and why.
    pub inert: Vec<Inert>,
    /// Fail-safes of packets that come in.
    pub failsafe_inbound: Vec<Failsafe>,
    /// Fail-safes of packets of the host that go out.
    pub failsafe_outbound: Vec<Failsafe>,
    /// `disableConntrackInvalidCheck`.
    pub disable_invalid_check: bool,
    /// Tunnels between nodes, which pass ahead of pre-DNAT and normal policy.
    pub tunnels: Tunnels,
    /// Endpoints that a rule's selector matches, whose addresses this node
    /// does not know: the rule takes their packets for a stranger's.
    pub unknown_addresses: Vec<UnknownAddresses>,
    /// Untracked policies that match a `*` endpoint that governs an interface
    /// here, where they have no effect; sorted.
    pub ignored_untracked: Vec<IgnoredUntracked>,
    /// `logPrefix`: what an event of a rule with action Log begins with.
    pub log_prefix: String,
    /// What other nodes have to be told of this one; sorted by name.
    pub told: Vec<EndpointAddresses>,
}

/// Tunnels between nodes: a packet of one of the protocols passes if it goes
/// from the address of a node to the address of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnels {
    /// Protocol number, and destination port or 0 for a protocol without, by
    /// address family (IPv4, IPv6).
    pub protocols: [Vec<(u8, u16)>; 2],
    /// Addresses of nodes, sorted, each once.
    pub nodes: Vec<IpAddr>,
}

/// An interface and what applies to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Governed {
    /// Name of the `HostEndpoint`, `TEMPLATE/INTERFACE` of one that a template
    /// made.
    pub endpoint: String,
    /// The interface.
    pub interface: Interface,
    /// The interface is a workload's, reached by a `*` endpoint: only the
    /// pre-DNAT and forward stages judge its packets.
    pub workload: bool,
    /// What is evaluated, by [`List`]. The interfaces of an endpoint share it.
    pub lists: [Arc<SelectedList>; List::COUNT],
}

impl Governed {
    /// What is evaluated at one stage, in one direction.
    #[must_use]
    pub fn list(&self, list: List) -> &SelectedList {
        &self.lists[list as usize]
    }
}

/// What is evaluated at one stage, in one direction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SelectedList {
    /// The tiers that hold a policy for this list, in the order in which they
    /// are evaluated.
    pub tiers: Vec<SelectedTier>,
    /// Profiles, behind all tiers; at the normal stage only.
    pub profiles: Vec<SelectedPolicy>,
    /// What nothing decides is denied: the normal stage, except of workloads.
    pub default_deny: bool,
}

impl SelectedList {
    /// Whether an enforced policy is in the list.
    #[must_use]
    pub fn has_policy(&self) -> bool {
        self.policies().any(|policy| policy.staged.is_none())
    }

    /// The policies of all tiers.
    pub fn policies(&self) -> impl Iterator<Item = &SelectedPolicy> {
        self.tiers.iter().flat_map(|tier| &tier.policies)
    }
}

/// The policies of a tier.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedTier {
    /// Name of the tier.
    pub name: String,
    /// What no rule decides is denied: the tier's default action is Deny, it
    /// holds an enforced policy, and the stage is one that has tier defaults
    /// (forward or normal).
    pub default_deny: bool,
    /// In the order in which they are evaluated.
    pub policies: Vec<SelectedPolicy>,
}

/// A policy's or profile's rules of one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedPolicy {
    /// The `GlobalNetworkPolicy`, `StagedGlobalNetworkPolicy` or `Profile`.
    pub object: ObjectRef,
    /// The policy is only reported; [`StagedAction::Set`] or
    /// [`StagedAction::Learn`], for the others have no rules to evaluate.
    pub staged: Option<StagedAction>,
    /// There is no profile of that name, or none that is valid: it denies
    /// every packet, and has no rules.
    pub missing: bool,
    /// All rules of the direction, in order: a rule's position is its index.
    pub rules: Vec<SelectedRule>,
}

/// A rule with its selectors replaced by addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedRule {
    /// What to do with a packet that matches.
    pub action: RuleAction,
    /// Only packets of this version.
    pub ip_version: Option<IpVersion>,
    /// Only packets of this protocol.
    pub protocol: Option<Protocol>,
    /// Only packets of another protocol.
    pub not_protocol: Option<Protocol>,
    /// Only ICMP messages of this type and code.
    pub icmp: Option<IcmpMatch>,
    /// Only ICMP messages of another type or code.
    pub not_icmp: Option<IcmpMatch>,
    /// Criteria for source address and port.
    pub source: SelectedEntity,
    /// Criteria for destination address and port.
    pub destination: SelectedEntity,
}

/// Like [`Entity`](crate::model::Entity), with addresses in place of
/// selectors. All criteria must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SelectedEntity {
    /// The address is in one of these; empty means no criterion.
    pub nets: Vec<IpNet>,
    /// The address is in none of these.
    pub not_nets: Vec<IpNet>,
    /// The address is in one of these. `Some` of an empty list matches no
    /// packet. Rules with the same selectors share it.
    pub members: Option<Arc<[IpNet]>>,
    /// The address is in none of these.
    pub not_members: Arc<[IpNet]>,
    /// The port is in one of these, or address and port are one of `points`.
    /// Empty, with `points` absent, means no criterion.
    pub ports: Vec<PortRange>,
    /// Named ports or a service stand for these. `Some` of an empty list
    /// matches no packet, unless `ports` does.
    pub points: Option<Vec<Point>>,
    /// The port is in none of these.
    pub not_ports: Vec<PortRange>,
    /// Address and port are none of these; only what has ports can match.
    /// `Some` if named ports are given, even if they stand for nothing.
    pub not_points: Option<Vec<Point>>,
}

/// An address with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// The address.
    pub address: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// The port.
    pub port: u16,
}

/// An endpoint of this node that governs no interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inert {
    /// Name of the `HostEndpoint`, `TEMPLATE/INTERFACE` of one that a template
    /// made.
    pub endpoint: String,
    /// Why.
    pub reason: InertReason,
}

/// Why an endpoint governs no interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InertReason {
    /// The node has no interface of that name.
    NoSuchInterface(String),
    /// No interface holds one of the expected addresses.
    NoSuchAddress(Vec<IpAddr>),
    /// Another endpoint governs the interface: its name sorts first, or it is
    /// not, or earlier, made from a template.
    Shadowed {
        /// The interface.
        interface: String,
        /// The endpoint that governs it.
        by: String,
    },
    /// `interfaceExclude` names the interface.
    Excluded(String),
    /// `interfacePrefix` makes the interface a workload's, which only `*`
    /// endpoints govern.
    Workload(String),
    /// `*`, but no interface is left over.
    NothingLeft,
    /// A template means this node, and none of its interfaces.
    NoSuchInterfaces(String),
}

/// An endpoint of another node without `expectedIPs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAddresses {
    /// The endpoint.
    pub endpoint: ObjectRef,
    /// The policy whose selector matches it.
    pub policy: ObjectRef,
}

/// An untracked policy and a `*` endpoint (Calico: felix/dataplane/linux/
/// endpoint_mgr.go ignores `doNotTrack` there, too).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IgnoredUntracked {
    /// Name of the `HostEndpoint`.
    pub endpoint: String,
    /// The policy.
    pub policy: ObjectRef,
}

#[cfg(test)]
mod tests;
