//! Made-up policies and packets, judged three times: by the reference, by the
//! compiled tables, and by the loaded programs. The three must agree.

pub mod aim;
pub mod case;
pub mod coverage;
pub mod generate;
pub mod random;
pub mod recorded;
pub mod run;
