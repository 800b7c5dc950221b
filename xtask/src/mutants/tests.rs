//! The runner, on a crate small enough to build in a second.

use std::{fs, path::Path, process::Command};

use super::*;
use crate::test::suite;

const SOURCE: &str = r#"
pub fn clamp(value: u32) -> u32 {
    if value > 10 { 10 } else { value }
}

pub fn unwatched() -> u32 {
    7
}

pub const LIMIT: u32 = 5;

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

    #[test]
    fn the_limit_is_known() {
        assert_eq!(super::LIMIT, 5);
    }
}
"#;

const FAULTS: &str = r#"
shows = "crate::planted::is"

[[switch]]
file = "src/lib.rs"
find = "pub fn clamp"
replace = "mod planted;\npub fn clamp"

[[mutant]]
name = "found"
file = "src/lib.rs"
find = "value > 10"
replace = "value > 100"
breaks = ["unit:tests::large_values_are_clamped"]
unseen = "no judge here"

[[mutant]]
name = "found-by-a-word"
file = "src/lib.rs"
find = "else { value }"
replace = "else { value + u32::from(PLANTED) }"
breaks = ["unit:tests::small_values_stay"]
unseen = "no judge here"

[[mutant]]
name = "noticed-by-nobody"
file = "src/lib.rs"
find = "    7"
replace = "    8"
breaks = ["unit:tests::small_values_stay"]
unseen = "no judge here"

[[mutant]]
name = "found-alone"
file = "src/lib.rs"
find = "u32 = 5"
replace = "u32 = if PLANTED { 6 } else { 5 }"
breaks = ["unit:tests::the_limit_is_known"]
unseen = "no judge here"
alone = true

[[mutant]]
name = "does-not-build"
file = "src/lib.rs"
find = "{ 10 }"
replace = "{ ten }"
breaks = ["unit:tests::large_values_are_clamped"]
unseen = "no judge here"
alone = true

[[mutant]]
name = "no-such-test"
file = "src/lib.rs"
find = "u32 {\n    7"
replace = "u32 {\n    8"
breaks = ["unit:tests::nothing"]
unseen = "no judge here"
alone = true
"#;

struct Tiny<'a>(&'a Workspace);

impl Tiny<'_> {
    fn cargo(&self) -> Command {
        let mut command = self.0.cargo("test");
        command.args(["--offline", "--lib"]);
        command
    }
}

impl Subject for Tiny<'_> {
    fn build(&mut self, woven: &Woven, _: &[Suite]) -> Result<bool> {
        for (file, text) in woven {
            fs::write(self.0.root.join(file), text)?;
        }
        let report = suite::execute(self.cargo().arg("--no-run"), true, None)?;
        Ok(report.broken.is_empty())
    }

    fn test(&self, _: Suite, tests: &[&str], fault: usize) -> Result<Report> {
        let mut command = self.cargo();
        command
            .env(weave::NUMBER, fault.to_string())
            .args(["--", "--show-output", "--exact"])
            .args(tests);
        suite::execute(&mut command, true, None)
    }
}

/// Each test fails at its first run, and the fault breaks it.
struct Nervous(Mutex<BTreeMap<String, usize>>);

impl Subject for Nervous {
    fn build(&mut self, _: &Woven, _: &[Suite]) -> Result<bool> {
        Ok(true)
    }

    fn test(&self, _: Suite, tests: &[&str], fault: usize) -> Result<Report> {
        let mut runs = self.0.lock().unwrap();
        let mut report = Report::default();
        for test in tests {
            let run = runs.entry((*test).to_owned()).or_default();
            *run += 1;
            let failed = fault > 0 || *run == 1 || *test == "always";
            let outcome = if failed {
                Outcome::Failed
            } else {
                Outcome::Passed
            };
            report.tests.insert((*test).to_owned(), outcome);
        }
        Ok(report)
    }
}

#[test]
fn what_fails_without_a_fault_has_a_second_chance_alone() {
    let subject = Nervous(Mutex::default());
    let wanted = BTreeMap::from([(Suite::Netns, vec!["always", "once"])]);
    let sound = baseline(&wanted, &subject).unwrap();
    let report = &sound[&Suite::Netns];
    assert_eq!(outcome(report, "once"), Some(&Outcome::Passed));
    assert_eq!(outcome(report, "always"), Some(&Outcome::Failed));
    assert_eq!(subject.0.lock().unwrap()["once"], 2);
}

/// A crate to plant faults in, and what it is copied from.
fn crate_at(root: &Path) -> Table {
    fs::create_dir_all(root.join("src")).unwrap();
    let manifest = "[package]\nname = \"tiny\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(root.join("Cargo.toml"), manifest).unwrap();
    fs::write(root.join("src/lib.rs"), SOURCE).unwrap();
    let switch = Workspace::here().unwrap().root.join(TABLE);
    let switch = switch.with_file_name("planted.rs");
    fs::copy(switch, root.join("src/planted.rs")).unwrap();
    Table::parse(FAULTS).unwrap()
}

#[test]
fn only_a_fault_that_breaks_what_it_should_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (original, root) = (folder.path().join("original"), folder.path().join("tree"));
    crate_at(&original);
    let table = crate_at(&root);
    let mut workspace = Workspace::here().unwrap();
    workspace.root = root;
    workspace.target = Some(folder.path().join("build"));
    let mut subject = Tiny(&workspace);
    let all: Vec<&Mutant> = table.mutant.iter().collect();
    let (alone, together): (Vec<&Mutant>, Vec<&Mutant>) = all.iter().partition(|fault| fault.alone);

    let woven = weave(&original, &table, &together).unwrap();
    assert!(subject.build(&woven, &[Suite::Unit]).unwrap());
    let sound = baseline(&wanted(&all), &subject).unwrap();
    let outcome = |fault: &Mutant, subject: &Tiny<'_>| {
        let number = table.number(fault).unwrap();
        match plant(fault, number, subject, &sound) {
            Ok(Finding::Found(broken)) => broken.join(" "),
            Ok(Finding::Skipped(why)) => why,
            Err(error) => format!("error: {error:#}"),
        }
    };
    let found: Vec<String> = together
        .iter()
        .map(|fault| outcome(fault, &subject))
        .collect();
    assert_eq!(
        found,
        [
            "unit:tests::large_values_are_clamped",
            "unit:tests::small_values_stay",
            "error: expected to break unit:tests::small_values_stay; broke nothing",
        ]
    );
    let no_such_test = alone.last().unwrap();
    assert!(outcome(no_such_test, &subject).contains("does not exist"));

    let whole = judge(&table, &all, &original, &mut subject).unwrap();
    assert_eq!(whole.to_string(), "3 passed, 3 failed, 0 skipped");
}
