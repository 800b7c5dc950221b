//! The dataplane on the real kernel: maps, links and flows, without packets.
//!
//! Every test has a network namespace and a pin root of its own.
#![allow(
    clippy::unwrap_used,
    reason = "in tests, and in what serves them, a panic is a failed test"
)]

use std::{
    collections::BTreeMap,
    net::{TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::{Once, mpsc},
    thread,
};

use aya::{
    maps::{HashMap, Map, MapData, lpm_trie},
    programs::{SchedClassifier, TcAttachType},
};
use hostfw_agent::{
    attach::{Dataplane, DataplaneError, HookKind, IngressChoice, Options, TcChoice, remove_all},
    compile::image::Image,
    maps::LockError,
    model::Interface,
};
use hostfw_common::{
    ABI_VERSION,
    conntrack::{Address, FLOW_ADOPTED, Flow, FlowKey},
    endpoint::{Endpoint, EndpointId, FLAG_LEARNING},
    names,
    policy::{Action, PolicyId, Row, RuleEntry, TableId},
    prefix::{PrefixV4, TABLE_BITS},
    verdict::Direction,
};

/// `true` in the sandbox: namespaces that a test may do as it likes with.
fn sandboxed(test: &str) -> bool {
    static BPFFS: Once = Once::new();
    if std::env::var_os("HOSTFW_SANDBOX").is_none_or(|value| value != "1") {
        println!("{test}: skipped: needs the sandbox of cargo xtask test");
        return false;
    }
    BPFFS.call_once(|| run("mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf"));
    new_netns();
    true
}

/// Moves the calling thread, and what it starts, into a fresh network
/// namespace.
fn new_netns() {
    // SAFETY: no pointers; concerns this thread alone.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
    run("ip link set lo up");
}

fn output(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn run(command: &str) {
    output(command);
}

fn json(command: &str) -> serde_json::Value {
    let text = output(command);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command}: {error}: {text}"))
}

/// A pin root that is removed when the test ends, however it does.
struct Root(PathBuf);

impl Root {
    fn new(test: &str) -> Self {
        let name = format!("hostfw-test-{}-{test}", std::process::id());
        Self(Path::new("/sys/fs/bpf").join(name))
    }

    fn version(&self) -> PathBuf {
        self.0.join(format!("v{ABI_VERSION}"))
    }

    fn pin(&self, folder: &str, name: &str) -> PathBuf {
        self.version().join(folder).join(name)
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.version().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn options(&self) -> Options {
        Options {
            half_open: 1024,
            confirmed: 1024,
            ..Options::new(&self.0)
        }
    }

    fn open(&self) -> Dataplane {
        Dataplane::open(&self.options()).unwrap()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Makes a pair of veth interfaces and describes the first.
fn veth(name: &str) -> Interface {
    run(&format!(
        "ip link add {name} type veth peer name {name}p && ip link set {name} up && ip link set {name}p up"
    ));
    let c_name = std::ffi::CString::new(name).unwrap();
    // SAFETY: a C string that outlives the call.
    let index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
    assert_ne!(index, 0);
    Interface {
        index,
        name: name.to_owned(),
        addresses: Vec::new(),
        link_header: true,
        loopback: false,
        up: true,
    }
}

fn prefix(address: [u8; 4], length: u32) -> (u32, PrefixV4) {
    let table = TableId(7);
    (TABLE_BITS + length, PrefixV4 { table, address })
}

/// An image with something in each kind of map, told apart by `mark`.
fn image(mark: u16) -> Image {
    let mut row = Row::EMPTY;
    row.set(usize::from(mark));
    Image {
        endpoints: BTreeMap::from([(
            1,
            Endpoint {
                id: EndpointId(u32::from(mark)),
                ..Endpoint::default()
            },
        )]),
        prefixes_v4: BTreeMap::from([(prefix([0; 4], 0), 0), (prefix([10, 0, 0, 0], 8), 1)]),
        rows: vec![Row::EMPTY, row],
        rules: vec![RuleEntry::new(
            PolicyId(3),
            mark,
            Action::Deny,
            Direction::Ingress,
        )],
        ..Image::default()
    }
}

/// The rule in force, as bpftool shows it.
fn rule_index(root: &Root) -> u64 {
    let path = root.pin("generation", names::RULES);
    let dump = json(&format!("bpftool -j map dump pinned {}", path.display()));
    dump[0]["formatted"]["value"]["index"]
        .as_u64()
        .unwrap_or_else(|| panic!("no field names: {dump}"))
}

#[test]
fn a_switch_puts_an_image_in_force_as_a_whole() {
    if !sandboxed("switch") {
        return;
    }
    let root = Root::new("switch");
    let mut dataplane = root.open();
    assert_eq!(dataplane.generation(), 0);
    assert!(root.names("generation").is_empty());
    for generation in 1..=3 {
        assert_eq!(
            dataplane.switch(&image(generation)).unwrap(),
            u64::from(generation)
        );
        assert_eq!(dataplane.generation(), u64::from(generation));
        assert_eq!(rule_index(&root), u64::from(generation));
        let mut expected = names::PER_GENERATION.map(str::to_owned);
        expected.sort();
        assert_eq!(root.names("generation"), expected);
    }
    // The active word is what the programs read.
    let active = MapData::from_pin(root.pin("maps", names::ACTIVE)).unwrap();
    let active = aya::maps::Array::<_, u64>::try_from(Map::Array(active)).unwrap();
    assert_eq!(active.get(&0, 0).unwrap(), 3);
}

#[test]
fn what_learns_is_not_judged() {
    if !sandboxed("judged") {
        return;
    }
    let root = Root::new("judged");
    let mut dataplane = root.open();
    assert_eq!(dataplane.judged().unwrap(), [].into());
    let mut image = image(1);
    let learning = Endpoint {
        flags: FLAG_LEARNING,
        ..Endpoint::default()
    };
    image.endpoints.insert(2, learning);
    dataplane.switch(&image).unwrap();
    assert_eq!(dataplane.judged().unwrap(), [1].into());
    image.endpoints.insert(2, Endpoint::default());
    dataplane.switch(&image).unwrap();
    drop(dataplane);
    assert_eq!(root.open().judged().unwrap(), [1, 2].into());
}

#[test]
fn every_pinned_inner_map_shows_its_fields() {
    if !sandboxed("btf") {
        return;
    }
    let root = Root::new("btf");
    let mut dataplane = root.open();
    dataplane.switch(&image(5)).unwrap();
    for name in names::PER_GENERATION {
        let path = root.pin("generation", name);
        let shown = json(&format!("bpftool -j map show pinned {}", path.display()));
        assert!(shown["btf_id"].as_u64().is_some(), "{name}: {shown}");
    }
    let path = root.pin("generation", names::PREFIXES_V4);
    let dump = json(&format!("bpftool -j map dump pinned {}", path.display()));
    let addresses: Vec<_> = dump
        .as_array()
        .unwrap()
        .iter()
        .map(|element| element["formatted"]["key"]["data"]["address"].to_string())
        .collect();
    assert!(addresses.contains(&"[10,0,0,0]".to_owned()), "{dump}");
}

#[test]
fn a_large_image_arrives_complete() {
    if !sandboxed("large") {
        return;
    }
    const PREFIXES: u32 = 100_000;
    let root = Root::new("large");
    let mut dataplane = root.open();
    let mut image = image(0);
    for number in 0..PREFIXES {
        image
            .prefixes_v4
            .insert(prefix((number << 8).to_be_bytes(), 24), number);
    }
    dataplane.switch(&image).unwrap();
    let map = MapData::from_pin(root.pin("generation", names::PREFIXES_V4)).unwrap();
    let map = aya::maps::LpmTrie::<_, PrefixV4, u32>::try_from(Map::LpmTrie(map)).unwrap();
    for number in [0, 1, 77_777, PREFIXES - 1] {
        let address = (number << 8 | 5).to_be_bytes();
        let (length, key) = prefix(address, 32);
        assert_eq!(
            map.get(&lpm_trie::Key::new(length, key), 0).unwrap(),
            number
        );
    }
}

#[test]
fn a_switch_that_fails_leaves_what_was_in_force() {
    if !sandboxed("failed") {
        return;
    }
    let root = Root::new("failed");
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    let mut bad = image(2);
    // Longer than the key: the kernel refuses it.
    bad.prefixes_v4.insert(prefix([1; 4], 33), 0);
    let error = dataplane.switch(&bad).unwrap_err();
    assert!(error.to_string().contains(names::PREFIXES_V4), "{error}");
    assert_eq!(dataplane.generation(), 1);
    assert_eq!(rule_index(&root), 1);
    assert_eq!(root.names("generation").len(), names::PER_GENERATION.len());
    assert_eq!(dataplane.switch(&image(3)).unwrap(), 2);
}

#[test]
fn a_second_agent_is_told_who_holds_the_pin_root() {
    if !sandboxed("lock") {
        return;
    }
    let root = Root::new("lock");
    let dataplane = root.open();
    for error in [
        Dataplane::open(&root.options()).unwrap_err(),
        remove_all(&root.0).unwrap_err(),
    ] {
        let DataplaneError::Lock(LockError::Held { holder, .. }) = &error else {
            panic!("{error}");
        };
        let pid = std::process::id().to_string();
        assert!(holder.contains(&pid), "{error}");
    }
    drop(dataplane);
    root.open();
}

fn link(root: &Root, name: &str) -> (u64, u64) {
    let path = root.pin("links", name);
    let shown = json(&format!("bpftool -j link show pinned {}", path.display()));
    (
        shown["id"].as_u64().unwrap(),
        shown["prog_id"].as_u64().unwrap(),
    )
}

#[test]
fn a_new_agent_takes_over_by_link_update() {
    if !sandboxed("takeover") {
        return;
    }
    let root = Root::new("takeover");
    let interface = veth("v0");
    let pins = Direction::ALL.map(|direction| match direction {
        Direction::Ingress => format!("{}-ingress", interface.index),
        Direction::Egress => format!("{}-egress", interface.index),
    });
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    let first = dataplane.attach(&interface).unwrap();
    assert_eq!(first.ingress.kind, HookKind::XdpNative);
    assert_eq!(first.ingress.fallback, None);
    let before = pins.clone().map(|pin| link(&root, &pin));
    // Nothing changes when it is done twice.
    assert_eq!(dataplane.attach(&interface).unwrap(), first);
    assert_eq!(pins.clone().map(|pin| link(&root, &pin)), before);
    drop(dataplane);

    let mut dataplane = root.open();
    assert_eq!(dataplane.generation(), 1);
    assert!(dataplane.is_attached(interface.index));
    assert_eq!(
        dataplane.attachments().unwrap(),
        std::slice::from_ref(&first)
    );
    assert_eq!(pins.clone().map(|pin| link(&root, &pin)), before);
    assert_eq!(dataplane.attach(&interface).unwrap(), first);
    for (pin, (id, program)) in pins.iter().zip(before) {
        let (new_id, new_program) = link(&root, pin);
        assert_eq!(new_id, id, "{pin}: another link, so there was a gap");
        assert_ne!(new_program, program, "{pin}: still the old program");
    }
    // The maps are the old ones, too.
    assert_eq!(dataplane.switch(&image(2)).unwrap(), 2);
}

#[test]
fn pins_of_an_interrupted_switch_are_mended() {
    if !sandboxed("mend") {
        return;
    }
    let root = Root::new("mend");
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    dataplane.switch(&image(2)).unwrap();
    drop(dataplane);
    let rules = root.pin("generation", names::RULES);
    let rows = root.pin("generation", names::ROWS);
    std::fs::remove_file(&rules).unwrap();
    std::fs::rename(&rows, root.pin("generation", "ROWS_fresh")).unwrap();
    let dataplane = root.open();
    assert_eq!(dataplane.generation(), 2);
    assert_eq!(rule_index(&root), 2);
    assert_eq!(root.names("generation").len(), names::PER_GENERATION.len());
}

/// What the kernel says is attached to an interface, apart from pins: XDP, TCX
/// and filters.
fn attached(name: &str) -> String {
    let mut words = Vec::new();
    let link = json(&format!("ip -j -d link show dev {name}"));
    if let Some(mode) = link[0]["xdp"]["mode"].as_u64() {
        words.push(format!("xdp-{mode}"));
    }
    for (word, direction) in [
        ("egress", TcAttachType::Egress),
        ("ingress", TcAttachType::Ingress),
    ] {
        let (_, programs) = SchedClassifier::query_tcx(name, direction).unwrap();
        words.extend(programs.iter().map(|_| format!("tcx/{word}")));
        // Without the queueing discipline tc fails, and there are none.
        let filters = Command::new("tc")
            .args(["filter", "show", "dev", name, word])
            .output()
            .unwrap();
        let filters = String::from_utf8(filters.stdout).unwrap();
        words.extend(
            filters
                .matches("handle 0x68667731")
                .map(|_| format!("clsact/{word}")),
        );
    }
    words.join(" ")
}

#[test]
fn each_mode_attaches_and_detaches() {
    if !sandboxed("modes") {
        return;
    }
    use HookKind::{Clsact, Tcx, XdpGeneric, XdpNative};
    let cases = [
        (IngressChoice::Auto, TcChoice::Auto, XdpNative, Tcx),
        (IngressChoice::XdpNative, TcChoice::Tcx, XdpNative, Tcx),
        (IngressChoice::XdpGeneric, TcChoice::Auto, XdpGeneric, Tcx),
        (IngressChoice::Tc, TcChoice::Auto, Tcx, Tcx),
        (IngressChoice::Tc, TcChoice::Clsact, Clsact, Clsact),
        (IngressChoice::Auto, TcChoice::Clsact, XdpNative, Clsact),
    ];
    for (number, (ingress, tc, ingress_kind, egress_kind)) in cases.into_iter().enumerate() {
        let root = Root::new(&format!("modes{number}"));
        let interface = veth(&format!("m{number}"));
        let options = Options {
            ingress,
            tc,
            ..root.options()
        };
        let mut dataplane = Dataplane::open(&options).unwrap();
        dataplane.switch(&image(1)).unwrap();
        assert!(!dataplane.is_attached(interface.index));
        let attachment = dataplane.attach(&interface).unwrap();
        assert_eq!(attachment.ingress.kind, ingress_kind);
        assert_eq!(attachment.egress.kind, egress_kind);
        assert!(dataplane.is_attached(interface.index));
        assert_eq!(
            dataplane.attachments().unwrap(),
            std::slice::from_ref(&attachment)
        );
        assert_ne!(attached(&interface.name), "");
        drop(dataplane);

        // A filter is found and replaced in place, like a link.
        let mut dataplane = Dataplane::open(&options).unwrap();
        assert!(dataplane.is_attached(interface.index));
        let shown = attached(&interface.name);
        assert_eq!(dataplane.attach(&interface).unwrap(), attachment);
        assert_eq!(attached(&interface.name), shown);

        dataplane.detach(interface.index).unwrap();
        assert!(!dataplane.is_attached(interface.index));
        assert_eq!(attached(&interface.name), "");
        assert!(root.names("links").is_empty());
        assert!(
            !output(&format!("tc qdisc show dev {}", interface.name)).contains("clsact"),
            "the queueing discipline stays"
        );
    }
}

#[test]
fn the_loopback_has_no_native_xdp_and_says_so() {
    if !sandboxed("fallback") {
        return;
    }
    let root = Root::new("fallback");
    let mut lo = veth("f0");
    lo.index = 1;
    lo.name = "lo".to_owned();
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    let attachment = dataplane.attach(&lo).unwrap();
    assert_eq!(attachment.ingress.kind, HookKind::Tcx);
    let reason = attachment.ingress.fallback.unwrap();
    assert!(reason.contains("native xdp"), "{reason}");

    let options = Options {
        ingress: IngressChoice::XdpNative,
        ..root.options()
    };
    drop(dataplane);
    let mut dataplane = Dataplane::open(&options).unwrap();
    let error = dataplane.attach(&lo).unwrap_err();
    assert!(
        matches!(&error, DataplaneError::Attach { interface, .. } if interface == "lo"),
        "{error}"
    );
    assert!(dataplane.is_attached(1), "what judged before must go on");
}

#[test]
fn another_choice_replaces_the_hook() {
    if !sandboxed("change") {
        return;
    }
    let root = Root::new("change");
    let interface = veth("c0");
    let mut former = None;
    for (ingress, tc, expected) in [
        (IngressChoice::XdpNative, TcChoice::Tcx, "tcx/egress"),
        (IngressChoice::XdpGeneric, TcChoice::Clsact, "clsact/egress"),
        (IngressChoice::Tc, TcChoice::Tcx, "tcx/egress tcx/ingress"),
        (
            IngressChoice::Tc,
            TcChoice::Clsact,
            "clsact/egress clsact/ingress",
        ),
        (IngressChoice::XdpNative, TcChoice::Tcx, "tcx/egress"),
    ] {
        let mut dataplane = Dataplane::open(&Options {
            ingress,
            tc,
            ..root.options()
        })
        .unwrap();
        dataplane.switch(&image(1)).unwrap();
        let attachment = dataplane.attach(&interface).unwrap();
        assert_eq!(attachment.ingress.fallback, None);
        assert_ne!(Some(attachment.ingress.kind), former);
        former = Some(attachment.ingress.kind);
        let links = [attachment.ingress.kind, attachment.egress.kind]
            .iter()
            .filter(|kind| **kind != HookKind::Clsact)
            .count();
        assert_eq!(root.names("links").len(), links, "{ingress:?}");
        let shown: Vec<_> = attached(&interface.name)
            .split(' ')
            .filter(|word| !word.starts_with("xdp"))
            .map(str::to_owned)
            .collect();
        assert_eq!(shown.join(" "), expected, "{ingress:?}");
        assert_eq!(
            attached(&interface.name).contains("xdp"),
            attachment.ingress.kind.hook() == "xdp"
        );
    }
}

#[test]
fn links_of_vanished_interfaces_are_removed() {
    if !sandboxed("stale") {
        return;
    }
    let root = Root::new("stale");
    let (gone, stays) = (veth("s0"), veth("s1"));
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    dataplane.attach(&gone).unwrap();
    dataplane.attach(&stays).unwrap();
    assert_eq!(root.names("links").len(), 4);
    run("ip link del s0");
    assert!(!dataplane.is_attached(gone.index));
    assert_eq!(dataplane.attachments().unwrap().len(), 1);
    drop(dataplane);
    let mut dataplane = root.open();
    assert_eq!(root.names("links").len(), 2);
    // To detach what is gone is no error.
    dataplane.detach(gone.index).unwrap();
    assert!(dataplane.is_attached(stays.index));
}

#[test]
fn links_of_another_version_are_taken_over() {
    if !sandboxed("version") {
        return;
    }
    let root = Root::new("version");
    let interface = veth("a0");
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    dataplane.attach(&interface).unwrap();
    let pin = format!("{}-ingress", interface.index);
    let (before, _) = link(&root, &pin);
    drop(dataplane);
    let other = root.0.join("v0");
    std::fs::rename(root.version(), &other).unwrap();

    let mut dataplane = root.open();
    assert_eq!(dataplane.generation(), 0);
    assert!(
        !dataplane.is_attached(interface.index),
        "its programs are on other maps"
    );
    dataplane.switch(&image(2)).unwrap();
    dataplane.attach(&interface).unwrap();
    assert_eq!(link(&root, &pin).0, before, "another link: there was a gap");
    assert!(dataplane.is_attached(interface.index));
    assert!(!other.exists(), "the older version's maps stay");
}

#[test]
fn a_filter_left_behind_is_removed() {
    if !sandboxed("behind") {
        return;
    }
    let root = Root::new("behind");
    let interface = veth("b0");
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    let attachment = dataplane.attach(&interface).unwrap();
    let clean = attached(&interface.name);
    // What an agent would leave that was killed after it had attached a link
    // and before it had removed the filter.
    let (_, program) = link(&root, &format!("{}-egress", interface.index));
    let pin = root.pin("maps", "program");
    run(&format!(
        "bpftool prog pin id {program} {pin} && tc qdisc add dev b0 clsact && tc filter add dev b0 \
         egress prio 1 handle 0x68667731 bpf direct-action object-pinned {pin} && rm {pin}",
        pin = pin.display()
    ));
    assert_ne!(attached(&interface.name), clean);
    drop(dataplane);
    assert_eq!(root.open().attach(&interface).unwrap(), attachment);
    assert_eq!(attached(&interface.name), clean);
}

#[test]
fn remove_all_leaves_nothing() {
    if !sandboxed("remove") {
        return;
    }
    let root = Root::new("remove");
    let (with_links, with_filters) = (veth("r0"), veth("r1"));
    let mut dataplane = root.open();
    dataplane.switch(&image(1)).unwrap();
    dataplane.attach(&with_links).unwrap();
    drop(dataplane);
    let mut dataplane = Dataplane::open(&Options {
        ingress: IngressChoice::Tc,
        tc: TcChoice::Clsact,
        ..root.options()
    })
    .unwrap();
    dataplane.attach(&with_filters).unwrap();
    drop(dataplane);

    let removed = remove_all(&root.0).unwrap();
    assert_eq!((removed.links, removed.filters), (2, 2));
    assert_eq!(
        removed.maps,
        names::PER_GENERATION.len() * 2 + names::LASTING.len()
    );
    assert!(!root.0.exists());
    for interface in ["r0", "r1"] {
        assert_eq!(attached(interface), "");
        assert!(!output(&format!("tc qdisc show dev {interface}")).contains("clsact"));
    }
    assert_eq!(remove_all(&root.0).unwrap(), Default::default());
}

#[test]
fn the_log_of_the_programs_is_off_unless_asked_for() {
    if !sandboxed("log") {
        return;
    }
    let root = Root::new("log");
    assert!(root.open().take_log().is_none());
    let options = Options {
        log_level: 5,
        ..root.options()
    };
    let mut dataplane = Dataplane::open(&options).unwrap();
    dataplane.take_log().unwrap().flush();
    assert!(dataplane.take_events().unwrap().is_some());
    assert!(dataplane.take_events().unwrap().is_none());
}

#[test]
fn a_pin_root_elsewhere_is_refused() {
    if !sandboxed("elsewhere") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let error = Dataplane::open(&Options::new(folder.path().join("pins"))).unwrap_err();
    assert!(error.to_string().contains("bpf file system"), "{error}");
}

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
    let adopted = dataplane.adopt().unwrap();
    assert_eq!(adopted.unavailable, [""; 0]);
    assert_eq!(adopted.conntrack, 2, "{adopted:?}");
    // The socket is the same flow: not written again.
    assert_eq!(adopted.sockets, 0, "{adopted:?}");
    let flow = flows(&root, names::CONFIRMED).get(&tcp, 0).unwrap();
    assert_eq!(flow.state, FLOW_ADOPTED);
    assert_eq!(flow.opened_by, Direction::Egress as u8);
    assert_ne!(flow.last_seen, 0);

    let (udp_local, udp_port) = side(datagrams.local_addr().unwrap());
    let udp = FlowKey {
        local: udp_local,
        local_port: udp_port,
        remote_port: 9_u16.to_be_bytes(),
        protocol: 17,
        ..tcp
    };
    let half_open = flows(&root, names::HALF_OPEN);
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
}
