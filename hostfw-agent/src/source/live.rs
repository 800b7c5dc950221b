//! A source that is followed: what the loop that enforces asks of it, whatever
//! it is.

use std::{
    collections::BTreeSet,
    future::Future,
    path::{Path, PathBuf},
};

use super::{
    FolderReader, Snapshot, Trust,
    follow::{FollowError, Follower},
    keep::keep_last,
};

/// Where resources come from, as long as an agent runs.
pub trait Source {
    /// Waits until there is something new to be read. Nothing is lost if the
    /// future is dropped.
    fn changed(&mut self) -> impl Future<Output = ()>;

    /// Whether there is something new to be read, which then counts as told.
    /// What was there before the call is seen.
    fn has_changed(&mut self) -> bool;

    /// All that the source holds now. `last`: what it held when it was read
    /// last.
    ///
    /// # Errors
    ///
    /// Why that cannot be told; then nothing is to change.
    fn read(&mut self, trust: Trust, last: Option<&Snapshot>) -> Result<Snapshot, String>;

    /// Names of the files that someone is writing, which count as they were
    /// before.
    fn being_written(&self) -> BTreeSet<String>;

    /// The kinds of objects that it follows one by one, and whether it can now;
    /// nothing if it does not tell kinds apart.
    fn kinds(&self) -> Vec<(&'static str, bool)> {
        Vec::new()
    }
}

/// A folder of files.
#[derive(Debug)]
pub struct FolderSource {
    folder: PathBuf,
    follower: Follower,
    reader: FolderReader,
}

impl FolderSource {
    /// Begins to follow the folder, which need not be there.
    ///
    /// # Errors
    ///
    /// If inotify is not to be had.
    pub fn new(folder: &Path) -> Result<Self, FollowError> {
        Ok(Self {
            folder: folder.to_owned(),
            follower: Follower::new(folder)?,
            reader: FolderReader::default(),
        })
    }
}

impl Source for FolderSource {
    async fn changed(&mut self) {
        self.follower.changed().await;
    }

    fn has_changed(&mut self) -> bool {
        self.follower.has_changed()
    }

    fn read(&mut self, trust: Trust, last: Option<&Snapshot>) -> Result<Snapshot, String> {
        self.follower.drain();
        let mut halves = self.follower.being_written();
        let read = self.reader.read(&self.folder, trust);
        halves.extend(self.follower.drain());
        halves.extend(self.follower.being_written());
        read.map(|read| keep_last(read, last, &halves))
            .map_err(|error| error.to_string())
    }

    fn being_written(&self) -> BTreeSet<String> {
        self.follower.being_written()
    }
}
