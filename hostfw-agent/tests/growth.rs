//! What compiling costs, told without a clock: how often and for how many bytes it
//! asks for memory, and how much it makes.
//!
//! Whatever grows, none of that may grow faster than n log n. How long it takes is
//! for `bench/benches` to say, with the same inputs.

#[path = "growth/selections.rs"]
mod selections;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use hostfw_agent::{
    compile::{Cache, compile_with, image::Image},
    select::Selection,
};

/// Counts what each thread asks for.
struct Counting;

thread_local! {
    /// How often, and for how many bytes.
    static ASKED: Cell<[u64; 2]> = const { Cell::new([0; 2]) };
    /// How many bytes it has, and has had at most.
    static HELD: Cell<[i64; 2]> = const { Cell::new([0; 2]) };
}

fn count(bytes: usize) {
    // Threads that end ask for memory, too.
    let _ = ASKED.try_with(|asked| {
        let [often, before] = asked.get();
        asked.set([often + 1, before + bytes as u64]);
    });
    hold(bytes as i64);
}

fn hold(bytes: i64) {
    let _ = HELD.try_with(|held| {
        let [now, most] = held.get();
        let now = now + bytes;
        held.set([now, most.max(now)]);
    });
}

// SAFETY: the system's, with a look at the arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) };
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        hold(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What a compilation took and made.
#[derive(Clone, Copy, Debug)]
struct Work {
    asked: u64,
    bytes: u64,
    made: u64,
}

fn work(selection: &Selection, cache: &mut Cache) -> Work {
    ASKED.set([0; 2]);
    let image = compile_with(selection, cache).unwrap_or_else(|error| panic!("{error}"));
    let [asked, bytes] = ASKED.get();
    Work {
        asked,
        bytes,
        made: size(&image),
    }
}

/// Bytes of all tables.
fn size(image: &Image) -> u64 {
    let prefixes = |count: usize| count as u64 * 16;
    prefixes(image.prefixes_v4.values().map(|table| table.len()).sum())
        + prefixes(image.prefixes_v6.values().map(|table| table.len()).sum())
        + prefixes(image.services.values().map(|table| table.len()).sum())
        + (image.index.len() + image.rows.len()) as u64 * 64
        + (image.rules.len() * 12 + image.lists.len() * 64 + image.endpoints.len() * 128) as u64
}

/// What there is in any image, and what a table that doubles its room has too much.
const SLACK: f64 = 2.0;

/// That from each size to the largest nothing grows faster than n log n.
fn grows_no_faster(sizes: &[usize], selection: impl Fn(usize) -> Selection) {
    let works: Vec<_> = sizes
        .iter()
        .map(|size| (*size, work(&selection(*size), &mut Cache::default())))
        .collect();
    let (large, most) = works[works.len() - 1];
    for (small, least) in &works[..works.len() - 1] {
        let n_log_n = |n: usize| n as f64 * (n as f64).log2();
        let most_allowed = n_log_n(large) / n_log_n(*small) * SLACK;
        for (what, most, least) in [
            ("calls for memory", most.asked, least.asked),
            ("bytes asked for", most.bytes, least.bytes),
            ("bytes made", most.made, least.made),
        ] {
            let grown = most as f64 / least as f64;
            println!("{small} to {large}, {what}: {least} to {most}, {grown:.1} times");
            assert!(
                grown <= most_allowed,
                "{what} {grown:.1} times, expected at most {most_allowed:.1}: {works:?}"
            );
        }
    }
}

#[test]
fn with_rules() {
    grows_no_faster(&[256, 1024, 4096, 16_000], selections::rules);
}

#[test]
fn with_ipv4_networks() {
    grows_no_faster(&[400, 4_000, 40_000], |count| {
        selections::set(0, count, false)
    });
}

#[test]
fn with_ipv6_networks() {
    grows_no_faster(&[400, 4_000, 40_000], |count| {
        selections::set(0, count, true)
    });
}

#[test]
fn with_ports() {
    grows_no_faster(&[500, 5_000, 50_000], selections::ports);
}

#[test]
fn with_endpoints_of_their_own_policy() {
    grows_no_faster(&[32, 256, 2048], selections::endpoints_apart);
}

#[test]
fn endpoints_with_the_same_policy_share_all_but_themselves() {
    let [few, many] = [10, 1000].map(|count| {
        let selection = selections::endpoints_alike(count);
        let image = compile_with(&selection, &mut Cache::default()).unwrap();
        (
            image.rules.len(),
            image.rows.len(),
            image.index.len(),
            image.lists.len(),
        )
    });
    assert_eq!(few, many);
}

/// A set to which one network is added is not compiled as a whole: what that asks
/// for beside a copy of the set's table does not grow with it.
#[test]
fn one_network_more_costs_less_than_all() {
    let mut cache = Cache::default();
    let all = work(&selections::set(0, 40_000, false), &mut cache);
    let more = work(&selections::set(0, 40_001, false), &mut cache);
    println!("{all:?}, then {more:?}");
    assert!(more.asked * 20 < all.asked, "{all:?}, then {more:?}");
    assert!(more.bytes * 2 < all.bytes, "{all:?}, then {more:?}");
}

/// What the largest policies hold at most while they are compiled, image included,
/// in MiB: so that a node does not run out of memory before it can refuse one.
#[test]
fn the_largest_policies_take_bounded_memory() {
    const MIB: i64 = 1 << 20;
    for (name, selection, most) in [
        (
            "1,024 rules of 256 networks and 50 ports",
            selections::thousand(),
            64,
        ),
        (
            "100,000 addresses beside all others",
            selections::beside_all(100_000),
            32,
        ),
        (
            "ten sets that overlap in every way",
            selections::overlapping(),
            8,
        ),
    ] {
        HELD.set([0; 2]);
        let image = compile_with(&selection, &mut Cache::default());
        let [_, held] = HELD.get();
        let error = image.err();
        println!("{name}: {} MiB, {error:?}", held / MIB);
        assert!(error.is_none(), "{name}: {error:?}");
        assert!(held <= most * MIB, "{name}: {} MiB", held / MIB);
    }
}
