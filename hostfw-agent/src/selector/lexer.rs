//! Reads a selector's text piece by piece.
//!
//! What a word means depends on where it stands (`in in {'a'}` is a label
//! named `in`), so the parser asks for what it can use, and nothing is cut
//! into tokens ahead of it.

use super::{MAX_LABEL_LENGTH, SelectorError};

/// A position in a selector's text.
pub(super) struct Lexer<'a> {
    text: &'a str,
    /// In bytes, always between two characters.
    offset: usize,
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, offset: 0 }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.offset..]
    }

    /// Skips spaces and tabs. A newline is no whitespace in this language.
    pub(super) fn skip_space(&mut self) {
        let rest = self.rest();
        self.offset += rest.len() - rest.trim_start_matches([' ', '\t']).len();
    }

    pub(super) fn at_end(&self) -> bool {
        self.rest().is_empty()
    }

    pub(super) fn at_parenthesis(&self) -> bool {
        self.rest().starts_with('(')
    }

    /// Takes exactly this text, if it comes next.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.offset += text.len();
        }
        found
    }

    /// Takes a word operator, which must not run on into a label character.
    /// The words of an operator may stand apart (`not in`) or not (`notin`).
    pub(super) fn take_words(&mut self, words: &[&str]) -> bool {
        let start = self.offset;
        for word in words {
            self.skip_space();
            if !self.take(word) {
                self.offset = start;
                return false;
            }
        }
        if self.rest().starts_with(is_label_char) {
            self.offset = start;
            return false;
        }
        true
    }

    /// Takes a label name, if one comes next.
    pub(super) fn take_label(&mut self) -> Result<Option<&'a str>, SelectorError> {
        let rest = self.rest();
        let label = &rest[..rest.find(|c| !is_label_char(c)).unwrap_or(rest.len())];
        if label.is_empty() {
            return Ok(None);
        }
        if label.len() > MAX_LABEL_LENGTH {
            return Err(SelectorError {
                position: self.position(),
                expected: format!("a label name of at most {MAX_LABEL_LENGTH} characters"),
                found: format!("one of {}", label.len()),
            });
        }
        self.offset += label.len();
        Ok(Some(label))
    }

    /// Takes a quoted string, if one comes next; gives what is in the quotes.
    pub(super) fn take_string(&mut self) -> Result<Option<&'a str>, SelectorError> {
        let rest = self.rest();
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return Ok(None);
        };
        let inside = &rest[1..];
        let Some(length) = inside.find(quote) else {
            return Err(SelectorError {
                position: self.position(),
                expected: format!("a string that ends with {quote}"),
                found: "no end of it".to_owned(),
            });
        };
        self.offset += length + 2;
        Ok(Some(&inside[..length]))
    }

    /// The error that something else was expected here.
    pub(super) fn error(&self, expected: &str) -> SelectorError {
        SelectorError {
            position: self.position(),
            expected: expected.to_owned(),
            found: self.describe(),
        }
    }

    fn position(&self) -> usize {
        self.text[..self.offset].chars().count() + 1
    }

    /// What comes next, shortened so that it fits in a message.
    fn describe(&self) -> String {
        const LONGEST: usize = 20;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return "the end".to_owned();
        };
        match first {
            '\n' | '\r' => "a newline (a selector is one line)".to_owned(),
            c if is_label_char(c) => {
                let word = &rest[..rest.find(|c| !is_label_char(c)).unwrap_or(rest.len())];
                if word.len() > LONGEST {
                    format!("'{}...'", &word[..LONGEST])
                } else {
                    format!("'{word}'")
                }
            }
            '&' | '|' | '=' | '!' => {
                let operator: String = rest.chars().take_while(|&c| c == first).take(3).collect();
                format!("'{operator}'")
            }
            c => format!("{c:?}"),
        }
    }
}

const fn is_label_char(c: char) -> bool {
    matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '.' | '/' | '-')
}
