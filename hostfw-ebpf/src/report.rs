//! What the programs tell user space: counters, and events one by one.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use hostfw_common::{
    counter::{self, Checkpoint},
    endpoint::EndpointId,
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
#[repr(C)]
pub(crate) struct Origin {
    pub(crate) generation: u64,
    pub(crate) interface: u32,
    pub(crate) endpoint: EndpointId,
    pub(crate) list: List,
    /// Asked by a netfilter program, not by one at the wire.
    pub(crate) at_netfilter: bool,
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
    let event = entry.as_mut_ptr();
    // Field by field, since the stack has no room for an event.
    // SAFETY: the reserved bytes are those of an event, and all of them are
    // written.
    unsafe {
        // Exact, and to be had in all programs: events are rare.
        (*event).time = bpf_ktime_get_ns();
        (*event).generation = origin.generation;
        (*event).interface = origin.interface;
        (*event).endpoint = origin.endpoint;
        (*event).rule = *rule;
        (*event).source = *headers.source;
        (*event).destination = *headers.destination;
        (*event).source_port = if headers.is_icmp() {
            [0; 2]
        } else {
            headers.source_port
        };
        (*event).destination_port = headers.destination_port;
        (*event).protocol = headers.protocol;
        (*event).family = headers.family;
        (*event).direction = origin.list.direction() as u8;
        (*event).list = origin.list as u8;
        (*event)._pad = [0; 4];
    }
    entry.submit(0);
}
