//! The filter in front of the tables of flows
//! ([`hostfw_common::filter`]): put to use, and made anew when it is too full.
//!
//! Programs only set bits, those of flows that are long gone among them. So now
//! and then the bank that nobody looks up in is cleared and filled with the keys
//! that are in the tables, and then named in the head. What makes that safe:
//!
//! - who inserts a flow sets its bits in both banks first;
//! - between clearing and reading the tables every program that ran has returned.
//!   So a flow is in the tables already, or its bits are set after the clearing;
//! - the tables are read bucket by bucket, under the kernel's own locks;
//! - between naming a bank and clearing the other one, every program that may look
//!   up there has returned.
//!
//! An agent that is killed on the way leaves a head that names the former bank.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU64, Ordering, fence},
    time::{Duration, Instant},
};

use hostfw_common::{
    conntrack::{Flow, FlowKey},
    filter::{HEAD_BANK, HEAD_MASK, HEAD_SECRET, Head, MAX_LINES, Mark, Secret, banks, entries},
    index::{LINE_WORDS, Line},
    names::{CONFIRMED, FLOW_FILTER, HALF_OPEN},
};

use super::{BpfError, MapsError, bpf};

/// More than this share of a bank's bits set, and it is made anew: then one key
/// in 16 that is in no table is looked for there.
const FULL: f64 = 0.25;

/// What making a bank anew took is this share of a CPU at most, by waiting as much
/// longer before the next time.
const SHARE: u32 = 2000;

/// Keys that are read from a table at once, at first.
const AT_ONCE: usize = 4096;

/// The filter and the tables that it stands for.
pub(crate) struct FlowFilter {
    words: Words,
    lines: u32,
    half_open: OwnedFd,
    confirmed: OwnedFd,
    grace: Grace,
    /// No bank is made anew before.
    not_before: Option<Instant>,
}

impl FlowFilter {
    /// Takes over the filter as it is pinned, or puts it to use if nobody has.
    pub(crate) fn open(
        filter: OwnedFd,
        half_open: OwnedFd,
        confirmed: OwnedFd,
    ) -> Result<Self, MapsError> {
        let error = MapsError::bpf(FLOW_FILTER);
        let info = bpf::map_info(&filter).map_err(&error)?;
        let lines = info.max_entries.saturating_sub(1) / 2;
        if !lines.is_power_of_two() || lines > MAX_LINES || entries(lines) != info.max_entries {
            return Err(MapsError::Incompatible {
                name: FLOW_FILTER,
                field: "entries",
                expected: entries(MAX_LINES),
                found: info.max_entries,
            });
        }
        let words =
            Words::map(filter.as_fd(), info.max_entries).map_err(|error| MapsError::Bpf {
                name: FLOW_FILTER,
                error: BpfError {
                    call: "mmap",
                    error,
                },
            })?;
        let mut this = Self {
            words,
            lines,
            half_open,
            confirmed,
            grace: Grace::new().map_err(&error)?,
            not_before: None,
        };
        if !this.is_in_use() {
            this.begin()?;
        }
        Ok(this)
    }

    /// Whether the programs look up in one of the banks.
    fn is_in_use(&self) -> bool {
        let head = self.words.head();
        banks(self.lines).map(u64::from).contains(&head[HEAD_BANK])
            && head[HEAD_MASK] == u64::from(self.lines - 1)
    }

    /// Puts the filter to use. Until then the programs ask the tables, and what
    /// they have noted may be noted in the wrong places.
    fn begin(&mut self) -> Result<(), MapsError> {
        let head = Head::new(
            0,
            self.lines,
            &secret().map_err(|error| MapsError::Bpf {
                name: FLOW_FILTER,
                error: BpfError {
                    call: "read of /dev/urandom",
                    error,
                },
            })?,
        );
        self.words.put_head(&head);
        match self.renew() {
            // Then all packets cost what they cost without it.
            Err(MapsError::Bpf { error, .. }) if error.is_unsupported() => {
                tracing::info!(%error, "the filter of flows is not used");
                Ok(())
            }
            done => done,
        }
    }

    /// Notes that a flow is about to be inserted.
    pub(crate) fn mark(&self, key: &FlowKey) {
        let mark = Mark::of_key(key, &self.secret());
        for bank in banks(self.lines) {
            self.set(bank, mark);
        }
    }

    /// Makes a bank anew if the one in use is too full, and the last time is long
    /// enough ago. Whether it did.
    pub(crate) fn tend(&mut self, now: Instant) -> Result<bool, MapsError> {
        if self.not_before.is_some_and(|not_before| now < not_before)
            || !self.is_in_use()
            || self.fill() < FULL
        {
            return Ok(false);
        }
        // Also after a failure.
        let begun = Instant::now();
        let done = self.renew();
        let took = begun.elapsed();
        self.not_before = Some(now + (took * SHARE).max(Duration::from_secs(1)));
        tracing::debug!(
            ?took,
            fill = self.fill(),
            "the filter of flows was made anew"
        );
        done.map(|()| true)
    }

