//! Changes single objects of the store: each in a file of its own, replaced in
//! whole, one writer at a time.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    MAX_FILE_BYTES, Snapshot, SourceError, atomic,
    contents::{Contents, FileContents},
    read_folder,
    stamp::{self, Conflict},
    yaml::{self, YamlError},
};
use crate::{model::ObjectRef, resource::Resource};

/// Held by whoever changes the store. The dot hides it from readers.
pub(super) const LOCK: &str = ".lock";

/// Longest `metadata.name` that Kubernetes takes (DNS-1123 subdomain).
const MAX_NAME: usize = 253;

/// How much of a name goes into the name of its file. File names end at 255
/// bytes, of which the kind takes up to 26, the extension 5, the hash 17.
const MAX_NAME_IN_FILE: usize = 200;

/// A store that no other process changes for as long as this lives.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    contents: Contents,
    // The lock goes when the file is closed, also when the process is killed.
    _lock: File,
}

/// What has become of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There was none of this name.
    Created,
    /// It replaced another version.
    Updated,
    /// It was stored already.
    Unchanged,
}

/// Why the store was not changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The kernel refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No file may have such a name.
    #[error(
        "{object}: metadata.name: expected lower-case letters, digits, '-' and '.' (DNS-1123 \
         subdomain, at most {MAX_NAME}), found {:?}", object.name
    )]
    Name {
        /// The object.
        object: ObjectRef,
    },
    /// It exists already.
    #[error("resource already exists: {0}")]
    Exists(ObjectRef),
    /// It does not exist.
    #[error("resource does not exist: {0}")]
    NotFound(ObjectRef),
    /// It was changed since the input was read from the store.
    #[error("update conflict: {object}: {conflict}")]
    Conflict {
        /// The object.
        object: ObjectRef,
        /// What differs.
        conflict: Conflict,
    },
    /// It stands in files that are not the store's own.
    #[error(
        "{object}: expected in file {own}, which hostfwctl writes; found in {}: change it there",
        files.join(" and ")
    )]
    Foreign {
        /// The object.
        object: ObjectRef,
        /// Where it would stand.
        own: String,
        /// Where it stands.
        files: Vec<String>,
    },
    /// Its file holds something else too.
    #[error("{object}: file {file} of the store holds other objects too: change it there")]
    Shared {
        /// The object.
        object: ObjectRef,
        /// Its file.
        file: String,
    },
    /// Its file is a link: what it leads to is not the store's own.
    #[error("{object}: file {file} of the store is a link: change what it leads to")]
    Link {
        /// The object.
        object: ObjectRef,
        /// Its file.
        file: String,
    },
    /// Its file would be too large to be read again.
    #[error("{object}: expected at most {MAX_FILE_BYTES} bytes of YAML, found {bytes}")]
    TooLarge {
        /// The object.
        object: ObjectRef,
        /// How many bytes it would take.
        bytes: usize,
    },
    /// The API server refuses.
    #[error("{object}: {reason}")]
    Api {
        /// The object.
        object: ObjectRef,
        /// What it says.
        reason: String,
    },
    /// It cannot be written down.
    #[error("{object}: {error}")]
    Yaml {
        /// The object.
        object: ObjectRef,
        /// Why.
        error: YamlError,
    },
}

/// What the store holds of an object.
enum Stored {
    Absent,
    /// Its file is there, but holds nothing that can be read.
    Broken,
    Present(Box<Resource>),
}

