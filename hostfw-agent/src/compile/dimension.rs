//! What rules ask of a packet in one respect, and which classes of packets
//! that makes: all packets of a class meet the criteria of the same rules.

use std::collections::HashSet;

use hostfw_common::prefix::PROTOCOL_BITS;

use super::{
    digest::{Digest, DigestMap, Digester, of_number},
    prefix::Prefix,
    set::Set,
};

/// What one rule asks of one dimension. Nothing: it accepts everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Criteria {
    /// Each of these must contain the value.
    pub(super) any_of: Vec<Set>,
    /// None of these may.
    pub(super) none_of: Vec<Set>,
}

impl Criteria {
    /// Whether they hold for a single value, which no prefix is longer than.
    pub(super) fn accept(&self, value: Prefix) -> bool {
        self.any_of.iter().all(|set| set.contains(value))
            && !self.none_of.iter().any(|set| set.contains(value))
    }

    /// Whether they hold for all values but some: then the bit of the rule is
    /// set in the base row.
    pub(super) const fn are_wide(&self) -> bool {
        self.any_of.is_empty()
    }

    /// Of equal criteria the same.
    pub(super) fn digest(&self) -> Digest {
        let mut digester = Digester::new(2);
        digester.word(self.any_of.len() as u64);
        for set in self.any_of.iter().chain(&self.none_of) {
            digester.digest(set.digest());
        }
        digester.finish()
    }
}

/// A prefix in the form in which a dimension has its keys.
pub(super) trait Key: Copy + Ord {
    /// Contains every key.
    const ALL: Self;

    fn contains(self, other: Self) -> bool;
}

/// Up to 32 bits, and how many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Narrow(u64);

impl Narrow {
    /// The first 32 bits of a prefix that is not longer.
    pub(super) fn of(prefix: Prefix) -> Self {
        debug_assert!(prefix.len() <= 32);
        Self((prefix.bits() >> 96) as u64 * 64 + u64::from(prefix.len()))
    }

    /// The first 32 bits of a prefix, or as many as it has.
    pub(super) fn front(prefix: Prefix) -> Self {
        Self::new((prefix.bits() >> 96) as u32, prefix.len().min(32))
    }

    /// A prefix of this length that begins at this key.
    pub(super) const fn new(first: u32, len: u32) -> Self {
        Self(first as u64 * 64 + len as u64)
    }

    /// The first `len` bits of it.
    pub(super) fn shortened(self, len: u32) -> Self {
        let mask = u32::MAX.checked_shl(32 - len).unwrap_or(0);
        Self::new(self.first() & mask, len)
    }

    /// A prefix of ports of protocol 0 without the protocol.
    pub(super) fn of_port(prefix: Prefix) -> Self {
        debug_assert!(prefix.bits() >> 120 == 0);
        let bits = (prefix.bits() >> 88) as u32;
        Self(u64::from(bits) * 64 + u64::from(prefix.len().saturating_sub(PROTOCOL_BITS)))
    }

    /// The bits, the first one highest; zero behind the length.
    pub(super) const fn first(self) -> u32 {
        (self.0 >> 6) as u32
    }

    pub(super) const fn len(self) -> u32 {
        self.0 as u32 & 63
    }

    /// The last key that it contains.
    pub(super) fn last(self) -> u32 {
        self.first() | u32::MAX.checked_shr(self.len()).unwrap_or(0)
    }
}

impl Key for Narrow {
    const ALL: Self = Self(0);

    fn contains(self, other: Self) -> bool {
        self <= other && other.first() <= self.last()
    }
}

impl Key for Prefix {
    const ALL: Self = Self::ALL;

    fn contains(self, other: Self) -> bool {
        self.contains(other)
    }
}

/// Words of a row that are not as in the base row, with what is not: its bits
/// are to be turned over.
pub(super) type Difference = [(u16, u64)];

/// The classes of a dimension.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Classes<K> {
    /// Prefixes with the class, by number, of what has them as its longest
    /// match; sorted. The first is that of length 0. One whose class is that of
    /// the next shorter one is left out: a look-up finds the same without it.
    pub(super) prefixes: Vec<(K, u32)>,
    /// The differences of all classes, one behind the other.
    words: Vec<(u16, u64)>,
    /// Where each one ends.
    ends: Vec<usize>,
}