    /// Makes the bank that is not in use anew, and puts it to use.
    pub(crate) fn renew(&mut self) -> Result<(), MapsError> {
        let [first, second] = banks(self.lines);
        let used = self.words.head()[HEAD_BANK];
        let next = if used == u64::from(first) {
            second
        } else {
            first
        };
        // Nobody looks up there any more, nor hashes with another secret.
        self.wait()?;
        for word in self.words.bank(next, self.lines) {
            word.store(0, Ordering::Relaxed);
        }
        // Whoever has set bits before that has inserted its flow.
        self.wait()?;
        let secret = self.secret();
        for (name, table) in [(HALF_OPEN, &self.half_open), (CONFIRMED, &self.confirmed)] {
            for_each_key(table.as_fd(), |key| {
                self.set(next, Mark::of_key(key, &secret));
            })
            .map_err(MapsError::bpf(name))?;
        }
        fence(Ordering::SeqCst);
        self.words.all()[HEAD_BANK].store(u64::from(next), Ordering::SeqCst);
        Ok(())
    }

    fn wait(&self) -> Result<(), MapsError> {
        fence(Ordering::SeqCst);
        self.grace.wait().map_err(MapsError::bpf(FLOW_FILTER))
    }

    /// The share of bits that are set in the bank that is in use.
    pub(crate) fn fill(&self) -> f64 {
        let bank = self.words.head()[HEAD_BANK] as u32;
        if !banks(self.lines).contains(&bank) {
            return 0.0;
        }
        let words = self.words.bank(bank, self.lines);
        let set: u32 = words
            .iter()
            .map(|word| word.load(Ordering::Relaxed).count_ones())
            .sum();
        f64::from(set) / (words.len() as f64 * 64.0)
    }

    fn secret(&self) -> Secret {
        let mut secret = Secret::default();
        secret.copy_from_slice(&self.words.head()[HEAD_SECRET..]);
        secret
    }

    fn set(&self, bank: u32, mark: Mark) {
        let words = self.words.bank(bank, self.lines);
        let line = mark.line(self.lines - 1) as usize;
        let word = &words[line * LINE_WORDS + mark.word()];
        if word.load(Ordering::Relaxed) & mark.bits() != mark.bits() {
            word.fetch_or(mark.bits(), Ordering::SeqCst);
        }
    }
}

/// Odd numbers that nobody knows.
fn secret() -> io::Result<Secret> {
    let mut bytes = [0; size_of::<Secret>()];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut secret = Secret::default();
    for (word, bytes) in secret.iter_mut().zip(bytes.chunks_exact(8)) {
        for byte in bytes {
            *word = *word << 8 | u64::from(*byte);
        }
        *word |= 1;
    }
    Ok(secret)
}

/// All keys of a table of flows; those that come or go meanwhile may be among
/// them.
fn for_each_key(table: BorrowedFd<'_>, mut each: impl FnMut(&FlowKey)) -> Result<(), BpfError> {
    let mut keys = vec![FlowKey::default(); AT_ONCE];
    let mut values = vec![Flow::default(); AT_ONCE];
    let mut position = None;
    loop {
        match bpf::read_batch(table, &mut position, &mut keys, &mut values) {
            Ok(batch) => {
                keys[..batch.read].iter().for_each(&mut each);
                if batch.last {
                    return Ok(());
                }
            }
            // A bucket with more keys than there is room for.
            Err(error) if error.is(libc::ENOSPC) && keys.len() < 1 << 24 => {
                keys.resize(keys.len() * 2, FlowKey::default());
                values.resize(values.len() * 2, Flow::default());
            }
            Err(error) => return Err(error),
        }
    }
}

/// The map's memory.
struct Words {
    start: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the memory belongs to the value until it is dropped, and atomic words
// can be used by any thread.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    fn map(filter: BorrowedFd<'_>, lines: u32) -> io::Result<Self> {
        let count = lines as usize * LINE_WORDS;
        // SAFETY: new memory at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * size_of::<u64>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                filter.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        const { assert!(size_of::<Line>() == LINE_WORDS * size_of::<u64>()) };
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { start, count })
    }

    fn all(&self) -> &[AtomicU64] {
        // SAFETY: so many words are mapped as long as `self` lives, at the
        // beginning of a page; programs change them with instructions that are
        // atomic to whole words.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }

    fn bank(&self, first: u32, lines: u32) -> &[AtomicU64] {
        let first = first as usize * LINE_WORDS;
        &self.all()[first..first + lines as usize * LINE_WORDS]
    }

    fn head(&self) -> [u64; LINE_WORDS] {
        let mut head = [0; LINE_WORDS];
        for (value, word) in head.iter_mut().zip(self.all()) {
            *value = word.load(Ordering::SeqCst);
        }
        head
    }

    fn put_head(&self, head: &Head) {
        for (word, value) in self.all().iter().zip(head.words()) {
            word.store(*value, Ordering::SeqCst);
        }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: what `map` has mapped, and nobody uses any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<u64>()) };
    }
}

/// Waits until every program that runs has returned: by a write to an array of
/// maps, as [`Generations`](super::Generations) does, which tells why. It has one
/// of its own, so that it need not know which generation is in force.
struct Grace {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl Grace {
    fn new() -> Result<Self, BpfError> {
        let inner = bpf::create_array(size_of::<u32>() as u32, None)?;
        let outer = bpf::create_array(size_of::<u32>() as u32, Some(inner.as_fd()))?;
        Ok(Self { outer, inner })
    }

    fn wait(&self) -> Result<(), BpfError> {
        let inner = self.inner.as_raw_fd() as u32;
        bpf::update(self.outer.as_fd(), &0u32, &inner, 0)
    }
}
