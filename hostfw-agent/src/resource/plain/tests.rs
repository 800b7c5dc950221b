use serde_json::json;

use super::*;
use crate::resource::syntax::read_any_yaml;

/// What is read, which is what the parser of all YAML reads.
fn compared(text: &str) -> Option<Value> {
    let plain = read(text)?.value;
    match read_any_yaml(text) {
        Ok(value) => assert_eq!(plain, value, "{text}"),
        Err(error) => panic!("{error:?}: {text}"),
    }
    Some(plain)
}

#[test]
fn what_resources_look_like_is_plain() {
    let text = "---
# A policy.
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: p0001, labels: {a.b/c: d}}
spec:
  order: 10
  selector: role == 'a' && has(b) || c in {'x', \"y\"}
  preDNAT: true

  types:
  - Ingress
  ingress:
    - {action: Allow, protocol: TCP, source: {nets: [10.0.0.0/8, fd00::/8], notNets: []}, destination: {ports: [80, '81:90'], x: {}}}
    # Another rule.
    - action: Deny
      source:
        nets:
        - 192.0.2.1
        - 2001:db8::1/64
        - 'quoted # text: here'
        selector: all()   
      destination:
          ports: [ 1 , 2 ]
";
    let value = compared(text).unwrap();
    assert_eq!(
        value["spec"]["ingress"][1]["source"]["nets"][0],
        "192.0.2.1"
    );
    assert_eq!(
        value["spec"]["ingress"][1]["destination"],
        json!({ "ports": [1, 2] })
    );
    assert_eq!(
        value["spec"]["selector"],
        "role == 'a' && has(b) || c in {'x', \"y\"}"
    );
}

#[test]
fn whatever_is_not_plain_is_left_to_the_parser_of_all_yaml() {
    for text in [
        "",
        "---",
        "--- a: b\n",
        "a: é\n",
        "a:\tb\n",
        "a: b\r\n",
        "a:\n",
        "a: b\n  c\n",
        "a: b\n\n  c\n",
        "a: b\n # x\n  c\n",
        "a: b # c\n",
        "a: b: c\n",
        "a: b:\n",
        "a: |\n  b\n",
        "a: >\n  b\n",
        "a: &x b\n",
        "a: *x\n",
        "a: !t b\n",
        "a: !!str 1\n",
        "a: 'it''s'\n",
        "a: \"\\n\"\n",
        "a: 'b\n  c'\n",
        "a: [b,\n  c]\n",
        "a: [b,c]\n",
        "a: [b, ]\n",
        "a: [b, c\n",
        "a: [b] c\n",
        "a: [b: c]\n",
        "a: {b}\n",
        "a: {b:c}\n",
        "a: {b: }\n",
        "a: {'b': c}\n",
        "a: b\na: c\n",
        "a: {b: c, b: d}\n",
        "? a\n",
        "<<: a\n",
        "yes: a\n",
        "1: a\n",
        "a: yes\n",
        "a: Null\n",
        "a: NaN\n",
        "a: ~\n",
        "a: 010\n",
        "a: 0x10\n",
        "a: 1.5\n",
        "a: 1e3\n",
        "a: -1\n",
        "a: 1:30\n",
        "a: 2026-01-01\n",
        "a: 9007199254740993000\n",
        "- a\n",
        "- - a\n",
        "a:\n  -\n",
        "a:\n  - - b\n",
        "a:\n  -  b\n   c\n",
        "a:\n - b\n  - c\n",
        "a:\n  b: c\n d: e\n",
        " a: b\n",
        "%a\n",
        "a: @b\n",
        "a: `b\n",
    ] {
        assert!(read(text).is_none(), "{text:?}");
    }
    let deep = |depth: usize| format!("a: {}{}\n", "[".repeat(depth), "]".repeat(depth));
    assert!(compared(&deep(10)).is_some());
    assert!(read(&deep(100)).is_none());
}

