//! The two slots of a generation, and the switch between them.

mod refill;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{Pod, maps::MapData};
use hostfw_common::{
    endpoint::{Endpoint, FLAG_LEARNING, FLAG_OBSERVE},
    names::{
        ACTIVE, ENDPOINTS, FAILSAFES_V4, FAILSAFES_V6, PER_GENERATION, PREFIXES_V4, PREFIXES_V6,
        ROWS, RULES, SERVICES,
    },
};

use super::{
    MapsError, bpf,
    pins::{self, failed},
    tables::{hashed, indexed, prefixes},
};
use crate::compile::image::Image;

pub(crate) use refill::Refill;

/// Ends the name of a pin that is not in force yet.
const FRESH: &str = "_fresh";

/// The per-generation maps.
pub(crate) struct Generations {
    active: aya::maps::Array<MapData, u64>,
    outer: BTreeMap<&'static str, MapData>,
    /// What an inner map looks like, as the programs' verifier saw it.
    templates: BTreeMap<&'static str, aya_obj::Map>,
    /// The object's BTF, without which bpftool shows bytes.
    btf: Option<OwnedFd>,
    /// The folder of the inner maps in force; `None`: nothing is pinned.
    pins: Option<PathBuf>,
}

impl Generations {
    /// Takes over the loaded outer maps and the active word.
    ///
    /// `definitions` are those of the object that was loaded, `btf` its BTF,
    /// `pins` the folder of the inner maps in force, if they are to be pinned.
    pub(crate) fn new(
        active: aya::maps::Map,
        outer: BTreeMap<&'static str, MapData>,
        definitions: &aya_obj::Object,
        btf: Option<OwnedFd>,
        pins: Option<PathBuf>,
    ) -> Result<Self, MapsError> {
        let mut templates = BTreeMap::new();
        for name in PER_GENERATION {
            let inner = definitions
                .maps
                .get(name)
                .and_then(aya_obj::Map::inner)
                .ok_or(MapsError::Missing {
                    name,
                    expected: "an array of maps with the definition of an inner map",
                })?;
            templates.insert(name, inner);
            if !outer.contains_key(name) {
                return Err(MapsError::Missing {
                    name,
                    expected: "a loaded array of maps",
                });
            }
        }
        let active = aya::maps::Array::try_from(active).map_err(MapsError::map(ACTIVE))?;
        let generations = Self {
            active,
            outer,
            templates,
            btf,
            pins,
        };
        generations.mend_pins()?;
        Ok(generations)
    }

    /// The generation in force; 0 before the first.
    pub(crate) fn number(&self) -> Result<u64, MapsError> {
        self.active.get(&0, 0).map_err(MapsError::map(ACTIVE))
    }

    /// Puts an image in force and returns the number of its generation.
    ///
    /// On return no packet is judged by the former generation any more. On
    /// error the former one is in force, unchanged.
    pub(crate) fn switch(&mut self, image: &Image) -> Result<u64, MapsError> {
        let next = self.number()? + 1;
        let fresh = self.fill(image)?;
        self.pin_fresh(&fresh)?;
        if let Err(error) = self.install(next, &fresh) {
            self.remove_fresh();
            return Err(error);
        }
        self.active.set(0, next, 0).map_err(|error| {
            self.remove_fresh();
            MapsError::map(ACTIVE)(error)
        })?;
        // In force from here on: what fails now must not be reported as if it
        // were not.
        if let Err(error) = self.wait(next, &fresh) {
            tracing::warn!(%error, generation = next, "no grace period after the switch");
        }
        if let Err(error) = self.rename_fresh() {
            tracing::warn!(%error, generation = next, "inner maps are not pinned by their names");
        }
        Ok(next)
    }

    /// Interfaces with an endpoint in force that is not learning. `observed`:
    /// those, too, where nothing is enforced.
    pub(crate) fn judged(&self, observed: bool) -> Result<BTreeSet<u32>, MapsError> {
        let generation = self.number()?;
        if generation == 0 {
            return Ok(BTreeSet::new());
        }
        let failed = MapsError::map(ENDPOINTS);
        let endpoints = aya::maps::Map::HashMap(self.inner_of(ENDPOINTS, generation)?);
        let endpoints: aya::maps::HashMap<_, u32, Endpoint> =
            (&endpoints).try_into().map_err(&failed)?;
        let not_judged = if observed {
            FLAG_LEARNING
        } else {
            FLAG_LEARNING | FLAG_OBSERVE
        };
        let mut judged = BTreeSet::new();
        for endpoint in endpoints.iter() {
            let (index, endpoint) = endpoint.map_err(&failed)?;
            if endpoint.flags & not_judged == 0 {
                judged.insert(index);
            }
        }
        Ok(judged)
    }

    /// The inner map that a generation, once switched in, has in its slot.
    fn inner_of(&self, name: &'static str, generation: u64) -> Result<MapData, MapsError> {
        let slot = (generation & 1) as u32;
        let outer = aya::maps::Map::ArrayOfMaps(reopen(name, self.outer[name].fd().as_fd())?);
        aya::maps::ArrayOfMaps::<_, MapData>::try_from(&outer)
            .and_then(|outer| outer.get(&slot, 0))
            .map_err(MapsError::map(name))
    }

