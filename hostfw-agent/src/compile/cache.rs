//! What stays from one compilation to the next.

use std::{collections::BTreeSet, fmt, sync::Arc};

use hostfw_common::{
    endpoint::Family,
    index::{BASE_RECORD, CLASS_BASE, Dimension, LINE_WORDS},
    limits::{MAX_INDEX_LINES, MAX_ROW_LINES},
    policy::{Dim, TableId},
    prefix::{PROTOCOL_BITS, PrefixV4, PrefixV6, Service, TABLE_BITS},
};

use super::{
    change::MANY_PREFIXES,
    digest::{Digest, DigestMap, Digester},
    dimension::{Asked, Classes, Narrow, TooManyWords},
    image::{Class, Image},
    index,
    limits::Limit,
    long,
    prefix::Prefix,
    record::Bases,
    set::Sets,
    store::{Full, Store},
};

/// What one compilation leaves for the next: what has not changed is not made
/// again, and what is the same has the same numbers.
///
/// Whatever is in it, the images that are made with it mean the same.
pub struct Cache {
    pub(super) sets: Sets,
    pub(super) index: Store,
    pub(super) rows: Store,
    pub(super) dimensions: DigestMap<Held>,
    /// Records of lists, of the last compilation and of this one.
    records: [Vec<u32>; 2],
    tables: Tables,
    /// Of this compilation, by trie: entries that its dimensions have.
    prefixes: [usize; 3],
    pub(super) round: u64,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("round", &self.round)
            .finish_non_exhaustive()
    }
}

/// A dimension that is in the arrays and the tries.
pub(super) struct Held {
    pub(super) dimension: Dimension,
    /// Records of classes, each once.
    pub(super) classes: Vec<u32>,
    pub(super) trie: Table,
    /// Of how many sets its rules have, and of what classes depend on beside
    /// what they ask.
    pub(super) shape: Digest,
    /// What the rules ask, if that is much.
    pub(super) asked: Option<Asked>,
    /// When it was last asked for.
    pub(super) round: u64,
}

/// Which dimension of a list it is.
pub(super) struct Place<'a> {
    pub(super) kind: Kind,
    pub(super) bases: &'a Bases<'a>,
    pub(super) row: Dim,
}

/// What of a dimension's classes is in the arrays: records, and prefixes with
/// the record of their class.
pub(super) type Recorded<K> = (Vec<u32>, Vec<(K, u32)>);

/// A table of one of the tries.
pub(super) enum Table {
    V4(Arc<[Class<PrefixV4>]>),
    V6(Arc<[Class<PrefixV6>]>),
    Service(Arc<[Class<Service>]>),
}

impl Table {
    /// The number of the trie, and how many entries it takes.
    fn entries(&self) -> (usize, usize) {
        match self {
            Self::V4(table) => (0, table.len()),
            Self::V6(table) => (1, table.len()),
            Self::Service(table) => (2, table.len()),
        }
    }
}

/// Numbers of tables.
#[derive(Default)]
struct Tables {
    free: BTreeSet<u32>,
    next: u32,
}

impl Tables {
    fn take(&mut self) -> TableId {
        let number = self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        TableId { number }
    }
}

/// A limit, and how many there are, or are at least.
pub(super) type Exceeded = (Limit, usize);

impl Default for Cache {
    fn default() -> Self {
        Self::with_limits(MAX_INDEX_LINES as usize, MAX_ROW_LINES as usize)
    }
}

impl Cache {
    pub(super) fn with_limits(index: usize, rows: usize) -> Self {
        let mut rows = Store::new(rows);
        let base = rows.intern(&mut [BASE_RECORD], |_, _| ());
        debug_assert_eq!(base, Ok((CLASS_BASE, true)));
        Self {
            sets: Sets::default(),
            index: Store::new(index),
            rows,
            dimensions: DigestMap::default(),
            records: [Vec::new(), Vec::new()],
            tables: Tables::default(),
            prefixes: [0; 3],
            round: 0,
        }
    }

    /// Forgets everything.
    pub(super) fn renew(&mut self) {
        *self = Self::with_limits(self.index.limit(), self.rows.limit());
    }

    /// Whether nothing is in it yet.
    pub(super) const fn is_new(&self) -> bool {
        self.round == 0
    }

    /// Whether the arrays are better made anew.
    pub(super) fn is_sparse(&self) -> bool {
        self.index.is_sparse() || self.rows.is_sparse()
    }

