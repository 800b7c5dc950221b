//! What `-f` names: files, folders, standard input. All of it is read before
//! anything is done with it.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use clap::Args;

use super::CtlError;
use crate::{
    model::ObjectRef,
    resource::{self, Resource, ResourceError},
    source,
    validate::{self, Object, ValidationError},
};

/// What messages call standard input.
const STDIN: &str = "<stdin>";

#[derive(Debug, Args)]
pub(super) struct Files {
    /// File or folder with resources in YAML or JSON; `-` is standard input.
    /// May be repeated.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    pub(super) filename: Vec<PathBuf>,
    /// Read sub-folders too.
    #[arg(short = 'R', long)]
    pub(super) recursive: bool,
}

/// Where an object stands in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: String,
    /// Number of the document in it, from 1.
    pub document: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {}", self.file, self.document)
    }
}

/// Something wrong with the input.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file or folder cannot be read.
    #[error("{file}: {error}")]
    File {
        /// The file.
        file: String,
        /// Why not.
        error: String,
    },
    /// A document does not hold resources.
    #[error("{file}: {error}")]
    Document {
        /// The file.
        file: String,
        /// Document, object, field, expected and found.
        error: ResourceError,
    },
    /// An object is not valid.
    #[error("{place}: {object}: {error}")]
    Object {
        /// Where it stands.
        place: Place,
        /// The object.
        object: ObjectRef,
        /// Field, expected and found.
        error: ValidationError,
    },
    /// A policy's tier does not exist.
    #[error(
        "{place}: {object}: spec.tier: expected a Tier that is stored or in the input ({}), found \
         {tier:?}", known.join(", ")
    )]
    NoTier {
        /// Where the policy stands.
        place: Place,
        /// The policy.
        object: ObjectRef,
        /// The tier that it names.
        tier: String,
        /// The tiers that there are, sorted.
        known: Vec<String>,
    },
    /// An object stands in the input twice.
    #[error("{second}: {object}: expected the object once, found it in {first} too")]
    Twice {
        /// The object.
        object: ObjectRef,
        /// Where it stands first.
        first: Place,
        /// Where it stands again.
        second: Place,
    },
}

/// An object of the input.
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) resource: Resource,
}

/// All that the input holds, right and wrong.
#[derive(Default)]
pub(super) struct Input {
    pub(super) items: Vec<Item>,
    pub(super) errors: Vec<InputError>,
}

impl Input {
    pub(super) fn read(files: &Files, stdin: &mut impl io::Read) -> Self {
        let mut input = Self::default();
        let mut stdin = Some(stdin);
        for path in &files.filename {
            if path == Path::new("-") {
                let text = match stdin.take() {
                    Some(stdin) => source::read_text(stdin),
                    None => Err("expected to be named once, found it named again".to_owned()),
                };
                input.add(STDIN, text);
            } else {
                input.visit(path, files.recursive, true);
            }
        }
        input.find_twice();
        input
    }

    fn visit(&mut self, path: &Path, recursive: bool, named: bool) {
        let name = path.display().to_string();
        match source::read_file(path) {
            Ok(Some(text)) => self.add(&name, Ok(text)),
            // What was listed may be gone by now; what the user named must be
            // there.
            Ok(None) if !named && !path.exists() => {}
            Ok(None) => match list(path) {
                Ok(entries) => {
                    for (entry, is_folder) in entries {
                        if !is_folder || recursive {
                            self.visit(&entry, recursive, false);
                        }
                    }
                }
                Err(error) => self.add(&name, Err(error.to_string())),
            },
            Err(error) => self.add(&name, Err(error)),
        }
    }

    fn add(&mut self, file: &str, text: Result<String, String>) {
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                self.errors.push(InputError::File {
                    file: file.to_owned(),
                    error,
                });
                return;
            }
        };
        for document in resource::parse_documents(&text) {
            match document.result {
                Ok(resources) => self
                    .items
                    .extend(resources.into_iter().map(|resource| Item {
                        place: Place {
                            file: file.to_owned(),
                            document: document.index,
                        },
                        resource,
                    })),
                Err(error) => self.errors.push(InputError::Document {
                    file: file.to_owned(),
                    error,
                }),
            }
        }
    }

    fn find_twice(&mut self) {
        let mut seen: BTreeMap<ObjectRef, &Place> = BTreeMap::new();
        for Item { place, resource } in &self.items {
            let object = resource.object_ref();
            match seen.get(&object) {
                Some(first) => self.errors.push(InputError::Twice {
                    object,
                    first: (*first).clone(),
                    second: place.clone(),
                }),
                None => {
                    seen.insert(object, place);
                }
            }
        }
    }

    /// The objects, if nothing is wrong and there are any.
    pub(super) fn finish(self) -> Result<Vec<Item>, CtlError> {
        if !self.errors.is_empty() {
            return Err(CtlError::Input(self.errors));
        }
        if self.items.is_empty() {
            return Err(CtlError::NoResources);
        }
        Ok(self.items)
    }

    /// Checks every object; what is wrong is added to the errors.
    pub(super) fn validate(&mut self) -> Vec<Object> {
        let mut objects = Vec::new();
        for Item { place, resource } in &self.items {
            match validate::validate(resource) {
                Ok(object) => objects.push(object),
                Err(errors) => {
                    self.errors
                        .extend(errors.into_iter().map(|error| InputError::Object {
                            place: place.clone(),
                            object: resource.object_ref(),
                            error,
                        }));
                }
            }
        }
        objects
    }
}

/// Resource files and sub-folders, sorted. Links to folders are left out: they
/// may lead in a circle.
fn list(folder: &Path) -> io::Result<Vec<(PathBuf, bool)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.file_type()?.is_dir();
        let leads_to_folder = entry.path().is_dir();
        let wanted = if is_folder {
            !name.starts_with('.')
        } else {
            source::is_resource_file(&name) && !leads_to_folder
        };
        if wanted {
            entries.push((entry.path(), is_folder));
        }
    }
    entries.sort();
    Ok(entries)
}
