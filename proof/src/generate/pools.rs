//! The small pools that values come from, so that rules overlap and packets
//! fall on their edges.

/// The node whose interfaces are judged.
pub(crate) const NODE: &str = "node1";
/// All nodes.
pub(crate) const NODES: [&str; 4] = [NODE, "node2", "node3", "node10"];

pub(crate) const NETS_V4: [&str; 16] = [
    "0.0.0.0/0",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "10.0.0.0/8",
    "10.240.0.0/16",
    "10.240.0.0/24",
    "10.240.0.10/31",
    "10.240.0.11/32",
    "10.240.0.12/32",
    "10.244.0.0/16",
    "10.244.1.5/32",
    "192.168.0.0/16",
    "203.0.113.0/24",
    "203.0.113.7/32",
    "8.8.8.8/32",
    "255.255.255.255/32",
];

pub(crate) const NETS_V6: [&str; 13] = [
    "::/0",
    "::/1",
    "8000::/1",
    "fd00::/8",
    "fd00:10:240::/64",
    "fd00:10:240::/63",
    "fd00:10:240::10/127",
    "fd00:10:240::11/128",
    "fd00:10:240::12/128",
    "2001:db8::/32",
    "2001:db8::7/128",
    "fe80::/10",
    "ff02::/16",
];

/// Nets as sets may have them: not masked, and plain addresses.
pub(crate) const SET_NETS: [&str; 15] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.240.0.77/16",
    "10.240.0.12",
    "10.240.0.13/32",
    "10.244.1.5",
    "203.0.113.7",
    "203.0.113.0/25",
    "8.8.8.8",
    "::ffff:10.240.0.14",
    "fd00:10:240::5/64",
    "fd00:10:240::12",
    "2001:db8::7",
    "2001:db8::/33",
    "::/0",
];

pub(crate) const ADDRESSES_V4: [&str; 14] = [
    "10.240.0.11",
    "10.240.0.12",
    "10.240.0.13",
    "192.168.7.2",
    "10.99.0.1",
    "203.0.113.7",
    "8.8.8.8",
    "10.244.1.5",
    "10.96.0.10",
    "127.0.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "1.1.1.1",
    "172.16.5.4",
];

pub(crate) const ADDRESSES_V6: [&str; 9] = [
    "fd00:10:240::11",
    "fd00:10:240::12",
    "2001:db8:7::2",
    "2001:db8::7",
    "2001:db8::8",
    "fe80::1",
    "ff02::1",
    "::1",
    "fd00:10:244::5",
];

pub(crate) const PORTS: [u16; 14] = [
    1, 22, 53, 67, 68, 80, 179, 443, 1023, 8080, 30000, 31852, 65534, 65535,
];

/// Names that sort in ways that surprise.
pub(crate) const NAMES: [&str; 12] = [
    "a",
    "a-b",
    "a.b",
    "aa",
    "b",
    "a0",
    "zz",
    "allow-nodeport",
    "x.y",
    "0",
    "a-b.c",
    "b-a",
];

pub(crate) const TIERS: [&str; 8] = [
    "default",
    "default",
    "security",
    "a",
    "a-b",
    "kube-admin",
    "kube-baseline",
    "platform",
];

pub(crate) const LABEL_KEYS: [&str; 6] = ["host-endpoint", "role", "env", "zone", "team", "in"];
pub(crate) const LABEL_VALUES: [&str; 7] = ["", "web", "db", "web-db", "prod", "dev", "a"];

pub(crate) const PROFILES: [&str; 5] = ["allow", "mixed", "empty", "kns.web", "no-such-profile"];
pub(crate) const NAMESPACES: [&str; 3] = ["web", "db", "kube-system"];
pub(crate) const ACCOUNTS: [&str; 2] = ["builder", "default"];
pub(crate) const PORT_NAMES: [&str; 4] = ["http", "dns", "admin-1", "no-such"];

/// By number, of which some have ports and some have names.
pub(crate) const PROTOCOLS: [u8; 14] = [1, 2, 4, 6, 6, 17, 17, 33, 47, 58, 132, 136, 253, 255];

/// Type and code.
pub(crate) const MESSAGES: [(u8, u8); 10] = [
    (0, 0),
    (3, 4),
    (8, 0),
    (8, 255),
    (11, 0),
    (128, 0),
    (129, 1),
    (1, 4),
    (135, 0),
    (254, 1),
];
