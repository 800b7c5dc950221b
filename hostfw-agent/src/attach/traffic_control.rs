//! Filters on the clsact queueing discipline, for kernels without TCX (before
//! 6.6).
//!
//! A filter is no link: it stays until removed. Ours is known by its place, so
//! that an agent finds and replaces what an earlier one has put there.

use std::{collections::BTreeSet, io, os::fd::AsRawFd as _};

use aya::programs::ProgramFd;
use hostfw_common::{ABI_VERSION, verdict::Direction};

use super::netlink::{Message, Request, attribute, u32_at};

/// Ahead of every other filter: one that answers `TC_ACT_OK` ends the list, so
/// behind it we would judge nothing.
const PRIORITY: u32 = 1;
/// `hfw1`: no number that the kernel or another program would choose.
const HANDLE: u32 = 0x6866_7731;
/// `TC_H_CLSACT`: also the handle of the discipline's parent.
const CLSACT: u32 = 0xffff_fff1;
/// `TC_H_MAKE(TC_H_CLSACT, 0)`.
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// linux/if_ether.h, in network byte order as the kernel wants it here.
const ETH_P_ALL: u16 = (libc::ETH_P_ALL as u16).to_be();

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
/// The program's return value is the verdict.
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
/// `struct tcmsg`.
const TCMSG: usize = 20;

const fn parent(direction: Direction) -> u32 {
    // TC_H_MIN_INGRESS and TC_H_MIN_EGRESS of linux/pkt_sched.h.
    CLSACT_HANDLE
        | match direction {
            Direction::Ingress => 0xfff2,
            Direction::Egress => 0xfff3,
        }
}

fn tcmsg(ifindex: u32, handle: u32, parent: u32, info: u32) -> [u8; TCMSG] {
    let mut header = [0; TCMSG];
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    header[8..12].copy_from_slice(&handle.to_ne_bytes());
    header[12..16].copy_from_slice(&parent.to_ne_bytes());
    header[16..20].copy_from_slice(&info.to_ne_bytes());
    header
}

const INFO: u32 = PRIORITY << 16 | ETH_P_ALL as u32;

/// Puts the program in place of ours that is there, or in a place of its own.
/// Adds the discipline where there is none.
pub(super) fn set_filter(
    ifindex: u32,
    direction: Direction,
    program: &ProgramFd,
    name: &str,
) -> io::Result<()> {
    let discipline = Request::new(
        libc::RTM_NEWQDISC,
        libc::NLM_F_CREATE | libc::NLM_F_EXCL,
        &tcmsg(ifindex, CLSACT_HANDLE, CLSACT, 0),
    )
    .attribute(TCA_KIND, b"clsact\0")
    .send(libc::NETLINK_ROUTE, drop);
    match discipline {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let fd = std::os::fd::AsFd::as_fd(program).as_raw_fd();
    let name = format!("{name}{}\0", version_suffix());
    // Without NLM_F_EXCL the kernel swaps the filter of this handle for the
    // new one under RCU: no packet meets neither.
    Request::new(
        libc::RTM_NEWTFILTER,
        libc::NLM_F_CREATE,
        &tcmsg(ifindex, HANDLE, parent(direction), INFO),
    )
    .attribute(TCA_KIND, b"bpf\0")
    .nested(TCA_OPTIONS, |options| {
        options
            .attribute(TCA_BPF_FD, &fd.to_ne_bytes())
            .attribute(TCA_BPF_NAME, name.as_bytes())
            .attribute(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes())
    })
    .send(libc::NETLINK_ROUTE, drop)
}

/// Our filter, as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// Number of its program.
    pub(super) program: u32,
    /// Its program is on the maps of this version's ABI.
    pub(super) this_version: bool,
}

/// Ends a filter's name: a filter is in no folder that could tell it.
fn version_suffix() -> String {
    format!("-v{ABI_VERSION}")
}

/// Our filter, if it is there.
pub(super) fn filter(ifindex: u32, direction: Direction) -> io::Result<Option<Filter>> {
    let mut found = None;
    each_filter(ifindex, direction, |message| {
        found = found.or_else(|| own_filter(message));
    })?;
    Ok(found)
}

/// Removes our filter, and the discipline if it holds no other. `false` if
/// there was none.
pub(super) fn remove_filter(ifindex: u32, direction: Direction) -> io::Result<bool> {
    if filter(ifindex, direction)?.is_none() {
        return Ok(false);
    }
    Request::new(
        libc::RTM_DELTFILTER,
        0,
        &tcmsg(ifindex, HANDLE, parent(direction), INFO),
    )
    .attribute(TCA_KIND, b"bpf\0")
    .send(libc::NETLINK_ROUTE, drop)?;
    let mut others = 0;
    for direction in Direction::ALL {
        each_filter(ifindex, direction, |_| others += 1)?;
    }
    if others == 0 {
        Request::new(
            libc::RTM_DELQDISC,
            0,
            &tcmsg(ifindex, CLSACT_HANDLE, CLSACT, 0),
        )
        .send(libc::NETLINK_ROUTE, drop)?;
    }
    Ok(true)
}

