//! One Event for each object that is not valid, the same from all nodes.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use serde_json::{Value, json};

use crate::{model::Kind, observe::status::Problem, source::Text};

/// Longest `note` (Kubernetes: pkg/apis/core/validation/events.go).
const NOTE: usize = 1024;
/// Most bytes of an object's name in the name of its Event: with the rest, a
/// name has at most 253.
const NAME: usize = 200;
/// Where Events about objects without a namespace are.
const DEFAULT: &str = "default";

/// Something wrong with one object, as every node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    /// Name of the Event: of the object's version and what is wrong with it.
    pub(super) name: String,
    /// Its namespace.
    pub(super) namespace: String,
    regarding: Value,
    note: String,
}

impl Invalid {
    /// `None` if the problem is not about one object of the cluster. `text`:
    /// the object as the API server gave it.
    pub(super) fn of(problem: &Problem, text: Option<&Text>) -> Option<Self> {
        problem.object.as_ref()?;
        let path = problem.file.as_ref()?;
        let (kind, name) = path.split_once('/')?;
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind)?;
        let (namespace, name) = match name.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, name),
        };
        let object: Value = text
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let metadata = &object["metadata"];
        let uid = metadata["uid"].as_str().unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        (path, uid, metadata["generation"].as_u64()).hash(&mut hasher);
        problem.message.hash(&mut hasher);
        let mut regarding = json!({"apiVersion": kind.api_version(), "kind": kind.name(),
            "name": name, "namespace": namespace, "uid": uid});
        if let Some(fields) = regarding.as_object_mut() {
            fields.retain(|_, value| !value.is_null() && *value != json!(""));
        }
        let mut short: String = name
            .chars()
            .filter(|it| matches!(it, 'a'..='z' | '0'..='9' | '-' | '.'))
            .take(NAME)
            .collect();
        // A label of a name ends as it begins.
        short.truncate(short.trim_end_matches(['.', '-']).len());
        let short = short.trim_start_matches(['.', '-']);
        let short = if short.is_empty() { "object" } else { short };
        let note = &problem.message;
        Some(Self {
            name: format!("{short}.{:016x}", hasher.finish()),
            namespace: namespace.unwrap_or(DEFAULT).to_owned(),
            regarding,
            note: note[..note.floor_char_boundary(NOTE)].to_owned(),
        })
    }

    /// The Event, as it is created. `node`: who tells it.
    pub(super) fn event(&self, node: &str) -> Value {
        json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "eventTime": MicroTime(Timestamp::now()),
            "type": "Warning",
            "reason": "Invalid",
            "action": "Validate",
            "reportingController": "hostfw.io/agent",
            "reportingInstance": node[..node.floor_char_boundary(128)],
            "regarding": self.regarding,
            "note": self.note,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(path: &str, message: &str) -> Problem {
        Problem {
            file: Some(path.to_owned()),
            object: Some("Tier(a)".to_owned()),
            message: message.to_owned(),
        }
    }

    fn text(uid: &str, generation: u64) -> Text {
        let object = json!({"metadata": {"name": "a", "uid": uid, "generation": generation}});
        Text::from(object.to_string())
    }

    #[test]
    fn all_nodes_tell_the_same_once() {
        let name = |path: &str, message: &str, uid: &str, generation| {
            let invalid = Invalid::of(&problem(path, message), Some(&text(uid, generation)));
            invalid.unwrap().name
        };
        let first = name("Tier/a", "wrong", "u", 1);
        assert!(first.starts_with("a."), "{first}");
        assert_eq!(first, name("Tier/a", "wrong", "u", 1));
        for other in [
            name("Tier/a", "wrong", "u", 2),
            name("Tier/a", "wrong", "v", 1),
            name("Tier/a", "worse", "u", 1),
            name("Profile/a", "wrong", "u", 1),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn an_event_is_what_a_server_takes() {
        let long = "ä".repeat(2000);
        let invalid = Invalid::of(&problem("NetworkSet/web/a", &long), Some(&text("u", 1)));
        let invalid = invalid.unwrap();
        let event = invalid.event("node1");
        assert_eq!(event["metadata"]["namespace"], "web");
        assert_eq!(
            event["regarding"],
            json!({"apiVersion": "projectcalico.org/v3", "kind": "NetworkSet", "name": "a",
                "namespace": "web", "uid": "u"})
        );
        assert!(event["note"].as_str().unwrap().len() <= NOTE);
        // With microseconds: 2026-01-01T00:00:00.000000Z
        let time = event["eventTime"].as_str().unwrap();
        assert_eq!((time.len(), &time[19..20]), (27, "."), "{time}");

        let odd = Invalid::of(&problem("Tier/../Ä", "wrong"), None).unwrap();
        assert!(odd.name.starts_with("object."), "{}", odd.name);
        assert_eq!(Invalid::of(&problem("Tier", "away"), None), None);
        let mut nobody = problem("Tier/a", "wrong");
        nobody.object = None;
        assert_eq!(Invalid::of(&nobody, None), None);
    }
}
