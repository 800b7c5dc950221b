//! Judges a case: all judges on all packets.

use std::fmt;

use hostfw_agent::{
    judge::{Judge, JudgeError, Judges},
    question::{Answer, Question},
    reference::{Event, Explanation},
    resource::Action,
};

use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

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

/// Makes up cases and has them judged, as long as `more` says so. Ends with the
/// first about which the judges do not agree.
pub fn search(
    bench: &mut Bench,
    cases: Cases,
    seed: u64,
    mut more: impl FnMut(&Bench) -> bool,
) -> Option<Finding> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    while more(bench) {
        let mut tree = match cases.new_tree(&mut runner) {
            Ok(tree) => tree,
            Err(reason) => unreachable!("no case is ever rejected: {reason}"),
        };
        if let Outcome::Disagreement(first) = bench.judge(&tree.current()) {
            return Some(smallest(bench, &mut tree, *first));
        }
    }
    None
}

/// The smallest case about which they still do not agree.
fn smallest(bench: &mut Bench, tree: &mut Shrink, first: Disagreement) -> Finding {
    // What is judged on the way is no evidence of anything.
    let coverage = bench.coverage.clone();
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
    bench.coverage = coverage;
    Finding {
        case: tree.current(),
        disagreement,
    }
}

/// Who judges, and what is counted.
#[derive(Debug, Default)]
pub struct Bench {
    /// What decided so far.
    pub coverage: Coverage,
    /// How many scenes were judged.
    pub scenes: u64,
    /// How many packets were.
    pub packets: u64,
    /// How many scenes were refused.
    pub refused: u64,
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
        self.scenes += 1;
        for question in &case.questions {
            self.packets += 1;
            let answers = vec![
                (Judge::Reference, Ok(judges.by_reference(question))),
                (Judge::Tables, Ok(judges.by_tables(question))),
            ];
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
                self.count_steps(&judges.reference().explain(question));
            }
        }
        Outcome::Agreement
    }

    fn refuse(&mut self, error: &JudgeError) -> Outcome {
        self.refused += 1;
        Outcome::Refused(error.to_string())
    }

    /// Counts what matched and did not decide, and what did not match.
    fn count_steps(&mut self, explanation: &Explanation) {
        for step in &explanation.steps {
            let Event::Rule {
                tier,
                rule,
                staged,
                missed,
                ..
            } = &step.event
            else {
                continue;
            };
            match missed {
                Some(mismatch) => self.coverage.missed(&mismatch.field),
                None => self.coverage.met(
                    rule.action,
                    *staged,
                    tier.is_none() && rule.action == Action::Pass,
                ),
            }
        }
    }
}

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} packets over {} sets of policies, {} sets refused",
            self.packets, self.scenes, self.refused
        )
    }
}