fn each_filter(ifindex: u32, direction: Direction, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let dump = Request::new(
        libc::RTM_GETTFILTER,
        libc::NLM_F_DUMP,
        &tcmsg(ifindex, 0, parent(direction), 0),
    )
    .send(libc::NETLINK_ROUTE, |Message { kind, payload }| {
        // For each list of filters there is also a message without handle.
        if kind == libc::RTM_NEWTFILTER && u32_at(&payload, 8) != Some(0) {
            each(&payload);
        }
    });
    match dump {
        // No such discipline, or no such interface: no filters.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EINVAL | libc::ENODEV | libc::ENOENT)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Our filter, if the message describes it.
fn own_filter(message: &[u8]) -> Option<Filter> {
    if u32_at(message, 8)? != HANDLE || u32_at(message, 16)? >> 16 != PRIORITY {
        return None;
    }
    let options = attribute(message.get(TCMSG..)?, TCA_OPTIONS)?;
    let name = attribute(options, TCA_BPF_NAME).unwrap_or_default();
    Some(Filter {
        program: u32_at(attribute(options, TCA_BPF_ID)?, 0)?,
        this_version: name
            .strip_suffix(b"\0")
            .unwrap_or(name)
            .ends_with(version_suffix().as_bytes()),
    })
}

/// `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;

/// How the kernel runs an interface's XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum XdpMode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

fn xdp_mode_of(message: &[u8]) -> Option<XdpMode> {
    let xdp = attribute(message.get(IFINFOMSG..)?, IFLA_XDP)?;
    // XDP_ATTACHED_* of linux/if_link.h.
    match attribute(xdp, IFLA_XDP_ATTACHED)?.first()? {
        1 => Some(XdpMode::Native),
        2 => Some(XdpMode::Generic),
        _ => None,
    }
}

/// How an interface's XDP program runs, if it has one.
pub(super) fn xdp_mode(ifindex: u32) -> io::Result<Option<XdpMode>> {
    link(ifindex, xdp_mode_of)
}

fn is_kind(message: &[u8], kind: &[u8]) -> Option<bool> {
    let info = attribute(message.get(IFINFOMSG..)?, IFLA_LINKINFO)?;
    Some(attribute(info, IFLA_INFO_KIND)? == kind)
}

fn is_bond_of(message: &[u8]) -> Option<bool> {
    is_kind(message, b"bond\0")
}

/// Whether other interfaces are members of this one, or may be: a bond need not
/// have any yet.
pub(super) fn may_have_members(ifindex: u32) -> io::Result<bool> {
    let mut found = link(ifindex, is_bond_of)?.unwrap_or(false);
    Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &[0; IFINFOMSG]).send(
        libc::NETLINK_ROUTE,
        |message| {
            found |= master_of(&message.payload) == Some(ifindex);
        },
    )?;
    Ok(found)
}

fn master_of(message: &[u8]) -> Option<u32> {
    u32_at(attribute(message.get(IFINFOMSG..)?, IFLA_MASTER)?, 0)
}

/// The interface below, if this is a VLAN interface.
fn below_vlan(message: &[u8]) -> Option<u32> {
    if !is_kind(message, b"vlan\0")? {
        return None;
    }
    let attributes = message.get(IFINFOMSG..)?;
    // Of an interface that is in another network namespace the number says
    // nothing here.
    if attribute(attributes, IFLA_LINK_NETNSID).is_some() {
        return None;
    }
    u32_at(attribute(attributes, IFLA_LINK)?, 0)
}

/// The interfaces that have VLAN interfaces on them.
pub(super) fn below_vlans() -> io::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &[0; IFINFOMSG]).send(
        libc::NETLINK_ROUTE,
        |message| {
            found.extend(below_vlan(&message.payload));
        },
    )?;
    Ok(found)
}

