//! Criteria of rules that matched, and of rules that did not.

use hostfw_agent::{
    question::{Answer, Question, Why},
    resource::{EntityRule, NumberOrText, Resource, Rule},
};
use hostfw_common::verdict::Direction;

use super::family;
use crate::generate::Scene;

/// The rule that an answer names, as it is written.
pub(super) fn deciding<'a>(
    scene: &'a Scene,
    direction: Direction,
    answer: &Answer,
) -> Option<&'a Rule> {
    let (name, index) = (answer.policy.as_deref()?, usize::from(answer.rule?));
    scene.resources.iter().find_map(|resource| {
        let (ingress, egress) = match (resource, answer.reason) {
            (Resource::GlobalNetworkPolicy(policy), Why::Rule) => {
                (&policy.spec.ingress, &policy.spec.egress)
            }
            (Resource::Profile(profile), Why::Profile) => {
                (&profile.spec.ingress, &profile.spec.egress)
            }
            _ => return None,
        };
        if resource.metadata().name != name {
            return None;
        }
        match direction {
            Direction::Ingress => ingress,
            Direction::Egress => egress,
        }
        .get(index)
    })
}

/// Tells every criterion of a rule that matched.
pub(super) fn matched(rule: &Rule, family: &str, found: &mut dyn FnMut(&str)) {
    let mut any = false;
    let mut matched = |what: &str| {
        any = true;
        found(&format!("matched {family}: {what}"));
    };
    if rule.ip_version.is_some() {
        matched("ipVersion");
    }
    for (protocol, field) in [
        (&rule.protocol, "protocol"),
        (&rule.not_protocol, "notProtocol"),
    ] {
        match protocol {
            Some(NumberOrText::Text(text)) if !text.starts_with(|c: char| c.is_ascii_digit()) => {
                matched(&format!("{field} by name"));
            }
            Some(NumberOrText::Text(_) | NumberOrText::Number(_)) => {
                matched(&format!("{field} by number"));
            }
            None => {}
        }
    }
    for (fields, field) in [(&rule.icmp, "icmp"), (&rule.not_icmp, "notICMP")] {
        if let Some(fields) = fields {
            match (fields.kind, fields.code) {
                (Some(_), None) => matched(&format!("{field} type")),
                (Some(_), Some(_)) => matched(&format!("{field} type and code")),
                (None, _) => {}
            }
        }
    }
    entity("source", &rule.source, &mut matched);
    entity("destination", &rule.destination, &mut matched);
    if !any {
        found(&format!("matched {family}: no criterion"));
    }
}

fn entity(side: &str, entity: &EntityRule, matched: &mut dyn FnMut(&str)) {
    let filled = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let selects = filled(&entity.selector)
        || filled(&entity.namespace_selector)
        || entity.service_accounts.is_some();
    for (given, field) in [
        (!entity.nets.is_empty(), "nets"),
        (!entity.not_nets.is_empty(), "notNets"),
        (filled(&entity.selector), "selector"),
        (filled(&entity.not_selector) && !selects, "notSelector"),
        (
            filled(&entity.not_selector) && selects,
            "selector and notSelector",
        ),
        (filled(&entity.namespace_selector), "namespaceSelector"),
        (entity.service_accounts.is_some(), "serviceAccounts"),
        (entity.services.is_some(), "services"),
    ] {
        if given {
            matched(&format!("{side}.{field}"));
        }
    }
    for (ports, field) in [(&entity.ports, "ports"), (&entity.not_ports, "notPorts")] {
        for how in WAYS_OF_PORTS {
            if ports.iter().any(|port| written_as(port) == how) {
                matched(&format!("{side}.{field} {how}"));
            }
        }
    }
}

pub(super) const WAYS_OF_PORTS: [&str; 3] = ["number", "range", "name"];

fn written_as(port: &NumberOrText) -> &'static str {
    match port {
        NumberOrText::Number(_) => "number",
        NumberOrText::Text(text) if text.contains(':') => "range",
        NumberOrText::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => "number",
        NumberOrText::Text(_) => "name",
    }
}

/// Tells the criterion by which a rule did not match.
pub(super) fn missed(rule: &Rule, question: &Question, field: &str, found: &mut dyn FnMut(&str)) {
    let family = family(question);
    found(&format!("missed {family}: {field}"));
    let Some((side, criterion)) = field.split_once('.') else {
        let fields = match field {
            "icmp" => &rule.icmp,
            "notICMP" => &rule.not_icmp,
            _ => return,
        };
        let Some((kind, code)) = question.icmp else {
            return found(&format!("missed {family}: {field} of another protocol"));
        };
        let given = |value: Option<i64>| value.and_then(|value| u8::try_from(value).ok());
        if let Some(fields) = fields {
            let same = given(fields.kind) == Some(kind);
            let what = match given(fields.code) {
                Some(other) if same && (other == code) == (field == "notICMP") => "code",
                _ => "type",
            };
            found(&format!("missed {family}: {field} {what}"));
        }
        return;
    };
    let entity = if side == "source" {
        &rule.source
    } else {
        &rule.destination
    };
    let nets = match criterion {
        "nets" => &entity.nets,
        "notNets" => &entity.not_nets,
        "ports" | "notPorts" => {
            let ports = if criterion == "ports" {
                &entity.ports
            } else {
                &entity.not_ports
            };
            for how in WAYS_OF_PORTS {
                if ports.iter().any(|port| written_as(port) == how) {
                    found(&format!("missed {family}: {field} {how}"));
                }
            }
            return;
        }
        _ => return,
    };
    let other = |net: &String| net.contains(':') == question.source.is_ipv4();
    if nets.iter().all(other) {
        found(&format!("missed {family}: {field} of the other family"));
    }
}
