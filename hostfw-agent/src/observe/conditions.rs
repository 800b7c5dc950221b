//! What holds of each endpoint of this node, and what does not.

use std::collections::{BTreeMap, BTreeSet};

use hostfw_common::stage::List;

use super::{
    counters::direction_name,
    status::{Condition, EndpointStatus, HookStatus, PolicyStatus},
};
use crate::{
    model::{Model, ObjectRef, Tier},
    select::{Governed, Inert, InertReason, SelectedPolicy, Selection},
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
    /// Names of the masters of interfaces that are members, by the members'
    /// indexes, where no endpoint governs the master.
    pub masters: BTreeMap<u32, String>,
    /// Interfaces that the agent was told to leave alone.
    pub left_alone: BTreeSet<u32>,
    /// Nothing is dropped, whatever policy says.
    pub observe_only: bool,
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
    let conditions = [
        Some(programmed(governed, facts)),
        denials_enforced(facts),
        Some(forward_enforced(governed, facts)),
        (!governed.workload).then(|| normal_ingress_enforced(governed, facts)),
        Some(addresses_known(selection, governed)),
        profiles_known(governed),
        tiers_known(model, governed),
        untracked_enforced(selection, governed),
        established_flows_kept(governed, facts),
    ];
    EndpointStatus {
        name: governed.endpoint.clone(),
        interface: Some(governed.interface.name.clone()),
        ingress: hooks.map(|(ingress, _)| ingress.clone()),
        egress: hooks.map(|(_, egress)| egress.clone()),
        workload: governed.workload,
        policies: policies(governed),
        conditions: conditions.into_iter().flatten().collect(),
    }
}

