//! The BPF object: its programs loaded, its maps found or made.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, Map, MapData, PerCpuArray, PerCpuHashMap},
    programs::{Program, ProgramError},
};
use hostfw_common::{
    conntrack::{Flow, FlowKey},
    counter::{CounterPage, ReasonCounter, StagedKey},
    names::{
        ACTIVE, CONFIRMED, COUNTERS, EVENTS, FLOW_FILTER, HALF_OPEN, LASTING, LAYOUT,
        PER_GENERATION, PROGRAM_TC_EGRESS, PROGRAM_TC_INGRESS, PROGRAM_XDP, REMEMBER,
        RULE_COUNTERS, STAGED, TIMEOUTS, TRIAL_MODE,
    },
};

use super::{
    DataplaneError, Options,
    netfilter::{Kernel, NetfilterChoice, NetfilterError, Programs},
};
use crate::maps::{Generations, MapsError, bpf, pins::Pins};

/// The object that the build script has built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/hostfw"));

/// The object that the programs come from (ELF), for who wants to take it apart.
#[must_use]
pub fn object() -> &'static [u8] {
    OBJECT
}

/// What [`load`] makes.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) generations: Generations,
    pub(super) half_open: HashMap<MapData, FlowKey, Flow>,
    pub(super) confirmed: HashMap<MapData, FlowKey, Flow>,
    pub(super) counters: PerCpuArray<MapData, ReasonCounter>,
    pub(super) staged: PerCpuHashMap<MapData, StagedKey, u64>,
    pub(super) rule_counters: PerCpuArray<MapData, CounterPage>,
    /// The programs of the netfilter hooks, or why there are none.
    pub(super) netfilter: Result<Programs, NetfilterError>,
}

/// What the programs are loaded for.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// To judge packets, on maps that are pinned in the folder.
    Enforce(&'a Pins),
    /// For test runs, on maps that nobody else has.
    Trial,
}

/// Loads the programs on the maps that are pinned, and makes and pins those
/// that are not. For trials no map is pinned.
pub(super) fn load(options: &Options, purpose: Purpose<'_>) -> Result<Loaded, DataplaneError> {
    let definitions =
        aya_obj::Object::parse(OBJECT).map_err(|error| DataplaneError::Parse(Box::new(error)))?;
    let kernel = match options.netfilter {
        NetfilterChoice::Auto => Kernel::read().map_err(NetfilterError::from),
        NetfilterChoice::Off => Err(NetfilterError::Off),
    };
    let layout = kernel
        .as_ref()
        .map(|kernel| kernel.layout)
        .unwrap_or_default();
    let trial = u8::from(matches!(purpose, Purpose::Trial));
    let remember = u8::from(options.remember);
    let mut loader = EbpfLoader::new();
    if let Purpose::Enforce(pins) = purpose {
        for name in LASTING.into_iter().chain(PER_GENERATION) {
            loader.map_pin_path(name, pins.maps().join(name));
        }
    }
    if let Purpose::Trial = purpose {
        // No image of a trial says where to count.
        loader.map_max_entries(RULE_COUNTERS, 1);
    }
    let mut ebpf = loader
        .map_max_entries(HALF_OPEN, options.tables.half_open)
        .map_max_entries(CONFIRMED, options.tables.confirmed)
        .map_max_entries(FLOW_FILTER, options.tables.filter_entries())
        .override_global(aya_log::LEVEL, &options.log_level, false)
        .override_global(LAYOUT, &layout, true)
        .override_global(TRIAL_MODE, &trial, true)
        .override_global(REMEMBER, &remember, true)
        .override_global(TIMEOUTS, &options.timeouts, true)
        .load(OBJECT)
        .map_err(|error| DataplaneError::Load(Box::new(error)))?;
    check_pinned(&ebpf, &definitions)?;
    for (name, wanted) in [
        (HALF_OPEN, options.tables.half_open),
        (CONFIRMED, options.tables.confirmed),
    ] {
        tell_size(&ebpf, name, wanted)?;
    }
    // Before any map is taken from `ebpf`: the instructions name maps by
    // descriptors, which must be open until the kernel has read them.
    for name in [PROGRAM_XDP, PROGRAM_TC_INGRESS, PROGRAM_TC_EGRESS] {
        let program = ebpf
            .program_mut(name)
            .ok_or(DataplaneError::MissingProgram(name))?;
        load_program(program).map_err(|error| DataplaneError::Program {
            name,
            error: Box::new(error),
        })?;
    }
    let btf = object_btf(definitions.clone());
    let netfilter =
        kernel.and_then(|kernel| Programs::load(definitions.clone(), &ebpf, btf.as_ref(), &kernel));
    let mut outer = BTreeMap::new();
    for name in PER_GENERATION {
        let Map::ArrayOfMaps(map) = take(&mut ebpf, name)? else {
            return Err(MapsError::Missing {
                name,
                expected: "an array of maps",
            }
            .into());
        };
        outer.insert(name, map);
    }
    let generations = Generations::new(
        take(&mut ebpf, ACTIVE)?,
        outer,
        &definitions,
        btf,
        match purpose {
            Purpose::Enforce(pins) => Some(pins.generation()),
            Purpose::Trial => None,
        },
    )?;
    Ok(Loaded {
        generations,
        half_open: HashMap::try_from(take(&mut ebpf, HALF_OPEN)?)
            .map_err(MapsError::map(HALF_OPEN))?,
        confirmed: HashMap::try_from(take(&mut ebpf, CONFIRMED)?)
            .map_err(MapsError::map(CONFIRMED))?,
        counters: PerCpuArray::try_from(take(&mut ebpf, COUNTERS)?)
            .map_err(MapsError::map(COUNTERS))?,
        staged: PerCpuHashMap::try_from(take(&mut ebpf, STAGED)?)
            .map_err(MapsError::map(STAGED))?,
        rule_counters: PerCpuArray::try_from(take(&mut ebpf, RULE_COUNTERS)?)
            .map_err(MapsError::map(RULE_COUNTERS))?,
        netfilter,
        ebpf,
    })
}

pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, MapsError> {
    ebpf.take_map(name).ok_or(MapsError::Missing {
        name,
        expected: "a map",
    })
}

fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    let load = || {
        if let Program::Xdp(program) = &mut *program {
            program.load()
        } else if let Program::SchedClassifier(program) = &mut *program {
            program.load()
        } else {
            Err(ProgramError::UnexpectedProgramType)
        }
    };
    bpf::unless_interrupted(load, |error| {
        matches!(error, ProgramError::LoadError { io_error, .. }
            if io_error.raw_os_error() == Some(libc::EAGAIN))
    })
}

/// The BTF of the object, for the maps and programs that aya does not load. Not
/// that of a map: a pinned map may have come with an older object, whose type
/// numbers are others.
fn object_btf(mut object: aya_obj::Object) -> Option<OwnedFd> {
    let features = aya::features().btf().ok_or("the kernel takes none");
    let btf = features
        .map_err(str::to_owned)
        .and_then(|features| {
            // The numbers of its types stay.
            let btf = object.fixup_and_sanitize_btf(features);
            btf.map_err(|error| error.to_string())
        })
        .and_then(|btf| btf.ok_or_else(|| "the object has none".to_owned()))
        .and_then(|btf| bpf::load_btf(&btf.to_bytes()).map_err(|error| error.to_string()));
    btf.inspect_err(|error| {
        tracing::warn!(%error, "maps are made without BTF: bpftool shows bytes");
    })
    .ok()
}

/// That maps which were pinned before are what the object declares. The ABI
/// version in the pin path says so; this holds it to its word.
fn check_pinned(ebpf: &Ebpf, definitions: &aya_obj::Object) -> Result<(), MapsError> {
    // The event buffer has no keys and values of its own.
    let checked = LASTING.into_iter().filter(|name| *name != EVENTS);
    for name in checked.chain(PER_GENERATION) {
        let missing = MapsError::Missing {
            name,
            expected: "a map",
        };
        let Some(definition) = definitions.maps.get(name) else {
            return Err(missing);
        };
        let Some(fd) = ebpf.map(name).and_then(map_fd) else {
            return Err(missing);
        };
        let info = bpf::map_info(fd).map_err(MapsError::bpf(name))?;
        for (field, expected, found) in [
            ("type", definition.map_type(), info.type_),
            ("key size", definition.key_size(), info.key_size),
            ("value size", definition.value_size(), info.value_size),
            ("flags", definition.map_flags(), info.map_flags),
        ] {
            if expected != found {
                return Err(MapsError::Incompatible {
                    name,
                    field,
                    expected,
                    found,
                });
            }
        }
    }
    Ok(())
}

/// Says so if a table of flows was pinned with another size than is wanted now:
/// it keeps that, for the flows in it go on.
fn tell_size(ebpf: &Ebpf, name: &'static str, wanted: u32) -> Result<(), MapsError> {
    if let Some(fd) = ebpf.map(name).and_then(map_fd) {
        let kept = bpf::map_info(fd).map_err(MapsError::bpf(name))?.max_entries;
        if kept != wanted {
            tracing::warn!(
                map = name,
                kept,
                wanted,
                "the flows that are known stay in a table of the old size; --detach gives it up"
            );
        }
    }
    Ok(())
}

/// The descriptor of a map of one of the kinds that the object declares.
pub(super) fn map_fd(map: &Map) -> Option<&aya::maps::MapFd> {
    if let Map::Array(data)
    | Map::ArrayOfMaps(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::PerCpuArray(data)
    | Map::PerCpuHashMap(data)
    | Map::PerCpuLruHashMap(data)
    | Map::RingBuf(data) = map
    {
        Some(data.fd())
    } else {
        None
    }
}
