//! Which policies and profiles apply to an endpoint, in which order.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use hostfw_common::{
    stage::{List, Stage},
    verdict::Direction,
};

use super::{
    IgnoredUntracked, SelectedEntity, SelectedList, SelectedPolicy, SelectedRule, SelectedTier,
    addresses::Addresses,
    govern::Pair,
    labels::{Labels, Profiles},
    rules::select_rules,
    tiers::Tiers,
};
use crate::model::{
    self, HostEndpoint, InterfaceMatch, Kind, ObjectRef, Policy, Profile, RuleAction, StagedAction,
};

/// An endpoint that governs an interface here, with its labels.
pub(super) struct Governing<'a> {
    pub(super) endpoint: &'a HostEndpoint,
    pub(super) labels: Cow<'a, Labels>,
}

impl Governing<'_> {
    fn is_wildcard(&self) -> bool {
        self.endpoint.interface == InterfaceMatch::Wildcard
    }

    fn is_meant_by(&self, policy: &Policy) -> bool {
        policy.selector.matches(&self.labels)
    }
}

/// The endpoints of the pairs, each once.
pub(super) fn governing<'a>(pairs: &[Pair<'a>], profiles: &Profiles<'_>) -> Vec<Governing<'a>> {
    let by_name: BTreeMap<&str, &HostEndpoint> = pairs
        .iter()
        .map(|pair| (&*pair.endpoint.name, pair.endpoint))
        .collect();
    by_name
        .into_values()
        .map(|endpoint| Governing {
            endpoint,
            labels: profiles.labels_of_endpoint(endpoint),
        })
        .collect()
}

/// A policy's or profile's rules of both directions, with the addresses of
/// their selectors.
struct Directions {
    ingress: Option<SelectedPolicy>,
    egress: Option<SelectedPolicy>,
}

impl Directions {
    const fn of(&self, direction: Direction) -> Option<&SelectedPolicy> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }
}

/// A policy that applies to one of the endpoints.
struct Candidate<'a> {
    policy: &'a Policy,
    /// The default action of its tier.
    tier_denies: bool,
    directions: Directions,
}

/// Everything that applies to one of the endpoints.
pub(super) struct Candidates<'a> {
    /// In the order in which they are evaluated.
    policies: Vec<Candidate<'a>>,
    profiles: BTreeMap<&'a str, Directions>,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(
        policies: &'a [Arc<Policy>],
        tiers: &Tiers,
        profiles: &Profiles<'_>,
        endpoints: &[Governing<'a>],
        addresses: &mut Addresses<'_>,
    ) -> Self {
        let mut applying: Vec<&Policy> = policies
            .iter()
            .map(|policy| &**policy)
            .filter(|policy| is_evaluated(policy))
            .filter(|policy| {
                endpoints
                    .iter()
                    .any(|endpoint| may_govern(policy, endpoint) && endpoint.is_meant_by(policy))
            })
            .collect();
        applying.sort_by_cached_key(|policy| {
            (tiers.rank(&policy.tier), policy.order, sort_key(policy))
        });
        let names = endpoints
            .iter()
            .flat_map(|endpoint| &endpoint.endpoint.profiles);
        Self {
            policies: applying
                .into_iter()
                .map(|policy| Candidate {
                    policy,
                    tier_denies: tiers.denies(&policy.tier),
                    directions: policy_rules(policy, addresses),
                })
                .collect(),
            profiles: names
                .map(|name| (&**name, profile_rules(name, profiles.get(name), addresses)))
                .collect(),
        }
    }

    /// What is evaluated for the endpoint; `workload` if the interface is a
    /// workload's, where only the pre-DNAT and forward stages look at packets.
    pub(super) fn list(
        &self,
        list: List,
        endpoint: &Governing<'_>,
        workload: bool,
    ) -> SelectedList {
        let stage = list.stage();
        if workload && matches!(stage, Stage::Untracked | Stage::Normal) {
            return SelectedList::default();
        }
        let normal = stage == Stage::Normal;
        SelectedList {
            tiers: self.tiers(list, endpoint),
            profiles: if normal {
                self.profiles_of(endpoint.endpoint, list.direction())
            } else {
                Vec::new()
            },
            default_deny: normal,
        }
    }

    fn tiers(&self, list: List, endpoint: &Governing<'_>) -> Vec<SelectedTier> {
        let has_defaults = matches!(list.stage(), Stage::Forward | Stage::Normal);
        let mut tiers: Vec<SelectedTier> = Vec::new();
        for candidate in &self.policies {
            let policy = candidate.policy;
            let Some(selected) = candidate.directions.of(list.direction()) else {
                continue;
            };
            if !is_in(policy, list)
                || !may_govern(policy, endpoint)
                || !endpoint.is_meant_by(policy)
            {
                continue;
            }
            if tiers.last().is_none_or(|tier| tier.name != policy.tier) {
                tiers.push(SelectedTier {
                    name: policy.tier.clone(),
                    default_deny: false,
                    policies: Vec::new(),
                });
            }
            if let Some(tier) = tiers.last_mut() {
                tier.default_deny |=
                    has_defaults && candidate.tier_denies && policy.staged.is_none();
                tier.policies.push(selected.clone());
            }
        }
        tiers
    }

    fn profiles_of(&self, endpoint: &HostEndpoint, direction: Direction) -> Vec<SelectedPolicy> {
        endpoint
            .profiles
            .iter()
            .filter_map(|name| self.profiles.get(&**name)?.of(direction).cloned())
            .collect()
    }
}

