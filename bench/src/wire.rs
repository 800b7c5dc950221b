//! Two interfaces back to back: `hf0` here, which is protected, and `hf1` in a
//! namespace of its own, which sends.

use std::{io, process::Command};

use anyhow::{Context as _, Result};
use hostfw_agent::model::Interface;
use hostfw_tests::netns::{self, Namespace};

pub(crate) const HERE: &str = "hf0";
const THERE: &str = "hf1";
pub(crate) const ADDRESS_HERE: [u8; 4] = [10, 9, 0, 1];

/// Both interfaces, up.
pub(crate) struct Wire {
    pub(crate) sender: Namespace,
    /// Index of `hf0`.
    pub(crate) here: u32,
    /// Index of `hf1`, in the sender's namespace.
    pub(crate) there: u32,
    mac_here: [u8; 6],
}

impl Wire {
    pub(crate) fn up() -> Result<Self> {
        let sender = Namespace::create("sender")?;
        ip(&format!(
            "link add {HERE} type veth peer name {THERE} netns sender"
        ))?;
        ip(&format!("addr add 10.9.0.1/24 dev {HERE}"))?;
        ip(&format!("link set {HERE} up"))?;
        sender.ip(&format!(
            "addr add 10.9.0.2/24 dev {THERE}\nlink set {THERE} up\n"
        ))?;
        // With GRO the receiving side polls: what a veth needs to be given
        // frames instead of socket buffers, and what real cards do.
        enable_gro(HERE).context("switching GRO on")?;
        sender
            .run(|| enable_gro(THERE))?
            .context("switching GRO on")?;
        let link = link()?;
        let here = if_index(HERE)?;
        let mac = link["address"].as_str().context("hardware address")?;
        let mut mac_here = [0; 6];
        for (byte, text) in mac_here.iter_mut().zip(mac.split(':')) {
            *byte = u8::from_str_radix(text, 16).context("hardware address")?;
        }
        let there = sender.run(|| if_index(THERE))??;
        Ok(Self {
            sender,
            here,
            there,
            mac_here,
        })
    }

    /// `hf0`, as the agent would describe it.
    pub(crate) fn interface(&self) -> Interface {
        Interface {
            index: self.here,
            name: HERE.to_owned(),
            addresses: vec![ADDRESS_HERE.into()],
            link_header: true,
            loopback: false,
            up: true,
            master: None,
        }
    }

    /// A UDP packet of 64 bytes to `hf0`'s address, from an address that no
    /// rule names.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut packet = Vec::with_capacity(64);
        packet.extend(self.mac_here);
        packet.extend([2, 0, 0, 0, 0, 1]);
        packet.extend([0x08, 0x00]);
        let length: u16 = 64 - 14;
        let mut header = vec![0x45, 0];
        header.extend(length.to_be_bytes());
        header.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        header.extend([198, 51, 100, 7]);
        header.extend(ADDRESS_HERE);
        let sum = checksum(&header).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        packet.extend(header);
        // Ports, length, and no checksum (RFC 768).
        packet.extend(40_000u16.to_be_bytes());
        packet.extend(9u16.to_be_bytes());
        packet.extend((length - 20).to_be_bytes());
        packet.extend([0, 0]);
        packet.resize(64, 0);
        packet
    }

    /// Packets that `hf0` has been given so far.
    pub(crate) fn received(&self) -> Result<u64> {
        link()?["stats64"]["rx"]["packets"]
            .as_u64()
            .context("a number of packets")
    }
}

/// `hf0` as `ip` describes it: /sys shows the interfaces of the namespace that
/// it was mounted in.
fn link() -> Result<serde_json::Value> {
    let text = netns::run(
        Command::new("ip").args(["-json", "-stats", "link", "show", HERE]),
        None,
    )?;
    let links: serde_json::Value = serde_json::from_str(&text).context("output of ip")?;
    Ok(links[0].clone())
}

fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ip(arguments: &str) -> Result<()> {
    netns::run(Command::new("ip").args(arguments.split_whitespace()), None).map(drop)
}

fn if_index(name: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: a terminated string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_its_checksum_sums_to_nothing() {
        // RFC 1071's way to check.
        let mut header = vec![
            0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ];
        let sum = checksum(&header).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        assert_eq!(checksum(&header), 0);
    }
}
