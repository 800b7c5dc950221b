//! What the server by script does with single objects: reading, creating,
//! replacing, applying and deleting them, with the codes and reasons of a real
//! one.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Answer, World, not_found};

/// A request for something else than a list or a watch.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) query: &'a BTreeMap<&'a str, &'a str>,
    pub(super) content_type: &'a str,
    pub(super) body: &'a str,
}

/// Which object is asked for; without a name, one that is to be created.
pub(super) struct Target<'a> {
    pub(super) version: &'a str,
    pub(super) namespace: Option<&'a str>,
    pub(super) plural: &'a str,
    pub(super) name: Option<&'a str>,
}

fn failure(code: u16, reason: &str, message: &str) -> Answer {
    Answer::Whole(
        code,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code}),
    )
}

impl World {
    pub(super) fn single(&mut self, target: &Target<'_>, request: &Request<'_>) -> Answer {
        let Some((kind, plural)) = self.served_as(target.version, target.plural) else {
            return not_found();
        };
        let collection = self.collections.entry(plural).or_default();
        let refused = match request.method {
            "GET" => collection.refused,
            _ => collection.refuses_writes,
        };
        if let Some(code) = refused {
            let message = format!("{plural} is refused by script");
            return failure(code, "Script", &message);
        }
        let found = target.name.and_then(|name| collection.objects.get(name));
        let found = found.cloned();
        match (request.method, target.name, found) {
            ("GET", Some(_), Some(object)) => Answer::Whole(200, object),
            ("PATCH", Some(name), found) => self.apply(kind, target, name, found, request),
            ("POST", None, _) => self.create(kind, target, request),
            ("PUT", Some(_), Some(object)) => self.replace(kind, target, &object, request),
            ("DELETE", Some(name), Some(_)) => {
                self.remove(kind, name);
                Answer::Whole(
                    200,
                    json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
                        "status": "Success"}),
                )
            }
            ("GET" | "PUT" | "DELETE", Some(name), None) => {
                failure(404, "NotFound", &format!("{plural} \"{name}\" not found"))
            }
            (method, ..) => failure(
                405,
                "MethodNotAllowed",
                &format!("{method} is not supported"),
            ),
        }
    }

    fn create(&mut self, kind: &'static str, target: &Target<'_>, request: &Request<'_>) -> Answer {
        let object = match read(kind, target, request) {
            Ok(object) => object,
            Err(answer) => return answer,
        };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            let message = "metadata.name: Required value: name or generateName is required";
            return failure(422, "Invalid", message);
        }
        if object["metadata"]["resourceVersion"].is_string() {
            let message = "resourceVersion should not be set on objects to be created";
            return failure(400, "BadRequest", message);
        }
        if self.collections[target.plural].objects.contains_key(name) {
            let message = format!("{} \"{name}\" already exists", target.plural);
            return failure(409, "AlreadyExists", &message);
        }
        Answer::Whole(201, self.store(kind, None, object))
    }

    fn replace(
        &mut self,
        kind: &'static str,
        target: &Target<'_>,
        before: &Value,
        request: &Request<'_>,
    ) -> Answer {
        let object = match read(kind, target, request) {
            Ok(object) => object,
            Err(answer) => return answer,
        };
        let version = &object["metadata"]["resourceVersion"];
        if version.is_null() {
            let message = "metadata.resourceVersion: Invalid value: 0: must be specified for an \
                           update";
            return failure(422, "Invalid", message);
        }
        if *version != before["metadata"]["resourceVersion"] {
            let message = format!(
                "Operation cannot be fulfilled on {} {}: the object has been modified; please \
                 apply your changes to the latest version and try again",
                target.plural, before["metadata"]["name"]
            );
            return failure(409, "Conflict", &message);
        }
        Answer::Whole(200, self.store(kind, Some(before), object))
    }

    /// Server-side apply: what a manager has applied before and leaves out now
    /// goes, and what another one has applied is taken from it by force alone.
    fn apply(
        &mut self,
        kind: &'static str,
        target: &Target<'_>,
        name: &str,
        before: Option<Value>,
        request: &Request<'_>,
    ) -> Answer {
        if !request
            .content_type
            .starts_with("application/apply-patch+yaml")
        {
            let message = "this server takes no patch but those that are applied";
            return failure(415, "UnsupportedMediaType", message);
        }
        let Some(manager) = request.query.get("fieldManager") else {
            let message = "fieldManager: Required value: is required for apply patch";
            return failure(422, "Invalid", message);
        };
        let object = match read(kind, target, request) {
            Ok(object) => object,
            Err(answer) => return answer,
        };
        let metadata = &object["metadata"];
        if metadata["managedFields"].is_array() {
            return failure(400, "BadRequest", "metadata.managedFields must be nil");
        }
        if metadata["name"] != json!(name) {
            let message = "the name of the object does not match the name on the URL";
            return failure(400, "BadRequest", message);
        }
        let version = &metadata["resourceVersion"];
        let now = before.as_ref().map(|it| &it["metadata"]["resourceVersion"]);
        if !version.is_null() && Some(version) != now {
            return failure(409, "Conflict", "the object has been modified");
        }
        let force = request.query.get("force").is_some_and(|it| *it == "true");
        let applied = self.applied.entry((kind, name.to_owned())).or_default();
        if before.is_none() {
            applied.clear();
        }
        for (other, theirs) in applied.iter_mut().filter(|(other, _)| other != manager) {
            if !differ(theirs, &object, "") {
                continue;
            }
            if !force {
                let message = format!("Apply failed with 1 conflict: conflict with {other:?}");
                return failure(409, "Conflict", &message);
            }
            drop_what(theirs, &object);
        }
        let mine = applied.insert((*manager).to_owned(), object.clone());
        let others: Vec<Value> = applied
            .iter()
            .filter(|(other, _)| other != manager)
            .map(|(_, theirs)| theirs.clone())
            .collect();
        let mut new = before.clone().unwrap_or_else(|| json!({}));
        if let Some(mine) = mine {
            drop_what(&mut new, &mine);
        }
        for part in others.iter().chain([&object]) {
            merge(&mut new, part);
        }
        if before.as_ref() == Some(&new) {
            return Answer::Whole(200, new);
        }
        let code = if before.is_some() { 200 } else { 201 };
        Answer::Whole(code, self.store(kind, before.as_ref(), new))
    }

    /// Gives the object what only a server gives, and tells who watches.
    fn store(&mut self, kind: &'static str, before: Option<&Value>, mut object: Value) -> Value {
        let next = self.version + 1;
        let metadata = &mut object["metadata"];
        match before {
            None => {
                metadata["uid"] = json!(format!("00000000-0000-4000-8000-{next:012}"));
                metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
                metadata["generation"] = json!(1);
            }
            Some(before) => {
                let kept = &before["metadata"];
                metadata["uid"] = kept["uid"].clone();
                metadata["creationTimestamp"] = kept["creationTimestamp"].clone();
                let same = before["spec"] == object["spec"];
                let generation = before["metadata"]["generation"].as_u64().unwrap_or(1);
                object["metadata"]["generation"] = json!(generation + u64::from(!same));
            }
        }
        self.put(kind, object)
    }
}

