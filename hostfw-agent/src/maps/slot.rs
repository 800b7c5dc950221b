//! What one slot of the per-generation maps holds, and how it comes to hold
//! another image: by writing what differs, where that is little.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{Pod, maps::MapData};
use hostfw_common::names::{
    ENDPOINTS, FAILSAFES_V4, FAILSAFES_V6, INDEX, LISTS, PREFIXES_V4, PREFIXES_V6, ROWS, RULES,
    SERVICES,
};

use super::{
    BpfError, MapsError, bpf,
    tables::{Array, Difference, Hash, LineArray, Prefixes, Table, Tries},
};
use crate::compile::image::Image;

/// How inner maps are made.
pub(super) struct Maker {
    /// What an inner map looks like, as the programs' verifier saw it.
    pub(super) templates: BTreeMap<&'static str, aya_obj::Map>,
    /// The object's BTF, without which bpftool shows bytes.
    pub(super) btf: Option<OwnedFd>,
}

/// How long a map is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// As long as less is to be written than into a new one.
    WhileCheaper,
    /// As long as it has room: where putting another into the slot costs more
    /// than all writes.
    WhileItFits,
}

/// The maps of a slot.
///
/// What they hold is remembered, table by table. A map whose contents are not
/// known, for writing to it has failed, is not kept.
pub(super) struct Slot {
    keep: Keep,
    maps: BTreeMap<&'static str, Inner>,
    /// What the maps in `maps` hold.
    written: Image,
}

struct Inner {
    map: MapData,
    room: u32,
}

impl Slot {
    /// Nothing is known of what the slot holds.
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            keep,
            maps: BTreeMap::new(),
            written: Image::default(),
        }
    }

    /// The maps, by name; all of them once an image was written.
    pub(super) fn maps(&self) -> impl Iterator<Item = (&'static str, &MapData)> {
        self.maps.iter().map(|(name, inner)| (*name, &inner.map))
    }

    /// The map of this name, if an image was written.
    pub(super) fn map(&self, name: &str) -> Option<&MapData> {
        self.maps.get(name).map(|inner| &inner.map)
    }

    /// Forgets maps, so that they are made anew.
    pub(super) fn forget(&mut self, names: &[&'static str]) {
        self.maps.retain(|name, _| !names.contains(name));
    }

    /// Has the maps hold the image, and gives the names of those that were made
    /// for it: the outer maps do not have them yet.
    ///
    /// No program may use the slot. After an error what the maps hold belongs
    /// to no image, but writing another one makes a whole of it again; maps
    /// made until then are forgotten.
    pub(super) fn write(
        &mut self,
        maker: &Maker,
        image: &Image,
    ) -> Result<Vec<&'static str>, MapsError> {
        let mut made = Vec::new();
        let written = self.write_tables(maker, image, &mut made);
        if let Err(error) = written {
            self.forget(&made);
            return Err(error);
        }
        Ok(made)
    }

    fn write_tables(
        &mut self,
        maker: &Maker,
        image: &Image,
        made: &mut Vec<&'static str>,
    ) -> Result<(), MapsError> {
        // What was written is noted table by table: the maps are as they are,
        // whatever comes after.
        macro_rules! table {
            ($name:ident, $table:ident, $field:ident) => {{
                let old = std::mem::take(&mut self.written.$field);
                self.table(maker, $name, &$table(&old), &$table(&image.$field), made)?;
                self.written.$field = image.$field.clone();
            }};
        }
        table!(ENDPOINTS, Hash, endpoints);
        table!(LISTS, Array, lists);
        table!(PREFIXES_V4, Tries, prefixes_v4);
        table!(PREFIXES_V6, Tries, prefixes_v6);
        table!(SERVICES, Tries, services);
        table!(INDEX, LineArray, index);
        table!(ROWS, LineArray, rows);
        table!(RULES, Array, rules);
        table!(FAILSAFES_V4, Prefixes, failsafes_v4);
        table!(FAILSAFES_V6, Prefixes, failsafes_v6);
        Ok(())
    }

    fn table<T: Table>(
        &mut self,
        maker: &Maker,
        name: &'static str,
        old: &T,
        new: &T,
        made: &mut Vec<&'static str>,
    ) -> Result<(), MapsError> {
        // Out of the map's place while it is written to: after an error it is
        // not known what it holds.
        if let Some(inner) = self.maps.remove(name)
            && self.has_room(&inner, new)
        {
            let since = new.since(old);
            if self.keep == Keep::WhileItFits || is_cheaper(since.len(), new.len()) {
                apply(&inner.map, &since).map_err(MapsError::bpf(name))?;
                self.maps.insert(name, inner);
                return Ok(());
            }
        }
        let inner = maker.make(name, new, self.keep)?;
        let (keys, values) = new.all();
        bpf::fill(inner.map.fd().as_fd(), &keys, &values).map_err(MapsError::bpf(name))?;
        self.maps.insert(name, inner);
        made.push(name);
        Ok(())
    }

    /// Whether a map is neither too small for the table nor far too large.
    fn has_room<T: Table>(&self, inner: &Inner, table: &T) -> bool {
        let wanted = entries(table.len());
        let wasteful = !T::SPARSE && inner.room / 4 > wanted.max(LEAST);
        inner.room >= wanted && (self.keep == Keep::WhileItFits || !wasteful)
    }
}

