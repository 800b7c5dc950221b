//! Loads programs, attaches them to interfaces, pins what must survive.
//!
//! Everything that judges packets is pinned or a filter, so it stays in force
//! when the agent goes, however it goes. A new agent finds the pinned maps,
//! loads its own programs on them, and puts these in the place of the old ones
//! by link update: no packet goes unjudged.

mod hook;
mod links;
pub(crate) mod netlink;
mod object;
mod traffic_control;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    maps::{HashMap, MapData, PerCpuArray, RingBuf},
    programs::{Program, ProgramFd},
};
use hostfw_common::{
    conntrack::{Flow, FlowKey},
    counter::{Counter, slot},
    limits,
    names::{COUNTERS, EVENTS, PROGRAM_TC_EGRESS, PROGRAM_TC_INGRESS, PROGRAM_XDP},
    verdict::{Direction, Reason},
};

pub use hook::{Attachment, Hook, HookKind, IngressChoice, TcChoice, UnknownChoice};

use self::hook::candidates;
use crate::{
    compile::image::Image,
    maps::{Generations, Lock, LockError, MapsError, PinError, bpf, pins, pins::Pins},
    model::Interface,
};

/// How the dataplane is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Folder on bpffs for what must survive the agent.
    pub pin_root: PathBuf,
    /// Which hook judges incoming packets.
    pub ingress: IngressChoice,
    /// How programs are attached at TC.
    pub tc: TcChoice,
    /// What the programs log: 0 nothing, then as [`aya_log::Level`] numbers
    /// them, 1 errors to 5 everything.
    pub log_level: u8,
    /// Unanswered flows kept. Has no effect on a map that is pinned already.
    pub half_open: u32,
    /// Answered flows kept. Has no effect on a map that is pinned already.
    pub confirmed: u32,
}

impl Options {
    /// The defaults, with this pin root.
    #[must_use]
    pub fn new(pin_root: impl Into<PathBuf>) -> Self {
        Self {
            pin_root: pin_root.into(),
            ingress: IngressChoice::Auto,
            tc: TcChoice::Auto,
            log_level: 0,
            half_open: limits::HALF_OPEN_FLOWS,
            confirmed: limits::CONFIRMED_FLOWS,
        }
    }
}

