//! The calls of bpf(2) for which aya has no public function: batches, links by
//! interface index, and what the kernel knows of an object.
//!
//! The only module that fills a `bpf_attr`. Everything it returns is owned:
//! a file descriptor closes itself.

mod netfilter;

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::Pod;
use aya_obj::generated::{
    BPF_F_BEFORE, bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type, bpf_map_info,
    bpf_map_type, bpf_prog_info,
};

pub(crate) use netfilter::{
    NetfilterHook, NetfilterProgram, create_netfilter_link, load_program, netfilter_link,
    test_netfilter, unless_interrupted,
};

/// A call that failed, with the name that bpf(2) gives it.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {error}")]
pub struct BpfError {
    /// The command.
    pub call: &'static str,
    /// What the kernel said.
    #[source]
    pub error: io::Error,
}

impl BpfError {
    /// Whether the kernel answered with this error number.
    pub(crate) fn is(&self, number: i32) -> bool {
        self.error.raw_os_error() == Some(number)
    }

    /// Whether the kernel does not know the command, or not for such a map.
    pub(crate) fn is_unsupported(&self) -> bool {
        // EINVAL: a kernel that is older than the command.
        self.is(ENOTSUPP) || self.is(libc::EOPNOTSUPP) || self.is(libc::EINVAL)
    }
}

/// What the kernel says of a command or a map type that it does not offer:
/// `ENOTSUPP`, a number of the kernel's own that libc does not name
/// (include/linux/errno.h).
const ENOTSUPP: i32 = 524;

fn empty() -> bpf_attr {
    // SAFETY: a union of structs of integers: all zeros is valid, and what the
    // kernel wants in the fields that a command does not use.
    unsafe { mem::zeroed() }
}

/// # Safety
///
/// Every pointer in `attr` that the command uses must be valid for what the
/// command reads and writes there.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr, call: &'static str) -> Result<i64, BpfError> {
    // SAFETY: `attr` is valid for its size; its pointers are, by contract.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(BpfError {
            call,
            error: io::Error::last_os_error(),
        });
    }
    Ok(result)
}

/// # Safety
///
/// As [`bpf`], and the command must be one that returns a new descriptor.
unsafe fn bpf_fd(
    command: bpf_cmd,
    attr: &mut bpf_attr,
    call: &'static str,
) -> Result<OwnedFd, BpfError> {
    // SAFETY: passed on.
    let fd = unsafe { bpf(command, attr, call) }?;
    // SAFETY: the kernel has just made this descriptor for us alone, and no
    // descriptor exceeds an int.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Borrows: a descriptor taken by value would be closed before it is used.
fn number(fd: &impl AsFd) -> u32 {
    // An open descriptor is never negative.
    fd.as_fd().as_raw_fd() as u32
}

fn c_path(path: &Path, call: &'static str) -> Result<CString, BpfError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|error| BpfError {
        call,
        error: io::Error::new(io::ErrorKind::InvalidInput, error),
    })
}

