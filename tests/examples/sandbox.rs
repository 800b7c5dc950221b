//! Runs a command in a sandbox: `sandbox COMMAND [ARGUMENT]...`

use std::{env, process::Command};

use anyhow::{Context as _, Result};
use hostfw_tests::sandbox;

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1);
    let mut command = Command::new(arguments.next().context("which command?")?);
    let status = sandbox::enter(command.args(arguments))?;
    std::process::exit(status.code().unwrap_or(1));
}
