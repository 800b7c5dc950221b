//! What the files of the store say: each piece of them is read and validated
//! once, for as long as its text stays.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    Problem, Written,
    acceptor::Version,
    intern::Interner,
    splice::{Splice, splice},
};
use crate::{
    model::ObjectRef,
    resource::{Items, Piece, ResourceError, split},
    source::{Files, Snapshot, SourceFile, Text, contents::is_blank},
    validate::{self, ValidationError},
};

/// Less text than this is read faster by one thread than it is handed out.
const WORTH_A_THREAD: usize = 64 << 10;
/// More threads than this are not given to one job.
const MOST_THREADS: usize = 8;

/// The files of the last snapshot.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// As they were read.
    texts: Files,
    /// What they say, by path.
    files: HashMap<Arc<str>, ParsedFile>,
    interner: Interner,
}

/// What one file says. Does not depend on any other.
#[derive(Debug, Default)]
pub(super) struct ParsedFile {
    /// Boxes here and below, for there may be very many: vectors keep room for more.
    pieces: Box<[Arc<ParsedPiece>]>,
    /// There is nothing in it.
    pub(super) blank: bool,
    /// Why it cannot be read, if so.
    unreadable: Option<Box<str>>,
}

/// What a piece of a file says.
#[derive(Debug)]
pub(super) struct ParsedPiece {
    documents: Box<[ParsedDocument]>,
    /// It is a set, whose networks stand in these lines of it.
    nets: Option<Items>,
}

/// What a document says, or why that cannot be told.
type ParsedDocument = Result<Box<[ParsedObject]>, Box<ResourceError>>;

/// An object in a file.
#[derive(Debug)]
pub(super) struct ParsedObject {
    pub(super) named: ObjectRef,
    pub(super) generation: Option<u64>,
    pub(super) version: Version,
    /// Why it is not valid.
    pub(super) errors: Vec<ValidationError>,
}

impl Parsed {
    /// Reads what is new in the snapshot, and forgets what is gone. Gives the paths
    /// of the files that have changed, with what they said before.
    pub(super) fn update(&mut self, snapshot: &Snapshot) -> Vec<(Arc<str>, Option<ParsedFile>)> {
        let before = std::mem::replace(&mut self.texts, snapshot.files.clone());
        let changes = self.texts.changes_from(&before);
        let changed: Vec<(Arc<str>, Option<ParsedFile>)> = changes
            .iter()
            .filter_map(|change| change.before.or(change.now))
            .map(|file| (Arc::clone(&file.path), self.files.remove(&file.path)))
            .collect();
        let mut drafts = Vec::new();
        for (change, (_, parsed)) in changes.iter().zip(&changed) {
            if let Some(now) = change.now {
                let known = change.before.zip(parsed.as_ref());
                drafts.push((now, Draft::of(&now.content, known)));
            }
        }
        let missing: Vec<Missing<'_>> = drafts
            .iter()
            .flat_map(|(_, draft)| draft.missing())
            .collect();
        let mut read = parse_all(&missing);
        for piece in &mut read {
            piece.share(&mut self.interner);
        }
        let mut read = read.into_iter().map(Arc::new);
        for (file, draft) in drafts {
            let parsed = draft.filled(&mut read);
            self.files.insert(Arc::clone(&file.path), parsed);
        }
        changed
    }

    /// What a file says.
    pub(super) fn file(&self, path: &str) -> Option<&ParsedFile> {
        self.files.get(path)
    }
}

impl ParsedFile {
    /// The objects that it means.
    pub(super) fn names(&self) -> impl Iterator<Item = &ObjectRef> {
        let documents = self.pieces.iter().flat_map(|piece| piece.documents.iter());
        documents.flat_map(|document| {
            let (objects, error) = match document {
                Ok(objects) => (&objects[..], None),
                Err(error) => (&[][..], error.object.as_ref()),
            };
            objects.iter().map(|object| &object.named).chain(error)
        })
    }

