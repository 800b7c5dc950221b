//! The third judge: the programs themselves, loaded a second time with maps of
//! their own, on packets that never see a network.
//!
//! A packet's way is played checkpoint by checkpoint, each as the kernel would
//! call it. Which interfaces, which flow and which wire destination netfilter
//! would tell is given by the trial map; all that is decided, is decided by
//! the programs.

use std::net::IpAddr;

use aya::programs::{Program as Loaded, TestRun as _, TestRunOptions};
use hostfw_common::{
    conntrack::Address,
    endpoint::{FLAG_NETFILTER, FLAG_NO_LINK_HEADER},
    names::{
        PROGRAM_FORWARD, PROGRAM_LOCAL_IN, PROGRAM_TC_EGRESS, PROGRAM_TC_INGRESS, PROGRAM_XDP,
    },
    policy::RuleEntry,
    stage::Stage,
    trial::{TRACKED_ESTABLISHED, TRACKED_INVALID, TRACKED_NEW, Trace, Trial},
    verdict::{Direction, Reason, Verdict},
};

use super::frame::frame;
use crate::{
    attach::{DataplaneError, TrialHook, TrialPrograms},
    compile::image::{Image, Names},
    model::Kind,
    question::{Answer, Outcome, Path, Question, StageAnswer, State, Why},
};

/// Why the programs could not judge.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// They could not be loaded or run.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// This kernel has no netfilter programs, so a packet's way ends early.
    #[error("what comes in is not judged behind DNAT: {0}")]
    NoNetfilter(String),
    /// What they tell does not fit together. A defect: please report it.
    #[error("{program}: {what}")]
    Inconsistent {
        /// Name of the program.
        program: &'static str,
        /// What does not fit.
        what: String,
    },
}

/// Which program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    /// Incoming, at XDP.
    Xdp,
    /// Incoming, at TC.
    TcIn,
    /// Outgoing, at TC.
    TcOut,
    /// For this host, at netfilter.
    LocalIn,
    /// Routed, at netfilter.
    Forward,
}

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Self::Xdp => PROGRAM_XDP,
            Self::TcIn => PROGRAM_TC_INGRESS,
            Self::TcOut => PROGRAM_TC_EGRESS,
            Self::LocalIn => PROGRAM_LOCAL_IN,
            Self::Forward => PROGRAM_FORWARD,
        }
    }
}

/// `XDP_PASS` (linux/bpf.h).
const XDP_PASS: u32 = 2;
/// `TC_ACT_UNSPEC` (linux/pkt_cls.h): -1.
const TC_ACT_UNSPEC: u32 = u32::MAX;

/// A private copy of the programs.
pub struct Kernel {
    programs: TrialPrograms,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").finish_non_exhaustive()
    }
}

/// What a checkpoint made of a packet.
struct Seen {
    program: &'static str,
    reason: Reason,
    trace: Trace,
}

impl Seen {
    fn inconsistent(&self, what: impl Into<String>) -> KernelError {
        KernelError::Inconsistent {
            program: self.program,
            what: what.into(),
        }
    }

    /// Whether the stage has looked at the packet.
    const fn looked(&self, stage: Stage) -> bool {
        self.trace.steps[stage as usize].seen != 0
    }
}