/// What `read` finds in the kernel's description of an interface.
fn link<T>(ifindex: u32, read: impl Fn(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
    let mut header = [0; IFINFOMSG];
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    let mut found = None;
    Request::new(libc::RTM_GETLINK, 0, &header).send(libc::NETLINK_ROUTE, |message| {
        found = found.take().or_else(|| read(&message.payload));
    })?;
    Ok(found)
}

/// The indices of all interfaces.
pub(super) fn interfaces() -> io::Result<Vec<u32>> {
    let mut indices = Vec::new();
    Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &[0; IFINFOMSG])
        .send(libc::NETLINK_ROUTE, |message| {
            indices.extend(u32_at(&message.payload, 4))
        })?;
    Ok(indices)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute_bytes(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn our_filter_is_known_by_its_place() {
        let mut ours = tcmsg(3, HANDLE, parent(Direction::Egress), INFO).to_vec();
        ours.extend(attribute_bytes(TCA_KIND, b"bpf\0"));
        let name = format!("hostfw_tc_out-v{ABI_VERSION}\0");
        let options = |name: &str| {
            let mut options = attribute_bytes(TCA_BPF_NAME, name.as_bytes());
            options.extend(attribute_bytes(TCA_BPF_ID, &77_u32.to_ne_bytes()));
            attribute_bytes(TCA_OPTIONS, &options)
        };
        let mut other_version = ours.clone();
        ours.extend(options(&name));
        other_version.extend(options("hostfw_tc_out-v0\0"));
        let filter = |this_version| Filter {
            program: 77,
            this_version,
        };
        assert_eq!(own_filter(&ours), Some(filter(true)));
        assert_eq!(own_filter(&other_version), Some(filter(false)));

        let mut other_handle = ours.clone();
        other_handle[8] ^= 1;
        assert_eq!(own_filter(&other_handle), None);
        let mut other_priority = ours.clone();
        other_priority[18] ^= 1;
        assert_eq!(own_filter(&other_priority), None);
        assert_eq!(own_filter(&ours[..TCMSG]), None);
    }

    #[test]
    fn the_mode_of_xdp_is_read() {
        let link = |attached: u8| {
            let mut bytes = vec![0; IFINFOMSG];
            bytes.extend(attribute_bytes(
                IFLA_XDP,
                &attribute_bytes(IFLA_XDP_ATTACHED, &[attached]),
            ));
            bytes
        };
        assert_eq!(xdp_mode_of(&link(1)), Some(XdpMode::Native));
        assert_eq!(xdp_mode_of(&link(2)), Some(XdpMode::Generic));
        assert_eq!(xdp_mode_of(&link(0)), None);
        assert_eq!(xdp_mode_of(&[0; IFINFOMSG]), None);
    }

    #[test]
    fn a_bond_is_known_by_its_kind() {
        let link = |kind: &[u8]| {
            let mut bytes = vec![0; IFINFOMSG];
            let info = attribute_bytes(IFLA_INFO_KIND, kind);
            bytes.extend(attribute_bytes(IFLA_LINKINFO, &info));
            bytes
        };
        assert_eq!(is_bond_of(&link(b"bond\0")), Some(true));
        assert_eq!(is_bond_of(&link(b"bond_slave\0")), Some(false));
        assert_eq!(is_bond_of(&link(b"veth\0")), Some(false));
        assert_eq!(is_bond_of(&[0; IFINFOMSG]), None);
    }

    #[test]
    fn a_member_names_its_master() {
        let mut member = vec![0; IFINFOMSG];
        member.extend(attribute_bytes(IFLA_MASTER, &7_u32.to_ne_bytes()));
        assert_eq!(master_of(&member), Some(7));
        assert_eq!(master_of(&[0; IFINFOMSG]), None);
        // The loopback interface is there, and nobody's master.
        assert!(!may_have_members(1).unwrap());
    }

    #[test]
    fn a_vlan_names_the_interface_below() {
        let link = |kind: &[u8], namespace: Option<u32>| {
            let mut bytes = vec![0; IFINFOMSG];
            let info = attribute_bytes(IFLA_INFO_KIND, kind);
            bytes.extend(attribute_bytes(IFLA_LINK, &7_u32.to_ne_bytes()));
            bytes.extend(attribute_bytes(IFLA_LINKINFO, &info));
            if let Some(namespace) = namespace {
                bytes.extend(attribute_bytes(IFLA_LINK_NETNSID, &namespace.to_ne_bytes()));
            }
            bytes
        };
        assert_eq!(below_vlan(&link(b"vlan\0", None)), Some(7));
        assert_eq!(below_vlan(&link(b"vlan\0", Some(0))), None);
        // The other end of a pair is named so, too.
        assert_eq!(below_vlan(&link(b"veth\0", None)), None);
        assert_eq!(below_vlan(&[0; IFINFOMSG]), None);
        assert!(!below_vlans().unwrap().contains(&1));
    }

    #[test]
    fn the_filter_of_an_interface_that_is_not_there_is_none() {
        assert_eq!(filter(u32::MAX >> 1, Direction::Ingress).unwrap(), None);
    }
}
