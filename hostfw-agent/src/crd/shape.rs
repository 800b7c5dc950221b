//! From the JSON schema of a type to a structural schema, as API servers want
//! it.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::{model::Kind, resource::spec_schema};

/// The schema of a kind's `spec`.
pub(super) fn of_spec(kind: Kind) -> Value {
    let mut settings = SchemaSettings::draft07();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = spec_schema(kind, &mut settings.into_generator()).to_value();
    restructure(&mut schema);
    schema
}

/// Leaves out what only other uses of JSON schema have, all the way down.
fn restructure(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    for unused in ["$schema", "title", "default"] {
        fields.remove(unused);
    }
    unite_variants(fields);
    // An absent field is absent, or null, which says the same.
    if let Some(Value::Array(types)) = fields.get("type") {
        let of_value = types.iter().find(|one| *one != "null").cloned();
        fields.insert("type".to_owned(), of_value.unwrap_or(Value::Null));
    }
    match fields.get("additionalProperties") {
        // Unknown fields are what strict field validation refuses.
        Some(Value::Bool(false)) => {
            fields.remove("additionalProperties");
        }
        Some(Value::Bool(true)) => {
            fields.remove("additionalProperties");
            fields.insert(
                "x-kubernetes-preserve-unknown-fields".to_owned(),
                json!(true),
            );
        }
        Some(_) | None => {}
    }
    if let Some(Value::String(text)) = fields.get_mut("description") {
        *text = text.replace('\n', " ").replace(['`', '[', ']'], "");
    }
    for within in ["items", "additionalProperties"] {
        if let Some(schema) = fields.get_mut(within) {
            restructure(schema);
        }
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(restructure);
    }
}

/// `anyOf` of something and null is that something, and variants by name are an
/// `enum`.
fn unite_variants(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(variants)) = fields.remove("anyOf") {
        for variant in variants.into_iter().filter(|one| one["type"] != "null") {
            if let Value::Object(variant) = variant {
                let own = std::mem::take(fields);
                fields.extend(variant);
                // What a field is for says more than what its type is.
                fields.extend(own);
            }
        }
    }
    if let Some(Value::Array(variants)) = fields.remove("oneOf") {
        let names: Vec<Value> = variants
            .iter()
            .flat_map(|one| match (one.get("const"), one.get("enum")) {
                (Some(name), _) => vec![name.clone()],
                (None, Some(Value::Array(names))) => names.clone(),
                (None, _) => Vec::new(),
            })
            .collect();
        fields.insert("type".to_owned(), json!("string"));
        fields.insert("enum".to_owned(), Value::Array(names));
    }
}
