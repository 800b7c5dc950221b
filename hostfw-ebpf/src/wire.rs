//! The order of checks where packets cross the wire.
//!
//! 1. What is no IP packet, and what IPv6 cannot do without, passes.
//! 2. What cannot be parsed is dropped.
//! 3. A later fragment follows the first one.
//! 4. Untracked policy decides, or says nothing.
//! 5. Tunnels between nodes pass.
//! 6. Conntrack: established and related packets pass.
//! 7. Forwarded packets on their way out are recorded and pass: the forward
//!    hook has judged them.
//! 8. What comes in is judged by pre-DNAT policy, what the host sends by normal
//!    policy.

use hostfw_common::{
    counter::{Checkpoint, CounterBlock},
    endpoint::{FLAG_LEARNING, FLAG_NETFILTER, FLAG_NO_LINK_HEADER},
    stage::List,
    verdict::{Direction, Reason, Verdict},
};

use crate::{
    conntrack::{self, Opening, Tracked},
    judge,
    known::{Known, Work, known},
    maps::generation,
    packet::{Packet, Source as _},
    parse::{self, Fragment, Headers, Parsed},
    report::{self, Origin},
    trial,
};

/// What a hook knows of a packet without looking into it.
pub(crate) struct Hook {
    pub(crate) direction: Direction,
    /// The interface that the packet crosses.
    pub(crate) interface: u32,
    /// The packet came in through an interface and now goes out.
    pub(crate) forwarded: bool,
    /// The frame is of a VLAN, whose tag the kernel has taken off and keeps
    /// apart.
    pub(crate) of_vlan: bool,
    /// Length of the packet.
    pub(crate) bytes: u64,
    /// The program has no stack left for the parser, which is called then.
    pub(crate) short_of_stack: bool,
}

impl Hook {
    /// What a test run is to believe instead, if this is one.
    #[inline(always)]
    fn or_trial(self) -> Self {
        match trial::given() {
            None => self,
            Some(trial) => Self {
                interface: match self.direction {
                    Direction::Ingress => trial.in_interface,
                    Direction::Egress => trial.out_interface,
                },
                forwarded: matches!(self.direction, Direction::Egress) && trial.in_interface != 0,
                ..self
            },
        }
    }
}

/// Decides about a packet and counts it. Gives its protocol as well, 0 if that is
/// not known.
///
/// `pull` makes more bytes of the packet readable, if there are any.
#[inline(always)]
pub(crate) fn judge(
    hook: Hook,
    packet: &Packet,
    pull: impl Fn() -> Option<Packet>,
) -> (Reason, u8) {
    let hook = hook.or_trial();
    let generation = generation();
    let Some((known, work)) = known(generation, hook.interface, hook.direction) else {
        return (Reason::NoEndpoint, 0);
    };
    work.headers = Headers::empty(packet.veil());
    let reason = judge_governed(&hook, packet, work, pull, generation, known);
    let endpoint = &known.endpoint;
    let checkpoint = Checkpoint::wire(hook.direction);
    let reason = report::count(
        judge::observes(endpoint),
        checkpoint,
        reason,
        hook.bytes,
        &work.origin,
        &work.headers,
    );
    (reason, work.headers.protocol)
}

