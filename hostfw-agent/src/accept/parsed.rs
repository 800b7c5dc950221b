//! What the files of the store say, read and validated once for each text.

use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc, thread};

use super::Version;
use crate::{
    model::ObjectRef,
    source::{Snapshot, SourceFile, Text, contents::FileContents},
    validate,
};

/// Less text than this is read faster by one thread than it is handed out.
const WORTH_A_THREAD: usize = 64 << 10;
/// More threads than this are not given to one job.
const MOST_THREADS: usize = 8;

/// The files of the last snapshot.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    files: BTreeMap<String, (Result<Text, String>, Arc<ParsedFile>)>,
}

/// What one file says. Does not depend on any other.
#[derive(Debug, Default)]
pub(super) struct ParsedFile {
    /// Objects that it means.
    pub(super) objects: Vec<ParsedObject>,
    /// What is wrong with it, and the object that this is about.
    pub(super) errors: Vec<(Option<ObjectRef>, String)>,
    /// [`FileContents::blank`].
    pub(super) blank: bool,
}

/// An object in a file.
#[derive(Debug)]
pub(super) struct ParsedObject {
    pub(super) named: ObjectRef,
    pub(super) document: Option<usize>,
    pub(super) generation: Option<u64>,
    pub(super) version: Version,
}

impl Parsed {
    /// Reads what is new in the snapshot, and forgets what is gone.
    pub(super) fn update(&mut self, snapshot: &Snapshot) {
        let mut known = std::mem::take(&mut self.files);
        let mut new = Vec::new();
        for file in &snapshot.files {
            match known.remove_entry(&file.path) {
                Some((path, before)) if before.0 == file.content => {
                    self.files.insert(path, before);
                }
                Some(_) | None => new.push(file),
            }
        }
        for (file, parsed) in new.iter().zip(parse_all(&new)) {
            self.files
                .insert(file.path.clone(), (file.content.clone(), parsed));
        }
    }

    /// All files, sorted by name.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &ParsedFile)> {
        self.files
            .iter()
            .map(|(path, (_, parsed))| (&**path, &**parsed))
    }
}

/// Reads files, several at a time if there are many.
fn parse_all(files: &[&SourceFile]) -> Vec<Arc<ParsedFile>> {
    let one = |file: &&SourceFile| Arc::new(ParsedFile::of(&file.content));
    let bytes = |file: &&SourceFile| file.content.as_deref().map_or(0, str::len);
    let total: usize = files.iter().map(bytes).sum();
    let threads = thread::available_parallelism()
        .map_or(1, NonZeroUsize::get)
        .min(total / WORTH_A_THREAD)
        .min(MOST_THREADS);
    if threads < 2 {
        return files.iter().map(one).collect();
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(file) = files.get(index) else {
                return done;
            };
            done.push((index, one(file)));
        }
    };
    let mut done = thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let mut done = work();
        for other in others {
            done.extend(
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, parsed)| parsed).collect()
}

impl ParsedFile {
    fn of(content: &Result<Text, String>) -> Self {
        let text = match content {
            Ok(text) => text,
            Err(reason) => {
                return Self {
                    errors: vec![(None, reason.clone())],
                    ..Self::default()
                };
            }
        };
        let contents = FileContents::parse(text);
        let mut parsed = Self {
            blank: contents.blank,
            ..Self::default()
        };
        for object in contents.objects {
            let named = object.resource.object_ref();
            let generation = object.resource.metadata().generation;
            let version = match validate::validate(&object.resource) {
                Ok(valid) => Version::Valid(object.resource.into(), valid.into()),
                Err(errors) => {
                    parsed.errors.extend(errors.into_iter().map(|error| {
                        let message = format!("document {}: {error}", object.document);
                        (Some(named.clone()), message)
                    }));
                    Version::Invalid
                }
            };
            parsed.objects.push(ParsedObject {
                named,
                document: Some(object.document),
                generation,
                version,
            });
        }
        for error in contents.errors {
            if let Some(named) = &error.object {
                parsed.objects.push(ParsedObject {
                    named: named.clone(),
                    document: error.document,
                    generation: None,
                    version: Version::Invalid,
                });
            }
            parsed.errors.push((error.object, error.message));
        }
        parsed
    }
}
