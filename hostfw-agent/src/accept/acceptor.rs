//! Accepts one snapshot after another, by what differs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Accepted, AcceptedObject, Problem, RefusedObject, Stored, Written,
    parsed::{Parsed, ParsedFile},
};
use crate::{model::ObjectRef, sorted::Sorted, source::Snapshot, validate::Object};

/// Accepts one snapshot after another, and looks of each only at what is not as it
/// was: files whose text is another, and objects that are in force in another
/// version. What it accepts is what [`accept`](super::accept) does.
#[derive(Debug, Default)]
pub struct Acceptor {
    parsed: Parsed,
    /// What was in force when it accepted last.
    last: Accepted,
    /// What came of it.
    objects: Sorted<AcceptedObject>,
    refused: BTreeMap<ObjectRef, RefusedObject>,
    /// What is wrong with objects that several documents mean.
    ambiguous: BTreeMap<ObjectRef, Problem>,
    /// What is wrong with files.
    wrong: BTreeMap<Arc<str>, Vec<Problem>>,
    /// Files in which something is wrong or nothing is, with the objects that they
    /// meant last.
    doubtful: BTreeMap<Arc<str>, BTreeSet<ObjectRef>>,
}

/// A file that means an object.
struct Claim {
    file: Arc<str>,
    document: Option<usize>,
    generation: Option<u64>,
    version: Version,
}

/// What a file makes of an object.
#[derive(Clone, Debug)]
pub(super) enum Version {
    Valid(Written, Object),
    /// Why not is among the problems.
    Invalid,
    /// The file meant the object before, and is too broken to tell whether it
    /// still does.
    Unknown,
}

/// Objects to decide about, and who means them.
type Open = BTreeMap<ObjectRef, Vec<Claim>>;

impl Acceptor {
    /// As [`accept`](super::accept).
    pub fn accept(&mut self, snapshot: &Snapshot, last: &Accepted) -> Accepted {
        let mut open = Open::new();
        // Files that may mean an object to decide about.
        let mut files = BTreeSet::new();
        let doubtful = self.read(snapshot, &mut open, &mut files);
        self.follow(last, &mut open);
        self.doubt(doubtful, &mut open);
        for named in open.keys() {
            let known = self.objects.get(named).map(|object| &object.files);
            let known = known.or_else(|| self.refused.get(named).map(|it| &it.files));
            files.extend(known.into_iter().flat_map(|files| files.iter().cloned()));
        }
        for file in &files {
            if let Some(parsed) = self.parsed.file(file) {
                claim(file, parsed, &mut open);
            }
        }
        self.presume(&mut open);
        for (named, claims) in open {
            self.decide(named, &claims);
        }
        Accepted {
            objects: self.objects.clone(),
            refused: self.refused.values().cloned().collect(),
            problems: self.problems(),
        }
    }

    /// Reads the files that have changed. What they mean and meant is open, and the
    /// files are among those that may mean it. Gives those in which something is
    /// wrong or nothing is.
    fn read(
        &mut self,
        snapshot: &Snapshot,
        open: &mut Open,
        files: &mut BTreeSet<Arc<str>>,
    ) -> Vec<Arc<str>> {
        let mut doubtful = Vec::new();
        for (path, before) in self.parsed.update(snapshot) {
            let now = self.parsed.file(&path);
            for parsed in before.iter().chain(now) {
                for named in parsed.names() {
                    open.entry(named.clone()).or_default();
                }
            }
            for named in self.doubtful.remove(&path).into_iter().flatten() {
                open.entry(named).or_default();
            }
            self.wrong.remove(&path);
            if let Some(now) = now {
                let wrong = now.problems(&path);
                if !wrong.is_empty() || now.blank {
                    doubtful.push(Arc::clone(&path));
                }
                if !wrong.is_empty() {
                    self.wrong.insert(Arc::clone(&path), wrong);
                }
            }
            files.insert(path);
        }
        doubtful
    }

    /// What is in force in another version than when it accepted last is open, if
    /// anything depends on that.
    fn follow(&mut self, last: &Accepted, open: &mut Open) {
        let objects = last.objects.changes_from(&self.last.objects);
        let objects = objects.into_iter().map(|change| {
            let of = |it: &AcceptedObject| (it.named.clone(), Arc::clone(&it.files));
            (change.before.map(of), change.now.map(of))
        });
        let refused = (self.last.refused != last.refused).then(|| {
            let of = |it: &RefusedObject| Some((it.object.clone(), Arc::clone(&it.files)));
            let before = self.last.refused.iter().map(move |it| (of(it), None));
            before.chain(last.refused.iter().map(move |it| (None, of(it))))
        });
        // One whose only version is valid is in force in that, whatever was before:
        // unless a file is in doubt that meant it.
        let settled = |it: &AcceptedObject| it.stored == Stored::Current;
        let mut come = Vec::new();
        for (before, now) in objects.chain(refused.into_iter().flatten()) {
            if let Some((named, files)) = before {
                let mut doubted = false;
                for file in files.iter() {
                    if let Some(meant) = self.doubtful.get_mut(file) {
                        doubted |= meant.remove(&named);
                    }
                }
                if doubted || !self.objects.get(&named).is_some_and(settled) {
                    open.entry(named).or_default();
                }
            }
            come.extend(now);
        }
        // Behind all that is gone, for an object may go here and come there.
        for (named, files) in come {
            let mut doubted = false;
            for file in files.iter() {
                if let Some(meant) = self.doubtful.get_mut(file) {
                    doubted |= meant.insert(named.clone());
                }
            }
            if doubted || !self.objects.get(&named).is_some_and(settled) {
                open.entry(named).or_default();
            }
        }
        self.last = Accepted {
            objects: last.objects.clone(),
            refused: last.refused.clone(),
            problems: Vec::new(),
        };
    }

