//! `cargo xtask layers`: what the compiler does not hold.
//!
//! - a module of hostfw-agent imports only modules left of it, so no circle
//!   can form;
//! - every crate inherits the workspace's lints: a crate that does not is
//!   linted by nobody, and nothing else would say so;
//! - no source file is longer than [`MAX_LINES`].

mod imports;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::test::count::Count;

/// The modules of hostfw-agent, from left to right.
const ORDER: &[&str] = &[
    "sorted",
    "selector",
    "model",
    "question",
    "resource",
    "crd",
    "source",
    "validate",
    "lint",
    "accept",
    "reference",
    "select",
    "compile",
    "maps",
    "interfaces",
    "attach",
    "adopt",
    "judge",
    "observe",
    "publish",
    "ctl",
    "reconcile",
];

/// Modules that may not use another one although it is left of them.
const FORBIDDEN: &[(&str, &[&str])] = &[
    // hostfwctl never touches what enforces. Its kernel judge loads programs of
    // its own, which `judge` keeps apart.
    ("ctl", &["maps", "interfaces", "attach", "adopt"]),
    // The reference judge is a second reading of the semantics only as long as
    // it takes nothing from the first.
    (
        "reference",
        &["selector", "source", "validate", "lint", "accept"],
    ),
];

/// Modules that may use only some items of another one: who, whose, which.
const ONLY: &[(&str, &str, &[&str])] = &[
    // Names and what the kernel tells, nothing that was read from a resource.
    ("reference", "model", &["Interface", "Kind", "ObjectRef"]),
];

/// Longer files have more than one reason to change.
const MAX_LINES: usize = 700;

/// Checks everything, printing each violation.
pub(crate) fn run(root: &Path) -> Result<Count> {
    let mut count = Count::default();
    for (name, violations) in [
        (
            "import order",
            import_order(&root.join("hostfw-agent/src"))?,
        ),
        ("lint inheritance", lint_inheritance(root)?),
        ("file length", file_length(root)?),
    ] {
        for violation in &violations {
            println!("    {violation}");
        }
        count += if violations.is_empty() {
            println!("    {name}: ok");
            Count::PASSED
        } else {
            println!("    {name}: {} wrong", violations.len());
            Count::FAILED
        };
    }
    Ok(count)
}

/// What `module` may not use `other` for, if anything.
fn refusal(module: &str, other: &str) -> Option<String> {
    let position = |name: &str| ORDER.iter().position(|known| *known == name);
    let (Some(from), Some(to)) = (position(module), position(other)) else {
        return None;
    };
    if to > from {
        return Some(format!("{other} comes after {module}"));
    }
    let forbidden = FORBIDDEN
        .iter()
        .any(|(who, whom)| *who == module && whom.contains(&other));
    forbidden.then(|| format!("{module} keeps its hands off {other}"))
}

fn import_order(source: &Path) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    let mut seen = Vec::new();
    for file in rust_files(source)? {
        let inner = file.strip_prefix(source).unwrap_or(&file);
        let path = imports::module_path(inner);
        let Some(module) = path.first() else {
            continue;
        };
        if module == "bin" {
            continue;
        }
        if !ORDER.contains(&module.as_str()) {
            violations.push(format!(
                "{}: module {module} has no place in the order (xtask/src/layers)",
                file.display()
            ));
            continue;
        }
        seen.push(module.clone());
        let text = read(&file)?;
        for (line, used) in imports::used_modules(&text, path.len()) {
            if let Some(why) = refusal(module, &used) {
                violations.push(format!("{}:{line}: {why}", file.display()));
            }
        }
        for (_, other, allowed) in ONLY.iter().filter(|(who, ..)| who == module) {
            for (line, item) in imports::used_items(&text, other) {
                if !allowed.contains(&item.as_str()) {
                    violations.push(format!(
                        "{}:{line}: {module} uses of {other} only {}, not {item}",
                        file.display(),
                        allowed.join(", ")
                    ));
                }
            }
        }
    }
    if seen.is_empty() {
        bail!("{} holds no module", source.display());
    }
    Ok(violations)
}

