//! Judges a case: all judges on all packets.

use std::fmt;

use anyhow::Context as _;
use hostfw_agent::{
    judge::{Judge, JudgeError, Judges, Kernel},
    question::{Answer, Question},
};

use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde::{Deserialize, Serialize};

use crate::{
    case::{Case, Cases, Shrink},
    coverage::Coverage,
    generate::Scene,
};

/// Judges that do not agree about a packet, or one that broke down.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// The packet.
    pub question: Question,
    /// What each of them says, or why it says nothing.
    pub answers: Vec<(Judge, Result<Answer, String>)>,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.question)?;
        for (judge, answer) in &self.answers {
            match answer {
                Ok(answer) => writeln!(f, "    {judge:>9}: {answer:?}")?,
                Err(why) => writeln!(f, "    {judge:>9}: {why}")?,
            }
        }
        Ok(())
    }
}

/// What came of a case.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All agreed.
    Agreement,
    /// They did not, about the first of the packets that is here.
    Disagreement(Box<Disagreement>),
    /// The resources were refused: a fault of the generator.
    Refused(String),
}

/// A case about which the judges do not agree, as small as it could be made.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The case, with a single packet.
    pub case: Case,
    /// What the judges say of it.
    pub disagreement: Disagreement,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the judges do not agree: {}", self.disagreement)?;
        for resource in &self.case.scene.resources {
            writeln!(f, "{}", resource.to_value())?;
        }
        Ok(())
    }
}

/// So many faults of the generator, and a run is pointless.
const MOST_REFUSED: u64 = 100;

/// Makes cases up, one after another.
#[derive(Debug)]
pub struct Search {
    runner: TestRunner,
}

impl Search {
    /// Begins with the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        Self {
            runner: TestRunner::new_with_rng(Config::default(), random),
        }
    }

    /// Has cases judged as long as `more` says so: the next one about which the
    /// judges do not agree, as small as it can be made.
    pub fn next(
        &mut self,
        bench: &mut Bench,
        cases: Cases,
        more: impl FnMut(&Bench) -> bool,
    ) -> Option<Finding> {
        let (mut tree, first) = self.failing(bench, cases, more)?;
        Some(smallest(bench, &mut tree, first))
    }

    /// As [`next`](Self::next), but takes the case as it comes.
    pub fn first(
        &mut self,
        bench: &mut Bench,
        cases: Cases,
        more: impl FnMut(&Bench) -> bool,
    ) -> Option<Disagreement> {
        self.failing(bench, cases, more).map(|(_, first)| first)
    }

    fn failing(
        &mut self,
        bench: &mut Bench,
        cases: Cases,
        mut more: impl FnMut(&Bench) -> bool,
    ) -> Option<(Shrink, Disagreement)> {
        while more(bench) {
            let tree = match cases.new_tree(&mut self.runner) {
                Ok(tree) => tree,
                Err(reason) => unreachable!("no case is ever rejected: {reason}"),
            };
            match bench.judge(&tree.current()) {
                Outcome::Agreement => {}
                Outcome::Refused(why) => {
                    println!("refused: {why}");
                    if bench.refused > MOST_REFUSED {
                        return None;
                    }
                }
                Outcome::Disagreement(first) => return Some((tree, *first)),
            }
        }
        None
    }
}

/// The smallest case about which they still do not agree.
fn smallest(bench: &mut Bench, tree: &mut Shrink, first: Disagreement) -> Finding {
    // What is judged on the way is no evidence of anything.
    let before = bench.report();
    let mut disagreement = first;
    let mut more = tree.simplify();
    while more {
        more = if let Outcome::Disagreement(smaller) = bench.judge(&tree.current()) {
            disagreement = *smaller;
            tree.simplify()
        } else {
            tree.complicate()
        };
    }
    bench.restore(before);
    bench.findings += 1;
    Finding {
        case: tree.current(),
        disagreement,
    }
}

/// Who judges, and what is counted.
#[derive(Debug, Default)]
pub struct Bench {
    /// The loaded programs, if they judge too.
    pub kernel: Option<Kernel>,
    /// What decided so far.
    pub coverage: Coverage,
    /// How many scenes were judged.
    pub scenes: u64,
    /// How many packets were.
    pub packets: u64,
    /// How many scenes were refused.
    pub refused: u64,
    /// How often the judges did not agree.
    pub findings: u64,
    /// Explanations, which are slow, are asked for one packet of so many.
    pub explain_one_of: u64,
}

