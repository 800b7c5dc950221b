//! Two interfaces back to back, each in a namespace of its own: `hf0`, which is
//! protected, and `hf1`, which sends.

use std::io;

use anyhow::{Context as _, Result};
use hostfw_agent::model::Interface;
use hostfw_bench::shapes::NODE;
use hostfw_tests::netns::{self, Namespace};

use crate::template::{MAC_HERE, MAC_THERE, NODE_V6};

pub(crate) const HERE: &str = "hf0";
pub(crate) const THERE: &str = "hf1";

/// Index of `hf0`, in the host's namespace; the same in each, so that one
/// compiled image serves all.
pub(crate) const INDEX_HERE: u32 = 100;
/// Index of `hf1`, in the sender's namespace.
pub(crate) const INDEX_THERE: u32 = 101;

/// Both interfaces, up.
pub(crate) struct Wire {
    /// What is protected.
    pub(crate) host: Namespace,
    /// Who sends.
    pub(crate) sender: Namespace,
}

impl Wire {
    /// Makes both namespaces, whose names end in `name`.
    pub(crate) fn up(name: &str) -> Result<Self> {
        let host = Namespace::create(&format!("host-{name}"))?;
        let sender = Namespace::create(&format!("sender-{name}"))?;
        host.ip(&format!(
            "link add {HERE} index {INDEX_HERE} address {} type veth peer name {THERE} index {INDEX_THERE} address {} netns {}\n\
             addr add 10.9.0.1/24 dev {HERE}\n\
             addr add fd00:9::1/64 dev {HERE} nodad\n\
             link set {HERE} up\n",
            mac(MAC_HERE),
            mac(MAC_THERE),
            sender.name()
        ))?;
        sender.ip(&format!(
            "addr add 10.9.0.2/24 dev {THERE}\nlink set {THERE} up\n"
        ))?;
        // Spoofed sources are to come as far as the firewall, wherever it is.
        host.ip(&format!("route add default via 10.9.0.2 dev {HERE}\n"))?;
        host.sysctl(&[
            ("ipv4/conf/all/rp_filter", "0"),
            (&format!("ipv4/conf/{HERE}/rp_filter"), "0"),
        ])?;
        // With GRO the receiving side polls: what a veth needs to be given
        // frames instead of socket buffers, and what real cards do.
        host.run(|| enable_gro(HERE))?.context("switching GRO on")?;
        sender
            .run(|| enable_gro(THERE))?
            .context("switching GRO on")?;
        Ok(Self { host, sender })
    }

    /// Packets that `hf0` has been given so far.
    pub(crate) fn received(&self) -> Result<u64> {
        // /sys shows the interfaces of the namespace that it was mounted in.
        let text = netns::run(
            self.host
                .command("ip")
                .args(["-json", "-stats", "link", "show", HERE]),
            None,
        )?;
        let links: serde_json::Value = serde_json::from_str(&text).context("output of ip")?;
        links[0]["stats64"]["rx"]["packets"]
            .as_u64()
            .context("a number of packets")
    }

    /// Attaches a pinned program to `hf0` at native XDP.
    pub(crate) fn attach_native(&self, pin: &str) -> Result<()> {
        netns::run(
            self.host
                .command("ip")
                .args(["link", "set", HERE, "xdpdrv", "pinned", pin]),
            None,
        )
        .map(drop)
    }
}

/// `hf0`, as the agent would describe it.
pub(crate) fn interface() -> Interface {
    Interface {
        index: INDEX_HERE,
        name: HERE.to_owned(),
        addresses: vec![
            std::net::Ipv4Addr::from(NODE).into(),
            std::net::Ipv6Addr::from(NODE_V6).into(),
        ],
        link_header: true,
        loopback: false,
        up: true,
        master: None,
    }
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

/// Of the calling thread's namespace.
fn enable_gro(name: &str) -> io::Result<()> {
    /// include/uapi/linux/ethtool.h
    const ETHTOOL_SGRO: u32 = 0x2c;
    /// include/uapi/linux/sockios.h
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value {
        command: ETHTOOL_SGRO,
        data: 1,
    };
    // SAFETY: zero is a valid value of a plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the request points to a value that lives until the call returns.
    if unsafe { libc::ioctl(fd, SIOCETHTOOL, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
