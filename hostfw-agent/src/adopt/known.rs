//! The flows that the programs know, adopted ones among them, and what the
//! kernel knows of them besides.

use std::{
    collections::HashMap as Table,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use aya::maps::{HashMap, Map, MapData, MapError};
use hostfw_common::{
    conntrack::{Address, FLOW_ANSWERED, Flow, FlowKey, Timeouts},
    names::{CONFIRMED, HALF_OPEN},
};

use super::{
    conntrack::{self, Inside},
    flow::now,
    route::{Route, route},
};
use crate::{
    attach::{Dataplane, DataplaneError},
    maps::MapsError,
};

/// As many as either map can hold: an LRU map that changes meanwhile may send
/// its reader back to the beginning.
const MOST_READ: usize = 1 << 24;
/// Routes that are asked for at most: a question each, some ten microseconds.
const MOST_ROUTES: usize = 1 << 16;

/// A flow that the programs know and have not forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownFlow {
    /// Its tuple.
    pub key: FlowKey,
    /// Its state.
    pub flow: Flow,
    /// Whether both sides have sent in it.
    pub confirmed: bool,
}

/// What the kernel knows of a flow besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Index of the interface that leads to the other side, by routing.
    pub interface: Option<u32>,
    /// Address and port on the node's side, behind NAT.
    pub inside: Option<(IpAddr, u16)>,
    /// Whether that is the node itself.
    pub here: bool,
}

/// Reads flows on handles of its own, so that it can do so on any thread.
pub struct FlowReader {
    confirmed: HashMap<MapData, FlowKey, Flow>,
    half_open: HashMap<MapData, FlowKey, Flow>,
    timeouts: Timeouts,
}

impl Dataplane {
    /// What reads the flows that the programs know.
    ///
    /// # Errors
    ///
    /// If a map cannot be opened once more.
    pub fn flow_reader(&self) -> Result<FlowReader, DataplaneError> {
        let open = |name: &'static str| {
            let map = MapData::from_pin(self.map_pin(name)).map_err(MapsError::map(name))?;
            let map = HashMap::try_from(Map::LruHashMap(map)).map_err(MapsError::map(name))?;
            Ok::<_, DataplaneError>(map)
        };
        Ok(FlowReader {
            confirmed: open(CONFIRMED)?,
            half_open: open(HALF_OPEN)?,
            timeouts: self.timeouts(),
        })
    }
}

impl FlowReader {
    /// The flows, confirmed ones first. While packets flow, one may be missing
    /// or be there twice.
    ///
    /// # Errors
    ///
    /// If a map cannot be read.
    pub fn read(&self) -> Result<Vec<KnownFlow>, DataplaneError> {
        let mut found = Vec::new();
        for (map, name, confirmed) in [
            (&self.confirmed, CONFIRMED, true),
            (&self.half_open, HALF_OPEN, false),
        ] {
            read(map, name, confirmed, &self.timeouts, &mut found)?;
        }
        Ok(found)
    }

    /// How many flows are alive in [`HALF_OPEN`] and in [`CONFIRMED`], with the
    /// same reservation.
    ///
    /// # Errors
    ///
    /// If a map cannot be read.
    pub fn count(&self) -> Result<[u64; 2], DataplaneError> {
        let mut counts = [0; 2];
        let maps = [
            (&self.half_open, HALF_OPEN, false),
            (&self.confirmed, CONFIRMED, true),
        ];
        for (count, (map, name, confirmed)) in counts.iter_mut().zip(maps) {
            each(map, name, confirmed, &self.timeouts, |_| *count += 1)?;
        }
        Ok(counts)
    }
}

fn read(
    map: &HashMap<MapData, FlowKey, Flow>,
    name: &'static str,
    confirmed: bool,
    timeouts: &Timeouts,
    found: &mut Vec<KnownFlow>,
) -> Result<(), MapsError> {
    each(map, name, confirmed, timeouts, |flow| found.push(flow))
}

/// Calls back with every flow that is alive.
fn each(
    map: &HashMap<MapData, FlowKey, Flow>,
    name: &'static str,
    confirmed: bool,
    timeouts: &Timeouts,
    mut found: impl FnMut(KnownFlow),
) -> Result<(), MapsError> {
    let now = now();
    for entry in map.iter().take(MOST_READ) {
        let (key, flow) = match entry {
            Ok(entry) => entry,
            Err(MapError::KeyNotFound) => continue,
            Err(error) => return Err(MapsError::map(name)(error)),
        };
        let timeout = timeouts.of(flow.idle(key.protocol, confirmed));
        if flow.is_alive(timeout, now) {
            found(KnownFlow {
                key,
                flow,
                confirmed: confirmed || flow.state & FLOW_ANSWERED != 0,
            });
        }
    }
    Ok(())
}

/// What the kernel knows of flows besides: its conntrack table and its routes,
/// each asked for once.
pub struct Kernel {
    insides: Table<FlowKey, Inside>,
    routes: Table<IpAddr, Option<Route>>,
}

impl Kernel {
    /// Reads the conntrack table. Without one nothing is known of NAT.
    #[must_use]
    pub fn read() -> Self {
        let insides = conntrack::insides().unwrap_or_else(|error| {
            tracing::debug!(%error, "nf_conntrack: flows are told without their translation");
            Table::new()
        });
        Self {
            insides,
            routes: Table::new(),
        }
    }

    /// What is known of a flow.
    pub fn surroundings(&mut self, key: &FlowKey) -> Surroundings {
        let interface = match self.route(ip(key.remote)) {
            Some(Route::Out(interface)) => Some(interface),
            Some(Route::Here) | None => None,
        };
        let inside = self.insides.get(key).copied();
        let inside = inside.map(|(address, port)| (ip(address), u16::from_be_bytes(port)));
        let way = inside.and_then(|(address, _)| self.route(address));
        Surroundings {
            interface,
            // Without a way there, who that is remains unknown.
            inside: way.and(inside),
            here: way == Some(Route::Here),
        }
    }

    fn route(&mut self, to: IpAddr) -> Option<Route> {
        if let Some(known) = self.routes.get(&to) {
            return *known;
        }
        if self.routes.len() >= MOST_ROUTES {
            return None;
        }
        let found = route(to);
        self.routes.insert(to, found);
        found
    }
}

/// An address of a map: IPv4 if it is a mapped one.
#[must_use]
pub fn ip(address: Address) -> IpAddr {
    if address.is_mapped() {
        Ipv4Addr::from(address.v4()).into()
    } else {
        Ipv6Addr::from(address.bytes).into()
    }
}
