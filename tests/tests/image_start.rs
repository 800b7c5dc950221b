//! The container image, run as the manifests have it run: by an OCI runtime, with
//! the rights of each profile, on a node's folders and network.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hostfw_tests::{
    netns::{self, Namespace},
    sandbox,
};
use serde_json::{Value, json};

/// For the agent's start on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An endpoint for the node's interface, and a policy that takes every hook.
const RESOURCES: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: node1-v0, labels: {host-endpoint: ingress}}
spec: {node: node1, interfaceName: v0}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: deny}
spec:
  selector: has(host-endpoint)
  preDNAT: true
  applyOnForward: true
  ingress: [{action: Deny}]
";

/// An image, unpacked.
struct Image {
    folder: tempfile::TempDir,
    config: Value,
}

impl Image {
    fn unpack(archive: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let place = |name: &str| folder.path().join(name);
        let extract = |archive: &Path, to: &str| -> Result<()> {
            fs::create_dir_all(place(to))?;
            let mut tar = Command::new("tar");
            tar.arg("-xf").arg(archive).arg("-C").arg(place(to));
            netns::run(&mut tar, None).map(drop)
        };
        extract(archive, "oci")?;
        let read = |path: &str| -> Result<Value> {
            let path = place("oci").join(path);
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            Ok(serde_json::from_str(&text)?)
        };
        let blob = |entry: &Value| -> Result<String> {
            let digest = entry["digest"].as_str().context("no digest")?;
            Ok(format!("blobs/{}", digest.replace(':', "/")))
        };
        let index = read("index.json")?;
        let manifest = read(&blob(&index["manifests"][0])?)?;
        let config = read(&blob(&manifest["config"])?)?;
        let layers = manifest["layers"].as_array().context("no layers")?;
        for layer in layers {
            extract(&place("oci").join(blob(layer)?), "rootfs")?;
        }
        Ok(Self {
            config: config["config"].clone(),
            folder,
        })
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("rootfs")
    }
}

/// A node, as far as a container sees it.
struct Node<'a> {
    image: &'a Image,
    network: &'a Namespace,
    folder: &'a Path,
    /// Of the container; every right if there are none.
    capabilities: Option<&'a [String]>,
}

impl Node<'_> {
    /// Starts a container with these arguments.
    fn run(&self, id: &str, arguments: &[&str]) -> Result<Container<'_>> {
        let bundle = self.folder.join(id);
        fs::create_dir_all(&bundle)?;
        fs::write(
            bundle.join("config.json"),
            self.config(arguments)?.to_string(),
        )?;
        let log = bundle.join("log");
        let written = File::create(&log)?;
        let process = self
            .crun()
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(id)
            .stdout(written.try_clone()?)
            .stderr(written)
            .spawn()
            .context("crun")?;
        Ok(Container {
            node: self,
            id: id.to_owned(),
            process,
            log,
        })
    }

    fn crun(&self) -> Command {
        let mut command = self.network.command("crun");
        command
            .args(["--cgroup-manager=disabled", "--root"])
            .arg(self.folder.join("crun"));
        command
    }

    /// What a kubelet makes of deploy/kustomize/base/daemonset.yaml.
    fn config(&self, arguments: &[&str]) -> Result<Value> {
        let words = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut command = words(&self.image.config["Entrypoint"]);
        command.extend(arguments.iter().map(|&word| json!(word)));
        let mut environment = words(&self.image.config["Env"]);
        environment.extend([
            json!("HOSTFW_NODE=node1"),
            json!("HOSTFW_PIN_ROOT=/bpf/hostfw"),
        ]);
        let all;
        let rights = match self.capabilities {
            Some(rights) => rights,
            None => {
                all = every_capability()?;
                &all
            }
        };
        let bind = |source: &Path, destination: &str| {
            json!({
                "destination": destination, "source": source,
                "type": "bind", "options": ["rbind", "rslave"],
            })
        };
        Ok(json!({
            "ociVersion": "1.0.0",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": command,
                "env": environment,
                "cwd": "/",
                "capabilities": {
                    "bounding": rights, "effective": rights, "permitted": rights,
                },
                "noNewPrivileges": self.capabilities.is_some(),
            },
            "root": {"path": self.image.root(), "readonly": true},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                {
                    "destination": "/sys", "type": "sysfs", "source": "sysfs",
                    "options": ["nosuid", "noexec", "nodev", "ro"],
                },
                bind(Path::new("/sys/fs/bpf"), "/bpf"),
                bind(&self.folder.join("state"), "/var/lib/hostfw"),
                bind(&self.folder.join("run"), "/run/hostfw"),
            ],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "mount"}],
                "readonlyPaths": ["/proc/sys"],
            },
        }))
    }

    /// What is attached to the interface, as `ip` tells it.
    fn interface(&self) -> Result<String> {
        let mut ip = self.network.command("ip");
        netns::run(ip.args(["link", "show", "v0"]), None)
    }
}

/// A container that runs.
struct Container<'a> {
    node: &'a Node<'a>,
    id: String,
    process: Child,
    log: PathBuf,
}

