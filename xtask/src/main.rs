//! `cargo xtask`: builds, tests, demonstrates and measures hostfw, and sets a
//! fresh machine up for that.

mod bench;
mod build;
mod crd;
mod demo;
mod deploy;
mod fuzz;
mod image;
mod layers;
mod lint;
mod load;
mod mutants;
mod sandbox;
mod setup;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use hostfw_tests::cluster::Binaries;
use setup::Need;

/// Builds, tests, demonstrates and measures hostfw
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build hostfw-agent and hostfwctl
    Build(build::Args),
    /// Build the container image, as an OCI archive
    Image(image::Args),
    /// Run every check, or some parts
    Test(test::Args),
    /// Play the protect-hosts tutorial on a small cluster in namespaces
    Demo(demo::Args),
    /// Try resources on an interface of this machine, until Ctrl-C
    Load(load::Args),
    /// Have the judges judge made-up policies and packets
    Fuzz(fuzz::Args),
    /// Measure hostfw beside its contenders
    Bench(bench::Args),
    /// Write deploy/crds from the resource types
    Crd(crd::Args),
    /// Run a command in mounts, network and processes of its own
    Sandbox(sandbox::Args),
    /// Check format, clippy and licences
    Lint,
    /// Check import order, lint inheritance and file length
    Layers,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Command::Build(args) => build::run(args)?,
        Command::Image(args) => image::run(args)?,
        Command::Test(args) => test::run(args)?,
        Command::Demo(args) => return demo::run(args, programs_of_demo),
        Command::Load(args) => load::run(args)?,
        Command::Fuzz(args) => fuzz::run(args)?,
        Command::Bench(args) => bench::run(args)?,
        Command::Crd(args) => crd::run(args)?,
        Command::Sandbox(args) => return sandbox::run(args),
        Command::Lint => {
            let count = lint::run(&setup::ensure(&[Need::Build, Need::Lint])?)?;
            println!("lint: {count}");
            if count.failed > 0 {
                bail!("{} failed", count.failed);
            }
        }
        Command::Layers => {
            let count = layers::run(&workspace::Workspace::here()?.root)?;
            println!("layers: {count}");
            if count.failed > 0 {
                bail!("{} failed", count.failed);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn programs_of_demo() -> Result<Binaries> {
    let workspace = setup::ensure(&[Need::Build, Need::Kernel])?;
    let built = build::agent(&workspace, build::Profile::Dev, false)?;
    // ip and iptables are looked up in what the demo inherits.
    // SAFETY: this is the process's only thread so far.
    unsafe { std::env::set_var("PATH", &workspace.path) };
    Ok(Binaries {
        agent: built.agent,
        ctl: built.ctl,
    })
}
