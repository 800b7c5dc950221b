//! From a JSON tree to a type, with errors that keep apart what was expected
//! and what was found. (`serde_json`'s own deserializer only has a text.)

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{
        self, Error as _, Expected, IntoDeserializer, Unexpected,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::Value;

/// A field that does not fit its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldError {
    /// From the decoded value on; empty means the value itself.
    pub(super) path: String,
    pub(super) expected: String,
    pub(super) found: String,
}

/// Decodes a value, strictly. `null` in place of a field means that the field
/// is absent, as it does to Kubernetes.
pub(super) fn decode<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(Node(value)).map_err(|error| {
        let mut path = error.path().to_string();
        if path == "." {
            path.clear();
        }
        let Mismatch {
            expected,
            found,
            field,
        } = error.into_inner();
        // An absent field is not on the path; an unknown one is.
        if let Some(field) = field
            && path.rsplit('.').next() != Some(&field)
        {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&field);
        }
        FieldError {
            path: shorten(path),
            expected,
            found,
        }
    })
}

/// A path in a message: keys may be as long as whoever wrote them liked.
fn shorten(path: String) -> String {
    const LONGEST: usize = 400;
    match path.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &path[..end]),
        None => path,
    }
}

/// What a text from a user looks like in a message: quoted, and not longer
/// than a message can bear.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    if text.chars().count() > LONGEST {
        let start: String = text.chars().take(LONGEST).collect();
        format!("{start:?}... ({} bytes)", text.len())
    } else {
        format!("{text:?}")
    }
}

#[derive(Debug)]
struct Mismatch {
    expected: String,
    found: String,
    /// The field, where the error is about its being there.
    field: Option<String>,
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            expected: message.to_string(),
            found: "something else".to_owned(),
            field: None,
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = match expected.to_string().as_str() {
            "f64" => "a number".to_owned(),
            "i64" => "a whole number".to_owned(),
            "u64" => "a whole number, not negative".to_owned(),
            "a boolean" => "true or false".to_owned(),
            "a sequence" => "a list".to_owned(),
            "a map" => "an object".to_owned(),
            other => other.to_owned(),
        };
        let hint = if expected != "a string" {
            ""
        } else if matches!(found, Unexpected::Bool(_)) {
            " (put it in quotes: YAML takes y, n, yes, no, on and off for booleans)"
        } else if matches!(
            found,
            Unexpected::Signed(_) | Unexpected::Unsigned(_) | Unexpected::Float(_)
        ) {
            " (put it in quotes)"
        } else {
            ""
        };
        Self {
            expected,
            found: format!("{}{hint}", describe(found)),
            field: None,
        }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self {
            expected: format!("one of {}", expected.join(", ")),
            found: quote(variant),
            field: None,
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self {
            expected: format!("one of the fields {}", expected.join(", ")),
            found: format!("the unknown field {}", quote(field)),
            field: Some(field.to_owned()),
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            expected: "a value, for it is required".to_owned(),
            found: "nothing".to_owned(),
            field: Some(field.to_owned()),
        }
    }
}

fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Float(value) => value.to_string(),
        Unexpected::Str(value) => quote(value),
        Unexpected::Unit | Unexpected::Option => "null".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "an object".to_owned(),
        // None of these comes from a JSON tree.
        Unexpected::Char(_)
        | Unexpected::Bytes(_)
        | Unexpected::NewtypeStruct
        | Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant
        | Unexpected::Other(_) => found.to_string(),
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(value), ..) => Unexpected::Unsigned(value),
            (_, Some(value), _) => Unexpected::Signed(value),
            (.., Some(value)) => Unexpected::Float(value),
            (None, None, None) => Unexpected::Other("a number"),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

#[derive(Clone, Copy)]
struct Node<'de>(&'de Value);

impl<'de> IntoDeserializer<'de, Mismatch> for Node<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Node<'de> {
    fn mismatch(self, expected: &dyn Expected) -> Mismatch {
        Mismatch::invalid_type(unexpected(self.0), expected)
    }
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Mismatch;

    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), ..) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (.., Some(value)) => visitor.visit_f64(value),
                (None, None, None) => Err(self.mismatch(&visitor)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.iter().map(Node))),
            Value::Object(fields) => visitor.visit_map(MapDeserializer::new(
                fields
                    .iter()
                    .map(|(key, value)| (key.as_str(), Node(value))),
            )),
        }
    }

    fn deserialize_option<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: de::Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: de::Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        // Derived structs would also take a list, by position.
        let Value::Object(fields) = self.0 else {
            return Err(self.mismatch(&"an object"));
        };
        visitor.visit_map(MapDeserializer::new(
            fields
                .iter()
                // An unknown field is unknown even if it is null.
                .filter(|(key, value)| !(value.is_null() && known.contains(&key.as_str())))
                .map(|(key, value)| (key.as_str(), Node(value))),
        ))
    }

    fn deserialize_enum<V: de::Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let Value::String(text) = self.0 else {
            return Err(Mismatch {
                expected: format!("one of {}", variants.join(", ")),
                found: describe(unexpected(self.0)),
                field: None,
            });
        };
        visitor.visit_enum(text.as_str().into_deserializer())
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string
        bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier
        ignored_any
    }
}