impl Kernel {
    /// Loads the programs. Needs root; touches nothing that is in force.
    ///
    /// # Errors
    ///
    /// If the kernel refuses them.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self {
            programs: TrialPrograms::load()?,
        })
    }

    /// Has the programs judge by an image from here on.
    ///
    /// # Errors
    ///
    /// If their maps cannot be filled.
    pub fn load(&mut self, image: &Image) -> Result<(), KernelError> {
        let mut image = image.clone();
        // Whether the netfilter programs judge an endpoint is the agent's to
        // say, by what is attached.
        for endpoint in image.endpoints.values_mut() {
            endpoint.flags |= FLAG_NETFILTER;
        }
        Ok(self.programs.write(&image)?)
    }

    /// What becomes of a packet on the interface of this index, by the image
    /// that was loaded last.
    pub(super) fn answer(
        &mut self,
        image: &Image,
        interface: u32,
        question: &Question,
    ) -> Result<Answer, KernelError> {
        let endpoint = image.endpoints.get(&interface);
        let link_header = endpoint.is_none_or(|endpoint| endpoint.flags & FLAG_NO_LINK_HEADER == 0);
        let mut way = Way {
            programs: &mut self.programs,
            question,
            trial: trial(interface, question),
            link_header,
        };
        let mut telling = Telling::new(question, &image.names);
        let decided = match (question.direction, question.path) {
            (Direction::Ingress, path) => {
                let wire = way.wire_in()?;
                let decided = telling.wire(&wire)?;
                match wire.reason.verdict() {
                    Verdict::Drop => decided,
                    Verdict::Pass => {
                        let (program, stage) = match path {
                            Path::Local => (Program::LocalIn, Stage::Normal),
                            Path::Forward => (Program::Forward, Stage::Forward),
                        };
                        let later = way.later(program)?;
                        telling.behind(&wire, decided, &later, stage)?
                    }
                }
            }
            (Direction::Egress, Path::Local) => {
                let wire = way.run(Program::TcOut, link_header)?;
                match telling.wire(&wire)? {
                    None => telling.later(&wire, Stage::Normal)?,
                    decided => decided,
                }
            }
            (Direction::Egress, Path::Forward) => {
                let seen = way.later(Program::Forward)?;
                match telling.wire(&seen)? {
                    None => telling.later(&seen, Stage::Forward)?,
                    decided => decided,
                }
            }
        };
        Ok(telling.end(decided))
    }
}

/// What the programs are to believe of the packet.
fn trial(interface: u32, question: &Question) -> Trial {
    let (in_interface, out_interface) = match question.direction {
        Direction::Ingress => (interface, 0),
        Direction::Egress => (0, interface),
    };
    Trial {
        in_interface,
        out_interface,
        tracked: match question.state {
            State::New => TRACKED_NEW,
            State::Established => TRACKED_ESTABLISHED,
            State::Invalid => TRACKED_INVALID,
        },
        translated: u8::from(question.translated.is_some()),
        wire_destination_port: question.destination_port.to_be_bytes(),
        wire_destination: match question.destination {
            IpAddr::V4(address) => Address::from_v4(address.octets()),
            IpAddr::V6(address) => Address {
                bytes: address.octets(),
            },
        },
    }
}

/// A packet, to be run past the checkpoints.
struct Way<'a> {
    programs: &'a mut TrialPrograms,
    question: &'a Question,
    trial: Trial,
    link_header: bool,
}

