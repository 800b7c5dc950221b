//! What is valid and not enforced.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::{Warning, view::Labelled};
use crate::{
    model::{InterfaceMatch, Model, ObjectRef, Stage},
    resource::{
        EntityRule, FelixConfigurationSpec, GlobalNetworkPolicySpec, PolicyType, Resource, Rule,
    },
};

/// Something that an object asks for and does not get.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unenforced {
    /// The object.
    pub about: ObjectRef,
    /// What is not enforced: `spec.ingress[0].http`.
    pub field: String,
    /// Why not, and what happens instead.
    pub why: String,
}

impl fmt::Display for Unenforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { about, field, why } = self;
        write!(f, "{about}: {field} is not enforced: {why}")
    }
}

impl From<Unenforced> for Warning {
    fn from(Unenforced { about, field, why }: Unenforced) -> Self {
        Self {
            about,
            message: format!("{field} is not enforced: {why}"),
        }
    }
}

/// What else there is that rules may speak of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Workloads.
    pub workloads: bool,
    /// Endpoints of services.
    pub services: bool,
}

impl Known {
    /// What is among these.
    pub fn among<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Self {
        let mut known = Self::default();
        for resource in resources {
            known.workloads |= matches!(resource, Resource::WorkloadEndpoint(_));
            known.services |= matches!(resource, Resource::EndpointSlice(_));
        }
        known
    }
}

/// What a valid object asks for and does not get.
#[must_use]
pub fn unenforced(resource: &Resource, known: Known) -> Vec<Unenforced> {
    let mut found = Found {
        known,
        ..Found::default()
    };
    match resource {
        Resource::FelixConfiguration(object) => found.settings(&object.spec),
        Resource::GlobalNetworkPolicy(object) => found.policy(&object.spec),
        Resource::StagedGlobalNetworkPolicy(object) => {
            found.policy(&object.spec.policy());
            if let Some(action @ ("Delete" | "Ignore")) = object.spec.staged_action.as_deref() {
                found.add(
                    "spec.stagedAction".to_owned(),
                    &format!("what {action} would change is not evaluated, and not reported"),
                );
            }
        }
        Resource::Profile(object) => {
            found.rules("spec.ingress", &object.spec.ingress);
            found.rules("spec.egress", &object.spec.egress);
        }
        Resource::EndpointSlice(_)
        | Resource::GlobalNetworkSet(_)
        | Resource::HostEndpoint(_)
        | Resource::HostEndpointTemplate(_)
        | Resource::NetworkSet(_)
        | Resource::Node(_)
        | Resource::NodeAddresses(_)
        | Resource::Tier(_)
        | Resource::WorkloadEndpoint(_) => {}
    }
    found.about(&resource.object_ref())
}

/// What objects ask for together and do not get: untracked policy on endpoints
/// for all interfaces.
#[must_use]
pub fn unenforced_together(model: &Model) -> Vec<Unenforced> {
    let wildcards: Vec<Labelled<'_>> = Labelled::all(model)
        .into_iter()
        .filter(|labelled| labelled.endpoint.interface == InterfaceMatch::Wildcard)
        .collect();
    let untracked = model
        .policies
        .iter()
        .filter(|policy| policy.stage == Stage::Untracked);
    untracked
        .filter_map(|policy| {
            let mut endpoints = wildcards
                .iter()
                .filter(|labelled| labelled.is_meant_by(policy));
            let first = &endpoints.next()?.endpoint.name;
            let more = match endpoints.count() {
                0 => String::new(),
                count => format!(" and {count} more"),
            };
            Some(Unenforced {
                about: policy.object_ref(),
                field: "spec.doNotTrack".to_owned(),
                why: format!(
                    "untracked policy leaves out endpoints for all interfaces ('*'), as \
                     HostEndpoint({first}){more}"
                ),
            })
        })
        .collect()
}

/// Fields of one object that are not enforced for the same reason, and are told
/// one by one: nobody reads more, and an object can have thousands.
const MOST_TOLD: usize = 10;

/// Fields, and why they are not enforced.
#[derive(Default)]
struct Found {
    known: Known,
    fields: Vec<(String, String)>,
    /// How many there are for each reason.
    counts: BTreeMap<String, usize>,
}

impl Found {
    fn add(&mut self, field: String, why: &str) {
        let count = self.counts.entry(why.to_owned()).or_default();
        *count += 1;
        if *count <= MOST_TOLD {
            self.fields.push((field, why.to_owned()));
        }
    }

    fn about(self, object: &ObjectRef) -> Vec<Unenforced> {
        let Self {
            fields, mut counts, ..
        } = self;
        let mut told: Vec<Unenforced> = Vec::new();
        // From behind, so that the last of many is the first met.
        for (field, mut why) in fields.into_iter().rev() {
            if let Some(more) = counts.remove(&why).and_then(|n| n.checked_sub(MOST_TOLD))
                && more > 0
            {
                why += &format!(" (as with {more} more fields of the object)");
            }
            told.push(Unenforced {
                about: object.clone(),
                field,
                why,
            });
        }
        told.reverse();
        told
    }

    fn settings(&mut self, spec: &FelixConfigurationSpec) {
        for (field, value) in &spec.others {
            // What says nothing is as good as absent: Calico itself writes
            // `bpfLogLevel: ""`.
            if !matches!(value, Value::Null) && value.as_str() != Some("") {
                self.add(
                    format!("spec.{field}"),
                    "the setting is of no effect on host policy as hostfw enforces it",
                );
            }
        }
    }

    fn policy(&mut self, spec: &GlobalNetworkPolicySpec) {
        for (kind, field, rules) in [
            (PolicyType::Ingress, "spec.ingress", &spec.ingress),
            (PolicyType::Egress, "spec.egress", &spec.egress),
        ] {
            if spec.types.is_empty() || spec.types.contains(&kind) {
                self.rules(field, rules);
            }
        }
    }

    fn rules(&mut self, field: &str, rules: &[Rule]) {
        for (index, rule) in rules.iter().enumerate() {
            let at = |name: &str| format!("{field}[{index}].{name}");
            if rule.http.is_some() {
                self.add(
                    at("http"),
                    "host policy does not look into requests, so the rule allows all that meets \
                     its other criteria",
                );
            }
            self.entity(&at("source"), &rule.source);
            self.entity(&at("destination"), &rule.destination);
        }
    }

    fn entity(&mut self, path: &str, entity: &EntityRule) {
        if let Some(selector) = &entity.namespace_selector
            && !selector.is_empty()
            && !selector.contains("global(")
            && !self.known.workloads
        {
            self.add(
                format!("{path}.namespaceSelector"),
                "no pods are known here, so of what lives in namespaces it matches network sets \
                 alone",
            );
        }
        if let Some(accounts) = &entity.service_accounts
            && (!accounts.names.is_empty() || accounts.selector.is_some())
            && !self.known.workloads
        {
            self.add(
                format!("{path}.serviceAccounts"),
                "no pods are known here, so only what is said of missing labels can match",
            );
        }
        if entity.services.is_some() && !self.known.services {
            self.add(
                format!("{path}.services"),
                "no services are known here, so the rule matches nothing",
            );
        }
    }
}
