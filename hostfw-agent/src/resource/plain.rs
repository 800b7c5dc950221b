//! Reads plain YAML, which is most of what there is, many times faster than the
//! parser of all of it.
//!
//! Plain is: printable ASCII; blocks of keys and of lists, flow collections that
//! end on their line, and scalars of one line that nobody could take for anything
//! else. Of everything beyond, errors included, this module has no opinion: it
//! gives `None`, and the parser of all YAML decides. What it does read, that
//! parser reads as the same tree; the tests compare them.

use std::ops::Range;

use serde_json::{Map, Value};

/// Deeper trees are left to the parser that has limits of its own.
const DEEPEST: usize = 32;
/// So are larger ones.
const MOST_NODES: usize = 500_000;
/// A longer text is no implicit key (YAML 1.2, section 7.4: 1024 characters).
const LONGEST_KEY: usize = 128;

/// A document.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) value: Value,
    /// Where the items of `spec.nets` stand, if it is a block of [`item`]s with
    /// nothing in between.
    pub(super) nets: Option<Items>,
}

/// Lines of a text that are the items of a list, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Items {
    /// From the first character of the first line to behind the last line's end.
    pub(crate) lines: Range<usize>,
    /// Spaces ahead of the `-`.
    pub(crate) indent: usize,
}

/// Reads a document that is plain, with its `---` if it has one.
pub(super) fn read(text: &str) -> Option<Plain> {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n');
    if !text.as_bytes().iter().all(is_plain) {
        return None;
    }
    let mut reader = Reader {
        text,
        next: None,
        behind: 0,
        nodes: 0,
        nets: None,
    };
    if let Some(rest) = text.strip_prefix("---") {
        if !rest.starts_with('\n') {
            return None;
        }
        reader.behind = 4;
    }
    reader.advance();
    let first = reader.next?;
    if first.indent != 0 || first.content.starts_with(['-', '%']) {
        return None;
    }
    let value = reader.mapping(first, 0, Place::Document)?;
    if reader.next.is_some() {
        return None;
    }
    Some(Plain {
        value,
        nets: reader.nets,
    })
}

/// The text of a line that is an item of a list and a string: nothing but
/// `indent` spaces, `- ` and a plain scalar, and the end of the line.
pub(crate) fn item(line: &str, indent: usize) -> Option<&str> {
    let line = line.strip_suffix('\n')?;
    let (spaces, rest) = line.split_at_checked(indent)?;
    let scalar = rest.strip_prefix("- ")?;
    let is_item = spaces.bytes().all(|byte| byte == b' ')
        && scalar.bytes().all(|byte| byte.is_ascii_graphic())
        && key_of(scalar).is_none()
        && is_block_scalar(scalar)
        && is_text(scalar);
    is_item.then_some(scalar)
}

/// A line with content.
#[derive(Clone, Copy)]
struct Line<'a> {
    /// Offset of the line in the text.
    start: usize,
    indent: usize,
    /// Without spaces on either side.
    content: &'a str,
}

/// Where a mapping is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Document,
    Spec,
    Elsewhere,
}

struct Reader<'a> {
    text: &'a str,
    /// The line that is to be read.
    next: Option<Line<'a>>,
    /// Offset of the line behind it.
    behind: usize,
    nodes: usize,
    nets: Option<Items>,
}

impl<'a> Reader<'a> {
    /// Goes to the next line that has content.
    fn advance(&mut self) {
        self.next = None;
        while self.behind < self.text.len() {
            let start = self.behind;
            let rest = &self.text[start..];
            let line = rest.split_once('\n').map_or(rest, |(line, _)| line);
            self.behind = (start + line.len() + 1).min(self.text.len());
            let content = line.trim_start_matches(' ');
            let indent = line.len() - content.len();
            let content = content.trim_end_matches(' ');
            if !(content.is_empty() || content.starts_with('#')) {
                self.next = Some(Line {
                    start,
                    indent,
                    content,
                });
                return;
            }
        }
    }

    fn count(&mut self) -> Option<()> {
        self.nodes += 1;
        (self.nodes <= MOST_NODES).then_some(())
    }