impl<K> Classes<K> {
    /// By number, how each class differs from the base row. No two are equal.
    pub(super) fn differences(&self) -> impl Iterator<Item = &Difference> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.words[start..end])
    }
}

/// The differences of all classes would be longer than they can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyWords;

/// What all rules of a list ask, by what they share.
pub(super) struct Asked {
    groups: Vec<Group>,
    /// Groups by their criteria.
    criteria: DigestMap<u32>,
    /// Every set that is asked for, once.
    sets: Vec<Asking>,
    /// Sets by what is in them.
    contents: DigestMap<u32>,
    prefixes: usize,
    /// The bits of rules that accept almost everything.
    base: Vec<u64>,
    /// Of the criteria of all rules, in order.
    digester: Digester,
    /// Of how many sets they have.
    shape: Digester,
    /// The group of each rule, or [`NO_GROUP`].
    group_of: Vec<u32>,
}

/// Of a rule that asks nothing.
const NO_GROUP: u32 = u32::MAX;

/// Rules with the same criteria.
struct Group {
    rules: Vec<u32>,
    /// The sets that are asked for, in order.
    sets: Vec<u32>,
    /// Of their numbers.
    digest: Digest,
    /// Sets of which one must contain the value and none does, and sets of
    /// which none may and one does. The rules accept if it is 0.
    objections: i32,
    /// Whether they accept almost everything.
    wide: bool,
    /// Whether they now accept and are not wide, or the other way round.
    differ: bool,
}

/// A set, and who asks for it.
struct Asking {
    set: Set,
    digest: Digest,
    /// Groups, with what a value in the set adds to their objections.
    groups: Vec<(u32, i32)>,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            criteria: DigestMap::default(),
            sets: Vec::new(),
            contents: DigestMap::default(),
            prefixes: 0,
            base: Vec::new(),
            digester: Digester::new(3),
            shape: Digester::new(5),
            group_of: Vec::new(),
        }
    }
}

impl Asked {
    /// What the rule of this number asks. Numbers go up from 0.
    pub(super) fn add(&mut self, rule: u32, criteria: &Criteria) {
        let word = rule as usize / 64;
        if word >= self.base.len() {
            self.base.push(0);
        }
        self.base[word] |= u64::from(criteria.are_wide()) << (rule % 64);
        let digest = criteria.digest();
        self.digester.digest(digest);
        let counts = [&criteria.any_of, &criteria.none_of].map(Vec::len);
        self.shape.word((counts[0] as u64) << 32 | counts[1] as u64);
        if counts == [0, 0] {
            self.group_of.push(NO_GROUP);
            return;
        }
        let next = self.groups.len() as u32;
        let number = *self.criteria.entry(digest).or_insert(next);
        if number == next {
            self.groups.push(Group {
                rules: Vec::new(),
                sets: Vec::new(),
                digest: 0,
                objections: criteria.any_of.len() as i32,
                wide: criteria.are_wide(),
                differ: false,
            });
            let any_of = criteria.any_of.iter().map(|set| (set, -1));
            let none_of = criteria.none_of.iter().map(|set| (set, 1));
            for (set, adds) in any_of.chain(none_of) {
                self.ask(set, number, adds);
            }
        }
        self.group_of.push(number);
        let group = &mut self.groups[number as usize];
        group.rules.push(rule);
        group.digest ^= of_number(rule);
    }

    fn ask(&mut self, set: &Set, group: u32, adds: i32) {
        let next = self.sets.len() as u32;
        let number = *self.contents.entry(set.digest()).or_insert(next);
        if number == next {
            self.prefixes += set.len();
            self.sets.push(Asking {
                set: set.clone(),
                digest: of_number(number),
                groups: Vec::new(),
            });
        }
        self.sets[number as usize].groups.push((group, adds));
        self.groups[group as usize].sets.push(number);
    }

    /// The base row: the bits of the rules that accept almost everything. There
    /// is no word behind that of the last rule.
    pub(super) fn base(&self) -> &[u64] {
        &self.base
    }