/// The object that is sent.
fn read(kind: &str, target: &Target<'_>, request: &Request<'_>) -> Result<Value, Answer> {
    let bad = |message: &str| failure(400, "BadRequest", message);
    let mut object: Value = serde_json::from_str(request.body)
        .map_err(|error| bad(&format!("the body cannot be read: {error}")))?;
    if object["apiVersion"] != json!(target.version) || object["kind"] != json!(kind) {
        let message = format!("expected {kind} of {}, found another kind", target.version);
        return Err(bad(&message));
    }
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return Err(bad("no metadata"));
    };
    if let Some(namespace) = target.namespace {
        let given = metadata
            .entry("namespace")
            .or_insert_with(|| json!(namespace));
        if *given != json!(namespace) {
            let message = "the namespace of the provided object does not match the namespace sent \
                           on the request";
            return Err(bad(message));
        }
    }
    Ok(object)
}

/// Lays one object over another. Lists are replaced as a whole.
fn merge(below: &mut Value, above: &Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (field, value) in above {
                merge(below.entry(field).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above.clone(),
    }
}

/// Takes the leaves of one object out of another.
fn drop_what(from: &mut Value, leaves: &Value) {
    let (Value::Object(from), Value::Object(leaves)) = (from, leaves) else {
        return;
    };
    for (field, leaf) in leaves {
        let goes = match (from.get_mut(field), leaf) {
            (Some(value @ Value::Object(_)), Value::Object(_)) => {
                drop_what(value, leaf);
                value.as_object().is_some_and(Map::is_empty)
            }
            _ => true,
        };
        if goes {
            from.remove(field);
        }
    }
}

/// Whether two objects say something else of one field.
fn differ(one: &Value, other: &Value, field: &str) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => one.iter().any(|(field, value)| {
            let theirs = other.get(field);
            theirs.is_some_and(|theirs| differ(value, theirs, field))
        }),
        // Whose these are is of no concern.
        _ => !["apiVersion", "kind", "name"].contains(&field) && one != other,
    }
}