#[test]
fn words_and_addresses_are_text() {
    for text in [
        "a",
        "nope",
        "trueish",
        "infinite",
        "x1",
        "e5",
        "a.b",
        "a-b_c",
        "all()",
        "10.0.0.0/8",
        "10.0.0.1",
        "::1/128",
        "2001:db8::1",
        "0.0.0.0/0",
        "1/2",
        "a:b",
        "a#b",
        "projectcalico.org/v3",
        "dead",
        "1...2",
        "has(a), b",
        "no-",
        "on1",
        "a'b",
        "a\"b",
        "a!",
    ] {
        let text = format!("key: {text}\nlist:\n- {text}\n");
        if !text.contains(": :") {
            assert!(compared(&text).is_some(), "{text}");
        }
        compared(&format!("key: [{text}]\n"));
    }
    for number in ["0", "1", "80", "65535", "123456789012345"] {
        let value = compared(&format!("a: {number}\nb: [{number}]\n")).unwrap();
        assert!(value["a"].is_number());
    }
}

/// A sequence of numbers below what is asked for, the same each time.
fn random(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

#[test]
fn made_up_texts_are_read_as_the_parser_of_all_yaml_reads_them() {
    const TOKENS: [&str; 40] = [
        "a",
        "b",
        "key",
        "true",
        "yes",
        "null",
        "0",
        "7",
        "08",
        "1.5",
        "10.0.0.0/8",
        "fd00::1",
        "1:2",
        "::1",
        "'q'",
        "\"q\"",
        "'",
        "\"",
        ":",
        ": ",
        ":",
        "- ",
        "-",
        " ",
        "  ",
        "    ",
        ", ",
        ",",
        "{",
        "}",
        "[",
        "]",
        "#",
        " #",
        "\n",
        "\n  ",
        "\n- ",
        "\n    - ",
        "\na: ",
        "\\",
    ];
    let mut random = random(1);
    let mut read = 0;
    for _ in 0..60_000 {
        let mut text = "k: ".to_owned();
        for _ in 0..random(14) {
            text.push_str(TOKENS[random(TOKENS.len())]);
        }
        text.push('\n');
        read += usize::from(compared(&text).is_some());
    }
    assert!(read > 1000, "{read}");
}

#[test]
fn texts_with_a_changed_character_are_read_as_the_parser_of_all_yaml_reads_them() {
    const TEXT: &str = "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\n\
                        metadata: {name: a, labels: {set: listed, x: 'y'}}\nspec:\n  \
                        order: 10\n  nets:\n    - 10.0.0.0/8\n    - fd00::1\n  x:\n  \
                        - action: Allow\n    ports: [80, '1:2']\n    u:\n      z: w\n  \
                        - {a: b, c: [d, e]}\n";
    const WITH: &[u8] = b" \n:-#'\"{}[],0a.&*!|>?%@`~\\<=/\t_e";
    let mut random = random(2);
    let mut read = 0;
    for _ in 0..60_000 {
        let mut text = TEXT.as_bytes().to_vec();
        for _ in 0..1 + random(3) {
            let at = random(text.len());
            let with = WITH[random(WITH.len())];
            match random(3) {
                0 => text[at] = with,
                1 => text.insert(at, with),
                _ => {
                    text.remove(at);
                }
            }
        }
        let text = String::from_utf8(text).unwrap();
        // Marks are cut at before anything is read.
        if !text[1..].contains("\n---") && !text.contains("\n...") {
            read += usize::from(compared(&text).is_some());
        }
    }
    assert!(read > 10_000, "{read}");
}

#[test]
fn the_lines_of_networks_are_known() {
    let text = "kind: GlobalNetworkSet\nspec:\n  nets:\n  - 10.0.0.0/8\n  - fd00::1\n  x: z\n";
    let items = read(text).unwrap().nets.unwrap();
    assert_eq!(items.indent, 2);
    assert_eq!(&text[items.lines.clone()], "  - 10.0.0.0/8\n  - fd00::1\n");
    for text in [
        "spec:\n  nets:\n  - 10.0.0.0/8\n  # fd00::1\n  - fd00::1\n",
        "spec:\n  nets:\n  - 10.0.0.0/8\n\n  - fd00::1\n",
        "spec:\n  nets:\n  - '10.0.0.0/8'\n",
        "spec:\n  nets:\n  - a: b\n",
        "spec:\n  nets:\n  - 10\n",
        "spec:\n  nets:\n  - 10.0.0.0/8",
        "spec:\n  nets: [10.0.0.0/8]\n",
        "spec:\n  x:\n    nets:\n    - 10.0.0.0/8\n",
        "nets:\n- 10.0.0.0/8\n",
    ] {
        assert!(compared(text).is_some(), "{text}");
        assert_eq!(read(text).unwrap().nets, None, "{text}");
    }
}
