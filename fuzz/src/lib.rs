//! What the fuzz targets do with a piece of input. The seeds, and many small
//! changes of them, also run through it as a test
//! (`hostfw-agent/tests/fuzz_seeds.rs`), where no fuzzer is needed.

use std::collections::BTreeMap;

use hostfw_agent::{
    resource::{Resource, parse_documents},
    selector::Selector,
    validate::validate,
};

/// A text as a selector: what can be parsed has a canonical text that means the
/// same.
///
/// # Panics
///
/// If it does not.
pub fn selector(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(parsed) = Selector::parse(text) else {
        return;
    };
    let canonical = parsed.to_string();
    let again = Selector::parse(&canonical).expect("a canonical text can be parsed");
    assert_eq!(parsed, again, "{canonical}");
    let labels = BTreeMap::from([
        ("a".to_owned(), "x".to_owned()),
        ("in".to_owned(), String::new()),
    ]);
    for labels in [BTreeMap::new(), labels] {
        assert_eq!(parsed.matches(&labels), again.matches(&labels));
    }
}

/// A text as YAML or JSON with resources: what can be read is written and read
/// again as the same, and checked.
///
/// # Panics
///
/// If it is not the same.
pub fn resources(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for document in parse_documents(text) {
        let Ok(resources) = document.result else {
            continue;
        };
        for resource in resources {
            let value = resource.to_value();
            let again = Resource::from_value(&value).expect("what was written can be read");
            assert_eq!(resource, again);
            if let Err(errors) = validate(&resource) {
                assert!(!errors.is_empty(), "refused without a word: {value}");
            }
        }
    }
}
