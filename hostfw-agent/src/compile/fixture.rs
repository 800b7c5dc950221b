//! Selected objects for the tests of this module.

use hostfw_common::stage::{List, Stage};

use crate::{
    model::{Interface, IpVersion, Kind, ObjectRef, Protocol, RuleAction, StagedAction},
    select::{
        Governed, SelectedEntity, SelectedList, SelectedPolicy, SelectedRule, SelectedTier,
        Selection,
    },
};

/// A rule without criteria.
pub(super) fn rule(action: RuleAction) -> SelectedRule {
    SelectedRule {
        action,
        ip_version: None,
        protocol: None,
        not_protocol: None,
        icmp: None,
        not_icmp: None,
        source: SelectedEntity::default(),
        destination: SelectedEntity::default(),
    }
}

/// A protocol given as a number.
pub(super) fn numbered(number: u8) -> Protocol {
    Protocol {
        number,
        implied_version: None,
    }
}

/// A protocol given by a name that says the version.
pub(super) fn named(number: u8, version: IpVersion) -> Protocol {
    Protocol {
        number,
        implied_version: Some(version),
    }
}

/// An enforced policy.
pub(super) fn policy(name: &str, rules: Vec<SelectedRule>) -> SelectedPolicy {
    SelectedPolicy {
        object: ObjectRef {
            kind: Kind::GlobalNetworkPolicy,
            name: name.to_owned(),
        },
        staged: None,
        missing: false,
        rules,
    }
}

/// A policy that is only reported.
pub(super) fn staged(name: &str, rules: Vec<SelectedRule>) -> SelectedPolicy {
    let mut policy = policy(name, rules);
    policy.object.kind = Kind::StagedGlobalNetworkPolicy;
    policy.staged = Some(StagedAction::Set);
    policy
}

/// A profile that is there.
pub(super) fn profile(name: &str, rules: Vec<SelectedRule>) -> SelectedPolicy {
    let mut profile = policy(name, rules);
    profile.object.kind = Kind::Profile;
    profile
}

pub(super) fn tier(name: &str, default_deny: bool, policies: Vec<SelectedPolicy>) -> SelectedTier {
    SelectedTier {
        name: name.to_owned(),
        default_deny,
        policies,
    }
}

/// An interface with an index, `eth<index>`, and what governs it: what a list
/// that is not given holds follows from its stage.
pub(super) fn governed_by(
    index: u32,
    endpoint: &str,
    given: Vec<(List, SelectedList)>,
) -> Governed {
    let mut lists = List::ALL.map(|list| SelectedList {
        default_deny: list.stage() == Stage::Normal,
        ..SelectedList::default()
    });
    for (list, selected) in given {
        lists[list as usize] = selected;
    }
    Governed {
        endpoint: endpoint.to_owned(),
        interface: Interface {
            index,
            name: format!("eth{index}"),
            addresses: Vec::new(),
            link_header: true,
            loopback: false,
            up: true,
            master: None,
        },
        workload: false,
        lists: lists.map(Into::into),
    }
}

/// Policies of the tier `default`, at one stage and direction.
pub(super) fn in_default_tier(list: List, policies: Vec<SelectedPolicy>) -> (List, SelectedList) {
    let has_default = matches!(list.stage(), Stage::Forward | Stage::Normal);
    let tiers = if policies.is_empty() {
        Vec::new()
    } else {
        vec![tier("default", has_default, policies)]
    };
    let selected = SelectedList {
        tiers,
        profiles: Vec::new(),
        default_deny: list.stage() == Stage::Normal,
    };
    (list, selected)
}

/// An interface with pre-DNAT policies and normal ones of what goes out, in
/// the tier `default`.
pub(super) fn governed(
    index: u32,
    endpoint: &str,
    pre_dnat: Vec<SelectedPolicy>,
    normal_out: Vec<SelectedPolicy>,
) -> Governed {
    let lists = vec![
        in_default_tier(List::PreDnat, pre_dnat),
        in_default_tier(List::NormalOut, normal_out),
    ];
    governed_by(index, endpoint, lists)
}

/// A node without fail-safes.
pub(super) fn selection(governed: Vec<Governed>) -> Selection {
    Selection {
        governed,
        ..Selection::default()
    }
}

/// Numbers as from dice, the same every time.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number. The generator is SplitMix64 (Steele, Lea, Flood: Fast
    /// splittable pseudorandom number generators, 2014).
    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(super) const fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
