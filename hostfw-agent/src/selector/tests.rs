use super::*;

fn labels(text: &str) -> BTreeMap<String, String> {
    text.split_whitespace()
        .map(|pair| pair.split_once('=').expect("key=value"))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[track_caller]
fn parse(text: &str) -> Selector {
    Selector::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[track_caller]
fn error(text: &str) -> SelectorError {
    match Selector::parse(text) {
        Ok(selector) => panic!("{text:?} is taken for {selector}"),
        Err(error) => error,
    }
}

#[test]
fn operators_match() {
    for (text, object, expected) in [
        ("", "", true),
        ("  \t", "a=b", true),
        ("all()", "", true),
        ("global()", "", true),
        ("has(a)", "a=b", true),
        ("has(a)", "b=a", false),
        ("a == 'b'", "a=b", true),
        ("a == 'b'", "a=c", false),
        ("a == ''", "a=", true),
        ("a != 'b'", "a=c", true),
        ("a != 'b'", "a=b", false),
        ("a contains 'bc'", "a=abcd", true),
        ("a contains 'bc'", "a=bdc", false),
        ("a contains ''", "a=b", true),
        ("a starts with 'ab'", "a=abc", true),
        ("a starts with 'bc'", "a=abc", false),
        ("a ends with 'bc'", "a=abc", true),
        ("a ends with 'ab'", "a=abc", false),
        ("a in {'b', 'c'}", "a=c", true),
        ("a in {'b', 'c'}", "a=d", false),
        ("a not in {'b', 'c'}", "a=d", true),
        ("a not in {'b', 'c'}", "a=b", false),
        ("!has(a)", "", true),
        ("!has(a)", "a=b", false),
        ("!!has(a)", "a=b", true),
        ("! ! !has(a)", "a=b", false),
        ("has(a) && has(b)", "a=1", false),
        ("has(a) && has(b)", "a=1 b=1", true),
        ("has(a) || has(b)", "b=1", true),
        ("has(a) || has(b)", "c=1", false),
        // && binds tighter than ||, ! tighter than both.
        ("has(a) || has(b) && has(c)", "a=1", true),
        ("(has(a) || has(b)) && has(c)", "a=1", false),
        ("!has(a) && has(b)", "b=1", true),
        ("!(has(a) && has(b))", "b=1", true),
        ("!has(a) || has(a)", "a=1", true),
    ] {
        assert_eq!(
            parse(text).matches(&labels(object)),
            expected,
            "{text:?} on {object:?}"
        );
    }
}

#[test]
fn a_missing_label_matches_only_the_negative_operators() {
    for (text, expected) in [
        ("a == 'b'", false),
        ("a == ''", false),
        ("a in {'b'}", false),
        ("a in {}", false),
        ("a contains ''", false),
        ("a starts with ''", false),
        ("a ends with ''", false),
        ("has(a)", false),
        ("a != 'b'", true),
        ("a != ''", true),
        ("a not in {'b'}", true),
        ("a not in {}", true),
    ] {
        assert_eq!(parse(text).matches(&BTreeMap::new()), expected, "{text:?}");
    }
}

#[test]
fn sets() {
    let object = labels("a=b");
    assert!(!parse("a in {}").matches(&object));
    assert!(parse("a not in {}").matches(&object));
    for text in ["a in {'b',}", "a in{'b'}", "a in { 'c' , \"b\" }"] {
        assert!(parse(text).matches(&object), "{text:?}");
    }
    for text in [
        "a in {,}",
        "a in {'b',,}",
        "a in {'b' 'c'}",
        "a in {b}",
        "a in {'b'",
    ] {
        error(text);
    }
}

#[test]
fn keywords_may_be_labels() {
    for (text, object) in [
        ("in in {'x'}", "in=x"),
        ("not not in {'y'}", "not=x"),
        ("has == 'x'", "has=x"),
        ("all == 'x'", "all=x"),
        ("global == 'x'", "global=x"),
        ("contains contains 'x'", "contains=x"),
        ("starts starts with 'x'", "starts=x"),
        ("ends ends with 'x'", "ends=x"),
        ("has(has)", "has=x"),
        ("notin notin {'y'}", "notin=x"),
    ] {
        assert!(parse(text).matches(&labels(object)), "{text:?}");
    }
}

#[test]
fn spellings_of_word_operators() {
    for (one, other) in [
        ("a not in {'b'}", "a notin {'b'}"),
        ("a not in {'b'}", "a not\t  in{'b'}"),
        ("a starts with 'b'", "a startswith 'b'"),
        ("a ends with 'b'", "a endswith'b'"),
        ("a contains 'b'", "a contains'b'"),
        ("a == 'b'", "a=='b'"),
        ("a == 'b'", "a == \"b\""),
        ("all()", "all(  )"),
        ("has(a)", "has(\ta )"),
        ("has(a) && has(b)", "has(a)&&has(b)"),
        ("has(a)", "((has(a)))"),
        ("!has(a)", "!(!(!has(a)))"),
    ] {
        assert_eq!(parse(one), parse(other), "{one:?}, {other:?}");
    }
    // A word operator ends where no label character follows.
    for text in [
        "a inx {'b'}",
        "a not in-x {'b'}",
        "a containsx 'b'",
        "a starts withx 'b'",
        "a ends",
        "a starts 'b'",
        "a not 'b'",
    ] {
        error(text);
    }
}

#[test]
fn strings_hold_the_other_quote_and_have_no_escapes() {
    assert!(parse(r#"a == "it's""#).matches(&labels("a=it's")));
    assert!(parse(r#"a == '"'"#).matches(&labels("a=\"")));
    assert!(parse(r"a == '\'").matches(&labels(r"a=\")));
}

#[test]
fn labels_hold_slashes_dots_and_dashes() {
    let text = "projectcalico.org/created-by == 'x' && -_./ == 'y'";
    assert!(parse(text).matches(&labels("projectcalico.org/created-by=x -_./=y")));
}

#[test]
fn errors_name_position_expected_and_found() {
    for (text, position, expected, found) in [
        ("a = 'b'", 3, "an operator", "'='"),
        ("a == b", 6, "a string in quotes", "'b'"),
        ("a == 'b", 6, "a string that ends with '", "no end of it"),
        ("a == 'b' c", 10, "'&&', '||' or the end", "'c'"),
        ("a == 'b' & c", 10, "'&&', '||' or the end", "'&'"),
        ("(a == 'b'", 10, "'&&', '||' or ')'", "the end"),
        ("a == 'b')", 9, "'&&', '||' or the end", "')'"),
        ("has a)", 5, "an operator", "'a'"),
        ("has (a)", 5, "an operator", "'('"),
        ("all ()", 5, "an operator", "'('"),
        ("has()", 5, "a label name", "')'"),
        ("has(a", 6, "')'", "the end"),
        ("all(a)", 5, "')'", "'a'"),
        ("a in 'b'", 6, "'{'", "'''"),
        ("a in {'b'; 'c'}", 10, "',' or '}'", "';'"),
        ("&& a", 1, "a label name, 'has(', 'all()'", "'&&'"),
        (
            "a == 'b' &&",
            12,
            "a label name, 'has(', 'all()'",
            "the end",
        ),
        ("!", 2, "a label name, 'has(', 'all()'", "the end"),
        ("ä == 'b'", 1, "a label name", "'ä'"),
        ("a == 'ä' b", 10, "'&&', '||' or the end", "'b'"),
    ] {
        let error = error(text);
        assert_eq!(error.position, position, "{text:?}: {error}");
        assert!(error.expected.starts_with(expected), "{text:?}: {error}");
        assert_eq!(error.found.replace("\\'", "'"), found, "{text:?}: {error}");
    }
    assert_eq!(
        error("a == b").to_string(),
        "at character 6: expected a string in quotes, found 'b'"
    );
}

#[test]
fn a_newline_is_an_error() {
    for text in [
        "has(a)\n",
        "has(a) &&\nhas(b)",
        "\nhas(a)",
        "has(a)\r\n",
        "\n",
    ] {
        let error = error(text);
        assert!(error.found.contains("newline"), "{text:?}: {error}");
    }
}

#[test]
fn label_names_are_limited() {
    let longest = "a".repeat(MAX_LABEL_LENGTH);
    parse(&format!("has({longest})"));
    let error = error(&format!("has({longest}a)"));
    assert_eq!(
        (
            error.position,
            error.expected.as_str(),
            error.found.as_str()
        ),
        (5, "a label name of at most 512 characters", "one of 513")
    );
}

#[test]
fn nesting_is_limited() {
    let nested = |depth: usize| format!("{}all(){}", "(".repeat(depth), ")".repeat(depth));
    parse(&nested(MAX_DEPTH));
    let error = error(&nested(MAX_DEPTH + 1));
    assert_eq!(error.position, MAX_DEPTH + 1);
    assert_eq!(error.expected, "at most 64 nested parentheses");
    // A chain does not nest.
    let chain = vec!["(has(a) && !has(b))"; 10_000].join(" || ");
    assert!(parse(&chain).matches(&labels("a=1")));
}

#[test]
fn huge_selectors_neither_panic_nor_overflow() {
    const MEGABYTE: usize = 1 << 20;
    for piece in [
        "(",
        "!",
        "a",
        "'",
        "has(",
        "a in {",
        "!(",
        "all()&&",
        "{",
        "\u{1F600}",
        " ",
    ] {
        let text = piece.repeat(MEGABYTE / piece.len());
        // Only spaces are a selector; in all others something is missing.
        assert_eq!(Selector::parse(&text).is_ok(), piece == " ", "{piece:?}");
    }
    let bangs = format!("{}has(a)", "!".repeat(MEGABYTE + 1));
    assert_eq!(parse(&bangs), parse("!has(a)"));
    let set = format!("a in {{{}}}", "'b',".repeat(MEGABYTE / 4));
    assert_eq!(parse(&set), parse("a in {'b'}"));
    // The message stays short.
    let text = format!("a {}", "b".repeat(MEGABYTE));
    assert!(error(&text).to_string().len() < 300);
}

#[test]
fn the_canonical_text_parses_to_the_same_selector() {
    for (text, canonical) in [
        ("", "all()"),
        (" global( ) ", "global()"),
        ("has( a )", "has(a)"),
        ("a=='b'", "a == 'b'"),
        ("a != \"b\"", "a != 'b'"),
        ("a == \"it's\"", "a == \"it's\""),
        ("a startswith 'b'", "a starts with 'b'"),
        ("a endswith 'b'", "a ends with 'b'"),
        ("a contains 'b'", "a contains 'b'"),
        ("a in {'c','b','c',}", "a in {'b', 'c'}"),
        ("a notin {}", "a not in {}"),
        ("!(has(a)&&has(b))||has(c)", "!(has(a) && has(b)) || has(c)"),
        ("has(a)||has(b)&&has(c)", "has(a) || (has(b) && has(c))"),
        ("!!has(a)", "has(a)"),
        ("!a=='b'", "!a == 'b'"),
    ] {
        let selector = parse(text);
        assert_eq!(selector.to_string(), canonical);
        assert_eq!(parse(canonical), selector, "{canonical:?}");
    }
}

#[test]
fn selectors_are_made_of_others() {
    let joined = |parts: &[&str]| Selector::every(parts.iter().map(|part| parse(part))).to_string();
    assert_eq!(joined(&[]), "all()");
    assert_eq!(joined(&["has(a)"]), "has(a)");
    assert_eq!(
        joined(&["has(a) || has(b)", "c == 'd'"]),
        "(has(a) || has(b)) && c == 'd'"
    );
    assert_eq!(
        parse("has(a) && !(b in {'x'} || c not in {'y'}) && d != 'z' && all() && global()")
            .prefixed("p.")
            .to_string(),
        "has(p.a) && !(p.b in {'x'} || p.c not in {'y'}) && p.d != 'z' && all() && global()"
    );
    assert_eq!(
        parse("all() && !all() || global()")
            .with_all_as("n")
            .to_string(),
        "(has(n) && !has(n)) || global()"
    );
    assert_eq!(
        parse("all() && global() && !global()")
            .with_global_as_without("n")
            .to_string(),
        "all() && !has(n) && has(n)"
    );
    assert_eq!(Selector::has("a"), parse("has(a)"));
    assert_eq!(
        Selector::one_of("a", ["c".to_owned(), "b".to_owned()]),
        parse("a in {'b', 'c'}")
    );
}

#[test]
fn a_selector_of_a_megabyte_takes_no_longer_than_its_length() {
    const MANY: usize = 1 << 20;
    let started = std::time::Instant::now();
    let values = vec!["'v'"; MANY / 4].join(",");
    for (text, good) in [
        (vec!["has(a)"; MANY / 10].join(" && "), true),
        (vec!["!has(a)"; MANY / 11].join(" || "), true),
        (format!("a in {{{values}}}"), true),
        (format!("{}has(a)", "!".repeat(MANY)), true),
        (format!("{}has(a)", "! ".repeat(MANY / 2)), true),
        (format!("a == '{}'", "x".repeat(MANY)), true),
        ("(".repeat(MANY), false),
        (format!("has({})", "a".repeat(MANY)), false),
        (format!("a == '{}", "x".repeat(MANY)), false),
        (
            format!("{}|", vec!["has(a)"; MANY / 10].join(" && ")),
            false,
        ),
        (" ".repeat(MANY), true),
        ("\u{1F600}".repeat(MANY / 4), false),
    ] {
        let result = Selector::parse(&text);
        assert_eq!(result.is_ok(), good, "{text:.20}");
        match result {
            Ok(selector) => {
                let prefixed = selector.prefixed("p.").with_all_as("p.q");
                assert_eq!(
                    prefixed.matches(&labels("p.a=v p.q=w")),
                    selector.matches(&labels("a=v"))
                );
            }
            Err(error) => assert!(error.to_string().len() < 200, "{error}"),
        }
    }
    // Quadratic work would take hours.
    assert!(started.elapsed().as_secs() < 60);
}
