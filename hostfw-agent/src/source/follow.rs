//! Tells when the store changes, by inotify.
//!
//! [`Follower`] also knows which files are being written right now: their
//! contents are halves, to be left alone until the writer closes them.

mod tracker;

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use tokio::{io::unix::AsyncFd, time::Instant};
use tracing::{info, warn};

use self::tracker::{FileEvent, Tracker};
use super::{atomic::is_temporary, store::LOCK};

/// A change that comes alone is told when nothing else came for this long:
/// enough for one who copies a few files.
const ALONE: Duration = Duration::from_millis(3);
/// The same, for a change that comes so shortly after another that there may be
/// more of them: the part of the time that who was told of the other one took,
/// but no longer than this. So waiting costs little of what it may spare.
const QUIET: Duration = Duration::from_millis(30);
/// Which part.
const PART: u32 = 4;
/// What comes this long after a change was told is a change that comes alone.
const APART: Duration = Duration::from_millis(200);
/// However long a burst goes on, it is told after this long.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often a folder that is not there is looked for.
const MISSING: Duration = Duration::from_millis(500);
/// How often to check that the path still leads to the folder that is watched
/// (a link in the path may be switched, which no watch tells).
const RECHECK: Duration = Duration::from_secs(5);

/// Why the store cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// inotify is not to be had; often its limit of instances
    /// (fs.inotify.max_user_instances) is reached.
    #[error("cannot use inotify: {0}")]
    Inotify(#[source] io::Error),
    /// The folder cannot be made.
    #[error("cannot make folder {}: {error}", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
}

/// Makes the folder, and those above it, if it is not there.
///
/// # Errors
///
/// If it cannot be made.
pub fn create_folder(path: &Path) -> Result<(), FollowError> {
    fs::create_dir_all(path).map_err(|error| FollowError::Create {
        path: path.to_owned(),
        error,
    })
}

/// Follows one folder, through its removal and return.
#[derive(Debug)]
pub struct Follower {
    folder: PathBuf,
    inotify: AsyncFd<Inotify>,
    watch: Option<Watch>,
    /// Whether the last attempt to watch failed, to say so once.
    complained: bool,
    next_check: Instant,
    tracker: Tracker,
    burst: Option<Burst>,
    /// When a change was told last.
    told: Option<Instant>,
    /// How long who was told took until it waited again, if it does.
    took: Option<Duration>,
}

/// The folder that is watched, told from another one at the same path.
#[derive(Debug)]
struct Watch {
    descriptor: WatchDescriptor,
    identity: (u64, u64),
}

/// Changes that were not told yet.
#[derive(Clone, Copy, Debug)]
struct Burst {
    first: Instant,
    last: Instant,
    end: End,
}

/// How the end of a burst shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing comes for this long.
    After(Duration),
    /// A writer lets go of the store's lock.
    Unlocked,
    /// It is there.
    Now,
}

impl Burst {
    fn due(self) -> Instant {
        let latest = self.first + PATIENCE;
        match self.end {
            End::After(quiet) => latest.min(self.last + quiet),
            End::Unlocked => latest,
            End::Now => self.last,
        }
    }
}

impl Follower {
    /// Begins to follow. The folder need not be there.
    ///
    /// # Errors
    ///
    /// If inotify is not to be had.
    pub fn new(folder: &Path) -> Result<Self, FollowError> {
        let inotify = Inotify::init().map_err(FollowError::Inotify)?;
        // SAFETY: an `Inotify` keeps one descriptor, open, until it is
        // dropped, and nothing here closes it.
        let inotify = unsafe { AsyncFd::register(inotify) }
            .map_err(|error| FollowError::Inotify(error.into()))?;
        let mut follower = Self {
            folder: folder.to_owned(),
            inotify,
            watch: None,
            complained: false,
            next_check: Instant::now(),
            tracker: Tracker::default(),
            burst: None,
            told: None,
            took: None,
        };
        follower.check(Instant::now());
        follower.burst = None;
        Ok(follower)
    }

