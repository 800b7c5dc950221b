//! `services` of a rule.

use hostfw_common::verdict::Direction;

use super::Findings;
use crate::{
    model::ServiceName,
    resource::{EntityRule, quote},
};

/// Checks the service of one side of a rule, and what else that side says.
pub(super) fn convert(
    path: &str,
    direction: Direction,
    entity: &EntityRule,
    findings: &mut Findings,
) -> Option<ServiceName> {
    let services = entity.services.as_ref()?;
    let at = |field: &str| format!("{path}.{field}");
    let (side, of) = match direction {
        Direction::Ingress => ("source", "an ingress rule"),
        Direction::Egress => ("destination", "an egress rule"),
    };
    if !path.ends_with(side) {
        findings.invalid(
            at("services"),
            format!("nothing, for {of} has services as its {side} alone"),
            "a service",
        );
    }
    let mut required = |field: &str, what: &str, text: &Option<String>| {
        let given = text.clone().filter(|text| !text.is_empty());
        if given.is_none() {
            findings.invalid(at(field), what, "nothing");
        }
        given
    };
    let name = required("services.name", "the name of a service", &services.name);
    let namespace = required(
        "services.namespace",
        "the namespace of the service",
        &services.namespace,
    );

    let text = |text: &Option<String>| text.as_deref().filter(|t| !t.is_empty()).map(quote);
    let list = |length: usize| (length > 0).then(|| format!("a list of {length}"));
    let ports = |length| list(length).filter(|_| side == "destination");
    for (field, found) in [
        ("selector", text(&entity.selector)),
        ("notSelector", text(&entity.not_selector)),
        ("namespaceSelector", text(&entity.namespace_selector)),
        (
            "serviceAccounts",
            entity
                .service_accounts
                .as_ref()
                .map(|_| "service accounts".to_owned()),
        ),
        ("nets", list(entity.nets.len())),
        ("notNets", list(entity.not_nets.len())),
        ("ports", ports(entity.ports.len())),
        ("notPorts", ports(entity.not_ports.len())),
    ] {
        if let Some(found) = found {
            findings.invalid(at(field), "nothing, for services is given", found);
        }
    }
    Some(ServiceName {
        namespace: namespace?,
        name: name?,
    })
}
