//! What an administrator writes, and the contents of the maps that come of it.
//!
//! `golden/<case>.txt` holds the image of `golden/<case>.yaml`, or of the
//! tutorial's files. After a change that is meant, write them anew with
//! `HOSTFW_BLESS=1 cargo test -p hostfw-agent --test golden` and read the
//! difference.

mod fixture;
mod golden {
    pub(crate) mod dump;
}

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use fixture::{STEPS, example, interfaces, read};
use hostfw_agent::{compile::compile, select::select};

/// Case, node, and how many of the tutorial's steps are applied.
const TUTORIAL: &[(&str, &str, usize)] = &[
    ("tutorial-1", "node1", 1),
    ("tutorial-2", "node1", 2),
    ("tutorial-2b", "node1", 3),
    ("tutorial-3", "node1", 4),
    ("tutorial-4-node1", "node1", 5),
    ("tutorial-4-node2", "node2", 5),
];

fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Case, node, files.
fn cases() -> anyhow::Result<Vec<(String, &'static str, Vec<PathBuf>)>> {
    let mut cases: Vec<_> = TUTORIAL
        .iter()
        .map(|&(case, node, steps)| {
            let files = STEPS[..steps].iter().map(|name| example(name)).collect();
            (case.to_owned(), node, files)
        })
        .collect();
    for entry in fs::read_dir(golden_folder())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let stem = path.file_stem().context("a file name")?;
            cases.push((stem.to_string_lossy().into_owned(), "node1", vec![path]));
        }
    }
    cases.sort();
    Ok(cases)
}

#[test]
fn images_are_as_recorded() -> anyhow::Result<()> {
    let bless = env::var_os("HOSTFW_BLESS").is_some_and(|value| value == "1");
    let mut wrong = Vec::new();
    let cases = cases()?;
    for (case, node, files) in &cases {
        let model = read(files).with_context(|| case.clone())?;
        let selection = select(&model, node, &interfaces(node));
        let image = compile(&selection).with_context(|| case.clone())?;
        let found = golden::dump::dump(&selection, &image);

        let path = golden_folder().join(case).with_extension("txt");
        if bless {
            fs::write(&path, &found)?;
            continue;
        }
        let expected = fs::read_to_string(&path)
            .with_context(|| format!("{}: write it with HOSTFW_BLESS=1", path.display()))?;
        if found != expected {
            let first = found
                .lines()
                .zip(expected.lines())
                .position(|(found, expected)| found != expected)
                .unwrap_or_else(|| found.lines().count().min(expected.lines().count()));
            wrong.push(format!(
                "{case}.txt, line {}: expected {:?}, found {:?}\n{found}",
                first + 1,
                expected.lines().nth(first),
                found.lines().nth(first),
            ));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_recorded_image_belongs_to_a_case() -> anyhow::Result<()> {
    let cases: BTreeSet<String> = cases()?.into_iter().map(|(case, ..)| case).collect();
    for entry in fs::read_dir(golden_folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let stem = path.file_stem().context("a file name")?.to_string_lossy();
            ensure!(cases.contains(&*stem), "{} has no case", path.display());
        }
    }
    Ok(())
}
