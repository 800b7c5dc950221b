//! Objects as the API server gives them, and the text that the strict decoder
//! reads.

use std::borrow::Cow;

use kube::{
    Resource,
    core::{ApiResource, DynamicResourceScope, ObjectMeta},
};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::{
    cluster,
    followed::{Followed, Needs},
};
use crate::{model::Kind, source::Text};

/// Where Calico's storage form keeps the user's labels and annotations.
const CALICO_METADATA: &str = "projectcalico.org/metadata";
/// What `kubectl apply` leaves: the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Of `metadata`, what means something to the agent. The version is not among
/// it: what changes it alone is no reason to read the object again.
const METADATA: [&str; 7] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "generation",
    "creationTimestamp",
];

/// The form in which a cluster serves the objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As users write them: `projectcalico.org/v3`.
    Written,
    /// As Calico stores them: `crd.projectcalico.org/v1`.
    Stored,
}

/// Of a node's `metadata`: its agents change the rest now and then.
const NODE_METADATA: [&str; 2] = ["name", "labels"];

/// An object of any shape. What does not look like an object of the API is
/// taken all the same, so that it is told of that object alone.
///
/// `BARE`: the API server is asked for its metadata alone.
#[derive(Clone, Debug)]
pub(super) struct RawObject<const BARE: bool> {
    /// What watching needs.
    metadata: ObjectMeta,
    value: Value,
}

impl<'de, const BARE: bool> Deserialize<'de> for RawObject<BARE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let text = |name: &str| value["metadata"][name].as_str().map(str::to_owned);
        Ok(Self {
            metadata: ObjectMeta {
                name: text("name"),
                namespace: text("namespace"),
                resource_version: text("resourceVersion"),
                ..ObjectMeta::default()
            },
            value,
        })
    }
}

impl<const BARE: bool> Resource for RawObject<BARE> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }

    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }

    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }

    fn api_version(of: &ApiResource) -> Cow<'_, str> {
        of.api_version.as_str().into()
    }

    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }

    fn metadata_api() -> bool {
        BARE
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<const BARE: bool> RawObject<BARE> {
    /// What stands for the name of a file: `HostEndpoint/node1-eth0`, by the
    /// name under which the object is stored.
    pub(super) fn path(&self, kind: Followed) -> String {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        match &self.metadata.namespace {
            Some(namespace) => format!("{kind}/{namespace}/{name}"),
            None => format!("{kind}/{name}"),
        }
    }

    /// The object as a user would have written it, or what it stands for; `None`
    /// if that is nothing. And what it refers to.
    ///
    /// # Errors
    ///
    /// If what Calico adds to its storage form cannot be understood, or what is
    /// asked of an object of Kubernetes is of the wrong type.
    pub(super) fn into_text(
        self,
        followed: Followed,
        form: Form,
    ) -> Result<Option<(Text, Needs)>, String> {
        let value = match followed {
            Followed::Kind(Kind::EndpointSlice) => cluster::slice(self.value)?,
            Followed::Kind(kind) => self.into_value(kind, form)?,
            Followed::Namespace => cluster::namespace(self.value)?,
            Followed::ServiceAccount => cluster::service_account(self.value)?,
            Followed::Pod => match cluster::pod(self.value)? {
                Some(value) => value,
                None => return Ok(None),
            },
        };
        let needs = followed.needs_of(&value);
        Ok(Some((Text::from(value.to_string()), needs)))
    }

    fn into_value(self, kind: Kind, form: Form) -> Result<Value, String> {
        let mut value = self.value;
        // Anything but an object is for the decoder to tell.
        if let Some(object) = value.as_object_mut() {
            object.remove("status");
            // Not everyone who is asked for metadata alone gives no more.
            if BARE {
                object.remove("spec");
            }
            object.insert("apiVersion".to_owned(), json!(kind.api_version()));
            object.insert("kind".to_owned(), json!(kind.name()));
            if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
                let kept: &[&str] = match kind {
                    Kind::Node => &NODE_METADATA,
                    Kind::FelixConfiguration
                    | Kind::GlobalNetworkPolicy
                    | Kind::GlobalNetworkSet
                    | Kind::HostEndpoint
                    | Kind::HostEndpointTemplate
                    | Kind::NetworkSet
                    | Kind::NodeAddresses
                    | Kind::Profile
                    | Kind::StagedGlobalNetworkPolicy
                    | Kind::Tier
                    | Kind::EndpointSlice
                    | Kind::WorkloadEndpoint => &METADATA,
                };
                metadata.retain(|name, _| kept.contains(&name.as_str()));
                let stored = clean_annotations(metadata);
                if form == Form::Stored {
                    if let Some(stored) = stored {
                        merge_metadata(metadata, &stored)?;
                    }
                    restore(kind, object);
                }
            }
        }
        Ok(value)
    }
}

