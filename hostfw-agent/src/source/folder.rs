use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Read as _},
    ops::Deref,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Text;
use crate::sorted::{Keyed, Sorted};

/// How many resource files a folder may hold.
pub const MAX_FILES: usize = 16_384;

/// How many bytes one file may hold.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// How many bytes all files of a folder may hold together.
pub const MAX_TOTAL_BYTES: u64 = 256 << 20;

/// All resource files of a folder at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Sorted by path, each path once.
    pub files: Files,
    /// Names this state of the folder: a hash over names and contents. Any
    /// process of the same build that reads the same files computes the same.
    pub revision: String,
}

impl Snapshot {
    /// A snapshot of these files, with its revision.
    #[must_use]
    pub fn of(files: impl IntoIterator<Item = SourceFile>) -> Self {
        let mut all = Files::default();
        for file in files {
            all.insert(file);
        }
        all.into()
    }

    /// A snapshot of files with these paths and texts.
    #[cfg(test)]
    pub(crate) fn of_texts(files: &[(&str, &str)]) -> Self {
        let file = |&(path, text): &(&str, &str)| SourceFile {
            path: path.into(),
            content: Ok(text.into()),
        };
        Self::of(files.iter().map(file))
    }
}

impl From<Files> for Snapshot {
    fn from(files: Files) -> Self {
        Self {
            revision: format!("{:016x}", files.digest),
            files,
        }
    }
}

/// Files, sorted by path. A copy shares them with what it is a copy of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    files: Sorted<SourceFile>,
    /// Sum of the digests of all, which is the same in whatever order they came.
    digest: u64,
}

impl Files {
    /// Puts a file in, in place of one with its path.
    pub(super) fn insert(&mut self, file: SourceFile) {
        self.digest = self.digest.wrapping_add(file.digest());
        if let Some(before) = self.files.insert(file) {
            self.digest = self.digest.wrapping_sub(before.digest());
        }
    }

    /// Takes the file of this path out, and says whether there was one.
    pub(super) fn remove(&mut self, path: &str) -> bool {
        let removed = self.files.remove(path);
        if let Some(file) = &removed {
            self.digest = self.digest.wrapping_sub(file.digest());
        }
        removed.is_some()
    }

    /// Puts in files whose paths stand behind those that are there.
    pub(super) fn append(&mut self, other: &Self) {
        self.files.append(&other.files);
        self.digest = self.digest.wrapping_add(other.digest);
    }
}

impl Deref for Files {
    type Target = Sorted<SourceFile>;

    fn deref(&self) -> &Self::Target {
        &self.files
    }
}

/// A file of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative to the folder.
    pub path: Arc<str>,
    /// Its text, or why it could not be read.
    pub content: Result<Text, String>,
}

impl SourceFile {
    /// Of path and content.
    fn digest(&self) -> u64 {
        // Its keys are constant, unlike those of a HashMap.
        let mut hasher = DefaultHasher::new();
        self.path.hash(&mut hasher);
        self.content.hash(&mut hasher);
        hasher.finish()
    }
}

impl Keyed for SourceFile {
    type Key = str;

    fn key(&self) -> &str {
        &self.path
    }
}

/// Why a folder could not be read. What is wrong with a single file is told by
/// [`SourceFile::content`].
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The folder cannot be listed.
    #[error("cannot read folder {}: {error}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// It holds more files than [`MAX_FILES`].
    #[error(
        "folder {} holds more than {MAX_FILES} resource files: expected at most {MAX_FILES}",
        path.display()
    )]
    TooManyFiles {
        /// The folder.
        path: PathBuf,
    },
    /// Its files hold more than [`MAX_TOTAL_BYTES`].
    #[error(
        "resource files of folder {} hold more than {MAX_TOTAL_BYTES} bytes together",
        path.display()
    )]
    TooLarge {
        /// The folder.
        path: PathBuf,
    },
}

/// Whether a file of this name holds resources: `*.yaml`, `*.yml`, `*.json`,
/// and not hidden. Writers can thus prepare a file under a name that begins
/// with a dot.
#[must_use]
pub fn is_resource_file(name: &str) -> bool {
    !name.starts_with('.')
        && Path::new(name).extension().is_some_and(|extension| {
            ["yaml", "yml", "json"]
                .iter()
                .any(|known| extension == *known)
        })
}

/// Reads all resource files of the folder; sub-folders are left alone, and
/// links are followed.
///
/// # Errors
///
/// If the folder itself cannot be listed, or holds more than the bounds. A
/// file that cannot be read is in the snapshot, with the reason.
pub fn read_folder(path: &Path) -> Result<Snapshot, SourceError> {
    let names = list(path)?;
    let files = read_all(path, names, |name| read_one(path, name))?;
    Ok(Snapshot::of(files))
}

