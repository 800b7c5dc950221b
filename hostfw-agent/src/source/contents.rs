//! Which object stands in which file of the store.

use std::{collections::BTreeMap, fmt};

use super::Snapshot;
use crate::{
    model::ObjectRef,
    resource::{self, Resource},
};

/// What the files of a store hold, before validation.
#[derive(Debug, Default)]
pub struct Contents {
    files: BTreeMap<String, FileContents>,
}

/// What one file holds.
#[derive(Debug, Default)]
pub struct FileContents {
    /// The objects that could be read, in order.
    pub objects: Vec<FileObject>,
    /// What could not be read.
    pub errors: Vec<FileError>,
    /// There is nothing in it: blank lines, comments and document marks at
    /// most. An empty list is something.
    pub blank: bool,
}

/// An object of a file.
#[derive(Debug)]
pub struct FileObject {
    /// Number of the document, from 1.
    pub document: usize,
    /// The object.
    pub resource: Resource,
}

/// Something in a file that is not a resource.
#[derive(Debug)]
pub struct FileError {
    /// Number of the document, from 1; `None` if the whole file cannot be read.
    pub document: Option<usize>,
    /// The object that was meant, where that can be told.
    pub object: Option<ObjectRef>,
    /// What is wrong, with the document's number but without the object.
    pub message: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl FileContents {
    /// Reads a file's text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut contents = Self {
            blank: is_blank(text),
            ..Self::default()
        };
        for document in resource::parse_documents(text) {
            match document.result {
                Ok(resources) => contents
                    .objects
                    .extend(resources.into_iter().map(|resource| FileObject {
                        document: document.index,
                        resource,
                    })),
                Err(mut error) => contents.errors.push(FileError {
                    document: Some(document.index),
                    object: error.object.take(),
                    message: error.to_string(),
                }),
            }
        }
        contents
    }

    /// Whether the file means no object at all: it is empty, or is broken and
    /// does not even say which objects it holds.
    #[must_use]
    pub fn is_nameless(&self) -> bool {
        self.objects.is_empty() && self.errors.iter().all(|error| error.object.is_none())
    }

    /// Whether the file means this object and no other.
    #[must_use]
    pub fn is_only(&self, object: &ObjectRef) -> bool {
        match (&self.objects[..], &self.errors[..]) {
            ([only], []) => is(&only.resource, object),
            ([], [only]) => only.object.as_ref() == Some(object),
            _ => false,
        }
    }

    fn means(&self, object: &ObjectRef) -> bool {
        self.objects.iter().any(|other| is(&other.resource, object))
            || self
                .errors
                .iter()
                .any(|error| error.object.as_ref() == Some(object))
    }
}

/// Without a copy of the name, for it is asked of every object of the store.
fn is(resource: &Resource, object: &ObjectRef) -> bool {
    let metadata = resource.metadata();
    resource.kind() == object.kind
        && match (object.name.split_once('/'), object.kind.is_namespaced()) {
            (Some((namespace, name)), true) => {
                metadata.namespace.as_deref() == Some(namespace) && metadata.name == name
            }
            _ => metadata.name == object.name,
        }
}

/// Whether a text holds blank lines, comments and document marks at most.
pub(crate) fn is_blank(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
    })
}

impl Contents {
    /// Reads all files of the snapshot.
    #[must_use]
    pub fn parse(snapshot: &Snapshot) -> Self {
        let files = snapshot
            .files
            .iter()
            .map(|file| {
                let contents = match &file.content {
                    Ok(text) => FileContents::parse(text),
                    Err(message) => FileContents {
                        objects: Vec::new(),
                        errors: vec![FileError {
                            document: None,
                            object: None,
                            message: message.clone(),
                        }],
                        blank: false,
                    },
                };
                (file.path.to_string(), contents)
            })
            .collect();
        Self { files }
    }

    /// All files, sorted by name.
    pub fn files(&self) -> impl Iterator<Item = (&str, &FileContents)> {
        self.files
            .iter()
            .map(|(name, contents)| (name.as_str(), contents))
    }

    /// All files, sorted by name.
    pub fn into_files(self) -> impl Iterator<Item = (String, FileContents)> {
        self.files.into_iter()
    }

    /// One file.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&FileContents> {
        self.files.get(name)
    }

    /// The files that mean the object, readable or not.
    #[must_use]
    pub fn files_of(&self, object: &ObjectRef) -> Vec<&str> {
        self.files()
            .filter(|(_, contents)| contents.means(object))
            .map(|(name, _)| name)
            .collect()
    }

    /// Notes that the file now holds this object alone.
    pub fn put(&mut self, file: String, resource: Resource) {
        self.files.insert(
            file,
            FileContents {
                objects: vec![FileObject {
                    document: 1,
                    resource,
                }],
                errors: Vec::new(),
                blank: false,
            },
        );
    }

    /// Notes that the file is gone.
    pub fn remove(&mut self, file: &str) {
        self.files.remove(file);
    }
}
