use std::{
    fs::File,
    io::{self, BufReader, Write},
    path::Path,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::{Accepted, AcceptedObject, Problem, RefusedObject, Stored, Written, intern::Interner};
use crate::{
    model::{Kind, ObjectRef},
    resource::Resource,
    source::atomic,
    validate,
};

/// Format of the file. Another one is not read.
const VERSION: u32 = 1;

/// What is read. Of very many objects, trees are never held but of one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedState {
    version: u32,
    objects: Vec<Restored>,
    refused: Vec<SavedRefusal>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedObject {
    files: Vec<String>,
    resource: Value,
    stored: Stored,
    stored_generation: Option<u64>,
}

/// What an object has become, or why it is not valid any more.
struct Restored(Result<AcceptedObject, Problem>);

impl<'de> Deserialize<'de> for Restored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let saved = SavedObject::deserialize(deserializer)?;
        let file = saved.files.first().cloned();
        Ok(Self(restore(saved).map_err(|message| Problem {
            file,
            object: None,
            message: format!("what was in force is not valid any more: {message}"),
        })))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedRefusal {
    kind: String,
    name: String,
    files: Vec<String>,
    stored_generation: Option<u64>,
}

/// Why there is no saved state.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It holds something else.
    #[error("expected a saved state of version {VERSION}: {0}")]
    Content(String),
}

/// Writes down what is in force, so that it survives a restart. Problems are
/// not written: they are found again.
///
/// # Errors
///
/// What the kernel says; what was saved before is then still there.
pub fn save(path: &Path, accepted: &Accepted) -> io::Result<()> {
    atomic::write_with(path, |file| write(file, accepted))
}

/// One object a line: of very many, a tree or text of all would take more memory than
/// they do.
fn write(file: &mut dyn Write, accepted: &Accepted) -> io::Result<()> {
    write!(file, "{{\"version\":{VERSION},\"objects\":[")?;
    let mut separator = "\n";
    for object in &accepted.objects {
        let files: Vec<&str> = object.files.iter().map(|file| &**file).collect();
        write!(
            file,
            "{separator}{{\"files\":{},\"resource\":{},\"stored\":{},\"storedGeneration\":{}}}",
            json!(files),
            &*object.resource.to_text(),
            json!(object.stored),
            json!(object.stored_generation),
        )?;
        separator = ",\n";
    }
    let refused = accepted.refused.iter().map(|refused| SavedRefusal {
        kind: refused.object.kind.name().to_owned(),
        name: refused.object.name.clone(),
        files: refused.files.iter().map(ToString::to_string).collect(),
        stored_generation: refused.stored_generation,
    });
    let refused = serde_json::to_string(&refused.collect::<Vec<_>>())?;
    writeln!(file, "\n],\"refused\":{refused}}}")
}

/// Reads what [`save`] wrote; nothing is in force if there is no such file.
///
/// An object that this release does not take any more is left out, and is
/// among the problems.
///
/// # Errors
///
/// If the file cannot be read.
pub fn load(path: &Path) -> Result<Accepted, LoadError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Accepted::default()),
        Err(error) => return Err(error.into()),
    };
    let state: SavedState = serde_json::from_reader(BufReader::new(file)).map_err(|error| {
        if error.is_io() {
            LoadError::Io(error.into())
        } else {
            LoadError::Content(error.to_string())
        }
    })?;
    if state.version != VERSION {
        return Err(LoadError::Content(format!(
            "found version {}",
            state.version
        )));
    }
    let mut accepted = Accepted::default();
    let mut interner = Interner::default();
    for Restored(saved) in state.objects {
        match saved {
            Ok(mut object) => {
                interner.share_in(&mut object.object);
                accepted.objects.insert(object);
            }
            Err(problem) => accepted.problems.push(problem),
        }
    }
    for saved in state.refused {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == saved.kind);
        if let Some(kind) = kind {
            accepted.refused.push(RefusedObject {
                object: ObjectRef {
                    kind,
                    name: saved.name,
                },
                files: saved.files.into_iter().map(Arc::from).collect(),
                stored_generation: saved.stored_generation,
            });
        }
    }
    Ok(accepted)
}

fn restore(saved: SavedObject) -> Result<AcceptedObject, String> {
    let resource = Resource::from_value(&saved.resource).map_err(|error| error.to_string())?;
    let object = validate::validate(&resource).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("{}: {}", resource.object_ref(), errors.join("; "))
    })?;
    Ok(AcceptedObject {
        named: resource.object_ref(),
        files: saved.files.into_iter().map(Arc::from).collect(),
        resource: Written::new(resource, None),
        object,
        stored: saved.stored,
        stored_generation: saved.stored_generation,
    })
}
