//! What holds of each endpoint of this node, and what does not.

use std::collections::{BTreeMap, BTreeSet};

use hostfw_common::stage::List;

use super::status::{Condition, EndpointStatus, HookStatus};
use crate::{
    model::{InterfaceMatch, Model},
    select::{Governed, Inert, InertReason, SelectedList, Selection},
};

/// What is known of the kernel side when the conditions are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The dataplane's generation in force.
    pub generation: u64,
    /// Why the selection is not in force, if so.
    pub error: Option<String>,
    /// Where incoming and outgoing packets are judged, by interface index.
    pub hooks: BTreeMap<u32, (HookStatus, HookStatus)>,
    /// Interfaces whose programs could not be attached, and why.
    pub not_attached: BTreeMap<u32, String>,
    /// Interfaces whose established flows could not be taken over, and why.
    pub not_adopted: BTreeMap<u32, String>,
    /// Why forwarded packets and packets for local processes are not judged
    /// behind routing and DNAT, if so: the netfilter programs could not be
    /// loaded or attached.
    pub netfilter_missing: Option<String>,
    /// The interface that holds the addresses of the services of kube-proxy's
    /// IPVS mode, if there is one: then packets for a service reach local
    /// processes' hook untranslated.
    pub ipvs_interface: Option<String>,
    /// Interfaces that the agent was told to leave alone.
    pub left_alone: BTreeSet<u32>,
}

/// One status for each interface that an endpoint of this node governs, and
/// one for each endpoint that governs none; sorted by name, then by interface
/// index.
#[must_use]
pub fn endpoint_statuses(
    model: &Model,
    selection: &Selection,
    facts: &Facts,
) -> Vec<EndpointStatus> {
    let mut statuses: Vec<EndpointStatus> = selection
        .governed
        .iter()
        .map(|governed| governed_status(model, selection, governed, facts))
        .chain(selection.inert.iter().map(inert_status))
        .collect();
    statuses.sort_by(|a, b| a.name.cmp(&b.name));
    statuses
}

fn governed_status(
    model: &Model,
    selection: &Selection,
    governed: &Governed,
    facts: &Facts,
) -> EndpointStatus {
    let index = governed.interface.index;
    let hooks = facts.hooks.get(&index);
    let mut conditions = vec![
        programmed(governed, facts),
        condition(
            "NormalIngressEnforced",
            Err((
                "NotInThisRelease",
                "this release does not enforce the normal ingress default deny, nor profiles: \
                 what pre-DNAT policy does not deny reaches local processes"
                    .to_owned(),
            )),
        ),
        addresses_known(selection, governed),
    ];
    let wildcard = model.endpoints.iter().any(|endpoint| {
        endpoint.name == governed.endpoint && endpoint.interface == InterfaceMatch::Wildcard
    });
    if wildcard {
        conditions.push(condition(
            "WorkloadInterfacesEnforced",
            Err((
                "NotInThisRelease",
                "this release does not enforce pre-DNAT policy of a * endpoint on workload \
                 interfaces and loopback"
                    .to_owned(),
            )),
        ));
    }
    if let Some(reason) = facts.not_adopted.get(&index) {
        conditions.push(condition(
            "EstablishedFlowsKept",
            Err((
                "AdoptionFailed",
                format!("flows from before enforcement may have been cut: {reason}"),
            )),
        ));
    }
    EndpointStatus {
        name: governed.endpoint.clone(),
        interface: Some(governed.interface.name.clone()),
        ingress: hooks.map(|(ingress, _)| ingress.clone()),
        egress: hooks.map(|(_, egress)| egress.clone()),
        pre_dnat_policies: names(governed.list(List::PreDnat)),
        egress_policies: names(governed.list(List::NormalOut)),
        conditions,
    }
}

fn programmed(governed: &Governed, facts: &Facts) -> Condition {
    let interface = &governed.interface;
    let holds = if facts.left_alone.contains(&interface.index) {
        Err((
            "LeftAlone",
            format!(
                "the agent was told to govern other interfaces than {} only",
                interface.name
            ),
        ))
    } else if let Some(error) = &facts.error {
        Err((
            "NotInForce",
            format!("generation {} stays in force: {error}", facts.generation),
        ))
    } else if let Some(error) = facts.not_attached.get(&interface.index) {
        Err((
            "AttachFailed",
            format!("cannot attach to {}: {error}", interface.name),
        ))
    } else {
        Ok((
            "Enforced",
            format!(
                "{} is governed since generation {} or before",
                interface.name, facts.generation
            ),
        ))
    };
    condition("Programmed", holds)
}

fn addresses_known(selection: &Selection, governed: &Governed) -> Condition {
    let applied: BTreeSet<&str> = governed
        .lists
        .iter()
        .flat_map(|list| list.policies())
        .map(|policy| &*policy.object.name)
        .collect();
    let unknown: BTreeSet<String> = selection
        .unknown_addresses
        .iter()
        .filter(|unknown| applied.contains(&*unknown.policy.name))
        .map(|unknown| unknown.endpoint.to_string())
        .collect();
    let holds = if unknown.is_empty() {
        Ok((
            "Known",
            "the addresses of every endpoint that a rule selects are known".to_owned(),
        ))
    } else {
        let unknown: Vec<_> = unknown.into_iter().collect();
        Err((
            "OtherNode",
            format!(
                "rules do not match the addresses of {}: on another node, and without expectedIPs",
                unknown.join(", ")
            ),
        ))
    };
    condition("AddressesKnown", holds)
}

fn inert_status(inert: &Inert) -> EndpointStatus {
    let (reason, message) = match &inert.reason {
        InertReason::NoSuchInterface(name) => (
            "NoSuchInterface",
            format!("the node has no interface {name} whose packets can be read"),
        ),
        InertReason::NoSuchAddress(addresses) => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            (
                "NoSuchAddress",
                format!("no interface of the node holds {}", addresses.join(", ")),
            )
        }
        InertReason::Shadowed { interface, by } => (
            "Shadowed",
            format!("{by}, whose name sorts first, governs {interface}"),
        ),
        InertReason::Excluded(name) => ("Excluded", format!("interfaceExclude names {name}")),
        InertReason::Workload(name) => (
            "WorkloadInterface",
            format!("{name} is a workload interface: interfacePrefix covers it"),
        ),
        InertReason::NothingLeft => (
            "NothingLeft",
            "no interface of the node is left to be governed".to_owned(),
        ),
    };
    EndpointStatus {
        name: inert.endpoint.clone(),
        interface: None,
        ingress: None,
        egress: None,
        pre_dnat_policies: Vec::new(),
        egress_policies: Vec::new(),
        conditions: vec![condition("Programmed", Err((reason, message)))],
    }
}

fn names(list: &SelectedList) -> Vec<String> {
    list.policies()
        .map(|policy| policy.object.name.clone())
        .collect()
}

fn condition(
    kind: &str,
    holds: Result<(&'static str, String), (&'static str, String)>,
) -> Condition {
    let status = holds.is_ok();
    let (Ok((reason, message)) | Err((reason, message))) = holds;
    Condition {
        kind: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests;
