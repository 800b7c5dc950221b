//! The runner, on a crate small enough to build in a second.

use std::{fs, path::Path};

use super::*;
use crate::test::suite;

const SOURCE: &str = r#"
pub fn clamp(value: u32) -> u32 {
    if value > 10 { 10 } else { value }
}

pub fn unwatched() -> u32 {
    7
}

#[cfg(test)]
mod tests {
    #[test]
    fn large_values_are_clamped() {
        assert_eq!(super::clamp(11), 10);
    }

    #[test]
    fn small_values_stay() {
        assert_eq!(super::clamp(3), 3);
    }
}
"#;

const FAULTS: &str = r#"
[[mutant]]
name = "found"
file = "src/lib.rs"
find = "value > 10"
replace = "value > 100"
breaks = ["unit:tests::large_values_are_clamped"]

[[mutant]]
name = "noticed-by-nobody"
file = "src/lib.rs"
find = "    7"
replace = "    8"
breaks = ["unit:tests::small_values_stay"]

[[mutant]]
name = "does-not-build"
file = "src/lib.rs"
find = "{ 10 }"
replace = "{ ten }"
breaks = ["unit:tests::large_values_are_clamped"]

[[mutant]]
name = "ambiguous"
file = "src/lib.rs"
find = "value "
replace = "other"
breaks = ["unit:tests::small_values_stay"]

[[mutant]]
name = "no-such-test"
file = "src/lib.rs"
find = "    7"
replace = "    8"
breaks = ["unit:tests::nothing"]
"#;

struct Tiny<'a>(&'a Workspace);

impl Tiny<'_> {
    fn cargo(&self) -> std::process::Command {
        let mut command = self.0.cargo("test");
        command.args(["--offline", "--lib"]);
        command
    }
}

impl Subject for Tiny<'_> {
    fn build(&mut self, _: &[Suite]) -> Result<bool> {
        let report = suite::execute(self.cargo().arg("--no-run"), true, None)?;
        Ok(report.broken.is_empty())
    }

    fn test(&mut self, _: Suite, _: &[&str]) -> Result<Report> {
        suite::execute(self.cargo().args(["--", "--show-output"]), true, None)
    }
}

fn crate_at(root: &Path) -> Vec<Mutant> {
    fs::create_dir_all(root.join("src")).unwrap();
    let manifest = "[package]\nname = \"tiny\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(root.join("Cargo.toml"), manifest).unwrap();
    fs::write(root.join("src/lib.rs"), SOURCE).unwrap();
    let table = root.join("faults.toml");
    fs::write(&table, FAULTS).unwrap();
    table::read(&table).unwrap()
}

#[test]
fn only_a_fault_that_breaks_what_it_should_counts() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    let mutants = crate_at(&root);
    let mut workspace = Workspace::here().unwrap();
    workspace.root = root.clone();
    workspace.target = Some(folder.path().join("build"));
    let mut subject = Tiny(&workspace);
    let sound = baseline(&mutants, &mut subject).unwrap();
    let mut found = |name: &str| {
        let mutant = mutants.iter().find(|mutant| mutant.name == name).unwrap();
        let result = plant(mutant, &root, &mut subject, &sound);
        let text = fs::read_to_string(root.join("src/lib.rs")).unwrap();
        assert_eq!(text, SOURCE, "{name} was left in place");
        match result {
            Ok(Finding::Found(broken)) => broken.join(" "),
            Ok(Finding::Skipped(why)) => why,
            Err(error) => format!("error: {error:#}"),
        }
    };
    assert_eq!(found("found"), "unit:tests::large_values_are_clamped");
    assert_eq!(
        found("noticed-by-nobody"),
        "error: expected to break unit:tests::small_values_stay; broke nothing"
    );
    assert_eq!(found("does-not-build"), "error: does not build");
    assert!(found("ambiguous").contains("found it 2 times"));
    assert!(found("no-such-test").contains("does not exist"));
    let whole = judge(&mutants, &root, &mut subject).unwrap();
    assert_eq!(whole.to_string(), "1 passed, 4 failed, 0 skipped");
}
