//! A network namespace and a pin root of its own for every test, and what is
//! put into them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

use hostfw_agent::{
    attach::{Dataplane, FlowTables, Options},
    compile::image::{Class, Image},
    model::Interface,
};
use hostfw_common::{
    ABI_VERSION,
    endpoint::{Endpoint, EndpointId},
    names,
    policy::{Action, PolicyId, PolicyTable, RuleEntry, TableId},
    prefix::{PrefixV4, TABLE_BITS},
    verdict::Direction,
};

/// `true` in the sandbox: namespaces that a test may do as it likes with.
pub(super) fn sandboxed(test: &str) -> bool {
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
pub(super) fn new_netns() {
    // SAFETY: no pointers; concerns this thread alone.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
    run("ip link set lo up");
}

pub(super) fn output(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

pub(super) fn run(command: &str) {
    output(command);
}

pub(super) fn json(command: &str) -> serde_json::Value {
    let text = output(command);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command}: {error}: {text}"))
}

/// A pin root that is removed when the test ends, however it does.
pub(super) struct Root(pub(super) PathBuf);

impl Root {
    pub(super) fn new(test: &str) -> Self {
        let name = format!("hostfw-test-{}-{test}", std::process::id());
        Self(Path::new("/sys/fs/bpf").join(name))
    }

    pub(super) fn version(&self) -> PathBuf {
        self.0.join(format!("v{ABI_VERSION}"))
    }

    pub(super) fn pin(&self, folder: &str, name: &str) -> PathBuf {
        self.version().join(folder).join(name)
    }

    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.version().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(super) fn options(&self) -> Options {
        Options {
            tables: FlowTables {
                half_open: 1024,
                confirmed: 1024,
            },
            ..Options::new(&self.0)
        }
    }

    pub(super) fn open(&self) -> Dataplane {
        Dataplane::open(&self.options()).unwrap()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Makes a pair of veth interfaces and describes the first.
pub(super) fn veth(name: &str) -> Interface {
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
        master: None,
    }
}

/// The only table of an [`image`]'s tries.
pub(super) const TABLE: TableId = TableId { number: 7 };

pub(super) fn prefix(address: [u8; 4], length: u32, class: u32) -> Class<PrefixV4> {
    Class {
        key: PrefixV4 {
            table: TABLE,
            address,
        },
        length: TABLE_BITS + length,
        class,
    }
}

/// An image with something in each kind of map, told apart by `mark`.
pub(super) fn image(mark: u16) -> Image {
    let list = PolicyTable {
        first_rule: u32::from(mark),
        ..PolicyTable::default()
    };
    Image {
        endpoints: BTreeMap::from([(
            1,
            Endpoint {
                id: EndpointId {
                    number: u32::from(mark),
                },
                ..Endpoint::default()
            },
        )]),
        lists: vec![PolicyTable::default(), list].into(),
        prefixes_v4: BTreeMap::from([(
            TABLE,
            [
                prefix([0; 4], 0, 0),
                prefix([10, 0, 0, 0], 8, u32::from(mark)),
            ]
            .into(),
        )]),
        rules: vec![RuleEntry::new(
            PolicyId { number: 3 },
            mark,
            Action::Deny,
            Direction::Ingress,
        )]
        .into(),
        ..Image::default()
    }
}

/// The rule in force, as bpftool shows it.
pub(super) fn rule_index(root: &Root) -> u64 {
    let path = root.pin("generation", names::RULES);
    let dump = json(&format!("bpftool -j map dump pinned {}", path.display()));
    dump[0]["formatted"]["value"]["index"]
        .as_u64()
        .unwrap_or_else(|| panic!("no field names: {dump}"))
}

pub(super) fn link(root: &Root, name: &str) -> (u64, u64) {
    let path = root.pin("links", name);
    let shown = json(&format!("bpftool -j link show pinned {}", path.display()));
    (
        shown["id"].as_u64().unwrap(),
        shown["prog_id"].as_u64().unwrap(),
    )
}