/// Elements that a map has room for at least.
const LEAST: u32 = 64;
/// The same, where maps are kept for image after image.
const LEAST_KEPT: u32 = 1024;

/// Whether writing so many elements is less work than making a map of so many.
/// A new one is filled in batches, and costs a grace period.
const fn is_cheaper(changed: usize, all: usize) -> bool {
    changed <= all / 2 + 256
}

fn entries(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Maker {
    /// Makes an inner map with room for the table, and for some growth.
    fn make<T: Table>(
        &self,
        name: &'static str,
        table: &T,
        keep: Keep,
    ) -> Result<Inner, MapsError> {
        let template = self.templates.get(name).ok_or(MapsError::Missing {
            name,
            expected: "the definition of an inner map",
        })?;
        let mut definition = template.clone();
        check_size(name, "key size", definition.key_size(), size_of::<T::Key>())?;
        check_size(
            name,
            "value size",
            definition.value_size(),
            size_of::<T::Value>(),
        )?;
        let wanted = entries(table.len());
        let room = match keep {
            Keep::WhileCheaper if T::SPARSE => wanted.saturating_mul(2),
            Keep::WhileCheaper => wanted.saturating_add(wanted / 4),
            Keep::WhileItFits => wanted.checked_next_power_of_two().unwrap_or(wanted),
        };
        let least = match keep {
            Keep::WhileCheaper => LEAST,
            Keep::WhileItFits => LEAST_KEPT,
        };
        let room = room.max(least);
        definition.set_max_entries(room);
        let map = MapData::create(definition, name, self.btf.as_ref().map(|btf| btf.as_fd()))
            .map_err(MapsError::map(name))?;
        Ok(Inner { map, room })
    }
}

fn apply<K: Pod, V: Pod>(map: &MapData, since: &Difference<K, V>) -> Result<(), BpfError> {
    let map = map.fd().as_fd();
    for key in &since.gone {
        bpf::delete(map, key)?;
    }
    let (keys, values) = &since.changed;
    bpf::fill(map, keys, values)
}

/// A size in the object against the type that is written.
fn check_size(
    name: &'static str,
    field: &'static str,
    found: u32,
    expected: usize,
) -> Result<(), MapsError> {
    let expected = expected as u32;
    if expected != found {
        return Err(MapsError::Incompatible {
            name,
            field,
            expected,
            found,
        });
    }
    Ok(())
}
