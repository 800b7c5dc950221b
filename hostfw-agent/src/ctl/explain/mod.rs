//! `hostfwctl explain`: what becomes of a packet, and what decides it.

mod judges;
mod lines;
mod packet;
mod show;

use std::{
    collections::HashMap,
    fmt, fs,
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use hostfw_common::verdict::Direction;

pub(super) use self::packet::protocol_name;
use self::{
    judges::{Bench, Choice, Opinion},
    packet::{Flags, Key},
    show::{Line, Shown},
};
use super::{
    CtlError, Streams,
    client::{self, Agent, ClientError},
    host::Host,
    input::{Files, Input, InputError},
    join,
};
use crate::{
    judge::{Judge, JudgeError, KernelError},
    lint,
    model::Interface,
    observe::live::{FlowStatus, FlowTuple, tuple_of},
    question::{Answer, Question, Why},
    reference::Reference,
    resource::{Resource, Rule},
    validate,
};

/// Most that --packets takes in, in bytes: some million packets.
const MAX_PACKETS: u64 = 1 << 30;

/// Exit codes, and what `-o json` holds.
const AFTER_HELP: &str = "\
The answer names what decided, as `reason`:
  rule                 a rule of a policy
  profile              a rule of a profile, or a profile that does not exist
  failsafe             a fail-safe port, at the normal stage
  tier-default         no rule of a tier whose default is to deny
  endpoint-default     nothing: the normal stage denies what nothing allows
  no-match             nothing, and no stage on the way denies what nothing allows
  established          the packet belongs to a flow that was allowed
  invalid              connection tracking finds the packet impossible
  tunnel               a tunnel between nodes
  neighbour-discovery  a neighbour discovery or multicast listener message
  no-endpoint          no HostEndpoint governs the interface
  workload             between a workload and its own host

Exit code: 0 if all packets were judged, 2 on bad input, 3 if judges disagree,
1 on any other error.

  hostfwctl explain --interface eth0 --in --path local --protocol TCP \\
      --source 192.0.2.1:40000 --destination 10.0.0.1:22
  hostfwctl explain --resources policies/ --node node1 --address eth0=10.0.0.1/24 \\
      --packets packets.jsonl -o json";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Explain {
    #[command(flatten)]
    packet: Flags,
    /// Packets, one JSON object a line, instead of one by flags; `-` is
    /// standard input.
    #[arg(long, value_name = "FILE")]
    packets: Option<PathBuf>,
    /// Files and folders with resources, instead of what the agent of this
    /// node enforces. Neither agent nor root is needed.
    #[arg(long, value_name = "PATH", num_args = 1.., requires = "node")]
    resources: Vec<PathBuf>,
    #[command(flatten)]
    host: Host,
    /// Who answers.
    #[arg(long, value_name = "JUDGE", default_value = "reference")]
    judge: Choice,
    /// How the answer looks.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
    /// Tell every rule that was passed over, and the criterion that did not
    /// match.
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A few lines for each packet.
    Text,
    /// One JSON object a line for each packet.
    Json,
}

/// Why packets could not be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The resources are not valid.
    #[error("{}", join(.0))]
    Resources(Vec<InputError>),
    /// There is none.
    #[error("--resources: expected resources, found none")]
    NoResources,
    /// The packets are not such.
    #[error("{}", join(.0))]
    Packets(Vec<PacketError>),
    /// The packets cannot be read.
    #[error("--packets {file}: {error}")]
    File {
        /// The file.
        file: String,
        /// Why not.
        error: io::Error,
    },
    /// Flags that do not go together.
    #[error("{flag}: expected {expected}, found {found}")]
    Flags {
        /// The flag.
        flag: &'static str,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// Standard input cannot be two things.
    #[error("-: expected standard input to be named once, found it for --resources and --packets")]
    StdinTwice,
    /// The resources are more than the dataplane holds.
    #[error(transparent)]
    Judges(#[from] JudgeError),
    /// The programs cannot be loaded or run.
    #[error("the kernel judge, which needs root: {0}")]
    Kernel(#[from] KernelError),
    /// What the agent sends is not what this version knows.
    #[error("expected resources from the agent, found: {0}")]
    Agent(String),
    /// The judges do not agree.
    #[error("{} packets were judged differently:\n{}", .0.len(), join(.0))]
    Disagree(Vec<Disagreement>),
}

impl ExplainError {
    /// What a script is told: 2 for bad input, 3 for judges that disagree.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Resources(_)
            | Self::NoResources
            | Self::Packets(_)
            | Self::File { .. }
            | Self::Flags { .. }
            | Self::StdinTwice
            | Self::Judges(_) => 2,
            Self::Disagree(_) => 3,
            Self::Kernel(_) | Self::Agent(_) => 1,
        }
    }
}

