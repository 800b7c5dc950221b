//! One image after another in the same maps, for programs that only judge test
//! runs.
//!
//! [`Generations::switch`] makes new maps for every image and waits until no
//! packet sees the old ones. Where there are no packets, a hundred thousand
//! images are no reason to wait a hundred thousand times.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{
    Pod,
    maps::{MapData, lpm_trie::Key},
};
use hostfw_common::names::{
    ACTIVE, ENDPOINTS, FAILSAFES_V4, FAILSAFES_V6, PREFIXES_V4, PREFIXES_V6, ROWS, RULES, SERVICES,
};

use super::Generations;
use crate::{
    compile::image::Image,
    maps::{
        MapsError, bpf,
        tables::{Columns, hashed, indexed, prefixes},
    },
};

/// The slot that is used, and so the lowest bit of the generation.
const SLOT: u32 = 0;
/// One with that bit; 0 means none.
const GENERATION: u64 = 2;
/// Entries that a map has room for at first.
const ROOM: u32 = 1024;

/// The maps of one slot, and what is in them.
pub(crate) struct Refill {
    generations: Generations,
    inner: BTreeMap<&'static str, Inner>,
    written: Image,
}

struct Inner {
    map: MapData,
    room: u32,
}

impl Refill {
    /// Takes the maps of programs that judge nothing else.
    pub(crate) fn new(mut generations: Generations) -> Result<Self, MapsError> {
        generations
            .active
            .set(0, GENERATION, 0)
            .map_err(MapsError::map(ACTIVE))?;
        Ok(Self {
            generations,
            inner: BTreeMap::new(),
            written: Image::default(),
        })
    }

    /// Puts an image in the place of the one before. After an error neither of
    /// them is there as a whole.
    pub(crate) fn write(&mut self, image: &Image) -> Result<(), MapsError> {
        let old = std::mem::replace(&mut self.written, image.clone());
        self.keyed(
            ENDPOINTS,
            gone(&old.endpoints, &image.endpoints, |key| *key),
            hashed(&image.endpoints),
        )?;
        self.trie(PREFIXES_V4, &old.prefixes_v4, &image.prefixes_v4)?;
        self.trie(PREFIXES_V6, &old.prefixes_v6, &image.prefixes_v6)?;
        self.trie(SERVICES, &old.services, &image.services)?;
        self.trie(FAILSAFES_V4, &old.failsafes_v4, &image.failsafes_v4)?;
        self.trie(FAILSAFES_V6, &old.failsafes_v6, &image.failsafes_v6)?;
        self.fill(ROWS, indexed(&image.rows))?;
        self.fill(RULES, indexed(&image.rules))
    }

    fn trie<K: Pod + Ord>(
        &mut self,
        name: &'static str,
        old: &BTreeMap<(u32, K), u32>,
        new: &BTreeMap<(u32, K), u32>,
    ) -> Result<(), MapsError> {
        let gone = gone(old, new, |(length, key)| Key::new(*length, *key));
        self.keyed(name, gone, prefixes(new))
    }

    /// A map whose elements are there or not.
    fn keyed<K: Pod, V: Pod>(
        &mut self,
        name: &'static str,
        gone: Vec<K>,
        columns: Columns<K, V>,
    ) -> Result<(), MapsError> {
        if let Some(inner) = self.inner.get(name) {
            for key in gone {
                bpf::delete(inner.map.fd().as_fd(), &key).map_err(MapsError::bpf(name))?;
            }
        }
        self.fill(name, columns)
    }

    fn fill<K: Pod, V: Pod>(
        &mut self,
        name: &'static str,
        (keys, values): Columns<K, V>,
    ) -> Result<(), MapsError> {
        let wanted = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        if self.inner.get(name).is_none_or(|inner| inner.room < wanted) {
            let room = wanted.max(ROOM).next_power_of_two();
            let mut definition = self.generations.templates[name].clone();
            definition.set_max_entries(room);
            let btf = self.generations.btf.as_ref().map(|btf| btf.as_fd());
            let map = MapData::create(definition, name, btf).map_err(MapsError::map(name))?;
            let outer = self.generations.outer[name].fd().as_fd();
            bpf::update(outer, &SLOT, &map.fd().as_fd().as_raw_fd(), 0)
                .map_err(MapsError::bpf(name))?;
            self.inner.insert(name, Inner { map, room });
        }
        bpf::fill(self.inner[name].map.fd().as_fd(), &keys, &values).map_err(MapsError::bpf(name))
    }
}

/// The keys that are only in the old one.
fn gone<K: Ord, V, W>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    written: impl Fn(&K) -> W,
) -> Vec<W> {
    old.keys()
        .filter(|key| !new.contains_key(key))
        .map(written)
        .collect()
}
