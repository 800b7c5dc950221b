//! Which counters are free.

use std::collections::BTreeMap;

/// Counters that nobody has, in runs.
#[derive(Clone, Debug)]
pub(super) struct Room {
    /// First counter of a run to its length. No two runs touch.
    free: BTreeMap<u32, u32>,
}

impl Room {
    /// So many counters, all free.
    pub(super) fn of(size: u32) -> Self {
        Self {
            free: BTreeMap::from([(0, size)]),
        }
    }

    /// Takes so many counters in a row, one at least, and gives the first of them;
    /// `None` if there are not so many in a row.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let (&first, &length) = self.free.iter().find(|&(_, &length)| length >= count)?;
        self.free.remove(&first);
        if length > count {
            self.free.insert(first + count, length - count);
        }
        Some(first)
    }

    /// Gives back what was taken.
    pub(super) fn give(&mut self, first: u32, count: u32) {
        let mut run = (first, count);
        if let Some(behind) = self.free.remove(&(first + count)) {
            run.1 += behind;
        }
        let before = self.free.range_mut(..first).next_back();
        if let Some((start, length)) = before
            && start + *length == first
        {
            *length += run.1;
            return;
        }
        self.free.insert(run.0, run.1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_does_not_fit_is_not_given() {
        let mut room = Room::of(10);
        assert_eq!(room.take(4), Some(0));
        assert_eq!(room.take(6), Some(4));
        assert_eq!(room.take(1), None);
        room.give(0, 2);
        room.give(8, 2);
        // Four are free, and not in a row.
        assert_eq!(room.take(3), None);
        room.give(2, 2);
        assert_eq!(room.take(4), Some(0));
        assert_eq!(room.take(2), Some(8));
    }

    #[test]
    fn no_counter_has_two_owners_and_none_is_lost() {
        const SIZE: u32 = 64;
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: u64| {
            // Marsaglia's xorshift.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for round in 0..200 {
            let mut room = Room::of(SIZE);
            let mut taken: Vec<(u32, u32)> = Vec::new();
            for step in 0..200 {
                if taken.is_empty() || random(2) == 0 {
                    let count = random(8) as u32 + 1;
                    taken.extend(room.take(count).map(|first| (first, count)));
                } else {
                    let which = random(taken.len() as u64) as usize;
                    let (first, count) = taken.swap_remove(which);
                    room.give(first, count);
                }
                let mut owned = BTreeSet::new();
                for counter in taken
                    .iter()
                    .flat_map(|&(first, count)| first..first + count)
                {
                    assert!(counter < SIZE, "{round} {step}");
                    assert!(owned.insert(counter), "{round} {step}: {counter} twice");
                }
                let free: u32 = room.free.values().sum();
                assert_eq!(free as usize + owned.len(), SIZE as usize);
            }
            for (first, count) in taken {
                room.give(first, count);
            }
            // In one run again.
            assert_eq!(room.take(SIZE), Some(0));
        }
    }
}
