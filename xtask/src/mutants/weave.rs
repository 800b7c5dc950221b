//! All planted faults in one text, each behind a switch: one build serves them
//! all.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::table::{Mutant, Switch, Table};

/// Stands in a replacement for "this fault shows".
pub(super) const PLANTED: &str = "PLANTED";

/// Tells a program, by the environment, the number of the fault that shows.
pub(super) const NUMBER: &str = "HOSTFW_PLANTED";

/// The files that change, with what they hold then.
pub(super) type Woven = BTreeMap<PathBuf, String>;

/// A text of a file, and another one for its place.
#[derive(Clone, Copy)]
struct Change<'a> {
    file: &'a Path,
    find: &'a str,
    replace: &'a str,
}

/// What is put in the place of a text.
struct Patch {
    place: Range<usize>,
    text: String,
    name: String,
}

/// The sources with these faults behind switches, or, if it is one that stands
/// alone, with just that fault and no switch.
pub(super) fn weave(root: &Path, table: &Table, faults: &[&Mutant]) -> Result<Woven> {
    let mut files: BTreeMap<PathBuf, (String, Vec<Patch>)> = BTreeMap::new();
    let mut add = |change: Change<'_>, text: String, name: &str| -> Result<()> {
        let (content, patches) = match files.entry(change.file.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let content = std::fs::read_to_string(root.join(change.file))
                    .with_context(|| change.file.display().to_string())?;
                new.insert((content, Vec::new()))
            }
        };
        let place = find(content, change).with_context(|| name.to_owned())?;
        let name = name.to_owned();
        patches.push(Patch { place, text, name });
        Ok(())
    };
    for switch in &table.switch {
        add(switch.into(), switch.replace.clone(), "the switch")?;
    }
    for fault in faults {
        let shows = if fault.alone {
            "true".to_owned()
        } else {
            format!("{}({})", table.shows, table.number(fault)?)
        };
        let change = Change::from(*fault);
        add(change, woven(change, &shows), &fault.name)?;
    }
    let mut woven = Woven::new();
    for (file, (mut content, mut patches)) in files {
        patches.sort_by_key(|patch| patch.place.start);
        for pair in patches.windows(2) {
            if let [first, second] = pair
                && first.place.end > second.place.start
            {
                bail!(
                    "{}: {} and {} are in one place: quote less, or let one stand alone",
                    file.display(),
                    first.name,
                    second.name
                );
            }
        }
        for patch in patches.into_iter().rev() {
            content.replace_range(patch.place, &patch.text);
        }
        woven.insert(file, content);
    }
    Ok(woven)
}

impl<'a> From<&'a Mutant> for Change<'a> {
    fn from(mutant: &'a Mutant) -> Self {
        Self {
            file: &mutant.file,
            find: &mutant.find,
            replace: &mutant.replace,
        }
    }
}

impl<'a> From<&'a Switch> for Change<'a> {
    fn from(switch: &'a Switch) -> Self {
        Self {
            file: &switch.file,
            find: &switch.find,
            replace: &switch.replace,
        }
    }
}

/// Where the text stands.
fn find(content: &str, change: Change<'_>) -> Result<Range<usize>> {
    let mut places = content.match_indices(change.find);
    let (Some((start, text)), None) = (places.next(), places.next()) else {
        bail!(
            "{}: expected the text to replace once, found it {} times",
            change.file.display(),
            content.matches(change.find).count()
        );
    };
    if change.find == change.replace {
        bail!("{}: the fault changes nothing", change.file.display());
    }
    Ok(start..start + text.len())
}

/// What stands in the text's place.
fn woven(change: Change<'_>, shows: &str) -> String {
    let Change { find, replace, .. } = change;
    if replace.contains(PLANTED) {
        replace.replace(PLANTED, shows)
    } else {
        // As `if` would, and stands wherever an expression or statement does.
        format!("match {shows} {{ true => {{ {replace} }} false => {{ {find} }} }}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(changes: &[(&str, &str)]) -> Table {
        let mutants = changes.iter().enumerate().map(|(index, (find, replace))| {
            format!(
                "[[mutant]]\nname = \"m{index}\"\nfile = \"a.rs\"\nfind = '{find}'\nreplace = '{replace}'\nbreaks = [\"unit:x\"]\nunseen = \"x\"\n"
            )
        });
        let text: String = mutants.collect();
        Table::parse(&format!("shows = \"is\"\n{text}")).unwrap()
    }

    fn woven_from(source: &str, changes: &[(&str, &str)]) -> Result<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.rs"), source).unwrap();
        let table = table(changes);
        let faults: Vec<&Mutant> = table.mutant.iter().collect();
        let mut woven = weave(folder.path(), &table, &faults)?;
        Ok(woven.remove(Path::new("a.rs")).unwrap())
    }

    #[test]
    fn each_fault_has_a_switch_of_its_own() {
        let text = woven_from(
            "if a { b() }",
            &[("b()", "c()"), ("a {", "!PLANTED && a {")],
        );
        assert_eq!(
            text.unwrap(),
            "if !is(2) && a { match is(1) { true => { c() } false => { b() } } }"
        );
    }

    #[test]
    fn two_faults_in_one_place_are_refused() {
        let error = woven_from("a + b", &[("a +", "a -"), ("+ b", "- b")]).unwrap_err();
        assert!(error.to_string().contains("m0 and m1"), "{error}");
    }

    #[test]
    fn a_text_is_there_once() {
        for source in ["", "a a"] {
            let error = woven_from(source, &[("a", "b")]).unwrap_err();
            assert!(format!("{error:#}").starts_with("m0: a.rs: expected"));
        }
    }
}
