//! A copy of the workspace to plant faults in.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::weave::Woven;

/// Makes `copy` hold what `original` holds, and nothing else, but for the files
/// that are woven. Files that are the same keep their time stamps, so that cargo
/// rebuilds only what differs.
pub(super) fn sync(original: &Path, copy: &Path, woven: &Woven) -> Result<()> {
    let wanted = files(original)?;
    fs::create_dir_all(copy).with_context(|| copy.display().to_string())?;
    for stale in files(copy)?.difference(&wanted) {
        fs::remove_file(copy.join(stale)).with_context(|| stale.display().to_string())?;
    }
    for file in &wanted {
        let content = match woven.get(file) {
            Some(text) => text.clone().into_bytes(),
            None => fs::read(original.join(file)).with_context(|| file.display().to_string())?,
        };
        let target = copy.join(file);
        if fs::read(&target).is_ok_and(|present| present == content) {
            continue;
        }
        let write = || -> std::io::Result<()> {
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&target, &content)?;
            let permissions = fs::metadata(original.join(file))?.permissions();
            fs::set_permissions(&target, permissions)
        };
        write().with_context(|| target.display().to_string())?;
    }
    Ok(())
}

/// Where cargo keeps what it has built, below the folder of a profile.
const BUILT: [&str; 3] = ["deps", "build", ".fingerprint"];

/// Gives a build of the copy (a profile's folder) the dependencies that the
/// original's has: cargo takes what is the same, or builds it anew. Nothing of
/// the workspace itself, whose crates are others in another folder.
pub(super) fn share_dependencies(original: &Path, copy: &Path) -> Result<()> {
    for kind in BUILT {
        let (from, to) = (original.join(kind), copy.join(kind));
        if !from.is_dir() {
            continue;
        }
        let mut folders = vec![(from, to)];
        let mut outermost = true;
        while let Some((from, to)) = folders.pop() {
            fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
            for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
                let entry = entry?;
                let name = entry.file_name();
                let own = ["hostfw", "xtask"];
                if outermost && own.iter().any(|own| name.to_string_lossy().contains(own)) {
                    continue;
                }
                let (from, to) = (entry.path(), to.join(&name));
                if entry.file_type()?.is_dir() {
                    folders.push((from, to));
                } else if !to.exists() {
                    // A second name, not a second file: cargo never changes one
                    // in place, and the time stamp stays.
                    fs::hard_link(&from, &to).with_context(|| to.display().to_string())?;
                }
            }
            outermost = false;
        }
    }
    Ok(())
}

/// The regular files below a folder, relative to it, without version control
/// and build output.
fn files(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name();
            let kind = entry.file_type()?;
            if kind.is_dir() && name != ".git" && name != "target" {
                folders.push(folder.join(name));
            } else if kind.is_file() && name != ".git" {
                found.insert(folder.join(name));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_follows_its_original_and_keeps_what_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (original, copy) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir_all(original.join("src")).unwrap();
        fs::create_dir_all(original.join("target/debug")).unwrap();
        fs::write(original.join("target/debug/big"), "x").unwrap();
        fs::write(original.join("src/same.rs"), "same").unwrap();
        fs::write(original.join("src/changed.rs"), "before").unwrap();
        fs::write(original.join("src/gone.rs"), "gone").unwrap();
        fs::write(original.join("src/woven.rs"), "plain").unwrap();
        sync(&original, &copy, &Woven::new()).unwrap();
        assert!(!copy.join("target").exists());
        let stamp = |name: &str| fs::metadata(copy.join(name)).unwrap().modified().unwrap();
        let before = stamp("src/same.rs");
        fs::write(original.join("src/changed.rs"), "after").unwrap();
        fs::remove_file(original.join("src/gone.rs")).unwrap();
        let woven = Woven::from([("src/woven.rs".into(), "other".to_owned())]);
        sync(&original, &copy, &woven).unwrap();
        assert_eq!(stamp("src/same.rs"), before);
        assert_eq!(
            fs::read_to_string(copy.join("src/changed.rs")).unwrap(),
            "after"
        );
        assert_eq!(
            fs::read_to_string(copy.join("src/woven.rs")).unwrap(),
            "other"
        );
        assert!(!copy.join("src/gone.rs").exists());
    }

    #[test]
    fn only_dependencies_are_shared() {
        let folder = tempfile::tempdir().unwrap();
        let (original, copy) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir_all(original.join("deps")).unwrap();
        fs::create_dir_all(original.join("build/libc-1/out")).unwrap();
        fs::write(original.join("build/libc-1/out/hostfw"), "x").unwrap();
        for name in ["libserde-1.rlib", "libhostfw_agent-1.rlib", "xtask-1"] {
            fs::write(original.join("deps").join(name), "x").unwrap();
        }
        share_dependencies(&original, &copy).unwrap();
        share_dependencies(&original, &copy).unwrap();
        let shared: Vec<PathBuf> = files(&copy).unwrap().into_iter().collect();
        assert_eq!(
            shared,
            [
                Path::new("build/libc-1/out/hostfw"),
                Path::new("deps/libserde-1.rlib")
            ]
        );
    }
}