/// The names of a folder's resource files, sorted.
pub(super) fn list(path: &Path) -> Result<Vec<OsString>, SourceError> {
    let io = |error| SourceError::Io {
        path: path.to_path_buf(),
        error,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if is_resource_file(&name.to_string_lossy()) {
            names.push(name);
        }
        if names.len() > MAX_FILES {
            return Err(SourceError::TooManyFiles {
                path: path.to_path_buf(),
            });
        }
    }
    names.sort();
    Ok(names)
}

/// Reads the files of these names, as `read` does, as long as they are not too
/// large together.
pub(super) fn read_all(
    path: &Path,
    names: Vec<OsString>,
    mut read: impl FnMut(&OsStr) -> Option<SourceFile>,
) -> Result<Vec<SourceFile>, SourceError> {
    let mut total = 0;
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        let Some(file) = read(&name) else { continue };
        total += file.content.as_deref().map_or(0, str::len) as u64;
        if total > MAX_TOTAL_BYTES {
            return Err(SourceError::TooLarge {
                path: path.to_path_buf(),
            });
        }
        files.push(file);
    }
    Ok(files)
}

/// Reads a file of the folder; `None` if it is none.
pub(super) fn read_one(folder: &Path, name: &OsStr) -> Option<SourceFile> {
    let content = read_file(&folder.join(name)).transpose()?;
    Some(SourceFile {
        path: name.to_string_lossy().into(),
        content: content.map(Text::from),
    })
}

/// Reads one file, which may be anything that a name can stand for.
///
/// `None`: it is a folder, or was removed meanwhile.
pub(crate) fn read_file(path: &Path) -> Result<Option<String>, String> {
    // Opening a FIFO would otherwise wait for its writer.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_link(path) => {
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if metadata.is_dir() {
        return Ok(None);
    }
    if !metadata.is_file() {
        return Err("expected a regular file, found a device, socket or FIFO".to_owned());
    }
    read_text(&file).map(Some)
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

/// Reads text of at most [`MAX_FILE_BYTES`].
pub(crate) fn read_text(mut from: impl io::Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    // The size that the file system tells may be old by now: count.
    from.by_ref()
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!(
            "expected at most {MAX_FILE_BYTES} bytes, found more"
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        format!(
            "expected UTF-8 text, found something else at byte {}",
            error.utf8_error().valid_up_to()
        )
    })
}

/// Opens a folder, to make changes of its entries last.
pub(crate) fn open_folder(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn paths(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.files.iter().map(|f| &*f.path).collect()
    }

    #[test]
    fn takes_resource_files_only() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.json", ".hidden.yaml", "notes.txt"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("sub.yaml")).unwrap();
        let snapshot = read_folder(folder.path()).unwrap();
        assert_eq!(paths(&snapshot), ["a.yml", "b.yaml", "c.json"]);
        assert_eq!(snapshot.files[1].content.as_deref(), Ok("b.yaml"));
    }

    #[test]
    fn revision_follows_names_and_contents() {
        let folder = tempfile::tempdir().unwrap();
        let read = || read_folder(folder.path()).unwrap().revision;
        let empty = read();
        fs::write(folder.path().join("a.yaml"), "one").unwrap();
        let one = read();
        assert_eq!(one, read());
        fs::write(folder.path().join("a.yaml"), "two").unwrap();
        let two = read();
        fs::rename(folder.path().join("a.yaml"), folder.path().join("b.yaml")).unwrap();
        let renamed = read();
        assert!(empty != one && one != two && two != renamed && one != renamed);
        fs::write(folder.path().join(".hidden.yaml"), "x").unwrap();
        assert_eq!(renamed, read());
    }

    #[test]
    fn file_that_cannot_be_read_does_not_hide_the_others() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("bad.yaml"), [b'a', 0xff]).unwrap();
        fs::write(folder.path().join("good.yaml"), "fine").unwrap();
        symlink("nowhere", folder.path().join("link.yaml")).unwrap();
        let large = File::create(folder.path().join("large.yaml")).unwrap();
        large.set_len(MAX_FILE_BYTES + 1).unwrap();

        let snapshot = read_folder(folder.path()).unwrap();
        assert_eq!(
            paths(&snapshot),
            ["bad.yaml", "good.yaml", "large.yaml", "link.yaml"]
        );
        let error = |index: usize| snapshot.files[index].content.clone().unwrap_err();
        assert!(error(0).contains("UTF-8") && error(0).contains("byte 1"));
        assert!(snapshot.files[1].content.is_ok());
        assert!(error(2).contains("at most 16777216 bytes"));
        assert!(error(3).contains("No such file"));
    }

    #[test]
    fn fifo_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo.yaml");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let snapshot = read_folder(folder.path()).unwrap();
        let error = snapshot.files[0].content.clone().unwrap_err();
        assert!(error.contains("regular file"), "{error}");
    }

    #[test]
    fn missing_folder_is_an_error_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let error = read_folder(&folder.path().join("gone")).unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
    }
}
