//! Which top-level modules a source file uses: by `crate::`, or by enough
//! `super::`.

use std::path::Path;

/// The module that a file below `src` makes: `compile/image.rs` is
/// `[compile, image]`, `lib.rs` nothing.
pub(super) fn module_path(file: &Path) -> Vec<String> {
    let mut path: Vec<String> = file
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if matches!(
        path.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        path.pop();
    }
    path
}

/// The top-level modules that the text uses, with the lines. `depth` is the
/// length of the file's module path.
pub(super) fn used_modules(text: &str, depth: usize) -> Vec<(usize, String)> {
    let tokens = tokens(text);
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut used = Vec::new();
    // For each open brace, whether it begins an inline module.
    let mut braces = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match word(at) {
            "{" => {
                let is_module = at >= 2 && word(at - 2) == "mod";
                braces.push(is_module);
            }
            "}" => {
                braces.pop();
            }
            "crate" if word(at + 1) == "::" => {
                at = path_heads(&tokens, at + 2, &mut used);
                continue;
            }
            "super" if word(at + 1) == "::" => {
                let mut level = depth + braces.iter().filter(|is_module| **is_module).count();
                while word(at) == "super" && word(at + 1) == "::" {
                    level = level.saturating_sub(1);
                    at += 2;
                }
                if level == 0 {
                    at = path_heads(&tokens, at, &mut used);
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    used
}

/// The items of `module` that the text names by a path through it, with the
/// lines.
pub(super) fn used_items(text: &str, module: &str) -> Vec<(usize, String)> {
    let tokens = tokens(text);
    let mut used = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair[0].text == module && pair[1].text == "::" {
            path_heads(&tokens, at + 2, &mut used);
        }
    }
    used
}

/// Takes the first segment of a path, or of each path of a braced list.
/// Returns where to go on.
fn path_heads(tokens: &[Token<'_>], at: usize, used: &mut Vec<(usize, String)>) -> usize {
    let Some(first) = tokens.get(at) else {
        return at;
    };
    if first.text != "{" {
        used.push((first.line, first.text.to_owned()));
        return at + 1;
    }
    let mut nesting = 0;
    let mut head = false;
    for (offset, token) in tokens[at..].iter().enumerate() {
        match token.text {
            "{" => {
                nesting += 1;
                head = nesting == 1;
            }
            "}" => {
                nesting -= 1;
                if nesting == 0 {
                    return at + offset + 1;
                }
            }
            "," => head = nesting == 1,
            text if head => {
                used.push((token.line, text.to_owned()));
                head = false;
            }
            _ => {}
        }
    }
    tokens.len()
}

struct Token<'a> {
    line: usize,
    text: &'a str,
}

/// Words, `::`, and single punctuation; comments and literals left out.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let find = |from: usize, what: &str| text[from..].find(what).map_or(text.len(), |at| from + at);
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < bytes.len() {
        let begin = at;
        match bytes[at] {
            b'/' if text[at..].starts_with("//") => at = find(at, "\n"),
            b'/' if text[at..].starts_with("/*") => {
                let mut open = 0;
                loop {
                    if text[at..].starts_with("/*") {
                        open += 1;
                        at += 2;
                    } else if text[at..].starts_with("*/") {
                        open -= 1;
                        at += 2;
                    } else {
                        at += text[at..].chars().next().map_or(1, char::len_utf8);
                    }
                    if open == 0 || at >= bytes.len() {
                        break;
                    }
                }
            }
            b'"' => at = string_end(bytes, at + 1),
            b'\'' => at = quote_end(text, at),
            byte if is_word(byte) => {
                while at < bytes.len() && is_word(bytes[at]) {
                    at += 1;
                }
                let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
                let raw = matches!(&text[begin..at], "r" | "br" | "cr")
                    && bytes.get(at + hashes) == Some(&b'"');
                if raw {
                    let end = format!("\"{}", "#".repeat(hashes));
                    at = find(at + hashes + 1, &end) + end.len();
                } else {
                    tokens.push(Token {
                        line,
                        text: &text[begin..at],
                    });
                }
            }
            b':' if text[at..].starts_with("::") => {
                at += 2;
                tokens.push(Token {
                    line,
                    text: &text[begin..at],
                });
            }
            byte => {
                at += 1;
                if !byte.is_ascii_whitespace() {
                    tokens.push(Token {
                        line,
                        text: &text[begin..at],
                    });
                }
            }
        }
        at = at.min(bytes.len());
        line += bytes[begin..at].iter().filter(|b| **b == b'\n').count();
    }
    tokens
}

/// The end of a string whose first character is at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// The end of a character literal, or of the quote of a lifetime.
fn quote_end(text: &str, at: usize) -> usize {
    let mut rest = text[at + 1..].chars();
    match rest.next() {
        Some('\\') => {
            // The escaped character may be a quote.
            let skip = at + 2 + rest.next().map_or(0, char::len_utf8);
            text[skip..]
                .find('\'')
                .map_or(text.len(), |end| skip + end + 1)
        }
        Some(character) if rest.next() == Some('\'') => at + 1 + character.len_utf8() + 1,
        _ => at + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(text: &str, depth: usize) -> Vec<String> {
        used_modules(text, depth)
            .into_iter()
            .map(|(_, module)| module)
            .collect()
    }

    #[test]
    fn files_make_modules() {
        assert_eq!(
            module_path(Path::new("compile/image.rs")),
            ["compile", "image"]
        );
        assert_eq!(module_path(Path::new("compile/mod.rs")), ["compile"]);
        assert_eq!(module_path(Path::new("lint.rs")), ["lint"]);
        assert!(module_path(Path::new("lib.rs")).is_empty());
    }

    #[test]
    fn paths_and_lists_are_read() {
        let text = "use crate::{\n    model::{Rule, order::Order},\n    maps,\n    select as s,\n};\nfn f() -> crate::attach::Link { crate::adopt::g() }";
        assert_eq!(
            used(text, 1),
            ["model", "maps", "select", "attach", "adopt"]
        );
        assert_eq!(used_modules(text, 1)[1].0, 3);
    }

    #[test]
    fn items_of_a_module_are_read() {
        let text = "use crate::{\n    model::{Rule, order::Order},\n    maps,\n};\nfn f(_: \
                    crate::model::Kind) {}";
        let used: Vec<String> = used_items(text, "model")
            .into_iter()
            .map(|(line, item)| format!("{line} {item}"))
            .collect();
        assert_eq!(used, ["2 Rule", "2 order", "5 Kind"]);
    }

    #[test]
    fn super_counts_only_at_the_root() {
        assert_eq!(used("use super::maps::Map;", 1), ["maps"]);
        assert_eq!(
            used("use super::{maps, attach::Link};", 1),
            ["maps", "attach"]
        );
        assert!(used("use super::maps::Map;", 2).is_empty());
        assert_eq!(used("use super::super::maps::Map;", 2), ["maps"]);
        assert!(used("mod tests { use super::maps::Map; }", 1).is_empty());
        assert_eq!(used("mod tests { use super::super::maps; }", 1), ["maps"]);
        assert_eq!(
            used("mod tests { fn f() {} }\nuse super::maps;", 1),
            ["maps"]
        );
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = r####"
            //! See crate::maps.
            /* crate::maps /* nested */ crate::maps */
            const A: &str = "crate::maps \" crate::maps";
            const B: &str = r#"crate::maps " crate::maps"#;
            const C: (char, char) = ('"', '\'');
            fn f<'a>(_: &'a str) { crate::model::g() }
        "####;
        assert_eq!(used(text, 1), ["model"]);
    }
}
