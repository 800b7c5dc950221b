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
}
