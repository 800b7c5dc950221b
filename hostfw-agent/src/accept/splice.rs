//! A set of a hundred thousand networks of which one changes: the text around it
//! is the same, so nothing else of it has to be read again.

use std::ops::Range;

use crate::resource::{Items, item};

/// What a change makes of the items of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Splice {
    /// The positions of those that are gone.
    pub(super) replaced: Range<usize>,
    /// What is in their place.
    pub(super) by: Vec<String>,
    /// The items of the new text.
    pub(super) items: Items,
}

/// Compares two texts of which the old one has the items in whole lines. `None`
/// unless all that differs are such lines, and some item is left.
///
/// Lines of that form mean items, next to each other, whatever they are; so a
/// text that is the same around them means the same around them.
pub(super) fn splice(items: &Items, old: &str, new: &str) -> Option<Splice> {
    let Items { lines, indent } = items;
    let (before, after) = (old.as_bytes(), new.as_bytes());
    let head = same_head(before, after);
    // To the beginning of its line.
    let start = before[..head].iter().rposition(|&byte| byte == b'\n')? + 1;
    let tail = same_tail(&before[start..], &after[start..]);
    // To the end of the line that it begins in, unless a line ends there in both.
    let ends = |text: &[u8]| tail < text.len() && text[text.len() - tail - 1] == b'\n';
    let tail = if ends(before) && ends(after) {
        tail
    } else {
        let rest = &before[before.len() - tail..];
        tail - rest.iter().position(|&byte| byte == b'\n')? - 1
    };
    let (old_end, new_end) = (before.len() - tail, after.len() - tail);
    if start < lines.start || old_end > lines.end {
        return None;
    }
    let by: Option<Vec<String>> = new[start..new_end]
        .split_inclusive('\n')
        .map(|line| item(line, *indent).map(str::to_owned))
        .collect();
    let by = by?;
    let count = |range: Range<usize>| before[range].iter().filter(|&&byte| byte == b'\n').count();
    let first = count(lines.start..start);
    let gone = count(start..old_end);
    let end = lines.end - old_end + new_end;
    // A list without items is none.
    if end <= lines.start {
        return None;
    }
    Some(Splice {
        replaced: first..first + gone,
        by,
        items: Items {
            lines: lines.start..end,
            indent: *indent,
        },
    })
}

/// Compared at once, as long as they are the same.
const AT_ONCE: usize = 4096;

/// How many bytes are the same at the beginning.
fn same_head(one: &[u8], other: &[u8]) -> usize {
    let chunks = one.chunks(AT_ONCE).zip(other.chunks(AT_ONCE));
    let whole = AT_ONCE * chunks.take_while(|(one, other)| one == other).count();
    let whole = whole.min(one.len()).min(other.len());
    let rest = one[whole..].iter().zip(&other[whole..]);
    whole + rest.take_while(|(one, other)| one == other).count()
}

/// How many bytes are the same at the end.
fn same_tail(one: &[u8], other: &[u8]) -> usize {
    let chunks = one.rchunks(AT_ONCE).zip(other.rchunks(AT_ONCE));
    let whole = AT_ONCE * chunks.take_while(|(one, other)| one == other).count();
    let whole = whole.min(one.len()).min(other.len());
    let rest = |text: &[u8]| text.len() - whole;
    let rest = one[..rest(one)]
        .iter()
        .rev()
        .zip(other[..rest(other)].iter().rev());
    whole + rest.take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "a:\n  - 10.0.0.1\n  - 10.0.0.2\n  - 10.0.0.3\nb: c\n";

    fn spliced(new: &str) -> Option<(Range<usize>, Vec<String>)> {
        let items = Items {
            lines: 3..OLD.len() - 5,
            indent: 2,
        };
        let splice = splice(&items, OLD, new)?;
        let lines = &new[splice.items.lines.clone()];
        assert!(lines.lines().all(|line| line.starts_with("  - ")), "{new}");
        assert_eq!(&new[splice.items.lines.end..], "b: c\n");
        Some((splice.replaced, splice.by))
    }

    #[test]
    fn items_that_come_and_go_are_found() {
        let with = |old: &str, new: &str| spliced(&OLD.replacen(old, new, 1));
        let found = |range, by: &[&str]| Some((range, by.iter().map(|&s| s.to_owned()).collect()));
        assert_eq!(with("  - 10.0.0.2\n", ""), found(1..2, &[]));
        assert_eq!(with("  - 10.0.0.1\n", ""), found(0..1, &[]));
        assert_eq!(with("  - 10.0.0.3\n", ""), found(2..3, &[]));
        assert_eq!(
            with("0.2\n", "0.2\n  - 10.0.0.25\n"),
            found(2..2, &["10.0.0.25"])
        );
        assert_eq!(with("b", "  - 1::2\nb"), found(3..3, &["1::2"]));
        assert_eq!(
            with("  - 10.0.0.1", "  - 1::2\n  - 10.0.0.1"),
            found(0..0, &["1::2"])
        );
        assert_eq!(with("0.0.2", "9.9.9"), found(1..2, &["10.9.9.9"]));
        assert_eq!(
            with("10.0.0.2\n  - 10.0.0.3", "1::2"),
            found(1..3, &["1::2"])
        );
    }

    #[test]
    fn what_is_the_same_at_either_end_is_counted_across_chunks() {
        for len in [0, 1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE] {
            let text = vec![b'a'; len];
            assert_eq!(
                (same_head(&text, &text), same_tail(&text, &text)),
                (len, len)
            );
            for at in [0, 1, len / 2, len.saturating_sub(1)] {
                if at < len {
                    let mut other = text.clone();
                    other[at] = b'b';
                    assert_eq!(same_head(&text, &other), at);
                    assert_eq!(same_tail(&text, &other), len - at - 1);
                    other.push(b'a');
                    assert_eq!(same_head(&text, &other), at);
                    assert_eq!(same_tail(&text, &other), len - at);
                }
            }
        }
    }

    #[test]
    fn what_is_more_than_items_is_not_for_here() {
        for (old, new) in [
            ("10.0.0.2", "'10.0.0.2'"),
            ("10.0.0.2", "10.0.0.2 "),
            ("10.0.0.2", "7"),
            ("10.0.0.2", "a: b"),
            ("10.0.0.2", "a:"),
            ("10.0.0.2", "#"),
            ("  - 10.0.0.2", "   - 10.0.0.2"),
            ("  - 10.0.0.2", " - 10.0.0.2"),
            ("  - 10.0.0.2", ""),
            ("  - 10.0.0.2", "  -"),
            ("  - 10.0.0.2\n", "\n"),
            ("  - 10.0.0.2\n", "# x\n"),
            ("10.0.0.2\n  - 10.0.0.3\n", "10.0.0.2 "),
            ("a:", "x:"),
            ("b: c", "b: d"),
            ("c\n", "c"),
            ("a:\n", "a:\n\n"),
            ("  - 10.0.0.1\n  - 10.0.0.2\n  - 10.0.0.3\n", ""),
        ] {
            assert_eq!(spliced(&OLD.replacen(old, new, 1)), None, "{old} {new}");
        }
    }
}
