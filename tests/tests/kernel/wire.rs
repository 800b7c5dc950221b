//! Frames as they come off a wire, where a test run cannot make them: with
//! their tag taken off, and with their bytes in pages.

use std::{
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use aya::maps::{HashMap, Map, MapData};
use hostfw_agent::{
    attach::{Dataplane, IngressChoice, Options},
    model::Interface,
};
use hostfw_common::{
    conntrack::{Address, Flow, FlowKey},
    counter::Checkpoint,
    endpoint::FLAG_DROP_INVALID_PRE_DNAT,
    names,
    verdict::{Direction, Reason},
};
use hostfw_tests::packet::{Packet, flags::SYN};

use super::bench::{Root, image, run, sandboxed, veth};

/// A dataplane whose TC program judges what comes in through the interface.
fn at_tc(root: &Root, interface: &Interface) -> Dataplane {
    let options = Options {
        ingress: IngressChoice::Tc,
        ..root.options()
    };
    let mut dataplane = Dataplane::open(&options).unwrap();
    let mut image = image(1);
    let mut endpoint = image.endpoints[&1];
    endpoint.flags = FLAG_DROP_INVALID_PRE_DNAT;
    image.endpoints.insert(interface.index, endpoint);
    dataplane.switch(&image).unwrap();
    dataplane.attach(interface).unwrap();
    dataplane
}

/// Sends a frame out of an interface. All but the first `linear` bytes lie in
/// pages if the frame is longer than one.
fn send(interface: &str, frame: &[u8], linear: u16) {
    /// `PACKET_VNET_HDR` of linux/if_packet.h.
    const VNET_HEADER: libc::c_int = 15;
    let name = std::ffi::CString::new(interface).unwrap();
    // SAFETY: integers and C structures that outlive their calls.
    let sent = unsafe {
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        let socket = OwnedFd::from_raw_fd(socket);
        let on: libc::c_int = 1;
        let set = libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            VNET_HEADER,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        );
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        let mut to: libc::sockaddr_ll = std::mem::zeroed();
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
        // `struct virtio_net_hdr` (linux/virtio_net.h) with the length of the
        // headers.
        let mut bytes = vec![0; 10];
        bytes[2..4].copy_from_slice(&linear.to_le_bytes());
        bytes.extend(frame);
        libc::sendto(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
            (&raw const to).cast(),
            size_of_val(&to) as libc::socklen_t,
        )
    };
    assert!(sent > 0, "{}", std::io::Error::last_os_error());
}

fn count(dataplane: &Dataplane, reason: Reason) -> u64 {
    dataplane
        .counters()
        .unwrap()
        .iter()
        .filter(|(checkpoint, of, _)| (*checkpoint, *of) == (Checkpoint::WireIn, reason))
        .map(|(_, _, counter)| counter.packets)
        .sum()
}

/// Waits until a packet has come in for that reason.
#[track_caller]
fn arrives(dataplane: &Dataplane, before: u64, reason: Reason) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while count(dataplane, reason) == before {
        let counters = dataplane.counters().unwrap();
        assert!(Instant::now() < deadline, "no {reason:?} in {counters:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_tag_that_the_kernel_has_taken_off_still_counts() {
    if !sandboxed("tag") {
        return;
    }
    let root = Root::new("tag");
    let interface = veth("w0");
    // No packets but those of the test.
    run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    let dataplane = at_tc(&root, &interface);
    let (from, to) = ("203.0.113.10:1".parse(), "10.240.0.11:80".parse());
    let packet = Packet::tcp(from.unwrap(), to.unwrap(), SYN);
    for (tag, reason) in [(7, Reason::NotIp), (0xe000, Reason::NoMatch)] {
        let before = count(&dataplane, reason);
        send("w0p", &packet.clone().vlan(tag).build(), 0);
        arrives(&dataplane, before, reason);
    }
}

#[test]
fn an_error_whose_quote_lies_in_pages_follows_its_flow() {
    if !sandboxed("pages") {
        return;
    }
    let root = Root::new("pages");
    let interface = veth("g0");
    run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    run("ip link set g0 mtu 9000 && ip link set g0p mtu 9000");
    let dataplane = at_tc(&root, &interface);
    let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap();
    let (host, web) = (v6("fd00:10:240::11"), v6("2001:db8::7"));
    let flows = MapData::from_pin(root.pin("maps", names::CONFIRMED)).unwrap();
    let mut flows: HashMap<_, FlowKey, Flow> = Map::LruHashMap(flows).try_into().unwrap();
    let key = FlowKey {
        remote: Address {
            bytes: web.octets(),
        },
        local: Address {
            bytes: host.octets(),
        },
        remote_port: 5353_u16.to_be_bytes(),
        local_port: 5000_u16.to_be_bytes(),
        protocol: 17,
        ..FlowKey::default()
    };
    let flow = Flow {
        last_seen: u64::MAX,
        opened_by: Direction::Egress as u8,
        ..Flow::default()
    };
    flows.insert(key, flow, 0).unwrap();
    // Nobody has noted it.
    dataplane.filter_keeper().renew().unwrap();
    // Longer than a page: shorter frames are made linear.
    let mut query = Packet::udp((host, 5000).into(), (web, 5353).into()).payload(&[0; 5000]);
    for (before, linear) in [(0, 14 + 40 + 8), (1, 14 + 40), (2, 14)] {
        let error = Packet::icmp_error(v6("2001:db8::1").into(), host.into(), 2, 0, &query);
        send("g0p", &error.build(), linear);
        arrives(&dataplane, before, Reason::Related);
        // Deeper in each time.
        query = query.extension(60, 800);
    }
}
