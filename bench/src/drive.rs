//! Programs that make packets: from a counter, or from a table.
//!
//! A test run repeats one packet. So a program in front writes the next packet
//! over it and calls the one that is measured; with live frames, it sends the
//! packet instead. Both are a few instructions, written by hand.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use anyhow::{Context as _, Result};
use hostfw_bench::shapes::{FLOOD_BASE, FLOOD_FACTOR, FLOOD_MASK, FLOOD_PORTS, Packet};
use hostfw_tests::bpf::{
    ATTACH_XDP, F_XDP_HAS_FRAGS, PROG_TYPE_SCHED_CLS, PROG_TYPE_XDP, load, number,
};

use crate::{
    bpf::{self, Context, MAP_TYPE_ARRAY, MAP_TYPE_PROG_ARRAY, XDP_TX},
    template::{self, Template},
};

/// Entries of a table: a power of two.
pub(crate) const TABLE: usize = 1 << 16;

/// Where the packets come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// [`flood`](hostfw_bench::shapes::flood).
    Flood,
    /// These, again and again.
    Table(Vec<Packet>),
    /// [`flood_v6`](hostfw_bench::shapes::cidrs::flood_v6).
    FloodV6,
    /// IPv6 packets from these addresses, as a flood's else.
    TableV6(Vec<u128>),
}

/// What becomes of a packet that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// An XDP program gets it.
    Xdp,
    /// A TC program gets it.
    Tc,
    /// It is sent.
    Send,
}

/// A program that makes packets.
pub(crate) struct Driver {
    program: OwnedFd,
    next: Option<OwnedFd>,
    counter: OwnedFd,
    _table: Option<OwnedFd>,
    template: Vec<u8>,
    then: Then,
}

impl Driver {
    /// Makes packets from `source`, whose other bytes are those of `template`.
    pub(crate) fn new(source: &Source, then: Then, template: Template) -> Result<Self> {
        let counter = bpf::create_map(MAP_TYPE_ARRAY, 4, 8, 1).context("a counter")?;
        let next = match then {
            Then::Send => None,
            Then::Xdp | Then::Tc => {
                Some(bpf::create_map(MAP_TYPE_PROG_ARRAY, 4, 4, 1).context("a program array")?)
            }
        };
        let (bytes, table) = match source {
            Source::Flood => (template.v4(), None),
            Source::FloodV6 => (template.v6(), None),
            Source::Table(packets) => (template.v4_blank(), Some(table_v4(packets))),
            Source::TableV6(sources) => (template.v6(), Some(table_v6(sources))),
        };
        let table = table
            .map(|entries| -> io::Result<OwnedFd> {
                let map = bpf::create_map(MAP_TYPE_ARRAY, 4, entries.len() as u32, 1)?;
                bpf::set(&map, 0, &entries)?;
                Ok(map)
            })
            .transpose()
            .context("a table of packets")?;
        let mut asm = Assembler::default();
        asm.begin(then, bytes.len(), &counter);
        match (source, &table) {
            (Source::Flood, _) => asm.flood(&bytes),
            (Source::FloodV6, _) => asm.flood_v6(),
            (Source::Table(_), Some(table)) => asm.table(table, &bytes),
            (Source::TableV6(_), Some(table)) => asm.table_v6(table),
            (Source::Table(_) | Source::TableV6(_), None) => unreachable!("made above"),
        }
        asm.end(next.as_ref());
        let (kind, flags, attach) = match then {
            Then::Xdp | Then::Send => (PROG_TYPE_XDP, F_XDP_HAS_FRAGS, ATTACH_XDP),
            Then::Tc => (PROG_TYPE_SCHED_CLS, 0, 0),
        };
        let program = load(kind, flags, attach, &asm.0).context("a program that makes packets")?;
        Ok(Self {
            program,
            next,
            counter,
            _table: table,
            template: bytes,
            then,
        })
    }

    /// Goes back to the packet with this number.
    pub(crate) fn rewind(&self, counter: u32) -> Result<()> {
        bpf::set(&self.counter, 0, &u64::from(counter).to_ne_bytes()).context("rewinding")
    }

