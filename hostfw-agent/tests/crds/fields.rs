//! The schema and the decoder know the same fields.

use std::collections::BTreeSet;

use hostfw_agent::{
    crd::{self, Crd},
    model::Kind,
    resource::Resource,
};
use serde_json::{Map, Value, json};

/// The schema of a definition.
pub(crate) fn schema(definition: &Crd) -> &Value {
    &definition.value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// A value in which every field is given, of the right type.
fn full(schema: &Value) -> Value {
    if let Some(Value::Array(names)) = schema.get("enum") {
        return names[names.len() - 1].clone();
    }
    if schema.get("x-kubernetes-int-or-string").is_some() {
        return json!(1);
    }
    match schema["type"].as_str() {
        Some("string") => json!("a"),
        Some("integer") => json!(4),
        Some("number") => json!(1.5),
        Some("boolean") => json!(true),
        Some("array") => json!([full(&schema["items"])]),
        Some("object") => {
            let mut fields = Map::new();
            if let Some(Value::Object(properties)) = schema.get("properties") {
                for (name, schema) in properties {
                    fields.insert(name.clone(), full(schema));
                }
            }
            if let Some(values) = schema.get("additionalProperties") {
                fields.insert("key".to_owned(), full(values));
            }
            Value::Object(fields)
        }
        other => panic!("no type that a structural schema has: {other:?} in {schema}"),
    }
}

/// Every object with fields of its own in a schema, as a pointer into a value
/// that [`full`] gave, with the names of its fields.
fn structs(schema: &Value, at: &str, found: &mut Vec<(String, BTreeSet<String>)>) {
    if let Some(Value::Object(properties)) = schema.get("properties") {
        if schema.get("x-kubernetes-preserve-unknown-fields").is_none() {
            found.push((at.to_owned(), properties.keys().cloned().collect()));
        }
        for (name, schema) in properties {
            structs(schema, &format!("{at}/{name}"), found);
        }
    }
    if let Some(items) = schema.get("items") {
        structs(items, &format!("{at}/0"), found);
    }
}

fn object(kind: Kind, schema: &Value) -> Value {
    let mut metadata = json!({"name": "default"});
    if kind.is_namespaced() {
        metadata["namespace"] = json!("default");
    }
    json!({
        "apiVersion": kind.api_version(),
        "kind": kind.name(),
        "metadata": metadata,
        "spec": full(&schema["properties"]["spec"]),
    })
}

#[test]
fn what_the_schema_has_the_decoder_takes_and_keeps() {
    for definition in crd::all() {
        let object = object(definition.kind, schema(&definition));
        let resource = Resource::from_value(&object)
            .unwrap_or_else(|error| panic!("{}: {error}", definition.kind));
        assert_eq!(resource.to_value(), object, "{}", definition.kind);
    }
}

#[test]
fn what_the_decoder_has_the_schema_has() {
    let mut count = 0;
    for definition in crd::all() {
        let schema = schema(&definition);
        let object = object(definition.kind, schema);
        let mut found = Vec::new();
        structs(&schema["properties"]["spec"], "/spec", &mut found);
        for (pointer, fields) in found {
            let mut damaged = object.clone();
            let at = damaged
                .pointer_mut(&pointer)
                .expect("a value for each schema");
            at["unknown"] = json!(1);
            let error = Resource::from_value(&damaged)
                .expect_err(&pointer)
                .to_string();
            // One that stands alone is named so.
            let (_, rest) = error
                .split_once("expected one of the fields ")
                .unwrap_or_else(|| panic!("{pointer}: {error}"));
            let (known, _) = rest.split_once(", found").expect("what was found");
            let known: BTreeSet<String> = known.split(", ").map(str::to_owned).collect();
            assert_eq!(known, fields, "{}{pointer}", definition.kind);
            count += 1;
        }
    }
    // The fields of Felix's spec are left to `validate`, all other to this.
    assert!(count > 40, "{count}");
}

/// What an API server demands of a schema, as far as the types could break it.
#[test]
fn schemas_are_structural() {
    const KNOWN: [&str; 18] = [
        "additionalProperties",
        "anyOf",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maximum",
        "minLength",
        "minimum",
        "pattern",
        "properties",
        "required",
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
    ];
    fn walk(schema: &Value, at: &str) {
        let fields = schema
            .as_object()
            .unwrap_or_else(|| panic!("{at}: {schema}"));
        for field in fields.keys() {
            assert!(KNOWN.contains(&&**field), "{at}: {field}");
        }
        let int_or_string = fields.contains_key("x-kubernetes-int-or-string");
        assert_eq!(fields.contains_key("type"), !int_or_string, "{at}");
        assert!(
            !(fields.contains_key("properties") && fields.contains_key("additionalProperties")),
            "{at}"
        );
        if let Some(Value::Object(properties)) = fields.get("properties") {
            for (name, schema) in properties {
                walk(schema, &format!("{at}.{name}"));
            }
        }
        for within in ["items", "additionalProperties"] {
            if let Some(schema) = fields.get(within) {
                walk(schema, &format!("{at}.{within}"));
            }
        }
    }
    for definition in crd::all() {
        walk(schema(&definition), definition.kind.name());
    }
}
