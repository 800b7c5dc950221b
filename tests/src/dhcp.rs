//! What DHCPv4 puts on the wire while a client has no address yet (RFC 2131
//! section 4.1), without what the messages say.

use std::{
    io,
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    expectations::Expectation,
    insist::ROUNDS,
    packet::{Packet, checksum},
    probe::{Outcome, PATIENCE},
    topology::{Host, Topology},
};

const SERVER: u16 = 67;
const CLIENT: u16 = 68;

/// What became of a client's request and of a server's answer, which is sent
/// whether or not the request has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// From nowhere to everybody, as no socket but a raw one would send it.
    pub request: Outcome,
    /// From the server to everybody.
    pub answer: Outcome,
}

/// Has a node be the client and the router the server. What is expected to
/// come and does not is sent again.
///
/// # Errors
///
/// If a socket cannot be had, or sending fails.
pub fn exchange(topology: &Topology, node: Host, expected: Expectation) -> Result<Exchange> {
    let mut patience = PATIENCE;
    for _ in 1..ROUNDS {
        let found = exchange_within(topology, node, patience)?;
        if ![&found.request, &found.answer]
            .iter()
            .any(|one| expected.lacks_an_answer(one))
        {
            return Ok(found);
        }
        println!("DHCP: {found:?}, sent again");
        patience *= 2;
    }
    exchange_within(topology, node, patience)
}

fn exchange_within(topology: &Topology, node: Host, patience: Duration) -> Result<Exchange> {
    let (router, node) = (topology.router(), topology.namespace(node));
    let server = router
        .run(|| socket(SERVER, "br0"))?
        .context("DHCP server")?;
    let client = node
        .run(|| socket(CLIENT, "eth0"))?
        .context("DHCP client")?;
    node.run(|| request("eth0"))?.context("DHCP request")?;
    let everybody = SocketAddr::from((Ipv4Addr::BROADCAST, CLIENT));
    server
        .send_to(b"an offer", &everybody.into())
        .context("DHCP answer")?;
    let give_up = Instant::now() + patience;
    let (mut requested, mut answered) = (false, false);
    loop {
        let over = Instant::now() >= give_up;
        let mut buffer = [MaybeUninit::uninit(); 64];
        requested |= server.recv(&mut buffer).is_ok();
        answered |= client.recv(&mut buffer).is_ok();
        if over || (requested && answered) {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let outcome = |came| {
        if came { Outcome::Open } else { Outcome::Closed }
    };
    Ok(Exchange {
        request: outcome(requested),
        answer: outcome(answered),
    })
}

fn socket(port: u16, interface: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    Ok(socket)
}

/// Sends a request as clients do: past the kernel's IP, which has no address
/// to send from.
fn request(interface: &str) -> io::Result<()> {
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, CLIENT));
    let everybody = SocketAddr::from((Ipv4Addr::BROADCAST, SERVER));
    let mut bytes = Packet::udp(nobody, everybody).without_link_header().build();
    let sum = checksum(&bytes[..20]);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());

    let kind = libc::ETH_P_IP as u16;
    let socket = Socket::new(
        Domain::PACKET,
        Type::DGRAM,
        Some(Protocol::from(i32::from(kind.to_be()))),
    )?;
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: a string that ends in 0 and outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: integers only: all zeros is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = kind.to_be();
    address.sll_ifindex = index as i32;
    address.sll_halen = 6;
    address.sll_addr[..6].fill(0xff);
    // SAFETY: both buffers are valid for the lengths that are given.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
            std::ptr::from_ref(&address).cast(),
            size_of_val(&address) as u32,
        )
    };
    match io::Error::last_os_error() {
        _ if sent >= 0 => Ok(()),
        // So the kernel says that a program dropped it on its way out.
        error if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
        error => Err(error),
    }
}
