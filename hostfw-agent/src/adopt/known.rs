//! The flows that the programs know, adopted ones among them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::maps::{HashMap, MapData};
use hostfw_common::{
    conntrack::{Address, FLOW_ANSWERED, Flow, FlowKey, Timeouts},
    names::{CONFIRMED, HALF_OPEN},
};

use super::flow::now;
use crate::{
    attach::{Dataplane, DataplaneError},
    maps::MapsError,
};

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

impl Dataplane {
    /// The flows that the programs know. While packets flow, one may be
    /// missing or be there twice.
    ///
    /// # Errors
    ///
    /// If a map cannot be read.
    pub fn flows(&self) -> Result<Vec<KnownFlow>, DataplaneError> {
        let mut found = Vec::new();
        for (map, name, confirmed) in [
            (&self.confirmed, CONFIRMED, true),
            (&self.half_open, HALF_OPEN, false),
        ] {
            read(map, name, confirmed, &self.options.timeouts, &mut found)?;
        }
        Ok(found)
    }
}

fn read(
    map: &HashMap<MapData, FlowKey, Flow>,
    name: &'static str,
    confirmed: bool,
    timeouts: &Timeouts,
    found: &mut Vec<KnownFlow>,
) -> Result<(), MapsError> {
    let now = now();
    // As many as the map can hold: an LRU map that changes meanwhile may send
    // its reader back to the beginning.
    for entry in map.iter().take(1 << 24) {
        let (key, flow) = match entry {
            Ok(entry) => entry,
            Err(aya::maps::MapError::KeyNotFound) => continue,
            Err(error) => return Err(MapsError::map(name)(error)),
        };
        let timeout = timeouts.of(flow.idle(key.protocol, confirmed));
        if flow.is_alive(timeout, now) {
            found.push(KnownFlow {
                key,
                flow,
                confirmed: confirmed || flow.state & FLOW_ANSWERED != 0,
            });
        }
    }
    Ok(())
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
