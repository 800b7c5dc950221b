//! Replaces files so that a reader, and a crash, finds the old or the new one
//! in whole.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use super::folder::open_folder;

/// How names of files begin that are not finished yet. The dot hides them from
/// [`read_folder`](super::read_folder).
const TEMPORARY: &str = ".hostfw-new-";

/// Writes the file, and returns when it is on disk under its name.
///
/// # Errors
///
/// What the kernel says; the old file is then still there.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    write_with(path, |file| file.write_all(content))
}

/// As [`write`], of what `content` writes.
///
/// # Errors
///
/// What the kernel or `content` says; the old file is then still there.
pub fn write_with(
    path: &Path,
    content: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let folder = folder_of(path);
    let temporary = folder.join(format!(
        "{TEMPORARY}{}-{}",
        process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    ));
    let result = write_and_rename(&temporary, path, content);
    if result.is_err() {
        // What failed matters more than whether this works too.
        drop(fs::remove_file(&temporary));
    }
    result?;
    open_folder(&folder)?.sync_all()
}

fn write_and_rename(
    temporary: &Path,
    path: &Path,
    content: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(temporary)?;
    let mut writer = io::BufWriter::new(file);
    content(&mut writer)?;
    let file = writer.into_inner()?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

/// Removes the file, and returns when that is on disk.
///
/// # Errors
///
/// What the kernel says.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    open_folder(&folder_of(path))?.sync_all()
}

/// Removes what a writer that was killed has left behind. Only for who knows
/// that no other writer is at work in the folder.
///
/// # Errors
///
/// What the kernel says.
pub fn remove_leftovers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_temporary) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether a file of this name is on its way to another one.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        Some(_) | None => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["a.yaml"]);
        remove(&path).unwrap();
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn failure_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        // A file cannot be renamed onto a folder.
        fs::create_dir(&path).unwrap();
        assert!(write(&path, b"one").is_err());
        assert_eq!(names(folder.path()), ["a.yaml"]);
    }

    #[test]
    fn removes_leftovers_only() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.yaml", ".lock", ".hostfw-new-1-0"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_leftovers(folder.path()).unwrap();
        assert_eq!(names(folder.path()), [".lock", "a.yaml"]);
    }
}
