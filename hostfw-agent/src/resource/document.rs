//! From a text to documents, and from a document to objects.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    HostEndpointSpec, Metadata, Object, Problem, Resource, ResourceError,
    decode::{self, FieldError, quote},
    plain::Items,
    syntax::{Piece, Tree, split},
};
use crate::model::{Kind, ObjectRef};

/// One document of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its number; the first is 1. Empty documents do not count.
    pub index: usize,
    /// The line where it begins; the first is 1.
    pub line: usize,
    /// Its objects: one, or those of a list. A list is taken whole or not at
    /// all.
    pub result: Result<Vec<Resource>, ResourceError>,
}

/// Reads a text: YAML or JSON, one document or several (`---`, or JSON values
/// in a row), objects or lists of them. An error in one document does not
/// touch the others. A text without documents gives an empty list.
#[must_use]
pub fn parse_documents(text: &str) -> Vec<Document> {
    let mut documents = Vec::new();
    for piece in split(text) {
        let read = piece.documents(documents.len() + 1);
        documents.extend(read);
    }
    documents
}

impl Piece<'_> {
    /// The documents of this piece of a text, of which the first has this
    /// number.
    #[must_use]
    pub fn documents(&self, first: usize) -> Vec<Document> {
        let trees = self.trees().into_iter().zip(first..);
        trees.map(|(tree, index)| document(tree, index)).collect()
    }

    /// As [`documents`](Self::documents); and where the networks of the only
    /// document stand in the piece, if it is a single set and that is known.
    pub(crate) fn documents_and_nets(&self) -> (Vec<Document>, Option<Items>) {
        let mut trees = self.trees();
        let nets = match &mut trees[..] {
            [only] => only.nets.take(),
            _ => None,
        };
        let documents: Vec<_> = trees
            .into_iter()
            .zip(1..)
            .map(|(tree, index)| document(tree, index))
            .collect();
        let is_set = matches!(
            documents.first().map(|document| document.result.as_deref()),
            Some(Ok(
                [Resource::GlobalNetworkSet(_) | Resource::NetworkSet(_)]
            ))
        );
        (documents, nets.filter(|_| is_set))
    }
}

fn document(tree: Tree, index: usize) -> Document {
    let Tree { line, value, .. } = tree;
    Document {
        index,
        line,
        result: match value {
            Ok(value) => objects(&value).map_err(|failure| failure.in_document(index, line)),
            Err(syntax) => Err(ResourceError {
                document: index,
                object: None,
                problem: Problem::Syntax {
                    line: syntax.line,
                    column: syntax.column,
                    message: syntax.message,
                },
            }),
        },
    }
}

/// Why an object could not be read, before it is known where it stands.
pub(super) struct Failure {
    object: Option<ObjectRef>,
    field: FieldError,
}

impl Failure {
    fn new(object: Option<ObjectRef>, path: &str, expected: &str, found: String) -> Self {
        Self {
            object,
            field: FieldError {
                path: path.to_owned(),
                expected: expected.to_owned(),
                found,
            },
        }
    }

    pub(super) fn in_document(self, document: usize, line: usize) -> ResourceError {
        ResourceError {
            document,
            object: self.object,
            problem: Problem::Field {
                path: self.field.path,
                expected: self.field.expected,
                found: self.field.found,
                line,
            },
        }
    }

    fn within(mut self, parent: &str) -> Self {
        let path = &mut self.field.path;
        *path = if path.is_empty() {
            parent.to_owned()
        } else {
            format!("{parent}.{path}")
        };
        self
    }
}

/// `kind: List`, or a list of one kind.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct List {
    api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: Value,
    items: Vec<Value>,
}

fn objects(value: &Value) -> Result<Vec<Resource>, Failure> {
    let kind = value.get("kind").and_then(Value::as_str);
    let Some(of) = kind.and_then(|kind| kind.strip_suffix("List")) else {
        return Ok(vec![object(value)?]);
    };
    let list: List = decode::decode(value).map_err(|field| Failure {
        object: None,
        field,
    })?;
    let of = if of.is_empty() {
        None
    } else {
        Some(known_kind(of, "List").map_err(|field| Failure {
            object: None,
            field,
        })?)
    };
    // calicoctl calls the version of a list of all kinds its own.
    let (expected, also) = match of {
        None => ("v1", Kind::HostEndpoint.api_version()),
        Some(kind) => (kind.api_version(), kind.api_version()),
    };
    if list.api_version != expected && list.api_version != also {
        return Err(Failure::new(
            None,
            "apiVersion",
            expected,
            quote(&list.api_version),
        ));
    }
    list.items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            item_of(item, of).map_err(|failure| failure.within(&format!("items[{index}]")))
        })
        .collect()
}

