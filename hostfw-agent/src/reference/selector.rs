//! Selectors (semantics section 4), read and evaluated in one place.
//!
//! Written from the grammar alone, and not from the agent's own parser: two
//! readings of one text are worth comparing only if they are two.

use std::collections::BTreeMap;

/// Labels of an object.
pub(super) type Labels = BTreeMap<String, String>;

/// How deep parentheses may nest, as for the agent's own parser.
const MAX_DEPTH: usize = 64;

/// Longest label.
const MAX_LABEL: usize = 512;

/// What the words of a selector mean where it stands.
#[derive(Clone, Copy, Default)]
pub(super) struct Dialect {
    /// Stands ahead of every key.
    pub(super) prefix: &'static str,
    /// `all()` asks for this label; `None` means that it matches everything.
    pub(super) all: Option<&'static str>,
    /// `global()` asks for this label's absence; `None` as above.
    pub(super) global: Option<&'static str>,
}

impl Dialect {
    /// What `all()` asks for, and a selector of nothing but space.
    fn everything(self) -> Selector {
        self.all
            .map_or(Selector::True, |label| Selector::Has(label.to_owned()))
    }
}

/// What an object's labels must be.
#[derive(Clone, Debug)]
pub(super) enum Selector {
    True,
    Has(String),
    Is(String, String),
    Contains(String, String),
    Starts(String, String),
    Ends(String, String),
    In(String, Vec<String>),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

impl Selector {
    /// Reads a selector; `None` if it is not one.
    pub(super) fn read(text: &str, dialect: Dialect) -> Option<Self> {
        let mut reader = Reader {
            rest: text,
            dialect,
        };
        reader.space();
        if reader.rest.is_empty() {
            return Some(dialect.everything());
        }
        let selector = reader.or(0)?;
        reader.space();
        reader.rest.is_empty().then_some(selector)
    }

