//! What one slot of the per-generation maps holds, and how it comes to hold
//! another image: by writing what differs, where that is little.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use aya::{Pod, maps::MapData};
use hostfw_common::{
    limits::{PART_LINES, PART_RULES},
    names::{
        self, ENDPOINTS, FAILSAFES_V4, FAILSAFES_V6, INDEX, LISTS, PREFIXES_V4, PREFIXES_V6, ROWS,
        RULES, SERVICES,
    },
    policy::RuleEntry,
};

use super::{
    BpfError, MapsError, bpf,
    tables::{Array, Difference, Hash, LinePart, Prefixes, Table, Tries},
};
use crate::compile::image::{Image, Lines};

/// An inner map of a generation: one of those that its outer map has for it. Most
/// have but one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    /// Name of the outer map.
    pub(super) name: &'static str,
    /// Which one; 0 is always there.
    pub(super) number: u32,
}

impl Part {
    /// The first one, or the only one.
    pub(super) const fn first(name: &'static str) -> Self {
        Self { name, number: 0 }
    }

    /// Those of an outer map that may be there, in order.
    pub(super) fn all(name: &'static str) -> impl Iterator<Item = Self> {
        (0..names::parts(name)).map(move |number| Self { name, number })
    }

    /// Its place in the outer map.
    pub(super) const fn place(self, generation: u64) -> u32 {
        2 * self.number + (generation & 1) as u32
    }

    /// The name of its pin.
    pub(super) fn pin(self) -> String {
        match self.number {
            0 => self.name.to_owned(),
            number => format!("{}_{number}", self.name),
        }
    }
}

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
    maps: BTreeMap<Part, Inner>,
    /// What the maps in `maps` hold.
    written: Image,
}

struct Inner {
    map: MapData,
    room: u32,
    /// It has the room that all parts have.
    fixed: bool,
}

/// A part of an array of lines.
const fn lines(lines: &Lines, part: u32) -> LinePart<'_> {
    LinePart { lines, part }
}

