//! `hostfwctl`, the administrator's command: one module per group of
//! subcommands.
//!
//! Names, messages and exit codes are those that users of `calicoctl` know,
//! where the two do the same.

mod change;
mod client;
mod columns;
mod counts;
mod diff;
mod explain;
mod flows;
mod get;
mod host;
mod input;
mod kind;
mod place;
mod status;
mod summary;
mod table;
mod validate;
mod wait;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use change::ChangeError;
pub use client::ClientError;
pub use columns::ColumnError;
pub use explain::{Disagreement, ExplainError, PacketError};
pub use input::{InputError, Place};
pub use kind::KindError;
pub use wait::WaitError;

use crate::source::{SourceError, kubernetes::ClusterError, store::StoreError, yaml::YamlError};

/// Changes and shows the resources of hostfw, and what is enforced.
#[derive(Debug, Parser)]
#[command(name = "hostfwctl", version)]
pub struct Cli {
    #[command(flatten)]
    place: place::Where,
    /// Socket that the agent listens on.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "HOSTFW_SOCKET",
        default_value = "/run/hostfw/agent.sock"
    )]
    socket: PathBuf,
    /// Called as a plugin of kubectl.
    #[arg(skip)]
    plugin: bool,
    #[command(subcommand)]
    command: Command,
}

/// What kubectl looks for when it is told `kubectl hostfw`.
const PLUGIN: &str = "kubectl-hostfw";

impl Cli {
    /// Reads a command line. Under the name of a plugin of kubectl, it is one.
    ///
    /// # Errors
    ///
    /// What is to be printed instead: what is wrong, or help.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().collect();
        let name = words.first().map(Path::new).and_then(Path::file_name);
        let plugin = name.is_some_and(|name| name == PLUGIN);
        let mut command = Self::command();
        if plugin {
            command = command.name("kubectl hostfw").bin_name("kubectl hostfw");
        }
        let mut matches = command.try_get_matches_from_mut(words)?;
        let cli = Self::from_arg_matches_mut(&mut matches);
        let cli = cli.map_err(|error| error.format(&mut command))?;
        Ok(Self { plugin, ..cli })
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Store resources, whether or not they exist.
    Apply(change::Apply),
    /// Store resources that do not exist yet.
    Create(change::Create),
    /// Store resources that exist.
    Replace(change::Replace),
    /// Remove resources.
    Delete(change::Delete),
    /// Show stored resources, or how many packets their rules have met.
    Get(get::Get),
    /// Show what stored resources and new ones make of the same traffic.
    Diff(diff::Diff),
    /// Check resources without storing them, and without an agent.
    Validate(validate::Validate),
    /// Show what the agent of this node enforces, or with --on that of another.
    Status(status::Show),
    /// Show the packets that were reported last: those that were denied, or would
    /// have been with --observe-only, and those that a rule with action Log or of a
    /// staged policy has met. Of more denials than can be shown, their number.
    Flows(flows::Show),
    /// Tell what becomes of a packet, and what decides it.
    Explain(Box<explain::Explain>),
    /// Hand a question to the agent of this node, and its answer back: what --on runs
    /// in the agent's pod.
    #[command(hide = true)]
    Relay {
        /// A line for the control socket.
        request: String,
    },
}

/// Where output goes.
#[derive(Debug)]
pub struct Streams<I, O, E> {
    /// What `-f -` reads.
    pub input: I,
    /// What was asked for.
    pub output: O,
    /// Warnings. Errors are returned.
    pub warnings: E,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// The input is not valid.
    #[error("{}", join(.0))]
    Input(Vec<InputError>),
    /// The input holds no resource.
    #[error("expected resources in the input, found none")]
    NoResources,
    /// Some objects could not be changed.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Some objects could not be shown.
    #[error("{}", join(.0))]
    Objects(Vec<StoreError>),
    /// The store cannot be changed at all.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The cluster can be neither read nor changed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Files of the store cannot be read.
    #[error("{}", join(.0))]
    Files(Vec<String>),
    /// There is no such kind.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// A table has no such column.
    #[error(transparent)]
    Column(#[from] ColumnError),
    /// The agent does not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The store is not in force.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// Packets could not be explained.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// The answer cannot be written as YAML.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// The answer cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Standard output is closed or full.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

impl CtlError {
    /// What scripts are told: 1, as `calicoctl` has it, but for commands that
    /// tell more.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Explain(error) => error.exit_code(),
            Self::Input(_)
            | Self::NoResources
            | Self::Change(_)
            | Self::Objects(_)
            | Self::Store(_)
            | Self::Source(_)
            | Self::Cluster(_)
            | Self::Files(_)
            | Self::Kind(_)
            | Self::Column(_)
            | Self::Client(_)
            | Self::Wait(_)
            | Self::Yaml(_)
            | Self::Json(_)
            | Self::Output(_) => 1,
        }
    }
}

/// What scripts are told of a command line that is not one: 1, as `calicoctl`
/// has it, but 2 for `explain`, which tells bad input from other failures.
pub fn usage_exit_code(words: impl IntoIterator<Item = OsString>) -> u8 {
    let mut words = words.into_iter().skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            // Options that may stand ahead of the command, and their values.
            Some(
                "--store" | "--socket" | "--kubeconfig" | "--context" | "--on"
                | "--agent-namespace",
            ) => drop(words.next()),
            Some(word) if word.starts_with('-') => {}
            word => return if word == Some("explain") { 2 } else { 1 },
        }
    }
    1
}

fn join<T: ToString>(errors: &[T]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Does what the command line says.
///
/// # Errors
///
/// Anything that makes the exit code 1. The text may have several lines, one
/// for each object.
pub fn run(
    cli: Cli,
    streams: &mut Streams<impl io::Read, impl Write, impl Write>,
) -> Result<(), CtlError> {
    let Cli {
        place,
        socket,
        plugin,
        command,
    } = cli;
    match command {
        Command::Apply(command) => command.run(&place.open(plugin)?, streams),
        Command::Create(command) => command.run(&place.open(plugin)?, streams),
        Command::Replace(command) => command.run(&place.open(plugin)?, streams),
        Command::Delete(command) => command.run(&place.open(plugin)?, streams),
        Command::Get(command) => {
            command.run(&place.open(plugin)?, || place.agent(&socket), streams)
        }
        Command::Diff(command) => {
            command.run(&place.open(plugin)?, || place.agent(&socket), streams)
        }
        Command::Validate(command) => command.run(streams),
        Command::Status(command) => {
            command.run(place.folder(plugin), &place.agent(&socket)?, streams)
        }
        Command::Flows(command) => command.run(&place.agent(&socket)?, streams),
        Command::Explain(command) => command.run(|| place.agent(&socket), streams),
        Command::Relay { request } => {
            let answer = client::relay(&socket, &request)?;
            Ok(streams.output.write_all(&answer)?)
        }
    }
}
