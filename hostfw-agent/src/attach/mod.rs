//! Loads programs, attaches them to interfaces, pins what must survive.
//!
//! Everything that judges packets is pinned or a filter, so it stays in force
//! when the agent goes, however it goes. A new agent finds the pinned maps,
//! loads its own programs on them, and puts these in the place of the old ones
//! by link update: no packet goes unjudged.

mod error;
mod flow_filter;
mod flow_tables;
mod hook;
mod interface;
mod links;
mod netfilter;
pub(crate) mod netlink;
mod object;
mod remove;
mod traffic_control;
mod trial;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
};

use aya::{
    Ebpf,
    maps::{HashMap, IterableMap as _, MapData, PerCpuArray, PerCpuHashMap, RingBuf},
    programs::Program,
};
use hostfw_common::{
    conntrack::{Flow, FlowKey, Timeouts},
    counter::{
        Checkpoint, Counter, CounterPage, Outcome, PAGE_COUNTERS, ReasonCounter, StagedKey, slot,
    },
    names::{CONFIRMED, COUNTERS, EVENTS, HALF_OPEN, LASTING, RULE_COUNTERS, STAGED},
    verdict::{Direction, Reason, Verdict},
};

pub use error::DataplaneError;
pub use flow_filter::FilterKeeper;
pub use flow_tables::{FlowTables, FlowTimeout, FlowTimeoutError};
pub use hook::{Attachment, Hook, HookKind, IngressChoice, TcChoice, UnknownChoice};
pub use netfilter::{BtfError, NetfilterChoice, NetfilterError};
pub use object::object;
pub use remove::{Removed, remove_all};
pub use trial::{TrialHook, TrialPrograms};

use crate::{
    compile::image::Image,
    maps::{Generations, Lock, MapSize, MapsError, bpf, pins, pins::Pins, size},
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
    /// Whether the netfilter hooks are used.
    pub netfilter: NetfilterChoice,
    /// What the programs log: 0 nothing, then as [`aya_log::Level`] numbers
    /// them, 1 errors to 5 everything.
    pub log_level: u8,
    /// How many flows are kept. Has no effect on maps that are pinned already:
    /// these keep their sizes, and with them their flows.
    pub tables: FlowTables,
    /// How long flows may be silent.
    pub timeouts: Timeouts,
    /// Whether the programs at the wire remember verdicts: without, each packet
    /// costs the search, which is what measurements are of.
    pub remember: bool,
}

impl Options {
    /// The defaults, with this pin root.
    #[must_use]
    pub fn new(pin_root: impl Into<PathBuf>) -> Self {
        Self {
            pin_root: pin_root.into(),
            ingress: IngressChoice::Auto,
            tc: TcChoice::Auto,
            netfilter: NetfilterChoice::Auto,
            log_level: 0,
            tables: FlowTables::for_this_machine(),
            timeouts: Timeouts::DEFAULT,
            remember: true,
        }
    }
}

