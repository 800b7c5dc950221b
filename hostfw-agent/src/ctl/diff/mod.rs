//! `diff`: what a change would do to traffic.

mod mentioned;
mod traffic;

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use clap::{Args, ValueEnum};
use hostfw_common::verdict::Direction;
use serde_json::json;

use self::traffic::{Origin, Traffic};
use super::{
    CtlError, Streams,
    client::{self, Agent, ClientError},
    host::{self, Host},
    input::{Files, Input},
    place::Place,
    table::Table,
};
use crate::{
    accept::{self, Accepted},
    lint::Warning,
    model::{Interface, ObjectRef},
    observe::live::FlowStatus,
    question::{Answer, Path, Question, Why},
    reference::Reference,
    resource::Resource,
    validate,
};

#[derive(Debug, Args)]
pub(super) struct Diff {
    #[command(flatten)]
    files: Files,
    /// The resources are all that there would be: what the store holds and the
    /// files do not counts as deleted.
    #[arg(long)]
    replace_all: bool,
    #[command(flatten)]
    host: Host,
    /// Form of the answer: a table, or one JSON object a line.
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Json,
}

impl Diff {
    pub(super) fn run(
        &self,
        place: &Place,
        agent: impl FnOnce() -> Result<Agent, ClientError>,
        streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    ) -> Result<(), CtlError> {
        let mut input = Input::read(&self.files, &mut streams.input);
        input.validate();
        let input = input.finish()?;
        let stored = accept::accept(&place.read()?, &Accepted::default());
        let mut before: BTreeMap<ObjectRef, Resource> = BTreeMap::new();
        for accepted in &stored.objects {
            let named = &accepted.named;
            match Resource::from_value(&accepted.resource.to_value()) {
                Ok(resource) => drop(before.insert(named.clone(), resource)),
                Err(error) => {
                    writeln!(streams.warnings, "Warning: left out: {named}: {error}")?;
                }
            }
        }
        for problem in &stored.problems {
            writeln!(streams.warnings, "Warning: left out: {}", problem.message)?;
        }
        let mut after = if self.replace_all {
            BTreeMap::new()
        } else {
            before.clone()
        };
        after.extend(
            input
                .into_iter()
                .map(|item| (item.resource.object_ref(), item.resource)),
        );

        let (node, interfaces, flows) = match self.host.given([]) {
            Some((node, interfaces)) => (node, interfaces, Vec::new()),
            None => {
                let agent = agent()?;
                let (node, interfaces) = host::asked(&agent)?;
                (node, interfaces, self.flows(&agent, streams)?)
            }
        };
        let [old, new] = [&before, &after].map(|resources| resources.values().collect::<Vec<_>>());
        let mentioned = [&old[..], &new[..]].concat();
        let judge = |resources: &[&Resource]| {
            let resources: Vec<Resource> = resources.iter().copied().cloned().collect();
            Reference::new(&resources, &node, &interfaces)
        };
        let (old, new) = (judge(&old), judge(&new));
        // Where nothing is governed, nothing changes: a node has hundreds of
        // such interfaces.
        let governed: Vec<Interface> = interfaces
            .iter()
            .filter(|interface| old.governs(&interface.name) || new.governs(&interface.name))
            .cloned()
            .collect();
        let traffic = Traffic::new(&mentioned, &governed, &flows);
        let changes: Vec<Change<'_>> = traffic
            .questions
            .iter()
            .map(|(origin, question)| Change {
                origin: *origin,
                question,
                before: old.judge(question),
                after: new.judge(question),
            })
            .filter(|change| change.before.allowed != change.after.allowed)
            .collect();
        self.write(&traffic, &changes, flows.len(), &mut streams.output)?;
        for sampled in &traffic.sampled {
            writeln!(streams.warnings, "Warning: {sampled}")?;
        }
        for warning in news(&before, &after) {
            writeln!(streams.warnings, "Warning: {warning}")?;
        }
        Ok(())
    }