/// Removes the annotations that are others' and large, and gives Calico's.
fn clean_annotations(metadata: &mut Map<String, Value>) -> Option<Value> {
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    annotations.remove(LAST_APPLIED);
    let calicos = annotations.remove(CALICO_METADATA);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    calicos
}

/// Puts the labels and annotations of the user back in their places (Calico:
/// libcalico-go/lib/backend/k8s/resources/resources.go).
fn merge_metadata(metadata: &mut Map<String, Value>, stored: &Value) -> Result<(), String> {
    let wrong = |found: &str| {
        format!(
            "metadata.annotations[{CALICO_METADATA}]: expected a JSON object with labels and \
             annotations, found {found}"
        )
    };
    let text = stored.as_str().ok_or_else(|| wrong("no text"))?;
    let stored: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| wrong(&format!("something else: {error}")))?;
    for field in ["labels", "annotations"] {
        match stored.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::Object(theirs)) => {
                let ours = metadata
                    .entry(field)
                    .or_insert_with(|| Value::Object(Map::new()));
                if ours.is_null() {
                    *ours = Value::Object(Map::new());
                }
                // Anything else is for the decoder to tell.
                if let Some(ours) = ours.as_object_mut() {
                    ours.extend(theirs.clone());
                }
            }
            Some(_) => return Err(wrong(&format!("{field} that are no object"))),
        }
    }
    Ok(())
}

