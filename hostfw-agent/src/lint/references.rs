//! Names that stand for nothing: tiers, profiles and ports.

use std::collections::BTreeSet;

use hostfw_common::verdict::Direction;

use super::{
    Warning,
    view::{field_of, rules_of, rules_of_profile},
};
use crate::{
    model::{Entity, Kind, Model, ObjectRef, Profile, Rule, Tier},
    selector::Selector,
};

pub(super) fn to_nothing(
    model: &Model,
    is_port_of_workload: impl Fn(&str) -> bool,
) -> Vec<Warning> {
    let mut warnings = tiers(model);
    warnings.extend(profiles(model));
    warnings.extend(nodes(model));
    warnings.extend(ports(model, is_port_of_workload));
    warnings
}

fn tiers(model: &Model) -> Vec<Warning> {
    let fixed = Tier::always_there();
    let known: BTreeSet<&str> = model
        .tiers
        .iter()
        .chain(&fixed)
        .map(|tier| &*tier.name)
        .collect();
    model
        .policies
        .iter()
        .filter(|policy| !known.contains(&*policy.tier))
        .map(|policy| Warning {
            about: policy.object_ref(),
            message: format!(
                "spec.tier: there is no Tier({}): its policies come behind those of all other \
                 tiers, and what none of their rules decides is denied",
                policy.tier
            ),
        })
        .collect()
}

fn profiles(model: &Model) -> Vec<Warning> {
    let known: BTreeSet<&str> = model
        .profiles
        .iter()
        .map(|profile| &*profile.name)
        .chain([Profile::ALLOW_ALL])
        .collect();
    let mut warnings = Vec::new();
    let endpoints = model
        .endpoints
        .iter()
        .map(|endpoint| (Kind::HostEndpoint, &endpoint.name, &endpoint.profiles));
    let templates = model.templates.iter().map(|template| {
        let kind = Kind::HostEndpointTemplate;
        (kind, &template.name, &template.profiles)
    });
    for (kind, object, profiles) in endpoints.chain(templates) {
        for (index, name) in profiles.iter().enumerate() {
            if !known.contains(&**name) {
                warnings.push(Warning {
                    about: ObjectRef::new(kind, None, object),
                    message: format!(
                        "spec.profiles[{index}]: there is no Profile({name}): it denies what no \
                         policy and no profile before it decides"
                    ),
                });
            }
        }
    }
    warnings
}

/// Where no node is known, a template that looks at labels of nodes finds none.
fn nodes(model: &Model) -> Vec<Warning> {
    if !model.nodes.is_empty() {
        return Vec::new();
    }
    let looking = model.templates.iter().filter_map(|template| {
        let field = if template.nodes != Selector::all() {
            "nodeSelector"
        } else if !template.labels_from_node.is_empty() {
            "labelsFromNode"
        } else {
            return None;
        };
        Some(Warning {
            about: ObjectRef::new(Kind::HostEndpointTemplate, None, &template.name),
            message: format!(
                "spec.{field}: there is no Node, so that every node counts as one without labels: \
                 store a Node with the name and the labels of each"
            ),
        })
    });
    looking.collect()
}

fn ports(model: &Model, is_port_of_workload: impl Fn(&str) -> bool) -> Vec<Warning> {
    let declared: BTreeSet<&str> = model
        .endpoints
        .iter()
        .map(|endpoint| &*endpoint.ports)
        .chain(model.templates.iter().map(|template| &*template.ports))
        .flatten()
        .map(|port| &*port.name)
        .collect();
    let policies = model.policies.iter().map(|policy| {
        let rules = Direction::ALL.map(|direction| rules_of(policy, direction));
        (policy.object_ref(), rules)
    });
    let profiles = model.profiles.iter().map(|profile| {
        let rules = Direction::ALL.map(|direction| rules_of_profile(profile, direction));
        (ObjectRef::new(Kind::Profile, None, &profile.name), rules)
    });
    let mut warnings = Vec::new();
    for (about, directions) in policies.chain(profiles) {
        // A name that many rules have is told where it stands first.
        let mut told = BTreeSet::new();
        for (direction, rules) in Direction::ALL.into_iter().zip(directions) {
            for (index, rule) in rules.iter().enumerate() {
                for (field, name, consequence) in names(rule) {
                    if !declared.contains(name)
                        && !is_port_of_workload(name)
                        && told.insert((name, consequence))
                    {
                        warnings.push(Warning {
                            about: about.clone(),
                            message: format!(
                                "{}[{index}].{field}: no endpoint declares a port of the \
                                 name {name:?}, which therefore {consequence}",
                                field_of(direction)
                            ),
                        });
                    }
                }
            }
        }
    }
    warnings
}

/// The names of ports in a rule, where they stand, and what one means that
/// stands for nothing.
fn names(rule: &Rule) -> impl Iterator<Item = (&'static str, &str, &'static str)> {
    const MATCHES: &str = "matches nothing";
    const EXCLUDES: &str = "excludes nothing";
    fn of<'a>(
        entity: &'a Entity,
        fields: [&'static str; 2],
    ) -> impl Iterator<Item = (&'static str, &'a str, &'static str)> {
        let [ports, not_ports] = fields;
        let matching = entity.named_ports.iter();
        let excluding = entity.not_named_ports.iter();
        matching
            .map(move |name| (ports, &**name, MATCHES))
            .chain(excluding.map(move |name| (not_ports, &**name, EXCLUDES)))
    }
    let destination = ["destination.ports", "destination.notPorts"];
    of(&rule.source, ["source.ports", "source.notPorts"]).chain(of(&rule.destination, destination))
}
