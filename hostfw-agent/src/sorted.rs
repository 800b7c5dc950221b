//! A sorted collection whose copies share what they have in common.
//!
//! Of a large cluster, 100,000 objects are known, and one of them changes. A copy
//! of the collection takes no more than copying a few hundred pointers, a change of
//! one element copies the part that it stands in, and what two versions differ in
//! is found without looking at the parts that both have.

use std::{collections::HashSet, fmt, ops::Index, sync::Arc};

/// Most elements of a part: enough for parts to be few, and few enough for one to
/// be copied quickly.
const MOST: usize = 256;

/// Something that a collection is sorted by.
pub trait Keyed {
    /// What it is sorted by.
    type Key: Ord + ?Sized;

    /// Its key, which never changes.
    fn key(&self) -> &Self::Key;
}

/// Elements, sorted by their keys, each key once.
pub struct Sorted<T> {
    /// None is empty.
    parts: Vec<Arc<Vec<T>>>,
    len: usize,
}

/// What became of an element: what it was, and what it is.
#[derive(Debug)]
pub struct Change<'a, T> {
    /// As it was; `None` if it was not there.
    pub before: Option<&'a T>,
    /// As it is; `None` if it is gone. Never both.
    pub now: Option<&'a T>,
}

impl<T> Sorted<T> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All, in order.
    pub fn iter(&self) -> Iter<'_, T> {
        self.parts.iter().flat_map(elements)
    }

    /// Whether the other one is a copy of this, and neither has changed since.
    #[must_use]
    pub fn is_copy_of(&self, other: &Self) -> bool {
        self.parts.len() == other.parts.len()
            && (self.parts.iter().zip(&other.parts)).all(|(one, other)| Arc::ptr_eq(one, other))
    }
}

fn elements<T>(part: &Arc<Vec<T>>) -> std::slice::Iter<'_, T> {
    part.iter()
}

/// All elements, in order.
pub type Iter<'a, T> = std::iter::FlatMap<
    std::slice::Iter<'a, Arc<Vec<T>>>,
    std::slice::Iter<'a, T>,
    fn(&'a Arc<Vec<T>>) -> std::slice::Iter<'a, T>,
>;

impl<T: Keyed> Sorted<T> {
    /// The part in which the key stands or is to stand, and where there.
    fn place(&self, key: &T::Key) -> (usize, Result<usize, usize>) {
        let behind = |part: &Arc<Vec<T>>| part.first().is_some_and(|first| first.key() <= key);
        let part = self.parts.partition_point(behind).saturating_sub(1);
        let found = self.parts.get(part).map_or(Err(0), |part| {
            part.binary_search_by(|element| element.key().cmp(key))
        });
        (part, found)
    }

    /// The element of this key.
    #[must_use]
    pub fn get(&self, key: &T::Key) -> Option<&T> {
        let (part, found) = self.place(key);
        found.ok().map(|at| &self.parts[part][at])
    }

    /// The elements from the first whose key is not less than this one.
    pub fn from<'a>(&'a self, key: &T::Key) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let (part, found) = self.place(key);
        let at = found.unwrap_or_else(|at| at);
        let (first, rest) = match self.parts.get(part..) {
            Some([first, rest @ ..]) => (&first[at..], rest),
            Some([]) | None => (&[][..], &[][..]),
        };
        first.iter().chain(rest.iter().flat_map(elements))
    }
}

impl<T: Keyed + Clone> Sorted<T> {
    /// Puts an element in the place of the one with its key, if there is one, which
    /// is given back.
    pub fn insert(&mut self, element: T) -> Option<T> {
        let (part, found) = self.place(element.key());
        let Some(known) = self.parts.get_mut(part) else {
            self.parts.push(Arc::new(vec![element]));
            self.len = 1;
            return None;
        };
        let at = match found {
            Ok(at) => return Some(std::mem::replace(&mut Arc::make_mut(known)[at], element)),
            Err(at) => at,
        };
        self.len += 1;
        if known.len() < MOST {
            Arc::make_mut(known).insert(at, element);
            return None;
        }
        let last = part + 1 == self.parts.len();
        if last && at == MOST {
            // Most are put in in their order: then parts are full.
            self.parts.push(Arc::new(vec![element]));
            return None;
        }
        let known = Arc::make_mut(&mut self.parts[part]);
        let mut behind = known.split_off(MOST / 2);
        match at.checked_sub(MOST / 2) {
            Some(at) => behind.insert(at, element),
            None => known.insert(at, element),
        }
        self.parts.insert(part + 1, Arc::new(behind));
        None
    }