    /// Of equal criteria of all rules the same.
    pub(super) fn digest(&self) -> Digest {
        self.digester.finish()
    }

    /// Of criteria with as many sets for each rule the same, whatever is in
    /// them.
    pub(super) fn shape(&self) -> Digest {
        self.shape.finish()
    }

    /// How many prefixes are asked for: as many as the classes can have at
    /// most, but for the first.
    pub(super) const fn prefixes(&self) -> usize {
        self.prefixes
    }

    /// Prefixes outside of which every rule accepts what it did when `before`
    /// was asked, which has the same [`shape`](Self::shape). `None` if there are
    /// more than `most`.
    pub(super) fn changed(&self, before: &Self, most: usize) -> Option<Set> {
        let mut compared = HashSet::new();
        let mut changed = Vec::new();
        for (&now, &then) in self.group_of.iter().zip(&before.group_of) {
            if now == NO_GROUP || !compared.insert((now, then)) {
                continue;
            }
            let now = &self.groups[now as usize].sets;
            let then = &before.groups[then as usize].sets;
            for (&now, &then) in now.iter().zip(then) {
                let now = &self.sets[now as usize].set;
                let then = &before.sets[then as usize].set;
                if now != then {
                    let differing = now.differing(then).take(most + 1);
                    changed.extend(differing);
                }
                if changed.len() > most {
                    return None;
                }
            }
        }
        Some(Set::new(changed))
    }

    /// The classes.
    ///
    /// Prefixes are nested or apart, so what has `P` as its longest match lies
    /// in exactly those prefixes that contain `P`. One walk down the tree of
    /// all prefixes therefore sees every class, in the time that sorting takes.
    /// At each place a digest says which sets contain it; only when that is new
    /// the rules are looked at.
    ///
    /// `words` is how many words all differences may have together.
    pub(super) fn classify<K: Key>(
        &mut self,
        key: impl Fn(Prefix) -> K,
        words: usize,
    ) -> Result<Classes<K>, TooManyWords> {
        let mut marks: Vec<(K, u32)> = Vec::with_capacity(self.prefixes);
        for (number, asking) in (0..).zip(&self.sets) {
            marks.extend(asking.set.iter().map(|&prefix| (key(prefix), number)));
        }
        self.walk(marks, words)
    }

    /// The classes within some prefixes: those that [`classify`](Self::classify)
    /// finds, but for prefixes that do not lie in them.
    pub(super) fn classify_within<K: Key>(
        &mut self,
        key: impl Fn(Prefix) -> K,
        within: &Set,
        words: usize,
    ) -> Result<Classes<K>, TooManyWords> {
        let mut marks: Vec<(K, u32)> = Vec::new();
        for (number, asking) in (0..).zip(&self.sets) {
            for &place in within.iter() {
                let touching = asking.set.touching(place);
                marks.extend(touching.map(|prefix| (key(prefix), number)));
            }
        }
        marks.sort();
        marks.dedup();
        let mut classes = self.walk(marks, words)?;
        let within: Vec<K> = within.iter().map(|&prefix| key(prefix)).collect();
        classes.prefixes.retain(|&(key, _)| {
            let behind = within.partition_point(|&place| place <= key);
            behind
                .checked_sub(1)
                .is_some_and(|last| within[last].contains(key))
        });
        Ok(classes)
    }

    fn walk<K: Key>(
        &mut self,
        mut marks: Vec<(K, u32)>,
        words: usize,
    ) -> Result<Classes<K>, TooManyWords> {
        // Each set is sorted already, and this finds what is.
        marks.sort();
        let above = marks.partition_point(|&(key, _)| key == K::ALL);
        let (all, rest) = marks.split_at(above);

        let mut walk = Walk {
            asked: self,
            path: Vec::new(),
            applied: 0,
            row: Row::default(),
            places: DigestMap::default(),
            classes: DigestMap::default(),
            found: Classes {
                prefixes: Vec::new(),
                words: Vec::new(),
                ends: Vec::new(),
            },
            limit: words,
        };
        walk.enter(K::ALL, all)?;
        for here in rest.chunk_by(|a, b| a.0 == b.0) {
            walk.leave_while(|level| !level.contains(here[0].0));
            walk.enter(here[0].0, here)?;
        }
        walk.leave_while(|_| true);
        Ok(walk.found)
    }
}

