use rtnetlink::packet_route::address::AddressHeader;

use super::*;

fn link(index: u32, name: &str, kind: LinkLayerType, flags: LinkFlags) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.link_layer_type = kind;
    message.header.flags = flags;
    message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    message
}

fn ether(index: u32, name: &str) -> LinkMessage {
    link(index, name, LinkLayerType::Ether, LinkFlags::Up)
}

fn address(index: u32, address: &str, prefix_len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header = AddressHeader {
        index,
        prefix_len,
        ..AddressHeader::default()
    };
    message.attributes = vec![AddressAttribute::Address(address.parse().unwrap())];
    message
}

fn names(table: &Table) -> Vec<String> {
    table.interfaces().into_iter().map(|i| i.name).collect()
}

#[test]
fn links_come_change_and_go() {
    let mut table = Table::default();
    assert!(table.apply(&RouteNetlinkMessage::NewLink(ether(2, "eth0"))));
    assert!(!table.apply(&RouteNetlinkMessage::NewLink(ether(2, "eth0"))));
    assert!(table.apply(&RouteNetlinkMessage::NewLink(ether(2, "wan"))));
    assert_eq!(names(&table), ["wan"]);
    assert!(table.apply(&RouteNetlinkMessage::NewLink(link(
        2,
        "wan",
        LinkLayerType::Ether,
        LinkFlags::empty()
    ))));
    assert!(!table.interfaces()[0].up);
    assert!(table.apply(&RouteNetlinkMessage::DelLink(ether(2, "wan"))));
    assert!(!table.apply(&RouteNetlinkMessage::DelLink(ether(2, "wan"))));
    assert_eq!(table.interfaces(), []);
}

#[test]
fn kinds_are_told_apart() {
    let mut table = Table::default();
    table.apply(&RouteNetlinkMessage::NewLink(link(
        1,
        "lo",
        LinkLayerType::Loopback,
        LinkFlags::Up | LinkFlags::Loopback,
    )));
    table.apply(&RouteNetlinkMessage::NewLink(ether(2, "eth0")));
    table.apply(&RouteNetlinkMessage::NewLink(link(
        3,
        "wg0",
        LinkLayerType::None,
        LinkFlags::Up,
    )));
    let seen: Vec<_> = table
        .interfaces()
        .into_iter()
        .map(|i| (i.loopback, i.link_header, i.up))
        .collect();
    assert_eq!(
        seen,
        [
            (true, true, true),
            (false, true, true),
            (false, false, true)
        ]
    );
}

#[test]
fn leaving_a_bridge_is_not_going_away() {
    let mut table = Table::default();
    table.apply(&RouteNetlinkMessage::NewLink(ether(2, "eth0")));
    let mut left = ether(2, "eth0");
    left.header.interface_family = AddressFamily::Bridge;
    assert!(!table.apply(&RouteNetlinkMessage::DelLink(left)));
    assert_eq!(names(&table), ["eth0"]);
}

#[test]
fn a_notification_without_a_name_keeps_the_name() {
    let mut table = Table::default();
    table.apply(&RouteNetlinkMessage::NewLink(ether(2, "eth0")));
    let mut nameless = link(2, "", LinkLayerType::Ether, LinkFlags::empty());
    nameless.attributes.clear();
    assert!(table.apply(&RouteNetlinkMessage::NewLink(nameless)));
    assert_eq!(names(&table), ["eth0"]);
    assert!(!table.interfaces()[0].up);
}

#[test]
fn addresses_are_sorted_and_belong_to_their_link() {
    let mut table = Table::default();
    // Before its link: kept, but there is no interface yet.
    assert!(table.apply(&RouteNetlinkMessage::NewAddress(address(2, "fd00::1", 64))));
    assert_eq!(table.interfaces(), []);
    table.apply(&RouteNetlinkMessage::NewLink(ether(2, "eth0")));
    table.apply(&RouteNetlinkMessage::NewLink(ether(3, "eth1")));
    assert!(table.apply(&RouteNetlinkMessage::NewAddress(address(2, "10.0.0.1", 24))));
    assert!(!table.apply(&RouteNetlinkMessage::NewAddress(address(2, "10.0.0.1", 24))));
    let interfaces = table.interfaces();
    assert_eq!(
        interfaces[0].addresses,
        [
            "10.0.0.1".parse::<IpAddr>().unwrap(),
            "fd00::1".parse().unwrap()
        ]
    );
    assert_eq!(interfaces[1].addresses, [] as [IpAddr; 0]);
}

#[test]
fn an_address_held_twice_survives_one_removal() {
    let mut table = Table::default();
    table.apply(&RouteNetlinkMessage::NewLink(ether(2, "eth0")));
    table.apply(&RouteNetlinkMessage::NewAddress(address(2, "10.0.0.1", 24)));
    table.apply(&RouteNetlinkMessage::NewAddress(address(2, "10.0.0.1", 16)));
    assert!(table.apply(&RouteNetlinkMessage::DelAddress(address(2, "10.0.0.1", 24))));
    assert_eq!(table.interfaces()[0].addresses.len(), 1);
    assert!(table.apply(&RouteNetlinkMessage::DelAddress(address(2, "10.0.0.1", 16))));
    assert_eq!(table.interfaces()[0].addresses, [] as [IpAddr; 0]);
}

#[test]
fn a_deleted_link_takes_its_addresses_along() {
    let mut table = Table::default();
    table.apply(&RouteNetlinkMessage::NewLink(ether(2, "eth0")));
    table.apply(&RouteNetlinkMessage::NewAddress(address(2, "10.0.0.1", 24)));
    table.apply(&RouteNetlinkMessage::DelLink(ether(2, "eth0")));
    // The index is used again by another interface.
    table.apply(&RouteNetlinkMessage::NewLink(ether(2, "eth9")));
    assert_eq!(table.interfaces()[0].addresses, [] as [IpAddr; 0]);
}

#[test]
fn on_a_point_to_point_link_the_own_address_counts() {
    let mut table = Table::default();
    table.apply(&RouteNetlinkMessage::NewLink(link(
        4,
        "ppp0",
        LinkLayerType::Ppp,
        LinkFlags::Up,
    )));
    let mut message = address(4, "192.0.2.2", 32);
    message
        .attributes
        .push(AddressAttribute::Local("192.0.2.1".parse().unwrap()));
    table.apply(&RouteNetlinkMessage::NewAddress(message));
    assert_eq!(
        table.interfaces()[0].addresses,
        ["192.0.2.1".parse::<IpAddr>().unwrap()]
    );
}

#[test]
fn links_whose_frames_cannot_be_read_are_left_out() {
    let mut table = Table::default();
    for (kind, seen) in [
        (LinkLayerType::Infiniband, false),
        (LinkLayerType::Ieee80211Radiotap, false),
        (LinkLayerType::Ppp, true),
        (LinkLayerType::Tunnel6, true),
        (LinkLayerType::Infiniband, false),
    ] {
        table.apply(&RouteNetlinkMessage::NewLink(link(
            7,
            "x0",
            kind,
            LinkFlags::Up,
        )));
        let found = table.interfaces();
        assert_eq!(!found.is_empty(), seen, "{kind:?}");
        assert!(found.iter().all(|found| !found.link_header), "{kind:?}");
    }
}