/// A part of the rules.
fn rules(rules: &Arc<Vec<RuleEntry>>, part: u32) -> Array<'_, RuleEntry> {
    let each = PART_RULES as usize;
    let first = (part as usize * each).min(rules.len());
    Array(&rules[first..rules.len().min(first + each)])
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

    /// The maps; all of them once an image was written.
    pub(super) fn maps(&self) -> impl Iterator<Item = (Part, &MapData)> {
        self.maps.iter().map(|(part, inner)| (*part, &inner.map))
    }

    /// A map, if an image was written that has it.
    pub(super) fn map(&self, part: Part) -> Option<&MapData> {
        self.maps.get(&part).map(|inner| &inner.map)
    }

    /// How many parts of this name there are.
    pub(super) fn parts(&self, name: &'static str) -> u32 {
        let last = Part {
            name,
            number: u32::MAX,
        };
        entries(self.maps.range(Part::first(name)..=last).count())
    }

    /// Forgets maps, so that they are made anew.
    pub(super) fn forget(&mut self, parts: &[Part]) {
        self.maps.retain(|part, _| !parts.contains(part));
    }

    /// Has the maps hold the image, and gives those that were made for it: the
    /// outer maps do not have them yet.
    ///
    /// No program may use the slot. After an error what the maps hold belongs
    /// to no image, but writing another one makes a whole of it again; maps
    /// made until then are forgotten.
    pub(super) fn write(&mut self, maker: &Maker, image: &Image) -> Result<Vec<Part>, MapsError> {
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
        made: &mut Vec<Part>,
    ) -> Result<(), MapsError> {
        // What was written is noted table by table: the maps are as they are,
        // whatever comes after.
        macro_rules! table {
            ($name:ident, $table:ident, $field:ident) => {{
                let old = std::mem::take(&mut self.written.$field);
                let (old, new) = ($table(&old), $table(&image.$field));
                self.table(maker, Part::first($name), &old, &new, made)?;
                self.written.$field = image.$field.clone();
            }};
        }
        macro_rules! parts {
            ($name:ident, $each:ident, $field:ident, $part:ident) => {{
                let old = std::mem::take(&mut self.written.$field);
                let needed = entries(image.$field.len()).div_ceil($each).max(1);
                for part in Part::all($name).take(needed as usize) {
                    let number = part.number;
                    let (old, new) = ($part(&old, number), $part(&image.$field, number));
                    self.table(maker, part, &old, &new, made)?;
                }
                self.keep_parts($name, needed);
                self.written.$field = image.$field.clone();
            }};
        }
        table!(ENDPOINTS, Hash, endpoints);
        table!(LISTS, Array, lists);
        table!(PREFIXES_V4, Tries, prefixes_v4);
        table!(PREFIXES_V6, Tries, prefixes_v6);
        table!(SERVICES, Tries, services);
        parts!(INDEX, PART_LINES, index, lines);
        parts!(ROWS, PART_LINES, rows, lines);
        parts!(RULES, PART_RULES, rules, rules);
        table!(FAILSAFES_V4, Prefixes, failsafes_v4);
        table!(FAILSAFES_V6, Prefixes, failsafes_v6);
        Ok(())
    }

    /// Forgets the parts that an image does not need, unless maps are kept.
    fn keep_parts(&mut self, name: &'static str, needed: u32) {
        if self.keep == Keep::WhileCheaper {
            self.maps
                .retain(|part, _| part.name != name || part.number < needed);
        }
    }

    fn table<T: Table>(
        &mut self,
        maker: &Maker,
        part: Part,
        old: &T,
        new: &T,
        made: &mut Vec<Part>,
    ) -> Result<(), MapsError> {
        let name = part.name;
        // Out of the map's place while it is written to: after an error it is
        // not known what it holds.
        if let Some(inner) = self.maps.remove(&part)
            && self.has_room(&inner, new)
        {
            let since = new.since(old);
            if self.keep == Keep::WhileItFits || is_cheaper(since.len(), new.len()) {
                apply(&inner.map, &since).map_err(MapsError::bpf(name))?;
                self.maps.insert(part, inner);
                return Ok(());
            }
        }
        let inner = maker.make(part, new, self.keep)?;
        let (keys, values) = new.all();
        bpf::fill(inner.map.fd().as_fd(), &keys, &values).map_err(MapsError::bpf(name))?;
        self.maps.insert(part, inner);
        made.push(part);
        Ok(())
    }

    /// Whether a map is neither too small for the table nor far too large.
    fn has_room<T: Table>(&self, inner: &Inner, table: &T) -> bool {
        let wanted = wanted::<T>(table);
        let wasteful = !inner.fixed && !T::SPARSE && inner.room / 4 > wanted.max(LEAST);
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

/// Elements for which a map must have room. One more for tries: until Linux
/// 6.13 a full one refuses new values for the keys that it has.
fn wanted<T: Table>(table: &T) -> u32 {
    entries(table.len()).saturating_add(u32::from(T::SPARSE))
}

impl Maker {
    /// Makes an inner map with room for the table, and for some growth; one of
    /// several parts has the room that all of them have.
    fn make<T: Table>(&self, part: Part, table: &T, keep: Keep) -> Result<Inner, MapsError> {
        let name = part.name;
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
        let wanted = wanted::<T>(table);
        let room = match keep {
            Keep::WhileCheaper if T::SPARSE => wanted.saturating_mul(2),
            Keep::WhileCheaper => wanted.saturating_add(wanted / 4),
            Keep::WhileItFits => wanted.checked_next_power_of_two().unwrap_or(wanted),
        };
        let least = match keep {
            Keep::WhileCheaper => LEAST,
            Keep::WhileItFits => LEAST_KEPT,
        };
        let fixed = names::parts(name) > 1;
        let room = if fixed {
            definition.max_entries()
        } else {
            room.max(least)
        };
        definition.set_max_entries(room);
        let map = MapData::create(definition, name, self.btf.as_ref().map(|btf| btf.as_fd()))
            .map_err(MapsError::map(name))?;
        Ok(Inner { map, room, fixed })
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