    /// Takes the element of this key out.
    pub fn remove(&mut self, key: &T::Key) -> Option<T> {
        let (part, found) = self.place(key);
        let at = found.ok()?;
        self.len -= 1;
        let known = Arc::make_mut(&mut self.parts[part]);
        let removed = known.remove(at);
        if known.is_empty() {
            self.parts.remove(part);
        } else {
            self.join(part);
        }
        Some(removed)
    }

    /// Joins a part with the one behind it, if both together are small.
    fn join(&mut self, part: usize) {
        if let Some([one, other]) = self.parts.get(part..part + 2)
            && one.len() + other.len() <= MOST / 2
        {
            let other = self.parts.remove(part + 1);
            Arc::make_mut(&mut self.parts[part]).extend(other.iter().cloned());
        }
    }

    /// Puts in all of another collection, whose keys stand behind all of this one.
    pub fn append(&mut self, other: &Self) {
        debug_assert!(
            match (self.iter().next_back(), other.iter().next()) {
                (Some(last), Some(first)) => last.key() < first.key(),
                (_, None) | (None, _) => true,
            },
            "keys are not in order"
        );
        self.parts.extend(other.parts.iter().cloned());
        self.len += other.len;
    }
}

impl<T: Keyed + PartialEq> Sorted<T> {
    /// What differs from what was before, in order.
    #[must_use]
    pub fn changes_from<'a>(&'a self, before: &'a Self) -> Vec<Change<'a, T>> {
        let parts = |of: &'a Self| of.parts.iter().map(Arc::as_ptr).collect::<HashSet<_>>();
        fn others<'a, T>(
            of: &'a Sorted<T>,
            known: &HashSet<*const Vec<T>>,
        ) -> impl Iterator<Item = &'a T> {
            let parts = of.parts.iter();
            let other = parts.filter(|part| !known.contains(&Arc::as_ptr(part)));
            other.flat_map(elements)
        }
        let (known, kept) = (parts(before), parts(self));
        let mut old = others(before, &kept).peekable();
        let mut new = others(self, &known).peekable();
        let mut changes = Vec::new();
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return changes,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(old), Some(new)) => old.key().cmp(new.key()),
            };
            let before = if order.is_le() { old.next() } else { None };
            let now = if order.is_ge() { new.next() } else { None };
            if before != now {
                changes.push(Change { before, now });
            }
        }
    }
}

impl<T> Index<usize> for Sorted<T> {
    type Output = T;

    fn index(&self, mut index: usize) -> &T {
        for part in &self.parts {
            match part.get(index) {
                Some(element) => return element,
                None => index -= part.len(),
            }
        }
        panic!("there are {} elements", self.len);
    }
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Clone for Sorted<T> {
    fn clone(&self) -> Self {
        Self {
            parts: self.parts.clone(),
            len: self.len,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Sorted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: PartialEq> PartialEq for Sorted<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && (self.is_copy_of(other) || self.iter().eq(other.iter()))
    }
}

impl<T: Eq> Eq for Sorted<T> {}

impl<T: Keyed + Clone> FromIterator<T> for Sorted<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut sorted = Self::default();
        sorted.extend(elements);
        sorted
    }
}

impl<T: Keyed + Clone> Extend<T> for Sorted<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        for element in elements {
            self.insert(element);
        }
    }
}

