use std::{env, path::PathBuf};

use crate::sandbox;

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The daemon.
    pub agent: PathBuf,
    /// The administrator's command.
    pub ctl: PathBuf,
}

impl Binaries {
    /// As given by `HOSTFW_AGENT` and `HOSTFW_CTL`; `None` if one is not.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        Some(Self {
            agent: env::var_os("HOSTFW_AGENT")?.into(),
            ctl: env::var_os("HOSTFW_CTL")?.into(),
        })
    }

    /// For tests: as [`from_env`](Self::from_env), or says why the test is
    /// skipped.
    #[must_use]
    pub fn or_skip() -> Option<Self> {
        if sandbox::or_skip() {
            return None;
        }
        let binaries = Self::from_env();
        if binaries.is_none() {
            println!("skipped: HOSTFW_AGENT and HOSTFW_CTL do not name the programs");
        }
        binaries
    }
}
