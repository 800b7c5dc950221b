//! What a file held before someone began to write it.

use std::collections::{BTreeMap, BTreeSet};

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
    let mut files: BTreeMap<String, SourceFile> = read
        .files
        .into_iter()
        .map(|file| (file.path.clone(), file))
        .collect();
    let mut changed = false;
    for name in names {
        let before = last
            .into_iter()
            .flat_map(|snapshot| &snapshot.files)
            .find(|file| file.path == *name);
        match (files.get_mut(name), before) {
            (Some(file), Some(before)) => file.content.clone_from(&before.content),
            (Some(file), None) => {
                file.content = Err("expected a complete file, found one that someone is \
                                    writing"
                    .to_owned());
            }
            (None, Some(before)) => {
                files.insert(name.clone(), before.clone());
            }
            // Nothing that was read, so nothing that could be half.
            (None, None) => continue,
        }
        changed = true;
    }
    let files: Vec<_> = files.into_values().collect();
    if changed {
        Snapshot::of(files)
    } else {
        Snapshot {
            files,
            revision: read.revision,
        }
    }
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
