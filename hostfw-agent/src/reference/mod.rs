//! The reference judge: what Calico's semantics make of a packet, worked out
//! from the resources themselves.
//!
//! It shares the serde types with the rest of the agent, and nothing else: it
//! reads selectors, infers types, orders policies and matches packets in its
//! own way, so that a mistake in the one reading is found by the other. Every
//! resource is read once; a packet is judged by going through everything from
//! top to bottom, as the semantics tell it. Slow, and plain to see.

#![forbid(unsafe_code)]

mod criterion;
mod objects;
mod packet;
mod policy;
mod rule;
mod selector;
mod settings;
mod template;
#[cfg(test)]
mod tests;
mod told;
mod trace;
mod walk;
mod world;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use hostfw_common::{stage::List, verdict::Direction};

pub use self::{
    criterion::Mismatch,
    trace::{Event, Explanation, Step},
};
use self::{
    objects::{LeftOut, Objects},
    policy::{Policy, TierPolicies},
    rule::Rule,
    settings::Settings,
    trace::Trace,
    world::{Endpoint, Pair, World},
};
use crate::{
    model::{Interface, ObjectRef},
    question::{Answer, Question},
    resource::Resource,
};

/// What the resources make of one node.
#[derive(Debug)]
pub struct Reference {
    /// By name of the interface.
    governed: BTreeMap<String, Governed>,
    settings: Settings,
    /// Addresses of nodes, between which tunnels pass.
    nodes: Vec<IpAddr>,
    left_out: Vec<ObjectRef>,
}

/// An interface, and what applies to it.
#[derive(Debug)]
struct Governed {
    endpoint: String,
    /// A workload's interface, which a `*` endpoint reaches.
    workload: bool,
    /// By [`List`].
    lists: [Vec<TierPolicies>; List::COUNT],
    /// In the order in which they are evaluated; `None` if there is no such
    /// profile.
    profiles: Vec<(String, Option<Arc<Profile>>)>,
}

/// A profile's rules by direction.
#[derive(Debug)]
struct Profile([Vec<Rule>; 2]);

impl Profile {
    fn rules(&self, direction: Direction) -> &[Rule] {
        &self.0[direction as usize]
    }
}

impl Reference {
    /// Reads the resources as `node`, which has `interfaces`, does. They are
    /// expected to be valid; what cannot be read is left out, as Calico leaves
    /// out what does not validate.
    #[must_use]
    pub fn new(resources: &[Resource], node: &str, interfaces: &[Interface]) -> Self {
        let objects = Objects::new(resources);
        let mut left_out = LeftOut::default();

        let settings = Settings::new(&objects.settings_of(node, &mut left_out));
        let inherited = &objects.profiles;
        let mut endpoints = left_out.keep(&objects.endpoints, |_, endpoint| {
            Endpoint::read(endpoint, inherited)
        });
        endpoints.sort_by(|a, b| a.name.cmp(&b.name));
        endpoints.extend(template::endpoints(
            &objects,
            node,
            interfaces,
            &mut left_out,
        ));
        let told = left_out.keep(&objects.told, |_, told| told::read(told));
        told::spread(&told, &objects, node, &mut endpoints);
        let pairs = world::govern(&endpoints, node, interfaces, &settings);
        let sets = left_out.keep(&objects.sets, |_, set| set.read(inherited));
        let mut world = World::new(&endpoints, &pairs, sets);
        let workloads = left_out.keep(&objects.workloads, |_, workload| {
            world::workload(workload, inherited)
        });
        world.add_workloads(workloads);
        let slices = left_out.keep(&objects.slices, |_, slice| world::slice(slice));
        world.add_services(slices);

        let policies = left_out.keep(&objects.policies, |object, spec| {
            Policy::read(object.clone(), spec, &world).map(Arc::new)
        });
        let profiles: BTreeMap<String, Arc<Profile>> = left_out
            .keep(&objects.profile_rules(), |object, profile| {
                let rules = [
                    Rule::read_all(&profile.ingress, &world)?,
                    Rule::read_all(&profile.egress, &world)?,
                ];
                Some((object.name.clone(), Arc::new(Profile(rules))))
            })
            .into_iter()
            .collect();

        let governed = |pair: &Pair<'_>| Governed {
            endpoint: pair.endpoint.name.clone(),
            workload: pair.workload,
            lists: List::ALL.map(|list| {
                let untracked = matches!(list, List::UntrackedIn | List::UntrackedOut);
                if untracked && pair.endpoint.is_wildcard() {
                    return Vec::new();
                }
                policy::in_order(&policies, &objects.tiers, list, &pair.endpoint.labels)
            }),
            profiles: pair
                .endpoint
                .profiles
                .iter()
                .map(|name| (name.clone(), profiles.get(name).cloned()))
                .collect(),
        };
        Self {
            governed: pairs
                .iter()
                .map(|pair| (pair.interface.name.clone(), governed(pair)))
                .collect(),
            settings,
            nodes: world.nodes,
            left_out: left_out.objects,
        }
    }

    /// What becomes of a packet.
    #[must_use]
    pub fn judge(&self, question: &Question) -> Answer {
        walk::walk(self, question, &mut Trace::off())
    }

    /// What becomes of a packet, and all that was looked at on the way.
    #[must_use]
    pub fn explain(&self, question: &Question) -> Explanation {
        let mut trace = Trace::on();
        let answer = walk::walk(self, question, &mut trace);
        let governed = self.governed.get(&question.interface);
        Explanation {
            answer,
            endpoint: governed.map(|governed| governed.endpoint.clone()),
            steps: trace.into_steps(),
        }
    }

    /// Whether an endpoint governs the interface.
    #[must_use]
    pub fn governs(&self, interface: &str) -> bool {
        self.governed.contains_key(interface)
    }

    /// Objects that could not be read.
    #[must_use]
    pub fn left_out(&self) -> &[ObjectRef] {
        &self.left_out
    }
}
