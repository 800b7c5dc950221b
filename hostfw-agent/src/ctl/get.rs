use std::{
    io::{self, Write},
    path::Path,
};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{CtlError, Streams, kind, table::Table};
use crate::{
    model::{Kind, ObjectRef},
    resource::{API_VERSION, GlobalNetworkPolicySpec, Resource},
    source::{
        contents::Contents,
        read_folder,
        store::{self, StoreError},
        yaml,
    },
};

/// What the store keeps about an object, and its user did not write.
const KEPT_BY_STORE: [&str; 5] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
];

#[derive(Debug, Args)]
pub(super) struct Get {
    /// Kind of the resources: hep, gnp or felixconfig.
    kind: String,
    /// Their names; all, if none is given.
    name: Vec<String>,
    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t = Form::Ps)]
    output: Form,
    /// Leave out what the store itself keeps in the metadata, so that the
    /// answer can be applied elsewhere.
    #[arg(long)]
    export: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// A table.
    Ps,
    /// A table with more columns.
    Wide,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

impl Get {
    pub(super) fn run(
        &self,
        store: &Path,
        streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    ) -> Result<(), CtlError> {
        let kind = kind::parse(&self.kind)?;
        let contents = Contents::parse(&read_folder(store)?);
        let broken: Vec<String> = contents
            .files()
            .flat_map(|(file, contents)| contents.errors.iter().map(move |error| (file, error)))
            .map(|(file, error)| format!("{}: {error}", store.join(file).display()))
            .collect();

        let all = stored(&contents, kind);
        let (shown, missing) = self.pick(kind, &all);
        warn(&ambiguous(&contents, &shown), streams)?;
        self.write(kind, &shown, &mut streams.output)?;
        if !missing.is_empty() {
            warn(&broken, streams)?;
            return Err(CtlError::Objects(missing));
        }
        if self.name.is_empty() && !broken.is_empty() {
            // "All" would otherwise be a lie.
            return Err(CtlError::Files(broken));
        }
        warn(&broken, streams)
    }

    fn pick<'a>(&self, kind: Kind, all: &[&'a Resource]) -> (Vec<&'a Resource>, Vec<StoreError>) {
        if self.name.is_empty() {
            return (all.to_vec(), Vec::new());
        }
        let mut shown = Vec::new();
        let mut missing = Vec::new();
        for name in &self.name {
            let object = ObjectRef {
                kind,
                name: name.clone(),
            };
            let before = shown.len();
            shown.extend(
                all.iter()
                    .filter(|resource| resource.metadata().name == *name),
            );
            if let Err(error) = store::file_name(&object) {
                missing.push(error);
            } else if shown.len() == before {
                missing.push(StoreError::NotFound(object));
            }
        }
        (shown, missing)
    }

    fn write(
        &self,
        kind: Kind,
        shown: &[&Resource],
        output: &mut impl Write,
    ) -> Result<(), CtlError> {
        let named = self.name.len() == 1;
        match self.output {
            // A table without rows says nothing that the error does not say.
            Form::Ps | Form::Wide if shown.is_empty() && !self.name.is_empty() => {}
            Form::Ps => table(kind, shown, false).write(output)?,
            Form::Wide => table(kind, shown, true).write(output)?,
            Form::Yaml | Form::Json if shown.is_empty() && named => {}
            Form::Yaml => write!(output, "{}", yaml::to_yaml(&self.value(kind, shown))?)?,
            Form::Json => {
                serde_json::to_writer_pretty(&mut *output, &self.value(kind, shown))?;
                writeln!(output)?;
            }
        }
        Ok(())
    }

    fn value(&self, kind: Kind, shown: &[&Resource]) -> Value {
        let mut items: Vec<Value> = shown
            .iter()
            .map(|resource| {
                let mut value = resource.to_value();
                yaml::shorten_numbers(&mut value);
                if self.export
                    && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
                {
                    metadata.retain(|key, _| !KEPT_BY_STORE.contains(&key.as_str()));
                }
                value
            })
            .collect();
        if self.name.len() == 1 && items.len() == 1 {
            items.remove(0)
        } else {
            json!({
                "apiVersion": API_VERSION,
                "kind": format!("{kind}List"),
                "items": items,
            })
        }
    }
}

fn warn(
    broken: &[String],
    streams: &mut Streams<impl io::Read, impl Write, impl Write>,
) -> Result<(), CtlError> {
    for message in broken {
        writeln!(streams.warnings, "Warning: {message}")?;
    }
    Ok(())
}