/// Why the dataplane could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The pin root cannot be used.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// Another agent uses the pin root.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Maps could not be made, filled or switched.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// The BPF object could not be loaded.
    #[error("BPF object: {0}")]
    Load(#[source] Box<aya::EbpfError>),
    /// The definitions of the BPF object could not be read. A defect of the
    /// build.
    #[error("BPF object: {0}")]
    Parse(#[source] Box<aya_obj::ParseError>),
    /// The object lacks a program. A defect of the build.
    #[error("program {0}: expected in the BPF object, found none")]
    MissingProgram(&'static str),
    /// The kernel refused a program.
    #[error("program {name}: {error}")]
    Program {
        /// Name of the program.
        name: &'static str,
        /// What aya said, with the verifier's log.
        #[source]
        error: Box<aya::programs::ProgramError>,
    },
    /// No hook could be used.
    #[error("interface {interface} ({ifindex}): no hook for {direction:?}: {tried}")]
    Attach {
        /// Name of the interface.
        interface: String,
        /// Its index.
        ifindex: u32,
        /// Which packets.
        direction: Direction,
        /// Each hook that was tried, and what was wrong with it.
        tried: String,
    },
    /// The kernel refused something else about an interface.
    #[error("cannot {action} interface {ifindex}: {error}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// Interface index.
        ifindex: u32,
        /// What the kernel said.
        error: String,
    },
    /// The kernel did not say which interfaces there are.
    #[error("cannot list interfaces: {0}")]
    Interfaces(#[source] std::io::Error),
    /// The kernel's own tables of flows could not be read.
    #[error("cannot read {table}: {error}")]
    Adopt {
        /// Which table.
        table: &'static str,
        /// What the kernel said.
        #[source]
        error: std::io::Error,
    },
}

/// What [`remove_all`] took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Links, which held a program each.
    pub links: usize,
    /// Filters on clsact.
    pub filters: usize,
    /// Pinned maps.
    pub maps: usize,
}

/// The programs and maps in the kernel, and the right to change them.
pub struct Dataplane {
    options: Options,
    pins: Pins,
    ebpf: Ebpf,
    generations: Generations,
    pub(crate) half_open: HashMap<MapData, FlowKey, Flow>,
    pub(crate) confirmed: HashMap<MapData, FlowKey, Flow>,
    counters: PerCpuArray<MapData, Counter>,
    /// Why an interface's hook is not the first choice.
    fallbacks: BTreeMap<(u32, Direction), String>,
    /// Interfaces that have a filter of ours: unlike links they are in no
    /// folder.
    filtered: BTreeSet<u32>,
    _lock: Lock,
}

impl fmt::Debug for Dataplane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataplane")
            .field("options", &self.options)
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

impl Dataplane {
    /// Loads the programs on the maps that are pinned, or on new ones, which
    /// it pins. Attaches nothing: what an earlier agent has attached goes on
    /// judging.
    ///
    /// # Errors
    ///
    /// If another agent uses the pin root, it is not on bpffs, or the kernel
    /// refuses the programs.
    pub fn open(options: &Options) -> Result<Self, DataplaneError> {
        pins::prepare(&options.pin_root)?;
        let lock = Lock::take(&options.pin_root)?;
        let pins = Pins::new(&options.pin_root);
        pins.create()?;
        raise_memlock();
        let object::Loaded {
            ebpf,
            generations,
            half_open,
            confirmed,
            counters,
        } = object::load(options, &pins)?;
        let mut dataplane = Self {
            options: options.clone(),
            pins,
            ebpf,
            generations,
            half_open,
            confirmed,
            counters,
            fallbacks: BTreeMap::new(),
            filtered: BTreeSet::new(),
            _lock: lock,
        };
        links::remove_stale(&dataplane.pins)?;
        for ifindex in traffic_control::interfaces().map_err(DataplaneError::Interfaces)? {
            for direction in Direction::ALL {
                if filter(ifindex, direction)?.is_some() {
                    dataplane.filtered.insert(ifindex);
                }
            }
        }
        Ok(dataplane)
    }

    /// The generation in force; 0 if there is none yet.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generations.number().unwrap_or_else(|error| {
            tracing::error!(%error, "the generation in force cannot be read");
            0
        })
    }

    /// Puts an image in force as a whole, and returns its generation. On
    /// return no packet is judged by the former one any more.
    ///
    /// # Errors
    ///
    /// If maps cannot be made or filled. The former image is in force then.
    pub fn switch(&mut self, image: &Image) -> Result<u64, DataplaneError> {
        Ok(self.generations.switch(image)?)
    }

    /// Whether programs judge both directions of the interface on the maps of
    /// this dataplane, be it those of an earlier agent.
    #[must_use]
    pub fn is_attached(&self, ifindex: u32) -> bool {
        Direction::ALL.into_iter().all(|direction| {
            links::current(std::slice::from_ref(&self.pins), ifindex, direction)
                .inspect_err(|error| tracing::warn!(%error, "taken as not attached"))
                .is_ok_and(|current| current.is_some())
        })
    }

    /// Has this agent's programs judge both directions of the interface. In
    /// place of an earlier agent's, if there are: without a gap. Does nothing
    /// if it is so already.
    ///
    /// # Errors
    ///
    /// If no hook can be used. What judged before does so still.
    pub fn attach(&mut self, interface: &Interface) -> Result<Attachment, DataplaneError> {
        links::remove_stale(&self.pins)?;
        let fresh = !self.is_attached(interface.index);
        let egress = self.hook(interface, Direction::Egress)?;
        let ingress = match self.hook(interface, Direction::Ingress) {
            Ok(ingress) => ingress,
            Err(error) => {
                // Half an attachment would be none that anybody asked for.
                if fresh && let Err(error) = self.detach(interface.index) {
                    tracing::warn!(%error, "a hook stays behind");
                }
                return Err(error);
            }
        };
        if ingress.kind == HookKind::Clsact || egress.kind == HookKind::Clsact {
            self.filtered.insert(interface.index);
        }
        self.retire_older_versions()?;
        Ok(Attachment {
            ifindex: interface.index,
            ingress,
            egress,
        })
    }

    /// Takes the programs off an interface. Nothing judges its packets then.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to. That there is nothing, or no such interface,
    /// is no error.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        for direction in Direction::ALL {
            // More than one if an agent was killed while it changed hooks.
            while let Some(current) = self.current(ifindex, direction)? {
                links::remove(current, ifindex, direction)?;
            }
            self.fallbacks.remove(&(ifindex, direction));
        }
        self.filtered.remove(&ifindex);
        links::remove_stale(&self.pins)?;
        Ok(())
    }

    /// The interfaces both of whose directions are judged, by index.
    ///
    /// # Errors
    ///
    /// If the kernel or bpffs cannot be asked.
    pub fn attachments(&self) -> Result<Vec<Attachment>, DataplaneError> {
        let mut indices = self.filtered.clone();
        indices.extend(links::pinned_interfaces(&self.pins)?);
        let mut attachments = Vec::new();
        for ifindex in indices {
            let ingress = self.current(ifindex, Direction::Ingress)?;
            let egress = self.current(ifindex, Direction::Egress)?;
            if let (Some(ingress), Some(egress)) = (ingress, egress) {
                attachments.push(Attachment {
                    ifindex,
                    ingress: self.described(ifindex, Direction::Ingress, ingress.kind),
                    egress: self.described(ifindex, Direction::Egress, egress.kind),
                });
            }
        }
        Ok(attachments)
    }

    /// The interfaces whose packets the generation in force judges, whether
    /// programs are attached to them or not: those that learn are left out.
    ///
    /// # Errors
    ///
    /// If the map of endpoints cannot be read.
    pub fn judged(&self) -> Result<BTreeSet<u32>, DataplaneError> {
        Ok(self.generations.judged()?)
    }

    /// Packets and bytes by direction and reason, all CPUs together, since the
    /// maps were made. Those that never occurred are left out.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn counters(&self) -> Result<Vec<(Direction, Reason, Counter)>, DataplaneError> {
        let mut all = Vec::new();
        for direction in Direction::ALL {
            for reason in Reason::ALL {
                let values = self
                    .counters
                    .get(&slot(direction, *reason), 0)
                    .map_err(MapsError::map(COUNTERS))?;
                let sum = values
                    .iter()
                    .fold(Counter::default(), |sum, value| Counter {
                        packets: sum.packets.wrapping_add(value.packets),
                        bytes: sum.bytes.wrapping_add(value.bytes),
                    });
                if sum.packets > 0 {
                    all.push((direction, *reason, sum));
                }
            }
        }
        Ok(all)
    }

    /// The ring buffer of [`Event`](hostfw_common::event::Event)s; `None` when
    /// it is taken already.
    ///
    /// # Errors
    ///
    /// If the map is no ring buffer.
    pub fn take_events(&mut self) -> Result<Option<RingBuf<MapData>>, DataplaneError> {
        self.ebpf
            .take_map(EVENTS)
            .map(RingBuf::try_from)
            .transpose()
            .map_err(MapsError::map(EVENTS))
            .map_err(DataplaneError::from)
    }

    /// What the programs log, to be read with
    /// [`flush`](aya_log::EbpfLogger::flush) and written through the `log`
    /// crate. `None` if they log nothing.
    pub fn take_log(&mut self) -> Option<aya_log::EbpfLogger<&'static dyn log::Log>> {
        if self.options.log_level == 0 {
            return None;
        }
        aya_log::EbpfLogger::init(&mut self.ebpf)
            .inspect_err(|error| tracing::warn!(%error, "the programs' log cannot be read"))
            .ok()
    }

    /// A loaded program, by one of [`names`](hostfw_common::names)'
    /// `PROGRAM_*`: for tests and measurements that run it on packets of their
    /// own.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.ebpf.program(name)
    }

    /// Own version's folder first, then those of others.
    fn folders(&self) -> Result<Vec<Pins>, DataplaneError> {
        let mut folders = vec![self.pins.clone()];
        folders.extend(
            Pins::every(&self.options.pin_root)?
                .into_iter()
                .filter(|folder| *folder != self.pins),
        );
        Ok(folders)
    }

    fn current(
        &self,
        ifindex: u32,
        direction: Direction,
    ) -> Result<Option<links::Current>, DataplaneError> {
        links::current(&self.folders()?, ifindex, direction)
    }

    fn program_for(
        &self,
        kind: HookKind,
        direction: Direction,
    ) -> Result<(&'static str, &ProgramFd), DataplaneError> {
        let name = match (direction, kind.is_xdp()) {
            (Direction::Ingress, true) => PROGRAM_XDP,
            (Direction::Ingress, false) => PROGRAM_TC_INGRESS,
            (Direction::Egress, _) => PROGRAM_TC_EGRESS,
        };
        let program = self
            .ebpf
            .program(name)
            .ok_or(DataplaneError::MissingProgram(name))?;
        let fd = program.fd().map_err(|error| DataplaneError::Program {
            name,
            error: Box::new(error),
        })?;
        Ok((name, fd))
    }

    fn described(&self, ifindex: u32, direction: Direction, kind: HookKind) -> Hook {
        Hook {
            kind,
            fallback: self.fallbacks.get(&(ifindex, direction)).cloned(),
        }
    }

    /// Brings one direction of an interface to this agent's program.
    fn hook(
        &mut self,
        interface: &Interface,
        direction: Direction,
    ) -> Result<Hook, DataplaneError> {
        let ifindex = interface.index;
        let wanted = candidates(
            direction,
            self.options.ingress,
            self.options.tc,
            interface.link_header,
        );
        let mut tried = Vec::new();
        let mut old = self.current(ifindex, direction)?;
        if let Some(current) = &old
            && wanted.contains(&current.kind)
        {
            let kind = current.kind;
            match self.take_over(current, ifindex, direction)? {
                Ok(()) => {
                    if wanted.first() != Some(&kind) {
                        self.fallbacks
                            .entry((ifindex, direction))
                            .or_insert_with(|| "as an earlier agent has attached it".to_owned());
                    }
                    return Ok(self.described(ifindex, direction, kind));
                }
                Err(error) => tried.push(format!("take-over of {kind}: {error}")),
            }
        }
        for kind in wanted {
            let program = self.program_for(kind, direction)?;
            // An interface runs XDP in one mode at a time, so the other one
            // must go first; meanwhile TC judges.
            let mut bridge = None;
            let other_mode = old.take_if(|old| old.kind.is_xdp() && kind.is_xdp());
            let before = other_mode.as_ref().map(|old| old.kind);
            if let Some(old) = other_mode {
                let (_, tc) = self.program_for(HookKind::Tcx, direction)?;
                bridge = links::bridge(ifindex, tc);
                links::remove(old, ifindex, direction)?;
            }
            let result = links::attach(kind, &self.pins, ifindex, direction, program);
            if let (Err(_), Some(before)) = (&result, before) {
                links::attach(before, &self.pins, ifindex, direction, program).map_err(
                    |error| DataplaneError::Kernel {
                        action: "restore XDP on",
                        ifindex,
                        error,
                    },
                )?;
                old = self.current(ifindex, direction)?;
            }
            drop(bridge);
            match result {
                Ok(()) => {
                    if let Some(old) = old {
                        links::retire(old, ifindex, direction, &self.pins)?;
                    }
                    if tried.is_empty() {
                        self.fallbacks.remove(&(ifindex, direction));
                    } else {
                        self.fallbacks
                            .insert((ifindex, direction), tried.join("; "));
                    }
                    tracing::info!(
                        interface = interface.name,
                        ifindex,
                        ?direction,
                        hook = %kind,
                        "attached"
                    );
                    return Ok(self.described(ifindex, direction, kind));
                }
                Err(error) => tried.push(format!("{kind}: {error}")),
            }
        }
        Err(DataplaneError::Attach {
            interface: interface.name.clone(),
            ifindex,
            direction,
            tried: tried.join("; "),
        })
    }

    /// The inner result: whether the kernel took the new program.
    fn take_over(
        &self,
        current: &links::Current,
        ifindex: u32,
        direction: Direction,
    ) -> Result<Result<(), String>, DataplaneError> {
        let (name, fd) = self.program_for(current.kind, direction)?;
        let own = bpf::program_info(fd).map_err(|error| DataplaneError::Kernel {
            action: "look at the program for",
            ifindex,
            error: error.to_string(),
        })?;
        if current.program == own.id {
            return Ok(Ok(()));
        }
        Ok(links::replace(
            current,
            &self.pins,
            ifindex,
            direction,
            (name, fd),
        ))
    }

    /// Removes the maps of versions none of whose links is left.
    fn retire_older_versions(&self) -> Result<(), DataplaneError> {
        for folder in self.folders()?.into_iter().skip(1) {
            links::remove_stale(&folder)?;
            if links::pinned_interfaces(&folder)?.is_empty() {
                folder.remove_all()?;
            }
        }
        Ok(())
    }
}

