//! Values as YAML text.

use serde_json::{Number, Value};

/// A value cannot be written as YAML.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// The serializer refuses it.
    #[error("cannot be written as YAML: {0}")]
    Write(String),
    /// The text would be read as another value.
    #[error("cannot be written as YAML: it would not be read back as it is")]
    Differs,
}

/// The value as a YAML document, without a `---` line. Whoever relies on it has
/// to read it back: see [`to_yaml`].
///
/// # Errors
///
/// If the serializer refuses it.
pub fn render(value: &Value) -> Result<String, YamlError> {
    let options = serde_saphyr::ser_options! {
        // Folded selectors are hard to read, and to search for.
        prefer_block_scalars: false,
    };
    let mut text = serde_saphyr::to_string_with_options(value, options)
        .map_err(|error| YamlError::Write(error.to_string()))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// The value as a YAML document that is known to be read back as the same
/// value.
///
/// # Errors
///
/// If there is no such text.
pub fn to_yaml(value: &Value) -> Result<String, YamlError> {
    let text = render(value)?;
    let options = serde_saphyr::options! {
        // As resources are read.
        legacy_octal_numbers: true,
        // The text is our own.
        budget: None,
    };
    let read: Value =
        serde_saphyr::from_str_with_options(&text, options).map_err(|_| YamlError::Differs)?;
    if read == *value {
        Ok(text)
    } else {
        Err(YamlError::Differs)
    }
}

/// Writes whole numbers without a fraction, as users do: `order: 10`, although
/// an order may be `10.5`.
pub fn shorten_numbers(value: &mut Value) {
    /// Up to here every whole number is exactly a float.
    const EXACT: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|_| number.is_f64())
                && float.fract() == 0.0
                && float.abs() <= EXACT
            {
                *number = Number::from(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(shorten_numbers),
        Value::Object(fields) => fields.values_mut().for_each(shorten_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_that_looks_like_something_else_is_read_back_as_text() {
        for text in [
            "true",
            "yes",
            "on",
            "null",
            "~",
            "",
            "1",
            "1.5",
            "1e3",
            "0x10",
            "- a",
            "a: b",
            "#a",
            "'",
            "\"",
            "a\nb",
            "a\n",
            " a",
            "a ",
            "---",
            "...",
            "*",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "{a}",
            "[a]",
            "2026-01-01",
            "\u{1}",
            "é",
            "has(a) && b == 'c'",
            "\t",
            "010",
            "0o10",
            "1_000",
            "1:30",
            ".inf",
            ".nan",
            "+1",
            "-",
            "=",
            "<<",
            "y",
            "NO",
            "0b1",
            "é: #",
            "\u{feff}",
            "\u{2028}",
            "\r\n",
            "\u{85}",
            "12e03",
            "0.0.0.0/0",
            "::/0",
            "fe80::1",
        ] {
            let value = json!({ "key": text, text: ["x", text] });
            let yaml = to_yaml(&value);
            assert!(yaml.is_ok(), "{text:?}: {yaml:?}");
        }
    }

    #[test]
    fn long_text_stays_on_one_line() {
        let selector = format!("has({})", "a ".repeat(200));
        let yaml = to_yaml(&json!({ "selector": selector })).unwrap();
        assert_eq!(yaml.lines().count(), 1);
    }

    #[test]
    fn keys_numbers_and_empty_lists_are_kept() {
        let value = json!({ "order": 10.5, "a": [], "b": {}, "n": null, "big": u64::MAX });
        to_yaml(&value).unwrap();
    }

    #[test]
    fn whole_numbers_have_no_fraction() {
        let mut value = json!({ "a": [10.0, -1.0, 10.5, 1e300], "b": 7 });
        shorten_numbers(&mut value);
        assert_eq!(value, json!({ "a": [10, -1, 10.5, 1e300], "b": 7 }));
    }
}