#[inline(always)]
fn judge_governed(
    hook: &Hook,
    packet: &Packet,
    work: &mut Work,
    pull: impl Fn() -> Option<Packet>,
    generation: u64,
    known: &Known,
) -> Reason {
    let endpoint = &known.endpoint;
    let Work { headers, origin } = work;
    if hook.of_vlan {
        return Reason::NotIp;
    }
    *origin = Origin {
        generation,
        interface: hook.interface,
        endpoint: endpoint.id,
        list: match hook.direction {
            Direction::Ingress => List::UntrackedIn,
            Direction::Egress => List::UntrackedOut,
        },
        at_netfilter: false,
        quiet: false,
        observes: judge::observes(endpoint),
        bytes: hook.bytes as u32,
        counters: CounterBlock::NONE,
        rule: 0,
    };
    let checkpoint = Checkpoint::wire(hook.direction);
    let link_header = endpoint.flags & FLAG_NO_LINK_HEADER == 0;
    let learning = endpoint.flags & FLAG_LEARNING != 0;
    let mut packet = *packet;
    let mut parsed = if hook.short_of_stack {
        parse::parse_apart(&packet, link_header, headers)
    } else {
        parse::parse(&packet, link_header, headers)
    };
    if matches!(parsed, Parsed::Truncated)
        && let Some(longer) = pull()
    {
        packet = longer;
        parsed = parse::parse_apart(&packet, link_header, headers);
    }
    match parsed {
        Parsed::Ip => {}
        Parsed::NotIp => return Reason::NotIp,
        Parsed::Truncated | Parsed::Malformed if learning => return Reason::Learning,
        Parsed::Truncated | Parsed::Malformed => return Reason::Undecodable,
    }
    if matches!(headers.fragment(), Fragment::Later) {
        return if hook.forwarded {
            Reason::Forwarded
        } else if learning {
            Reason::Learning
        } else if conntrack::follows_fragment(headers, checkpoint, conntrack::now()) {
            Reason::Fragment
        } else {
            Reason::OrphanFragment
        };
    }
    if judge::is_neighbour_discovery(headers) {
        return Reason::NeighbourDiscovery;
    }
    if conntrack::quotes(headers)
        && let Some(longer) = pull()
    {
        packet = longer;
    }
    let quoted = conntrack::quoted(&packet, headers, hook.direction, conntrack::now);
    let reason = wire_stages(hook, known, headers, origin, quoted);
    if matches!(headers.fragment(), Fragment::First) && matches!(reason.verdict(), Verdict::Pass) {
        conntrack::record_fragment(headers, checkpoint, conntrack::now());
    }
    reason
}

/// Judges a packet that has a transport header; `quoted` is what conntrack knows
/// of the flow that the packet quotes, if it does.
#[inline(always)]
fn wire_stages(
    hook: &Hook,
    known: &Known,
    headers: &Headers,
    origin: &mut Origin,
    quoted: Option<Tracked>,
) -> Reason {
    let endpoint = &known.endpoint;
    let &Hook {
        direction,
        forwarded,
        ..
    } = hook;
    let learning = endpoint.flags & FLAG_LEARNING != 0;
    let observes = judge::observes(endpoint) && !learning;
    // What a later hook may still drop is for that hook to record: otherwise
    // what the host sends would pass for an answer.
    let for_later = matches!(direction, Direction::Ingress)
        && !learning
        && endpoint.flags & FLAG_NETFILTER != 0;
    if !forwarded && !learning {
        let table = known.table(headers, origin.list);
        let reason = judge::untracked(endpoint, table, headers, origin);
        if reason != Reason::NoMatch {
            if observes && !for_later && matches!(reason.verdict(), Verdict::Drop) {
                conntrack::record(headers, direction, conntrack::now(), Opening::Denied);
            }
            return reason;
        }
        if judge::is_tunnel(endpoint, origin.generation, headers) {
            return Reason::Tunnel;
        }
    }
    let invalid = match conntrack::track(headers, quoted, direction) {
        Tracked::Established => return Reason::Established,
        Tracked::Related => return Reason::Related,
        Tracked::New => false,
        Tracked::Invalid => true,
        Tracked::Denied if observes => return Reason::Observed,
        // From before anything was enforced.
        Tracked::Denied => conntrack::quotes(headers),
    };
    let reason = if forwarded {
        Reason::Forwarded
    } else if learning {
        Reason::Learning
    } else {
        match direction {
            Direction::Ingress => {
                origin.list = List::PreDnat;
                let table = known.table(headers, origin.list);
                judge::pre_dnat(endpoint, table, headers, invalid, origin)
            }
            Direction::Egress => {
                origin.list = List::NormalOut;
                let table = known.table(headers, origin.list);
                judge::normal(endpoint, table, headers, invalid, origin)
            }
        }
    };
    let opening = match reason.verdict() {
        Verdict::Pass if forwarded && observes => Opening::Judged,
        Verdict::Pass => Opening::Allowed,
        Verdict::Drop if observes => Opening::Denied,
        Verdict::Drop => return reason,
    };
    if !invalid && !for_later {
        conntrack::record(headers, direction, conntrack::now(), opening);
    }
    reason
}
