//! What the agent says and leaves behind, by itself.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hostfw_tests::cluster::Binaries;

/// An agent takes a second to load its programs on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// An agent with folders of its own, whose log goes to a file.
struct Agent {
    folder: tempfile::TempDir,
    process: Child,
}

impl Agent {
    fn start(binaries: &Binaries, pin_root: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let process = command(binaries, folder.path(), pin_root)
            .stderr(File::create(folder.path().join("log"))?)
            .spawn()?;
        Ok(Self { folder, process })
    }

    fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join("log"))?)
    }

    fn wait_until_started(&self) -> Result<()> {
        let begin = Instant::now();
        while !self.log()?.contains("switched generation") {
            ensure!(begin.elapsed() < PATIENCE, "log: {}", self.log()?);
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn terminate(&mut self) -> Result<ExitStatus> {
        // SAFETY: plain system call; the child has not been waited for.
        unsafe { libc::kill(self.process.id() as libc::pid_t, libc::SIGTERM) };
        let begin = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status);
            }
            ensure!(begin.elapsed() < PATIENCE, "log: {}", self.log()?);
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(binaries: &Binaries, folder: &Path, pin_root: &str) -> Command {
    let mut command = Command::new(&binaries.agent);
    command
        .arg("--store")
        .arg(folder.join("resources"))
        .arg("--state-dir")
        .arg(folder.join("state"))
        .arg("--socket")
        .arg(folder.join("agent.sock"))
        .args(["--pin-root", pin_root, "--node", "node1"]);
    command
}

#[test]
fn a_log_that_is_no_terminal_has_no_colours() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let mut agent = Agent::start(&binaries, "/sys/fs/bpf/colours")?;
    agent.wait_until_started()?;
    assert!(agent.terminate()?.success());
    let log = agent.log()?;
    assert!(log.contains("stopped; what is enforced stays"), "{log}");
    assert!(!log.contains('\u{1b}'), "{log:?}");
    Ok(())
}

#[test]
fn an_agent_whose_socket_is_taken_leaves_nothing_behind() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let mut first = Agent::start(&binaries, "/sys/fs/bpf/first")?;
    first.wait_until_started()?;
    let second = command(&binaries, first.folder.path(), "/sys/fs/bpf/second")
        .output()
        .context("running a second agent")?;
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr)?;
    assert!(said.contains("another agent answers on it"), "{said}");
    assert!(!Path::new("/sys/fs/bpf/second").exists());
    assert!(first.process.try_wait()?.is_none(), "{}", first.log()?);
    assert!(first.terminate()?.success());
    Ok(())
}