/// The untracked policies that match a `*` endpoint, sorted: they have no
/// effect on it (Calico: `felix/dataplane/linux/endpoint_mgr.go`).
pub(super) fn ignored_untracked(
    policies: &[Arc<Policy>],
    endpoints: &[Governing<'_>],
) -> Vec<IgnoredUntracked> {
    let mut ignored: Vec<_> = endpoints
        .iter()
        .flat_map(|endpoint| {
            policies
                .iter()
                .filter(|policy| !may_govern(policy, endpoint) && endpoint.is_meant_by(policy))
                .map(|policy| IgnoredUntracked {
                    endpoint: endpoint.endpoint.name.clone(),
                    policy: policy.object_ref(),
                })
        })
        .collect();
    ignored.sort();
    ignored
}

/// Whether the policy has rules to evaluate: a staged one that takes another
/// away, or does nothing, has none.
const fn is_evaluated(policy: &Policy) -> bool {
    match policy.staged {
        None | Some(StagedAction::Set | StagedAction::Learn) => true,
        Some(StagedAction::Delete | StagedAction::Ignore) => false,
    }
}

/// Whether policies of this stage govern the endpoint, if it is meant.
fn may_govern(policy: &Policy, endpoint: &Governing<'_>) -> bool {
    policy.stage != model::Stage::Untracked || !endpoint.is_wildcard()
}

fn is_in(policy: &Policy, list: List) -> bool {
    match list.stage() {
        Stage::Untracked => policy.stage == model::Stage::Untracked,
        Stage::PreDnat => policy.stage == model::Stage::PreDnat,
        Stage::Forward => policy.stage == model::Stage::Normal && policy.apply_on_forward,
        Stage::Normal => policy.stage == model::Stage::Normal,
    }
}

/// Decides between policies of the same order: bytewise on
/// `name/namespace/kind`, so that `a-b` comes before `a` (Calico:
/// felix/calc/policy_sorter.go).
fn sort_key(policy: &Policy) -> String {
    let object = policy.object_ref();
    format!("{}//{}", object.name, object.kind)
}

fn policy_rules(policy: &Policy, addresses: &mut Addresses<'_>) -> Directions {
    let object = policy.object_ref();
    let mut select = |rules: Option<&[model::Rule]>| {
        rules.map(|rules| SelectedPolicy {
            object: object.clone(),
            staged: policy.staged,
            missing: false,
            rules: select_rules(rules, &object, addresses),
        })
    };
    Directions {
        ingress: select(policy.ingress.as_deref()),
        egress: select(policy.egress.as_deref()),
    }
}

/// The profile need not be there: then everything is denied, except by the one
/// that is built in.
fn profile_rules(
    name: &str,
    profile: Option<&Profile>,
    addresses: &mut Addresses<'_>,
) -> Directions {
    let object = ObjectRef {
        kind: Kind::Profile,
        name: name.to_owned(),
    };
    let built_in = name == Profile::ALLOW_ALL;
    let mut select = |rules: fn(&Profile) -> &[model::Rule]| {
        Some(SelectedPolicy {
            object: object.clone(),
            staged: None,
            missing: profile.is_none() && !built_in,
            rules: match profile {
                Some(profile) => select_rules(rules(profile), &object, addresses),
                None if built_in => vec![allow_all()],
                None => Vec::new(),
            },
        })
    };
    Directions {
        ingress: select(|profile| &profile.ingress),
        egress: select(|profile| &profile.egress),
    }
}

fn allow_all() -> SelectedRule {
    SelectedRule {
        action: RuleAction::Allow,
        ip_version: None,
        protocol: None,
        not_protocol: None,
        icmp: None,
        not_icmp: None,
        source: SelectedEntity::default(),
        destination: SelectedEntity::default(),
    }
}

#[cfg(test)]
mod tests;
