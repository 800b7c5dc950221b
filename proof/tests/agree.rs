//! Made-up policies and packets: the judges must agree about all of them.

use hostfw_proof::{
    case::Cases,
    run::{Bench, Search},
};

mod kernel;

const SETS: u64 = 3200;
const PACKETS: usize = 90;
/// Any number will do; always the same one, so that a failure comes again.
const SEED: u64 = 1;

/// `hasty`: only whether they agree is asked, not what they agree about. So
/// `cargo xtask test --only mutants` looks for planted faults, many times.
const MANNER: &str = "HOSTFW_JUDGES";

#[test]
fn the_judges_agree() {
    let mut bench = Bench {
        kernel: kernel::open("the_judges_agree"),
        ..Bench::default()
    };
    let cases = Cases { packets: PACKETS };
    if std::env::var_os(MANNER).is_some_and(|manner| manner == "hasty") {
        let found = Search::new(SEED).first(&mut bench, cases, |bench| bench.scenes < SETS);
        println!("{bench}");
        if let Some(disagreement) = found {
            panic!("the judges do not agree: {disagreement}");
        }
        assert_eq!(bench.refused, 0, "refused of {} sets", bench.scenes);
        return;
    }
    let found = Search::new(SEED).next(&mut bench, cases, |bench| bench.scenes < SETS);
    println!("{bench}");
    if let Some(finding) = found {
        panic!("{finding}");
    }
    assert_eq!(bench.refused, 0, "refused of {} sets", bench.scenes);
    let gaps = bench.coverage.gaps();
    assert!(gaps.is_empty(), "too rarely: {gaps:?}\n{}", bench.coverage);
}
