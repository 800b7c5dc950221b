//! Good and bad objects, judged by a definition and by hostfw.

use std::collections::BTreeMap;

use hostfw_agent::{
    crd,
    resource::{Resource, parse_documents},
    validate::validate,
};
use serde_json::Value;

use super::{
    broken::{BAD, BAD_RULES, broken, messages, text, texts},
    check::check,
    fields::schema,
};

/// What the definitions say of a resource; nothing if it may pass.
struct Definitions(BTreeMap<&'static str, Value>);

impl Definitions {
    fn new() -> Self {
        let all = crd::all().into_iter();
        Self(
            all.map(|definition| (definition.kind.name(), schema(&definition).clone()))
                .collect(),
        )
    }

    fn check(&self, resource: &Resource) -> Vec<String> {
        self.0
            .get(resource.kind().name())
            .map(|schema| check(schema, &resource.to_value()))
            .unwrap_or_default()
    }
}

fn read(text: &str) -> Vec<Resource> {
    parse_documents(text)
        .into_iter()
        .flat_map(|document| document.result.unwrap_or_else(|error| panic!("{error}")))
        .collect()
}

#[test]
fn what_is_valid_passes() {
    let definitions = Definitions::new();
    let mut count = 0;
    for resource in texts().iter().flat_map(|text| read(text)) {
        validate(&resource).unwrap_or_else(|errors| panic!("{errors:?}"));
        let found = definitions.check(&resource);
        assert_eq!(found, [""; 0], "{}", resource.object_ref());
        count += 1;
    }
    assert!(count > 60, "{count}");
}

#[test]
fn what_a_definition_refuses_is_refused_here_too() {
    let definitions = Definitions::new();
    for (text, why) in broken() {
        let resources = read(&text);
        let found = definitions.check(&resources[0]);
        assert!(
            found.iter().any(|found| found.contains(why)),
            "{text}{why}, found {found:?}"
        );
        assert!(validate(&resources[0]).is_err(), "{text}");
    }
}

/// Every rule has an object in the lists above that it refuses.
#[test]
fn every_rule_is_broken_once() {
    let told: Vec<&str> = BAD
        .iter()
        .map(|(.., why)| *why)
        .chain(BAD_RULES.iter().map(|(_, why)| *why))
        .collect();
    let all = messages();
    let missing: Vec<&String> = all
        .iter()
        .filter(|message| !told.iter().any(|why| message.contains(why)))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(all.len() > 40, "{}", all.len());
}

/// Splices into a text what is special in resources.
fn damage(text: &str, random: &mut impl FnMut(usize) -> usize) -> String {
    const PIECES: [&str; 24] = [
        "",
        "x",
        "0",
        "-1",
        "6",
        "'",
        "true",
        "false",
        "TCP",
        "ICMP",
        "Allow",
        "10.0.0.0/8",
        "fd00::/8",
        "http",
        "80",
        "'80:90'",
        "Egress",
        "Ingress",
        "eth0",
        "default",
        "null",
        "[]",
        "{}",
        "a.b",
    ];
    let words: Vec<(usize, &str)> = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || "./:'*-".contains(c)))
        .filter(|word| !word.is_empty() && !word.ends_with(':'))
        .map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
        .collect();
    let mut damaged = text.to_owned();
    let (at, word) = words[random(words.len())];
    damaged.replace_range(at..at + word.len(), PIECES[random(PIECES.len())]);
    damaged
}

#[test]
fn what_hostfw_takes_no_definition_refuses() {
    let definitions = Definitions::new();
    let seeds: Vec<String> = texts()
        .into_iter()
        .chain(BAD.iter().map(|(kind, spec, _)| text(kind, spec)))
        .chain(BAD_RULES.iter().map(|(rule, _)| {
            let rule = rule.trim_start_matches('#');
            text(
                "GlobalNetworkPolicy",
                &format!("ingress: [{{action: Allow, {rule}}}]"),
            )
        }))
        .collect();
    let mut state = 1_u64;
    // Knuth's MMIX generator; its upper bits are the good ones.
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let (mut accepted, mut refused) = (0, 0);
    for seed in seeds.iter().cycle().take(800) {
        let damaged = damage(seed, &mut random);
        let resources = parse_documents(&damaged)
            .into_iter()
            .filter_map(|document| document.result.ok())
            .flatten();
        for resource in resources {
            let found = definitions.check(&resource);
            match validate(&resource) {
                Ok(_) => {
                    assert_eq!(found, [""; 0], "{damaged}");
                    accepted += 1;
                }
                Err(_) => refused += usize::from(!found.is_empty()),
            }
        }
    }
    // Both ways are taken.
    assert!(accepted > 200 && refused > 50, "{accepted}, {refused}");
}
