//! The files of deploy/crds are what the resource types say, and an API server
//! that checks by them refuses nothing that hostfw would take.
//!
//! After a change that is meant, write them anew with `cargo xtask crd` and read
//! the difference.

mod crds {
    pub(crate) mod broken;
    pub(crate) mod check;
    pub(crate) mod cost;
    pub(crate) mod fields;
    pub(crate) mod objects;
}

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use hostfw_agent::{crd, source::yaml::to_yaml};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds")
}

#[test]
fn files_are_what_the_types_say() -> anyhow::Result<()> {
    let bless = env::var_os("HOSTFW_BLESS").is_some_and(|value| value == "1");
    let kinds = crd::all().into_iter();
    let all: Vec<(String, Value)> = kinds
        .map(|one| (one.file, one.value))
        .chain(crd::reports().into_iter().map(|one| (one.file, one.value)))
        .collect();
    let mut wrong = Vec::new();
    for (file, value) in &all {
        let path = folder().join(file);
        let expected = format!(
            "# Written by `cargo xtask crd` from the resource types.\n{}",
            to_yaml(value)?
        );
        if bless {
            fs::create_dir_all(path.parent().context("a folder")?)?;
            fs::write(&path, expected)?;
        } else if fs::read_to_string(&path).ok().as_ref() != Some(&expected) {
            wrong.push(file.clone());
        }
    }
    ensure!(
        wrong.is_empty(),
        "not as the types say: {}; write them with `cargo xtask crd`",
        wrong.join(", ")
    );
    let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, _) in &all {
        let (group, name) = file.split_once('/').context("a group")?;
        known.entry(group).or_default().insert(name);
    }
    for (group, known) in known {
        let folder = folder().join(group);
        // What is installed is what is there.
        let listed = fs::read_to_string(folder.join("kustomization.yaml"))?;
        let listed = listed.lines().filter_map(|line| line.strip_prefix("  - "));
        assert_eq!(listed.collect::<BTreeSet<_>>(), known, "{group}");
        for entry in fs::read_dir(&folder).context(group.to_owned())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            ensure!(
                known.contains(&*name) || name == "kustomization.yaml",
                "deploy/crds/{group}/{name} defines no kind"
            );
        }
    }
    Ok(())
}
