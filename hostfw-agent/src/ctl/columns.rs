//! What `get` shows of each kind: Calico's columns and some more.

use std::collections::BTreeMap;

use super::table::Table;
use crate::{
    model::Kind,
    resource::{
        FelixConfigurationSpec, GlobalNetworkPolicySpec, HostEndpointSpec,
        HostEndpointTemplateSpec, ProtoPort, Resource, TierSpec,
    },
};

/// A column of a table. Its cell is empty for a resource of another kind.
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
const NETS: Column = column("NETS", |resource| {
    if let Resource::GlobalNetworkSet(set) | Resource::NetworkSet(set) = resource {
        let nets: Vec<&str> = set.spec.nets.iter().map(String::as_str).collect();
        nets.join(",")
    } else {
        String::new()
    }
});

const ADDRESSES: Column = column("ADDRESSES", |resource| {
    if let Resource::WorkloadEndpoint(workload) = resource {
        workload.spec.ip_networks.join(",")
    } else if let Resource::EndpointSlice(slice) = resource {
        let all = slice.spec.endpoints.iter().flat_map(|it| &it.addresses);
        all.map(String::as_str).collect::<Vec<_>>().join(",")
    } else if let Resource::NodeAddresses(told) = resource {
        let all = told.spec.endpoints.iter().flat_map(|it| &it.addresses);
        all.map(String::as_str).collect::<Vec<_>>().join(",")
    } else {
        String::new()
    }
});

const HOST_ENDPOINT: &[Column] = &[
    NAME,
    column("NODE", |resource| {
        endpoint(resource, |spec| spec.node.clone().unwrap_or_default())
    }),
    column("INTERFACE", |resource| {
        endpoint(resource, |spec| spec.interface.clone().unwrap_or_default())
    }),
    column("IPS", |resource| {
        endpoint(resource, |spec| spec.expected_ips.join(","))
    }),
    column("PROFILES", |resource| {
        endpoint(resource, |spec| spec.profiles.join(","))
    }),
];

const HOST_ENDPOINT_TEMPLATE: &[Column] = &[
    NAME,
    column("INTERFACES", |resource| {
        template(resource, |spec| {
            spec.interface_pattern.clone().unwrap_or_default()
        })
    }),
    column("NODES", |resource| {
        template(resource, |spec| {
            let selector = spec.node_selector.clone().filter(|text| !text.is_empty());
            selector.unwrap_or_else(|| "all()".to_owned())
        })
    }),
    column("ORDER", |resource| {
        template(resource, |spec| number(spec.order))
    }),
    column("LABELS", |resource| {
        template(resource, |spec| pairs(&spec.labels))
    }),
    column("PROFILES", |resource| {
        template(resource, |spec| spec.profiles.join(","))
    }),
];

const NODE: &[Column] = &[
    NAME,
    column("LABELS", |resource| pairs(&resource.metadata().labels)),
];

const POLICY: &[Column] = &[
    NAME,
    column("TIER", |resource| {
        policy(resource, |spec| {
            let tier = spec.tier.clone().filter(|tier| !tier.is_empty());
            tier.unwrap_or_else(|| "default".to_owned())
        })
    }),
    column("ORDER", |resource| {
        policy(resource, |spec| number(spec.order))
    }),
    column("SELECTOR", |resource| {
        policy(resource, |spec| spec.selector.clone().unwrap_or_default())
    }),
];

const PROFILE: &[Column] = &[
    NAME,
    column("LABELS", |resource| {
        let Resource::Profile(profile) = resource else {
            return String::new();
        };
        pairs(&profile.spec.labels_to_apply)
    }),
];

const TIER: &[Column] = &[
    NAME,
    column("ORDER", |resource| {
        tier(resource, |spec| number(spec.order))
    }),
    column("DEFAULT-ACTION", |resource| {
        tier(resource, |spec| {
            let action = spec.default_action.clone();
            action.unwrap_or_else(|| "Deny".to_owned())
        })
    }),
];

const FELIX_CONFIGURATION: &[Column] = &[
    NAME,
    column("FAILSAFE-INBOUND", |resource| {
        felix(resource, |spec| {
            ports(spec.failsafe_inbound_host_ports.as_deref())
        })
    }),
    column("FAILSAFE-OUTBOUND", |resource| {
        felix(resource, |spec| {
            ports(spec.failsafe_outbound_host_ports.as_deref())
        })
    }),
];

fn endpoint(resource: &Resource, cell: impl Fn(&HostEndpointSpec) -> String) -> String {
    if let Resource::HostEndpoint(endpoint) = resource {
        cell(&endpoint.spec)
    } else {
        String::new()
    }
}

fn template(resource: &Resource, cell: impl Fn(&HostEndpointTemplateSpec) -> String) -> String {
    if let Resource::HostEndpointTemplate(template) = resource {
        cell(&template.spec)
    } else {
        String::new()
    }
}

fn pairs(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

fn policy(resource: &Resource, cell: impl Fn(&GlobalNetworkPolicySpec) -> String) -> String {
    if let Resource::GlobalNetworkPolicy(policy) = resource {
        cell(&policy.spec)
    } else if let Resource::StagedGlobalNetworkPolicy(policy) = resource {
        cell(&policy.spec.policy())
    } else {
        String::new()
    }
}

fn tier(resource: &Resource, cell: impl Fn(&TierSpec) -> String) -> String {
    if let Resource::Tier(tier) = resource {
        cell(&tier.spec)
    } else {
        String::new()
    }
}

fn felix(resource: &Resource, cell: impl Fn(&FelixConfigurationSpec) -> String) -> String {
    if let Resource::FelixConfiguration(felix) = resource {
        cell(&felix.spec)
    } else {
        String::new()
    }
}

fn number(order: Option<f64>) -> String {
    order.map(|order| order.to_string()).unwrap_or_default()
}

fn ports(ports: Option<&[ProtoPort]>) -> String {
    let Some(ports) = ports else {
        return "(default)".to_owned();
    };
    let texts: Vec<String> = ports
        .iter()
        .map(|port| {
            let net = port.net.as_ref().map(|net| format!("@{net}"));
            let protocol = port.protocol.to_ascii_lowercase();
            format!("{protocol}:{}{}", port.port, net.unwrap_or_default())
        })
        .collect();
    texts.join(",")
}

/// All columns of a kind, and how many of them are in the narrow table.
const fn of(kind: Kind) -> (&'static [Column], usize) {
    match kind {
        Kind::HostEndpoint => (HOST_ENDPOINT, 2),
        Kind::HostEndpointTemplate => (HOST_ENDPOINT_TEMPLATE, 3),
        Kind::Node => (NODE, 2),
        Kind::GlobalNetworkPolicy | Kind::StagedGlobalNetworkPolicy => (POLICY, 2),
        Kind::GlobalNetworkSet => (&[NAME, NETS], 1),
        Kind::NetworkSet => (&[NAMESPACE, NAME, NETS], 2),
        Kind::EndpointSlice | Kind::WorkloadEndpoint => (&[NAMESPACE, NAME, ADDRESSES], 3),
        Kind::NodeAddresses => (&[NAME, ADDRESSES], 2),
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
