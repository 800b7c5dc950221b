//! One agent for each pin root.
//!
//! The lock is an flock(2) on the pin root itself. Files on bpffs cannot be
//! opened, but folders can, and the kernel locks any inode: so the lock sits
//! on what it protects, whatever mount or network namespace the agents run in
//! (an abstract socket would be one per network namespace, and agents of
//! several nodes on one machine have one each; a file in /run would be one per
//! mount namespace). It goes with the process, however that ends.

use std::{
    fs, io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

/// Why the pin root could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent has it.
    #[error("pin root {}: another agent uses it ({holder})", path.display())]
    Held {
        /// The pin root.
        path: PathBuf,
        /// The process that holds the lock, as far as it can be told.
        holder: String,
    },
    /// It could not be tried.
    #[error("cannot lock {}: {error}", path.display())]
    Io {
        /// The pin root.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
}

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    folder: fs::File,
}

impl Lock {
    /// Locks a folder, or says who else has.
    pub(crate) fn take(path: &Path) -> Result<Self, LockError> {
        let failed = |error| LockError::Io {
            path: path.to_path_buf(),
            error,
        };
        let folder = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC)
            .open(path)
            .map_err(failed)?;
        // SAFETY: an open descriptor.
        if unsafe { libc::flock(folder.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(Self { folder });
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(failed(error));
        }
        let holder = folder
            .metadata()
            .ok()
            .and_then(|metadata| {
                let locks = fs::read_to_string("/proc/locks").ok()?;
                holder(&locks, metadata.dev(), metadata.ino())
            })
            .map_or_else(
                || "its process cannot be told from here".to_owned(),
                |pid| {
                    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                    format!("process {pid} {}", name.trim_end())
                        .trim_end()
                        .to_owned()
                },
            );
        Err(LockError::Held {
            path: path.to_path_buf(),
            holder,
        })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave the lock to a child that another thread
        // has forked and that has not yet called execve(2).
        // SAFETY: an open descriptor.
        unsafe { libc::flock(self.folder.as_raw_fd(), libc::LOCK_UN) };
    }
}

/// The process that holds an flock on the inode, from the text of
/// `/proc/locks` (proc_locks(5)).
fn holder(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let place = format!(
        "{:02x}:{:02x}:{inode}",
        libc::major(device),
        libc::minor(device)
    );
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        // A waiter's line has "->" in front of its kind.
        let kind = fields.next()?;
        let _advisory = fields.next()?;
        let _access = fields.next()?;
        let pid = fields.next()?;
        (kind == "FLOCK" && fields.next()? == place)
            .then(|| pid.parse().ok())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_read_from_proc_locks() {
        let text = "1: POSIX  ADVISORY  WRITE 4242 00:1a:77 0 EOF\n\
                    2: FLOCK  ADVISORY  WRITE 1234 00:1a:77 0 EOF\n\
                    2: -> FLOCK  ADVISORY  WRITE 9999 00:1a:77 0 EOF\n";
        let device = libc::makedev(0, 0x1a);
        assert_eq!(holder(text, device, 77), Some(1234));
        assert_eq!(holder(text, device, 78), None);
        assert_eq!(holder(text, libc::makedev(8, 1), 77), None);
    }

    #[test]
    fn the_second_taker_is_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path()).unwrap();
        let error = Lock::take(folder.path()).unwrap_err();
        let LockError::Held { holder, .. } = error else {
            panic!("{error}");
        };
        assert!(
            holder.contains(&format!("process {}", std::process::id())),
            "{holder}"
        );
        drop(lock);
        Lock::take(folder.path()).unwrap();
    }
}