    /// Gives so many packets to a program, as if they came in through the
    /// interface (at XDP) or went out through it (at TC): the last answer, and
    /// nanoseconds for one.
    pub(crate) fn run(&self, program: impl AsFd, ifindex: u32, count: u32) -> Result<(u32, u32)> {
        let next = self.next.as_ref().context("made for sending")?;
        bpf::set(next, 0, &number(&program).to_ne_bytes()).context("a program to be called")?;
        let context = match self.then {
            Then::Tc => Context::TcOut(ifindex),
            Then::Xdp | Then::Send => Context::Xdp(ifindex),
        };
        bpf::test_run(&self.program, &self.template, context, count).context("a test run")
    }

    /// Sends so many packets out of the interface, which is of this thread's
    /// network namespace.
    pub(crate) fn send(&self, ifindex: u32, frames: u32) -> Result<()> {
        bpf::live_run(&self.program, &self.template, ifindex, frames).context("sending")
    }
}

const ENTRY_V4: usize = 16;
const ENTRY_V6: usize = 32;

/// Source, destination, ports, protocol, each as on the wire.
fn table_v4(packets: &[Packet]) -> Vec<u8> {
    let mut table = Vec::with_capacity(TABLE * ENTRY_V4);
    for packet in packets.iter().cycle().take(TABLE) {
        table.extend(packet.source.to_be_bytes());
        table.extend(packet.destination.to_be_bytes());
        table.extend(packet.source_port.to_be_bytes());
        table.extend(packet.destination_port.to_be_bytes());
        table.extend([packet.protocol.number(), 0, 0, 0]);
    }
    table
}

fn table_v6(sources: &[u128]) -> Vec<u8> {
    let mut table = Vec::with_capacity(TABLE * ENTRY_V6);
    for (number, source) in sources.iter().cycle().take(TABLE).enumerate() {
        table.extend(source.to_be_bytes());
        table.extend((number as u16).to_be_bytes());
        table.extend(FLOOD_PORTS.to_be_bytes());
        table.extend([0; 12]);
    }
    table
}

/// Instructions of BPF (Documentation/bpf/standardization/instruction-set.rst).
///
/// Registers: r2 the packet, r5 its number, r6 the context, r7 a map's value,
/// r0, r1, r8 and r9 whatever is at hand.
#[derive(Default)]
struct Assembler(Vec<u64>);

// Opcodes: class, size or operation, source.
const LOAD_8: u8 = 0x71;
const LOAD_32: u8 = 0x61;
const LOAD_64: u8 = 0x79;
const STORE_8: u8 = 0x73;
const STORE_16: u8 = 0x6b;
const STORE_32: u8 = 0x63;
const STORE_64: u8 = 0x7b;
const MOVE: u8 = 0xbf;
const MOVE_32: u8 = 0xbc;
const SET: u8 = 0xb7;
const ADD: u8 = 0x0f;
const ADD_TO: u8 = 0x07;
const AND_32: u8 = 0x54;
const OR_32: u8 = 0x44;
const OR_REGISTER_32: u8 = 0x4c;
const XOR_32: u8 = 0xa4;
const TIMES_32: u8 = 0x24;
const LEFT_32: u8 = 0x64;
const RIGHT_32: u8 = 0x74;
const LEFT: u8 = 0x67;
const TO_BE: u8 = 0xdc;
/// Not greater, unsigned.
const IF_AT_MOST: u8 = 0xbd;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const LOAD_IMMEDIATE: u8 = 0x18;
/// In place of the source register: the immediate is a map's descriptor, and
/// the map itself, or the value of its first entry, is meant.
const PSEUDO_MAP: u8 = 1;
const PSEUDO_MAP_VALUE: u8 = 2;
const TAIL_CALL: u32 = 12;

impl Assembler {
    fn op(&mut self, code: u8, to: u8, from: u8, offset: i16, immediate: u32) {
        self.0.push(
            u64::from(code)
                | u64::from(to) << 8
                | u64::from(from) << 12
                | u64::from(offset as u16) << 16
                | u64::from(immediate) << 32,
        );
    }

