//! What is attached to interfaces, as the kernel tells it: pinned links and
//! filters. Nothing is remembered here, so that a new agent finds what an
//! earlier one has left.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use aya::programs::ProgramFd;
use aya_obj::generated::{
    XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE,
    bpf_attach_type::{BPF_TCX_EGRESS, BPF_TCX_INGRESS, BPF_XDP},
};
use hostfw_common::verdict::Direction;

use super::{
    DataplaneError, HookKind,
    traffic_control::{self, XdpMode},
};
use crate::maps::{
    BpfError,
    bpf::{self, LinkHook, LinkInfo},
    pins::{self, Pins, failed},
};

/// Ends the name of a pin that is about to replace another.
const FRESH: &str = "_fresh";

/// What judges the packets of one direction of an interface.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) kind: HookKind,
    /// Number of the program.
    pub(super) program: u32,
    /// The link and its pin, unless it is a filter.
    link: Option<(OwnedFd, PathBuf)>,
}

const fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

fn pin_name(ifindex: u32, direction: Direction) -> String {
    format!("{ifindex}-{}", word(direction))
}

/// Reads the name of a pinned link.
fn parse_name(name: &str) -> Option<(u32, Direction)> {
    let (ifindex, rest) = name.split_once('-')?;
    let direction = Direction::ALL
        .into_iter()
        .find(|direction| word(*direction) == rest)?;
    Some((ifindex.parse().ok()?, direction))
}

