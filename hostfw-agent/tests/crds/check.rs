//! Checks a value by a schema as an API server does: what is no CEL by
//! ourselves, CEL by an interpreter of it.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use cel::{Context, Env, Program, Value as Cel, objects::Map as CelMap};
use regex_lite::Regex;
use serde_json::Value;

/// Everything that is wrong with a value.
pub(crate) fn check(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(schema, value, "", &mut found);
    found
}

fn walk(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let fits = match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => value.is_i64() || value.is_u64() || value.is_string(),
    };
    if !fits {
        found.push(format!("{at}: another type"));
        return;
    }
    if let Some(names) = schema["enum"].as_array()
        && !names.contains(value)
    {
        found.push(format!("{at}: not in enum"));
    }
    bounds(schema, value, at, found);
    if let Some(choices) = schema["anyOf"].as_array()
        && !choices.iter().any(|choice| {
            let mut wrong = Vec::new();
            let choice = with_type(choice, schema);
            walk(&choice, value, "", &mut wrong);
            wrong.is_empty()
        })
    {
        found.push(format!("{at}: anyOf"));
    }
    if let Value::Object(fields) = value {
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().expect("a name");
            if !fields.contains_key(name) {
                found.push(format!("{at}.{name}: missing"));
            }
        }
        for (name, value) in fields {
            let own = schema["properties"].get(name);
            if let Some(schema) = own.or_else(|| schema.get("additionalProperties")) {
                walk(schema, value, &format!("{at}.{name}"), found);
            }
        }
    }
    if let Value::Array(items) = value {
        for (index, item) in items.iter().enumerate() {
            walk(&schema["items"], item, &format!("{at}[{index}]"), found);
        }
    }
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let text = rule["rule"].as_str().expect("a rule");
        if !holds(text, schema, value) {
            found.push(format!("{at}: {}", rule["message"].as_str().expect("why")));
        }
    }
}

/// A choice of a schema has only constraints, and the types of the schema.
fn with_type(choice: &Value, schema: &Value) -> Value {
    let mut choice = choice.clone();
    choice["type"] = schema["type"].clone();
    if choice.get("items").is_some() {
        choice["items"]["type"] = schema["items"]["type"].clone();
    }
    choice
}

/// Bounds and patterns, each of which is about values of one type only.
fn bounds(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let limit = |name: &str| schema[name].as_f64();
    let mut check = |name: &str, actual: f64, fits: fn(f64, f64) -> bool| {
        if let Some(limit) = limit(name)
            && !fits(actual, limit)
        {
            found.push(format!("{at}: {name}"));
        }
    };
    let most = |actual: f64, limit: f64| actual <= limit;
    let least = |actual: f64, limit: f64| actual >= limit;
    if let Some(number) = value.as_f64() {
        check("minimum", number, least);
        check("maximum", number, most);
    }
    if let Value::Array(items) = value {
        check("maxItems", items.len() as f64, most);
    }
    if let Value::String(text) = value {
        let length = text.chars().count() as f64;
        check("minLength", length, least);
        check("maxLength", length, most);
        if let Some(pattern) = schema["pattern"].as_str()
            && !Regex::new(pattern).expect("a pattern").is_match(text)
        {
            found.push(format!("{at}: pattern"));
        }
    }
}

/// Whether a rule holds for a value. That it can be evaluated is part of that.
fn holds(rule: &str, schema: &Value, value: &Value) -> bool {
    thread_local! {
        static ENV: Arc<Env> = Arc::new(Env::stdlib());
        static COMPILED: RefCell<BTreeMap<String, Program>> = RefCell::default();
    }
    let env = ENV.with(Arc::clone);
    COMPILED.with_borrow_mut(|compiled| {
        let program = compiled.entry(rule.to_owned()).or_insert_with(|| {
            env.compile(rule)
                .unwrap_or_else(|error| panic!("{rule}: {error}"))
        });
        let mut context = Context::with_env(Arc::clone(&env));
        context
            .add_variable("self", cel(schema, value))
            .expect("a variable");
        match program.execute(&context) {
            Ok(Cel::Bool(holds)) => holds,
            other => panic!("{rule} for {value}: {other:?}"),
        }
    })
}

/// A value as the schema types it.
fn cel(schema: &Value, value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) if schema["type"] == "number" => {
            Cel::Float(number.as_f64().expect("a finite number"))
        }
        Value::Number(number) => Cel::Int(number.as_i64().expect("a whole number")),
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(
            items
                .iter()
                .map(|item| cel(&schema["items"], item))
                .collect(),
        )),
        Value::Object(fields) => {
            let fields: std::collections::HashMap<String, Cel> = fields
                .iter()
                .map(|(name, value)| {
                    let own = schema["properties"].get(name);
                    let schema = own.or_else(|| schema.get("additionalProperties"));
                    (name.clone(), cel(schema.unwrap_or(&Value::Null), value))
                })
                .collect();
            Cel::Map(CelMap::from(fields))
        }
    }
}
