//! The status document: what the agent answers on its socket and `hostfwctl
//! status` shows. Its JSON form is stable for scripts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Kind;

/// The state of one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The node that the agent speaks for.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// Revision of the store that the agent has read last.
    pub store_revision: String,
    /// Revision of the store that is in force: the kernel enforces it as far
    /// as it is valid. Differs from `store_revision` only while the agent
    /// works, or if it fails.
    pub enforced_revision: String,
    /// The dataplane's generation in force; 0 before the first.
    pub generation: u64,
    /// Nothing is dropped, whatever policy says: the agent runs with
    /// `--observe-only`.
    #[serde(default)]
    pub observe_only: bool,
    /// Why the store's revision could not be enforced, if so.
    pub error: Option<String>,
    /// Every object that the store holds or that is in force.
    pub objects: Vec<ObjectStatus>,
    /// How many objects of each kind are not among [`objects`](Self::objects), because
    /// nothing is to be told of them but that they are enforced as they are stored.
    /// Only inside the agent: who asks from outside is told all.
    #[serde(skip)]
    pub others: BTreeMap<Kind, usize>,
    /// Every endpoint of this node.
    pub endpoints: Vec<EndpointStatus>,
    /// What is wrong with the store, by file or object.
    pub problems: Vec<Problem>,
    /// What is enforced, and yet probably not meant.
    pub warnings: Vec<Warning>,
    /// Packets and bytes so far.
    pub counters: Vec<CounterStatus>,
    /// What staged policies would have done so far.
    #[serde(default)]
    pub staged: Vec<StagedStatus>,
    /// What the maps take of the kernel's memory.
    #[serde(default)]
    pub maps: Vec<MapStatus>,
}

/// What a map takes of the kernel's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapStatus {
    /// Name of the map; of one that every generation has, both together.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
}

/// The state of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// Kind of the object.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `metadata.generation` of the stored version, if it has one.
    pub stored_generation: Option<u64>,
    /// `metadata.generation` of the version in force, if it has one.
    pub enforced_generation: Option<u64>,
    /// What is in force of it.
    pub state: ObjectState,
    /// The dataplane generation that first held the version in force.
    pub dataplane_generation: Option<u64>,
    /// What the version in force asks for and does not get.
    pub not_enforced: Vec<NotEnforced>,
}

/// Something that an object asks for and does not get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotEnforced {
    /// The field: `spec.ingress[0].http`.
    pub field: String,
    /// Why not, and what happens instead.
    pub message: String,
}

/// What is in force of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectState {
    /// The stored version.
    Enforced,
    /// The stored version will be, as soon as it is compiled.
    Pending,
    /// An earlier version: the stored one is not valid.
    LastGood,
    /// Nothing: the stored version is not valid, and there was none before.
    Refused,
}

/// The state of an endpoint of this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    /// Name of the `HostEndpoint`.
    pub name: String,
    /// The interface that it governs, if there is one.
    pub interface: Option<String>,
    /// Where incoming packets are judged.
    pub ingress: Option<HookStatus>,
    /// Where outgoing packets are judged.
    pub egress: Option<HookStatus>,
    /// The interface is a workload's, which the endpoint governs as one of all
    /// interfaces: only the pre-DNAT and forward stages judge its packets.
    pub workload: bool,
    /// Policies and profiles that apply, by stage and direction, in the order
    /// in which they are evaluated.
    pub policies: Vec<PolicyStatus>,
    /// What holds, and what does not.
    pub conditions: Vec<Condition>,
}

/// A policy or profile that applies to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// [`Stage::name`](hostfw_common::stage::Stage::name).
    pub stage: String,
    /// `ingress` or `egress`.
    pub direction: String,
    /// The policy's tier; `None` for a profile.
    pub tier: Option<String>,
    /// `GlobalNetworkPolicy`, `StagedGlobalNetworkPolicy`, which is only
    /// reported, or `Profile`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Where a program is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookStatus {
    /// `xdp`, `tcx` or `clsact`.
    pub hook: String,
    /// `native` or `generic` (XDP only).
    pub mode: Option<String>,
    /// Why not the first choice, if so.
    pub fallback: Option<String>,
}

/// A condition in the manner of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Programmed`, `ForwardEnforced`, `AddressesKnown`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: bool,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

/// Something wrong with the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The file, relative to the store.
    pub file: Option<String>,
    /// `Kind(name)`, where it could be told.
    pub object: Option<String>,
    /// What was expected and what was found.
    pub message: String,
}

/// Something that is valid and probably not meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    /// `Kind(name)`.
    pub object: String,
    /// What happens, and what to do if it is not meant.
    pub message: String,
}

/// Packets and bytes that one reason decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CounterStatus {
    /// Where they were judged:
    /// [`Checkpoint::name`](hostfw_common::counter::Checkpoint::name).
    pub checkpoint: String,
    /// [`Reason::name`](hostfw_common::verdict::Reason::name).
    pub reason: String,
    /// `pass` or `drop`; `would-drop` of what passed because nothing is enforced.
    pub verdict: String,
    /// Packets since the maps were created.
    pub packets: u64,
    /// Bytes of these packets, link-layer header included.
    pub bytes: u64,
}

/// Packets that a rule of a staged policy matched at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StagedStatus {
    /// Name of the `HostEndpoint`.
    pub endpoint: String,
    /// [`Stage::name`](hostfw_common::stage::Stage::name).
    pub stage: String,
    /// The policy's tier, if it is known still.
    pub tier: Option<String>,
    /// Name of the `StagedGlobalNetworkPolicy`.
    pub policy: String,
    /// The rule as a path in the policy's spec: `ingress[0]`.
    pub rule: String,
    /// What it would have done: `allow`, `deny` or `pass`.
    pub would: String,
    /// Packets since the agent was started.
    pub packets: u64,
}
