//! The networks of a set, as they are written. The versions of a set share what
//! is the same in them, so that a change of one in a hundred thousand copies few.

use std::{ops::Range, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many texts stand together: what a change of one copies, while a set of
/// 100,000 has a few hundred such chunks.
const CHUNK: usize = 256;

/// A list of texts. Which of them stand together makes no difference.
#[derive(Clone, Debug, Default)]
pub struct Nets {
    /// None is empty.
    chunks: Vec<Arc<[String]>>,
}

impl Nets {
    /// The texts, in order.
    pub fn iter(&self) -> impl Iterator<Item = &String> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.len()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The list with others in place of those of some positions; `None` if it
    /// has no such positions.
    pub(super) fn with(&self, replaced: Range<usize>, by: Vec<String>) -> Option<Self> {
        let Range { start, end } = replaced;
        if start > end || end > self.len() {
            return None;
        }
        let mut before = Vec::with_capacity(self.chunks.len() + 2);
        let mut behind = Vec::new();
        let mut head: &[String] = &[];
        let mut tail: &[String] = &[];
        let mut first = 0;
        for chunk in &self.chunks {
            let last = first + chunk.len();
            if last <= start {
                before.push(Arc::clone(chunk));
            } else if first >= end {
                behind.push(Arc::clone(chunk));
            } else {
                // An empty range within a chunk is the end of one half and the
                // beginning of the other.
                if first < start {
                    head = &chunk[..start - first];
                }
                if end < last {
                    tail = &chunk[end - first..];
                }
            }
            first = last;
        }
        let middle = [head, &by, tail].concat();
        let mut chunks = before;
        // Only what has become twice as long is divided, so that a list that grows
        // at one place is not made of small pieces.
        if middle.len() > 2 * CHUNK {
            chunks.extend(middle.chunks(CHUNK).map(Arc::from));
        } else if !middle.is_empty() {
            chunks.push(middle.into());
        }
        chunks.extend(behind);
        Some(Self { chunks })
    }
}

impl From<Vec<String>> for Nets {
    fn from(texts: Vec<String>) -> Self {
        texts.into_iter().collect()
    }
}

impl FromIterator<String> for Nets {
    fn from_iter<I: IntoIterator<Item = String>>(texts: I) -> Self {
        let mut texts = texts.into_iter();
        let chunks = std::iter::from_fn(|| {
            let chunk: Arc<[String]> = texts.by_ref().take(CHUNK).collect();
            (!chunk.is_empty()).then_some(chunk)
        });
        Self {
            chunks: chunks.collect(),
        }
    }
}

impl PartialEq for Nets {
    fn eq(&self, other: &Self) -> bool {
        // What both share, at either end, is the same.
        let same = |(one, other): &(&Arc<[String]>, &Arc<[String]>)| Arc::ptr_eq(one, other);
        let head = self.chunks.iter().zip(&other.chunks);
        let head = head.take_while(same).count();
        let (ours, theirs) = (&self.chunks[head..], &other.chunks[head..]);
        let tail = ours.iter().rev().zip(theirs.iter().rev());
        let tail = tail.take_while(same).count();
        let rest = |chunks: &[Arc<[String]>]| chunks.len() - tail;
        let ours = ours[..rest(ours)].iter().flat_map(|chunk| chunk.iter());
        let theirs = theirs[..rest(theirs)].iter().flat_map(|chunk| chunk.iter());
        ours.eq(theirs)
    }
}

impl Serialize for Nets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Nets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(range: Range<usize>) -> Vec<String> {
        range.map(|number| number.to_string()).collect()
    }

    fn texts(nets: &Nets) -> Vec<String> {
        nets.iter().cloned().collect()
    }

    #[test]
    fn every_change_gives_the_list_that_it_says() {
        let sizes = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7];
        for size in sizes {
            let old = numbers(0..size);
            let nets = Nets::from(old.clone());
            assert_eq!((nets.len(), nets.is_empty()), (size, size == 0));
            for start in (0..=size).step_by(61).chain(sizes) {
                for gone in [0, 1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1] {
                    for added in [0, 1, 2 * CHUNK + 1] {
                        let by = numbers(10_000..10_000 + added);
                        let found = nets.with(start..start + gone, by.clone());
                        if start + gone > size {
                            assert_eq!(found, None);
                            continue;
                        }
                        let found = found.unwrap();
                        let mut expected = old.clone();
                        expected.splice(start..start + gone, by);
                        assert_eq!(texts(&found), expected, "{size} {start} {gone} {added}");
                        assert_eq!(found, Nets::from(expected));
                        assert_eq!(found == nets, gone == 0 && added == 0);
                        assert!(found.chunks.iter().all(|chunk| !chunk.is_empty()));
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_change_is_shared() {
        let nets = Nets::from(numbers(0..100 * CHUNK));
        let more = nets
            .with(5000..5000, vec!["x".to_owned()])
            .unwrap()
            .with(9000..9001, Vec::new())
            .unwrap();
        let shared = |one: &Arc<[String]>| nets.chunks.iter().any(|other| Arc::ptr_eq(one, other));
        let own = more.chunks.iter().filter(|chunk| !shared(chunk)).count();
        assert!(own <= 4, "{own} chunks are new");
    }

    #[test]
    fn lists_that_differ_in_one_text_are_not_the_same() {
        let nets = Nets::from(numbers(0..3 * CHUNK));
        for at in [0, CHUNK, 3 * CHUNK - 1] {
            let other = nets.with(at..at + 1, vec!["x".to_owned()]).unwrap();
            assert_ne!(nets, other);
            let back = other.with(at..at + 1, vec![at.to_string()]).unwrap();
            assert_eq!(nets, back);
        }
        assert_ne!(
            nets,
            nets.with(3 * CHUNK - 1..3 * CHUNK, Vec::new()).unwrap()
        );
        assert_ne!(nets, Nets::default());
    }

    #[test]
    fn it_is_written_as_a_list() {
        let nets = Nets::from(numbers(0..3));
        let written = serde_json::to_value(&nets).unwrap();
        assert_eq!(written, serde_json::json!(["0", "1", "2"]));
        assert_eq!(serde_json::from_value::<Nets>(written).unwrap(), nets);
    }
}
