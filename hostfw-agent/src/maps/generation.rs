//! The two slots of a generation, and the switch between them.

mod refill;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use aya::maps::MapData;
use hostfw_common::{
    endpoint::{Endpoint, FLAG_LEARNING, FLAG_OBSERVE},
    names::{ACTIVE, ENDPOINTS, PER_GENERATION},
};

use super::{
    BpfError, MapsError, bpf,
    pins::{self, PinError, failed},
    size::{self, MapSize},
    slot::{Keep, Maker, Part, Slot},
};
use crate::compile::image::Image;

pub(crate) use refill::Refill;

/// Ends the name of a pin that is not in force yet.
const FRESH: &str = "_fresh";

/// The per-generation maps.
pub(crate) struct Generations {
    active: aya::maps::Array<MapData, u64>,
    outer: BTreeMap<&'static str, MapData>,
    maker: Maker,
    /// What this process knows of the slots.
    slots: [Slot; 2],
    /// The maps that were in force when this process began, until it has filled
    /// both slots.
    inherited: BTreeMap<Part, MapData>,
    /// The folder of the inner maps in force; `None`: nothing is pinned.
    pins: Option<PathBuf>,
    /// Until the last switch is over, packets may be judged by the generation
    /// before.
    wait: Option<JoinHandle<Result<(), BpfError>>>,
    /// It is over since the last switch.
    settled: bool,
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
        let mut generations = Self {
            active,
            outer,
            maker: Maker { templates, btf },
            slots: [Slot::new(Keep::WhileCheaper), Slot::new(Keep::WhileCheaper)],
            inherited: BTreeMap::new(),
            pins,
            wait: None,
            settled: false,
        };
        generations.inherited = generations.mend_pins()?;
        Ok(generations)
    }

    /// The generation in force; 0 before the first.
    pub(crate) fn number(&self) -> Result<u64, MapsError> {
        self.active.get(&0, 0).map_err(MapsError::map(ACTIVE))
    }

    /// Puts an image in force and returns the number of its generation.
    ///
    /// On return every packet that comes is judged by it; those that are under
    /// way may still be judged by the former generation. On error the former
    /// one is in force, unchanged.
    pub(crate) fn switch(&mut self, image: &Image) -> Result<u64, MapsError> {
        self.settle()?;
        let next = self.number()? + 1;
        let slot = slot_of(next);
        let made = self.slots[slot].write(&self.maker, image)?;
        self.put_in_force(next, &made).inspect_err(|_| {
            self.remove_fresh();
            // Whether the outer maps have them is not known.
            self.slots[slot].forget(&made);
        })?;
        // In force from here on: what fails now must not be reported as if it
        // were not.
        self.begin_wait(next);
        let endpoints = Part::first(ENDPOINTS);
        if self.slots.iter().all(|slot| slot.map(endpoints).is_some()) {
            self.inherited.clear();
        }
        if let Err(error) = self.rename_fresh(next) {
            tracing::warn!(%error, generation = next, "inner maps are not pinned by their names");
        }
        Ok(next)
    }

    fn put_in_force(&mut self, next: u64, made: &[Part]) -> Result<(), MapsError> {
        let slot = &self.slots[slot_of(next)];
        self.pin_fresh(slot)?;
        self.install(next, slot, made)?;
        self.active.set(0, next, 0).map_err(MapsError::map(ACTIVE))
    }

    /// Begins to wait until every program that may have read the former active
    /// word has returned: nothing may be written to the former slot before.
    fn begin_wait(&mut self, generation: u64) {
        self.settled = false;
        let wait = self.grace_period(generation).and_then(|wait| {
            let thread = std::thread::Builder::new().name("grace period".to_owned());
            thread.spawn(wait).map_err(|error| MapsError::Bpf {
                name: ENDPOINTS,
                error: BpfError {
                    call: "clone",
                    error,
                },
            })
        });
        match wait {
            Ok(wait) => self.wait = Some(wait),
            // The next switch waits itself.
            Err(error) => tracing::debug!(%error, "no thread that waits for a grace period"),
        }
    }

    /// Returns when no packet is judged by the generation before the one in
    /// force.
    fn settle(&mut self) -> Result<(), MapsError> {
        if self.settled {
            return Ok(());
        }
        if let Some(Ok(Ok(()))) = self.wait.take().map(JoinHandle::join) {
            self.settled = true;
            return Ok(());
        }
        // No switch of this process, or none whose end is known.
        let generation = self.number()?;
        if generation == 0 {
            return Ok(());
        }
        self.grace_period(generation)?().map_err(MapsError::bpf(ENDPOINTS))
    }

    /// Whether no packet is judged by the generation before the one in force,
    /// without waiting for it; false if that is not known.
    pub(crate) fn is_settled(&mut self) -> bool {
        if self.wait.as_ref().is_some_and(JoinHandle::is_finished) {
            self.settled = matches!(self.wait.take().map(JoinHandle::join), Some(Ok(Ok(()))));
        }
        self.settled
    }

    /// What waits until every program that runs now has returned.
    ///
    /// A write to an array of maps ends in synchronize_rcu() since Linux 4.20
    /// (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c), meant for exactly
    /// this: on return no running program sees what was there before. So
    /// writing once more what the slot holds already changes nothing and
    /// waits. membarrier(2) would wait too, but not with one CPU online, and
    /// it is refused where a CPU runs without ticks.
    fn grace_period(
        &self,
        generation: u64,
    ) -> Result<impl FnOnce() -> Result<(), BpfError> + use<>, MapsError> {
        let endpoints = Part::first(ENDPOINTS);
        let outer = reopen(ENDPOINTS, self.outer[ENDPOINTS].fd().as_fd())?;
        let inner = match self.slots[slot_of(generation)].map(endpoints) {
            Some(inner) => reopen(ENDPOINTS, inner.fd().as_fd())?,
            None => self.inner_of(endpoints, generation)?,
        };
        Ok(move || {
            let inner = inner.fd().as_fd().as_raw_fd();
            bpf::update(outer.fd().as_fd(), &endpoints.place(generation), &inner, 0)
        })
    }

    /// What the maps of both slots take, together with the outer ones.
    pub(crate) fn sizes(&self) -> Result<Vec<MapSize>, MapsError> {
        let in_force = self.number()?;
        PER_GENERATION
            .into_iter()
            .map(|name| {
                let bytes = |map: &MapData| {
                    size::bytes(map.fd()).map_err(|error| MapsError::Size { name, error })
                };
                let mut sum = bytes(&self.outer[name])?;
                // Before the second generation a slot is empty.
                for generation in in_force.saturating_sub(1).max(1)..=in_force {
                    for part in self.parts_of(name, generation)? {
                        sum += bytes(&self.inner_of(part, generation)?)?;
                    }
                }
                Ok(MapSize { name, bytes: sum })
            })
            .collect()
    }

    /// Interfaces with an endpoint in force that is not learning. `observed`:
    /// those, too, where nothing is enforced.
    pub(crate) fn judged(&self, observed: bool) -> Result<BTreeSet<u32>, MapsError> {
        let generation = self.number()?;
        if generation == 0 {
            return Ok(BTreeSet::new());
        }
        let failed = MapsError::map(ENDPOINTS);
        let endpoints = self.inner_of(Part::first(ENDPOINTS), generation)?;
        let endpoints = aya::maps::Map::HashMap(endpoints);
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

    /// The parts that a generation, once switched in, has of an outer map.
    fn parts_of(&self, name: &'static str, generation: u64) -> Result<Vec<Part>, MapsError> {
        let mut parts = Vec::new();
        for part in Part::all(name) {
            match bpf::inner_map(self.outer[name].fd().as_fd(), part.place(generation)) {
                Ok(_) => parts.push(part),
                // They are there one after the other.
                Err(error) if error.is(libc::ENOENT) && part.number > 0 => break,
                Err(error) => return Err(MapsError::bpf(name)(error)),
            }
        }
        Ok(parts)
    }

    /// The inner map that a generation, once switched in, has in its slot.
    ///
    /// Looked for among those that are open or pinned first: to open it by its
    /// number takes a right that the agent may do without.
    fn inner_of(&self, part: Part, generation: u64) -> Result<MapData, MapsError> {
        let Part { name, .. } = part;
        let slot = slot_of(generation);
        let outer = self.outer[name].fd().as_fd();
        let place = part.place(generation);
        let id = bpf::inner_map(outer, place).map_err(MapsError::bpf(name))?;
        let open = [self.slots[slot].map(part), self.inherited.get(&part)];
        if let Some(map) = open.into_iter().flatten().find(|map| is_map(map.fd(), id)) {
            return reopen(name, map.fd().as_fd());
        }
        let pins = self.pins.iter();
        let mut pins = pins.flat_map(|folder| [folder.join(part.pin()), fresh_pin(folder, part)]);
        if let Some(pinned) =
            pins.find_map(|pin| bpf::open_pin(&pin).ok().filter(|fd| is_map(fd, id)))
        {
            return MapData::from_fd(pinned).map_err(MapsError::map(name));
        }
        let outer = aya::maps::Map::ArrayOfMaps(reopen(name, outer)?);
        aya::maps::ArrayOfMaps::<_, MapData>::try_from(&outer)
            .and_then(|outer| outer.get(&place, 0))
            .map_err(MapsError::map(name))
    }

    /// Puts the maps that were made where the programs of a generation look,
    /// which is not in force, and takes away from there what the slot has no more.
    fn install(&self, generation: u64, slot: &Slot, made: &[Part]) -> Result<(), MapsError> {
        let mut places: BTreeMap<&'static str, (Vec<u32>, Vec<i32>)> = BTreeMap::new();
        for (part, map) in slot.maps().filter(|(part, _)| made.contains(part)) {
            let (keys, values) = places.entry(part.name).or_default();
            keys.push(part.place(generation));
            values.push(map.fd().as_fd().as_raw_fd());
        }
        // The kernel waits for a grace period in each of these (see
        // `grace_period`), and periods that overlap are shared: together they
        // take about as long as one.
        std::thread::scope(|scope| {
            let updates: Vec<_> = places
                .into_iter()
                .map(|(name, (keys, values))| {
                    let outer = self.outer[name].fd().as_fd();
                    scope.spawn(move || {
                        bpf::fill(outer, &keys, &values).map_err(MapsError::bpf(name))
                    })
                })
                .collect();
            updates.into_iter().try_for_each(|update| {
                update
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        PER_GENERATION
            .into_iter()
            .try_for_each(|name| self.uninstall(name, generation, slot.parts(name)))
    }

    /// Takes away the parts of this name from a number on.
    fn uninstall(&self, name: &'static str, generation: u64, from: u32) -> Result<(), MapsError> {
        let outer = self.outer[name].fd().as_fd();
        for part in Part::all(name).skip(from as usize) {
            let place = part.place(generation);
            match bpf::inner_map(outer, place).and_then(|_| bpf::delete(outer, &place)) {
                Ok(()) => {}
                Err(error) if error.is(libc::ENOENT) => break,
                Err(error) => return Err(MapsError::bpf(name)(error)),
            }
        }
        Ok(())
    }

    /// Pins ahead of the switch, for what can fail must fail before it.
    fn pin_fresh(&self, slot: &Slot) -> Result<(), MapsError> {
        let Some(folder) = &self.pins else {
            return Ok(());
        };
        self.remove_fresh();
        slot.maps().try_for_each(|(part, map)| {
            bpf::pin(map.fd(), &fresh_pin(folder, part)).map_err(MapsError::bpf(part.name))
        })
    }

    fn rename_fresh(&self, next: u64) -> Result<(), MapsError> {
        let Some(folder) = &self.pins else {
            return Ok(());
        };
        let slot = &self.slots[slot_of(next)];
        for (part, _) in slot.maps() {
            let pin = fresh_pin(folder, part);
            fs::rename(&pin, folder.join(part.pin())).map_err(failed("rename", &pin))?;
        }
        let in_force: BTreeSet<String> = slot.maps().map(|(part, _)| part.pin()).collect();
        Ok(remove_pins(folder, |name| !in_force.contains(name))?)
    }

    fn remove_fresh(&self) {
        let Some(folder) = &self.pins else {
            return;
        };
        if let Err(error) = remove_pins(folder, |name| name.ends_with(FRESH)) {
            tracing::warn!(%error, "a pin of a generation that is not in force stays");
        }
    }

    /// Brings the pins to the generation in force: an agent that was killed in
    /// the middle of a switch leaves those of the one before or after. Returns
    /// the maps in force.
    fn mend_pins(&self) -> Result<BTreeMap<Part, MapData>, MapsError> {
        let mut in_force = BTreeMap::new();
        let generation = self.number()?;
        if let Some(folder) = &self.pins
            && generation > 0
        {
            for name in PER_GENERATION {
                for part in self.parts_of(name, generation)? {
                    let inner = self.inner_of(part, generation)?;
                    let pin = folder.join(part.pin());
                    if !same_map(&inner, &pin) {
                        tracing::info!(map = name, generation, "pinning anew what is in force");
                        let fresh = fresh_pin(folder, part);
                        pins::remove(&fresh)?;
                        bpf::pin(inner.fd(), &fresh).map_err(MapsError::bpf(name))?;
                        fs::rename(&fresh, &pin).map_err(failed("rename", &pin))?;
                    }
                    in_force.insert(part, inner);
                }
            }
            let pinned: BTreeSet<String> = in_force.keys().map(|part| part.pin()).collect();
            remove_pins(folder, |name| {
                !pinned.contains(name) && !name.ends_with(FRESH)
            })?;
        }
        // Not before: one of them may be the only pin of what is in force.
        self.remove_fresh();
        Ok(in_force)
    }
}

/// The slot of a generation.
const fn slot_of(generation: u64) -> usize {
    (generation & 1) as usize
}

fn fresh_pin(folder: &Path, part: Part) -> PathBuf {
    folder.join(format!("{}{FRESH}", part.pin()))
}

/// Removes the pins of a folder whose names are such.
fn remove_pins(folder: &Path, is_such: impl Fn(&str) -> bool) -> Result<(), PinError> {
    let names = pins::names(folder)?;
    names
        .iter()
        .filter(|name| is_such(name))
        .try_for_each(|name| pins::remove(&folder.join(name)).map(drop))
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
    bpf::map_info(map.fd())
        .is_ok_and(|info| bpf::open_pin(pin).is_ok_and(|pinned| is_map(pinned, info.id)))
}

/// Whether an open object is the map of this number.
fn is_map(object: impl AsFd, id: u32) -> bool {
    bpf::map_info(object).is_ok_and(|info| info.id == id)
}
