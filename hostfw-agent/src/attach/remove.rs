use std::path::Path;

use hostfw_common::verdict::Direction;

use super::{DataplaneError, links, netfilter, traffic_control};
use crate::maps::{
    Lock, PinError,
    pins::{self, Pins},
};

/// What [`remove_all`] took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Links, which held a program each.
    pub links: usize,
    /// Filters on clsact.
    pub filters: usize,
    /// Pinned maps.
    pub maps: usize,
}

/// Removes everything that agents of any version have put in place below the
/// pin root: programs, filters, maps, and the folder itself. Filters are
/// removed in the network namespace of the caller.
///
/// # Errors
///
/// If an agent still uses the pin root, or the kernel refuses something.
pub fn remove_all(pin_root: &Path) -> Result<Removed, DataplaneError> {
    let mut removed = Removed::default();
    let mut lock = None;
    if pin_root.exists() {
        if !pins::on_bpffs(pin_root)? {
            return Err(PinError::NotBpffs(pin_root.to_path_buf()).into());
        }
        lock = Some(Lock::take(pin_root)?);
    }
    for ifindex in traffic_control::interfaces().map_err(DataplaneError::Interfaces)? {
        for direction in Direction::ALL {
            let was_there = links::remove_filter(ifindex, direction)?;
            removed.filters += usize::from(was_there);
        }
    }
    if lock.is_none() {
        return Ok(removed);
    }
    for folder in Pins::every(pin_root)? {
        removed.links += links::remove_all(&folder)? + netfilter::remove_all(&folder)?;
        for maps in [folder.maps(), folder.generation()] {
            removed.maps += pins::names(&maps)?.len();
        }
        folder.remove_all()?;
    }
    std::fs::remove_dir(pin_root).map_err(pins::failed("remove", pin_root))?;
    Ok(removed)
}