fn filter(ifindex: u32, direction: Direction) -> Result<Option<u32>, DataplaneError> {
    traffic_control::filter(ifindex, direction).map_err(|error| DataplaneError::Kernel {
        action: "look at the filters of",
        ifindex,
        error: error.to_string(),
    })
}

/// Before Linux 5.11 maps count against RLIMIT_MEMLOCK, whose default is far
/// below what they need. Later it has no effect.
fn raise_memlock() {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: a valid struct that outlives the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) } != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "RLIMIT_MEMLOCK stays");
    }
}

/// Removes everything that agents of any version have put in place below the
/// pin root: programs, filters, maps, and the folder itself. Filters are
/// removed in the network namespace of the caller.
///
/// # Errors
///
/// If an agent still uses the pin root, or the kernel refuses something.
pub fn remove_all(pin_root: &Path) -> Result<Removed, DataplaneError> {
    let mut removed = Removed::default();
    let mut lock = None;
    if pin_root.exists() {
        if !pins::on_bpffs(pin_root)? {
            return Err(PinError::NotBpffs(pin_root.to_path_buf()).into());
        }
        lock = Some(Lock::take(pin_root)?);
    }
    for ifindex in traffic_control::interfaces().map_err(DataplaneError::Interfaces)? {
        for direction in Direction::ALL {
            let was_there =
                traffic_control::remove_filter(ifindex, direction).map_err(|error| {
                    DataplaneError::Kernel {
                        action: "remove the filter of",
                        ifindex,
                        error: error.to_string(),
                    }
                })?;
            removed.filters += usize::from(was_there);
        }
    }
    if lock.is_none() {
        return Ok(removed);
    }
    for folder in Pins::every(pin_root)? {
        removed.links += links::remove_all(&folder)?;
        for maps in [folder.maps(), folder.generation()] {
            removed.maps += pins::names(&maps)?.len();
        }
        folder.remove_all()?;
    }
    std::fs::remove_dir(pin_root).map_err(pins::failed("remove", pin_root))?;
    Ok(removed)
}
