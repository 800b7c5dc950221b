//! What a machine with only rustup's Rust and root lacks, and how to get it.
//!
//! Nothing here is needed to build xtask itself.

mod kernel;
mod linker;
pub(crate) mod manifests;
mod packages;
mod toolchain;

use std::{fs::File, os::fd::AsRawFd as _, path::Path};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

/// What a subcommand cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Builds the BPF programs.
    Build,
    /// Formats and lints.
    Lint,
    /// Loads programs and makes network namespaces.
    Kernel,
    /// Measures, beside others.
    Bench,
    /// Makes a container image.
    Image,
    /// Runs one.
    Container,
}

/// Sets the machine up and returns the workspace with the tools on its
/// `PATH`. Does nothing, quickly, where nothing is missing.
pub(crate) fn ensure(needs: &[Need]) -> Result<Workspace> {
    let mut workspace = Workspace::here()?;
    // Cheap refusals first: nobody should wait for a compiler to learn that
    // the kernel cannot do it.
    if needs.contains(&Need::Kernel) {
        kernel::check()?;
        packages::ensure(&workspace)?;
    }
    if needs.contains(&Need::Bench) {
        packages::ensure_bench(&workspace)?;
    }
    if needs.contains(&Need::Image) {
        packages::ensure_image(&workspace)?;
    }
    if needs.contains(&Need::Container) {
        packages::ensure_container(&workspace)?;
    }
    if needs.contains(&Need::Lint) {
        toolchain::ensure(&workspace, &["rustfmt", "clippy"])?;
    }
    if needs.contains(&Need::Build) || needs.contains(&Need::Kernel) {
        toolchain::ensure(&workspace, &["rust-src"])?;
        let folder = linker::ensure(&workspace)?;
        workspace.prepend_path(&folder)?;
    }
    Ok(workspace)
}

/// A line that says what is being done, for what takes long.
fn progress(what: std::fmt::Arguments<'_>) {
    eprintln!("setup: {what}");
}

fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// An advisory lock on a file, held until dropped, so that set-ups which run
/// side by side wait for each other.
struct Lock(#[expect(dead_code, reason = "open as long as the lock is held")] File);

impl Lock {
    fn take(file: &Path) -> Result<Self> {
        let open = || -> std::io::Result<File> {
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(file)
        };
        let handle = open().with_context(|| {
            format!(
                "cannot open {}: set HOSTFW_TOOLS to a folder that can be written",
                file.display()
            )
        })?;
        if !flock(&handle, libc::LOCK_EX | libc::LOCK_NB)? {
            progress(format_args!(
                "another set-up is at work, waiting for {}",
                file.display()
            ));
            flock(&handle, libc::LOCK_EX)?;
        }
        Ok(Self(handle))
    }
}

/// Returns whether the lock was taken; only with `LOCK_NB` can it be not.
fn flock(file: &File, operation: libc::c_int) -> Result<bool> {
    loop {
        // SAFETY: the descriptor is open for as long as `file` is borrowed.
        if unsafe { libc::flock(file.as_raw_fd(), operation) } == 0 {
            return Ok(true);
        }
        let error = std::io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EWOULDBLOCK) => return Ok(false),
            _ => return Err(error).context("flock"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_exclusive_until_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/lock");
        let lock = Lock::take(&file).unwrap();
        let other = File::open(&file).unwrap();
        assert!(!flock(&other, libc::LOCK_EX | libc::LOCK_NB).unwrap());
        drop(lock);
        assert!(flock(&other, libc::LOCK_EX | libc::LOCK_NB).unwrap());
    }
}