    /// Keys of one indentation, from this one on, which may stand behind a `-`.
    fn mapping(&mut self, first: Line<'a>, depth: usize, place: Place) -> Option<Value> {
        self.count()?;
        if depth > DEEPEST {
            return None;
        }
        let indent = first.indent;
        let mut fields = Map::new();
        let mut line = first;
        loop {
            let (key, rest) = key_of(line.content)?;
            if fields.contains_key(key) {
                return None;
            }
            self.count()?;
            self.advance();
            let value = if rest.is_empty() {
                let within = match (place, key) {
                    (Place::Document, "spec") => Place::Spec,
                    (Place::Document | Place::Spec | Place::Elsewhere, _) => Place::Elsewhere,
                };
                let is_nets = place == Place::Spec && key == "nets";
                self.block(indent, depth + 1, within, is_nets)?
            } else {
                self.count()?;
                self.inline(rest, depth + 1)?
            };
            fields.insert(key.to_owned(), value);
            match self.next {
                Some(next) if next.indent == indent && !is_item(next.content) => line = next,
                // Continues a scalar, or is no YAML.
                Some(next) if next.indent > indent => return None,
                Some(_) | None => return Some(Value::Object(fields)),
            }
        }
    }

    /// What stands below a key without a value on its line.
    fn block(&mut self, above: usize, depth: usize, place: Place, is_nets: bool) -> Option<Value> {
        // A key without any value is rare, and not for here.
        let next = self.next?;
        if is_item(next.content) && next.indent >= above {
            self.sequence(next, depth, is_nets)
        } else if next.indent > above {
            self.mapping(next, depth, place)
        } else {
            None
        }
    }

    fn sequence(&mut self, first: Line<'a>, depth: usize, is_nets: bool) -> Option<Value> {
        self.count()?;
        if depth > DEEPEST {
            return None;
        }
        let indent = first.indent;
        let mut items = Vec::new();
        let mut line = first;
        // As long as nothing else stands in between.
        let mut lines = is_nets.then_some(first.start..first.start);
        loop {
            let content = line.content.strip_prefix("- ")?;
            self.count()?;
            lines = lines.filter(|lines| {
                let whole = &self.text[lines.end..self.behind];
                lines.end == line.start && item(whole, indent).is_some()
            });
            if let Some(lines) = &mut lines {
                lines.end = self.behind;
            }
            if key_of(content).is_some() {
                let mapping = Line {
                    indent: indent + 2,
                    content,
                    ..line
                };
                items.push(self.mapping(mapping, depth + 1, Place::Elsewhere)?);
            } else {
                self.advance();
                items.push(self.inline(content, depth + 1)?);
            }
            match self.next {
                Some(next) if next.indent == indent && is_item(next.content) => line = next,
                Some(next) if next.indent > indent => return None,
                Some(_) | None => break,
            }
        }
        if let Some(lines) = lines {
            self.nets = Some(Items { lines, indent });
        }
        Some(Value::Array(items))
    }

    /// What stands behind a `:` or a `-` on the same line, without spaces on
    /// either side.
    fn inline(&mut self, content: &str, depth: usize) -> Option<Value> {
        if content.starts_with(['{', '[']) {
            let (value, rest) = self.flow(content, depth)?;
            return rest.is_empty().then_some(value);
        }
        if let Some((text, rest)) = quoted(content) {
            return rest.is_empty().then(|| Value::String(text.to_owned()));
        }
        if !is_block_scalar(content) {
            return None;
        }
        scalar(content)
    }