fn lint_inheritance(root: &Path) -> Result<Vec<String>> {
    let manifest = |path: &Path| -> Result<toml::Table> {
        toml::from_str(&read(path)?).with_context(|| path.display().to_string())
    };
    let workspace = manifest(&root.join("Cargo.toml"))?;
    let members = workspace
        .get("workspace")
        .and_then(|table| table.get("members"))
        .and_then(toml::Value::as_array)
        .context("Cargo.toml names no members")?;
    let mut violations = Vec::new();
    for member in members.iter().filter_map(toml::Value::as_str) {
        let path = root.join(member).join("Cargo.toml");
        let inherits = manifest(&path)?
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            .and_then(toml::Value::as_bool);
        if inherits != Some(true) {
            violations.push(format!(
                "{}: expected `[lints] workspace = true`",
                path.display()
            ));
        }
    }
    Ok(violations)
}

fn file_length(root: &Path) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    for file in rust_files(root)? {
        let lines = read(&file)?.lines().count();
        if lines > MAX_LINES {
            violations.push(format!(
                "{}: {lines} lines, expected at most {MAX_LINES}",
                file.display()
            ));
        }
    }
    Ok(violations)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// All `.rs` files below a folder, sorted; build output and hidden folders
/// left out.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            if entry.file_type()?.is_dir() {
                if name != "target" && !name.to_string_lossy().starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_point_left() {
        assert_eq!(refusal("compile", "select"), None);
        assert_eq!(refusal("compile", "compile"), None);
        assert!(refusal("select", "compile").is_some());
        assert_eq!(refusal("ctl", "observe"), None);
        assert!(refusal("ctl", "maps").is_some());
        assert!(refusal("observe", "ctl").is_some());
    }

    #[test]
    fn a_file_that_imports_rightwards_is_found() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("model")).unwrap();
        std::fs::write(
            folder.path().join("model/rule.rs"),
            "use crate::selector::Selector;\nuse crate::{\n    maps::Map,\n};\n",
        )
        .unwrap();
        std::fs::write(folder.path().join("stray.rs"), "").unwrap();
        let violations = import_order(folder.path()).unwrap();
        assert_eq!(violations.len(), 2, "{violations:?}");
        assert!(violations[0].ends_with("rule.rs:3: maps comes after model"));
        assert!(violations[1].contains("stray has no place"));
    }

    #[test]
    fn the_reference_takes_names_alone() {
        assert!(refusal("reference", "selector").is_some());
        assert!(refusal("reference", "select").is_some());
        assert_eq!(refusal("reference", "resource"), None);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("reference")).unwrap();
        std::fs::write(
            folder.path().join("reference/rule.rs"),
            "use crate::{\n    model::{Kind, Rule},\n    resource::Rule as Written,\n};\n",
        )
        .unwrap();
        let violations = import_order(folder.path()).unwrap();
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert!(violations[0].ends_with(
            "rule.rs:2: reference uses of model only Interface, Kind, ObjectRef, not Rule"
        ));
    }

    #[test]
    fn long_files_and_lonely_crates_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("Cargo.toml", "[workspace]\nmembers = [\"good\", \"bad\"]\n");
        write("good/Cargo.toml", "[lints]\nworkspace = true\n");
        write("bad/Cargo.toml", "[package]\nname = \"bad\"\n");
        write("good/long.rs", &"\n".repeat(MAX_LINES + 1));
        write("good/short.rs", &"\n".repeat(MAX_LINES));
        write("target/generated.rs", &"\n".repeat(2 * MAX_LINES));
        let lonely = lint_inheritance(folder.path()).unwrap();
        assert_eq!(lonely.len(), 1);
        assert!(lonely[0].contains("bad/Cargo.toml"));
        let long = file_length(folder.path()).unwrap();
        assert_eq!(long.len(), 1, "{long:?}");
        assert!(long[0].contains("long.rs: 701 lines"));
    }
}
