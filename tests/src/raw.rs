//! Packets that no socket would send, and whether they arrive.
//!
//! They are sent and received through raw sockets: what netfilter's input hook
//! lets through is seen there, whether or not anybody else takes it.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{
    packet::Packet,
    probe::Outcome,
    topology::{Family, Host, Topology},
};

/// A packet on its way from one host to another.
#[derive(Clone, Debug)]
pub struct Message {
    /// What it is, in words.
    pub name: String,
    /// Who sends it.
    pub from: Host,
    /// Who should get it.
    pub to: Host,
    /// The packet; of its IP header only addresses, protocol and hop limit are
    /// used.
    pub packet: Packet,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            from,
            to,
            packet,
        } = self;
        let family = if packet.source().is_ipv4() {
            "v4"
        } else {
            "v6"
        };
        f.pad(&format!("{family} {from} -> {to} {name}"))
    }
}

/// A message of both IP versions, made by the function from the addresses of
/// who sends and who should get it. At its end comes a number that no other
/// has, for the receiver to know it by.
pub fn both(
    name: &str,
    from: Host,
    to: Host,
    packet: impl Fn(IpAddr, IpAddr) -> Packet,
) -> [Message; 2] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Family::ALL.map(|family| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let packet = packet(from.address(family), to.address(family));
        Message {
            name: name.to_owned(),
            from,
            to,
            packet: packet.payload(&number.to_be_bytes()),
        }
    })
}

/// A UDP datagram from and to these ports, of both IP versions.
#[must_use]
pub fn udp(from: Host, to: Host, source: u16, destination: u16) -> [Message; 2] {
    let name = format!("{source} -> {destination}/udp by hand");
    both(&name, from, to, |here, there| {
        Packet::udp((here, source).into(), (there, destination).into())
    })
}

/// A TCP segment with these flags, from and to these ports, of both IP
/// versions.
#[must_use]
pub fn tcp(from: Host, to: Host, source: u16, destination: u16, flags: u8) -> [Message; 2] {
    let name = format!("{source} -> {destination}/tcp with flags {flags:#04x}");
    both(&name, from, to, |here, there| {
        Packet::tcp((here, source).into(), (there, destination).into(), flags)
    })
}

/// Sends all of them, and says of each whether it arrived: open or closed.
pub(crate) fn send_within(
    topology: &Topology,
    messages: &[&Message],
    patience: Duration,
) -> Result<Vec<Outcome>> {
    let mut waiting = Vec::new();
    for message in messages {
        let receiver = topology
            .namespace(message.to)
            .run(|| open(&message.packet))?
            .with_context(|| format!("raw socket of {}", message.to))?;
        waiting.push((message, receiver, false));
    }
    for message in messages {
        topology
            .namespace(message.from)
            .run(|| send(&message.packet))?
            .with_context(|| format!("sending {message}"))?;
    }
    let give_up = Instant::now() + patience;
    loop {
        // What has come by then counts, however late this thread looks.
        let over = Instant::now() >= give_up;
        for (message, receiver, arrived) in &mut waiting {
            *arrived = *arrived || received(receiver, &message.packet);
        }
        if over || waiting.iter().all(|(_, _, arrived)| *arrived) {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let outcome = |arrived| {
        if arrived {
            Outcome::Open
        } else {
            Outcome::Closed
        }
    };
    Ok(waiting
        .into_iter()
        .map(|(_, _, arrived)| outcome(arrived))
        .collect())
}

fn open(packet: &Packet) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(SocketAddr::new(packet.source(), 0)),
        Type::RAW,
        Some(Protocol::from(i32::from(packet.protocol()))),
    )?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn send(packet: &Packet) -> io::Result<()> {
    let socket = open(packet)?;
    if packet.source().is_ipv4() {
        socket.set_ttl_v4(packet.hops().into())?;
    } else {
        socket.set_unicast_hops_v6(packet.hops().into())?;
    }
    let destination = SockAddr::from(SocketAddr::new(packet.destination(), 0));
    match socket.send_to(&packet.transport(), &destination) {
        // So IPv6 says that a program dropped it on its way out.
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
        sent => sent.map(drop),
    }
}

/// Whether this is among what has come.
fn received(socket: &Socket, packet: &Packet) -> bool {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 2048];
    while let Ok(length) = socket.recv(&mut buffer) {
        let bytes: Vec<u8> = buffer[..length]
            .iter()
            // SAFETY: so many bytes were written by the call above.
            .map(|byte| unsafe { byte.assume_init() })
            .collect();
        // Raw sockets of IPv4 hand out the IP header too, those of IPv6 do not.
        let header = match bytes.first() {
            Some(first) if packet.source().is_ipv4() => usize::from(first & 0xf) * 4,
            Some(_) | None => 0,
        };
        if bytes.get(header..).is_some_and(|bytes| same(bytes, packet)) {
            return true;
        }
    }
    false
}

/// Whether these are the packet's, but for the checksum: masquerading changes
/// that together with the address.
fn same(bytes: &[u8], packet: &Packet) -> bool {
    let sent = packet.transport();
    let sum = packet.checksum_at().map(|at| at..at + 2);
    bytes.len() == sent.len()
        && (0..sent.len())
            .all(|at| bytes[at] == sent[at] || sum.as_ref().is_some_and(|sum| sum.contains(&at)))
}