    /// What is wrong in it.
    pub(super) fn problems(&self, path: &str) -> Vec<Problem> {
        let problem = |object: Option<&ObjectRef>, message: String| Problem {
            file: Some(path.to_owned()),
            object: object.cloned(),
            message,
        };
        let unreadable = self.unreadable.iter();
        let mut problems: Vec<Problem> = unreadable
            .map(|reason| problem(None, reason.to_string()))
            .collect();
        for (document, result) in self.documents() {
            match result {
                Ok(objects) => {
                    for object in objects {
                        let errors = object.errors.iter();
                        problems.extend(errors.map(|error| {
                            let message = format!("document {document}: {error}");
                            problem(Some(&object.named), message)
                        }));
                    }
                }
                Err(mut error) => {
                    let object = error.object.take();
                    problems.push(problem(object.as_ref(), error.to_string()));
                }
            }
        }
        problems
    }

    /// Its documents, with their numbers.
    pub(super) fn documents(
        &self,
    ) -> impl Iterator<Item = (usize, Result<&[ParsedObject], ResourceError>)> {
        (1..)
            .zip(self.pieces.iter().flat_map(|piece| piece.documents.iter()))
            .map(|(document, result)| {
                let result = match result {
                    Ok(objects) => Ok(&objects[..]),
                    Err(error) => Err(ResourceError {
                        document,
                        ..(**error).clone()
                    }),
                };
                (document, result)
            })
    }
}

/// A piece to read, and the text of the file if it holds no other.
type Missing<'a> = (Piece<'a>, Option<&'a Text>);

/// A file of which not every piece is read.
struct Draft<'a> {
    text: Option<&'a Text>,
    pieces: Vec<Known<'a>>,
    blank: bool,
    unreadable: Option<&'a str>,
}

impl<'a> Draft<'a> {
    /// A file that holds this now. The pieces at the beginning and at the end
    /// are those of the file before, as far as their texts are the same.
    fn of(content: &'a Result<Text, String>, known: Option<(&SourceFile, &ParsedFile)>) -> Self {
        let text = match content {
            Ok(text) => text,
            Err(reason) => {
                return Self {
                    text: None,
                    pieces: Vec::new(),
                    blank: false,
                    unreadable: Some(reason),
                };
            }
        };
        let mut pieces: Vec<_> = split(text).into_iter().map(|piece| (piece, None)).collect();
        if let Some((before, parsed)) = known
            && let Ok(before) = &before.content
        {
            let before: Vec<_> = split(before).into_iter().zip(&parsed.pieces).collect();
            let both = pieces.len().min(before.len());
            let head = share(pieces.iter_mut().zip(before.iter()));
            // No piece of the one before is taken twice.
            let tail = pieces.iter_mut().rev().zip(before.iter().rev());
            let tail = share(tail.take(both - head));
            // What is left in between may have changed a little.
            if pieces.len() == before.len() {
                let changed = head..pieces.len() - tail;
                for ((piece, known), (old, parsed)) in
                    pieces[changed.clone()].iter_mut().zip(&before[changed])
                {
                    *known = parsed.spliced(old.text(), piece.text()).map(Arc::new);
                }
            }
        }
        Self {
            text: Some(text).filter(|_| pieces.len() == 1),
            pieces,
            blank: is_blank(text),
            unreadable: None,
        }
    }

    fn missing(&self) -> impl Iterator<Item = Missing<'a>> {
        self.pieces
            .iter()
            .filter(|(_, known)| known.is_none())
            .map(|(piece, _)| (*piece, self.text))
    }

    /// With those that were missing, in order.
    fn filled(self, read: &mut impl Iterator<Item = Arc<ParsedPiece>>) -> ParsedFile {
        ParsedFile {
            pieces: self
                .pieces
                .into_iter()
                .filter_map(|(_, known)| known.or_else(|| read.next()))
                .collect(),
            blank: self.blank,
            unreadable: self.unreadable.map(Into::into),
        }
    }
}

/// A piece, and what it says if that is known.
type Known<'a> = (Piece<'a>, Option<Arc<ParsedPiece>>);

