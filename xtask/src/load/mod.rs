//! `cargo xtask load`: resources on a real interface of a test machine, for as
//! long as one watches.

mod route;
mod status;

use std::{
    ffi::CString,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build::{self, Binaries, Profile},
    setup::{self, Need},
};

/// What to load where.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The interface to protect
    #[arg(long)]
    interface: String,
    /// A file or a folder of resources
    #[arg(long)]
    resources: PathBuf,
    /// The node that this machine is in the resources; default: its host name
    #[arg(long)]
    node: Option<String>,
    /// Take the interface even if it holds the default route, and with it,
    /// probably, the way to this machine
    #[arg(long)]
    i_am_sure: bool,
}

/// The agent has to compile and attach within this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Set by SIGINT and SIGTERM.
static STOP: AtomicBool = AtomicBool::new(false);

/// Loads, waits for a signal, and takes everything away again.
pub(crate) fn run(args: &Args) -> Result<()> {
    let name = CString::new(args.interface.as_str()).context("the interface's name")?;
    // SAFETY: a terminated string.
    if unsafe { libc::if_nametoindex(name.as_ptr()) } == 0 {
        bail!("there is no interface {}", args.interface);
    }
    if !args.resources.exists() {
        bail!("{}: no such file or folder", args.resources.display());
    }
    let workspace = setup::ensure(&[Need::Build, Need::Kernel])?;
    if !args.i_am_sure {
        let held = route::default_interfaces(&workspace)?;
        if held.contains(&args.interface) {
            bail!(
                "{} holds the default route: a mistake in the resources may cut you off; try another interface, or say --i-am-sure",
                args.interface
            );
        }
    }
    let binaries = build::agent(&workspace, Profile::Release, false)?;
    catch_signals()?;
    let trial = Trial::prepare(args, binaries)?;
    let mut agent = trial.start()?;
    let result = trial.watch(&mut agent);
    println!("detaching");
    let stopped = stop(&mut agent);
    // First of all, the interface must be free again.
    let detached = trial.detach();
    result.and(stopped).and(detached)
}

/// Everything that the trial's agent has, apart from what a real one has.
struct Trial {
    binaries: Binaries,
    interface: String,
    node: Option<String>,
    folder: tempfile::TempDir,
    pin_root: PathBuf,
}

impl Trial {
    fn prepare(args: &Args, binaries: Binaries) -> Result<Self> {
        let folder = tempfile::tempdir().context("making a temporary folder")?;
        let store = folder.path().join("resources");
        fs::create_dir(&store).with_context(|| store.display().to_string())?;
        copy_resources(&args.resources, &store)?;
        Ok(Self {
            binaries,
            interface: args.interface.clone(),
            node: args.node.clone(),
            folder,
            pin_root: format!("/sys/fs/bpf/hostfw-load-{}", std::process::id()).into(),
        })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    fn agent(&self) -> Command {
        let mut command = Command::new(&self.binaries.agent);
        command
            .arg("--store")
            .arg(self.folder.path().join("resources"))
            .arg("--state-dir")
            .arg(self.folder.path().join("state"))
            .arg("--pin-root")
            .arg(&self.pin_root)
            .arg("--socket")
            .arg(self.socket())
            .args(["--interface", &self.interface]);
        if let Some(node) = &self.node {
            command.args(["--node", node]);
        }
        command
    }

    fn start(&self) -> Result<Child> {
        let mut command = self.agent();
        // Ctrl-C is for us: we end the agent, then detach.
        command.process_group(0);
        command.spawn().context("starting hostfw-agent")
    }

    /// Prints what the agent has attached, then waits for a signal.
    fn watch(&self, agent: &mut Child) -> Result<()> {
        let begin = Instant::now();
        let mut shown = None;
        while !STOP.load(Ordering::Relaxed) {
            if let Some(status) = agent.try_wait().context("waiting for hostfw-agent")? {
                bail!("hostfw-agent ended: {status}");
            }
            if let Ok(status) = status::ask(&self.socket()) {
                let text = status.summary(&self.interface);
                if status.settled() && shown.as_ref() != Some(&text) {
                    println!("{text}");
                    if shown.is_none() {
                        println!("Ctrl-C detaches");
                    }
                    shown = Some(text);
                }
            }
            if shown.is_none() && begin.elapsed() > PATIENCE {
                bail!(
                    "hostfw-agent has not enforced anything within {} s",
                    PATIENCE.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn detach(&self) -> Result<()> {
        let status = self
            .agent()
            .arg("--detach")
            .status()
            .context("running hostfw-agent --detach")?;
        if !status.success() {
            bail!(
                "hostfw-agent --detach: {status}; by hand: {} --detach --pin-root {}",
                self.binaries.agent.display(),
                self.pin_root.display()
            );
        }
        Ok(())
    }
}

/// Copies what an agent would read, so that an edit in the middle of a trial
/// takes no effect and the agent writes nothing into the original.
fn copy_resources(from: &Path, store: &Path) -> Result<()> {
    let copy = |file: &Path| -> Result<()> {
        let name = file.file_name().context("a file has a name")?;
        fs::copy(file, store.join(name))
            .map(drop)
            .with_context(|| file.display().to_string())
    };
    if from.is_file() {
        return copy(from);
    }
    let mut copied = 0;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_file() && matches!(extension, Some("yaml" | "yml" | "json")) {
            copy(&path)?;
            copied += 1;
        }
    }
    if copied == 0 {
        bail!("{}: expected .yaml, .yml or .json files", from.display());
    }
    Ok(())
}

fn stop(agent: &mut Child) -> Result<()> {
    if agent
        .try_wait()
        .context("waiting for hostfw-agent")?
        .is_none()
    {
        // SAFETY: plain system call; the child has not been waited for.
        unsafe { libc::kill(agent.id() as libc::pid_t, libc::SIGTERM) };
    }
    let begin = Instant::now();
    while agent
        .try_wait()
        .context("waiting for hostfw-agent")?
        .is_none()
    {
        if begin.elapsed() > Duration::from_secs(5) {
            agent.kill().context("killing hostfw-agent")?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn catch_signals() -> Result<()> {
    extern "C" fn note(_: libc::c_int) {
        STOP.store(true, Ordering::Relaxed);
    }
    let note: extern "C" fn(libc::c_int) = note;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic.
        let before = unsafe { libc::signal(signal, note as libc::sighandler_t) };
        if before == libc::SIG_ERR {
            return Err(std::io::Error::last_os_error()).context("catching signals");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_resources_are_copied() {
        let from = tempfile::tempdir().unwrap();
        let store = tempfile::tempdir().unwrap();
        assert!(copy_resources(from.path(), store.path()).is_err());
        for name in ["a.yaml", "b.json", "README.md"] {
            fs::write(from.path().join(name), name).unwrap();
        }
        copy_resources(from.path(), store.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(store.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["a.yaml", "b.json"]);
    }
}