/// What a pinned link is; `None` if nothing is there, or it is dead: its
/// interface is gone, or is not the one that it was pinned for.
fn pinned(path: &Path, ifindex: u32) -> Result<Option<(OwnedFd, LinkInfo)>, BpfError> {
    let link = match bpf::open_pin(path) {
        Ok(link) => link,
        Err(error) if error.is(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(bpf::link_info(&link)?
        .filter(|info| info.ifindex == ifindex)
        .map(|info| (link, info)))
}

/// What judges a direction's packets: the link in the first of the folders
/// that has one, else the filter. `this_version`: only a filter on the maps of
/// this version's ABI.
pub(super) fn current(
    folders: &[Pins],
    this_version: bool,
    ifindex: u32,
    direction: Direction,
) -> Result<Option<Current>, DataplaneError> {
    let failed = |error| DataplaneError::Kernel {
        action: "look at the programs of",
        ifindex,
        error,
    };
    for folder in folders {
        let path = folder.links().join(pin_name(ifindex, direction));
        let found = pinned(&path, ifindex).map_err(|error| failed(error.to_string()))?;
        if let Some((link, info)) = found {
            let kind = match info.hook {
                LinkHook::Tcx => HookKind::Tcx,
                LinkHook::Xdp => match traffic_control::xdp_mode(ifindex)
                    .map_err(|error| failed(error.to_string()))?
                {
                    Some(XdpMode::Generic) => HookKind::XdpGeneric,
                    Some(XdpMode::Native) | None => HookKind::XdpNative,
                },
            };
            return Ok(Some(Current {
                kind,
                program: info.program,
                link: Some((link, path)),
            }));
        }
    }
    let filter =
        traffic_control::filter(ifindex, direction).map_err(|error| failed(error.to_string()))?;
    Ok(filter
        .filter(|filter| filter.this_version || !this_version)
        .map(|filter| Current {
            kind: HookKind::Clsact,
            program: filter.program,
            link: None,
        }))
}

/// Puts another program in the place of the one that is there.
pub(super) fn replace(
    current: &Current,
    folder: &Pins,
    ifindex: u32,
    direction: Direction,
    (name, program): (&str, &ProgramFd),
) -> Result<(), String> {
    let Some((link, path)) = &current.link else {
        return traffic_control::set_filter(ifindex, direction, program, name)
            .map_err(|error| error.to_string());
    };
    bpf::update_link(link, program).map_err(|error| error.to_string())?;
    let own = folder.links().join(pin_name(ifindex, direction));
    if *path != own {
        fs::rename(path, &own).map_err(|error| failed("rename", path)(error).to_string())?;
    }
    Ok(())
}

/// Attaches a program where `kind` says, and pins it.
pub(super) fn attach(
    kind: HookKind,
    folder: &Pins,
    ifindex: u32,
    direction: Direction,
    (name, program): (&str, &ProgramFd),
) -> Result<(), String> {
    let Some(link) = link(kind, ifindex, direction, program).map_err(|error| error.to_string())?
    else {
        return traffic_control::set_filter(ifindex, direction, program, name)
            .map_err(|error| error.to_string());
    };
    let path = folder.links().join(pin_name(ifindex, direction));
    let fresh = folder
        .links()
        .join(format!("{}{FRESH}", pin_name(ifindex, direction)));
    pins::remove(&fresh)
        .map_err(|error| error.to_string())
        .and_then(|_| bpf::pin(&link, &fresh).map_err(|error| error.to_string()))
        .and_then(|()| {
            fs::rename(&fresh, &path).map_err(|error| failed("rename", &fresh)(error).to_string())
        })
}

/// Makes a link; `None` where there are none.
fn link(
    kind: HookKind,
    ifindex: u32,
    direction: Direction,
    program: &ProgramFd,
) -> Result<Option<OwnedFd>, BpfError> {
    let (attach_type, flags) = match kind {
        HookKind::XdpNative => (BPF_XDP, XDP_FLAGS_DRV_MODE),
        HookKind::XdpGeneric => (BPF_XDP, XDP_FLAGS_SKB_MODE),
        // Ahead of the others: one that answers TCX_PASS ends the list, so
        // behind it we would judge nothing.
        HookKind::Tcx => match direction {
            Direction::Ingress => (BPF_TCX_INGRESS, bpf::TCX_FIRST),
            Direction::Egress => (BPF_TCX_EGRESS, bpf::TCX_FIRST),
        },
        HookKind::Clsact => return Ok(None),
    };
    bpf::create_link(program, ifindex, attach_type, flags).map(Some)
}

/// A link that lives only as long as what this returns, to judge packets while
/// XDP changes its mode. `None` without TCX.
pub(super) fn bridge(ifindex: u32, program: &ProgramFd) -> Option<OwnedFd> {
    link(HookKind::Tcx, ifindex, Direction::Ingress, program)
        .inspect_err(|error| {
            tracing::warn!(
                ifindex,
                %error,
                "XDP changes its mode: packets pass unjudged for an instant"
            );
        })
        .ok()
        .flatten()
}

/// Takes away what judges a direction's packets.
pub(super) fn remove(
    current: Current,
    ifindex: u32,
    direction: Direction,
) -> Result<(), DataplaneError> {
    match current.link {
        Some((link, path)) => remove_link(&link, &path),
        None => remove_filter(ifindex, direction).map(drop),
    }
}

/// Removes our filter. `false` if there was none.
pub(super) fn remove_filter(ifindex: u32, direction: Direction) -> Result<bool, DataplaneError> {
    traffic_control::remove_filter(ifindex, direction).map_err(|error| DataplaneError::Kernel {
        action: "remove the filter of",
        ifindex,
        error: error.to_string(),
    })
}

/// Takes a program off after one of another kind was attached, whose pin has
/// taken the place of this one's if it is a link too.
pub(super) fn retire(
    current: Current,
    successor: HookKind,
    ifindex: u32,
    direction: Direction,
    folder: &Pins,
) -> Result<(), DataplaneError> {
    match &current.link {
        Some((link, path))
            if successor != HookKind::Clsact
                && *path == folder.links().join(pin_name(ifindex, direction)) =>
        {
            detach(link);
            Ok(())
        }
        Some(_) | None => remove(current, ifindex, direction),
    }
}

fn detach(link: &OwnedFd) {
    // A link of a vanished interface is detached already, and one that stays
    // attached goes with its pin.
    if let Err(error) = bpf::detach_link(link) {
        tracing::debug!(%error, "link goes with its last reference");
    }
}

fn remove_link(link: &OwnedFd, path: &Path) -> Result<(), DataplaneError> {
    detach(link);
    pins::remove(path)?;
    Ok(())
}

/// The interfaces for which links are pinned.
pub(super) fn pinned_interfaces(folder: &Pins) -> Result<Vec<u32>, DataplaneError> {
    let mut indices: Vec<u32> = pins::names(&folder.links())?
        .iter()
        .filter_map(|name| parse_name(name))
        .map(|(ifindex, _)| ifindex)
        .collect();
    indices.sort_unstable();
    indices.dedup();
    Ok(indices)
}

/// Removes links whose interfaces are gone, and pins that never became a
/// link's own. Returns how many.
pub(super) fn remove_stale(folder: &Pins) -> Result<usize, DataplaneError> {
    let mut removed = 0;
    for name in pins::names(&folder.links())? {
        let path = folder.links().join(&name);
        let alive = match parse_name(&name) {
            Some((ifindex, _)) => matches!(pinned(&path, ifindex), Ok(Some(_))),
            None => false,
        };
        if !alive && pins::remove(&path)? {
            tracing::info!(link = name, "removed a link whose interface is gone");
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes every link of a folder, attached or not. Returns how many.
pub(super) fn remove_all(folder: &Pins) -> Result<usize, DataplaneError> {
    let mut removed = 0;
    for name in pins::names(&folder.links())? {
        let path = folder.links().join(name);
        if let Ok(link) = bpf::open_pin(&path) {
            detach(&link);
        }
        removed += usize::from(pins::remove(&path)?);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_pin_tells_interface_and_direction() {
        for direction in Direction::ALL {
            assert_eq!(parse_name(&pin_name(17, direction)), Some((17, direction)));
        }
        for name in ["17", "eth0-ingress", "17-ingress_fresh", "-egress"] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
