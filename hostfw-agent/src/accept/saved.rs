use std::{fs, io, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Accepted, AcceptedObject, Problem, RefusedObject, Stored};
use crate::{
    model::{Kind, ObjectRef},
    resource::Resource,
    source::atomic,
    validate,
};

/// Format of the file. Another one is not read.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedState<O> {
    version: u32,
    objects: Vec<O>,
    refused: Vec<SavedRefusal>,
}

/// As it is written: one after the other becomes a tree, and then text.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Saving<'a> {
    files: Vec<&'a str>,
    resource: &'a Resource,
    stored: Stored,
    stored_generation: Option<u64>,
}

/// As it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedObject {
    files: Vec<String>,
    resource: Value,
    stored: Stored,
    stored_generation: Option<u64>,
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
    let state = SavedState {
        version: VERSION,
        objects: accepted
            .objects
            .iter()
            .map(|object| Saving {
                files: object.files.iter().map(|file| &**file).collect(),
                resource: &object.resource,
                stored: object.stored,
                stored_generation: object.stored_generation,
            })
            .collect(),
        refused: accepted
            .refused
            .iter()
            .map(|refused| SavedRefusal {
                kind: refused.object.kind.name().to_owned(),
                name: refused.object.name.clone(),
                files: refused.files.iter().map(|file| file.to_string()).collect(),
                stored_generation: refused.stored_generation,
            })
            .collect(),
    };
    let text = serde_json::to_vec_pretty(&state).map_err(io::Error::other)?;
    atomic::write(path, &text)
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
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Accepted::default()),
        Err(error) => return Err(error.into()),
    };
    let state: SavedState<SavedObject> =
        serde_json::from_slice(&text).map_err(|error| LoadError::Content(error.to_string()))?;
    if state.version != VERSION {
        return Err(LoadError::Content(format!(
            "found version {}",
            state.version
        )));
    }
    let mut accepted = Accepted::default();
    for saved in state.objects {
        let file = saved.files.first().cloned();
        match restore(saved) {
            Ok(object) => {
                accepted.objects.insert(object);
            }
            Err(message) => accepted.problems.push(Problem {
                file,
                object: None,
                message: format!("what was in force is not valid any more: {message}"),
            }),
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
        resource: resource.into(),
        object,
        stored: saved.stored,
        stored_generation: saved.stored_generation,
    })
}
