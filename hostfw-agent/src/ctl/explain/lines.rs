//! Packets as lines of JSON.

use std::{fmt, net::IpAddr};

use hostfw_common::verdict::Direction;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::{
    PacketError,
    packet::{Draft, Key, Protocol},
};
use crate::{
    question::{Path, Question, State},
    resource::quote,
};

/// Most errors that are told of one file.
const MOST_ERRORS: usize = 20;

/// Reads all packets of a text; blank lines are none. Either all of them are
/// right, or none is taken.
pub(super) fn read(file: &str, text: &str) -> Result<Vec<Question>, Vec<PacketError>> {
    let mut questions = Vec::new();
    let mut errors = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        match question(line) {
            Ok(question) => questions.push(question),
            Err(error) => errors.push(error.in_line(file, number)),
        }
        if errors.len() == MOST_ERRORS {
            break;
        }
    }
    if errors.is_empty() {
        Ok(questions)
    } else {
        Err(errors)
    }
}

fn question(line: &str) -> Result<Question, PacketError> {
    let Fields(fields) = serde_json::from_str(line).map_err(|error| {
        let mut found = quote(line);
        if !error.is_data() {
            let message = error.to_string();
            // The line is told apart, and is not the first.
            let message = message.replace(" at line 1 column ", " at character ");
            found = format!("{found} ({message})");
        }
        PacketError::of_line("one JSON object", found)
    })?;
    let mut draft = Draft::default();
    let mut seen: Vec<Key> = Vec::new();
    for (name, value) in fields {
        let Some(key) = Key::ALL.into_iter().find(|key| key.name() == name) else {
            let known = Key::ALL.map(Key::name).join(", ");
            return Err(PacketError::of_line(
                &format!("only the keys {known}"),
                format!("the unknown key {}", quote(&name)),
            ));
        };
        if seen.contains(&key) {
            return Err(PacketError::new(key, "the key once", "it twice".to_owned()));
        }
        seen.push(key);
        if !value.is_null() {
            set(&mut draft, key, &value)?;
        }
    }
    draft.question()
}

fn set(draft: &mut Draft, key: Key, value: &Value) -> Result<(), PacketError> {
    match key {
        Key::Interface => draft.interface = Some(text(key, "a string", value)?.to_owned()),
        Key::Direction => {
            let names = [("in", Direction::Ingress), ("out", Direction::Egress)];
            draft.direction = Some(one_of(key, &names, value)?);
        }
        Key::Path => {
            let names = [("local", Path::Local), ("forward", Path::Forward)];
            draft.path = Some(one_of(key, &names, value)?);
        }
        Key::Protocol => {
            draft.protocol = Some(match value.as_str() {
                Some(name) => Protocol::named(name)?,
                None => Protocol::numbered(number(key, "a name or a number from 0 to 255", value)?),
            });
        }
        Key::Source => draft.source = Some(address(key, value)?),
        Key::SourcePort => draft.source_port = Some(port(key, value)?),
        Key::Destination => draft.destination = Some(address(key, value)?),
        Key::DestinationPort => draft.destination_port = Some(port(key, value)?),
        Key::IcmpType => draft.icmp_type = Some(number(key, "a number from 0 to 255", value)?),
        Key::IcmpCode => draft.icmp_code = Some(number(key, "a number from 0 to 255", value)?),
        Key::TranslatedDestination => draft.translated = Some(address(key, value)?),
        Key::TranslatedDestinationPort => draft.translated_port = Some(port(key, value)?),
        Key::State => {
            let names = [
                ("new", State::New),
                ("established", State::Established),
                ("invalid", State::Invalid),
            ];
            draft.state = Some(one_of(key, &names, value)?);
        }
    }
    Ok(())
}

fn wrong(key: Key, expected: &str, value: &Value) -> PacketError {
    let found = match value {
        Value::String(text) => quote(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    PacketError::new(key, expected, found)
}

fn text<'a>(key: Key, expected: &str, value: &'a Value) -> Result<&'a str, PacketError> {
    value.as_str().ok_or_else(|| wrong(key, expected, value))
}

fn one_of<T: Copy>(key: Key, names: &[(&str, T)], value: &Value) -> Result<T, PacketError> {
    let known = names
        .iter()
        .find(|(name, _)| value.as_str() == Some(name))
        .map(|(_, known)| *known);
    known.ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        wrong(key, &format!("one of {}", names.join(", ")), value)
    })
}

fn number<T: TryFrom<u64>>(key: Key, expected: &str, value: &Value) -> Result<T, PacketError> {
    value
        .as_u64()
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| wrong(key, expected, value))
}

fn port(key: Key, value: &Value) -> Result<u16, PacketError> {
    number(key, "a port from 0 to 65535", value)
}

fn address(key: Key, value: &Value) -> Result<IpAddr, PacketError> {
    let expected = "an IPv4 or IPv6 address";
    text(key, expected, value)?
        .parse()
        .map_err(|_| wrong(key, expected, value))
}

/// The fields of an object, as they stand: a key that stands twice is there
/// twice.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> de::Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Fields(fields))
    }
}
