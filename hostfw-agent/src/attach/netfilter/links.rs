//! The links to netfilter hooks: one for each family and hook, pinned.
//!
//! The kernel changes no such link, so a new agent's program is attached at
//! another priority beside the old one, and the old one goes then: for an
//! instant both judge, by the same maps.

use std::{
    fs,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use super::{NetfilterError, programs::Programs};
use crate::maps::{
    bpf::{self, NetfilterHook},
    pins::{self, Pins, failed},
};

/// A hook of netfilter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// What is for this host, after routing.
    LocalIn,
    /// What the host forwards, after routing.
    Forward,
}

/// A link that there must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    family: libc::c_int,
    pub(super) place: Place,
}

/// All links, or none: half of them would judge half of the packets.
pub(super) const POSITIONS: [Position; 4] = [
    Position::new(libc::NFPROTO_IPV4, Place::LocalIn),
    Position::new(libc::NFPROTO_IPV4, Place::Forward),
    Position::new(libc::NFPROTO_IPV6, Place::LocalIn),
    Position::new(libc::NFPROTO_IPV6, Place::Forward),
];

/// Where among a hook's functions, first choice first. Behind DNAT (-100), and
/// ahead of the filter tables (0): what they refuse is recorded, so that the
/// refusal gets out. Odd figures, for the kernel gives each to one only, and
/// rules tend to have round ones.
const PRIORITIES: [i32; 6] = [-11, -12, -13, -14, -16, -17];

/// Ends the name of a pin that is about to replace another.
const FRESH: &str = "_fresh";

impl Position {
    const fn new(family: libc::c_int, place: Place) -> Self {
        Self { family, place }
    }

    fn at(self, priority: i32) -> NetfilterHook {
        let hook = match self.place {
            Place::LocalIn => libc::NF_INET_LOCAL_IN,
            Place::Forward => libc::NF_INET_FORWARD,
        };
        NetfilterHook {
            family: self.family.cast_unsigned(),
            hook: hook.cast_unsigned(),
            priority,
        }
    }

    /// The name of its pin, and in messages.
    pub(super) fn name(self) -> String {
        let family = if self.family == libc::NFPROTO_IPV4 {
            "ipv4"
        } else {
            "ipv6"
        };
        let place = match self.place {
            Place::LocalIn => "local-in",
            Place::Forward => "forward",
        };
        format!("{family}-{place}")
    }

    fn pin(self, folder: &Pins) -> PathBuf {
        folder.netfilter().join(self.name())
    }

    fn fresh_pin(self, folder: &Pins) -> PathBuf {
        folder.netfilter().join(format!("{}{FRESH}", self.name()))
    }

    /// Makes a link at the first priority that nobody holds.
    fn link(self, programs: &Programs) -> Result<OwnedFd, NetfilterError> {
        let mut tried = Vec::new();
        for priority in PRIORITIES {
            match bpf::create_netfilter_link(programs.of(self.place), self.at(priority)) {
                Ok(link) => return Ok(link),
                Err(error) => {
                    let busy = error.is(libc::EBUSY);
                    tried.push(format!("priority {priority}: {error}"));
                    if !busy {
                        break;
                    }
                }
            }
        }
        Err(NetfilterError::Link {
            hook: self.name(),
            tried: tried.join("; "),
        })
    }
}

/// Names and priorities of the links that are pinned in the folder.
pub(super) fn hooks(folder: &Pins) -> Vec<(String, i32)> {
    let priority = |position: Position| {
        let link = bpf::open_pin(&position.pin(folder)).and_then(bpf::netfilter_link);
        let hook = link.ok().flatten()?;
        (position.at(hook.priority) == hook).then_some((position.name(), hook.priority))
    };
    POSITIONS.into_iter().filter_map(priority).collect()
}

/// Whether every link is pinned in the folder.
pub(super) fn attached(folder: &Pins) -> bool {
    hooks(folder).len() == POSITIONS.len()
}

/// Attaches the programs everywhere, and takes off those that the folder's
/// links have held. If one cannot be attached, all is as before.
pub(super) fn attach(programs: &Programs, folder: &Pins) -> Result<(), NetfilterError> {
    let fresh = POSITIONS
        .into_iter()
        .map(|position| {
            let link = position.link(programs)?;
            pins::remove(&position.fresh_pin(folder))?;
            bpf::pin(link.as_fd(), &position.fresh_pin(folder)).map_err(|error| {
                NetfilterError::Link {
                    hook: position.name(),
                    tried: error.to_string(),
                }
            })?;
            Ok((position, link))
        })
        .collect::<Result<Vec<_>, NetfilterError>>()
        .inspect_err(|_| remove_fresh(folder))?;
    for (position, _link) in &fresh {
        let (from, to) = (position.fresh_pin(folder), position.pin(folder));
        let old = bpf::open_pin(&to).ok();
        fs::rename(&from, &to).map_err(failed("rename", &from))?;
        if let Some(old) = old {
            detach(&old);
        }
    }
    Ok(())
}

/// Removes pins that never became a link's own.
pub(crate) fn remove_fresh(folder: &Pins) {
    for position in POSITIONS {
        let path = position.fresh_pin(folder);
        if let Err(error) = remove_link(path) {
            tracing::warn!(%error, "a link stays that should not");
        }
    }
}

/// Removes every link of a folder. Returns how many.
pub(crate) fn remove_all(folder: &Pins) -> Result<usize, crate::maps::PinError> {
    let mut removed = 0;
    for name in pins::names(&folder.netfilter())? {
        removed += usize::from(remove_link(folder.netfilter().join(name))?);
    }
    Ok(removed)
}

fn remove_link(path: PathBuf) -> Result<bool, crate::maps::PinError> {
    if let Ok(link) = bpf::open_pin(&path) {
        detach(&link);
    }
    pins::remove(&path)
}

/// At once: that the last reference goes does so too, but some time later.
fn detach(link: &OwnedFd) {
    if let Err(error) = bpf::detach_link(link) {
        tracing::debug!(%error, "link goes with its last reference");
    }
}
