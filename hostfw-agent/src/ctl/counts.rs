//! What the rules of policies have counted: `get --counters`.

use std::{collections::BTreeMap, io::Write};

use super::{CtlError, table::Table};
use crate::{
    model::Kind,
    observe::rules::{RuleCount, RuleCounts},
    source::yaml,
};

/// How counts are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A table, all endpoints together.
    Sums,
    /// A table with each endpoint by itself.
    ByEndpoint,
    /// A document, likewise.
    Yaml,
    /// A document, likewise.
    Json,
}

/// Whether what is of the kind has rules, or decides like one.
pub(super) const fn has_rules(kind: Kind) -> bool {
    match kind {
        Kind::GlobalNetworkPolicy
        | Kind::StagedGlobalNetworkPolicy
        | Kind::Profile
        | Kind::Tier => true,
        Kind::EndpointSlice
        | Kind::FelixConfiguration
        | Kind::GlobalNetworkSet
        | Kind::HostEndpoint
        | Kind::HostEndpointTemplate
        | Kind::NetworkSet
        | Kind::Node
        | Kind::NodeAddresses
        | Kind::WorkloadEndpoint => false,
    }
}

/// Shows what rules have counted.
pub(super) fn write(
    counts: &RuleCounts,
    form: Form,
    output: &mut impl Write,
) -> Result<(), CtlError> {
    match form {
        Form::Sums => sums(&counts.rules).write(output)?,
        Form::ByEndpoint => by_endpoint(&counts.rules).write(output)?,
        Form::Yaml => write!(output, "{}", yaml::to_yaml(&serde_json::to_value(counts)?)?)?,
        Form::Json => {
            serde_json::to_writer_pretty(&mut *output, counts)?;
            writeln!(output)?;
        }
    }
    Ok(())
}

fn by_endpoint(rules: &[RuleCount]) -> Table {
    let mut table = Table::new(&[
        "NAME",
        "ENDPOINT",
        "STAGE",
        "DIRECTION",
        "RULE",
        "ACTION",
        "PACKETS",
        "BYTES",
    ]);
    for rule in rules {
        table.row(vec![
            rule.name.clone(),
            rule.endpoint.clone(),
            rule.stage.clone(),
            rule.direction.clone(),
            rule.rule.clone().unwrap_or_default(),
            rule.action.clone(),
            rule.packets.to_string(),
            rule.bytes.to_string(),
        ]);
    }
    table
}

fn sums(rules: &[RuleCount]) -> Table {
    let mut sums: BTreeMap<_, (&RuleCount, u64, u64)> = BTreeMap::new();
    for rule in rules {
        let (_, packets, bytes) = sums.entry(place(rule)).or_insert((rule, 0, 0));
        *packets += rule.packets;
        *bytes += rule.bytes;
    }
    let mut table = Table::new(&[
        "NAME",
        "STAGE",
        "DIRECTION",
        "RULE",
        "ACTION",
        "PACKETS",
        "BYTES",
    ]);
    for (rule, packets, bytes) in sums.into_values() {
        table.row(vec![
            rule.name.clone(),
            rule.stage.clone(),
            rule.direction.clone(),
            rule.rule.clone().unwrap_or_default(),
            rule.action.clone(),
            packets.to_string(),
            bytes.to_string(),
        ]);
    }
    table
}

/// Sorts counts: by policy, stage, direction and rule.
pub(super) fn sort(rules: &mut [RuleCount]) {
    rules.sort_by(|one, other| (place(one), &one.endpoint).cmp(&(place(other), &other.endpoint)));
}

/// What stands for a rule at a stage, in the order of the rules.
fn place(rule: &RuleCount) -> (&str, &str, std::cmp::Reverse<&str>, usize, &str) {
    let path = rule.rule.as_deref().unwrap_or_default();
    let index = path
        .split_once('[')
        .and_then(|(_, rest)| rest.strip_suffix(']'));
    (
        &rule.name,
        &rule.stage,
        // Ingress first.
        std::cmp::Reverse(&rule.direction),
        index
            .and_then(|index| index.parse().ok())
            .unwrap_or_default(),
        &rule.action,
    )
}
