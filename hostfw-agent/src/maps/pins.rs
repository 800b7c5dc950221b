//! The pin folder: where what must survive the agent is pinned.
//!
//! ```text
//! <pin root>/v<ABI>/maps/<NAME>           lasting maps, and the outer ones
//! <pin root>/v<ABI>/generation/<NAME>     inner maps of the generation in force
//! <pin root>/v<ABI>/links/<index>-ingress links, by interface index
//! <pin root>/v<ABI>/links/<index>-egress
//! <pin root>/v<ABI>/netfilter/<family>-<hook> links of netfilter hooks
//! ```
//!
//! Names have no dots: bpffs keeps them for itself.

use std::{
    ffi::CString,
    fs, io, mem,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use hostfw_common::ABI_VERSION;

/// Where bpffs is mounted by convention.
const BPFFS: &str = "/sys/fs/bpf";

/// Why the pin folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// Not on bpffs.
    #[error(
        "pin root {}: expected a folder on a bpf file system, found another one; \
         mount one with `mount -t bpf bpf {}`",
        .0.display(), .0.display()
    )]
    NotBpffs(PathBuf),
    /// bpffs could not be mounted where it belongs.
    #[error("pin root: no bpf file system on {BPFFS}, and mounting one failed: {0}")]
    Mount(#[source] io::Error),
    /// A file operation failed.
    #[error("{action} {}: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
}

/// Makes a [`PinError::Io`].
pub(crate) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> PinError + use<'a> {
    move |error| PinError::Io {
        action,
        path: path.to_path_buf(),
        error,
    }
}

/// The folders of one ABI version below a pin root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pins {
    /// `<pin root>/v<ABI>`.
    version: PathBuf,
}

impl Pins {
    /// The folders of this version's ABI; nothing is touched.
    pub(crate) fn new(pin_root: &Path) -> Self {
        Self {
            version: pin_root.join(format!("v{ABI_VERSION}")),
        }
    }

    /// Those that exist below a pin root, whatever their version.
    pub(crate) fn every(pin_root: &Path) -> Result<Vec<Self>, PinError> {
        Ok(names(pin_root)?
            .into_iter()
            .filter(|name| {
                name.strip_prefix('v')
                    .is_some_and(|number| number.parse::<u32>().is_ok())
            })
            .map(|name| Self {
                version: pin_root.join(name),
            })
            .collect())
    }

    /// Removes the folders and all pins in them.
    pub(crate) fn remove_all(&self) -> Result<(), PinError> {
        match fs::remove_dir_all(&self.version) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &self.version)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Lasting and outer maps.
    pub(crate) fn maps(&self) -> PathBuf {
        self.version.join("maps")
    }

    /// Inner maps of the generation in force.
    pub(crate) fn generation(&self) -> PathBuf {
        self.version.join("generation")
    }

    /// Links to interfaces.
    pub(crate) fn links(&self) -> PathBuf {
        self.version.join("links")
    }

    /// Links to netfilter hooks.
    pub(crate) fn netfilter(&self) -> PathBuf {
        self.version.join("netfilter")
    }

    /// Creates the folders, readable by root alone.
    pub(crate) fn create(&self) -> Result<(), PinError> {
        for folder in [
            self.maps(),
            self.generation(),
            self.links(),
            self.netfilter(),
        ] {
            fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        }
        Ok(())
    }
}

/// Makes sure that the pin root exists, on bpffs: mounts it where it is by
/// convention if it is not.
pub(crate) fn prepare(pin_root: &Path) -> Result<(), PinError> {
    if !on_bpffs(pin_root)? {
        if !pin_root.starts_with(BPFFS) {
            return Err(PinError::NotBpffs(pin_root.to_path_buf()));
        }
        mount()?;
        tracing::info!(path = BPFFS, "mounted bpffs");
        if !on_bpffs(pin_root)? {
            return Err(PinError::NotBpffs(pin_root.to_path_buf()));
        }
    }
    fs::create_dir_all(pin_root).map_err(failed("create", pin_root))
}

/// Whether the path, or the nearest ancestor that exists, lies on bpffs.
pub(crate) fn on_bpffs(path: &Path) -> Result<bool, PinError> {
    for ancestor in path.ancestors() {
        let Ok(name) = CString::new(ancestor.as_os_str().as_bytes()) else {
            return Ok(false);
        };
        // SAFETY: integers only: all zeros is valid.
        let mut stat: libc::statfs = unsafe { mem::zeroed() };
        // SAFETY: a C string and a struct that both outlive the call.
        if unsafe { libc::statfs(name.as_ptr(), &mut stat) } == 0 {
            return Ok(stat.f_type == libc::BPF_FS_MAGIC as libc::__fsword_t);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::NotFound {
            return Err(failed("look at", ancestor)(error));
        }
    }
    Ok(false)
}

fn mount() -> Result<(), PinError> {
    // SAFETY: C strings that outlive the call.
    let result = unsafe {
        libc::mount(
            c"bpf".as_ptr(),
            c"/sys/fs/bpf".as_ptr(),
            c"bpf".as_ptr(),
            libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            c"mode=0700".as_ptr().cast(),
        )
    };
    if result != 0 {
        return Err(PinError::Mount(io::Error::last_os_error()));
    }
    Ok(())
}

/// The names in a folder; none if it does not exist.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, PinError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list", folder))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Removes a pin; that it is gone already is as good.
pub(crate) fn remove(path: &Path) -> Result<bool, PinError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_carry_the_abi_version() {
        let pins = Pins::new(Path::new("/sys/fs/bpf/hostfw"));
        assert_eq!(
            pins.links(),
            PathBuf::from(format!("/sys/fs/bpf/hostfw/v{ABI_VERSION}/links"))
        );
    }

    #[test]
    fn a_common_file_system_is_not_bpffs() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("not/there/yet");
        assert!(!on_bpffs(&root).unwrap());
        let error = prepare(&root).unwrap_err();
        assert!(matches!(&error, PinError::NotBpffs(path) if *path == root));
        assert!(!root.exists());
    }

    #[test]
    fn a_missing_folder_has_no_names() {
        assert!(names(Path::new("/does/not/exist")).unwrap().is_empty());
    }
}