/// The programs and maps in the kernel, and the right to change them.
pub struct Dataplane {
    options: Options,
    pins: Pins,
    ebpf: Ebpf,
    generations: Generations,
    pub(crate) half_open: HashMap<MapData, FlowKey, Flow>,
    pub(crate) confirmed: HashMap<MapData, FlowKey, Flow>,
    pub(crate) filter: FilterKeeper,
    counters: PerCpuArray<MapData, ReasonCounter>,
    staged: PerCpuHashMap<MapData, StagedKey, u64>,
    rule_counters: PerCpuArray<MapData, CounterPage>,
    /// Why an interface's hook is not the first choice.
    fallbacks: BTreeMap<(u32, Direction), String>,
    /// Interfaces that have a filter of ours: unlike links they are in no
    /// folder.
    filtered: BTreeSet<u32>,
    /// The programs of the netfilter hooks, or why there are none.
    netfilter: Result<netfilter::Programs, String>,
    /// This dataplane has attached them.
    netfilter_held: bool,
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
            staged,
            rule_counters,
            netfilter,
        } = object::load(options, object::Purpose::Enforce(&pins))?;
        let mut dataplane = Self {
            options: options.clone(),
            filter: FilterKeeper::open(&pins)?,
            pins,
            ebpf,
            generations,
            half_open,
            confirmed,
            counters,
            staged,
            rule_counters,
            fallbacks: BTreeMap::new(),
            filtered: BTreeSet::new(),
            netfilter: netfilter.map_err(|error| error.to_string()),
            netfilter_held: false,
            _lock: lock,
        };
        links::remove_stale(&dataplane.pins)?;
        netfilter::remove_fresh(&dataplane.pins);
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

    /// Puts an image in force as a whole, and returns its generation. Packets
    /// that are being judged on return may still be by the former one.
    ///
    /// # Errors
    ///
    /// If maps cannot be made or filled. The former image is in force then.
    pub fn switch(&mut self, image: &Image) -> Result<u64, DataplaneError> {
        Ok(self.generations.switch(image)?)
    }

    /// Where a lasting map is pinned.
    pub(crate) fn map_pin(&self, name: &str) -> PathBuf {
        self.pins.maps().join(name)
    }

    /// How long flows may be silent.
    pub(crate) const fn timeouts(&self) -> Timeouts {
        self.options.timeouts
    }

    /// Packets and bytes by checkpoint and reason, all CPUs together, since the
    /// maps were made. Those that never occurred are left out, and so are those
    /// of [`would_drop`](Self::would_drop).
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn counters(&self) -> Result<Vec<(Checkpoint, Reason, Counter)>, DataplaneError> {
        self.counters_of(Outcome::Enforced)
    }

    /// Like [`counters`](Self::counters), of packets that passed although there
    /// was a reason to drop them, for nothing was enforced.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn would_drop(&self) -> Result<Vec<(Checkpoint, Reason, Counter)>, DataplaneError> {
        self.counters_of(Outcome::Observed)
    }

    fn counters_of(
        &self,
        outcome: Outcome,
    ) -> Result<Vec<(Checkpoint, Reason, Counter)>, DataplaneError> {
        let sum = |values: &[ReasonCounter]| {
            let add = |sum: Counter, value: &ReasonCounter| Counter {
                packets: sum.packets.wrapping_add(value.decided.packets),
                bytes: sum.bytes.wrapping_add(value.decided.bytes),
            };
            let sum = values.iter().fold(Counter::default(), add);
            (sum.packets > 0).then_some(sum)
        };
        self.by_reason(outcome, sum)
    }

    /// Of the packets that were dropped, those that were not reported one by one, all
    /// CPUs together, since the maps were made. Reasons for which nothing was dropped
    /// are left out.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn hidden(&self) -> Result<Vec<(Checkpoint, Reason, u64)>, DataplaneError> {
        let mut hidden = self.by_reason(Outcome::Enforced, |values| {
            let dropped = values.iter().any(|value| value.decided.packets > 0);
            dropped.then(|| values.iter().map(|value| value.hidden).sum())
        })?;
        hidden.retain(|(_, reason, _)| matches!(reason.verdict(), Verdict::Drop));
        Ok(hidden)
    }

    /// What the values of all CPUs give for each checkpoint and reason.
    fn by_reason<T>(
        &self,
        outcome: Outcome,
        sum: impl Fn(&[ReasonCounter]) -> Option<T>,
    ) -> Result<Vec<(Checkpoint, Reason, T)>, DataplaneError> {
        let mut all = Vec::new();
        for checkpoint in Checkpoint::ALL {
            for reason in Reason::ALL {
                let values = self
                    .counters
                    .get(&slot(outcome, checkpoint, *reason), 0)
                    .map_err(MapsError::map(COUNTERS))?;
                if let Some(sum) = sum(&values) {
                    all.push((checkpoint, *reason, sum));
                }
            }
        }
        Ok(all)
    }

    /// Packets by rule of a staged policy, all CPUs together; of earlier
    /// generations, too, as long as nobody [forgets](Self::forget_staged) them.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn staged(&self) -> Result<Vec<(StagedKey, u64)>, DataplaneError> {
        let counts = self.staged.iter().map(|entry| {
            let (key, packets) = entry?;
            Ok((key, packets.iter().sum()))
        });
        let counts: Result<Vec<_>, aya::maps::MapError> = counts.collect();
        Ok(counts.map_err(MapsError::map(STAGED))?)
    }

    /// Forgets a count of packets: nothing may count there any more.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn forget_staged(&mut self, key: &StagedKey) -> Result<(), DataplaneError> {
        Ok(self.staged.remove(key).map_err(MapsError::map(STAGED))?)
    }

    /// What the counters of a page hold, all CPUs together.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn rule_counters(
        &self,
        page: u32,
    ) -> Result<[Counter; PAGE_COUNTERS as usize], DataplaneError> {
        let pages = self.rule_counters.get(&page, 0);
        let mut sum = [Counter::default(); PAGE_COUNTERS as usize];
        for page in pages.map_err(MapsError::map(RULE_COUNTERS))?.iter() {
            for (sum, counter) in sum.iter_mut().zip(&page.counters) {
                sum.packets = sum.packets.wrapping_add(counter.packets);
                sum.bytes = sum.bytes.wrapping_add(counter.bytes);
            }
        }
        Ok(sum)
    }

    /// Whether no packet is judged by a generation before the one in force any
    /// more. False if that is not known.
    pub fn is_settled(&mut self) -> bool {
        self.generations.is_settled()
    }

    /// What the maps take of the kernel's memory, each name once.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    pub fn map_sizes(&self) -> Result<Vec<MapSize>, DataplaneError> {
        let mut sizes = self.generations.sizes()?;
        for name in LASTING {
            let map = bpf::open_pin(&self.pins.maps().join(name)).map_err(MapsError::bpf(name))?;
            let bytes = size::bytes(map).map_err(|error| MapsError::Size { name, error })?;
            sizes.push(MapSize { name, bytes });
        }
        let name = RULE_COUNTERS;
        let bytes = size::bytes(self.rule_counters.map().fd());
        let bytes = bytes.map_err(|error| MapsError::Size { name, error })?;
        sizes.push(MapSize { name, bytes });
        Ok(sizes)
    }

    /// How many half-open and how many confirmed flows there is room for.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    pub fn flow_capacity(&self) -> Result<[u32; 2], DataplaneError> {
        let room = |name: &'static str| -> Result<u32, MapsError> {
            let map = bpf::open_pin(&self.map_pin(name)).and_then(bpf::map_info);
            Ok(map.map_err(MapsError::bpf(name))?.max_entries)
        };
        Ok([room(HALF_OPEN)?, room(CONFIRMED)?])
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
}

fn filter(
    ifindex: u32,
    direction: Direction,
) -> Result<Option<traffic_control::Filter>, DataplaneError> {
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
