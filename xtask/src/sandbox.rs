//! `cargo xtask sandbox -- CMD`: a command where it can harm nothing.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use hostfw_tests::sandbox;

use crate::workspace::Workspace;

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Program and arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Runs the command and passes its exit code on. Does no set-up: test binaries
/// run through here one by one.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (program, arguments) = args.command.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", Workspace::here()?.path);
    let status = if sandbox::inside() {
        command
            .status()
            .with_context(|| program.display().to_string())?
    } else {
        sandbox::enter(&command)?
    };
    // As shells do for a command that a signal ended.
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ok(code
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}