/// Undoes what Calico does to policies when it stores them.
fn restore(kind: Kind, object: &mut Map<String, Value>) {
    let staged = match kind {
        Kind::GlobalNetworkPolicy => false,
        Kind::StagedGlobalNetworkPolicy => true,
        Kind::FelixConfiguration
        | Kind::GlobalNetworkSet
        | Kind::HostEndpoint
        | Kind::HostEndpointTemplate
        | Kind::NetworkSet
        | Kind::Node
        | Kind::NodeAddresses
        | Kind::Profile
        | Kind::EndpointSlice
        | Kind::Tier
        | Kind::WorkloadEndpoint => return,
    };
    let tier = object.get("spec").and_then(|spec| spec.get("tier"));
    let in_default = match tier {
        None | Some(Value::Null) => true,
        Some(tier) => tier == "default" || tier == "",
    };
    if in_default
        && let Some(Value::Object(metadata)) = object.get_mut("metadata")
        && let Some(Value::String(name)) = metadata.get_mut("name")
        && let Some(bare) = name
            .strip_prefix("default.")
            .filter(|bare| !bare.is_empty())
    {
        *name = bare.to_owned();
    }
    let spec = object
        .entry("spec")
        .or_insert_with(|| Value::Object(Map::new()));
    let Some(spec) = spec.as_object_mut() else {
        return;
    };
    // One that takes a policy away has nothing else.
    if staged && spec.get("stagedAction").is_some_and(|it| it == "Delete") {
        return;
    }
    let without = match spec.get("types") {
        None | Some(Value::Null) => true,
        Some(types) => types.as_array().is_some_and(Vec::is_empty),
    };
    if without {
        spec.insert("types".to_owned(), json!(["Ingress", "Egress"]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, form: Form, value: Value) -> Result<Value, String> {
        let raw: RawObject<false> = serde_json::from_value(value).unwrap();
        raw.into_value(kind, form)
    }

    #[test]
    fn what_the_server_adds_is_left_out() {
        let object = json!({
            "apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint",
            "metadata": {
                "name": "a", "resourceVersion": "7", "generation": 2, "selfLink": "/x",
                "managedFields": [{"manager": "kubectl"}], "ownerReferences": [{}],
                "annotations": {LAST_APPLIED: "{}", "mine": "kept"},
            },
            "spec": {"node": "node1"},
            "status": {"conditions": []},
        });
        assert_eq!(
            read(Kind::HostEndpoint, Form::Written, object).unwrap(),
            json!({
                "apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint",
                "metadata": {"name": "a", "generation": 2, "annotations": {"mine": "kept"}},
                "spec": {"node": "node1"},
            })
        );
    }

    #[test]
    fn what_is_unknown_is_left_to_the_decoder() {
        for odd in [
            json!({"metadata": {"name": "a", "labels": ["x"]}, "spec": 3, "more": true}),
            json!({"metadata": 4}),
            json!({}),
        ] {
            let read = read(Kind::Tier, Form::Stored, odd.clone()).unwrap();
            for (field, value) in odd.as_object().unwrap() {
                assert_eq!(read[field], *value);
            }
        }
        let raw: RawObject<false> = serde_json::from_value(json!("text")).unwrap();
        assert_eq!(raw.path(Followed::Kind(Kind::Tier)), "Tier/");
        let (text, _) = raw
            .into_text(Followed::Kind(Kind::Tier), Form::Stored)
            .unwrap()
            .unwrap();
        assert_eq!(&*text, "\"text\"");
    }

    #[test]
    fn labels_come_back_from_the_annotation() {
        let object = json!({
            "metadata": {
                "name": "a", "labels": {"both": "outer", "outer": "1"},
                "annotations": {
                    CALICO_METADATA:
                        r#"{"labels":{"both":"inner"},"annotations":{"note":"x"},"uid":"y"}"#,
                },
            },
            "spec": {},
        });
        let stored = read(Kind::GlobalNetworkSet, Form::Stored, object.clone()).unwrap();
        assert_eq!(
            stored["metadata"],
            json!({
                "name": "a", "labels": {"both": "inner", "outer": "1"},
                "annotations": {"note": "x"},
            })
        );
        // In what users write it means nothing.
        let written = read(Kind::GlobalNetworkSet, Form::Written, object).unwrap();
        assert_eq!(
            written["metadata"]["labels"],
            json!({"both": "outer", "outer": "1"})
        );
        for broken in [json!("{"), json!("[]"), json!(r#"{"labels":1}"#), json!(3)] {
            let object = json!({"metadata": {"annotations": {CALICO_METADATA: broken}}});
            let error = read(Kind::HostEndpoint, Form::Stored, object).unwrap_err();
            assert!(error.contains("expected a JSON object"), "{error}");
        }
    }

    #[test]
    fn stored_policies_lose_the_prefix_and_get_types() {
        let policy = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
        let both = json!(["Ingress", "Egress"]);
        for (name, spec, expected_name, types) in [
            ("default.a", json!({}), "a", both.clone()),
            ("default.a", json!({"tier": "default"}), "a", both.clone()),
            ("default.a", json!({"tier": "t"}), "default.a", both.clone()),
            (
                "t.a",
                json!({"tier": "t", "types": []}),
                "t.a",
                both.clone(),
            ),
            ("a", json!({"types": ["Egress"]}), "a", json!(["Egress"])),
        ] {
            let given = policy(name, spec.clone());
            let read_as = |kind, form| read(kind, form, given.clone()).unwrap();
            for kind in [Kind::GlobalNetworkPolicy, Kind::StagedGlobalNetworkPolicy] {
                let stored = read_as(kind, Form::Stored);
                assert_eq!(stored["metadata"]["name"], expected_name);
                assert_eq!(stored["spec"]["types"], types);
            }
            let written = read_as(Kind::GlobalNetworkPolicy, Form::Written);
            assert_eq!(written["metadata"]["name"], name);
            assert_eq!(written["spec"], spec);
        }
        let delete = policy("default.a", json!({"stagedAction": "Delete"}));
        let delete = read(Kind::StagedGlobalNetworkPolicy, Form::Stored, delete).unwrap();
        assert_eq!(delete["spec"], json!({"stagedAction": "Delete"}));
        let tier = policy("default.a", json!({}));
        let tier = read(Kind::Tier, Form::Stored, tier).unwrap();
        assert_eq!(tier["metadata"]["name"], "default.a");
    }
}
