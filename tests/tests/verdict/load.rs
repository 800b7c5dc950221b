//! What the verifier makes of the programs.

use std::time::Instant;

use aya::programs::Program;
use hostfw_agent::attach::{Dataplane, Options};
use hostfw_common::names::{PROGRAM_TC_EGRESS, PROGRAM_TC_INGRESS, PROGRAM_XDP};

use super::lab::lab;

/// Of the million instructions that the verifier follows at most
/// (`BPF_COMPLEXITY_LIMIT_INSNS`), so many: other kernels follow more of the
/// same program.
pub(super) const MOST_VERIFIED: u32 = 500_000;

#[test]
fn programs_stay_far_from_the_verifiers_limit() {
    let Some(lab) = lab("load") else {
        return;
    };
    for name in [PROGRAM_XDP, PROGRAM_TC_INGRESS, PROGRAM_TC_EGRESS] {
        let program = lab.program(name);
        let info = if let Program::Xdp(program) = program {
            program.info()
        } else if let Program::SchedClassifier(program) = program {
            program.info()
        } else {
            panic!("{program:?}")
        };
        let info = info.unwrap();
        let verified = info.verified_instruction_count().unwrap();
        println!(
            "{name}: {verified} instructions verified, {} bytes of machine code",
            info.size_jitted()
        );
        assert!(verified < MOST_VERIFIED, "{name}: {verified}");
    }
    let root = lab.pins().with_file_name("load");
    let start = Instant::now();
    let dataplane = Dataplane::open(&Options::new(&root)).unwrap();
    println!("loaded in {:?}", start.elapsed());
    drop(dataplane);
    std::fs::remove_dir_all(&root).unwrap();
}