/// Writes all elements into a map: in one batch where the kernel has batches
/// for the map's type (arrays and hashes since 5.6, tries since 5.13),
/// otherwise one by one.
pub(crate) fn fill<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> Result<(), BpfError> {
    assert_eq!(keys.len(), values.len(), "every key has a value");
    let mut done = 0;
    while done < keys.len() {
        let mut attr = empty();
        attr.batch.keys = keys[done..].as_ptr() as u64;
        attr.batch.values = values[done..].as_ptr() as u64;
        attr.batch.count = u32::try_from(keys.len() - done).unwrap_or(u32::MAX);
        attr.batch.map_fd = number(&map);
        // SAFETY: keys and values are valid for `count` elements of the sizes
        // that the map was created with: both are Pod, and the callers create
        // the map from the same types.
        match unsafe {
            bpf(
                bpf_cmd::BPF_MAP_UPDATE_BATCH,
                &mut attr,
                "BPF_MAP_UPDATE_BATCH",
            )
        } {
            Ok(_) => {
                // SAFETY: the kernel has written how many elements it took.
                done += unsafe { attr.batch.count } as usize;
            }
            // EINVAL: kernels before 5.6 do not know the command.
            Err(error) if done == 0 && error.is_unsupported() => {
                return keys
                    .iter()
                    .zip(values)
                    .try_for_each(|(key, value)| update(map, key, value, 0));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes one element. `flags`: `BPF_ANY`, `BPF_NOEXIST`, ...
pub(crate) fn update<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &V,
    flags: u64,
) -> Result<(), BpfError> {
    let mut attr = empty();
    attr.__bindgen_anon_2.map_fd = number(&map);
    attr.__bindgen_anon_2.key = std::ptr::from_ref(key) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = std::ptr::from_ref(value) as u64;
    attr.__bindgen_anon_2.flags = flags;
    // SAFETY: key and value are valid for the sizes that the map was created
    // with, as in `fill`.
    unsafe {
        bpf(
            bpf_cmd::BPF_MAP_UPDATE_ELEM,
            &mut attr,
            "BPF_MAP_UPDATE_ELEM",
        )
    }
    .map(drop)
}

/// What [`read_batch`] has read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// How many elements.
    pub(crate) read: usize,
    /// There are no more.
    pub(crate) last: bool,
}

/// Reads elements of a hash map (Linux 5.6), whole buckets at a time, beginning
/// at a position that an earlier call has left, or `None`. Buckets are read under
/// their locks: what was there all the time is read.
///
/// # Errors
///
/// `ENOSPC` if there is no room for a bucket; nothing is lost then.
pub(crate) fn read_batch<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    position: &mut Option<u32>,
    keys: &mut [K],
    values: &mut [V],
) -> Result<Batch, BpfError> {
    assert_eq!(keys.len(), values.len(), "every key has a value");
    let mut next = 0_u32;
    let mut attr = empty();
    if let Some(position) = position {
        attr.batch.in_batch = std::ptr::from_ref(position) as u64;
    }
    attr.batch.out_batch = std::ptr::from_mut(&mut next) as u64;
    attr.batch.keys = keys.as_mut_ptr() as u64;
    attr.batch.values = values.as_mut_ptr() as u64;
    attr.batch.count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
    attr.batch.map_fd = number(&map);
    // SAFETY: keys and values are valid for writes of `count` elements of the sizes
    // that the map was created with, as in `fill`; a position in a hash map is 32
    // bits.
    let done = unsafe {
        bpf(
            bpf_cmd::BPF_MAP_LOOKUP_BATCH,
            &mut attr,
            "BPF_MAP_LOOKUP_BATCH",
        )
    };
    let last = match done {
        Ok(_) => false,
        Err(error) if error.is(libc::ENOENT) => true,
        Err(error) => return Err(error),
    };
    *position = Some(next);
    Ok(Batch {
        // SAFETY: the kernel has written how many elements it read.
        read: unsafe { attr.batch.count } as usize,
        last,
    })
}

/// Makes an array with one entry; of maps that are like `inner`, if that is given.
pub(crate) fn create_array(
    value_size: u32,
    inner: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, BpfError> {
    let mut attr = empty();
    attr.__bindgen_anon_1.map_type = match inner {
        None => bpf_map_type::BPF_MAP_TYPE_ARRAY,
        Some(_) => bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS,
    } as u32;
    attr.__bindgen_anon_1.key_size = size_of::<u32>() as u32;
    attr.__bindgen_anon_1.value_size = value_size;
    attr.__bindgen_anon_1.max_entries = 1;
    if let Some(inner) = inner {
        attr.__bindgen_anon_1.inner_map_fd = number(&inner);
    }
    // SAFETY: no pointers; returns a new descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_MAP_CREATE, &mut attr, "BPF_MAP_CREATE") }
}

/// Removes an element that is there.
pub(crate) fn delete<K: Pod>(map: BorrowedFd<'_>, key: &K) -> Result<(), BpfError> {
    let mut attr = empty();
    attr.__bindgen_anon_2.map_fd = number(&map);
    attr.__bindgen_anon_2.key = std::ptr::from_ref(key) as u64;
    // SAFETY: the key is valid for the size that the map was created with, as
    // in `fill`.
    unsafe {
        bpf(
            bpf_cmd::BPF_MAP_DELETE_ELEM,
            &mut attr,
            "BPF_MAP_DELETE_ELEM",
        )
    }
    .map(drop)
}

/// Opens what is pinned at the path: a map, a program or a link.
pub(crate) fn open_pin(path: &Path) -> Result<OwnedFd, BpfError> {
    let call = "BPF_OBJ_GET";
    let path = c_path(path, call)?;
    let mut attr = empty();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    // SAFETY: the path is a C string that outlives the call, which returns a
    // new descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_OBJ_GET, &mut attr, call) }
}

/// Pins an object at the path, which must not exist.
pub(crate) fn pin(object: impl AsFd, path: &Path) -> Result<(), BpfError> {
    let call = "BPF_OBJ_PIN";
    let path = c_path(path, call)?;
    let mut attr = empty();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = number(&object);
    // SAFETY: the path is a C string that outlives the call.
    unsafe { bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr, call) }.map(drop)
}

/// # Safety
///
/// `T` must be the plain struct of integers that the kernel fills for this
/// kind of object.
unsafe fn info<T>(object: impl AsFd) -> Result<T, BpfError> {
    // SAFETY: a struct of integers by contract: all zeros is valid, and asks
    // for none of the arrays that the kernel could fill.
    let mut info: T = unsafe { mem::zeroed() };
    let mut attr = empty();
    attr.info.bpf_fd = number(&object);
    attr.info.info_len = size_of::<T>() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    // SAFETY: `info` is valid for writes of `info_len` bytes.
    unsafe {
        bpf(
            bpf_cmd::BPF_OBJ_GET_INFO_BY_FD,
            &mut attr,
            "BPF_OBJ_GET_INFO_BY_FD",
        )
    }?;
    Ok(info)
}

/// What the kernel knows of a map.
pub(crate) fn map_info(map: impl AsFd) -> Result<bpf_map_info, BpfError> {
    // SAFETY: the struct of a map.
    unsafe { info(map) }
}

/// What the kernel knows of a program.
pub(crate) fn program_info(program: impl AsFd) -> Result<bpf_prog_info, BpfError> {
    // SAFETY: the struct of a program.
    unsafe { info(program) }
}

/// Opens loaded BTF by its number ([`program_info`] tells it).
pub(crate) fn open_btf(id: u32) -> Result<OwnedFd, BpfError> {
    let mut attr = empty();
    attr.__bindgen_anon_6.__bindgen_anon_1.btf_id = id;
    // SAFETY: no pointers; returns a new descriptor.
    unsafe {
        bpf_fd(
            bpf_cmd::BPF_BTF_GET_FD_BY_ID,
            &mut attr,
            "BPF_BTF_GET_FD_BY_ID",
        )
    }
}

/// Where a link holds its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkHook {
    /// XDP, native or generic: a link does not tell.
    Xdp,
    /// TCX, either direction.
    Tcx,
}