/// Something wrong with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketError {
    /// Where it stands; `None` if it is given by flags.
    place: Option<(String, usize)>,
    /// What is wrong; `None` for the line as a whole.
    key: Option<Key>,
    expected: String,
    found: String,
}

impl PacketError {
    fn new(key: Key, expected: &str, found: String) -> Self {
        Self {
            place: None,
            key: Some(key),
            expected: expected.to_owned(),
            found,
        }
    }

    fn of_line(expected: &str, found: String) -> Self {
        Self {
            place: None,
            key: None,
            expected: expected.to_owned(),
            found,
        }
    }

    fn in_line(self, file: &str, line: usize) -> Self {
        Self {
            place: Some((file.to_owned(), line)),
            ..self
        }
    }
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.key) {
            (Some((file, line)), Some(key)) => write!(f, "{file}: line {line}: {}: ", key.name()),
            (Some((file, line)), None) => write!(f, "{file}: line {line}: "),
            (None, Some(key)) => write!(f, "{}: ", key.flag()),
            (None, None) => Ok(()),
        }?;
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

impl std::error::Error for PacketError {}

/// A packet that the judges do not agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// Number of the packet, from 1.
    packet: usize,
    /// What each says, as JSON.
    opinions: Vec<(Judge, String)>,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packet {}:", self.packet)?;
        for (judge, answer) in &self.opinions {
            write!(f, "\n  {judge}: {answer}")?;
        }
        Ok(())
    }
}

/// What packets are judged by.
struct Scene {
    resources: Vec<Resource>,
    node: String,
    interfaces: Vec<Interface>,
    live: Option<Live>,
}

/// What a live node adds.
struct Live {
    generation: u64,
    /// What is denied passes all the same.
    observe_only: bool,
    flows: HashMap<FlowTuple, FlowStatus>,
    /// Flows that the agent did not tell: too many.
    left_out: usize,
}

impl Live {
    /// The flow that the packet is one of. ICMP messages are told apart by
    /// more than a question holds.
    fn flow(&self, question: &Question) -> Option<&FlowStatus> {
        self.flows.get(&tuple_of(
            question.direction,
            question.protocol,
            (question.source, question.source_port),
            (question.destination, question.destination_port),
        ))
    }
}

impl Explain {
    pub(super) fn run(
        &self,
        agent: impl FnOnce() -> Result<Agent, ClientError>,
        streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    ) -> Result<(), CtlError> {
        let questions = self.questions(&mut streams.input)?;
        let scene = if self.resources.is_empty() {
            self.live(agent)?
        } else {
            self.given(&questions, streams)?
        };
        let names: Vec<&str> = scene.interfaces.iter().map(|i| i.name.as_str()).collect();
        for question in &questions {
            if !names.contains(&question.interface.as_str()) {
                writeln!(
                    streams.warnings,
                    "Warning: {} has no interface {} (it has {})",
                    scene.node,
                    question.interface,
                    names.join(", ")
                )?;
                break;
            }
        }
        let mut bench = Bench::new(self.judge, &scene.resources, &scene.node, &scene.interfaces)?;
        if let Some(live) = &scene.live {
            if self.output == Format::Text {
                let (node, generation) = (&scene.node, live.generation);
                writeln!(streams.output, "node {node}, generation {generation}")?;
                if live.observe_only {
                    writeln!(
                        streams.output,
                        "observe only: the node enforces nothing, what is denied here passes"
                    )?;
                }
            }
            if live.left_out > 0 {
                writeln!(
                    streams.warnings,
                    "Warning: of the node's flows, {} are not told: a packet may belong to one \
                     although none is named",
                    live.left_out
                )?;
            }
        }
        let mut disagreements = Vec::new();
        for (number, question) in (1..).zip(&questions) {
            let opinions = bench.opinions(question)?;
            self.tell(
                &scene.resources,
                bench.reference(),
                scene.live.as_ref(),
                question,
                &opinions,
                streams,
            )?;
            disagreements.extend(disagreement(number, &opinions));
        }
        if disagreements.is_empty() {
            Ok(())
        } else {
            Err(ExplainError::Disagree(disagreements).into())
        }
    }

