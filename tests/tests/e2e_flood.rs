//! A flood of SYNs with forged senders, to a port that is open, beside
//! connections that go on.
#![allow(
    clippy::unwrap_used,
    reason = "in tests, and in what serves them, a panic is a failed test"
)]

use std::{
    ffi::CString,
    io::{self, Read as _, Write as _},
    net::{SocketAddrV4, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use aya::maps::{HashMap, Map, MapData};
use hostfw_agent::{
    attach::{Dataplane, FlowTables, Options},
    compile::compile,
    model::Interface,
    resource::parse_documents,
    select::select,
    validate::{assemble, validate},
};
use hostfw_common::{
    ABI_VERSION,
    conntrack::{FLOW_ANSWERED, Flow, FlowKey},
    counter::Checkpoint,
    names,
    verdict::Reason,
};
use hostfw_tests::{
    netns::{self, Namespace},
    packet::{Packet, flags::SYN},
    sandbox,
};

const CONNECTIONS: usize = 1000;
/// The flood has at least so many, and goes on until data moved meanwhile.
const SYNS: u64 = 1_000_000;
/// How often each connection moves data in the flood.
const ROUNDS: u64 = 3;
const PORT: u16 = 8080;
const ROOT: &str = "/sys/fs/bpf/flood";

/// What the endpoint is told: the port is open. With `closed`, not for the
/// connections' own client: then they go on by conntrack alone.
fn resources(closed: bool) -> String {
    let deny = if closed {
        "{action: Deny, source: {nets: [10.77.0.2/32]}}, "
    } else {
        ""
    };
    format!(
        "apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {{name: flood0}}
spec: {{node: node, interfaceName: flood0}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: open}}
spec:
  selector: all()
  preDNAT: true
  applyOnForward: true
  ingress: [{deny}{{action: Allow, protocol: TCP, destination: {{ports: [{PORT}]}}}}]
"
    )
}

fn enforce(dataplane: &mut Dataplane, interface: &Interface, text: &str) {
    let objects = parse_documents(text)
        .into_iter()
        .flat_map(|document| document.result.unwrap())
        .map(|resource| validate(&resource).unwrap())
        .collect::<Vec<_>>();
    let model = assemble(objects);
    let image = compile(&select(&model, "node", std::slice::from_ref(interface))).unwrap();
    dataplane.switch(&image).unwrap();
}

fn count(dataplane: &Dataplane, checkpoint: Checkpoint, reason: Reason) -> u64 {
    let counters = dataplane.counters().unwrap();
    let of = |(at, of, counter): (Checkpoint, Reason, hostfw_common::counter::Counter)| {
        ((at, of) == (checkpoint, reason)).then_some(counter.packets)
    };
    counters.into_iter().filter_map(of).sum()
}

fn flows(name: &str) -> Vec<(FlowKey, Flow)> {
    let path = format!("{ROOT}/v{ABI_VERSION}/maps/{name}");
    let map = MapData::from_pin(path).unwrap();
    let map: HashMap<_, FlowKey, Flow> = Map::LruHashMap(map).try_into().unwrap();
    map.iter().collect::<Result<_, _>>().unwrap()
}

fn confirmed() -> Vec<FlowKey> {
    let mut keys: Vec<_> = flows(names::CONFIRMED)
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    keys.sort();
    keys
}

fn if_index(name: &str) -> u32 {
    let name = CString::new(name).unwrap();
    // SAFETY: a C string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0);
    index
}

/// Connections, as both of their ends.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn open(outside: &Namespace, listener: &TcpListener) -> Self {
        let to: SocketAddrV4 = format!("10.77.0.1:{PORT}").parse().unwrap();
        let client = outside.run(|| TcpStream::connect(to)).unwrap().unwrap();
        let (server, _) = listener.accept().unwrap();
        let pair = Self { client, server };
        for stream in [&pair.client, &pair.server] {
            stream.set_nodelay(true).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
        }
        pair
    }

    /// Moves some bytes there and back.
    fn exchange(&mut self, number: u64) -> io::Result<()> {
        let mut bytes = [0; 8];
        self.client.write_all(&number.to_be_bytes())?;
        self.server.read_exact(&mut bytes)?;
        self.server.write_all(&bytes)?;
        self.client.read_exact(&mut bytes)?;
        assert_eq!(u64::from_be_bytes(bytes), number);
        Ok(())
    }
}

