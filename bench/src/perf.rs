//! Cache misses, where the machine counts them.

use std::{
    fs::File,
    io::{self, Read as _},
    mem,
    os::fd::FromRawFd as _,
};

/// A counter of this thread's cache misses, in the kernel too.
pub(crate) struct CacheMisses(io::Result<File>);

/// linux/perf_event.h, as far as the first version of the structure goes.
#[repr(C)]
#[derive(Default)]
struct EventAttr {
    kind: u32,
    size: u32,
    config: u64,
    period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    breakpoint: u32,
    config1: u64,
}

impl CacheMisses {
    pub(crate) fn open() -> Self {
        const TYPE_HARDWARE: u32 = 0;
        const COUNT_CACHE_MISSES: u64 = 3;
        let attr = EventAttr {
            kind: TYPE_HARDWARE,
            size: mem::size_of::<EventAttr>() as u32,
            config: COUNT_CACHE_MISSES,
            ..EventAttr::default()
        };
        // SAFETY: the structure is as large as it says and lives until the call
        // returns; this thread, any CPU, no group, no flags.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, 0, -1, -1, 0) };
        if fd < 0 {
            return Self(Err(io::Error::last_os_error()));
        }
        // SAFETY: new, and ours alone.
        Self(Ok(unsafe { File::from_raw_fd(fd as libc::c_int) }))
    }

    /// Misses so far.
    pub(crate) fn read(&mut self) -> Option<u64> {
        let mut value = [0; 8];
        let file = self.0.as_mut().ok()?;
        file.read_exact(&mut value).ok()?;
        Some(u64::from_ne_bytes(value))
    }

    /// Why there are none.
    pub(crate) fn unavailable(&self) -> Option<String> {
        let error = self.0.as_ref().err()?;
        Some(format!("the machine does not count them ({error})"))
    }
}
