//! The agent as it is shipped, on a wire of its own.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use hostfw_bench::shapes::{Packet, host_endpoint};
use hostfw_tests::netns;

use crate::{
    bpf::{self, Context, XDP_DROP, XDP_PASS},
    contender::hostfw::NODE_NAME,
    template::Template,
    wire::{HERE, INDEX_HERE, Wire},
};

/// How long to wait for what ought to take milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two times that the program is asked, so that the agent has the CPUs
/// that it has where nobody asks.
const BETWEEN: Duration = Duration::from_micros(200);

/// A running agent, and the folder that it reads.
pub(crate) struct Agent {
    wire: Wire,
    child: Child,
    folder: PathBuf,
    binary: PathBuf,
}

impl Agent {
    /// Starts it with these resources, and waits until they are enforced.
    pub(crate) fn start(binary: &Path, name: &str, files: &[(&str, &str)]) -> Result<Self> {
        let wire = Wire::up(name)?;
        // The sandbox's own: gone with it.
        let folder = PathBuf::from("/run").join(name);
        fs::create_dir_all(folder.join("store")).context("a folder for the store")?;
        let endpoint = host_endpoint(NODE_NAME, HERE);
        fs::write(folder.join("store/endpoint.yaml"), endpoint).context("store")?;
        for (file, text) in files {
            fs::write(folder.join("store").join(file), text).context("store")?;
        }
        let log = fs::File::create(folder.join("log")).context("log")?;
        let mut command = command(&wire, binary, &folder);
        // The agent is to run beside who watches it, on any CPU but this.
        bpf::pin_to_cpu(None).context("choosing a CPU")?;
        let child = command
            .args(["--node", NODE_NAME, "--interface", HERE])
            .args(["--ingress", "xdp-native", "--log-level", "warn"])
            .arg("--store")
            .arg(folder.join("store"))
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg("--socket")
            .arg(folder.join("socket"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        bpf::pin_to_cpu(Some(0)).context("choosing a CPU")?;
        let child = child.with_context(|| binary.display().to_string())?;
        Ok(Self {
            wire,
            child,
            folder,
            binary: binary.to_owned(),
        })
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Replaces a file of the store in one step, and returns when that began.
    pub(crate) fn replace(&self, file: &str, text: &str) -> Result<Instant> {
        let store = self.folder.join("store");
        let new = self.folder.join(format!("new-{file}"));
        fs::write(&new, text).context("a new file")?;
        let begin = Instant::now();
        fs::rename(&new, store.join(file)).context("replacing a file of the store")?;
        Ok(begin)
    }

    /// The program that judges what comes in, as soon as there is one.
    pub(crate) fn program(&mut self) -> Result<OwnedFd> {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent has ended: {status}: {}", self.log());
            }
            let text = netns::run(
                self.wire
                    .host
                    .command("ip")
                    .args(["-json", "link", "show", HERE]),
                None,
            )?;
            let links: serde_json::Value = serde_json::from_str(&text).context("output of ip")?;
            if let Some(id) = links[0]["xdp"]["prog"]["id"].as_u64() {
                return bpf::program_by_id(id as u32).context("the attached program");
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("no program after {PATIENCE:?}: {}", self.log())
    }

    /// Waits until the program passes the packet, or drops it: how long it took
    /// from `begin` on. Asks the program itself, again and again.
    pub(crate) fn wait(
        &self,
        program: &OwnedFd,
        packet: &Packet,
        passes: bool,
        begin: Instant,
    ) -> Result<Duration> {
        let expected = if passes { XDP_PASS } else { XDP_DROP };
        let bytes = Template::NEW.of(packet);
        self.wire.host.run(|| {
            loop {
                let (action, _) = bpf::test_run(program, &bytes, Context::Xdp(INDEX_HERE), 1)
                    .context("asking the program")?;
                let elapsed = begin.elapsed();
                if action == expected {
                    return Ok(elapsed);
                }
                ensure!(
                    elapsed < PATIENCE,
                    "not enforced after {PATIENCE:?}: {}",
                    self.log()
                );
                thread::sleep(BETWEEN);
            }
        })?
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

fn command(wire: &Wire, binary: &Path, folder: &Path) -> Command {
    let name = folder.file_name().unwrap_or_default();
    let mut command = wire.host.command(binary);
    command
        .arg("--pin-root")
        .arg(Path::new("/sys/fs/bpf").join(name));
    command
}

impl Drop for Agent {
    fn drop(&mut self) {
        // What fails here goes with the sandbox.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let detach = netns::run(
            command(&self.wire, &self.binary, &self.folder).arg("--detach"),
            None,
        );
        if let Err(error) = detach {
            eprintln!("{error:#}");
        }
    }
}
