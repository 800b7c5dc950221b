//! Reads a folder again and again, and of its files only those that may have
//! changed.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Snapshot, SourceError, SourceFile,
    folder::{list, read_all, read_one},
};

/// A file that changed so shortly before it was read may change again without
/// its time stamps telling: a kernel's clock for them ticks up to every 10 ms,
/// that of a network file system every second or two.
const SETTLED: Duration = Duration::from_secs(3);

/// Whether the stamps of files are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A file whose stamps are as they were holds what it held.
    Stamps,
    /// Every file is read: some ways of writing, such as through mapped memory,
    /// leave stamps as they are.
    Nothing,
}

/// Remembers what a folder held.
#[derive(Debug, Default)]
pub struct FolderReader {
    known: BTreeMap<OsString, Known>,
}

/// A file as it was read.
#[derive(Debug)]
struct Known {
    stamp: Stamp,
    /// Whether the stamp tells if the file changes again.
    settled: bool,
    file: SourceFile,
}

/// What changes when a file is written to, or another one takes its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of a regular file; `None` for anything else, which is read each time.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Whether the file was left alone for a while at that time.
    fn is_settled(&self, at: SystemTime) -> bool {
        let Some(changed) = u64::try_from(self.changed.0)
            .ok()
            .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        else {
            return false;
        };
        // A time in the future tells nothing.
        at.duration_since(changed)
            .is_ok_and(|age| age > SETTLED + Duration::from_secs(1))
    }
}

impl FolderReader {
    /// Does what [`read_folder`](super::read_folder) does.
    ///
    /// # Errors
    ///
    /// As there; what was known before is still known.
    pub fn read(&mut self, folder: &Path, trust: Trust) -> Result<Snapshot, SourceError> {
        let begin = SystemTime::now();
        let names = list(folder)?;
        let mut known = BTreeMap::new();
        let files = read_all(folder, names, |name| {
            let path = folder.join(name);
            let stamp = Stamp::of(&path);
            let before = self.known.get(name);
            let file = match (before, stamp) {
                (Some(before), Some(stamp))
                    if trust == Trust::Stamps
                        && before.settled
                        && before.stamp == stamp
                        // Why it could not be read may have passed.
                        && before.file.content.is_ok() =>
                {
                    before.file.clone()
                }
                _ => same_text(read_one(folder, name)?, before),
            };
            // The stamp is from before the file was read: if it changes in
            // between, it is read once more.
            if let Some(stamp) = stamp {
                let settled = stamp.is_settled(begin);
                let file = file.clone();
                known.insert(
                    name.to_owned(),
                    Known {
                        stamp,
                        settled,
                        file,
                    },
                );
            }
            Some(file)
        })?;
        self.known = known;
        Ok(Snapshot::of(files))
    }
}

/// The text that is known, if the file still holds it: a copy, and not another
/// text that reads the same.
fn same_text(file: SourceFile, before: Option<&Known>) -> SourceFile {
    match before {
        Some(before) if before.file == file => before.file.clone(),
        Some(_) | None => file,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};

    use super::*;

    fn text(snapshot: &Snapshot) -> &str {
        snapshot.files[0].content.as_deref().unwrap()
    }

    #[test]
    fn a_file_that_changes_under_the_same_stamps_is_seen_while_it_is_young() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        let mut reader = FolderReader::default();
        let past = SystemTime::now() - Duration::from_secs(3600);
        for written in ["one", "two", "six"] {
            fs::write(&path, written).unwrap();
            // Writers may set this one as they like.
            let file = File::options().write(true).open(&path).unwrap();
            file.set_times(FileTimes::new().set_modified(past)).unwrap();
            let read = reader.read(folder.path(), Trust::Stamps).unwrap();
            assert_eq!(text(&read), written);
            assert_eq!(read, super::super::read_folder(folder.path()).unwrap());
        }
    }

    #[test]
    fn an_old_file_is_not_read_again_unless_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, "true").unwrap();
        let mut reader = FolderReader::default();
        // What an old file would be known as; its text tells where it is from.
        let known = |stamp| Known {
            stamp,
            settled: true,
            file: SourceFile {
                path: "a.yaml".into(),
                content: Ok("known".into()),
            },
        };
        let stamp = Stamp::of(&path).unwrap();
        reader.known.insert("a.yaml".into(), known(stamp));
        let read = reader.read(folder.path(), Trust::Stamps).unwrap();
        assert_eq!(text(&read), "known");

        reader.known.insert("a.yaml".into(), known(stamp));
        let read = reader.read(folder.path(), Trust::Nothing).unwrap();
        assert_eq!(text(&read), "true");

        for other in [
            Stamp { inode: 0, ..stamp },
            Stamp { size: 3, ..stamp },
            Stamp {
                modified: (1, 1),
                ..stamp
            },
            Stamp {
                changed: (1, 1),
                ..stamp
            },
        ] {
            reader.known.insert("a.yaml".into(), known(other));
            let read = reader.read(folder.path(), Trust::Stamps).unwrap();
            assert_eq!(text(&read), "true", "{other:?}");
        }

        let mut unread = known(stamp);
        unread.file.content = Err("too many open files".to_owned());
        reader.known.insert("a.yaml".into(), unread);
        let read = reader.read(folder.path(), Trust::Stamps).unwrap();
        assert_eq!(text(&read), "true");
    }

    #[test]
    fn stamps_are_believed_when_they_are_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, "x").unwrap();
        let stamp = Stamp::of(&path).unwrap();
        let now = SystemTime::now();
        assert!(!stamp.is_settled(now));
        assert!(!stamp.is_settled(now - Duration::from_secs(60)));
        assert!(stamp.is_settled(now + Duration::from_secs(60)));
    }

    #[test]
    fn what_is_gone_is_forgotten_and_what_is_no_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, "x").unwrap();
        let mut reader = FolderReader::default();
        assert_eq!(
            reader
                .read(folder.path(), Trust::Stamps)
                .unwrap()
                .files
                .len(),
            1
        );
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        let read = reader.read(folder.path(), Trust::Stamps).unwrap();
        assert!(read.files[0].content.is_err());
        fs::remove_file(&path).unwrap();
        assert!(
            reader
                .read(folder.path(), Trust::Stamps)
                .unwrap()
                .files
                .is_empty()
        );
        assert!(reader.known.is_empty());
        assert!(reader.read(&path, Trust::Stamps).is_err());
    }
}
