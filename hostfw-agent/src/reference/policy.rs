//! Policies, read, and put in order (semantics section 2).

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use hostfw_common::{
    stage::{List, Stage},
    verdict::Direction,
};

use super::{
    rule::Rule,
    selector::{Dialect, Labels, Selector},
    world::{self, World},
};
use crate::{
    model::{Kind, ObjectRef},
    resource::{GlobalNetworkPolicySpec, PolicyType, TierSpec},
};

/// The stage that a policy is for; a normal one may be for forwarded packets
/// too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Untracked,
    PreDnat,
    Normal { forward: bool },
}

/// A policy, read.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) object: ObjectRef,
    /// Evaluated and reported only.
    pub(super) staged: bool,
    tier: String,
    order: f64,
    selectors: Vec<Selector>,
    purpose: Purpose,
    /// Rules by direction; `None` if the policy is not about it.
    rules: [Option<Vec<Rule>>; 2],
}

impl Policy {
    /// `None` if it is not one.
    pub(super) fn read(
        object: ObjectRef,
        spec: &GlobalNetworkPolicySpec,
        world: &World,
    ) -> Option<Self> {
        let (ingress, egress) = directions(spec);
        Some(Self {
            staged: object.kind == Kind::StagedGlobalNetworkPolicy,
            object,
            tier: spec
                .tier
                .clone()
                .filter(|tier| !tier.is_empty())
                .unwrap_or_else(|| "default".to_owned()),
            order: spec.order.unwrap_or(f64::INFINITY),
            selectors: selectors(spec)?,
            purpose: if spec.do_not_track == Some(true) {
                Purpose::Untracked
            } else if spec.pre_dnat == Some(true) {
                Purpose::PreDnat
            } else {
                Purpose::Normal {
                    forward: spec.apply_on_forward == Some(true),
                }
            },
            rules: [
                if ingress {
                    Some(Rule::read_all(&spec.ingress, world)?)
                } else {
                    None
                },
                if egress {
                    Some(Rule::read_all(&spec.egress, world)?)
                } else {
                    None
                },
            ],
        })
    }

    /// Its rules for packets of a direction; none if it is not about them.
    pub(super) fn rules(&self, direction: Direction) -> &[Rule] {
        self.rules[direction as usize]
            .as_deref()
            .unwrap_or_default()
    }

    /// Whether an endpoint with the labels has the policy in a list.
    fn is_in(&self, list: List, labels: &Labels) -> bool {
        let stage = match list.stage() {
            Stage::Untracked => self.purpose == Purpose::Untracked,
            Stage::PreDnat => self.purpose == Purpose::PreDnat,
            Stage::Forward => self.purpose == Purpose::Normal { forward: true },
            Stage::Normal => matches!(self.purpose, Purpose::Normal { .. }),
        };
        stage
            && self.rules[list.direction() as usize].is_some()
            && self
                .selectors
                .iter()
                .all(|selector| selector.matches(labels))
    }

    /// What policies of one order are sorted by.
    fn key(&self) -> String {
        format!("{}//{}", self.object.name, self.object.kind)
    }
}

/// Whether a policy is about ingress, and about egress: as given, else as its
/// rules tell.
fn directions(spec: &GlobalNetworkPolicySpec) -> (bool, bool) {
    if spec.types.is_empty() {
        let egress = !spec.egress.is_empty();
        (!egress || !spec.ingress.is_empty(), egress)
    } else {
        (
            spec.types.contains(&PolicyType::Ingress),
            spec.types.contains(&PolicyType::Egress),
        )
    }
}

/// What a policy asks of an endpoint. `all()` has the narrower meaning of a
/// selector beside it.
fn selectors(spec: &GlobalNetworkPolicySpec) -> Option<Vec<Selector>> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let namespaces = given(&spec.namespace_selector);
    let accounts = given(&spec.service_account_selector);
    let namespace = Some(world::NAMESPACE);
    let account = Some("projectcalico.org/serviceaccount");
    let own = Dialect {
        all: if namespaces.is_some() {
            namespace
        } else if accounts.is_some() {
            account
        } else {
            None
        },
        ..Dialect::default()
    };
    let of_namespace = Dialect {
        prefix: "pcns.",
        all: namespace,
        global: None,
    };
    let of_account = Dialect {
        prefix: "pcsa.",
        all: account,
        global: None,
    };
    [
        (given(&spec.selector), own),
        (namespaces, of_namespace),
        (accounts, of_account),
    ]
    .into_iter()
    .filter_map(|(text, dialect)| Some(Selector::read(&text?, dialect)))
    .collect()
}

/// What is known of a tier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tier {
    /// Without a Tier object it comes last, and denies.
    exists: bool,
    order: f64,
    denies: bool,
}

impl Tier {
    pub(super) fn new(spec: &TierSpec) -> Self {
        Self {
            exists: true,
            order: spec.order.unwrap_or(f64::INFINITY),
            denies: spec.default_action.as_deref() != Some("Pass"),
        }
    }

    const MISSING: Self = Self {
        exists: false,
        order: f64::INFINITY,
        denies: true,
    };

    /// Tiers that are always there, and as they are.
    pub(super) fn fixed() -> BTreeMap<String, Self> {
        let tier = |name: &str, order, denies| {
            let tier = Self {
                exists: true,
                order,
                denies,
            };
            (name.to_owned(), tier)
        };
        BTreeMap::from([
            tier("default", 1_000_000.0, true),
            tier("kube-admin", 1_000.0, false),
            tier("kube-baseline", 10_000_000.0, false),
        ])
    }

    fn before(&self, other: &Self) -> Ordering {
        other.exists.cmp(&self.exists).then(
            self.order
                .partial_cmp(&other.order)
                .unwrap_or(Ordering::Equal),
        )
    }
}

/// What one endpoint evaluates of a tier, at one stage and in one direction.
#[derive(Debug)]
pub(super) struct TierPolicies {
    pub(super) name: String,
    /// What no rule of the tier decides is denied.
    pub(super) denies: bool,
    pub(super) policies: Vec<Arc<Policy>>,
}

/// The policies of a list, by tier, in the order in which they are evaluated.
pub(super) fn in_order(
    policies: &[Arc<Policy>],
    tiers: &BTreeMap<String, Tier>,
    list: List,
    labels: &Labels,
) -> Vec<TierPolicies> {
    let mut by_tier: BTreeMap<&str, Vec<Arc<Policy>>> = BTreeMap::new();
    for policy in policies.iter().filter(|policy| policy.is_in(list, labels)) {
        by_tier
            .entry(&policy.tier)
            .or_default()
            .push(Arc::clone(policy));
    }
    let tier = |name: &str| tiers.get(name).copied().unwrap_or(Tier::MISSING);
    let mut in_order: Vec<_> = by_tier.into_iter().collect();
    // Stable, and sorted by name before.
    in_order.sort_by(|(a, _), (b, _)| tier(a).before(&tier(b)));
    in_order
        .into_iter()
        .map(|(name, mut policies)| {
            policies.sort_by(|a, b| {
                // Not total_cmp: -0 and 0 are one order.
                let order = a.order.partial_cmp(&b.order).unwrap_or(Ordering::Equal);
                order.then_with(|| a.key().cmp(&b.key()))
            });
            TierPolicies {
                name: name.to_owned(),
                denies: tier(name).denies
                    && matches!(list.stage(), Stage::Forward | Stage::Normal)
                    && policies.iter().any(|policy| !policy.staged),
                policies,
            }
        })
        .collect()
}