    /// The flows that the agent knows: none, with a warning, if it cannot say.
    fn flows(
        &self,
        agent: &Agent,
        streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    ) -> Result<Vec<FlowStatus>, CtlError> {
        match client::flows(agent) {
            Ok(flows) => {
                if flows.left_out > 0 {
                    writeln!(
                        streams.warnings,
                        "Warning: {} of the node's flows are not tried: there are too many",
                        flows.left_out
                    )?;
                }
                Ok(flows.flows)
            }
            Err(error @ ClientError::Answer { .. }) => {
                writeln!(streams.warnings, "Warning: flows are not tried: {error}")?;
                Ok(Vec::new())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn write(
        &self,
        traffic: &Traffic,
        changes: &[Change<'_>],
        flows: usize,
        output: &mut impl Write,
    ) -> io::Result<()> {
        if self.output == Form::Json {
            for change in changes {
                writeln!(output, "{}", change.to_json())?;
            }
            return Ok(());
        }
        writeln!(
            output,
            "{} of {} packets that were tried change their verdict ({flows} known flows among \
             what was tried; established ones go on until they end)",
            changes.len(),
            traffic.questions.len(),
        )?;
        if changes.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(&[
            "FROM",
            "INTERFACE",
            "WAY",
            "PROTOCOL",
            "SOURCE",
            "DESTINATION",
            "BEFORE",
            "AFTER",
        ]);
        for change in changes {
            table.row(change.cells());
        }
        table.write(output)
    }
}

/// What is wrong after the change and was not before.
fn news(
    before: &BTreeMap<ObjectRef, Resource>,
    after: &BTreeMap<ObjectRef, Resource>,
) -> Vec<Warning> {
    let warnings = |resources: &BTreeMap<ObjectRef, Resource>| {
        let objects = resources
            .values()
            .filter_map(|r| validate::validate(r).ok());
        crate::lint::lint(&validate::assemble(objects))
    };
    let old = warnings(before);
    let mut new = warnings(after);
    new.retain(|warning| !old.contains(warning));
    new
}

/// A packet whose verdict changes.
struct Change<'a> {
    origin: Origin,
    question: &'a Question,
    before: Answer,
    after: Answer,
}

impl Change<'_> {
    fn cells(&self) -> Vec<String> {
        let Question {
            interface,
            direction,
            path,
            protocol,
            ..
        } = self.question;
        let side = |address, port| match (address, port) {
            (address, 0) => format!("{address}"),
            (address, port) => std::net::SocketAddr::new(address, port).to_string(),
        };
        let wire = side(self.question.destination, self.question.destination_port);
        vec![
            from(self.origin).to_owned(),
            interface.clone(),
            format!("{} {}", way(*direction), path_name(*path)),
            protocol_name(*protocol),
            side(self.question.source, self.question.source_port),
            match self.question.translated {
                Some((address, port)) => format!("{wire}->{}", side(address, port)),
                None => wire,
            },
            decided(&self.before, *direction),
            decided(&self.after, *direction),
        ]
    }

    fn to_json(&self) -> serde_json::Value {
        let answer = |answer: &Answer| {
            json!({
                "verdict": if answer.allowed { "allow" } else { "deny" },
                "stage": answer.stage.map(|stage| stage.name()),
                "tier": answer.tier,
                "policy": answer.policy,
                "rule": answer.rule,
                "reason": answer.reason,
            })
        };
        json!({
            "from": from(self.origin),
            "interface": self.question.interface,
            "direction": way(self.question.direction),
            "path": path_name(self.question.path),
            "protocol": self.question.protocol,
            "source": self.question.source,
            "sourcePort": self.question.source_port,
            "destination": self.question.destination,
            "destinationPort": self.question.destination_port,
            "translatedDestination": self.question.translated.map(|(address, _)| address),
            "translatedDestinationPort": self.question.translated.map(|(_, port)| port),
            "before": answer(&self.before),
            "after": answer(&self.after),
        })
    }
}

const fn from(origin: Origin) -> &'static str {
    match origin {
        Origin::Flow => "flow",
        Origin::Resources => "resources",
    }
}

const fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "in",
        Direction::Egress => "out",
    }
}

const fn path_name(path: Path) -> &'static str {
    match path {
        Path::Local => "local",
        Path::Forward => "forward",
    }
}

fn protocol_name(number: u8) -> String {
    match number {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        58 => "ICMPv6".to_owned(),
        132 => "SCTP".to_owned(),
        other => other.to_string(),
    }
}

/// `deny: preDNAT default/drop-others ingress[0]`.
fn decided(answer: &Answer, direction: Direction) -> String {
    let verdict = if answer.allowed { "allow" } else { "deny" };
    let list = match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let stage = answer.stage.map_or("", |stage| stage.name());
    let why = match (answer.reason, &answer.tier, &answer.policy, answer.rule) {
        (Why::Rule, Some(tier), Some(policy), Some(rule)) => {
            format!("{stage} {tier}/{policy} {list}[{rule}]")
        }
        (Why::Profile, _, Some(profile), rule) => match rule {
            Some(rule) => format!("{stage} profile {profile} {list}[{rule}]"),
            None => format!("{stage} missing profile {profile}"),
        },
        (Why::TierDefault, Some(tier), ..) => format!("{stage} default of tier {tier}"),
        (why, ..) => serde_json::to_value(why)
            .ok()
            .and_then(|why| why.as_str().map(str::to_owned))
            .unwrap_or_default(),
    };
    format!("{verdict}: {why}")
}