impl Bench {
    /// Judges a case and counts it.
    pub fn judge(&mut self, case: &Case) -> Outcome {
        let Scene {
            node,
            interfaces,
            resources,
        } = &case.scene;
        let judges = match Judges::new(resources, node, interfaces) {
            Ok(judges) => judges,
            Err(error) => return self.refuse(&error),
        };
        // What is valid must be readable to all.
        if let [first, ..] = judges.reference().left_out() {
            self.refused += 1;
            return Outcome::Refused(format!("{first}: the reference cannot read it"));
        }
        let mut loaded = match &mut self.kernel {
            Some(kernel) => kernel.load(judges.image()),
            None => Ok(()),
        };
        self.scenes += 1;
        for question in &case.questions {
            self.packets += 1;
            let mut answers = vec![
                (Judge::Reference, Ok(judges.by_reference(question))),
                (Judge::Tables, Ok(judges.by_tables(question))),
            ];
            if let Some(kernel) = &mut self.kernel {
                let answer = std::mem::replace(&mut loaded, Ok(()))
                    .and_then(|()| judges.by_kernel(kernel, question));
                answers.push((Judge::Kernel, answer.map_err(|error| error.to_string())));
            }
            if answers.iter().any(|(_, answer)| *answer != answers[0].1) {
                return Outcome::Disagreement(Box::new(Disagreement {
                    question: question.clone(),
                    answers,
                }));
            }
            if let Some((_, Ok(answer))) = answers.first() {
                self.coverage.answer(&case.scene, question, answer);
            }
            if self.packets.is_multiple_of(self.explain_one_of.max(1)) {
                let explanation = judges.reference().explain(question);
                self.coverage.steps(&case.scene, question, &explanation);
            }
        }
        Outcome::Agreement
    }

    /// What the reference says of a case with a single packet.
    ///
    /// # Errors
    ///
    /// If the resources are refused, or there is no packet.
    pub fn by_reference(&self, case: &Case) -> anyhow::Result<Answer> {
        let scene = &case.scene;
        let judges = Judges::new(&scene.resources, &scene.node, &scene.interfaces)?;
        let question = case.questions.first().context("no packet")?;
        Ok(judges.by_reference(question))
    }

    /// What was counted so far.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            scenes: self.scenes,
            packets: self.packets,
            refused: self.refused,
            findings: self.findings,
            coverage: self.coverage.clone(),
        }
    }

    fn restore(&mut self, report: Report) {
        self.scenes = report.scenes;
        self.packets = report.packets;
        self.refused = report.refused;
        self.findings = report.findings;
        self.coverage = report.coverage;
    }

    fn refuse(&mut self, error: &JudgeError) -> Outcome {
        self.refused += 1;
        Outcome::Refused(error.to_string())
    }
}

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} packets over {} sets of policies, {} refused, {} disagreements",
            self.packets, self.scenes, self.refused, self.findings
        )
    }
}

/// What a run has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Sets of policies.
    pub scenes: u64,
    /// Packets.
    pub packets: u64,
    /// Sets that were refused: faults of the generator.
    pub refused: u64,
    /// Disagreements.
    pub findings: u64,
    /// What decided.
    pub coverage: Coverage,
}

impl Report {
    /// Adds another run's.
    pub fn absorb(&mut self, other: &Self) {
        self.scenes += other.scenes;
        self.packets += other.packets;
        self.refused += other.refused;
        self.findings += other.findings;
        self.coverage.absorb(&other.coverage);
    }

    /// Whether everything was reached, and nothing found.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings == 0 && self.refused == 0 && self.coverage.gaps().is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.coverage)?;
        for (what, count) in self.coverage.gaps() {
            writeln!(f, "too rarely: {what}: {count}")?;
        }
        writeln!(
            f,
            "{} packets over {} sets of policies, {} refused, {} disagreements",
            self.packets, self.scenes, self.refused, self.findings
        )
    }
}
