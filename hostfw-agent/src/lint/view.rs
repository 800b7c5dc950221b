//! What applies to what, as far as a model alone tells.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use hostfw_common::verdict::Direction;

use crate::model::{HostEndpoint, Model, Policy, Profile, Rule};

/// An endpoint with all its labels, those of its profiles too.
pub(super) struct Labelled<'a> {
    pub(super) endpoint: &'a HostEndpoint,
    labels: Cow<'a, BTreeMap<String, String>>,
    /// Those that there are, in order.
    pub(super) profiles: Vec<&'a Profile>,
}

impl<'a> Labelled<'a> {
    pub(super) fn all(model: &'a Model) -> Vec<Self> {
        let profiles: HashMap<&str, &Profile> =
            model.profiles.iter().map(|p| (&*p.name, &**p)).collect();
        let one = |endpoint: &'a HostEndpoint| {
            let profiles: Vec<&Profile> = endpoint
                .profiles
                .iter()
                .filter_map(|name| profiles.get(&**name).copied())
                .collect();
            let mut labels = Cow::Borrowed(&endpoint.labels);
            for profile in &profiles {
                profile.lend_labels(&mut labels);
            }
            Self {
                endpoint,
                labels,
                profiles,
            }
        };
        model
            .endpoints
            .iter()
            .map(|endpoint| one(endpoint))
            .collect()
    }

    pub(super) fn is_meant_by(&self, policy: &Policy) -> bool {
        policy.selector.matches(&self.labels)
    }

    /// Whether the built-in profile that allows everything is among its own.
    pub(super) fn has_allow_all(&self) -> bool {
        self.endpoint
            .profiles
            .iter()
            .any(|name| name == Profile::ALLOW_ALL)
            && self.profiles.iter().all(|p| p.name != Profile::ALLOW_ALL)
    }
}

pub(super) fn rules_of(policy: &Policy, direction: Direction) -> &[Rule] {
    let rules = match direction {
        Direction::Ingress => &policy.ingress,
        Direction::Egress => &policy.egress,
    };
    rules.as_deref().unwrap_or_default()
}

pub(super) const fn rules_of_profile(profile: &Profile, direction: Direction) -> &[Rule] {
    match direction {
        Direction::Ingress => profile.ingress.as_slice(),
        Direction::Egress => profile.egress.as_slice(),
    }
}

pub(super) const fn field_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "spec.ingress",
        Direction::Egress => "spec.egress",
    }
}

/// Endpoints to name in a message before it gets too long.
const MOST_NAMED: usize = 3;

/// ` on HostEndpoint(a)`; nothing if there are none.
pub(super) fn on(endpoints: &[&str]) -> String {
    match endpoints {
        [] => String::new(),
        [only] => format!(" on HostEndpoint({only})"),
        several if several.len() <= MOST_NAMED => {
            format!(" on the host endpoints {}", several.join(", "))
        }
        many => format!(
            " on the host endpoints {} and {} more",
            many[..MOST_NAMED].join(", "),
            many.len() - MOST_NAMED
        ),
    }
}
