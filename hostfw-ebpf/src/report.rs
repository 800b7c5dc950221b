//! What the programs tell user space: counters, and events one by one.

use hostfw_common::{
    counter::{self, Checkpoint},
    endpoint::EndpointId,
    event::Event,
    policy::RuleEntry,
    stage::List,
    verdict::Reason,
};

use crate::{
    maps::{COUNTERS, EVENTS},
    parse::Headers,
    trial,
};

/// Counts a packet.
#[inline(always)]
pub(crate) fn count(checkpoint: Checkpoint, reason: Reason, bytes: u64) {
    trial::counted(checkpoint, reason);
    if let Some(counter) = COUNTERS.get_ptr_mut(counter::slot(checkpoint, reason)) {
        // SAFETY: this CPU's own slot; programs at one hook do not interrupt
        // each other, and a count lost to another hook's does no harm.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += bytes;
        }
    }
}

/// Where a list of rules is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) generation: u64,
    pub(crate) now: u64,
    pub(crate) interface: u32,
    pub(crate) endpoint: EndpointId,
    pub(crate) list: List,
    /// An earlier hook has judged the same and told of it.
    pub(crate) quiet: bool,
}

/// Reports that a rule matched that has something to tell: one with action Log
/// or of a staged policy. Lost if nobody reads the ring buffer and it is full.
#[inline(always)]
pub(crate) fn rule(origin: &Origin, headers: &Headers, rule: &RuleEntry) {
    let Some(mut entry) = EVENTS.reserve(0) else {
        return;
    };
    let port = if headers.is_icmp() {
        [0; 2]
    } else {
        headers.source_port
    };
    entry.write(Event {
        time: origin.now,
        generation: origin.generation,
        interface: origin.interface,
        endpoint: origin.endpoint,
        rule: *rule,
        source: headers.source,
        destination: headers.destination,
        source_port: port,
        destination_port: headers.destination_port,
        protocol: headers.protocol,
        family: headers.family,
        direction: origin.list.direction() as u8,
        list: origin.list as u8,
        _pad: [0; 4],
    });
    entry.submit(0);
}
