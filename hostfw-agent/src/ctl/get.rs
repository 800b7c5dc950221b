use std::{
    io::{self, Write},
    str::FromStr,
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    CtlError, Streams,
    client::{self, Agent, ClientError},
    columns, counts,
    kind::{self, KindError},
    place::Place,
};
use crate::{
    model::Kind,
    resource::Resource,
    source::{
        contents::Contents,
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
    /// Kind of the resources: hep, gnp, sgnp, gnetset, netset, tier, profile or
    /// felixconfig.
    kind: String,
    /// Their names; all, if none is given.
    name: Vec<String>,
    /// Form of the answer: ps (a table), wide (with more columns), yaml, json,
    /// or custom-columns=HEADING,... with headings of the wide table.
    #[arg(short, long, value_name = "FORM", default_value = "ps")]
    output: Form,
    /// Namespace of the resources, for a kind that lives in one.
    #[arg(short, long, conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// Resources of every namespace.
    #[arg(short, long)]
    all_namespaces: bool,
    /// Leave out what the store itself keeps in the metadata, so that the
    /// answer can be applied elsewhere.
    #[arg(long)]
    export: bool,
    /// Show how many packets and bytes the rules of policies, staged policies or
    /// profiles have met on this node, and the defaults of tiers, since the agent was
    /// started or the rule came into force. Packets of established flows meet no
    /// rule. -o wide, json and yaml tell each endpoint by itself.
    #[arg(long, conflicts_with = "export")]
    counters: bool,
}

#[derive(Clone, Debug)]
enum Form {
    /// A table.
    Ps,
    /// A table with more columns.
    Wide,
    /// A table with these columns.
    Custom(Vec<String>),
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected ps, wide, yaml, json or custom-columns=HEADING,...";
        Ok(match text {
            "ps" => Self::Ps,
            "wide" => Self::Wide,
            "yaml" => Self::Yaml,
            "json" => Self::Json,
            other => match other.strip_prefix("custom-columns=") {
                Some(headings) if !headings.is_empty() => {
                    Self::Custom(headings.split(',').map(str::to_owned).collect())
                }
                Some(_) | None => return Err(format!("{EXPECTED}, found {other:?}")),
            },
        })
    }
}

impl Get {
    pub(super) fn run(
        &self,
        place: &Place,
        agent: impl FnOnce() -> Result<Agent, ClientError>,
        streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    ) -> Result<(), CtlError> {
        let kind = kind::parse(&self.kind)?;
        if self.counters && !counts::has_rules(kind) {
            return Err(KindError::NoRules(kind).into());
        }
        let contents = Contents::parse(&place.read_kind(kind)?);
        let broken: Vec<String> = contents
            .files()
            .flat_map(|(file, contents)| contents.errors.iter().map(move |error| (file, error)))
            .map(|(file, error)| format!("{}: {error}", place.name(file)))
            .collect();

        let all = self.stored(&contents, kind)?;
        let (shown, mut missing) = self.pick(kind, &all)?;
        warn(&ambiguous(&contents, &shown), streams)?;
        if self.counters {
            self.count(kind, &mut missing, &agent()?, streams)?;
        } else {
            self.write(kind, &shown, &mut streams.output)?;
        }
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

    /// Shows what rules have counted. What has is not missing, stored or not: there
    /// are tiers that are always there.
    fn count(
        &self,
        kind: Kind,
        missing: &mut Vec<StoreError>,
        agent: &Agent,
        streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    ) -> Result<(), CtlError> {
        let form = match &self.output {
            Form::Ps => counts::Form::Sums,
            Form::Wide => counts::Form::ByEndpoint,
            Form::Yaml => counts::Form::Yaml,
            Form::Json => counts::Form::Json,
            Form::Custom(_) => return Err(KindError::CustomCounters.into()),
        };
        let mut counted = client::rules(agent)?;
        counted.rules.retain(|rule| {
            rule.kind == kind.name() && (self.name.is_empty() || self.name.contains(&rule.name))
        });
        counts::sort(&mut counted.rules);
        let is_counted = |name: &str| counted.rules.iter().any(|rule| rule.name == name);
        missing.retain(
            |error| !matches!(error, StoreError::NotFound(object) if is_counted(&object.name)),
        );
        if !missing.is_empty() && counted.rules.is_empty() {
            return Ok(());
        }
        counts::write(&counted, form, &mut streams.output)?;
        if counted.not_counted > 0 {
            let rules = counted.not_counted;
            writeln!(
                streams.warnings,
                "Warning: {rules} rules are not counted: there are no more counters"
            )?;
        }
        Ok(())
    }

    /// All objects of the kind in the namespaces that were asked for, sorted by
    /// name. One that stands in two files is there twice.
    fn stored<'a>(
        &self,
        contents: &'a Contents,
        kind: Kind,
    ) -> Result<Vec<&'a Resource>, KindError> {
        let namespace = match (kind.is_namespaced(), &self.namespace) {
            (false, Some(_)) => return Err(KindError::Global(kind)),
            (true, None) if !self.all_namespaces => Some(kind::DEFAULT_NAMESPACE),
            (_, namespace) => namespace.as_deref(),
        };
        let mut all: Vec<&Resource> = contents
            .files()
            .flat_map(|(_, file)| &file.objects)
            .map(|object| &object.resource)
            .filter(|resource| resource.kind() == kind)
            .filter(|resource| {
                namespace.is_none() || resource.metadata().namespace.as_deref() == namespace
            })
            .collect();
        all.sort_by_key(|resource| resource.object_ref());
        Ok(all)
    }

    fn pick<'a>(
        &self,
        kind: Kind,
        all: &[&'a Resource],
    ) -> Result<(Vec<&'a Resource>, Vec<StoreError>), KindError> {
        if self.name.is_empty() {
            return Ok((all.to_vec(), Vec::new()));
        }
        let mut shown = Vec::new();
        let mut missing = Vec::new();
        for name in &self.name {
            let object = kind::object(kind, self.namespace.as_deref(), name)?;
            let before = shown.len();
            shown.extend(all.iter().filter(|resource| {
                if self.all_namespaces {
                    resource.metadata().name == *name
                } else {
                    resource.object_ref() == object
                }
            }));
            if let Err(error) = store::file_name(&object) {
                missing.push(error);
            } else if shown.len() == before {
                missing.push(StoreError::NotFound(object));
            }
        }
        Ok((shown, missing))
    }

    fn write(
        &self,
        kind: Kind,
        shown: &[&Resource],
        output: &mut impl Write,
    ) -> Result<(), CtlError> {
        let named = self.name.len() == 1;
        match &self.output {
            // A table without rows says nothing that the error does not say.
            Form::Ps | Form::Wide | Form::Custom(_)
                if shown.is_empty() && !self.name.is_empty() => {}
            Form::Ps => columns::table(shown, columns::narrow(kind)).write(output)?,
            Form::Wide => columns::table(shown, columns::all(kind)).write(output)?,
            Form::Custom(headings) => {
                columns::table(shown, columns::named(kind, headings)?).write(output)?;
            }
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
                "apiVersion": kind.api_version(),
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

/// Objects that are shown twice, because they stand in two files.
fn ambiguous(contents: &Contents, shown: &[&Resource]) -> Vec<String> {
    let mut messages: Vec<String> = shown
        .windows(2)
        .filter(|pair| pair[0].object_ref() == pair[1].object_ref())
        .map(|pair| {
            let object = pair[0].object_ref();
            let files = contents.files_of(&object).join(" and ");
            format!("{object}: expected the object in one place, found it in {files}")
        })
        .collect();
    messages.dedup();
    messages
}
