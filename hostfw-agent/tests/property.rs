//! Random rules and packets: a compiled image must decide as the rules say
//! when they are simply read one after another.

mod property {
    pub(crate) mod naive;
    pub(crate) mod random;
}

use std::collections::BTreeMap;

use hostfw_agent::{
    compile::{compile, evaluate::evaluate, image::Image},
    question::{Answer, Outcome},
};
use hostfw_common::{policy::RuleEntry, stage::List};
use property::{
    naive::{self, Decision, Reported},
    random::Random,
};

/// Each has one to three interfaces with seven lists of rules.
const SELECTIONS: u64 = 400;
const PACKETS: usize = 60;

fn reported(image: &Image, list: List, rule: RuleEntry) -> Reported {
    let policy = image.names.policy(rule.policy).expect("a known policy");
    (list, policy.clone(), rule.index.into())
}

/// How often something was met, by name.
#[derive(Default)]
struct Coverage(BTreeMap<String, u32>);

impl Coverage {
    fn count(&mut self, what: impl std::fmt::Debug) {
        *self.0.entry(format!("{what:?}")).or_default() += 1;
    }

    fn count_answer(&mut self, answer: &Answer) {
        self.count(answer.reason);
        for met in &answer.stages {
            if met.outcome != Outcome::Skipped {
                self.count((met.stage, met.outcome));
            }
        }
    }

    /// A generator that never reaches a rule would prove nothing.
    #[track_caller]
    fn expect(&self, least: u32, what: &[&str]) {
        for &what in what {
            let count = self.0.get(what).copied().unwrap_or(0);
            assert!(count >= least, "{what}: {count} of {:#?}", self.0);
        }
    }
}

#[test]
fn images_decide_as_their_rules_do() {
    let mut coverage = Coverage::default();
    for seed in 0..SELECTIONS {
        let mut random = Random::new(seed);
        let selection = random.selection();
        let image = compile(&selection).expect("a small selection");
        for _ in 0..PACKETS {
            let governed = random.one_of(&selection.governed);
            let question = random.question(&selection, governed);

            let found = evaluate(&image, governed.interface.index, &question);
            let found = Decision {
                answer: found.answer,
                reported: found
                    .reported
                    .iter()
                    .map(|&(list, rule)| reported(&image, list, rule))
                    .collect(),
            };
            let expected = naive::decide(&selection, governed, &question);
            assert_eq!(
                found, expected,
                "seed {seed}, {question:?}, {governed:#?}, {:?}",
                selection.tunnels
            );
            coverage.count_answer(&expected.answer);
            for (list, policy, _) in &expected.reported {
                coverage.count((list, policy.kind));
            }
            if expected.answer.policy.as_deref() == Some(property::random::MISSING) {
                coverage.count("missing profile");
            }
        }
    }
    coverage.expect(
        150,
        &[
            "Rule",
            "Profile",
            "Failsafe",
            "TierDefault",
            "EndpointDefault",
            "NoMatch",
            "Established",
            "Invalid",
            "Tunnel",
            "Workload",
            "(Untracked, Allow)",
            "(Untracked, Deny)",
            "(Untracked, NoMatch)",
            "(PreDnat, Allow)",
            "(PreDnat, Deny)",
            "(PreDnat, NoMatch)",
            "(Forward, Allow)",
            "(Forward, Deny)",
            "(Forward, NoMatch)",
            "(Normal, Allow)",
            "(Normal, Deny)",
        ],
    );
    coverage.expect(20, &["NeighbourDiscovery", "\"missing profile\""]);
    for list in List::ALL {
        let enforced = format!("({list:?}, GlobalNetworkPolicy)");
        let staged = format!("({list:?}, StagedGlobalNetworkPolicy)");
        coverage.expect(50, &[&enforced, &staged]);
    }
}

#[test]
fn named_ports_decide_as_their_points_do() {
    let mut decided = Coverage::default();
    for seed in 0..SELECTIONS {
        let mut random = Random::new(1 << 40 | seed);
        let (selection, rule) = random.one_rule_with_points();
        let image = compile(&selection).expect("a small selection");
        let governed = &selection.governed[0];
        for _ in 0..PACKETS {
            let question = random.question_near(governed, &rule);
            let found = evaluate(&image, governed.interface.index, &question).answer;
            let expected = naive::decide(&selection, governed, &question).answer;
            assert_eq!(found, expected, "seed {seed}, {question:?}, {rule:#?}");
            for (kind, entity) in [("source", &rule.source), ("destination", &rule.destination)] {
                if entity.points.is_some() {
                    decided.count((kind, expected.reason));
                }
                if entity.not_points.is_some() {
                    decided.count((kind, "not", expected.reason));
                }
            }
        }
    }
    decided.expect(
        200,
        &[
            "(\"source\", Rule)",
            "(\"source\", NoMatch)",
            "(\"source\", \"not\", Rule)",
            "(\"source\", \"not\", NoMatch)",
            "(\"destination\", Rule)",
            "(\"destination\", NoMatch)",
            "(\"destination\", \"not\", Rule)",
            "(\"destination\", \"not\", NoMatch)",
        ],
    );
}