    /// How many words the differences of a dimension can have: a line has at least
    /// one of them.
    pub(super) const fn words(&self) -> usize {
        self.rows.limit() * LINE_WORDS
    }

    /// A dimension of a list.
    pub(super) fn dimension(
        &mut self,
        kind: Kind,
        asked: Asked,
        bases: &Bases<'_>,
        row: Dim,
    ) -> Result<Dimension, Exceeded> {
        let mut digester = Digester::new(kind as u64);
        // The first rules of classes depend on them.
        bases
            .others_of(row as usize)
            .for_each(|word| digester.word(word));
        let mut shape = digester;
        shape.digest(asked.shape());
        let shape = shape.finish();
        digester.digest(asked.digest());
        let digest = digester.finish();
        if !self.dimensions.contains_key(&digest) {
            let place = Place { kind, bases, row };
            let held = match self.former(shape, &asked) {
                Some((former, changed)) => self.change(former, asked, &changed, &place)?,
                None => self.hold(asked, shape, &place)?,
            };
            self.dimensions.insert(digest, held);
        }
        let Some(held) = self.dimensions.get_mut(&digest) else {
            unreachable!("it has just been put there");
        };
        if held.round != self.round {
            held.round = self.round;
            let (trie, entries) = held.trie.entries();
            self.prefixes[trie] += entries;
            if self.prefixes[trie] > Limit::Prefixes.value() {
                return Err((Limit::Prefixes, self.prefixes[trie]));
            }
        }
        Ok(held.dimension)
    }

    fn hold(
        &mut self,
        mut asked: Asked,
        shape: Digest,
        place: &Place<'_>,
    ) -> Result<Held, Exceeded> {
        let kind = place.kind;
        let table = self.tables.take();
        let (dimension, classes, trie) = if kind == Kind::V6 {
            let found = asked.classify(|prefix| prefix, self.words());
            let (classes, prefixes) = self.records(found, place)?;
            let dimension = self.index_v6(&prefixes)?;
            let dimension = Dimension { table, ..dimension };
            let v6 = prefixes.iter().map(|&of| of_v6(table, of));
            (dimension, classes, Table::V6(v6.collect()))
        } else {
            let key = match kind {
                Kind::SourcePort => Narrow::of_port,
                Kind::V4 | Kind::V6 | Kind::Service => Narrow::of,
            };
            let found = asked.classify(key, self.words());
            let (classes, prefixes) = self.records(found, place)?;
            let dimension = self.index(kind, &prefixes)?;
            let dimension = Dimension { table, ..dimension };
            (dimension, classes, kind.table(table, &prefixes))
        };
        let is_kept = matches!(kind, Kind::V4 | Kind::V6) && asked.prefixes() >= MANY_PREFIXES;
        Ok(Held {
            dimension,
            classes,
            trie,
            shape,
            asked: is_kept.then_some(asked),
            round: NEVER,
        })
    }

    pub(super) fn index(
        &mut self,
        kind: Kind,
        prefixes: &[(Narrow, u32)],
    ) -> Result<Dimension, Exceeded> {
        let stretches = index::stretches(prefixes);
        let is_address = matches!(kind, Kind::V4 | Kind::V6);
        let stride = if is_address && stretches.len() > index::LARGE {
            16
        } else {
            8
        };
        index::build(&mut self.index, &stretches, stride).map_err(|Full| full(Limit::IndexLines))
    }

    /// The index of prefixes that may be longer than its keys.
    pub(super) fn index_v6(&mut self, prefixes: &[(Prefix, u32)]) -> Result<Dimension, Exceeded> {
        let fronts =
            long::fronts(&mut self.index, prefixes).map_err(|Full| full(Limit::IndexLines))?;
        let dimension = self.index(Kind::V6, &fronts);
        index::let_go(&mut self.index, &fronts);
        dimension
    }