    fn map(&mut self, to: u8, pseudo: u8, map: &OwnedFd) {
        self.op(LOAD_IMMEDIATE, to, pseudo, 0, number(map));
        self.op(0, 0, 0, 0, 0);
    }

    /// Takes the next number, and leaves with 0 if the packet is too short.
    fn begin(&mut self, then: Then, length: usize, counter: &OwnedFd) {
        // struct xdp_md and struct __sk_buff: data, data_end.
        let (data, end) = match then {
            Then::Tc => (76, 80),
            Then::Xdp | Then::Send => (0, 4),
        };
        self.op(MOVE, 6, 1, 0, 0);
        self.op(LOAD_32, 2, 6, data, 0);
        self.op(LOAD_32, 3, 6, end, 0);
        self.op(MOVE, 4, 2, 0, 0);
        self.op(ADD_TO, 4, 0, 0, length as u32);
        self.op(SET, 0, 0, 0, 0);
        // Over the exit.
        self.op(IF_AT_MOST, 4, 3, 1, 0);
        self.op(EXIT, 0, 0, 0, 0);
        self.map(7, PSEUDO_MAP_VALUE, counter);
        self.op(LOAD_64, 5, 7, 0, 0);
        self.op(MOVE, 8, 5, 0, 0);
        self.op(ADD_TO, 8, 0, 0, 1);
        self.op(STORE_64, 7, 8, 0, 0);
    }

    /// Calls the next program or sends.
    fn end(&mut self, next: Option<&OwnedFd>) {
        match next {
            Some(next) => {
                self.op(MOVE, 1, 6, 0, 0);
                self.map(2, PSEUDO_MAP, next);
                self.op(SET, 3, 0, 0, 0);
                self.op(CALL, 0, 0, 0, TAIL_CALL);
                self.op(SET, 0, 0, 0, 0);
            }
            None => self.op(SET, 0, 0, 0, XDP_TX),
        }
        self.op(EXIT, 0, 0, 0, 0);
    }

    /// Adds both halves of a register to the sum in r0. Uses r1.
    fn sum(&mut self, from: u8) {
        self.op(MOVE_32, 1, from, 0, 0);
        self.op(AND_32, 1, 0, 0, 0xffff);
        self.op(ADD, 0, 1, 0, 0);
        self.op(MOVE_32, 1, from, 0, 0);
        self.op(RIGHT_32, 1, 0, 0, 16);
        self.op(ADD, 0, 1, 0, 0);
    }

    /// Writes the header checksum, of which r0 is the sum (RFC 1071). Words are
    /// summed as they lie in memory, which gives the sum as it is to lie there.
    fn checksum(&mut self) {
        for _ in 0..2 {
            self.op(MOVE_32, 1, 0, 0, 0);
            self.op(RIGHT_32, 1, 0, 0, 16);
            self.op(AND_32, 0, 0, 0, 0xffff);
            self.op(ADD, 0, 1, 0, 0);
        }
        self.op(XOR_32, 0, 0, 0, 0xffff);
        self.op(STORE_16, 2, 0, template::V4_CHECKSUM, 0);
    }

    /// r8: the product; ports from it, as `flood` has them.
    fn flood_ports(&mut self, at: i16) {
        self.op(MOVE_32, 9, 8, 0, 0);
        self.op(RIGHT_32, 9, 0, 0, 8);
        self.op(TO_BE, 9, 0, 0, 16);
        self.op(STORE_16, 2, 9, at, 0);
        self.op(MOVE_32, 9, 8, 0, 0);
        self.op(AND_32, 9, 0, 0, 0x0101_0101);
        for shift in [7, 14] {
            self.op(MOVE_32, 1, 9, 0, 0);
            self.op(RIGHT_32, 1, 0, 0, shift);
            self.op(OR_REGISTER_32, 9, 1, 0, 0);
        }
        self.op(AND_32, 9, 0, 0, 0xf);
        self.op(MOVE_32, 1, 8, 0, 0);
        self.op(RIGHT_32, 1, 0, 0, 30);
        self.op(LEFT_32, 1, 0, 0, 4);
        self.op(OR_REGISTER_32, 9, 1, 0, 0);
        self.op(MOVE_32, 1, 8, 0, 0);
        self.op(RIGHT_32, 1, 0, 0, 5);
        self.op(AND_32, 1, 0, 0, 0xff);
        self.op(LEFT_32, 1, 0, 0, 6);
        self.op(OR_REGISTER_32, 9, 1, 0, 0);
        self.op(OR_32, 9, 0, 0, u32::from(FLOOD_PORTS));
        self.op(TO_BE, 9, 0, 0, 16);
        self.op(STORE_16, 2, 9, at + 2, 0);
    }

