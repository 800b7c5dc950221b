//! What was once found: all judges give the answer that was right.

use std::path::Path;

use hostfw_agent::judge::Judges;
use hostfw_proof::{
    case::Case,
    generate::Scene,
    recorded::{Recorded, written},
};

mod kernel;

#[test]
fn what_was_once_found_stays_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut kernel = kernel::open("what_was_once_found_stays_mended");
    for (name, Recorded { case, expected }) in Recorded::read_all(&folder).unwrap() {
        let Case {
            scene:
                Scene {
                    node,
                    interfaces,
                    resources,
                },
            questions,
        } = case;
        let judges = Judges::new(&resources, &node, &interfaces).unwrap();
        for question in &questions {
            let reference = written(&judges.by_reference(question));
            assert_eq!(reference, expected, "{name}: reference");
            let tables = written(&judges.by_tables(question));
            assert_eq!(tables, expected, "{name}: tables");
            if let Some(kernel) = &mut kernel {
                kernel.load(judges.image()).unwrap();
                let programs = written(&judges.by_kernel(kernel, question).unwrap());
                assert_eq!(programs, expected, "{name}: programs");
            }
        }
    }
}