    pub(super) fn matches(&self, labels: &Labels) -> bool {
        let test = |key: &str, test: &dyn Fn(&str) -> bool| {
            labels.get(key).is_some_and(|value| test(value))
        };
        match self {
            Self::True => true,
            Self::Has(key) => labels.contains_key(key),
            Self::Is(key, operand) => test(key, &|value| value == operand),
            Self::Contains(key, operand) => test(key, &|value| value.contains(operand.as_str())),
            Self::Starts(key, operand) => test(key, &|value| value.starts_with(operand.as_str())),
            Self::Ends(key, operand) => test(key, &|value| value.ends_with(operand.as_str())),
            Self::In(key, set) => test(key, &|value| set.iter().any(|item| item == value)),
            Self::Not(inner) => !inner.matches(labels),
            Self::And(parts) => parts.iter().all(|part| part.matches(labels)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(labels)),
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    dialect: Dialect,
}

impl<'a> Reader<'a> {
    /// Space and tab only: a newline is an error.
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes a text after any space.
    fn next(&mut self, text: &str) -> bool {
        self.space();
        self.take(text)
    }

    /// Takes one of the spellings of a word operator, which must not run on
    /// into a label.
    fn word(&mut self, parts: &[&str]) -> bool {
        let before = self.rest;
        let found = parts.iter().all(|part| self.next(part)) && !self.rest.starts_with(is_label);
        if !found {
            self.rest = before;
        }
        found
    }

    /// `or = and ("||" and)*`
    fn or(&mut self, depth: usize) -> Option<Selector> {
        let mut parts = vec![self.and(depth)?];
        while self.next("||") {
            parts.push(self.and(depth)?);
        }
        Some(Selector::Or(parts))
    }

    /// `and = unit ("&&" unit)*`
    fn and(&mut self, depth: usize) -> Option<Selector> {
        let mut parts = vec![self.unit(depth)?];
        while self.next("&&") {
            parts.push(self.unit(depth)?);
        }
        Some(Selector::And(parts))
    }

    /// `unit = "!"* prim`
    fn unit(&mut self, depth: usize) -> Option<Selector> {
        let mut negated = false;
        while self.next("!") {
            negated = !negated;
        }
        let selector = self.primary(depth)?;
        Some(negate(selector, negated))
    }

    fn primary(&mut self, depth: usize) -> Option<Selector> {
        self.space();
        if self.take("(") {
            if depth == MAX_DEPTH {
                return None;
            }
            let inner = self.or(depth + 1)?;
            return self.next(")").then_some(inner);
        }
        if self.take("has(") {
            self.space();
            let key = self.key()?;
            return self.next(")").then_some(Selector::Has(key));
        }
        if self.take("all(") {
            let everything = self.dialect.everything();
            return self.next(")").then_some(everything);
        }
        if self.take("global(") {
            let global = self.dialect.global;
            return self.next(")").then(|| {
                global.map_or(Selector::True, |label| {
                    negate(Selector::Has(label.to_owned()), true)
                })
            });
        }
        let key = self.key()?;
        self.space();
        if self.take("==") {
            return Some(Selector::Is(key, self.string()?));
        }
        if self.take("!=") {
            return Some(negate(Selector::Is(key, self.string()?), true));
        }
        if self.word(&["contains"]) {
            return Some(Selector::Contains(key, self.string()?));
        }
        if self.word(&["starts", "with"]) {
            return Some(Selector::Starts(key, self.string()?));
        }
        if self.word(&["ends", "with"]) {
            return Some(Selector::Ends(key, self.string()?));
        }
        if self.word(&["in"]) {
            return Some(Selector::In(key, self.set()?));
        }
        if self.word(&["not", "in"]) {
            return Some(negate(Selector::In(key, self.set()?), true));
        }
        None
    }

    fn key(&mut self) -> Option<String> {
        let end = self.rest.find(|c| !is_label(c)).unwrap_or(self.rest.len());
        let (key, rest) = self.rest.split_at(end);
        self.rest = rest;
        (1..=MAX_LABEL)
            .contains(&key.len())
            .then(|| format!("{}{key}", self.dialect.prefix))
    }

    /// In either quotes, without escapes.
    fn string(&mut self) -> Option<String> {
        self.space();
        let quote = self
            .rest
            .chars()
            .next()
            .filter(|c| matches!(c, '\'' | '"'))?;
        let (inside, rest) = self.rest[1..].split_once(quote)?;
        self.rest = rest;
        Some(inside.to_owned())
    }

    /// `{}`, `{'a'}`, `{'a', 'b',}`
    fn set(&mut self) -> Option<Vec<String>> {
        let mut items = Vec::new();
        if !self.next("{") {
            return None;
        }
        loop {
            if self.next("}") {
                return Some(items);
            }
            items.push(self.string()?);
            if !self.next(",") {
                return self.next("}").then_some(items);
            }
        }
    }
}

fn negate(selector: Selector, negated: bool) -> Selector {
    if negated {
        Selector::Not(Box::new(selector))
    } else {
        selector
    }
}

const fn is_label(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        text.split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn selectors_match() {
        for (text, object, expected) in [
            ("", "", true),
            ("all()", "", true),
            ("global()", "a=b", true),
            ("a == 'b'", "a=b", true),
            ("a == \"b\"", "a=c", false),
            ("a != 'b'", "", true),
            ("a == ''", "", false),
            ("a in {'b', 'c',}", "a=c", true),
            ("a in {}", "a=b", false),
            ("a not in {}", "", true),
            ("a notin {'b'}", "a=b", false),
            ("a contains 'x'", "a=axb", true),
            ("a startswith 'x'", "a=xb", true),
            ("a ends with 'x'", "a=bx", true),
            ("a ends with 'x'", "", false),
            ("has(a) || has(b) && has(c)", "a=1", true),
            ("(has(a) || has(b)) && has(c)", "a=1", false),
            ("!!has( a )", "a=1", true),
            ("! has(a)", "a=1", false),
            ("in in {'in'}", "in=in", true),
            ("all == 'x'", "all=x", true),
            ("a in{'b'}", "a=b", true),
            (
                "projectcalico.org/x == \"it's\"",
                "projectcalico.org/x=it's",
                true,
            ),
        ] {
            let selector = Selector::read(text, Dialect::default());
            assert_eq!(
                selector.map(|selector| selector.matches(&labels(object))),
                Some(expected),
                "{text:?} on {object:?}"
            );
        }
    }

    #[test]
    fn what_is_not_in_the_language_is_no_selector() {
        for text in [
            "a",
            "a =='b",
            "has (a)",
            "has()",
            "all",
            "a ==\n'b'",
            "a in {,}",
            "a in {'b' 'c'}",
            "a inx {'b'}",
            "(has(a)",
            "has(a) &&",
            "has(a))",
        ] {
            assert!(
                Selector::read(text, Dialect::default()).is_none(),
                "{text:?}"
            );
        }
        let nested = |depth| format!("{}has(a){}", "(".repeat(depth), ")".repeat(depth));
        assert!(Selector::read(&nested(MAX_DEPTH), Dialect::default()).is_some());
        assert!(Selector::read(&nested(MAX_DEPTH + 1), Dialect::default()).is_none());
    }

    #[test]
    fn a_dialect_gives_words_their_meaning() {
        let dialect = Dialect {
            prefix: "pcns.",
            all: Some("ns"),
            global: Some("ns"),
        };
        for (text, object, expected) in [
            ("has(a)", "a=1", false),
            ("has(a)", "pcns.a=1", true),
            ("all()", "", false),
            ("all()", "ns=x", true),
            (" ", "", false),
            (" ", "ns=x", true),
            ("global()", "", true),
            ("global()", "ns=x", false),
            ("a != 'b'", "", true),
        ] {
            let selector = Selector::read(text, dialect);
            assert_eq!(
                selector.map(|selector| selector.matches(&labels(object))),
                Some(expected),
                "{text:?} on {object:?}"
            );
        }
    }
}