impl Way<'_> {
    /// Past the wire, with what both programs that may stand there say.
    fn wire_in(&mut self) -> Result<Seen, KernelError> {
        let link_header = self.link_header;
        let tc = self.run(Program::TcIn, link_header)?;
        let xdp = self.run(Program::Xdp, link_header)?;
        if xdp.trace == tc.trace {
            Ok(xdp)
        } else {
            Err(xdp.inconsistent(format!(
                "{:?} for {:?}, where {} says {:?} for {:?}",
                xdp.reason, xdp.trace.steps, tc.program, tc.reason, tc.trace.steps
            )))
        }
    }

    /// Past a netfilter hook, which sees the packet behind DNAT.
    fn later(&mut self, program: Program) -> Result<Seen, KernelError> {
        self.run(program, false)
    }

    fn run(&mut self, program: Program, link_header: bool) -> Result<Seen, KernelError> {
        let question = self.question;
        let wire = (question.destination, question.destination_port);
        let destination = match program {
            Program::Xdp | Program::TcIn | Program::TcOut => wire,
            Program::LocalIn | Program::Forward => question.translated.unwrap_or(wire),
        };
        let packet = frame(question, destination, link_header);
        self.programs.believe(&self.trial)?;
        let passed = self.test_run(program, &packet)?;
        let trace = self.programs.trace()?;
        let name = program.name();
        let reason = if trace.counted == 0 {
            Reason::NoEndpoint
        } else {
            Reason::from_number(trace.reason).ok_or_else(|| KernelError::Inconsistent {
                program: name,
                what: format!("counted for reason {}, which there is not", trace.reason),
            })?
        };
        let seen = Seen {
            program: name,
            reason,
            trace,
        };
        if passed != (reason.verdict() == Verdict::Pass) {
            let what = if passed { "passed" } else { "dropped" };
            return Err(seen.inconsistent(format!("{what} for {reason:?}")));
        }
        Ok(seen)
    }

    /// Whether the program lets the packet pass.
    fn test_run(&self, program: Program, packet: &[u8]) -> Result<bool, KernelError> {
        let name = program.name();
        let inconsistent = |what: String| KernelError::Inconsistent {
            program: name,
            what,
        };
        let hook = match program {
            Program::LocalIn => TrialHook::LocalIn,
            Program::Forward => TrialHook::Forward,
            Program::Xdp | Program::TcIn | Program::TcOut => {
                let loaded = self
                    .programs
                    .program(name)
                    .ok_or(DataplaneError::MissingProgram(name))?;
                let mut options = TestRunOptions::new();
                options.data_in = Some(packet);
                let (answer, passes) = if let Loaded::Xdp(program) = loaded {
                    (program.test_run(options), XDP_PASS)
                } else if let Loaded::SchedClassifier(program) = loaded {
                    (program.test_run(options), TC_ACT_UNSPEC)
                } else {
                    return Err(inconsistent("neither of XDP nor of TC".to_owned()));
                };
                let answer = answer.map_err(|error| inconsistent(error.to_string()))?;
                return Ok(answer.return_value == passes);
            }
        };
        match self.programs.run_netfilter(hook, packet)? {
            Some(accepted) => Ok(accepted),
            None => Err(KernelError::NoNetfilter(
                self.programs
                    .netfilter_missing()
                    .map_or_else(String::new, ToString::to_string),
            )),
        }
    }
}

/// Puts the answer together from what the checkpoints tell.
struct Telling<'a> {
    question: &'a Question,
    names: &'a Names,
    stages: Vec<StageAnswer>,
}

/// What decided.
struct Decided {
    allowed: bool,
    why: Why,
    stage: Option<Stage>,
    entry: Option<RuleEntry>,
}

impl Decided {
    const fn allowed(why: Why) -> Option<Self> {
        Some(Self {
            allowed: true,
            why,
            stage: None,
            entry: None,
        })
    }
}

impl<'a> Telling<'a> {
    fn new(question: &'a Question, names: &'a Names) -> Self {
        Self {
            question,
            names,
            stages: Vec::new(),
        }
    }