/// The Internet checksum of some bytes (RFC 1071).
fn checksum(bytes: &[u8], start: u32) -> [u8; 2] {
    let mut sum = bytes.chunks(2).fold(start, |sum, pair| {
        sum + u32::from(u16::from_be_bytes([pair[0], pair[1]]))
    });
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// Frames with a SYN each, every one from another sender.
struct Syns {
    socket: OwnedFd,
    frame: Vec<u8>,
    next: u32,
}

impl Syns {
    /// To be sent out of an interface of this namespace, with this hardware
    /// address of the receiver.
    fn new(interface: &str, receiver: [u8; 6]) -> io::Result<Self> {
        let (from, to) = ("198.18.0.0:1024", format!("10.77.0.1:{PORT}"));
        let packet = Packet::tcp(from.parse().unwrap(), to.parse().unwrap(), SYN);
        let mut frame = packet.build();
        frame[..6].copy_from_slice(&receiver);
        // A window, without which Linux would not answer.
        frame[14 + 20 + 14..14 + 20 + 16].copy_from_slice(&1024u16.to_be_bytes());
        // SAFETY: integers, and a C structure that outlives its call.
        let socket = unsafe {
            let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
            if socket < 0 {
                return Err(io::Error::last_os_error());
            }
            let socket = OwnedFd::from_raw_fd(socket);
            let mut at: libc::sockaddr_ll = std::mem::zeroed();
            at.sll_family = libc::AF_PACKET as u16;
            at.sll_ifindex = if_index(interface) as i32;
            let length = size_of_val(&at) as libc::socklen_t;
            if libc::bind(socket.as_raw_fd(), (&raw const at).cast(), length) != 0 {
                return Err(io::Error::last_os_error());
            }
            socket
        };
        Ok(Self {
            socket,
            frame,
            next: 0,
        })
    }

    fn send(&mut self) {
        const IP: usize = 14;
        const TCP: usize = IP + 20;
        // Of 198.18.0.0/15 (RFC 2544), with another port each time round.
        let (low, round) = (self.next & 0x1_ffff, (self.next >> 17) as u16);
        self.next += 1;
        let source = (0xc612_0000 | low).to_be_bytes();
        let frame = &mut self.frame;
        frame[IP + 12..IP + 16].copy_from_slice(&source);
        frame[TCP..TCP + 2].copy_from_slice(&(1024 + round).to_be_bytes());
        frame[IP + 10..IP + 12].fill(0);
        frame[TCP + 16..TCP + 18].fill(0);
        let sum = checksum(&frame[IP..TCP], 0);
        frame[IP + 10..IP + 12].copy_from_slice(&sum);
        // Of the pseudo header: addresses come with the bytes, the rest is
        // protocol and length.
        let length = (frame.len() - TCP) as u32;
        let sum = checksum(&frame[IP + 12..], 6 + length);
        frame[TCP + 16..TCP + 18].copy_from_slice(&sum);
        // SAFETY: bytes that outlive the call. What does not go out now is one
        // packet less: what arrives is counted.
        let _ = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
            )
        };
    }
}

#[test]
fn a_flood_of_syns_to_an_open_port_breaks_no_connection() {
    if sandbox::or_skip() {
        return;
    }
    let outside = Namespace::create("flooder").unwrap();
    for line in [
        "link add flood0 address 02:00:00:00:77:01 type veth peer name flood1 address 02:00:00:00:77:02 netns flooder",
        "addr add 10.77.0.1/24 dev flood0",
        "link set flood0 up",
        "neigh add 10.77.0.2 lladdr 02:00:00:00:77:02 dev flood0 nud permanent",
        "route add 198.18.0.0/15 via 10.77.0.2 dev flood0",
    ] {
        netns::run(Command::new("ip").args(line.split_whitespace()), None).unwrap();
    }
    outside
        .ip("addr add 10.77.0.2/24 dev flood1\nlink set flood1 up\nneigh add 10.77.0.1 lladdr 02:00:00:00:77:01 dev flood1 nud permanent\n")
        .unwrap();
    for (name, value) in [("conf/all/rp_filter", "0"), ("tcp_syncookies", "2")] {
        std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap();
    }
    let interface = Interface {
        index: if_index("flood0"),
        name: "flood0".to_owned(),
        addresses: vec!["10.77.0.1".parse().unwrap()],
        link_header: true,
        loopback: false,
        up: true,
        master: None,
    };
    let mut dataplane = Dataplane::open(&Options {
        // Far fewer than the flood has.
        tables: FlowTables {
            half_open: 8192,
            confirmed: 2 * CONNECTIONS as u32,
        },
        ..Options::new(ROOT)
    })
    .unwrap();
    enforce(&mut dataplane, &interface, &resources(false));
    dataplane.attach(&interface).unwrap();

    let listener = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
    let mut pairs: Vec<_> = (0..CONNECTIONS)
        .map(|_| Pair::open(&outside, &listener))
        .collect();
    for pair in &mut pairs {
        pair.exchange(0).unwrap();
    }
    enforce(&mut dataplane, &interface, &resources(true));
    let known = confirmed();
    assert_eq!(known.len(), CONNECTIONS);

    let before = count(&dataplane, Checkpoint::WireIn, Reason::RuleAllow);
    let mut syns = outside
        .run(|| Syns::new("flood1", [2, 0, 0, 0, 0x77, 1]))
        .unwrap()
        .unwrap();
    let stop = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    thread::scope(|scope| {
        let moving = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (number, pair) in pairs.iter_mut().enumerate() {
                    let exchanged = pair.exchange(number as u64);
                    assert!(exchanged.is_ok(), "connection {number}: {exchanged:?}");
                }
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        while (rounds.load(Ordering::Relaxed) < ROUNDS
            || count(&dataplane, Checkpoint::WireIn, Reason::RuleAllow) - before < SYNS)
            && !moving.is_finished()
        {
            for _ in 0..10_000 {
                syns.send();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    for pair in &mut pairs {
        pair.exchange(u64::MAX).unwrap();
    }
    assert_eq!(confirmed(), known, "who forges a sender is not confirmed");
    let answered = flows(names::HALF_OPEN)
        .iter()
        .filter(|(_, flow)| flow.state & FLOW_ANSWERED != 0)
        .count();
    assert!(answered > 1000, "only {answered} SYNs were answered");
}
