//! `http` of a rule. Host policy does not look into requests; what is written
//! must be right all the same.

use std::collections::BTreeSet;

use hostfw_common::verdict::Direction;

use super::{Findings, protocol, rule::shown_protocol};
use crate::{
    model::Protocol,
    resource::{Action, HttpMatch, HttpPath, Rule, quote},
};

pub(super) fn check(
    field: &str,
    http: &HttpMatch,
    rule: &Rule,
    (direction, protocol): (Direction, Option<Protocol>),
    findings: &mut Findings,
) {
    if direction == Direction::Egress {
        findings.invalid(
            field,
            "nothing, for this is an egress rule",
            "HTTP criteria",
        );
    }
    if rule.action != Action::Allow {
        findings.invalid(
            field,
            "action Allow beside it",
            format!("action {}", rule.action.name()),
        );
    }
    if rule.protocol.is_some() && protocol.is_none_or(|given| given.number != protocol::TCP) {
        findings.invalid(
            field,
            "protocol TCP or none beside it",
            shown_protocol(rule),
        );
    }
    let mut seen = BTreeSet::new();
    for (index, method) in http.methods.iter().enumerate() {
        if !seen.insert(method) {
            findings.invalid(
                format!("{field}.methods[{index}]"),
                "each method once",
                format!("{} again", quote(method)),
            );
        }
    }
    for (index, path) in http.paths.iter().enumerate() {
        check_path(&format!("{field}.paths[{index}]"), path, findings);
    }
}

fn check_path(field: &str, path: &HttpPath, findings: &mut Findings) {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (name, text) = match (given(&path.exact), given(&path.prefix)) {
        (Some(exact), None) => ("exact", exact),
        (None, Some(prefix)) => ("prefix", prefix),
        (Some(_), Some(_)) => {
            findings.invalid(field, "exact or prefix", "both");
            return;
        }
        (None, None) => {
            findings.invalid(field, "exact or prefix", "neither");
            return;
        }
    };
    if !text.starts_with('/') || text.contains(['?', ' ', '#']) {
        findings.invalid(
            format!("{field}.{name}"),
            "a path that begins with '/' and holds no '?', '#' or space",
            quote(&text),
        );
    }
}
