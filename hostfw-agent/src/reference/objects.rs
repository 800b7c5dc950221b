//! The resources, sorted by what they are for.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::Value;

use super::{
    policy::Tier,
    selector::Labels,
    settings::Settings,
    world::{self, SetNets},
};
use crate::{
    model::{Kind, ObjectRef},
    resource::{
        Action, EndpointSlice, EntityRule, GlobalNetworkPolicySpec, HostEndpoint,
        HostEndpointTemplate, NetworkSet, NetworkSetSpec, NodeAddresses, Object, ProfileSpec,
        Resource, Rule, WorkloadEndpoint,
    },
};

/// The profile that is always there: it allows everything (semantics section
/// 6).
const DEFAULT_ALLOW: &str = "projectcalico-default-allow";

/// An object that is not read yet, and what messages call it.
pub(super) type Named<T> = (ObjectRef, T);

/// Profiles by name.
pub(super) type Profiles<'a> = BTreeMap<String, &'a ProfileSpec>;

/// All resources.
#[derive(Default)]
pub(super) struct Objects<'a> {
    pub(super) endpoints: Vec<Named<&'a HostEndpoint>>,
    pub(super) templates: Vec<Named<&'a HostEndpointTemplate>>,
    /// Labels of nodes, by name.
    pub(super) nodes: BTreeMap<String, &'a Labels>,
    /// What nodes tell of themselves.
    pub(super) told: Vec<Named<&'a NodeAddresses>>,
    pub(super) sets: Vec<Named<Set<'a>>>,
    pub(super) workloads: Vec<Named<&'a WorkloadEndpoint>>,
    pub(super) slices: Vec<Named<&'a EndpointSlice>>,
    pub(super) policies: Vec<Named<Cow<'a, GlobalNetworkPolicySpec>>>,
    pub(super) profiles: Profiles<'a>,
    pub(super) tiers: BTreeMap<String, Tier>,
    /// By name.
    settings: BTreeMap<String, Value>,
}

/// A set of either kind.
#[derive(Clone, Copy)]
pub(super) enum Set<'a> {
    Global(&'a Object<NetworkSetSpec>),
    Namespaced(&'a NetworkSet),
}

impl Set<'_> {
    pub(super) fn read(self, profiles: &Profiles<'_>) -> Option<(Labels, SetNets)> {
        match self {
            Self::Global(set) => world::global_set(set),
            Self::Namespaced(set) => world::namespaced_set(set, profiles),
        }
    }
}

/// Rules of a profile, not read yet.
pub(super) struct ProfileRules<'a> {
    pub(super) ingress: Cow<'a, [Rule]>,
    pub(super) egress: Cow<'a, [Rule]>,
}

impl<'a> Objects<'a> {
    pub(super) fn new(resources: &'a [Resource]) -> Self {
        let mut objects = Self::default();
        for resource in resources {
            let object = resource.object_ref();
            match resource {
                Resource::HostEndpoint(endpoint) => objects.endpoints.push((object, endpoint)),
                Resource::HostEndpointTemplate(template) => {
                    objects.templates.push((object, template));
                }
                Resource::Node(node) => {
                    objects.nodes.insert(object.name, &node.metadata.labels);
                }
                Resource::NodeAddresses(told) => objects.told.push((object, told)),
                Resource::GlobalNetworkSet(set) => objects.sets.push((object, Set::Global(set))),
                Resource::NetworkSet(set) => objects.sets.push((object, Set::Namespaced(set))),
                Resource::WorkloadEndpoint(workload) => {
                    objects.workloads.push((object, workload));
                }
                Resource::EndpointSlice(slice) => objects.slices.push((object, slice)),
                Resource::GlobalNetworkPolicy(policy) => {
                    let spec = Cow::Borrowed(&policy.spec);
                    objects.policies.push((object, spec));
                }
                Resource::StagedGlobalNetworkPolicy(policy) => {
                    // The others have no rules that could take effect.
                    let action = policy.spec.staged_action.as_deref().unwrap_or_default();
                    if matches!(action, "" | "Set" | "Learn") {
                        let spec = Cow::Owned(policy.spec.policy());
                        objects.policies.push((object, spec));
                    }
                }
                Resource::Profile(profile) => {
                    objects.profiles.insert(object.name, &profile.spec);
                }
                Resource::Tier(tier) => {
                    objects.tiers.insert(object.name, Tier::new(&tier.spec));
                }
                Resource::FelixConfiguration(_) => {
                    let spec = resource.to_value()["spec"].take();
                    objects.settings.insert(object.name, spec);
                }
            }
        }
        objects.tiers.extend(Tier::fixed());
        objects
    }

    /// The settings that count on a node, the more specific ones first.
    pub(super) fn settings_of(&self, node: &str, left_out: &mut LeftOut) -> Vec<Value> {
        let names = [format!("node.{node}"), "default".to_owned()];
        let layers: Vec<Named<&Value>> = names
            .into_iter()
            .filter_map(|name| {
                let spec = self.settings.get(&name)?;
                let kind = Kind::FelixConfiguration;
                Some((ObjectRef { kind, name }, spec))
            })
            .collect();
        left_out.keep(&layers, |_, &spec| {
            Settings::is_readable(spec).then(|| spec.clone())
        })
    }

    /// Rules of every profile, ingress and egress, the one that is always there
    /// included.
    pub(super) fn profile_rules(&self) -> Vec<Named<ProfileRules<'a>>> {
        let named = |name: &str| ObjectRef {
            kind: Kind::Profile,
            name: name.to_owned(),
        };
        let mut all: Vec<_> = self
            .profiles
            .iter()
            .map(|(name, spec)| {
                let rules = ProfileRules {
                    ingress: Cow::Borrowed(spec.ingress.as_slice()),
                    egress: Cow::Borrowed(spec.egress.as_slice()),
                };
                (named(name), rules)
            })
            .collect();
        if !self.profiles.contains_key(DEFAULT_ALLOW) {
            let rules = || Cow::Owned(vec![allow_everything()]);
            let rules = ProfileRules {
                ingress: rules(),
                egress: rules(),
            };
            all.push((named(DEFAULT_ALLOW), rules));
        }
        all
    }
}

fn allow_everything() -> Rule {
    Rule {
        action: Action::Allow,
        ip_version: None,
        protocol: None,
        not_protocol: None,
        icmp: None,
        not_icmp: None,
        source: EntityRule::default(),
        destination: EntityRule::default(),
        http: None,
        metadata: None,
    }
}

/// Objects that could not be read.
#[derive(Default)]
pub(super) struct LeftOut {
    pub(super) objects: Vec<ObjectRef>,
}

impl LeftOut {
    /// Reads objects; those that cannot be read are noted.
    pub(super) fn keep<T, R>(
        &mut self,
        objects: &[Named<T>],
        read: impl Fn(&ObjectRef, &T) -> Option<R>,
    ) -> Vec<R> {
        let mut kept = Vec::new();
        for (object, value) in objects {
            match read(object, value) {
                Some(value) => kept.push(value),
                None => self.objects.push(object.clone()),
            }
        }
        kept
    }
}