    fn product(&mut self) {
        self.op(MOVE_32, 8, 5, 0, 0);
        self.op(TIMES_32, 8, 0, 0, FLOOD_FACTOR);
    }

    fn flood(&mut self, bytes: &[u8]) {
        self.product();
        self.flood_ports(template::V4_PORTS);
        self.op(AND_32, 8, 0, 0, FLOOD_MASK);
        self.op(OR_32, 8, 0, 0, FLOOD_BASE);
        self.op(TO_BE, 8, 0, 0, 32);
        self.op(STORE_32, 2, 8, template::V4_SOURCE, 0);
        // The template's own source is 0.
        self.op(SET, 0, 0, 0, template::header_sum(bytes));
        self.sum(8);
        self.checksum();
    }

    fn flood_v6(&mut self) {
        self.product();
        self.flood_ports(template::V6_PORTS);
        // 2001, four octets, four octets, one of zero, four octets, one.
        self.op(MOVE_32, 9, 8, 0, 0);
        self.op(AND_32, 9, 0, 0, 0x7f7f_7f7f);
        self.op(LEFT_32, 9, 0, 0, 1);
        self.op(TO_BE, 9, 0, 0, 32);
        self.op(STORE_32, 2, 9, template::V6_SOURCE + 2, 0);
        self.op(STORE_32, 2, 9, template::V6_SOURCE + 11, 0);
        self.op(RIGHT_32, 8, 0, 0, 7);
        self.op(AND_32, 8, 0, 0, 0x0101_0101);
        self.op(LEFT_32, 8, 0, 0, 1);
        self.op(TO_BE, 8, 0, 0, 32);
        self.op(STORE_32, 2, 8, template::V6_SOURCE + 6, 0);
    }

    /// r7: the packet's entry.
    fn entry(&mut self, table: &OwnedFd, size: usize) {
        self.op(AND_32, 5, 0, 0, TABLE as u32 - 1);
        self.op(LEFT, 5, 0, 0, size.trailing_zeros());
        self.map(7, PSEUDO_MAP_VALUE, table);
        self.op(ADD, 7, 5, 0, 0);
    }

    fn table(&mut self, table: &OwnedFd, bytes: &[u8]) {
        self.entry(table, ENTRY_V4);
        self.op(SET, 0, 0, 0, template::header_sum(bytes));
        for (from, to) in [(0, template::V4_SOURCE), (4, template::V4_SOURCE + 4)] {
            self.op(LOAD_32, 8, 7, from, 0);
            self.op(STORE_32, 2, 8, to, 0);
            self.sum(8);
        }
        self.op(LOAD_32, 8, 7, 8, 0);
        self.op(STORE_32, 2, 8, template::V4_PORTS, 0);
        self.op(LOAD_8, 8, 7, 12, 0);
        self.op(STORE_8, 2, 8, template::V4_PROTOCOL, 0);
        // The second octet of its word.
        self.op(
            LEFT_32,
            8,
            0,
            0,
            if cfg!(target_endian = "little") { 8 } else { 0 },
        );
        self.op(ADD, 0, 8, 0, 0);
        self.checksum();
    }

    fn table_v6(&mut self, table: &OwnedFd) {
        self.entry(table, ENTRY_V6);
        for part in 0..4 {
            self.op(LOAD_32, 8, 7, part * 4, 0);
            self.op(STORE_32, 2, 8, template::V6_SOURCE + part * 4, 0);
        }
        self.op(LOAD_32, 8, 7, 16, 0);
        self.op(STORE_32, 2, 8, template::V6_PORTS, 0);
    }
}
