//! `cargo xtask crd`: the definitions in deploy/crds, from the resource types.

use anyhow::{Context as _, Result};

use crate::{
    setup::{self, Need},
    workspace::run as run_command,
};

/// Whether to write or to compare.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only say whether the files are what the types say
    #[arg(long)]
    check: bool,
}

/// Writes or compares the files. The agent's own test does either: xtask does
/// not depend on the agent, for it installs what the agent is built with.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = setup::ensure(&[Need::Build])?;
    let mut test = workspace.cargo("test");
    test.args(["--quiet", "--package", "hostfw-agent", "--test", "crds"]);
    if args.check {
        test.env_remove("HOSTFW_BLESS");
    } else {
        test.arg("files_are_what_the_types_say");
        test.env("HOSTFW_BLESS", "1");
    }
    run_command(&mut test, "the test of deploy/crds").context("deploy/crds")
}