    /// The stages on the packet's way.
    const fn way(&self) -> &'static [Stage] {
        match (self.question.direction, self.question.path) {
            (Direction::Ingress, Path::Local) => &[Stage::Untracked, Stage::PreDnat, Stage::Normal],
            (Direction::Ingress, Path::Forward) => {
                &[Stage::Untracked, Stage::PreDnat, Stage::Forward]
            }
            (Direction::Egress, Path::Local) => &[Stage::Untracked, Stage::Normal],
            (Direction::Egress, Path::Forward) => &[Stage::Forward],
        }
    }

    fn meet(&mut self, stage: Stage, outcome: Outcome) {
        self.stages.push(StageAnswer { stage, outcome });
    }

    /// What a checkpoint decides ahead of a stage, and the stages at the wire
    /// before DNAT.
    fn wire(&mut self, seen: &Seen) -> Result<Option<Decided>, KernelError> {
        for (reason, why) in [
            (Reason::NoEndpoint, Why::NoEndpoint),
            (Reason::NeighbourDiscovery, Why::NeighbourDiscovery),
        ] {
            if seen.reason == reason {
                return Ok(Decided::allowed(why));
            }
        }
        if self.way().contains(&Stage::Untracked)
            && let Some(decided) = self.stage(seen, Stage::Untracked)?
        {
            return Ok(Some(decided));
        }
        if seen.reason == Reason::Tunnel {
            return Ok(match self.question.path {
                Path::Local => Decided::allowed(Why::Tunnel),
                Path::Forward => {
                    self.meet(Stage::PreDnat, Outcome::NoMatch);
                    None
                }
            });
        }
        if seen.reason == Reason::Established {
            return Ok(Decided::allowed(Why::Established));
        }
        if self.way().contains(&Stage::PreDnat) {
            return self.stage(seen, Stage::PreDnat);
        }
        Ok(None)
    }

    /// What the checkpoint behind DNAT decides about a packet that has passed
    /// the wire. What the wire has decided for good, it must not touch.
    fn behind(
        &mut self,
        wire: &Seen,
        decided: Option<Decided>,
        later: &Seen,
        stage: Stage,
    ) -> Result<Option<Decided>, KernelError> {
        if decided.is_none() {
            return self.later(later, stage);
        }
        if later.reason.verdict() == Verdict::Drop || later.looked(stage) {
            return Err(later.inconsistent(format!(
                "{:?} of a packet that the wire let through for {:?}",
                later.reason, wire.reason
            )));
        }
        Ok(decided)
    }

    /// What a checkpoint decides at its last stage.
    fn later(&mut self, seen: &Seen, stage: Stage) -> Result<Option<Decided>, KernelError> {
        if seen.reason == Reason::Workload {
            Ok(Decided::allowed(Why::Workload))
        } else if seen.reason == Reason::Established {
            Ok(Decided::allowed(Why::Established))
        } else {
            self.stage(seen, stage)
        }
    }

    fn stage(&mut self, seen: &Seen, stage: Stage) -> Result<Option<Decided>, KernelError> {
        let step = seen.trace.steps[stage as usize];
        if step.seen == 0 {
            return Err(seen.inconsistent(format!(
                "{:?}, and stage {} was not looked at",
                seen.reason,
                stage.name()
            )));
        }
        let reason = Reason::from_number(step.reason)
            .ok_or_else(|| seen.inconsistent(format!("reason {}", step.reason)))?;
        let decided = |allowed, why, entry| Decided {
            allowed,
            why,
            stage: Some(stage),
            entry,
        };
        let decided =
            if reason == Reason::NoMatch || reason == Reason::Failsafe && stage != Stage::Normal {
                None
            } else if reason == Reason::Failsafe {
                Some(decided(true, Why::Failsafe, None))
            } else if reason == Reason::RuleAllow || reason == Reason::RuleDeny {
                let policy = self.names.policy(step.rule.policy);
                let profile = policy.is_some_and(|object| object.kind == Kind::Profile);
                let why = if profile { Why::Profile } else { Why::Rule };
                Some(decided(reason == Reason::RuleAllow, why, Some(step.rule)))
            } else if reason == Reason::TierDefault {
                Some(decided(false, Why::TierDefault, Some(step.rule)))
            } else if reason == Reason::EndpointDefault {
                Some(decided(false, Why::EndpointDefault, None))
            } else if reason == Reason::Invalid {
                Some(decided(false, Why::Invalid, None))
            } else {
                return Err(seen.inconsistent(format!("{reason:?} at {}", stage.name())));
            };
        self.meet(
            stage,
            match &decided {
                None => Outcome::NoMatch,
                Some(decided) if decided.allowed => Outcome::Allow,
                Some(_) => Outcome::Deny,
            },
        );
        Ok(decided)
    }

    /// The answer, stages that were not looked at included.
    fn end(mut self, decided: Option<Decided>) -> Answer {
        let way = self.way();
        for stage in &way[self.stages.len().min(way.len())..] {
            self.meet(*stage, Outcome::Skipped);
        }
        let decided = decided.unwrap_or(Decided {
            allowed: true,
            why: Why::NoMatch,
            stage: None,
            entry: None,
        });
        let mut answer = Answer {
            allowed: decided.allowed,
            stage: decided.stage,
            tier: None,
            policy: None,
            rule: None,
            reason: decided.why,
            stages: self.stages,
        };
        if let Some(entry) = decided.entry {
            if decided.why == Why::TierDefault {
                answer.tier = self.names.tier(entry.policy.number).map(str::to_owned);
            } else {
                answer.tier = self.names.tier_of(entry.policy).map(str::to_owned);
                let policy = self.names.named(entry.policy);
                let missing = policy.is_some_and(|policy| policy.missing);
                answer.policy = policy.map(|policy| policy.object.name.clone());
                answer.rule = (!missing).then_some(entry.index);
            }
        }
        answer
    }
}
