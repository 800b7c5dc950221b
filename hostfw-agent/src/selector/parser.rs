//! Recursive descent over the grammar in the parent module.

use std::collections::BTreeSet;

use super::{Comparison, MAX_DEPTH, Node, SelectorError, lexer::Lexer};

/// Operators that compare with one string, by the words that they are written
/// with.
const COMPARISONS: [(&[&str], Comparison); 3] = [
    (&["contains"], Comparison::Contains),
    (&["starts", "with"], Comparison::StartsWith),
    (&["ends", "with"], Comparison::EndsWith),
];

pub(super) fn parse(text: &str) -> Result<Node, SelectorError> {
    let mut lexer = Lexer::new(text);
    lexer.skip_space();
    if lexer.at_end() {
        return Ok(Node::All);
    }
    let node = parse_or(&mut lexer, 0)?;
    lexer.skip_space();
    if !lexer.at_end() {
        return Err(lexer.error("'&&', '||' or the end"));
    }
    Ok(node)
}

fn parse_or(lexer: &mut Lexer<'_>, depth: usize) -> Result<Node, SelectorError> {
    parse_chain(lexer, "||", Node::Or, |lexer| {
        parse_chain(lexer, "&&", Node::And, |lexer| parse_unit(lexer, depth))
    })
}

/// One or more parts with an operator between them.
fn parse_chain<'a>(
    lexer: &mut Lexer<'a>,
    operator: &str,
    combine: fn(Vec<Node>) -> Node,
    part: impl Fn(&mut Lexer<'a>) -> Result<Node, SelectorError>,
) -> Result<Node, SelectorError> {
    let first = part(lexer)?;
    let mut rest = Vec::new();
    loop {
        lexer.skip_space();
        if !lexer.take(operator) {
            break;
        }
        rest.push(part(lexer)?);
    }
    if rest.is_empty() {
        return Ok(first);
    }
    rest.insert(0, first);
    Ok(combine(rest))
}

fn parse_unit(lexer: &mut Lexer<'_>, depth: usize) -> Result<Node, SelectorError> {
    let mut negated = false;
    lexer.skip_space();
    while lexer.take("!") {
        negated = !negated;
        lexer.skip_space();
    }
    let primary = parse_primary(lexer, depth)?;
    if !negated {
        return Ok(primary);
    }
    // As `!!`, only with parentheses between them.
    if let Node::Not(inner) = primary {
        return Ok(*inner);
    }
    Ok(Node::Not(Box::new(primary)))
}

fn parse_primary(lexer: &mut Lexer<'_>, depth: usize) -> Result<Node, SelectorError> {
    if depth >= MAX_DEPTH && lexer.at_parenthesis() {
        return Err(lexer.error(&format!("at most {MAX_DEPTH} nested parentheses")));
    }
    if lexer.take("(") {
        let node = parse_or(lexer, depth + 1)?;
        close(lexer, "'&&', '||' or ')'")?;
        return Ok(node);
    }
    if lexer.take("all(") {
        close(lexer, "')'")?;
        return Ok(Node::All);
    }
    if lexer.take("global(") {
        close(lexer, "')'")?;
        return Ok(Node::Global);
    }
    if lexer.take("has(") {
        lexer.skip_space();
        let Some(label) = lexer.take_label()? else {
            return Err(lexer.error("a label name"));
        };
        let label = label.to_owned();
        close(lexer, "')'")?;
        return Ok(Node::Has(label));
    }
    let Some(label) = lexer.take_label()? else {
        return Err(lexer.error("a label name, 'has(', 'all()', 'global()', '!' or '('"));
    };
    parse_operator(lexer, label.to_owned())
}

fn close(lexer: &mut Lexer<'_>, expected: &str) -> Result<(), SelectorError> {
    lexer.skip_space();
    if lexer.take(")") {
        Ok(())
    } else {
        Err(lexer.error(expected))
    }
}

fn parse_operator(lexer: &mut Lexer<'_>, label: String) -> Result<Node, SelectorError> {
    lexer.skip_space();
    if lexer.take("==") {
        return parse_comparison(lexer, label, Comparison::Equal);
    }
    if lexer.take("!=") {
        return parse_comparison(lexer, label, Comparison::NotEqual);
    }
    for (words, comparison) in COMPARISONS {
        if lexer.take_words(words) {
            return parse_comparison(lexer, label, comparison);
        }
    }
    if lexer.take_words(&["not", "in"]) {
        return Ok(Node::NotIn(label, parse_set(lexer)?));
    }
    if lexer.take_words(&["in"]) {
        return Ok(Node::In(label, parse_set(lexer)?));
    }
    Err(lexer.error(
        "an operator ('==', '!=', 'in', 'not in', 'contains', 'starts with' or 'ends with')",
    ))
}

fn parse_comparison(
    lexer: &mut Lexer<'_>,
    label: String,
    comparison: Comparison,
) -> Result<Node, SelectorError> {
    lexer.skip_space();
    match lexer.take_string()? {
        Some(operand) => Ok(Node::Compare(label, comparison, operand.to_owned())),
        None => Err(lexer.error("a string in quotes")),
    }
}

fn parse_set(lexer: &mut Lexer<'_>) -> Result<BTreeSet<String>, SelectorError> {
    lexer.skip_space();
    if !lexer.take("{") {
        return Err(lexer.error("'{'"));
    }
    let mut set = BTreeSet::new();
    loop {
        lexer.skip_space();
        match lexer.take_string()? {
            Some(value) => set.insert(value.to_owned()),
            None if lexer.take("}") => return Ok(set),
            None => return Err(lexer.error("a string in quotes or '}'")),
        };
        lexer.skip_space();
        if lexer.take("}") {
            return Ok(set);
        }
        if !lexer.take(",") {
            return Err(lexer.error("',' or '}'"));
        }
    }
}