/// Notes what pieces say that are the same as before, up to the first that is
/// not, and gives their number.
fn share<'a: 'b, 'b, 'c, 'd: 'c>(
    both: impl Iterator<Item = (&'b mut Known<'a>, &'c (Piece<'d>, &'d Arc<ParsedPiece>))>,
) -> usize {
    let mut shared = 0;
    for ((new, known), (old, parsed)) in both {
        if new.text() != old.text() || !parsed.is_whole() {
            break;
        }
        *known = Some(Arc::clone(parsed));
        shared += 1;
    }
    shared
}

/// Reads pieces, several at a time if there is much to read.
fn parse_all(pieces: &[Missing<'_>]) -> Vec<ParsedPiece> {
    let one = |(piece, whole): &Missing<'_>| ParsedPiece::of(piece, *whole);
    let total: usize = pieces.iter().map(|(piece, _)| piece.text().len()).sum();
    let worth = (total / WORTH_A_THREAD).min(MOST_THREADS);
    if worth < 2 {
        return pieces.iter().map(one).collect();
    }
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = threads.min(worth);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(index) else {
                return done;
            };
            done.push((index, one(piece)));
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

impl ParsedPiece {
    /// `whole`: the text of the file, if nothing else is in it.
    fn of(piece: &Piece<'_>, whole: Option<&Text>) -> Self {
        let (documents, nets) = piece.documents_and_nets();
        let documents = documents.into_iter().map(|document| {
            let resources = document.result.map_err(Box::new)?;
            Ok(resources
                .into_iter()
                .map(|resource| {
                    let named = resource.object_ref();
                    let generation = resource.metadata().generation;
                    let (version, errors) = match validate::validate(&resource) {
                        Ok(valid) => {
                            let written = Written::new(resource, whole);
                            (Version::Valid(written, valid), Vec::new())
                        }
                        Err(errors) => (Version::Invalid, errors),
                    };
                    ParsedObject {
                        named,
                        generation,
                        version,
                        errors,
                    }
                })
                .collect())
        });
        Self {
            documents: documents.collect(),
            nets,
        }
    }

    /// What `new` says if this is what `old` says, and only networks of a set
    /// were added or removed. `None` if that cannot be told so.
    fn spliced(&self, old: &str, new: &str) -> Option<Self> {
        let items = self.nets.as_ref()?;
        let [Ok(objects)] = &self.documents[..] else {
            return None;
        };
        let [object] = &objects[..] else {
            return None;
        };
        let Version::Valid(resource, valid) = &object.version else {
            return None;
        };
        let Splice {
            replaced,
            by,
            items,
        } = splice(items, old, new)?;
        let valid = validate::with_nets(valid, replaced.clone(), &by)?;
        let resource = resource.resource()?.with_nets(replaced, by)?;
        let object = ParsedObject {
            named: object.named.clone(),
            generation: object.generation,
            version: Version::Valid(Written::new(resource, None), valid),
            errors: Vec::new(),
        };
        Some(Self {
            documents: Box::new([Ok(Box::new([object]))]),
            nets: Some(items),
        })
    }

    /// Has what stands in it share what others have, too.
    fn share(&mut self, interner: &mut Interner) {
        for object in self
            .documents
            .iter_mut()
            .flatten()
            .flat_map(|it| it.iter_mut())
        {
            if let Version::Valid(_, valid) = &mut object.version {
                interner.share_in(valid);
            }
        }
    }

    /// Whether all of it could be read: what is told of errors names the line,
    /// which moves with what stands before.
    fn is_whole(&self) -> bool {
        self.documents.iter().all(Result::is_ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier(name: &str) -> String {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: {name}}}\nspec: {{}}\n"
        )
    }

    fn snapshot(text: &str) -> Snapshot {
        Snapshot::of_texts(&[("a.yaml", text)])
    }

    /// What is told of the only file, and its pieces.
    fn told(parsed: &Parsed) -> (Vec<String>, Vec<Arc<ParsedPiece>>) {
        let file = parsed.file("a.yaml").unwrap();
        let lines = file
            .documents()
            .map(|(number, result)| match result {
                Ok(objects) => {
                    let names: Vec<_> = objects.iter().map(|o| &*o.named.name).collect();
                    format!("{number} {}", names.join(" "))
                }
                Err(error) => error.to_string(),
            })
            .collect();
        (lines, file.pieces.to_vec())
    }

    /// Whether these are the same allocations.
    fn same(one: &[Arc<ParsedPiece>], other: &[Arc<ParsedPiece>]) -> bool {
        one.len() == other.len() && one.iter().zip(other).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    #[test]
    fn only_documents_that_change_are_read_again() {
        let text = |names: &[&str]| -> String {
            names
                .iter()
                .map(|name| format!("---\n{}", tier(name)))
                .collect()
        };
        let mut parsed = Parsed::default();
        let mut step = |text: &str| {
            parsed.update(&snapshot(text));
            let now = told(&parsed);
            let mut fresh = Parsed::default();
            fresh.update(&snapshot(text));
            assert_eq!(now.0, told(&fresh).0);
            now
        };
        let (lines, first) = step(&text(&["a", "b", "c", "d"]));
        assert_eq!(lines, ["1 a", "2 b", "3 c", "4 d"]);
        // What stands before the first mark is a piece, too.
        assert_eq!(first.len(), 5);
        let (_, changed) = step(&text(&["a", "x", "c", "d"]));
        assert!(same(&changed[..2], &first[..2]));
        assert!(!Arc::ptr_eq(&changed[2], &first[2]));
        assert!(same(&changed[3..], &first[3..]));
        let (lines, shorter) = step(&text(&["a", "c", "d"]));
        assert_eq!(lines, ["1 a", "2 c", "3 d"]);
        assert!(same(&shorter[2..], &first[3..]));
        let (lines, longer) = step(&text(&["new", "a", "c", "c", "d"]));
        assert_eq!(lines, ["1 new", "2 a", "3 c", "4 c", "5 d"]);
        assert!(same(&longer[4..], &first[3..]));
        step("");
        let same = text(&["a", "a", "a"]);
        step(&same);
        step(&(same.clone() + &same));
        step(&same);
    }

    #[test]
    fn an_error_is_told_where_it_stands_now() {
        let broken = "---\nkind: [\n";
        let mut parsed = Parsed::default();
        for before in ["", "# one line more\n", "---\n# and a document\n"] {
            let text = format!("{before}{}{broken}---\n{}", tier("a"), tier("b"));
            parsed.update(&snapshot(&text));
            let mut fresh = Parsed::default();
            fresh.update(&snapshot(&text));
            assert_eq!(told(&parsed).0, told(&fresh).0);
            assert!(told(&parsed).0[1].contains("document 2"));
        }
    }

    #[test]
    fn a_set_of_which_some_networks_change_says_what_it_says_when_read_anew() {
        let text = |nets: &[String], more: &str| -> String {
            let nets: String = nets.iter().map(|net| format!("  - {net}\n")).collect();
            format!(
                "---\n{}---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\n\
                 metadata: {{name: s}}\nspec:\n  nets:\n{nets}{more}",
                tier("a")
            )
        };
        let net = |number: usize| format!("10.0.{}.{}", number / 256, number % 256);
        let mut nets: Vec<String> = (0..50).map(net).collect();
        let mut parsed = Parsed::default();
        let mut state = 1_usize;
        let mut random = move |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let mut known = 0;
        for step in 0..600 {
            for _ in 0..random(3) {
                let at = random(nets.len() + 1);
                match random(3) {
                    0 => nets.insert(at, net(random(1000))),
                    1 if nets.len() > 1 => {
                        nets.remove(at.min(nets.len() - 1));
                    }
                    _ => {
                        let with = ["fd00::/8", "'10.0.0.1'", "x y", "10.0.0.1 # x", "1", "a: b"];
                        let with = with[random(with.len() * 10).min(with.len() - 1)];
                        nets.insert(at, with.to_owned());
                    }
                }
            }
            // Nothing stays wrong for long.
            if step % 7 == 0 {
                nets.retain(|net| net.parse::<std::net::IpAddr>().is_ok());
            }
            let more = ["", "", "", "# x\n", "---\n"][random(5)];
            let text = text(&nets, more);
            parsed.update(&snapshot(&text));
            let mut fresh = Parsed::default();
            fresh.update(&snapshot(&text));
            known += usize::from(parsed.files["a.yaml"].pieces[2].nets.is_some());
            assert_eq!(format!("{:?}", parsed.files), format!("{:?}", fresh.files));
        }
        assert!(known > 100, "{known}");
    }

    #[test]
    fn many_pieces_keep_their_order() {
        let names: Vec<String> = (0..3000).map(|number| format!("t{number}")).collect();
        let text: String = names.iter().map(|name| tier(name) + "---\n").collect();
        assert!(text.len() > 2 * WORTH_A_THREAD);
        let mut parsed = Parsed::default();
        parsed.update(&snapshot(&text));
        let expected: Vec<String> = (1..)
            .zip(&names)
            .map(|(n, name)| format!("{n} {name}"))
            .collect();
        assert_eq!(told(&parsed).0, expected);
    }
}
