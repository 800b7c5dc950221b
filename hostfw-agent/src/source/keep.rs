//! What a file held before someone began to write it.

use std::collections::BTreeSet;

use super::{Snapshot, SourceFile};

/// The snapshot with the files of these names as they were in the last one:
/// someone is writing them, or did while they were read, so what was read may
/// be half of what is meant.
///
/// A file without a last version cannot be read, as far as the snapshot goes:
/// so what it may have meant earlier stays in force.
pub(super) fn keep_last(
    read: Snapshot,
    last: Option<&Snapshot>,
    names: &BTreeSet<String>,
) -> Snapshot {
    let Snapshot { mut files, .. } = read;
    for name in names {
        let before = last.and_then(|snapshot| snapshot.files.get(name));
        let content = match (files.get(name), before) {
            (_, Some(before)) => before.content.clone(),
            (Some(_), None) => Err("expected a complete file, found one that someone is \
                                    writing"
                .to_owned()),
            // Nothing that was read, so nothing that could be half.
            (None, None) => continue,
        };
        let path = name.as_str().into();
        files.insert(SourceFile { path, content });
    }
    files.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_file_being_written_is_as_it_was() {
        let last = Snapshot::of_texts(&[("a.yaml", "old"), ("b.yaml", "b")]);
        let read = Snapshot::of_texts(&[("a.yaml", "ne"), ("b.yaml", "b2")]);
        assert_eq!(
            keep_last(read, Some(&last), &names(&["a.yaml"])),
            Snapshot::of_texts(&[("a.yaml", "old"), ("b.yaml", "b2")])
        );
    }

    #[test]
    fn the_revision_is_of_what_is_kept() {
        let last = Snapshot::of_texts(&[("a.yaml", "old")]);
        let read = Snapshot::of_texts(&[("a.yaml", "ne")]);
        let kept = keep_last(read.clone(), Some(&last), &names(&["a.yaml"]));
        assert_eq!(kept.revision, last.revision);
        assert_eq!(keep_last(read.clone(), Some(&last), &names(&[])), read);
        assert_eq!(keep_last(read.clone(), None, &names(&[".lock"])), read);
    }

    #[test]
    fn a_file_that_vanished_while_it_was_read_is_still_there() {
        let last = Snapshot::of_texts(&[("a.yaml", "old")]);
        assert_eq!(
            keep_last(Snapshot::of_texts(&[]), Some(&last), &names(&["a.yaml"])),
            last
        );
    }

    #[test]
    fn a_new_file_is_not_read_by_halves() {
        let read = Snapshot::of_texts(&[("a.yaml", "ha")]);
        let kept = keep_last(read, None, &names(&["a.yaml"]));
        assert_eq!(kept.files.len(), 1);
        let error = kept.files[0].content.clone().unwrap_err();
        assert!(error.contains("writing"), "{error}");
    }
}
