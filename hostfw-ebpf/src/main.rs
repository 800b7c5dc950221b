//! The programs, one for each hook. They only fetch what their hook knows and
//! give its answer; [`wire`] decides.
//!
//! Where XDP can be attached, `hostfw_xdp` sees incoming packets before
//! anything else, otherwise `hostfw_tc_in` does: both before DNAT.
//! `hostfw_tc_out` sees outgoing packets last, after SNAT. In between the two
//! of [`netfilter`] see them, after DNAT and routing.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod classify;
mod conntrack;
mod filter;
mod index;
mod judge;
mod known;
mod maps;
mod netfilter;
mod packet;
mod parse;
mod remember;
mod report;
mod search;
mod socket_buffer;
mod tally;
mod trial;
mod wire;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    helpers::generated::bpf_xdp_get_buff_len,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use aya_log_ebpf::debug;
use hostfw_common::verdict::{Direction, Verdict};

use crate::{
    packet::{MAX_OFFSET, Packet, Source as _},
    parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, VLAN_ID},
    wire::Hook,
};

/// Judges what comes in, natively in the driver or generically.
#[xdp(frags)]
fn hostfw_xdp(ctx: XdpContext) -> u32 {
    let packet = Packet::new(ctx.data(), ctx.data_end());
    let hook = Hook {
        direction: Direction::Ingress,
        interface: ctx.ingress_ifindex() as u32,
        forwarded: false,
        of_vlan: false,
        bytes: length(&ctx, &packet),
        short_of_stack: false,
    };
    let interface = hook.interface;
    let (reason, protocol) = wire::judge(hook, &packet, || None);
    debug!(
        &ctx,
        "xdp in: interface {} protocol {} reason {}", interface, protocol, reason as u8
    );
    match reason.verdict() {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
    }
}

/// The length of a frame, part of which may not be linear. Where an IP packet
/// right behind the link header ends in the linear part, that is taken for all of
/// the frame, and the helper is not called: no driver puts padding alone into
/// another piece.
#[inline(always)]
fn length(ctx: &XdpContext, packet: &Packet) -> u64 {
    /// Behind the two addresses.
    const ETHERTYPE: usize = 12;
    const LINK_HEADER: usize = 14;
    const IPV6_HEADER: usize = 40;
    let linear = ctx.data_end() - ctx.data();
    if let Some([ethertype, _, second, third]) = packet.read::<[[u8; 2]; 4]>(ETHERTYPE) {
        let end = match (u16::from_be_bytes(ethertype), u16::from_be_bytes(second)) {
            // 0: longer than the field can say.
            (ETHERTYPE_IPV4, total) if total != 0 => LINK_HEADER + usize::from(total),
            (ETHERTYPE_IPV6, _) => match u16::from_be_bytes(third) {
                0 => usize::MAX,
                payload => LINK_HEADER + IPV6_HEADER + usize::from(payload),
            },
            _ => usize::MAX,
        };
        if end <= linear {
            return linear as u64;
        }
    }
    // SAFETY: the context is the one that the kernel passed in.
    unsafe { bpf_xdp_get_buff_len(ctx.ctx) }
}

/// Judges what comes in where XDP cannot be attached.
#[classifier]
fn hostfw_tc_in(ctx: TcContext) -> i32 {
    tc(&ctx, Direction::Ingress)
}

/// Judges what the host sends, and records what it forwards.
#[classifier]
fn hostfw_tc_out(ctx: TcContext) -> i32 {
    tc(&ctx, Direction::Egress)
}

#[inline(always)]
fn tc(ctx: &TcContext, direction: Direction) -> i32 {
    let packet = Packet::new(ctx.data(), ctx.data_end());
    // SAFETY: the context is the one that the kernel passed in.
    let (interface, ingress_interface, tagged, tag) = unsafe {
        let skb = ctx.skb.skb;
        (
            (*skb).ifindex,
            (*skb).ingress_ifindex,
            (*skb).vlan_present != 0,
            (*skb).vlan_tci,
        )
    };
    let hook = Hook {
        direction,
        interface,
        // 0 means that the packet did not come in through any interface, so a
        // local process sent it (or the kernel itself).
        forwarded: matches!(direction, Direction::Egress) && ingress_interface != 0,
        of_vlan: tagged && tag & u32::from(VLAN_ID) != 0,
        bytes: u64::from(ctx.len()),
        short_of_stack: true,
    };
    let (reason, protocol) = wire::judge(hook, &packet, || pull(ctx));
    debug!(
        ctx,
        "tc: direction {} interface {} protocol {} reason {}",
        direction as u8,
        interface,
        protocol,
        reason as u8
    );
    match reason.verdict() {
        // Not OK: programs and filters behind this one have their say.
        Verdict::Pass => TC_ACT_UNSPEC,
        Verdict::Drop => TC_ACT_SHOT,
    }
}

/// Bytes of a packet that parsing can need: up to the last place where a header
/// may begin, and such a header.
const PULL_BYTES: u32 = MAX_OFFSET as u32 + 64;

/// Makes the beginning of a packet linear, if it is not: in a socket buffer the
/// headers may lie in pages that a program cannot read directly.
#[inline(always)]
fn pull(ctx: &TcContext) -> Option<Packet> {
    let linear = ctx.data_end() - ctx.data();
    let length = ctx.len();
    if linear >= length as usize || linear >= PULL_BYTES as usize {
        return None;
    }
    // If it fails, all is as before, but for the verifier: the old pointers are
    // void either way.
    let _ = ctx.pull_data(if length < PULL_BYTES {
        length
    } else {
        PULL_BYTES
    });
    Some(Packet::new(ctx.data(), ctx.data_end()))
}

/// Some of the helpers want a licence that is compatible with the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