    /// A value within a flow collection, or one, and what stands behind it and
    /// the spaces that follow.
    fn flow<'b>(&mut self, content: &'b str, depth: usize) -> Option<(Value, &'b str)> {
        self.count()?;
        if depth > DEEPEST {
            return None;
        }
        if let Some(rest) = content.strip_prefix('{') {
            let mut fields = Map::new();
            let mut rest = rest.trim_start_matches(' ');
            if let Some(rest) = rest.strip_prefix('}') {
                return Some((Value::Object(fields), rest.trim_start_matches(' ')));
            }
            loop {
                self.count()?;
                let (key, behind) = rest.split_once(": ")?;
                if !is_key(key) || fields.contains_key(key) {
                    return None;
                }
                let (value, behind) = self.flow(behind.trim_start_matches(' '), depth + 1)?;
                fields.insert(key.to_owned(), value);
                if let Some(behind) = behind.strip_prefix('}') {
                    return Some((Value::Object(fields), behind.trim_start_matches(' ')));
                }
                rest = behind.strip_prefix(", ")?.trim_start_matches(' ');
            }
        }
        if let Some(rest) = content.strip_prefix('[') {
            let mut items = Vec::new();
            let mut rest = rest.trim_start_matches(' ');
            if let Some(rest) = rest.strip_prefix(']') {
                return Some((Value::Array(items), rest.trim_start_matches(' ')));
            }
            loop {
                let (value, behind) = self.flow(rest, depth + 1)?;
                items.push(value);
                if let Some(behind) = behind.strip_prefix(']') {
                    return Some((Value::Array(items), behind.trim_start_matches(' ')));
                }
                rest = behind.strip_prefix(", ")?.trim_start_matches(' ');
            }
        }
        if let Some((text, rest)) = quoted(content) {
            return Some((Value::String(text.to_owned()), rest));
        }
        let end = content.find([',', '[', ']', '{', '}'])?;
        let (text, rest) = content.split_at(end);
        let text = text.trim_end_matches(' ');
        if !is_block_scalar(text) {
            return None;
        }
        Some((scalar(text)?, rest))
    }
}

fn is_item(content: &str) -> bool {
    content == "-" || content.starts_with("- ")
}

/// The key that a line begins with, and its value on the same line, if any.
fn key_of(content: &str) -> Option<(&str, &str)> {
    let end = content
        .bytes()
        .position(|byte| !is_key_byte(byte))
        .filter(|&end| content.as_bytes()[end] == b':')?;
    let (key, rest) = (&content[..end], &content[end + 1..]);
    let ends = rest.is_empty() || rest.starts_with(' ');
    (ends && is_key(key)).then(|| (key, rest.trim_start_matches(' ')))
}

const fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/')
}

fn is_key(key: &str) -> bool {
    key.len() <= LONGEST_KEY && key.bytes().all(is_key_byte) && is_word(key)
}

/// A quoted scalar without anything to be decoded, and what stands behind it
/// and the spaces that follow.
fn quoted(content: &str) -> Option<(&str, &str)> {
    let quote = content.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let (text, rest) = content[1..].split_once(quote)?;
    let is_plain = !text.contains('\\') && !rest.starts_with(quote);
    is_plain.then(|| (text, rest.trim_start_matches(' ')))
}

/// Whether this is the text of a plain scalar, with nothing behind it: no
/// value, no comment.
fn is_block_scalar(text: &str) -> bool {
    text.as_bytes()
        .first()
        .is_some_and(u8::is_ascii_alphanumeric)
        && !text.ends_with(':')
        && !text.contains(": ")
        && !text.contains(" #")
}

/// A plain scalar of which there are no two opinions.
fn scalar(text: &str) -> Option<Value> {
    match text {
        "true" => return Some(Value::Bool(true)),
        "false" => return Some(Value::Bool(false)),
        _ => {}
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits && text.len() <= 15 && (text == "0" || !text.starts_with('0')) {
        return text.parse::<u64>().ok().map(Value::from);
    }
    is_text(text).then(|| Value::String(text.to_owned()))
}

/// Whether a plain scalar, which begins with a letter or a digit, is text for
/// everyone: a word, or something with more points, colons and slashes than a
/// number, a time or a date has.
fn is_text(text: &str) -> bool {
    if is_word(text) {
        return true;
    }
    let is_address = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'/');
    text.bytes().all(is_address)
        && (text.contains('/')
            || text.contains("::")
            || text.bytes().filter(|&byte| byte == b'.').count() == 3)
}

/// Whether it begins with a letter and is none of the words that mean
/// something else to some version of YAML, or to who reads numbers.
fn is_word(text: &str) -> bool {
    const MEANT: [&str; 12] = [
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity",
    ];
    text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
        && (text.len() > 8 || !MEANT.iter().any(|meant| text.eq_ignore_ascii_case(meant)))
}

#[cfg(test)]
mod tests;