/// What the kernel knows of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    /// Where it is attached.
    pub(crate) hook: LinkHook,
    /// Interface index; 0 when the interface is gone.
    pub(crate) ifindex: u32,
    /// Number of its program.
    pub(crate) program: u32,
}

/// What the kernel knows of a link; `None` if it is not one of ours.
pub(crate) fn link_info(link: impl AsFd) -> Result<Option<LinkInfo>, BpfError> {
    // SAFETY: the struct of a link.
    let info: bpf_link_info = unsafe { info(link) }?;
    let (hook, ifindex) = if info.type_ == bpf_link_type::BPF_LINK_TYPE_XDP as u32 {
        // SAFETY: the kernel fills this part for a link of this type, and the
        // whole is zeroed.
        (LinkHook::Xdp, unsafe { info.__bindgen_anon_1.xdp.ifindex })
    } else if info.type_ == bpf_link_type::BPF_LINK_TYPE_TCX as u32 {
        // SAFETY: as above.
        (LinkHook::Tcx, unsafe { info.__bindgen_anon_1.tcx.ifindex })
    } else {
        return Ok(None);
    };
    Ok(Some(LinkInfo {
        hook,
        ifindex,
        program: info.prog_id,
    }))
}

/// Attaches a program to an interface. The link lives as long as its
/// descriptor or a pin.
pub(crate) fn create_link(
    program: impl AsFd,
    ifindex: u32,
    attach_type: bpf_attach_type,
    flags: u32,
) -> Result<OwnedFd, BpfError> {
    let mut attr = empty();
    attr.link_create.__bindgen_anon_1.prog_fd = number(&program);
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    attr.link_create.attach_type = attach_type as u32;
    attr.link_create.flags = flags;
    // SAFETY: no pointers; returns a new descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr, "BPF_LINK_CREATE") }
}

/// Flag of [`create_link`] for TCX: ahead of every program that is there.
pub(crate) const TCX_FIRST: u32 = BPF_F_BEFORE;

/// Replaces the program of a link: no packet goes unjudged.
pub(crate) fn update_link(link: impl AsFd, program: impl AsFd) -> Result<(), BpfError> {
    let mut attr = empty();
    attr.link_update.link_fd = number(&link);
    attr.link_update.__bindgen_anon_1.new_prog_fd = number(&program);
    // SAFETY: no pointers.
    unsafe { bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr, "BPF_LINK_UPDATE") }.map(drop)
}

/// Takes a link's program off its interface, at once: that its last descriptor
/// closes does so too, but only some time later.
pub(crate) fn detach_link(link: impl AsFd) -> Result<(), BpfError> {
    let mut attr = empty();
    attr.link_detach.link_fd = number(&link);
    // SAFETY: no pointers.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr, "BPF_LINK_DETACH") }.map(drop)
}