    fn tell(
        &self,
        resources: &[Resource],
        reference: &Reference,
        live: Option<&Live>,
        question: &Question,
        opinions: &[Opinion],
        streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    ) -> Result<(), CtlError> {
        let Some(Opinion { answer, .. }) = opinions.first() else {
            return Ok(());
        };
        if self.output == Format::Json && !self.verbose && live.is_none() {
            writeln!(streams.output, "{}", Line::new(answer))?;
            return Ok(());
        }
        let shown = Shown {
            question,
            answer,
            explanation: &reference.explain(question),
            rule: rule(resources, answer, question.direction),
            live: live.map(|live| (live, live.flow(question))),
            verbose: self.verbose,
        };
        match self.output {
            Format::Text => write!(streams.output, "{shown}")?,
            Format::Json => writeln!(streams.output, "{}", shown.line())?,
        }
        Ok(())
    }

    /// The packets, by flags or from a file.
    fn questions(&self, stdin: &mut impl io::Read) -> Result<Vec<Question>, ExplainError> {
        let Some(path) = &self.packets else {
            let question = self.packet.question();
            return question
                .map(|question| vec![question])
                .map_err(|error| ExplainError::Packets(vec![error]));
        };
        if self.packet.are_given() {
            return Err(ExplainError::Flags {
                flag: "--packets",
                expected: "no flags of a packet beside it",
                found: "some",
            });
        }
        let stdin_name = Path::new("-");
        let is_stdin = path == stdin_name;
        if is_stdin && self.resources.iter().any(|path| path == stdin_name) {
            return Err(ExplainError::StdinTwice);
        }
        let file = if is_stdin {
            "<stdin>".to_owned()
        } else {
            path.display().to_string()
        };
        let text = if is_stdin {
            text_of(stdin)
        } else {
            fs::File::open(path).and_then(text_of)
        };
        let text = text.map_err(|error| ExplainError::File {
            file: file.clone(),
            error,
        })?;
        lines::read(&file, &text).map_err(ExplainError::Packets)
    }

    /// What --resources and --node describe.
    fn given(
        &self,
        questions: &[Question],
        streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    ) -> Result<Scene, CtlError> {
        let files = Files {
            filename: self.resources.clone(),
            recursive: true,
        };
        let mut input = Input::read(&files, &mut streams.input);
        input.validate();
        if !input.errors.is_empty() {
            return Err(ExplainError::Resources(input.errors).into());
        }
        if input.items.is_empty() {
            return Err(ExplainError::NoResources.into());
        }
        let resources: Vec<Resource> = input.items.into_iter().map(|item| item.resource).collect();
        let known = lint::Known::among(resources.iter());
        let unenforced = |resource| lint::unenforced(resource, known);
        for told in resources.iter().flat_map(unenforced) {
            writeln!(streams.warnings, "Warning: {told}")?;
        }
        let mentioned = questions.iter().map(|question| question.interface.as_str());
        let Some((node, interfaces)) = self.host.given(mentioned) else {
            return Err(ExplainError::Flags {
                flag: "--resources",
                expected: "--node beside it",
                found: "none",
            }
            .into());
        };
        Ok(Scene {
            resources,
            node,
            interfaces,
            live: None,
        })
    }