    fn fill(&self, image: &Image) -> Result<BTreeMap<&'static str, MapData>, MapsError> {
        Ok(BTreeMap::from([
            self.inner(ENDPOINTS, hashed(&image.endpoints))?,
            self.inner(PREFIXES_V4, prefixes(&image.prefixes_v4))?,
            self.inner(PREFIXES_V6, prefixes(&image.prefixes_v6))?,
            self.inner(SERVICES, prefixes(&image.services))?,
            self.inner(ROWS, indexed(&image.rows))?,
            self.inner(RULES, indexed(&image.rules))?,
            self.inner(FAILSAFES_V4, prefixes(&image.failsafes_v4))?,
            self.inner(FAILSAFES_V6, prefixes(&image.failsafes_v6))?,
        ]))
    }

    /// Makes an inner map that has room for the elements, and writes them.
    fn inner<K: Pod, V: Pod>(
        &self,
        name: &'static str,
        (keys, values): (Vec<K>, Vec<V>),
    ) -> Result<(&'static str, MapData), MapsError> {
        let mut definition = self.templates[name].clone();
        check_size(name, "key size", definition.key_size(), size_of::<K>())?;
        check_size(name, "value size", definition.value_size(), size_of::<V>())?;
        // The kernel makes no empty maps.
        definition.set_max_entries(u32::try_from(keys.len()).unwrap_or(u32::MAX).max(1));
        let map = MapData::create(definition, name, self.btf.as_ref().map(|btf| btf.as_fd()))
            .map_err(MapsError::map(name))?;
        bpf::fill(map.fd().as_fd(), &keys, &values).map_err(MapsError::bpf(name))?;
        Ok((name, map))
    }

    /// Puts the maps into the slot of a generation that is not in force.
    fn install(
        &self,
        generation: u64,
        fresh: &BTreeMap<&'static str, MapData>,
    ) -> Result<(), MapsError> {
        // The kernel waits for a grace period in each of these (see `wait`),
        // and periods that overlap are shared: together they take about as
        // long as one.
        std::thread::scope(|scope| {
            let updates: Vec<_> = fresh
                .iter()
                .map(|(name, map)| scope.spawn(|| self.set(name, generation, map)))
                .collect();
            updates.into_iter().try_for_each(|update| {
                update
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    fn set(&self, name: &'static str, generation: u64, map: &MapData) -> Result<(), MapsError> {
        let slot = (generation & 1) as u32;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&map.fd().as_fd());
        bpf::update(self.outer[name].fd().as_fd(), &slot, &fd, 0).map_err(MapsError::bpf(name))
    }

    /// Waits until every program that may have read the former active word has
    /// returned.
    ///
    /// A write to an array of maps ends in synchronize_rcu() since Linux 4.20
    /// (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c), meant for exactly
    /// this: on return no running program sees what was there before. So
    /// writing once more what the slot holds already changes nothing and
    /// waits. membarrier(2) would wait too, but not with one CPU online, and
    /// it is refused where a CPU runs without ticks.
    fn wait(
        &self,
        generation: u64,
        fresh: &BTreeMap<&'static str, MapData>,
    ) -> Result<(), MapsError> {
        self.set(ENDPOINTS, generation, &fresh[ENDPOINTS])
    }

    /// Pins ahead of the switch, for what can fail must fail before it.
    fn pin_fresh(&self, fresh: &BTreeMap<&'static str, MapData>) -> Result<(), MapsError> {
        let Some(folder) = &self.pins else {
            return Ok(());
        };
        self.remove_fresh();
        for (name, map) in fresh {
            if let Err(error) = bpf::pin(map.fd(), &fresh_pin(folder, name)) {
                self.remove_fresh();
                return Err(MapsError::bpf(name)(error));
            }
        }
        Ok(())
    }

    fn rename_fresh(&self) -> Result<(), MapsError> {
        let Some(folder) = &self.pins else {
            return Ok(());
        };
        for name in PER_GENERATION {
            let pin = fresh_pin(folder, name);
            fs::rename(&pin, folder.join(name)).map_err(failed("rename", &pin))?;
        }
        Ok(())
    }

    fn remove_fresh(&self) {
        let Some(folder) = &self.pins else {
            return;
        };
        for name in PER_GENERATION {
            if let Err(error) = pins::remove(&fresh_pin(folder, name)) {
                tracing::warn!(%error, "a pin of a generation that is not in force stays");
            }
        }
    }

    /// Brings the pins to the generation in force: an agent that was killed in
    /// the middle of a switch leaves those of the one before or after.
    fn mend_pins(&self) -> Result<(), MapsError> {
        let Some(folder) = &self.pins else {
            return Ok(());
        };
        self.remove_fresh();
        let generation = self.number()?;
        if generation == 0 {
            return Ok(());
        }
        for name in PER_GENERATION {
            let inner = self.inner_of(name, generation)?;
            let pin = folder.join(name);
            if same_map(&inner, &pin) {
                continue;
            }
            tracing::info!(map = name, generation, "pinning anew what is in force");
            let fresh = fresh_pin(folder, name);
            bpf::pin(inner.fd(), &fresh).map_err(MapsError::bpf(name))?;
            fs::rename(&fresh, &pin).map_err(failed("rename", &pin))?;
        }
        Ok(())
    }
}

fn fresh_pin(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{FRESH}"))
}

fn reopen(name: &'static str, fd: BorrowedFd<'_>) -> Result<MapData, MapsError> {
    let fd = fd
        .try_clone_to_owned()
        .map_err(aya::maps::MapError::IoError)
        .map_err(MapsError::map(name))?;
    MapData::from_fd(fd).map_err(MapsError::map(name))
}

/// Whether a map is what is pinned at the path.
fn same_map(map: &MapData, pin: &Path) -> bool {
    let Ok(pinned) = bpf::open_pin(pin).and_then(bpf::map_info) else {
        return false;
    };
    bpf::map_info(map.fd()).is_ok_and(|info| info.id == pinned.id)
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
