//! What an administrator writes, and the contents of the maps that come of it.
//!
//! `golden/<case>.txt` holds the image of `golden/<case>.yaml`, or of the
//! tutorial's files. After a change that is meant, write them anew with
//! `HOSTFW_BLESS=1 cargo test -p hostfw-agent --test golden` and read the
//! difference.

mod golden {
    pub(crate) mod dump;
}

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use hostfw_agent::{
    compile::compile,
    model::{Interface, Model},
    resource::parse_documents,
    select::select,
    validate::{assemble, validate},
};

/// The tutorial's steps: case, node, files. A later file's object replaces the
/// one of the same name.
const TUTORIAL: &[(&str, &str, &[&str])] = &[
    ("tutorial-1", "node1", &["1-policies"]),
    ("tutorial-2", "node1", &["1-policies", "2-endpoints"]),
    (
        "tutorial-2b",
        "node1",
        &["1-policies", "2-endpoints", "2b-ipv6"],
    ),
    (
        "tutorial-3",
        "node1",
        &["1-policies", "2-endpoints", "2b-ipv6", "3-nodeport"],
    ),
    ("tutorial-4-node1", "node1", ALL_STEPS),
    ("tutorial-4-node2", "node2", ALL_STEPS),
];

const ALL_STEPS: &[&str] = &[
    "1-policies",
    "2-endpoints",
    "2b-ipv6",
    "3-nodeport",
    "4-special-label",
];

fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/protect-hosts")
        .join(name)
        .with_extension("yaml")
}

/// What every node of the cases has. Nodes are numbered.
fn interfaces(node: &str) -> Vec<Interface> {
    let number = 10
        + node
            .trim_start_matches("node")
            .parse::<u8>()
            .expect("a number");
    let interface = |index, name: &str, addresses: &[String]| Interface {
        index,
        name: name.to_owned(),
        addresses: addresses
            .iter()
            .map(|address| address.parse().expect("an address"))
            .collect(),
        link_header: name != "wg0",
        loopback: name == "lo",
        up: true,
    };
    vec![
        interface(1, "lo", &["127.0.0.1".to_owned(), "::1".to_owned()]),
        interface(
            2,
            "eth0",
            &[
                format!("10.240.0.{number}"),
                format!("fd00:10:240::{number}"),
                format!("fe80::{number}"),
            ],
        ),
        interface(3, "eth1", &[format!("198.51.100.{number}")]),
        interface(4, "wg0", &[format!("10.99.0.{number}")]),
        interface(5, "cali1", &[]),
    ]
}

fn read(files: &[PathBuf]) -> anyhow::Result<Model> {
    let mut resources = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        for document in parse_documents(&text) {
            for resource in document
                .result
                .with_context(|| file.display().to_string())?
            {
                resources.retain(|other: &hostfw_agent::resource::Resource| {
                    other.object_ref() != resource.object_ref()
                });
                resources.push(resource);
            }
        }
    }
    let mut objects = Vec::new();
    for resource in &resources {
        match validate(resource) {
            Ok(object) => objects.push(object),
            Err(errors) => bail!("{}: {errors:?}", resource.object_ref()),
        }
    }
    Ok(assemble(objects))
}

/// Case, node, files.
fn cases() -> anyhow::Result<Vec<(String, &'static str, Vec<PathBuf>)>> {
    let mut cases: Vec<_> = TUTORIAL
        .iter()
        .map(|(case, node, files)| {
            let files = files.iter().map(|name| example(name)).collect();
            ((*case).to_owned(), *node, files)
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