/// Policies and profiles in the order in which they are evaluated.
fn policies(governed: &Governed) -> Vec<PolicyStatus> {
    let mut statuses = Vec::new();
    for list in List::ALL {
        let selected = governed.list(list);
        let status = |tier: Option<&str>, policy: &SelectedPolicy| PolicyStatus {
            stage: list.stage().name().to_owned(),
            direction: direction_name(list.direction()).to_owned(),
            tier: tier.map(str::to_owned),
            kind: policy.object.kind.name().to_owned(),
            name: policy.object.name.clone(),
        };
        for tier in &selected.tiers {
            statuses.extend(tier.policies.iter().map(|p| status(Some(&tier.name), p)));
        }
        statuses.extend(selected.profiles.iter().map(|p| status(None, p)));
    }
    statuses
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

/// Told only where nothing is enforced.
fn denials_enforced(facts: &Facts) -> Option<Condition> {
    facts.observe_only.then(|| {
        condition(
            "DenialsEnforced",
            Err((
                "ObserveOnly",
                "not enforced: observe only; what policy denies is counted and reported, and \
                 passes"
                    .to_owned(),
            )),
        )
    })
}

fn forward_enforced(governed: &Governed, facts: &Facts) -> Condition {
    let holds = if let Some(why) = &facts.netfilter_missing {
        Err((
            "NoNetfilter",
            format!("policy with applyOnForward does not judge forwarded packets: {why}"),
        ))
    } else if let Some(master) = facts.masters.get(&governed.interface.index) {
        Err(("MemberOf", member_of(governed, master)))
    } else if let Some(interface) = &facts.ipvs_interface {
        Err((
            "DegradedByIpvs",
            format!(
                "{interface} holds the addresses of services: what IPVS forwards for them does \
                 not pass the hook of forwarded packets"
            ),
        ))
    } else {
        Ok((
            "Enforced",
            "forwarded packets are judged behind routing and DNAT".to_owned(),
        ))
    };
    condition("ForwardEnforced", holds)
}

fn member_of(governed: &Governed, master: &str) -> String {
    format!(
        "what comes in through {} comes to the netfilter hooks as from {master}, which no \
         endpoint governs: neither normal ingress policy nor policy for forwarded packets is \
         enforced on it; give {master} an endpoint instead",
        governed.interface.name
    )
}

fn normal_ingress_enforced(governed: &Governed, facts: &Facts) -> Condition {
    let holds = if let Some(why) = &facts.netfilter_missing {
        Err((
            "NoNetfilter",
            format!(
                "neither normal ingress policy nor the default deny is enforced, what pre-DNAT \
                 policy does not deny reaches local processes: {why}"
            ),
        ))
    } else if let Some(master) = facts.masters.get(&governed.interface.index) {
        Err(("MemberOf", member_of(governed, master)))
    } else if let Some(interface) = &facts.ipvs_interface {
        Err((
            "DegradedByIpvs",
            format!(
                "{interface} holds the addresses of services: packets for them are judged as if \
                 they were for local processes, by the service's address and port"
            ),
        ))
    } else {
        Ok((
            "Enforced",
            "packets for local processes are judged behind DNAT".to_owned(),
        ))
    };
    condition("NormalIngressEnforced", holds)
}

fn addresses_known(selection: &Selection, governed: &Governed) -> Condition {
    let applied: BTreeSet<&ObjectRef> = applied(governed).map(|policy| &policy.object).collect();
    let unknown: BTreeSet<String> = selection
        .unknown_addresses
        .iter()
        .filter(|unknown| applied.contains(&unknown.policy))
        .map(|unknown| unknown.endpoint.to_string())
        .collect();
    let holds = if unknown.is_empty() {
        Ok((
            "Known",
            "the addresses of every endpoint that a rule selects are known".to_owned(),
        ))
    } else {
        Err((
            "OtherNode",
            format!(
                "rules do not match the addresses of {}: on another node, and without expectedIPs",
                join(unknown)
            ),
        ))
    };
    condition("AddressesKnown", holds)
}

/// Told only where one is missing.
fn profiles_known(governed: &Governed) -> Option<Condition> {
    let missing: BTreeSet<String> = applied(governed)
        .filter(|profile| profile.missing)
        .map(|profile| profile.object.name.clone())
        .collect();
    (!missing.is_empty()).then(|| {
        condition(
            "ProfilesKnown",
            Err((
                "NoSuchProfile",
                format!(
                    "spec.profiles names {}, which is not there: it denies every packet that \
                     reaches it",
                    join(missing)
                ),
            )),
        )
    })
}

/// Told only where one is missing.
fn tiers_known(model: &Model, governed: &Governed) -> Option<Condition> {
    let always = Tier::always_there();
    let known: BTreeSet<&str> = always
        .iter()
        .chain(&model.tiers)
        .map(|tier| &*tier.name)
        .collect();
    let missing: BTreeSet<String> = governed
        .lists
        .iter()
        .flat_map(|list| &list.tiers)
        .filter(|tier| !known.contains(&*tier.name))
        .map(|tier| tier.name.clone())
        .collect();
    (!missing.is_empty()).then(|| {
        condition(
            "TiersKnown",
            Err((
                "NoSuchTier",
                format!(
                    "policies are in tier {}, which is not there: it comes behind all others and \
                     denies what its policies do not decide",
                    join(missing)
                ),
            )),
        )
    })
}

/// Told only where a policy has no effect.
fn untracked_enforced(selection: &Selection, governed: &Governed) -> Option<Condition> {
    let ignored: Vec<String> = selection
        .ignored_untracked
        .iter()
        .filter(|ignored| ignored.endpoint == governed.endpoint)
        .map(|ignored| ignored.policy.to_string())
        .collect();
    (!ignored.is_empty()).then(|| {
        condition(
            "UntrackedEnforced",
            Err((
                "Wildcard",
                format!(
                    "{} has no effect: an endpoint for all interfaces (*) takes no untracked policy",
                    join(ignored)
                ),
            )),
        )
    })
}

/// Told only where they may have been cut.
fn established_flows_kept(governed: &Governed, facts: &Facts) -> Option<Condition> {
    let reason = facts.not_adopted.get(&governed.interface.index)?;
    Some(condition(
        "EstablishedFlowsKept",
        Err((
            "AdoptionFailed",
            format!("flows from before enforcement may have been cut: {reason}"),
        )),
    ))
}

/// Everything that applies, at any stage.
fn applied(governed: &Governed) -> impl Iterator<Item = &SelectedPolicy> {
    governed
        .lists
        .iter()
        .flat_map(|list| list.policies().chain(&list.profiles))
}

fn join(names: impl IntoIterator<Item = String>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
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
            format!(
                "{by}, {}, governs {interface}",
                precedence(&inert.endpoint, by)
            ),
        ),
        InertReason::Excluded(name) => ("Excluded", format!("interfaceExclude names {name}")),
        InertReason::Workload(name) => (
            "WorkloadInterface",
            format!(
                "{name} is a workload interface, for interfacePrefix covers it: only an endpoint \
                 for all interfaces (*) governs those"
            ),
        ),
        InertReason::NoSuchInterfaces(pattern) => (
            "NoSuchInterface",
            format!(
                "the template means this node, and spec.interfacePattern {pattern:?} none of its \
                 interfaces (lo and those of workloads are left out)"
            ),
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
        workload: false,
        policies: Vec::new(),
        conditions: vec![condition("Programmed", Err((reason, message)))],
    }
}

/// Why one endpoint comes before another: `TEMPLATE/INTERFACE` is made from a
/// template.
fn precedence(shadowed: &str, by: &str) -> &'static str {
    match (shadowed.contains('/'), by.contains('/')) {
        (true, true) => "whose template comes first by order and name",
        (true, false) => "a host endpoint of its own, which comes before any template's",
        (false, _) => "whose name sorts first",
    }
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