    /// Notes what files meant last that are in doubt now. It is open.
    fn doubt(&mut self, files: Vec<Arc<str>>, open: &mut Open) {
        if files.is_empty() {
            return;
        }
        let files = files.into_iter().map(|file| (file, BTreeSet::new()));
        let mut doubtful: BTreeMap<Arc<str>, BTreeSet<ObjectRef>> = files.collect();
        for (named, files) in self.last.meant() {
            for file in files.iter() {
                if let Some(meant) = doubtful.get_mut(file) {
                    meant.insert(named.clone());
                    open.entry(named.clone()).or_default();
                }
            }
        }
        self.doubtful.extend(doubtful);
    }

    /// What broken files may still mean.
    fn presume(&self, open: &mut Open) {
        for (file, meant) in &self.doubtful {
            // One that is empty is broken if it meant anything.
            for named in meant {
                if let Some(claims) = open.get_mut(named)
                    && claims.iter().all(|claim| claim.file != *file)
                {
                    claims.push(Claim {
                        file: Arc::clone(file),
                        document: None,
                        generation: None,
                        version: Version::Unknown,
                    });
                }
            }
        }
    }

    fn decide(&mut self, named: ObjectRef, claims: &[Claim]) {
        self.ambiguous.remove(&named);
        let previous = self.last.objects.get(&named);
        if claims.len() > 1 {
            let problem = ambiguous(&named, claims, previous.is_some());
            self.ambiguous.insert(named.clone(), problem);
        }
        let files: BTreeSet<&Arc<str>> = claims.iter().map(|claim| &claim.file).collect();
        let files = files.into_iter().cloned().collect();
        let stored_generation = claims.first().and_then(|claim| claim.generation);
        let accepted = match claims {
            [] => None,
            [
                Claim {
                    version: Version::Valid(resource, object),
                    ..
                },
            ] => {
                // The copy that is in force already, if it says the same.
                let resource = previous
                    .map(|known| &known.resource)
                    .filter(|known| *known == resource)
                    .unwrap_or(resource);
                let object = previous
                    .map(|known| &known.object)
                    .filter(|known| *known == object)
                    .unwrap_or(object);
                Some((resource, object, Stored::Current))
            }
            [..] => previous.map(|known| (&known.resource, &known.object, Stored::LastGood)),
        };
        let Some((resource, object, stored)) = accepted else {
            self.objects.remove(&named);
            if claims.is_empty() {
                self.refused.remove(&named);
            } else {
                let refused = RefusedObject {
                    object: named.clone(),
                    files,
                    stored_generation,
                };
                self.refused.insert(named, refused);
            }
            return;
        };
        self.refused.remove(&named);
        let accepted = AcceptedObject {
            resource: resource.clone(),
            object: object.clone(),
            named,
            files,
            stored,
            stored_generation,
        };
        // What stays as it is stays shared.
        if self.objects.get(&accepted.named) != Some(&accepted) {
            self.objects.insert(accepted);
        }
    }

    fn problems(&self) -> Vec<Problem> {
        // Writers that truncate first leave an empty file for a moment, or
        // for good if they fail.
        let emptied = self.doubtful.iter().filter(|(file, meant)| {
            !meant.is_empty() && self.parsed.file(file).is_some_and(|parsed| parsed.blank)
        });
        let emptied = emptied.map(|(file, _)| Problem {
            file: Some(file.to_string()),
            object: None,
            message: "expected the resources that the file held before, or no file, found an \
                      empty one"
                .to_owned(),
        });
        let wrong = self.wrong.values().flatten();
        let mut problems: Vec<Problem> = wrong.chain(self.ambiguous.values()).cloned().collect();
        problems.extend(emptied);
        problems.sort();
        problems
    }
}

/// What a file says of the objects that are open.
fn claim(file: &Arc<str>, parsed: &ParsedFile, open: &mut Open) {
    let mut claim = |named: &ObjectRef, document, generation, version: &Version| {
        if let Some(claims) = open.get_mut(named) {
            claims.push(Claim {
                file: Arc::clone(file),
                document: Some(document),
                generation,
                version: version.clone(),
            });
        }
    };
    let mut broken = Vec::new();
    for (document, result) in parsed.documents() {
        match result {
            Ok(objects) => {
                for object in objects {
                    claim(&object.named, document, object.generation, &object.version);
                }
            }
            Err(error) => broken.extend(error.object.map(|named| (named, document))),
        }
    }
    for (named, document) in broken {
        claim(&named, document, None, &Version::Invalid);
    }
}

fn ambiguous(named: &ObjectRef, claims: &[Claim], in_force: bool) -> Problem {
    let places: Vec<String> = claims
        .iter()
        .map(|claim| match (claim.document, &claim.version) {
            (_, Version::Unknown) => format!("{} (which cannot be read now)", claim.file),
            (Some(document), _) => format!("{} (document {document})", claim.file),
            (None, _) => claim.file.to_string(),
        })
        .collect();
    let outcome = if in_force {
        "the version that was accepted last stays in force"
    } else {
        "none of them is in force"
    };
    Problem {
        file: None,
        object: Some(named.clone()),
        message: format!(
            "expected the object in one place, found it in {}: {outcome}",
            places.join(" and ")
        ),
    }
}

#[cfg(test)]
mod tests;
