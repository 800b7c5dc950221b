//! Made-up policies and packets: the judges must agree about all of them.

use hostfw_proof::{
    case::Cases,
    run::{Bench, Outcome},
};
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

const SETS: u64 = 2000;
const PACKETS: usize = 55;

#[test]
fn judges_agree() {
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::from_seed(RngAlgorithm::ChaCha, &[3; 32]),
    );
    let mut bench = Bench::default();
    let cases = Cases { packets: PACKETS };
    let mut found = 0;
    for _ in 0..SETS {
        let mut tree = cases.new_tree(&mut runner).expect("a case");
        match bench.judge(&tree.current()) {
            Outcome::Agreement => continue,
            Outcome::Refused(why) => {
                println!("{why}");
                continue;
            }
            Outcome::Disagreement(_) => {}
        }
        let mut more = tree.simplify();
        let mut least = None;
        while more {
            more = if let Outcome::Disagreement(what) = bench.judge(&tree.current()) {
                least = Some(what);
                tree.simplify()
            } else {
                tree.complicate()
            };
        }
        println!("{}\n{}", serde_json::to_string_pretty(&tree.current().scene.resources).unwrap(), least.unwrap());
        found += 1;
        if found > 5 { break; }
    }
    println!("{}", bench.coverage);
    println!("{} sets, {} packets, {} refused", bench.scenes, bench.packets, bench.refused);
    println!("{:#?}", bench.coverage.gaps());
    assert_eq!(found, 0);
}