/// All objects of the kind, sorted by name. One that stands in two files is
/// there twice.
fn stored(contents: &Contents, kind: Kind) -> Vec<&Resource> {
    let mut all: Vec<&Resource> = contents
        .files()
        .flat_map(|(_, file)| &file.objects)
        .map(|object| &object.resource)
        .filter(|resource| resource.kind() == kind)
        .collect();
    all.sort_by(|a, b| a.metadata().name.cmp(&b.metadata().name));
    all
}

/// Objects that are shown twice, because they stand in two files.
fn ambiguous(contents: &Contents, shown: &[&Resource]) -> Vec<String> {
    let mut messages: Vec<String> = shown
        .windows(2)
        .filter(|pair| pair[0].metadata().name == pair[1].metadata().name)
        .map(|pair| {
            let object = pair[0].object_ref();
            let files = contents.files_of(&object).join(" and ");
            format!("{object}: expected the object in one place, found it in {files}")
        })
        .collect();
    messages.dedup();
    messages
}

fn table(kind: Kind, shown: &[&Resource], wide: bool) -> Table {
    let (narrow, more): (&[&str], &[&str]) = match kind {
        Kind::HostEndpoint => (&["NAME", "NODE"], &["INTERFACE", "IPS", "PROFILES"]),
        Kind::GlobalNetworkPolicy | Kind::StagedGlobalNetworkPolicy => {
            (&["NAME", "TIER"], &["ORDER", "SELECTOR"])
        }
        Kind::GlobalNetworkSet => (&["NAME"], &["NETS"]),
        Kind::NetworkSet => (&["NAMESPACE", "NAME"], &["NETS"]),
        Kind::Profile => (&["NAME"], &["LABELS"]),
        Kind::Tier => (&["NAME", "ORDER"], &[]),
        Kind::FelixConfiguration => (&["NAME"], &["FAILSAFE-INBOUND", "FAILSAFE-OUTBOUND"]),
    };
    let headings = if wide {
        [narrow, more].concat()
    } else {
        narrow.to_vec()
    };
    let mut table = Table::new(&headings);
    for resource in shown {
        let mut cells = cells(resource);
        cells.truncate(headings.len());
        table.row(cells);
    }
    table
}

fn policy_cells(name: String, spec: &GlobalNetworkPolicySpec) -> Vec<String> {
    vec![
        name,
        spec.tier.clone().unwrap_or_else(|| "default".to_owned()),
        spec.order
            .map(|order| order.to_string())
            .unwrap_or_default(),
        spec.selector.clone().unwrap_or_default(),
    ]
}

/// The cells of a wide row; a narrow one has the first of them.
fn cells(resource: &Resource) -> Vec<String> {
    let name = resource.metadata().name.clone();
    match resource {
        Resource::HostEndpoint(endpoint) => {
            let spec = &endpoint.spec;
            vec![
                name,
                spec.node.clone().unwrap_or_default(),
                spec.interface.clone().unwrap_or_default(),
                spec.expected_ips.join(","),
                spec.profiles.join(","),
            ]
        }
        Resource::GlobalNetworkPolicy(policy) => policy_cells(name, &policy.spec),
        Resource::StagedGlobalNetworkPolicy(policy) => policy_cells(name, &policy.spec.policy()),
        Resource::GlobalNetworkSet(set) => vec![name, set.spec.nets.join(",")],
        Resource::NetworkSet(set) => vec![
            set.metadata.namespace.clone().unwrap_or_default(),
            name,
            set.spec.nets.join(","),
        ],
        Resource::Profile(profile) => vec![
            name,
            profile
                .spec
                .labels_to_apply
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect::<Vec<_>>()
                .join(","),
        ],
        Resource::Tier(tier) => vec![
            name,
            tier.spec
                .order
                .map(|order| order.to_string())
                .unwrap_or_default(),
        ],
        Resource::FelixConfiguration(configuration) => {
            let spec = &configuration.spec;
            let list = |ports: &Option<Vec<crate::resource::ProtoPort>>| match ports {
                None => "(default)".to_owned(),
                Some(ports) => ports
                    .iter()
                    .map(|port| {
                        let net = port.net.as_ref().map(|net| format!("@{net}"));
                        let protocol = port.protocol.to_ascii_lowercase();
                        format!("{protocol}:{}{}", port.port, net.unwrap_or_default())
                    })
                    .collect::<Vec<_>>()
                    .join(","),
            };
            vec![
                name,
                list(&spec.failsafe_inbound_host_ports),
                list(&spec.failsafe_outbound_host_ports),
            ]
        }
    }
}