impl Writer {
    /// Makes the folder if need be, and waits for other writers to finish.
    ///
    /// # Errors
    ///
    /// If the folder cannot be made, locked or read.
    pub fn lock(folder: &Path) -> Result<Self, StoreError> {
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |error| StoreError::Io { path, error }
        };
        fs::create_dir_all(folder).map_err(at(folder))?;
        let path = folder.join(LOCK);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(at(&path))?;
        lock.lock().map_err(at(&path))?;
        atomic::remove_leftovers(folder).map_err(at(folder))?;
        Ok(Self {
            contents: Contents::parse(&read_folder(folder)?),
            folder: folder.to_path_buf(),
            _lock: lock,
        })
    }

    /// What the store's folder holds now.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(read_folder(&self.folder)?)
    }

    /// Stores an object that does not exist yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`], and others.
    pub fn create(&mut self, resource: Resource) -> Result<Change, StoreError> {
        match self.find(&resource.object_ref())? {
            Stored::Absent => {
                self.put(stamp::created(resource, SystemTime::now()))?;
                Ok(Change::Created)
            }
            Stored::Broken | Stored::Present(_) => Err(StoreError::Exists(resource.object_ref())),
        }
    }

    /// Stores an object that exists.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], [`StoreError::Conflict`], and others.
    pub fn replace(&mut self, resource: Resource) -> Result<Change, StoreError> {
        match self.find(&resource.object_ref())? {
            Stored::Absent => Err(StoreError::NotFound(resource.object_ref())),
            Stored::Broken => self.mend(resource),
            Stored::Present(old) => self.update(*old, resource),
        }
    }

    /// Stores an object, whether or not it exists.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`], and others.
    pub fn apply(&mut self, resource: Resource) -> Result<Change, StoreError> {
        match self.find(&resource.object_ref())? {
            Stored::Absent => self.create(resource),
            Stored::Broken => self.mend(resource),
            Stored::Present(old) => self.update(*old, resource),
        }
    }

    /// Removes an object. With `version`, only if that is what the store holds.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], [`StoreError::Conflict`], and others.
    pub fn delete(
        &mut self,
        object: &ObjectRef,
        version: Option<&Resource>,
    ) -> Result<(), StoreError> {
        match (self.find(object)?, version) {
            (Stored::Absent, _) => return Err(StoreError::NotFound(object.clone())),
            (Stored::Present(old), Some(version)) => check(&old, version)?,
            (Stored::Present(_), None) | (Stored::Broken, _) => {}
        }
        let file = file_name(object)?;
        let path = self.folder.join(&file);
        atomic::remove(&path).map_err(|error| StoreError::Io { path, error })?;
        self.contents.remove(&file);
        Ok(())
    }

    fn find(&self, object: &ObjectRef) -> Result<Stored, StoreError> {
        let own = file_name(object)?;
        let foreign: Vec<String> = self
            .contents
            .files_of(object)
            .into_iter()
            .filter(|file| *file != own)
            .map(ToOwned::to_owned)
            .collect();
        if !foreign.is_empty() {
            return Err(StoreError::Foreign {
                object: object.clone(),
                own,
                files: foreign,
            });
        }
        if fs::symlink_metadata(self.folder.join(&own)).is_ok_and(|found| found.is_symlink()) {
            return Err(StoreError::Link {
                object: object.clone(),
                file: own,
            });
        }
        let Some(file) = self.contents.file(&own) else {
            return Ok(Stored::Absent);
        };
        match file.objects.first() {
            Some(stored) if file.is_only(object) => {
                Ok(Stored::Present(Box::new(stored.resource.clone())))
            }
            None if file.is_nameless() || file.is_only(object) => Ok(Stored::Broken),
            Some(_) | None => Err(StoreError::Shared {
                object: object.clone(),
                file: own,
            }),
        }
    }

    /// Overwrites a file that cannot be read. What it was is lost, its version
    /// too, so that there is nothing to compare with.
    fn mend(&mut self, resource: Resource) -> Result<Change, StoreError> {
        self.put(stamp::created(resource, SystemTime::now()))?;
        Ok(Change::Updated)
    }

    fn update(&mut self, old: Resource, new: Resource) -> Result<Change, StoreError> {
        check(&old, &new)?;
        match stamp::updated(&old, new, SystemTime::now()) {
            None => Ok(Change::Unchanged),
            Some(stamped) => {
                self.put(stamped)?;
                Ok(Change::Updated)
            }
        }
    }

    fn put(&mut self, resource: Resource) -> Result<(), StoreError> {
        let object = resource.object_ref();
        let file = file_name(&object)?;
        let mut value = resource.to_value();
        yaml::shorten_numbers(&mut value);
        let text = match yaml::render(&value) {
            Ok(text) => text,
            Err(error) => return Err(StoreError::Yaml { object, error }),
        };
        if text.len() as u64 > MAX_FILE_BYTES {
            let bytes = text.len();
            return Err(StoreError::TooLarge { object, bytes });
        }
        if !is_read_as(&text, &resource) {
            let error = YamlError::Differs;
            return Err(StoreError::Yaml { object, error });
        }
        let path = self.folder.join(&file);
        atomic::write(&path, text.as_bytes()).map_err(|error| StoreError::Io { path, error })?;
        self.contents.put(file, resource);
        Ok(())
    }
}

/// What is stored must be what was validated, as the agent reads it.
fn is_read_as(text: &str, resource: &Resource) -> bool {
    let read = FileContents::parse(text);
    read.errors.is_empty() && matches!(&read.objects[..], [only] if only.resource == *resource)
}

fn check(stored: &Resource, input: &Resource) -> Result<(), StoreError> {
    stamp::check(stored.metadata(), input.metadata()).map_err(|conflict| StoreError::Conflict {
        object: stored.object_ref(),
        conflict,
    })
}

/// The file that holds the object if `hostfwctl` has written it.
///
/// # Errors
///
/// [`StoreError::Name`]: names are data, and must not lead out of the folder.
pub fn file_name(object: &ObjectRef) -> Result<String, StoreError> {
    let parts: Vec<&str> = if object.kind.is_namespaced() {
        object.name.split('/').collect()
    } else {
        vec![&object.name]
    };
    let expected = if object.kind.is_namespaced() { 2 } else { 1 };
    if parts.len() != expected || !parts.iter().all(|part| is_subdomain(part)) {
        return Err(StoreError::Name {
            object: object.clone(),
        });
    }
    let kind = object.kind.name().to_ascii_lowercase();
    // No name has a '_' either.
    let name = parts.join("_");
    let name = match name.get(..MAX_NAME_IN_FILE) {
        Some(start) if name.len() > MAX_NAME_IN_FILE => {
            // No name has a '~', so that none is taken for a shortened one.
            format!("{start}~{:016x}", fnv1a(object.name.as_bytes()))
        }
        Some(_) | None => name,
    };
    Ok(format!("{kind}.{name}.yaml"))
}

/// FNV-1a: the hash is part of a file name, and so has to stay what it is from
/// one release to the next.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn is_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    name.len() <= MAX_NAME && name.split('.').all(label)
}

#[cfg(test)]
mod tests;
