//! Random rules and packets: a compiled image must decide as the rules say
//! when they are simply read one after another.

mod property {
    pub(crate) mod naive;
    pub(crate) mod random;
}

use std::collections::BTreeMap;

use hostfw_agent::{
    compile::{compile, evaluate::evaluate, image::Image},
    select::Selection,
};
use hostfw_common::{policy::RuleEntry, verdict::Direction};
use property::{
    naive::{self, Decision},
    random::Random,
};

/// Each has one to three interfaces with two lists of rules.
const SELECTIONS: u64 = 1000;
const PACKETS: usize = 40;

fn name_of(image: &Image, rule: RuleEntry) -> (String, usize) {
    let policy = image.names.policy(rule.policy).expect("a known policy");
    (policy.name.clone(), rule.index.into())
}

#[test]
fn images_decide_as_their_rules_do() {
    let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
    let mut logged = 0;
    for seed in 0..SELECTIONS {
        let mut random = Random::new(seed);
        let selection: Selection = random.selection();
        let image = compile(&selection).expect("a small selection");
        for _ in 0..PACKETS {
            let packet = random.packet();
            let governed = random.one_of(&selection.governed);
            let direction = *random.one_of(&Direction::ALL);

            let found = evaluate(&image, governed.interface.index, direction, &packet);
            let found = Decision {
                reason: found.reason,
                rule: found.rule.map(|rule| name_of(&image, rule)),
                logged: found
                    .logged
                    .iter()
                    .map(|&rule| name_of(&image, rule))
                    .collect(),
            };
            let expected = naive::decide(&selection, governed, direction, &packet);
            assert_eq!(
                found, expected,
                "seed {seed}, {direction:?} on {}, {packet:?}, {governed:#?}",
                governed.interface.name
            );
            *reasons.entry(expected.reason.name()).or_default() += 1;
            logged += expected.logged.len();
        }
    }
    // A generator that never reaches a rule would prove nothing.
    for (reason, least) in [
        ("failsafe", 300),
        ("rule-allow", 2000),
        ("rule-deny", 2000),
        ("no-match", 2000),
        ("endpoint-default", 2000),
    ] {
        let count = reasons.get(reason).copied().unwrap_or(0);
        assert!(count >= least, "{reason}: {count} of {reasons:?}");
    }
    assert!(logged > 2000, "{logged} logged");
}