impl<'a, T> IntoIterator for &'a Sorted<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Pair(u32, u32);

    impl Keyed for Pair {
        type Key = u32;

        fn key(&self) -> &u32 {
            &self.0
        }
    }

    fn random() -> impl FnMut(u32) -> u32 {
        let mut state = 1_u64;
        move |below| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            ((state >> 33) % u64::from(below)) as u32
        }
    }

    /// What differs, found by looking at everything.
    fn differing(
        before: &BTreeMap<u32, u32>,
        now: &BTreeMap<u32, u32>,
    ) -> Vec<(u32, Option<u32>, Option<u32>)> {
        let keys: std::collections::BTreeSet<u32> =
            before.keys().chain(now.keys()).copied().collect();
        keys.into_iter()
            .map(|key| (key, before.get(&key).copied(), now.get(&key).copied()))
            .filter(|(_, before, now)| before != now)
            .collect()
    }

    #[test]
    fn random_changes_give_what_a_map_gives() {
        let mut random = random();
        let (mut sorted, mut plain) = (Sorted::default(), BTreeMap::new());
        for round in 0..300 {
            let (sorted_before, plain_before) = (sorted.clone(), plain.clone());
            for _ in 0..random(40) {
                // It grows, then shrinks.
                let key = random(4000);
                if random(10) < if round < 150 { 8 } else { 3 } {
                    let value = random(3);
                    let old = sorted.insert(Pair(key, value));
                    assert_eq!(old.map(|old| old.1), plain.insert(key, value));
                } else {
                    // One that is there, most of the time.
                    let key = plain.range(key..).next().map_or(key, |(key, _)| *key);
                    let old = sorted.remove(&key);
                    assert_eq!(old.map(|old| old.1), plain.remove(&key));
                }
            }
            assert_eq!(sorted.len(), plain.len());
            let all: Vec<_> = sorted.iter().map(|pair| (pair.0, pair.1)).collect();
            assert_eq!(all, plain.clone().into_iter().collect::<Vec<_>>());
            assert!(
                sorted
                    .parts
                    .iter()
                    .all(|part| !part.is_empty() && part.len() <= MOST)
            );
            let from = random(4000);
            let behind: Vec<_> = sorted.from(&from).map(|pair| pair.0).collect();
            assert_eq!(
                behind,
                plain.range(from..).map(|it| *it.0).collect::<Vec<_>>()
            );
            assert_eq!(sorted.get(&from).map(|it| it.1), plain.get(&from).copied());
            let changes = sorted.changes_from(&sorted_before);
            let changes: Vec<_> = changes
                .iter()
                .map(|it| {
                    let key = it.before.or(it.now).unwrap().0;
                    (key, it.before.map(|it| it.1), it.now.map(|it| it.1))
                })
                .collect();
            assert_eq!(changes, differing(&plain_before, &plain));
            assert_eq!(sorted == sorted_before, changes.is_empty());
        }
        assert!(plain.len() > 100);
    }

    #[test]
    fn a_change_leaves_copies_and_other_parts_alone() {
        let mut sorted: Sorted<Pair> = (0..10_000).map(|key| Pair(key, 0)).collect();
        assert_eq!(sorted.parts.len(), 10_000_usize.div_ceil(MOST));
        let copy = sorted.clone();
        assert!(copy.is_copy_of(&sorted));
        sorted.insert(Pair(5000, 1));
        assert_eq!((copy[5000].1, sorted[5000].1), (0, 1));
        let shared = sorted.parts.iter().zip(&copy.parts);
        let shared = shared.filter(|(one, other)| Arc::ptr_eq(one, other));
        assert_eq!(shared.count(), sorted.parts.len() - 1);
        assert!(!copy.is_copy_of(&sorted));
    }

    #[test]
    fn what_is_appended_stands_behind() {
        let mut sorted: Sorted<Pair> = [3, 1].map(|key| Pair(key, 0)).into_iter().collect();
        let behind: Sorted<Pair> = (10..600).map(|key| Pair(key, 0)).collect();
        sorted.append(&Sorted::default());
        sorted.append(&behind);
        sorted.insert(Pair(5, 0));
        assert_eq!(sorted.len(), 593);
        let keys: Vec<u32> = sorted.iter().map(|it| it.0).take(5).collect();
        assert_eq!(keys, [1, 3, 5, 10, 11]);
        assert_eq!(sorted.changes_from(&behind).len(), 3);
        assert_eq!(behind.changes_from(&sorted).len(), 3);
    }
}
