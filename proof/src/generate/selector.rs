//! Selectors, most of which match something.

use super::pools::{LABEL_KEYS, LABEL_VALUES};
use crate::random::Random;

/// An expression over the labels of the pools.
pub(super) fn selector(random: &mut Random) -> String {
    let depth = random.below(3);
    expression(random, depth)
}

/// One that holds for a good part of all endpoints.
pub(super) fn of_endpoints(random: &mut Random) -> String {
    let easy = [
        "all()",
        "has(host-endpoint)",
        "!has(no-such-label)",
        "role in { 'web', \"db\" } || has(host-endpoint)",
        "env != 'no-such-value'",
        "zone not in { }",
    ];
    if random.percent(75) {
        (*random.one_of(&easy)).to_owned()
    } else {
        selector(random)
    }
}

fn expression(random: &mut Random, depth: usize) -> String {
    if depth == 0 {
        return primitive(random);
    }
    let left = expression(random, depth - 1);
    let right = expression(random, depth - 1);
    match random.below(5) {
        0 => format!("{left} && {right}"),
        1 => format!("{left} || {right}"),
        2 => format!("!({left})"),
        3 => format!("!!{}", primitive(random)),
        _ => format!("({left} || {right})&&!{}", primitive(random)),
    }
}

fn primitive(random: &mut Random) -> String {
    let key = *random.one_of(&LABEL_KEYS);
    let value = *random.one_of(&LABEL_VALUES);
    let quoted = if random.percent(50) {
        format!("'{value}'")
    } else {
        format!("\"{value}\"")
    };
    match random.below(12) {
        0 => "all()".to_owned(),
        1 | 2 => format!("has({key})"),
        3 => format!("{key} == {quoted}"),
        4 => format!("{key} != {quoted}"),
        5 => format!("{key} contains {quoted}"),
        6 => format!("{key} starts with {quoted}"),
        7 => format!("{key} ends with {quoted}"),
        8 => format!("{key} in {{ {} }}", values(random)),
        9 => format!("{key} not in {{ {} }}", values(random)),
        10 => format!("{key} startswith {quoted}"),
        _ => format!("!has( {key} )"),
    }
}

fn values(random: &mut Random) -> String {
    let values = random.several(&(0..=3), |random| {
        format!("'{}'", random.one_of(&LABEL_VALUES))
    });
    values.join(", ")
}
