//! From a text to trees: where documents begin and end, and whether they are
//! YAML or JSON.
//!
//! The text is cut before it is parsed, so that a document that does not parse
//! leaves the others readable. That is exact: at the beginning of a line,
//! `---` and `...` are markers even inside a quoted or a block scalar (YAML
//! 1.2, section 9.1.2).

use serde_json::Value;

use super::{
    decode::quote,
    plain::{self, Items, Plain},
    tree::Strict,
};

/// A document as a tree.
pub(super) struct Tree {
    /// The line where it begins; the first is 1.
    pub(super) line: usize,
    pub(super) value: Result<Value, SyntaxError>,
    /// Where the items of its `spec.nets` stand in the piece, if that is known.
    pub(super) nets: Option<Items>,
}

/// Why a text is neither YAML nor JSON.
#[derive(Debug)]
pub(super) struct SyntaxError {
    /// The first is 1.
    pub(super) line: usize,
    /// In characters; the first is 1.
    pub(super) column: usize,
    pub(super) message: String,
}

/// Reads a text as one document of any YAML, without the short cut for what is
/// plain.
#[cfg(test)]
pub(super) fn read_any_yaml(text: &str) -> Result<Value, SyntaxError> {
    Piece { line: 1, text }.read_yaml()
}

/// Reads all documents that are not empty.
#[cfg(test)]
pub(super) fn read(text: &str) -> Vec<Tree> {
    split(text).iter().flat_map(Piece::trees).collect()
}

/// A piece of a text between two markers. It is read by itself, and means the
/// same wherever it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Line of its first character; the first is 1.
    line: usize,
    /// Begins with its `---`, if it has one.
    text: &'a str,
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Cuts a text into pieces; [`Piece::documents`] reads them.
#[must_use]
pub fn split(text: &str) -> Vec<Piece<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pieces = Vec::new();
    let (mut start, mut start_line) = (0, 1);
    // The line that the part begins with that has no number yet.
    let (mut counted, mut line) = (0, 1);
    for offset in marked_lines(text.as_bytes()) {
        let rest = &text[offset..];
        let is_begin = is_marker(rest, "---");
        if !is_begin && !is_marker(rest, "...") {
            continue;
        }
        line += line_ends(&text.as_bytes()[counted..offset]);
        counted = offset;
        pieces.push(Piece {
            line: start_line,
            text: &text[start..offset],
        });
        // A `---` belongs to what follows it, a `...` to nothing.
        (start, start_line) = if is_begin {
            (offset, line)
        } else {
            let end = rest.find('\n').map_or(text.len(), |end| offset + end + 1);
            (end, line + 1)
        };
    }
    pieces.push(Piece {
        line: start_line,
        text: &text[start..],
    });
    pieces
}

/// Offsets of the lines that begin like a marker.
fn marked_lines(text: &[u8]) -> impl Iterator<Item = usize> {
    /// Looked at together: as one, most of them have no such line.
    const STRETCH: usize = 4096;
    let begins = |byte: u8| matches!(byte, b'-' | b'.');
    let first = text.first().is_some_and(|&byte| begins(byte)).then_some(0);
    let stretches = (0..text.len()).step_by(STRETCH);
    let others = stretches.flat_map(move |start| {
        let behind = &text[start + 1..];
        let pairs = move || text[start..].iter().zip(behind).take(STRETCH);
        let found = move |(&end, &byte): (&u8, &u8)| end == b'\n' && begins(byte);
        let any = pairs().fold(false, |any, pair| any | found(pair));
        let places = any.then(|| (start + 1..).zip(pairs()));
        let places = places.into_iter().flatten();
        places.filter_map(move |(at, pair)| found(pair).then_some(at))
    });
    first.into_iter().chain(others)
}

fn line_ends(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte == b'\n').count()
}

impl<'a> Piece<'a> {
    /// Its text.
    #[must_use]
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// Its documents that are not empty; nearly always one.
    pub(super) fn trees(&self) -> Vec<Tree> {
        let mut trees = Vec::new();
        if let Some(begin) = self.first_content_line() {
            self.read(begin, &mut trees);
        }
        trees
    }

    /// The first line that is more than marker, comment or directive.
    fn first_content_line(&self) -> Option<usize> {
        self.text
            .lines()
            .position(|line| {
                let line = if is_marker(line, "---") {
                    &line[3..]
                } else {
                    line
                };
                let line = line.trim_start();
                !(line.is_empty() || line.starts_with(['#', '%']))
            })
            .map(|index| self.line + index)
    }

    fn read(&self, begin: usize, trees: &mut Vec<Tree>) {
        let content = self.text.strip_prefix("---").unwrap_or(self.text);
        if content.trim_start().starts_with('{') && self.read_json(content, trees) {
            return;
        }
        let (value, nets) = match plain::read(self.text) {
            Some(Plain { value, nets }) => (Ok(value), nets),
            None => (self.read_yaml(), None),
        };
        trees.push(Tree {
            line: begin,
            value,
            nets,
        });
    }

