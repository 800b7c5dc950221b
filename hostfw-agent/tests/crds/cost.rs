//! What the rules cost, estimated generously and after the manner of an API
//! server (k8s.io/apiserver/pkg/cel, github.com/google/cel-go/checker): it
//! refuses a definition whose rules may cost too much. The estimate is ours; only
//! a server knows its own.

use hostfw_agent::crd;
use serde_json::Value;

use super::fields::schema;

/// Most that one rule may cost, for all values of an object together
/// (`StaticEstimatedCostLimit`).
const OF_A_RULE: u64 = 10_000_000;

/// Most that the rules of a definition may (`StaticEstimatedCRDCostLimit`).
const OF_A_DEFINITION: u64 = 100_000_000;

/// Longest text that a request can bring, in bytes.
const LONGEST: u64 = 3 << 20;

#[test]
fn an_api_server_can_afford_the_rules() {
    let mut dearest = 0;
    for definition in crd::all() {
        let mut total: u64 = 0;
        let (schema, kind) = (schema(&definition), definition.kind.name());
        walk(schema, 1, kind, &mut |at, cost| {
            assert!(cost <= OF_A_RULE, "{at}: {cost}");
            dearest = dearest.max(cost);
            total += cost;
        });
        assert!(total <= OF_A_DEFINITION, "{kind}: {total}");
    }
    // An estimate that finds nothing dear finds nothing.
    assert!(dearest > 1_000_000, "{dearest}");
}

fn walk(schema: &Value, times: u64, at: &str, told: &mut impl FnMut(&str, u64)) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let text = rule["rule"].as_str().expect("a rule");
        let cost = cost(text, schema).saturating_mul(times);
        told(&format!("{at}: {text}"), cost);
    }
    if let Some(properties) = schema["properties"].as_object() {
        for (name, schema) in properties {
            walk(schema, times, &format!("{at}.{name}"), told);
        }
    }
    if let Some(items) = schema.get("items") {
        let most = schema["maxItems"].as_u64().unwrap_or(LONGEST);
        walk(items, times.saturating_mul(most), &format!("{at}[]"), told);
    }
}

/// What one evaluation may cost: a unit for each word and operator, and more
/// for what goes through texts and lists.
fn cost(text: &str, schema: &Value) -> u64 {
    let mut outside = String::new();
    let mut cost: u64 = 0;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(".all(") {
        let path = before
            .rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '.'))
            .next()
            .expect("a path");
        let list = resolve(path, schema);
        let most = list["maxItems"].as_u64().unwrap_or(LONGEST);
        let length = list["items"]["maxLength"].as_u64().unwrap_or(LONGEST);
        let end = closing(after);
        cost = cost.saturating_add(most.saturating_mul(simple(&after[..end], length * 4)));
        outside.push_str(before);
        rest = &after[end..];
    }
    outside.push_str(rest);
    // Where such a rule looks into a text, it is a net, or else a name without
    // a limit of its own.
    let length = if outside.contains("metadata.name") {
        LONGEST
    } else {
        49 * 4
    };
    cost.saturating_add(simple(&outside, length))
}

/// The cost of an expression without loops, whose texts are of this length.
fn simple(text: &str, length: u64) -> u64 {
    let words = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .count() as u64;
    let operators = text.matches(|c: char| "!=|&<>[(".contains(c)).count() as u64;
    let through = length.div_ceil(10);
    let contains = text.matches(".contains(").count() as u64 * through;
    let matches: u64 = text
        .split(".matches(")
        .skip(1)
        .map(|after| through * (closing(after) as u64).div_ceil(4))
        .sum();
    words + operators + contains + matches
}

/// Where the parenthesis that was opened closes.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return index,
            ')' => depth -= 1,
            _ => {}
        }
    }
    panic!("not closed: {text}");
}

/// The schema of a path that begins with `self`.
fn resolve<'a>(path: &str, schema: &'a Value) -> &'a Value {
    path.split('.')
        .skip(1)
        .fold(schema, |schema, name| &schema["properties"][name])
}