impl Container<'_> {
    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Runs a command in it, as a probe does.
    fn exec(&self, command: &[&str]) -> Result<String> {
        let mut crun = self.node.crun();
        // A kubelet gives a probe what the container has.
        crun.args(["exec", "--env", "PATH=/bin", &self.id])
            .args(command);
        netns::run(&mut crun, None)
    }

    /// Waits until the readiness probe succeeds, and returns the status.
    fn ready(&mut self) -> Result<Value> {
        let begin = Instant::now();
        loop {
            let answer = self.exec(&["hostfwctl", "status", "--wait", "--timeout=5s"]);
            let Err(error) = answer else { break };
            let ended = self.process.try_wait()?;
            ensure!(
                ended.is_none() && begin.elapsed() < PATIENCE,
                "{ended:?}: {error:#}: {}",
                self.said()
            );
            thread::sleep(Duration::from_millis(100));
        }
        let status = self.exec(&["hostfwctl", "status", "-o", "json"])?;
        Ok(serde_json::from_str(&status)?)
    }

    /// Ends it by this signal and returns whether it says that all was well.
    fn end(mut self, signal: &str) -> Result<bool> {
        netns::run(self.node.crun().args(["kill", &self.id, signal]), None)?;
        let success = self.process.wait()?.success();
        // One that was killed may still be known.
        self.node
            .crun()
            .args(["delete", "--force", &self.id])
            .output()
            .context("crun delete")?;
        Ok(success)
    }
}

/// All that this machine has to give, as a runtime calls them.
fn every_capability() -> Result<Vec<String>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let bits = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .context("no CapBnd")?;
    let bits = u64::from_str_radix(bits.trim(), 16)?;
    // In the order of their numbers.
    let names = netns::run(Command::new("setpriv").arg("--list-caps"), None)?;
    let given = names
        .lines()
        .enumerate()
        .filter(|(number, _)| bits >> number & 1 == 1);
    Ok(given
        .map(|(_, name)| format!("CAP_{}", name.to_uppercase()))
        .collect())
}

/// The capabilities that the overlay adds.
fn overlay() -> Result<Vec<String>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/kustomize/overlays/capabilities/rights.yaml");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let list = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("add: [")?.strip_suffix(']'))
        .context("the overlay adds no capabilities")?;
    let names = list.split(',').map(|name| format!("CAP_{}", name.trim()));
    Ok(names.collect())
}

/// The image; `None`, said why, if containers cannot be run here.
fn image_or_skip() -> Result<Option<Image>> {
    if sandbox::or_skip() {
        return Ok(None);
    }
    let Some(archive) = env::var_os("HOSTFW_IMAGE") else {
        println!("skipped: HOSTFW_IMAGE names no image");
        return Ok(None);
    };
    // crun takes the unified hierarchy only; this mount is the sandbox's own.
    let mut mount = Command::new("mount");
    mount.args(["-t", "cgroup2", "none", "/sys/fs/cgroup"]);
    if let Err(error) = netns::run(&mut mount, None) {
        println!("skipped: no unified cgroups for crun: {error:#}");
        return Ok(None);
    }
    Image::unpack(Path::new(&archive)).map(Some)
}

#[test]
fn the_image_starts_enforces_and_is_replaced_in_either_profile() -> Result<()> {
    let Some(image) = image_or_skip()? else {
        return Ok(());
    };
    let mut files: Vec<String> = netns::run(
        Command::new("find")
            .arg(image.root())
            .args(["-type", "f", "-printf", "%P\n"]),
        None,
    )?
    .lines()
    .map(str::to_owned)
    .collect();
    files.sort();
    assert_eq!(
        files,
        [
            "bin/hostfw-agent",
            "bin/hostfwctl",
            "usr/share/doc/hostfw/LICENSE-APACHE",
            "usr/share/doc/hostfw/LICENSE-MIT"
        ]
    );
    assert_eq!(image.config["Entrypoint"], json!(["/bin/hostfw-agent"]));

    let overlay = overlay()?;
    for (profile, capabilities) in [("caps", Some(&overlay[..])), ("priv", None)] {
        replaced(&image, profile, capabilities).with_context(|| profile.to_owned())?;
    }
    Ok(())
}

fn replaced(image: &Image, profile: &str, capabilities: Option<&[String]>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["state/resources", "run"] {
        fs::create_dir_all(folder.path().join(name))?;
    }
    fs::write(folder.path().join("state/resources/first.yaml"), RESOURCES)?;
    let network = Namespace::create(profile)?;
    network.ip("link add v0 type veth peer name v1\nlink set v0 up\nlink set v1 up\n")?;
    let node = Node {
        image,
        network: &network,
        folder: folder.path(),
        capabilities,
    };

    let mut first = node.run(&format!("{profile}-1"), &["--log-format=json"])?;
    let status = first.ready()?;
    check(&status)?;
    assert!(node.interface()?.contains("xdp"), "{}", node.interface()?);
    // As if memory had run out.
    assert!(!first.end("KILL")?);
    assert!(node.interface()?.contains("xdp"), "open between two pods");

    let mut second = node.run(&format!("{profile}-2"), &["--log-format=json"])?;
    let taken_over = second.ready()?;
    check(&taken_over)?;
    let generation = |status: &Value| status["generation"].as_u64();
    assert!(generation(&taken_over) > generation(&status));
    let log = second.log.clone();
    assert!(second.end("TERM")?, "{}", fs::read_to_string(log)?);
    assert!(node.interface()?.contains("xdp"), "open after the last pod");

    let mut last = node.run(&format!("{profile}-3"), &["--detach"])?;
    assert!(last.process.wait()?.success(), "{}", last.said());
    assert!(last.said().contains("removed"), "{}", last.said());
    assert!(!node.interface()?.contains("xdp"), "{}", node.interface()?);
    Ok(())
}

/// That all of the endpoint's policy is in force.
fn check(status: &Value) -> Result<()> {
    let endpoint = &status["endpoints"][0];
    assert_eq!(endpoint["interface"], "v0", "{status:#}");
    let conditions = endpoint["conditions"].as_array().context("no conditions")?;
    assert!(conditions.len() >= 3, "{status:#}");
    for condition in conditions {
        assert_eq!(condition["status"], true, "{condition:#}");
    }
    Ok(())
}