/// A place in the tree of prefixes.
struct Walk<'a, K> {
    asked: &'a mut Asked,
    /// The prefixes that contain the place, longest last.
    path: Vec<Level<'a, K>>,
    /// So many of the path's prefixes are applied to the row.
    applied: usize,
    row: Row,
    /// Classes by which sets contain the place.
    places: DigestMap<u32>,
    /// Classes by which rules differ from the base row.
    classes: DigestMap<u32>,
    found: Classes<K>,
    limit: usize,
}

struct Level<'a, K> {
    key: K,
    /// The sets that have exactly this prefix.
    marks: &'a [(K, u32)],
    /// Of all sets that contain it.
    digest: Digest,
    class: u32,
}

/// The rules that differ from the base row.
#[derive(Default)]
struct Row {
    words: Vec<u64>,
    digest: Digest,
}

impl<'a, K: Key> Walk<'a, K> {
    fn enter(&mut self, key: K, marks: &'a [(K, u32)]) -> Result<(), TooManyWords> {
        let above = self.path.last().map(|level| (level.digest, level.class));
        let digest = marks
            .iter()
            .fold(above.map_or(0, |(digest, _)| digest), |all, &(_, set)| {
                all ^ self.asked.sets[set as usize].digest
            });
        self.path.push(Level {
            key,
            marks,
            digest,
            class: 0,
        });
        let class = match self.places.get(&digest) {
            Some(&class) => class,
            None => {
                let class = self.look()?;
                self.places.insert(digest, class);
                class
            }
        };
        if let Some(level) = self.path.last_mut() {
            level.class = class;
        }
        if above.is_none_or(|(_, above)| above != class) {
            self.found.prefixes.push((key, class));
        }
        Ok(())
    }

    /// Goes up, out of what `is_left` says.
    fn leave_while(&mut self, is_left: impl Fn(K) -> bool) {
        while let Some(left) = self.path.pop_if(|level| is_left(level.key)) {
            if self.applied > self.path.len() {
                self.applied = self.path.len();
                self.apply(left.marks, -1);
            }
        }
    }

    /// The class of the place, from the rules.
    fn look(&mut self) -> Result<u32, TooManyWords> {
        while let Some(level) = self.path.get(self.applied) {
            let marks = level.marks;
            self.applied += 1;
            self.apply(marks, 1);
        }
        if let Some(&class) = self.classes.get(&self.row.digest) {
            return Ok(class);
        }
        let class = self.found.ends.len() as u32;
        let words = (0..).zip(&self.row.words);
        let differing = words.filter(|&(_, &word)| word != 0);
        self.found
            .words
            .extend(differing.map(|(number, &word)| (number, word)));
        if self.found.words.len() > self.limit {
            return Err(TooManyWords);
        }
        self.found.ends.push(self.found.words.len());
        self.classes.insert(self.row.digest, class);
        Ok(class)
    }

    /// Goes into the sets of some marks, or out of them with `times` -1.
    fn apply(&mut self, marks: &[(K, u32)], times: i32) {
        let Asked { groups, sets, .. } = &mut *self.asked;
        for &(_, set) in marks {
            for &(number, adds) in &sets[set as usize].groups {
                let group = &mut groups[number as usize];
                group.objections += times * adds;
                let differ = (group.objections == 0) != group.wide;
                if differ != group.differ {
                    group.differ = differ;
                    self.row.toggle(&group.rules, group.digest);
                }
            }
        }
    }
}

impl Row {
    fn toggle(&mut self, rules: &[u32], digest: Digest) {
        for &rule in rules {
            let word = rule as usize / 64;
            if word >= self.words.len() {
                self.words.resize(word + 1, 0);
            }
            self.words[word] ^= 1 << (rule % 64);
        }
        self.digest ^= digest;
    }
}

#[cfg(test)]
mod tests;