    /// Waits until the folder has changed, is quiet again, and nobody holds the
    /// store's lock; or it has been changing for half a second. Nothing is lost if the future is dropped.
    pub async fn changed(&mut self) {
        if self.took.is_none() {
            self.took = self.told.map(|told| told.elapsed());
        }
        loop {
            let now = Instant::now();
            if self.tracker.settle(now) {
                self.note(now);
            }
            if self.next_check <= now {
                self.check(now);
            }
            if let Some(burst) = self.burst.filter(|burst| burst.due() <= now) {
                let over = burst.end == End::Now || burst.first + PATIENCE <= now;
                if over || !self.is_locked() {
                    self.tell();
                    return;
                }
                let end = End::Unlocked;
                self.burst = Some(Burst { end, ..burst });
            }
            let deadline = [
                Some(self.next_check),
                self.tracker.deadline(),
                self.burst.map(Burst::due),
            ]
            .into_iter()
            .flatten()
            .min();
            let deadline = deadline.unwrap_or(self.next_check);
            tokio::select! {
                ready = self.inotify.readable() => match ready {
                    Ok(mut guard) => {
                        guard.clear_ready();
                        drop(guard);
                        self.drain();
                    }
                    Err(error) => {
                        warn!(%error, "inotify failed; the store is looked at now and then");
                        tokio::time::sleep(RECHECK).await;
                        self.note(Instant::now());
                    }
                },
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }

    /// Whether the folder has changed since that was told last, quiet or not;
    /// which then counts as told.
    pub fn has_changed(&mut self) -> bool {
        self.drain();
        self.tell()
    }

    fn tell(&mut self) -> bool {
        let changed = self.burst.take().is_some();
        if changed {
            self.told = Some(Instant::now());
            self.took = None;
        }
        changed
    }

    /// Whether someone changes the store and is not done yet: then the rest is
    /// worth waiting for, since a policy and what it relies on may come
    /// together.
    fn is_locked(&self) -> bool {
        let opened = OpenOptions::new()
            .read(true)
            // Whatever else has that name must not keep the agent.
            .custom_flags(libc::O_NONBLOCK)
            .open(self.folder.join(LOCK));
        let Ok(lock) = opened else { return false };
        // Shared, so that two who ask do not see each other; closing it lets go
        // of it.
        matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Takes in what has happened so far, without waiting, and gives the names
    /// of the files that it happened to.
    ///
    /// A file that was read since the last time, and is among them, may have
    /// been read half.
    pub fn drain(&mut self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        // Room for many events: a name has at most 255 bytes.
        let mut buffer = [0; 16 * 1024];
        loop {
            let now = Instant::now();
            let events: Vec<_> = match self.inotify.get_mut().read_events(&mut buffer) {
                Ok(events) => events.map(|event| event.to_owned()).collect(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return names,
                Err(error) => {
                    warn!(%error, "cannot read from inotify");
                    return names;
                }
            };
            if events.is_empty() {
                return names;
            }
            for event in events {
                names.extend(
                    event
                        .name
                        .as_deref()
                        .and_then(OsStr::to_str)
                        .map(str::to_owned),
                );
                self.take(event.mask, &event.wd, event.name.as_deref(), now);
            }
        }
    }

    /// Names of the files that someone is writing: changed and not closed yet,
    /// or just made.
    pub fn being_written(&self) -> BTreeSet<String> {
        self.tracker.being_written()
    }

    fn take(
        &mut self,
        mask: EventMask,
        descriptor: &WatchDescriptor,
        name: Option<&OsStr>,
        now: Instant,
    ) {
        if mask.contains(EventMask::Q_OVERFLOW) {
            warn!("inotify dropped events; the store is read anew");
            // Who closed what may be among the dropped ones.
            self.tracker = Tracker::default();
            self.note(now);
            return;
        }
        // What is left in the queue of a folder that is no longer ours.
        if self
            .watch
            .as_ref()
            .is_none_or(|w| w.descriptor != *descriptor)
        {
            return;
        }
        let gone =
            EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED | EventMask::UNMOUNT;
        if mask.intersects(gone) {
            self.unwatch();
            self.next_check = now;
            self.note(now);
            return;
        }
        let Some(event) = file_event(mask) else {
            return;
        };
        let Some(name) = name.and_then(OsStr::to_str) else {
            return;
        };
        let changed = self.tracker.take(name, event, now);
        // What is not in its place yet is not read.
        if changed && !is_temporary(name) {
            self.note(now);
        }
        if name == LOCK
            && event == FileEvent::Closed
            && let Some(burst) = &mut self.burst
        {
            burst.end = End::Now;
        }
    }

    fn note(&mut self, now: Instant) {
        let alone = self.told.is_none_or(|told| told + APART < now);
        let quiet = match self.took {
            Some(took) if !alone => (took / PART).clamp(ALONE, QUIET),
            None if !alone => QUIET,
            Some(_) | None => ALONE,
        };
        let burst = self.burst.get_or_insert(Burst {
            first: now,
            last: now,
            end: End::After(quiet),
        });
        burst.last = now;
        if burst.end == End::Now {
            burst.end = End::After(quiet);
        }
    }

    /// Watches the folder at the path, if it is not the one watched already.
    fn check(&mut self, now: Instant) {
        let identity = fs::metadata(&self.folder)
            .ok()
            .filter(fs::Metadata::is_dir)
            .map(|metadata| (metadata.dev(), metadata.ino()));
        if self.watch.as_ref().map(|watch| watch.identity) != identity {
            self.unwatch();
            self.note(now);
        }
        if self.watch.is_none()
            && let Some(identity) = identity
        {
            match self.inotify.get_ref().watches().add(
                &self.folder,
                WatchMask::CREATE
                    | WatchMask::MODIFY
                    | WatchMask::CLOSE_WRITE
                    | WatchMask::MOVED_TO
                    | WatchMask::MOVED_FROM
                    | WatchMask::DELETE
                    | WatchMask::ATTRIB
                    | WatchMask::DELETE_SELF
                    | WatchMask::MOVE_SELF
                    | WatchMask::ONLYDIR,
            ) {
                Ok(descriptor) => {
                    if self.complained {
                        info!(folder = %self.folder.display(), "the store is followed again");
                    }
                    self.complained = false;
                    self.watch = Some(Watch {
                        descriptor,
                        identity,
                    });
                    // What was put into it before the watch.
                    self.note(now);
                }
                Err(error) => self.complain(&error.to_string()),
            }
        } else if identity.is_none() {
            self.complain("there is no such folder");
        }
        self.next_check = now
            + if self.watch.is_some() {
                RECHECK
            } else {
                MISSING
            };
    }

    fn complain(&mut self, reason: &str) {
        if !self.complained {
            warn!(folder = %self.folder.display(), reason, "the store cannot be followed");
        }
        self.complained = true;
    }

    fn unwatch(&mut self) {
        if let Some(watch) = self.watch.take() {
            // Fails if the folder is gone, and the watch with it.
            let _ = self.inotify.get_ref().watches().remove(watch.descriptor);
        }
        self.tracker = Tracker::default();
    }
}

fn file_event(mask: EventMask) -> Option<FileEvent> {
    if mask.contains(EventMask::ISDIR) {
        None
    } else if mask.contains(EventMask::CLOSE_WRITE) {
        Some(FileEvent::Closed)
    } else if mask.contains(EventMask::MOVED_TO) {
        Some(FileEvent::MovedIn)
    } else if mask.intersects(EventMask::MOVED_FROM | EventMask::DELETE) {
        Some(FileEvent::Gone)
    } else if mask.contains(EventMask::ATTRIB) {
        Some(FileEvent::Attributes)
    } else if mask.contains(EventMask::MODIFY) {
        Some(FileEvent::Written)
    } else if mask.contains(EventMask::CREATE) {
        Some(FileEvent::Made)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