    /// What the agent of this node enforces.
    fn live(&self, agent: impl FnOnce() -> Result<Agent, ClientError>) -> Result<Scene, CtlError> {
        if self.host.is_given() {
            return Err(ExplainError::Flags {
                flag: "--node",
                expected: "--resources beside it",
                found: "none (without, the agent of this node is asked)",
            }
            .into());
        }
        let agent = agent()?;
        let enforced = client::enforced(&agent)?;
        let flows = client::flows(&agent)?;
        let mut resources = Vec::new();
        for value in &enforced.resources {
            let resource = Resource::from_value(value)
                .map_err(|error| ExplainError::Agent(error.to_string()))?;
            validate::validate(&resource).map_err(|errors| {
                ExplainError::Agent(format!("{}: {}", resource.object_ref(), join(&errors)))
            })?;
            resources.push(resource);
        }
        Ok(Scene {
            resources,
            node: enforced.node,
            interfaces: enforced.interfaces,
            live: Some(Live {
                generation: enforced.generation,
                observe_only: enforced.observe_only,
                flows: flows
                    .flows
                    .into_iter()
                    // A confirmed flow comes ahead of a half-open one.
                    .rev()
                    .map(|flow| (flow.tuple(), flow))
                    .collect(),
                left_out: flows.left_out,
            }),
        })
    }
}

fn text_of(source: impl io::Read) -> io::Result<String> {
    let mut text = String::new();
    let length = source.take(MAX_PACKETS + 1).read_to_string(&mut text)?;
    if length as u64 > MAX_PACKETS {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("expected at most {MAX_PACKETS} bytes, found more"),
        ));
    }
    Ok(text)
}

/// Whether the judges differ about a packet, and how.
fn disagreement(packet: usize, opinions: &[Opinion]) -> Option<Disagreement> {
    let (first, others) = opinions.split_first()?;
    if others.iter().all(|other| other.answer == first.answer) {
        return None;
    }
    Some(Disagreement {
        packet,
        opinions: opinions
            .iter()
            .map(|opinion| (opinion.judge, Line::new(&opinion.answer).to_string()))
            .collect(),
    })
}

/// The rule that decided, as it is written.
fn rule<'a>(resources: &'a [Resource], answer: &Answer, direction: Direction) -> Option<&'a Rule> {
    let name = answer.policy.as_deref()?;
    let (ingress, egress) = resources.iter().find_map(|resource| match resource {
        Resource::GlobalNetworkPolicy(policy)
            if answer.reason == Why::Rule && policy.metadata.name == name =>
        {
            Some((&policy.spec.ingress, &policy.spec.egress))
        }
        Resource::Profile(profile)
            if answer.reason == Why::Profile && profile.metadata.name == name =>
        {
            Some((&profile.spec.ingress, &profile.spec.egress))
        }
        Resource::FelixConfiguration(_)
        | Resource::GlobalNetworkPolicy(_)
        | Resource::GlobalNetworkSet(_)
        | Resource::HostEndpoint(_)
        | Resource::HostEndpointTemplate(_)
        | Resource::NetworkSet(_)
        | Resource::Node(_)
        | Resource::NodeAddresses(_)
        | Resource::Profile(_)
        | Resource::StagedGlobalNetworkPolicy(_)
        | Resource::EndpointSlice(_)
        | Resource::Tier(_)
        | Resource::WorkloadEndpoint(_) => None,
    })?;
    let rules = match direction {
        Direction::Ingress => ingress,
        Direction::Egress => egress,
    };
    rules.get(usize::from(answer.rule?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opinion(judge: Judge, allowed: bool) -> Opinion {
        Opinion {
            judge,
            answer: Answer {
                allowed,
                stage: None,
                tier: None,
                policy: None,
                rule: None,
                reason: Why::NoMatch,
                stages: Vec::new(),
            },
        }
    }

    #[test]
    fn judges_that_differ_are_told_with_what_they_say() {
        let agreed = [
            opinion(Judge::Reference, true),
            opinion(Judge::Kernel, true),
        ];
        assert_eq!(disagreement(1, &agreed), None);
        let differ = [
            opinion(Judge::Reference, true),
            opinion(Judge::Tables, true),
            opinion(Judge::Kernel, false),
        ];
        let error = ExplainError::Disagree(disagreement(7, &differ).into_iter().collect());
        assert_eq!(error.exit_code(), 3);
        let told = error.to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(
            lines[..2],
            ["1 packets were judged differently:", "packet 7:"]
        );
        assert!(
            lines[2].starts_with("  reference: {\"verdict\":\"allow\""),
            "{told}"
        );
        assert!(
            lines[4].starts_with("  kernel: {\"verdict\":\"deny\""),
            "{told}"
        );
    }
}