    /// Reads JSON values in a row. `false` if this is no JSON after all: every
    /// JSON object begins as a YAML one can.
    fn read_json(&self, content: &str, trees: &mut Vec<Tree>) -> bool {
        let mut values = serde_json::Deserializer::from_str(content).into_iter::<Strict>();
        let mut first = true;
        let (mut offset, mut line) = (0, self.line);
        loop {
            // Counted on from the value before: all over again would be
            // quadratic.
            let rest = &content[values.byte_offset()..];
            let next = content.len() - rest.trim_start().len();
            line += content[offset..next].matches('\n').count();
            offset = next;
            match values.next() {
                None => return true,
                Some(Ok(Strict(value))) => trees.push(Tree {
                    line,
                    value: Ok(value),
                    nets: None,
                }),
                Some(Err(_)) if first && !looks_like_json(content) => return false,
                Some(Err(error)) => {
                    trees.push(Tree {
                        line,
                        value: Err(self.json_error(&error)),
                        nets: None,
                    });
                    return true;
                }
            }
            first = false;
        }
    }

    fn json_error(&self, error: &serde_json::Error) -> SyntaxError {
        let full = error.to_string();
        // The position is given apart, counted over the whole text.
        let message = full
            .rsplit_once(" at line ")
            .map_or(full.as_str(), |(message, _)| message);
        SyntaxError {
            line: self.line + error.line().saturating_sub(1),
            column: error.column().max(1),
            message: message.to_owned(),
        }
    }

    /// Reads any YAML.
    fn read_yaml(&self) -> Result<Value, SyntaxError> {
        let options = serde_saphyr::options! {
            // Octal as Kubernetes reads it, and `yes` and `on` as booleans
            // (the default): else a value would silently mean another.
            legacy_octal_numbers: true,
            reject_unsupported_tags: true,
            with_snippet: false,
            // A list of some ten thousand policies is a lot, but no attack.
            // Aliases are another matter: they multiply.
            budget: serde_saphyr::budget! {
                max_nodes: 2_000_000,
                max_events: 8_000_000,
            },
            alias_limits: serde_saphyr::alias_limits! {
                max_total_replayed_events: 100_000,
            },
        };
        match serde_saphyr::from_str_with_options::<Strict>(self.text, options) {
            Ok(Strict(value)) => Ok(value),
            Err(error) => Err(self.yaml_error(&error)),
        }
    }

    fn yaml_error(&self, error: &serde_saphyr::Error) -> SyntaxError {
        let (line, column) = error
            .location()
            .map_or((1, 1), |at| (at.line() as usize, at.column() as usize));
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a foreign enum of some seventy variants"
        )]
        let message = match error {
            serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("duplicate mapping key {}", quote(key))
            }
            serde_saphyr::Error::NonFiniteFloat { value, .. } => {
                format!("expected a finite number, found {value}")
            }
            serde_saphyr::Error::Budget { breach, .. } => {
                format!("larger or deeper than any resource ({breach:?})")
            }
            other => {
                let full = other.to_string();
                // The position is given apart, counted over the whole text.
                let position = format!(" at line {line}, column {column}");
                full.strip_suffix(&position).unwrap_or(&full).to_owned()
            }
        };
        SyntaxError {
            line: self.line + line.saturating_sub(1),
            column: column.max(1),
            message,
        }
    }
}

/// Whether a text that begins with `{` is meant as JSON: its first key is
/// quoted, or there is none.
fn looks_like_json(content: &str) -> bool {
    content
        .trim_start()
        .strip_prefix('{')
        .is_some_and(|rest| rest.trim_start().starts_with(['"', '}']))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same, line by line.
    fn plainly(text: &str) -> Vec<(usize, &str)> {
        let (mut pieces, mut start, mut start_line, mut offset) = (Vec::new(), 0, 1, 0);
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let end = offset + line.len();
            let cut = match (is_marker(line, "---"), is_marker(line, "...")) {
                (true, _) => Some((offset, index + 1)),
                (_, true) => Some((end, index + 2)),
                (false, false) => None,
            };
            if let Some((next, next_line)) = cut {
                pieces.push((start_line, &text[start..offset]));
                (start, start_line) = (next, next_line);
            }
            offset = end;
        }
        pieces.push((start_line, &text[start..]));
        pieces
    }

    fn pieces(text: &str) -> Vec<(usize, &str)> {
        let pieces = split(text).into_iter();
        pieces.map(|piece| (piece.line, piece.text)).collect()
    }

    #[test]
    fn text_is_cut_at_markers_wherever_they_are() {
        let lines = [
            "---\n",
            "...\n",
            "--- a: b\n",
            "----\n",
            "- x\n",
            "a\n",
            "\n",
            "..\n",
        ];
        let ends = ["", "---", "...", "--", "a", "...\r\n"];
        // Markers at every place about the bound of a stretch that is looked at.
        for shift in (0..4).chain(4080..4110) {
            let ahead = "#".repeat(shift) + "\n";
            for first in lines {
                for second in lines {
                    for end in ends {
                        let text = [&ahead, first, second, end].concat();
                        assert_eq!(
                            pieces(&text),
                            plainly(&text),
                            "{shift}: {first}{second}{end}"
                        );
                        let text = &text[shift + 1..];
                        assert_eq!(pieces(text), plainly(text));
                    }
                }
            }
        }
    }
}
