//! What `get` shows of each kind: Calico's columns and some more.

use super::table::Table;
use crate::{
    model::Kind,
    resource::{GlobalNetworkPolicySpec, ProtoPort, Resource},
};

/// A column of a table, or an empty cell where a kind has nothing to show.
#[derive(Clone, Copy)]
pub(super) struct Column {
    heading: &'static str,
    cell: fn(&Resource) -> String,
}

/// A heading that a kind does not have.
#[derive(Debug, thiserror::Error)]
#[error("--output custom-columns: expected headings of {kind} ({known}), found {found:?}")]
pub struct ColumnError {
    kind: Kind,
    known: String,
    found: String,
}

const fn column(heading: &'static str, cell: fn(&Resource) -> String) -> Column {
    Column { heading, cell }
}

const NAME: Column = column("NAME", |resource| resource.metadata().name.clone());
const NAMESPACE: Column = column("NAMESPACE", |resource| {
    resource.metadata().namespace.clone().unwrap_or_default()
});
const NETS: Column = column("NETS", |resource| match resource {
    Resource::GlobalNetworkSet(set) | Resource::NetworkSet(set) => set.spec.nets.join(","),
    _ => String::new(),
});

const HOST_ENDPOINT: &[Column] = &[
    NAME,
    column("NODE", |resource| match resource {
        Resource::HostEndpoint(endpoint) => endpoint.spec.node.clone().unwrap_or_default(),
        _ => String::new(),
    }),
    column("INTERFACE", |resource| match resource {
        Resource::HostEndpoint(endpoint) => endpoint.spec.interface.clone().unwrap_or_default(),
        _ => String::new(),
    }),
    column("IPS", |resource| match resource {
        Resource::HostEndpoint(endpoint) => endpoint.spec.expected_ips.join(","),
        _ => String::new(),
    }),
    column("PROFILES", |resource| match resource {
        Resource::HostEndpoint(endpoint) => endpoint.spec.profiles.join(","),
        _ => String::new(),
    }),
];

const POLICY: &[Column] = &[
    NAME,
    column("TIER", |resource| {
        policy(resource, |spec| {
            spec.tier
                .clone()
                .filter(|tier| !tier.is_empty())
                .unwrap_or_else(|| "default".to_owned())
        })
    }),
    column("ORDER", |resource| {
        policy(resource, |spec| {
            spec.order
                .map(|order| order.to_string())
                .unwrap_or_default()
        })
    }),
    column("SELECTOR", |resource| {
        policy(resource, |spec| spec.selector.clone().unwrap_or_default())
    }),
];

const PROFILE: &[Column] = &[
    NAME,
    column("LABELS", |resource| match resource {
        Resource::Profile(profile) => profile
            .spec
            .labels_to_apply
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(","),
        _ => String::new(),
    }),
];

const TIER: &[Column] = &[
    NAME,
    column("ORDER", |resource| match resource {
        Resource::Tier(tier) => tier
            .spec
            .order
            .map(|order| order.to_string())
            .unwrap_or_default(),
        _ => String::new(),
    }),
    column("DEFAULT-ACTION", |resource| match resource {
        Resource::Tier(tier) => tier
            .spec
            .default_action
            .clone()
            .unwrap_or_else(|| "Deny".to_owned()),
        _ => String::new(),
    }),
];

const FELIX_CONFIGURATION: &[Column] = &[
    NAME,
    column("FAILSAFE-INBOUND", |resource| match resource {
        Resource::FelixConfiguration(felix) => ports(&felix.spec.failsafe_inbound_host_ports),
        _ => String::new(),
    }),
    column("FAILSAFE-OUTBOUND", |resource| match resource {
        Resource::FelixConfiguration(felix) => ports(&felix.spec.failsafe_outbound_host_ports),
        _ => String::new(),
    }),
];

fn policy(resource: &Resource, cell: impl Fn(&GlobalNetworkPolicySpec) -> String) -> String {
    match resource {
        Resource::GlobalNetworkPolicy(policy) => cell(&policy.spec),
        Resource::StagedGlobalNetworkPolicy(policy) => cell(&policy.spec.policy()),
        _ => String::new(),
    }
}

fn ports(ports: &Option<Vec<ProtoPort>>) -> String {
    let Some(ports) = ports else {
        return "(default)".to_owned();
    };
    ports
        .iter()
        .map(|port| {
            let net = port.net.as_ref().map(|net| format!("@{net}"));
            let protocol = port.protocol.to_ascii_lowercase();
            format!("{protocol}:{}{}", port.port, net.unwrap_or_default())
        })
        .collect::<Vec<_>>()
        .join(",")
}

/// All columns of a kind, and how many of them are in the narrow table.
const fn of(kind: Kind) -> (&'static [Column], usize) {
    match kind {
        Kind::HostEndpoint => (HOST_ENDPOINT, 2),
        Kind::GlobalNetworkPolicy | Kind::StagedGlobalNetworkPolicy => (POLICY, 2),
        Kind::GlobalNetworkSet => (&[NAME, NETS], 1),
        Kind::NetworkSet => (&[NAMESPACE, NAME, NETS], 2),
        Kind::Profile => (PROFILE, 1),
        Kind::Tier => (TIER, 2),
        Kind::FelixConfiguration => (FELIX_CONFIGURATION, 1),
    }
}

/// The columns of the wide table.
pub(super) fn all(kind: Kind) -> Vec<Column> {
    of(kind).0.to_vec()
}

/// The columns of the plain table.
pub(super) fn narrow(kind: Kind) -> Vec<Column> {
    let (all, narrow) = of(kind);
    all[..narrow].to_vec()
}

/// The columns with these headings, in this order, in any case.
pub(super) fn named(kind: Kind, headings: &[String]) -> Result<Vec<Column>, ColumnError> {
    let (all, _) = of(kind);
    headings
        .iter()
        .map(|wanted| {
            let column = all
                .iter()
                .find(|column| column.heading.eq_ignore_ascii_case(wanted));
            column.copied().ok_or_else(|| ColumnError {
                kind,
                known: all
                    .iter()
                    .map(|column| column.heading)
                    .collect::<Vec<_>>()
                    .join(", "),
                found: wanted.clone(),
            })
        })
        .collect()
}

/// A row for each of the objects.
pub(super) fn table(shown: &[&Resource], columns: Vec<Column>) -> Table {
    let headings: Vec<&str> = columns.iter().map(|column| column.heading).collect();
    let mut table = Table::new(&headings);
    for resource in shown {
        table.row(
            columns
                .iter()
                .map(|column| (column.cell)(resource))
                .collect(),
        );
    }
    table
}
