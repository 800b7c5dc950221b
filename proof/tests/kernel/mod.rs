//! The loaded programs, where they can be loaded.

use hostfw_agent::judge::Kernel;

/// The programs; `None` outside of the sandbox.
pub(crate) fn open(test: &str) -> Option<Kernel> {
    if std::env::var_os("HOSTFW_SANDBOX").is_none_or(|value| value != "1") {
        println!("{test}: skipped: the programs as a judge: need the sandbox of cargo xtask test");
        return None;
    }
    Some(Kernel::open().expect("the programs load"))
}
