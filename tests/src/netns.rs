//! Network namespaces: made, entered by threads and by child processes.
//!
//! Never by `ip netns exec`: it mounts a fresh /sys, which hides
//! /sys/fs/bpf.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::process::CommandExt as _,
    },
    panic,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::sandbox;

/// A named network namespace; removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes a namespace with its loopback interface up.
    ///
    /// # Errors
    ///
    /// If `ip` fails, or outside of a sandbox: names are the machine's there.
    pub fn create(name: &str) -> Result<Self> {
        ensure!(sandbox::inside(), "namespaces are made in a sandbox only");
        run(Command::new("ip").args(["netns", "add", name]), None)?;
        let path = path(name);
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        let namespace = Self {
            name: name.to_owned(),
            file,
        };
        namespace.ip("link set lo up\n")?;
        Ok(namespace)
    }

    /// Its name under /run/netns.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls the function in a thread that has entered the namespace.
    ///
    /// # Errors
    ///
    /// If the namespace cannot be entered.
    ///
    /// # Panics
    ///
    /// If the function does.
    pub fn run<T: Send>(&self, function: impl FnOnce() -> T + Send) -> io::Result<T> {
        let fd = self.file.as_raw_fd();
        thread::scope(|scope| {
            scope
                .spawn(move || {
                    enter(fd)?;
                    Ok(function())
                })
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// A command that will run in the namespace.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let fd = self.file.as_raw_fd();
        let mut command = Command::new(program);
        // SAFETY: setns is async-signal-safe. The descriptor may have been
        // closed if the command outlives the namespace: then spawning fails.
        unsafe { command.pre_exec(move || enter(fd)) };
        command
    }

    /// Runs lines of `ip -batch` in the namespace.
    ///
    /// # Errors
    ///
    /// What `ip` says.
    pub fn ip(&self, lines: &str) -> Result<()> {
        run(self.command("ip").args(["-batch", "-"]), Some(lines)).map(drop)
    }

    /// Runs lines of `bridge -batch` in the namespace.
    ///
    /// # Errors
    ///
    /// What `bridge` says.
    pub fn bridge(&self, lines: &str) -> Result<()> {
        run(self.command("bridge").args(["-batch", "-"]), Some(lines)).map(drop)
    }

    /// Runs `nft` commands in the namespace.
    ///
    /// # Errors
    ///
    /// What `nft` says.
    pub fn nft(&self, commands: &str) -> Result<()> {
        run(self.command("nft").args(["-f", "-"]), Some(commands)).map(drop)
    }

    /// Writes settings below /proc/sys/net, named by their path from there.
    ///
    /// # Errors
    ///
    /// If a setting does not exist or refuses the value.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (name, value) in settings {
                let path = format!("/proc/sys/net/{name}");
                fs::write(&path, value).with_context(|| format!("{path} = {value}"))?;
            }
            Ok(())
        })?
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing to be done if it fails: the sandbox goes in any case.
        drop(run(
            Command::new("ip").args(["netns", "delete", &self.name]),
            None,
        ));
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

fn enter(namespace: RawFd) -> io::Result<()> {
    // SAFETY: a descriptor and a flag; concerns the calling thread alone.
    if unsafe { libc::setns(namespace, libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Runs a command to its end, with this standard input, and returns its
/// standard output.
///
/// # Errors
///
/// If it cannot be started, or fails: with what it wrote to standard error.
pub fn run(command: &mut Command, input: Option<&str>) -> Result<String> {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // A command that ends early says why on its standard error.
        drop(pipe.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "{name}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
