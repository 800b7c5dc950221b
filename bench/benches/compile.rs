//! How long compiling takes as rules, networks, ports and endpoints grow: from
//! nothing, and with what the compilation before has left.
//!
//! That the work does not grow faster than n log n is tested, with the same inputs
//! and without a clock, in `hostfw-agent/tests/growth.rs`.

#[path = "../../hostfw-agent/tests/growth/selections.rs"]
mod selections;

use std::{hint::black_box, time::Duration};

use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput,
    measurement::WallTime,
};
use hostfw_agent::{
    compile::{Cache, compile, compile_with},
    model::Interface,
    resource::parse_documents,
    select::{Selection, select},
    validate::{assemble, validate},
};
use hostfw_bench::shapes::{RuleSet, SIZES, Shape, host_endpoint};

const SEED: u64 = 1;
const NODE: &str = "node1";
const INTERFACE: &str = "eth0";

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> Group<'a> {
    let mut group = criterion.benchmark_group(name);
    // The largest take a second each, and there are some sixty: samples of one
    // length, as few as may be, keep the whole to a few minutes.
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    group
}

/// Compiles from nothing.
fn whole(group: &mut Group<'_>, name: &str, size: usize, selection: &Selection) {
    group.throughput(Throughput::Elements(size as u64));
    group.bench_with_input(BenchmarkId::new(name, size), selection, |bencher, input| {
        bencher.iter(|| compile(black_box(input)).map(black_box));
    });
}

/// Compiles one in turn with another that differs a little.
fn change(group: &mut Group<'_>, name: &str, size: usize, [a, b]: [&Selection; 2]) {
    group.throughput(Throughput::Elements(size as u64));
    group.bench_function(BenchmarkId::new(name, size), |bencher| {
        let mut cache = Cache::default();
        let mut turn = [a, b].into_iter().cycle();
        // An image goes only when the next is there, as in the agent.
        let mut last = compile_with(a, &mut cache);
        bencher.iter_batched(
            || turn.next(),
            |selection| {
                if let Some(selection) = selection {
                    last = compile_with(black_box(selection), &mut cache);
                }
            },
            BatchSize::PerIteration,
        );
        black_box(&last)
            .as_ref()
            .map_or_else(|error| panic!("{error}"), |_| ());
    });
}

/// The resources of a rule set, as the node selects them.
fn selected(rules: &RuleSet) -> Selection {
    let text = host_endpoint(NODE, INTERFACE) + &rules.yaml();
    let model = assemble(parse_documents(&text).into_iter().flat_map(|document| {
        let resources = document.result.unwrap_or_else(|error| panic!("{error}"));
        let checked = resources.iter().map(|resource| match validate(resource) {
            Ok(checked) => checked,
            Err(errors) => panic!("{errors:?}"),
        });
        checked.collect::<Vec<_>>()
    }));
    let interface = Interface {
        index: 2,
        name: INTERFACE.to_owned(),
        addresses: Vec::new(),
        link_header: true,
        loopback: false,
        up: true,
        master: None,
    };
    select(&model, NODE, &[interface])
}

fn rules(criterion: &mut Criterion) {
    let mut group = group(criterion, "rules");
    for shape in Shape::ALL {
        for size in SIZES {
            let mut set = RuleSet::new(shape, size, SEED);
            let selection = selected(&set);
            whole(&mut group, shape.name(), size, &selection);
            // The other action for a rule in the middle.
            let middle = size / 2;
            set.rules[middle].allow = !set.rules[middle].allow;
            let changed = selected(&set);
            let name = format!("{}, one changed", shape.name());
            change(&mut group, &name, size, [&selection, &changed]);
        }
    }
    group.finish();
}

fn networks(criterion: &mut Criterion) {
    let mut group = group(criterion, "networks");
    for (name, v6) in [("ipv4", false), ("ipv6", true)] {
        for size in [100, 1_000, 10_000, 100_000] {
            let selection = selections::set(0, size, v6);
            whole(&mut group, name, size, &selection);
            let more = selections::set(0, size + 1, v6);
            let name = format!("{name}, one more or less");
            change(&mut group, &name, size, [&selection, &more]);
        }
    }
    group.finish();
}

fn ports(criterion: &mut Criterion) {
    let mut group = group(criterion, "ports");
    for size in [50, 500, 5_000, 50_000] {
        whole(
            &mut group,
            "of rules with 50",
            size,
            &selections::ports(size),
        );
    }
    group.finish();
}

fn endpoints(criterion: &mut Criterion) {
    let mut group = group(criterion, "endpoints");
    for size in [1, 10, 100, 1_000] {
        let alike = selections::endpoints_alike(size);
        whole(&mut group, "alike", size, &alike);
        let apart = selections::endpoints_apart(size);
        whole(&mut group, "apart", size, &apart);
        let more = selections::endpoints_apart(size + 1);
        change(&mut group, "apart, one more or less", size, [&apart, &more]);
    }
    group.finish();
}

/// What is as large as one policy can make it.
fn largest(criterion: &mut Criterion) {
    let mut group = group(criterion, "largest");
    whole(
        &mut group,
        "rules x networks x ports",
        1024,
        &selections::thousand(),
    );
    let beside = selections::beside_all(100_000);
    whole(&mut group, "addresses beside all others", 100_000, &beside);
    whole(
        &mut group,
        "overlapping sets",
        10,
        &selections::overlapping(),
    );
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    rules(&mut criterion);
    networks(&mut criterion);
    ports(&mut criterion);
    endpoints(&mut criterion);
    largest(&mut criterion);
    criterion.final_summary();
}
