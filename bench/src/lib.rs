//! Rule sets and packets that the benchmarks share, made up from a seed.
//!
//! Nothing here knows hostfw: a rule set is given as Calico's resources, and as
//! plain rules for whoever else is to enforce the same.

pub mod shapes;
