//! Where things are, and how cargo is called.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{ChildStderr, Command},
};

use anyhow::{Context as _, Result, bail};

/// A checkout of hostfw, and where its builds go.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    /// The folder that holds the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target folder; `None` for cargo's own choice.
    pub(crate) target: Option<PathBuf>,
    /// `PATH` for every command: the pinned tools first, the administrator's
    /// folders last.
    pub(crate) path: OsString,
}

impl Workspace {
    /// The checkout that this program was built from, with the `PATH` as it
    /// is.
    pub(crate) fn here() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask's manifest has no parent folder")?;
        if !root.join("Cargo.toml").is_file() {
            bail!(
                "{} is gone: the checkout was moved, run `cargo xtask` from the new place",
                root.display()
            );
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        // ip, iptables and bpftool live in folders that a user's PATH, and
        // that of some `sudo` set-ups, leaves out.
        let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        for folder in ["/usr/local/sbin", "/usr/sbin", "/sbin"] {
            if !folders.iter().any(|known| known == Path::new(folder)) {
                folders.push(folder.into());
            }
        }
        Ok(Self {
            root: root.to_owned(),
            target: None,
            path: std::env::join_paths(folders).context("PATH holds an unusable folder")?,
        })
    }

    /// The folder that builds go to.
    pub(crate) fn target(&self) -> PathBuf {
        let variable = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = self.target.clone().or(variable);
        // Cargo takes a relative one from where it is started: the root.
        self.root.join(target.unwrap_or_else(|| "target".into()))
    }

    /// Puts a folder in front of the `PATH`.
    pub(crate) fn prepend_path(&mut self, folder: &Path) -> Result<()> {
        let rest = std::env::split_paths(&self.path);
        self.path = std::env::join_paths(std::iter::once(folder.to_owned()).chain(rest))
            .with_context(|| format!("{} cannot be put on PATH", folder.display()))?;
        Ok(())
    }

    /// The file that a command's name stands for.
    pub(crate) fn which(&self, name: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path)
            .map(|folder| folder.join(name))
            .find(|file| is_executable(file))
    }

    /// A command in the workspace's folder, with its `PATH`.
    pub(crate) fn command(&self, program: &str) -> Command {
        // Command looks a bare name up in the parent's PATH, not the child's.
        let mut command = match self.which(program) {
            Some(file) => Command::new(file),
            None => Command::new(program),
        };
        command.current_dir(&self.root).env("PATH", &self.path);
        command
    }

    /// `cargo SUBCOMMAND`, with the workspace's target folder.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = match std::env::var_os("CARGO") {
            // The cargo that runs us: the pinned one.
            Some(cargo) => {
                let mut command = Command::new(cargo);
                command.current_dir(&self.root).env("PATH", &self.path);
                command
            }
            None => self.command("cargo"),
        };
        command.arg(subcommand);
        if let Some(target) = &self.target {
            command.arg("--target-dir").arg(target);
        }
        command
    }
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Shows what cargo writes to its piped standard error, without the progress of
/// the nested build of the BPF programs: cargo takes it for warnings, and
/// repeats them each time. What really is one, or an error, stays.
pub(crate) fn show_stderr(stderr: ChildStderr) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line);
            if !is_nested_progress(&line) {
                eprintln!("{line}");
            }
        }
    })
}

fn is_nested_progress(line: &str) -> bool {
    const WORDS: &[&str] = &[
        "Compiling",
        "Finished",
        "Downloading",
        "Downloaded",
        "Locking",
        "Updating",
        "Blocking",
        "Adding",
        "Fresh",
    ];
    line.strip_prefix("warning: hostfw-agent@")
        .and_then(|rest| rest.split_once(": "))
        .and_then(|(_, text)| text.split_whitespace().next())
        .is_some_and(|word| WORDS.contains(&word))
}

/// Runs a command whose output is for the reader.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{what}: cannot run {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{what}: {status}");
    }
    Ok(())
}

/// Runs a command and takes its standard output.
pub(crate) fn output(command: &mut Command, what: &str) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("{what}: cannot run {}", command.get_program().display()))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let reason = stderr.lines().rfind(|line| !line.trim().is_empty());
        bail!(
            "{what}: {}: {}",
            output.status,
            reason.unwrap_or("no output")
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("{what}: output is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepended_folder_wins() {
        let folder = tempfile::tempdir().unwrap();
        let mut workspace = Workspace::here().unwrap();
        let before = workspace.which("sh").unwrap();
        let ours = folder.path().join("sh");
        std::os::unix::fs::symlink(&before, &ours).unwrap();
        workspace.prepend_path(folder.path()).unwrap();
        assert_eq!(workspace.which("sh"), Some(ours));
    }

    #[test]
    fn only_progress_is_kept_back() {
        for line in [
            "warning: hostfw-agent@0.1.0:    Compiling core v0.0.0 (/x)",
            "warning: hostfw-agent@0.1.0:     Finished `release` profile",
        ] {
            assert!(is_nested_progress(line), "{line}");
        }
        for line in [
            "warning: hostfw-agent@0.1.0: warning: unused variable: `x`",
            "warning: unused variable: `x`",
            "   Compiling hostfw-agent v0.1.0",
            "error: could not compile `hostfw-ebpf`",
        ] {
            assert!(!is_nested_progress(line), "{line}");
        }
    }

    #[test]
    fn a_failed_command_gives_its_last_line() {
        let workspace = Workspace::here().unwrap();
        let mut command = workspace.command("sh");
        command.args(["-c", "echo first >&2; echo last >&2; exit 3"]);
        let error = output(&mut command, "trying").unwrap_err().to_string();
        assert_eq!(error, "trying: exit status: 3: last");
    }
}