/// Reads an item of a list of one kind, or of all.
fn item_of(item: &Value, of: Option<Kind>) -> Result<Resource, Failure> {
    let resource = object(item)?;
    match of {
        Some(of) if of != resource.kind() => Err(Failure::new(
            Some(resource.object_ref()),
            "kind",
            of.name(),
            resource.kind().name().to_owned(),
        )),
        Some(_) | None => Ok(resource),
    }
}

/// Everything of an object.
#[derive(Deserialize)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    bound = "S: Deserialize<'de> + Default"
)]
struct Envelope<S> {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: S,
}

/// Reads one object, strictly.
pub(super) fn object(value: &Value) -> Result<Resource, Failure> {
    let Value::Object(fields) = value else {
        return Err(
            decode::decode::<Envelope<HostEndpointSpec>>(value).map_or_else(
                |field| Failure {
                    object: None,
                    field,
                },
                |_| Failure::new(None, "", "an object", "something else".to_owned()),
            ),
        );
    };
    let text = |name: &str, expected: &str| match fields.get(name) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(Value::Null) | None => Err(Failure::new(None, name, expected, "nothing".to_owned())),
        Some(other) => Err(Failure::new(
            None,
            name,
            expected,
            quote(&other.to_string()),
        )),
    };
    let kind = known_kind(text("kind", KINDS)?, "").map_err(|field| Failure {
        object: None,
        field,
    })?;
    let name = value
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let namespace = value
        .pointer("/metadata/namespace")
        .and_then(Value::as_str)
        .filter(|namespace| kind.is_namespaced() && !namespace.is_empty());
    // A name that cannot be one would only swell the message.
    let fits = |text: &str| (1..=LONGEST_NAME).contains(&text.len());
    let known =
        (fits(name) && namespace.is_none_or(fits)).then(|| ObjectRef::new(kind, namespace, name));
    let failed = |field| Failure {
        object: known.clone(),
        field,
    };
    let expected = kind.api_version();
    let version = text("apiVersion", expected)?;
    if version != expected {
        return Err(Failure::new(known, "apiVersion", expected, quote(version)));
    }
    let resource = if kind == Kind::EndpointSlice {
        super::read_kind(kind, &with_spec(fields)).map_err(|mut field| {
            field.path = without_spec(&field.path).to_owned();
            failed(field)
        })?
    } else {
        super::read_kind(kind, value).map_err(failed)?
    };
    if name.is_empty() {
        return Err(Failure::new(
            None,
            "metadata.name",
            "a name",
            "nothing".to_owned(),
        ));
    }
    Ok(resource)
}

/// What every object has beside its `spec`.
const OUTSIDE: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// An object whose fields stand beside its metadata, with a `spec` around them.
fn with_spec(fields: &Map<String, Value>) -> Value {
    let (mut object, spec): (Map<_, _>, Map<_, _>) = fields
        .clone()
        .into_iter()
        .partition(|(name, _)| OUTSIDE.contains(&&**name));
    object.insert("spec".to_owned(), Value::Object(spec));
    Value::Object(object)
}

fn without_spec(path: &str) -> &str {
    path.strip_prefix("spec.").unwrap_or(path)
}

/// An object as its kind is written: the reverse of what reading it does.
pub(super) fn written_as(kind: Kind, mut value: Value) -> Value {
    if kind == Kind::EndpointSlice
        && let Some(fields) = value.as_object_mut()
        && let Some(Value::Object(spec)) = fields.remove("spec")
    {
        fields.extend(spec);
    }
    value
}

pub(super) fn envelope<'de, S: Deserialize<'de> + Default>(
    value: &'de Value,
) -> Result<Object<S>, FieldError> {
    let Envelope { metadata, spec, .. } = decode::decode(value)?;
    Ok(Object { metadata, spec })
}

/// Longest name of an object, in bytes (RFC 1123 subdomain, as Kubernetes has
/// it).
const LONGEST_NAME: usize = 253;

const KINDS: &str = "HostEndpoint, HostEndpointTemplate, Node, GlobalNetworkPolicy, \
                     StagedGlobalNetworkPolicy, GlobalNetworkSet, NetworkSet, Tier, Profile, \
                     FelixConfiguration, WorkloadEndpoint, EndpointSlice or NodeAddresses";

/// Kinds of the same API group that a user may well expect to be enforced.
const KINDS_NOT_ENFORCED: [&str; 3] = [
    "NetworkPolicy",
    "StagedKubernetesNetworkPolicy",
    "StagedNetworkPolicy",
];

fn known_kind(kind: &str, suffix: &str) -> Result<Kind, FieldError> {
    Kind::ALL
        .into_iter()
        .find(|known| known.name() == kind)
        .ok_or_else(|| FieldError {
            path: "kind".to_owned(),
            expected: KINDS.to_owned(),
            found: if KINDS_NOT_ENFORCED.contains(&kind) {
                format!("{kind}{suffix}, which is not enforced by this release")
            } else {
                quote(&format!("{kind}{suffix}"))
            },
        })
}