    /// Records classes.
    pub(super) fn records<K>(
        &mut self,
        classes: Result<Classes<K>, TooManyWords>,
        place: &Place<'_>,
    ) -> Result<Recorded<K>, Exceeded> {
        let classes = classes.map_err(|TooManyWords| full(Limit::RowLines))?;
        let mut records = Vec::new();
        let mut numbers = Vec::new();
        for difference in classes.differences() {
            if difference.is_empty() {
                numbers.push(CLASS_BASE);
                continue;
            }
            let mut lines = place.bases.class(place.row as usize, difference);
            let (record, _) = self
                .rows
                .intern(&mut lines, |_, _| ())
                .map_err(|Full| full(Limit::RowLines))?;
            numbers.push(record);
            records.push(record);
        }
        let Classes { mut prefixes, .. } = classes;
        for (_, class) in &mut prefixes {
            *class = numbers[*class as usize];
        }
        Ok((records, prefixes))
    }

    /// The record of a list.
    pub(super) fn record(&mut self, bases: &Bases<'_>) -> Result<u32, Exceeded> {
        let (record, _) = self
            .rows
            .intern(&mut bases.record(), |_, _| ())
            .map_err(|Full| full(Limit::RowLines))?;
        self.records[1].push(record);
        Ok(record)
    }

    /// Ends a compilation: lets go of what it has not asked for, and puts the
    /// rest into the image.
    pub(super) fn finish(&mut self, image: &mut Image) {
        let Self {
            index,
            rows,
            dimensions,
            tables,
            round,
            ..
        } = self;
        dimensions.retain(|_, held| {
            if held.round == *round {
                return true;
            }
            index::release(index, &held.dimension);
            for &class in &held.classes {
                rows.release(class);
            }
            tables.free.insert(held.dimension.table.number);
            false
        });
        let [former, now] = &mut self.records;
        for record in former.drain(..) {
            rows.release(record);
        }
        std::mem::swap(former, now);
        for held in self.dimensions.values() {
            let table = held.dimension.table;
            match &held.trie {
                Table::V4(trie) => drop(image.prefixes_v4.insert(table, Arc::clone(trie))),
                Table::V6(trie) => drop(image.prefixes_v6.insert(table, Arc::clone(trie))),
                Table::Service(trie) => drop(image.services.insert(table, Arc::clone(trie))),
            }
        }
        image.index = self.index.lines().clone();
        image.rows = self.rows.lines().clone();
        self.sets.forget_unused();
        self.prefixes = [0; 3];
        self.round += 1;
    }
}

/// No round has this number.
pub(super) const NEVER: u64 = u64::MAX;

/// One more than there can be.
pub(super) const fn full(limit: Limit) -> Exceeded {
    (limit, limit.value() + 1)
}

/// What the prefixes of a dimension are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    V4 = 16,
    V6,
    Service,
    SourcePort,
}

impl Kind {
    pub(super) const fn new(dimension: Dim, family: Family) -> Self {
        match (dimension, family) {
            (Dim::Source | Dim::Destination, Family::V4) => Self::V4,
            (Dim::Source | Dim::Destination, Family::V6) => Self::V6,
            (Dim::Service, _) => Self::Service,
            (Dim::SourcePort, _) => Self::SourcePort,
        }
    }

    /// The table of a trie with the prefixes.
    fn table(self, table: TableId, prefixes: &[(Narrow, u32)]) -> Table {
        if self == Self::V4 {
            return Table::V4(prefixes.iter().map(|&of| of_v4(table, of)).collect());
        }
        let services = prefixes.iter().map(|&(prefix, class)| {
            let [a, b, c, _] = prefix.first().to_be_bytes();
            let (protocol, port, behind) = if self == Self::SourcePort {
                let protocol = if prefix.len() == 0 { 0 } else { PROTOCOL_BITS };
                (0, [a, b], protocol)
            } else {
                (a, [b, c], 0)
            };
            Class {
                key: Service {
                    table,
                    protocol,
                    port,
                    _pad: 0,
                },
                length: TABLE_BITS + behind + prefix.len(),
                class,
            }
        });
        Table::Service(services.collect())
    }
}

/// An entry of a table.
pub(super) fn of_v4(table: TableId, (prefix, class): (Narrow, u32)) -> Class<PrefixV4> {
    Class {
        key: PrefixV4 {
            table,
            address: prefix.first().to_be_bytes(),
        },
        length: TABLE_BITS + prefix.len(),
        class,
    }
}

/// Likewise.
pub(super) fn of_v6(table: TableId, (prefix, class): (Prefix, u32)) -> Class<PrefixV6> {
    Class {
        key: PrefixV6 {
            table,
            address: prefix.to_v6(),
        },
        length: TABLE_BITS + prefix.len(),
        class,
    }
}

#[cfg(test)]
mod tests;
