//! Where contents lie in an array of lines. Each content is there once, and
//! stays where it is for as long as something leads there, from one compilation
//! to the next: then little of the array has to be written again.

use std::collections::BTreeMap;

use hostfw_common::index::Line;

use super::{
    digest::{DigestMap, Digester, NumberMap},
    lines::Lines,
};

/// What is at a place.
struct Extent {
    digest: u128,
    lines: u32,
    references: u32,
}

/// An array of lines.
pub(super) struct Store {
    lines: Lines,
    /// By what they hold.
    places: DigestMap<u32>,
    /// By their first line.
    extents: NumberMap<Extent>,
    /// First lines of what is free, by how many lines are.
    free: BTreeMap<u32, Vec<u32>>,
    /// Lines that something leads to.
    live: usize,
    /// How many lines there can be.
    limit: usize,
}

/// The array would be longer than it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Store {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            lines: Lines::default(),
            places: DigestMap::default(),
            extents: NumberMap::default(),
            free: BTreeMap::new(),
            live: 0,
            limit,
        }
    }

    /// The first line of this content, which has one more reference now, and
    /// whether it is new. Then `place` has made it fit for where it lies; before
    /// that, contents must not depend on it.
    pub(super) fn intern(
        &mut self,
        content: &mut [Line],
        place: impl FnOnce(u32, &mut [Line]),
    ) -> Result<(u32, bool), Full> {
        let mut digester = Digester::new(0);
        for line in &*content {
            for &word in &line.words {
                digester.word(word);
            }
        }
        let digest = digester.finish();
        if let Some(&first) = self.places.get(&digest) {
            self.acquire(first);
            return Ok((first, false));
        }
        let lines = content.len() as u32;
        let first = self.allocate(lines)?;
        place(first, content);
        self.lines.write(first, content);
        self.places.insert(digest, first);
        let extent = Extent {
            digest,
            lines,
            references: 1,
        };
        self.extents.insert(first, extent);
        self.live += content.len();
        Ok((first, true))
    }

    /// One more reference to what begins at a line.
    pub(super) fn acquire(&mut self, first: u32) {
        if let Some(extent) = self.extents.get_mut(&first) {
            extent.references += 1;
        }
    }

    /// How many references there are to what begins at a line.
    pub(super) fn references(&self, first: u32) -> u32 {
        let extent = self.extents.get(&first);
        extent.map_or(0, |extent| extent.references)
    }

    /// One reference less. Whether that was the last: then its lines are free,
    /// and hold what they held until something else is put there.
    pub(super) fn release(&mut self, first: u32) -> bool {
        let Some(extent) = self.extents.get_mut(&first) else {
            return false;
        };
        extent.references -= 1;
        if extent.references > 0 {
            return false;
        }
        self.live -= extent.lines as usize;
        self.free.entry(extent.lines).or_default().push(first);
        self.places.remove(&extent.digest);
        self.extents.remove(&first);
        true
    }

    /// A place for so many lines: one of that size if there is one, the
    /// beginning of a longer one, or behind all others.
    fn allocate(&mut self, lines: u32) -> Result<u32, Full> {
        let fitting = self.free.range_mut(lines..).next();
        if let Some((&size, places)) = fitting {
            let first = places.pop();
            if places.is_empty() {
                self.free.remove(&size);
            }
            if let Some(first) = first {
                if size > lines {
                    let rest = self.free.entry(size - lines).or_default();
                    rest.push(first + lines);
                }
                return Ok(first);
            }
        }
        let first = self.lines.len();
        if first + lines as usize > self.limit {
            return Err(Full);
        }
        self.lines.grow(lines as usize);
        Ok(first as u32)
    }

    /// The array as it is now.
    pub(super) const fn lines(&self) -> &Lines {
        &self.lines
    }

    /// How many lines there can be.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Whether so much of it is free that it is better made anew.
    pub(super) fn is_sparse(&self) -> bool {
        // As much again as is live, and enough for that to matter.
        self.lines.len() > 2 * self.live + 4096
    }

    /// Lines that something leads to.
    #[cfg(test)]
    pub(super) const fn live(&self) -> usize {
        self.live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(numbers: &[u64]) -> Vec<Line> {
        numbers
            .iter()
            .map(|&number| Line { words: [number; 8] })
            .collect()
    }

    fn intern(store: &mut Store, numbers: &[u64]) -> Result<u32, Full> {
        let found = store.intern(&mut content(numbers), |_, _| ())?;
        Ok(found.0)
    }

    #[test]
    fn equal_contents_lie_at_one_place_until_nothing_leads_there() {
        let mut store = Store::new(10);
        assert_eq!(intern(&mut store, &[1]), Ok(0));
        assert_eq!(intern(&mut store, &[2, 3]), Ok(1));
        assert_eq!(intern(&mut store, &[1]), Ok(0));
        assert_eq!(store.live(), 3);
        assert!(!store.release(0));
        assert!(store.release(0));
        assert_eq!((store.live(), store.lines().len()), (2, 3));
        // The others stay where they are, and the place is used again.
        assert_eq!(intern(&mut store, &[2, 3]), Ok(1));
        assert_eq!(intern(&mut store, &[4]), Ok(0));
        assert_eq!(store.lines().get(0), Some(&content(&[4])[0]));
    }

    #[test]
    fn a_free_place_is_used_in_parts_and_only_if_it_is_long_enough() {
        let mut store = Store::new(10);
        assert_eq!(intern(&mut store, &[1, 2, 3, 4]), Ok(0));
        assert_eq!(intern(&mut store, &[9]), Ok(4));
        assert!(store.release(0));
        assert_eq!(intern(&mut store, &[5]), Ok(0));
        assert_eq!(intern(&mut store, &[6, 6, 6, 6]), Ok(5));
        assert_eq!(intern(&mut store, &[7, 7]), Ok(1));
        assert_eq!(intern(&mut store, &[8]), Ok(3));
        let numbers: Vec<u64> = store.lines().iter().map(|line| line.words[0]).collect();
        assert_eq!(numbers, [5, 7, 7, 8, 9, 6, 6, 6, 6]);
    }

    #[test]
    fn one_line_too_many_is_refused() {
        let mut store = Store::new(3);
        assert_eq!(intern(&mut store, &[1, 2]), Ok(0));
        assert_eq!(intern(&mut store, &[3, 4]), Err(Full));
        assert_eq!(intern(&mut store, &[3]), Ok(2));
        assert_eq!(intern(&mut store, &[4]), Err(Full));
        assert_eq!(intern(&mut store, &[3]), Ok(2));
    }

    #[test]
    fn what_depends_on_the_place_is_made_for_it() {
        let mut store = Store::new(10);
        assert_eq!(intern(&mut store, &[1]), Ok(0));
        let place = |first, lines: &mut [Line]| lines[0].words[0] += u64::from(first);
        assert_eq!(store.intern(&mut content(&[5]), place), Ok((1, true)));
        assert_eq!(store.lines().get(1).unwrap().words[0], 6);
        // Found by what it was made from.
        assert_eq!(store.intern(&mut content(&[5]), place), Ok((1, false)));
    }

    #[test]
    fn an_array_that_is_mostly_free_is_sparse() {
        let mut store = Store::new(10_000);
        let all: Vec<u64> = (0..5000).collect();
        let large = intern(&mut store, &all).unwrap();
        assert!(!store.is_sparse());
        store.release(large);
        assert!(store.is_sparse());
    }
}
