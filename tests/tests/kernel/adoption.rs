//! Flows that the kernel knows when the agent comes.

use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
    thread,
};

use aya::maps::{HashMap, Map, MapData};
use hostfw_common::{
    conntrack::{Address, FLOW_ADOPTED, FLOW_ANSWERED, Flow, FlowKey},
    names,
    verdict::Direction,
};

use super::bench::{Root, new_netns, run, sandboxed, veth};

/// The address and port of one side, as they are on the wire.
fn side(address: std::net::SocketAddr) -> (Address, [u8; 2]) {
    let std::net::SocketAddr::V4(address) = address else {
        panic!("{address}");
    };
    (
        Address::from_v4(address.ip().octets()),
        address.port().to_be_bytes(),
    )
}

fn flows(root: &Root, name: &str) -> HashMap<MapData, FlowKey, Flow> {
    let map = MapData::from_pin(root.pin("maps", name)).unwrap();
    HashMap::try_from(Map::LruHashMap(map)).unwrap()
}

#[test]
fn flows_that_the_kernel_knows_are_adopted() {
    if !sandboxed("adopt") {
        return;
    }
    let root = Root::new("adopt");
    veth("k0");
    // A neighbour in a namespace of its own: that of a thread.
    let (ready, wait) = mpsc::channel();
    let (finish, finished) = mpsc::channel::<()>();
    let (moved, arrived) = mpsc::channel::<()>();
    let neighbour = thread::spawn(move || {
        new_netns();
        // SAFETY: no arguments.
        ready.send(unsafe { libc::gettid() }).unwrap();
        arrived.recv().unwrap();
        run("ip addr add 10.77.0.2/24 dev k0p && ip link set k0p up");
        let listener = TcpListener::bind("10.77.0.2:8080").unwrap();
        ready.send(0).unwrap();
        let _connection = listener.accept().unwrap();
        let _ = finished.recv();
    });
    let thread = wait.recv().unwrap();
    run(&format!(
        "ip link set k0p netns {thread} && ip addr add 10.77.0.1/24 dev k0"
    ));
    moved.send(()).unwrap();
    wait.recv().unwrap();
    // Conntrack runs where a rule asks for it.
    run(
        "nft add table ip t && nft 'add chain ip t o { type filter hook output priority 0; }' \
         && nft add rule ip t o ct state new accept",
    );
    let connection = TcpStream::connect("10.77.0.2:8080").unwrap();
    let datagrams = UdpSocket::bind("10.77.0.1:0").unwrap();
    datagrams.send_to(b"unanswered", "10.77.0.2:9").unwrap();

    let mut dataplane = root.open();
    let local = connection.local_addr().unwrap();
    let (local, local_port) = side(local);
    let (remote, remote_port) = side(connection.peer_addr().unwrap());
    let tcp = FlowKey {
        remote,
        local,
        remote_port,
        local_port,
        protocol: 6,
        ..FlowKey::default()
    };
    // A program saw its opening, but not yet that it went on.
    let answered = Flow {
        state: FLOW_ANSWERED,
        ..Flow::default()
    };
    let mut half_open = flows(&root, names::HALF_OPEN);
    half_open.insert(tcp, answered, 0).unwrap();
    let adopted = dataplane.adopt().unwrap();
    assert_eq!(adopted.unavailable, [""; 0]);
    assert_eq!(adopted.conntrack, 2, "{adopted:?}");
    // The socket is the same flow: not written again.
    assert_eq!(adopted.sockets, 0, "{adopted:?}");
    let flow = flows(&root, names::CONFIRMED).get(&tcp, 0).unwrap();
    assert_eq!(flow.state, FLOW_ADOPTED);
    assert_eq!(flow.opened_by, Direction::Egress as u8);
    assert_ne!(flow.last_seen, 0);
    assert!(
        half_open.get(&tcp, 0).is_err(),
        "it would let a later SYN in"
    );

    let (udp_local, udp_port) = side(datagrams.local_addr().unwrap());
    let udp = FlowKey {
        local: udp_local,
        local_port: udp_port,
        remote_port: 9_u16.to_be_bytes(),
        protocol: 17,
        ..tcp
    };
    assert_eq!(
        half_open.get(&udp, 0).unwrap().opened_by,
        Direction::Egress as u8
    );
    assert!(flows(&root, names::CONFIRMED).get(&udp, 0).is_err());

    // What is known stays as it is.
    let mut seen = flows(&root, names::CONFIRMED);
    let on_the_wire = Flow {
        last_seen: 42,
        ..Flow::default()
    };
    seen.insert(tcp, on_the_wire, 0).unwrap();
    assert_eq!(dataplane.adopt().unwrap(), Default::default());
    assert_eq!(seen.get(&tcp, 0).unwrap(), on_the_wire);
    drop(finish);
    neighbour.join().unwrap();
}

#[test]
fn a_socket_without_conntrack_is_adopted() {
    if !sandboxed("sockets") {
        return;
    }
    let root = Root::new("sockets");
    run("ip addr add 10.78.0.1/32 dev lo");
    let listener = TcpListener::bind("10.78.0.1:0").unwrap();
    let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let _accepted = listener.accept().unwrap();
    let mut dataplane = root.open();
    let adopted = dataplane.adopt().unwrap();
    // Both ends are local, so there are two sockets.
    assert_eq!(adopted.sockets, 2, "{adopted:?}");
    let (local, local_port) = side(connection.local_addr().unwrap());
    let (remote, remote_port) = side(connection.peer_addr().unwrap());
    let key = FlowKey {
        remote,
        local,
        remote_port,
        local_port,
        protocol: 6,
        ..FlowKey::default()
    };
    let flow = flows(&root, names::CONFIRMED).get(&key, 0).unwrap();
    assert_eq!(flow.state, FLOW_ADOPTED);
    let fill = dataplane.filter_keeper().fill();
    assert!(fill > 0.0, "the programs would not look for it");
}
