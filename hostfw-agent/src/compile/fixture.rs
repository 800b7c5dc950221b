//! Selected objects for the tests of this module.

use crate::{
    model::{Interface, IpVersion, Protocol, RuleAction},
    select::{Governed, SelectedEntity, SelectedPolicy, SelectedRule, Selection},
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

pub(super) fn policy(name: &str, rules: Vec<SelectedRule>) -> SelectedPolicy {
    SelectedPolicy {
        name: name.to_owned(),
        rules,
    }
}

/// An interface with an index, `eth<index>`, and what governs it.
pub(super) fn governed(
    index: u32,
    endpoint: &str,
    pre_dnat: Vec<SelectedPolicy>,
    egress: Vec<SelectedPolicy>,
) -> Governed {
    Governed {
        endpoint: endpoint.to_owned(),
        interface: Interface {
            index,
            name: format!("eth{index}"),
            addresses: Vec::new(),
            link_header: true,
            loopback: false,
            up: true,
        },
        pre_dnat,
        egress,
    }
}

/// A node without fail-safes.
pub(super) fn selection(governed: Vec<Governed>) -> Selection {
    Selection {
        governed,
        ..Selection::default()
    }
}
