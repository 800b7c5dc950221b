//! A real API server and its etcd, where `KUBEBUILDER_ASSETS` names a folder that
//! holds both, as envtest has it. Both listen on free ports of the loopback
//! interface, believe certificates made for them, and end with the test.

use std::{
    env, fs,
    io::Read as _,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use ::kube::{
    Api, Client,
    api::{DynamicObject, ListParams, PostParams},
    core::{ApiResource, Request},
};
use anyhow::{Context as _, Result, bail, ensure};
use hostfw_agent::{crd, source::kubernetes::connect};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::server::{KINDS, WRITTEN, plural};

/// A server that starts on a busy machine takes this long at the very most.
const PATIENCE: Duration = Duration::from_secs(180);
/// The ports are free when they are chosen, and may be taken a moment later.
const ATTEMPTS: usize = 3;
/// Who may do all.
const ADMINISTRATOR: &str = "of-the-administrator";

/// The folder with the programs.
///
/// # Errors
///
/// Why there is none, for those who skip.
fn assets() -> Result<PathBuf, &'static str> {
    let folder = env::var_os("KUBEBUILDER_ASSETS").ok_or("KUBEBUILDER_ASSETS is not set")?;
    let folder = PathBuf::from(folder);
    let all = ["etcd", "kube-apiserver"];
    if all.iter().all(|name| folder.join(name).is_file()) {
        Ok(folder)
    } else {
        Err("the folder of KUBEBUILDER_ASSETS holds no etcd, or no kube-apiserver")
    }
}

/// Whether there are programs; if not, a line says why. `lost`: what stays unseen
/// then.
pub(crate) fn is_there(lost: &str) -> bool {
    let found = assets();
    if let Err(why) = &found {
        println!("skipped: {why}: {lost}");
    }
    found.is_ok()
}

/// The server, with all definitions of `deploy/crds`.
pub(crate) struct Real {
    folder: TempDir,
    /// `https://127.0.0.1:PORT`.
    pub(crate) address: String,
    /// The second part of its version, of a server that calls itself 1.x; of one that
    /// does not say, the largest number.
    pub(crate) minor: u32,
    /// What keeps the processes: they end when this does.
    stop: Option<mpsc::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

/// The server while nobody else changes what it holds.
pub(crate) struct Turn {
    real: Arc<Real>,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl std::ops::Deref for Turn {
    type Target = Real;

    fn deref(&self) -> &Real {
        &self.real
    }
}

static SHARED: Mutex<Weak<Real>> = Mutex::new(Weak::new());
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The server that the tests of a program share, one after the other; `None`,
/// and a line that says why, if there is none to start. `lost`: what stays
/// unseen then.
pub(crate) async fn turn(lost: &str) -> Option<Turn> {
    if !is_there(lost) {
        return None;
    }
    let start = || {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let real = Real::start(&[]).unwrap_or_else(|error| panic!("{error:#}"));
            let real = Arc::new(real);
            *shared = Arc::downgrade(&real);
            real
        })
    };
    let real = tokio::task::spawn_blocking(start).await;
    let real = real.expect("the API server of KUBEBUILDER_ASSETS starts");
    Some(Turn {
        real,
        _turn: TURN.lock().await,
    })
}

impl Real {
    /// Starts it. `names`: other addresses that clients reach it by.
    ///
    /// # Errors
    ///
    /// If there is none, or it does not start: with what it said last.
    pub(crate) fn start(names: &[String]) -> Result<Self> {
        let assets = assets().map_err(anyhow::Error::msg)?;
        let mut result = Self::once(&assets, names);
        for _ in 1..ATTEMPTS {
            if result.is_err() {
                result = Self::once(&assets, names);
            }
        }
        result
    }

    fn once(assets: &Path, names: &[String]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [store, port] = free_ports()?;
        let commands = commands(assets, folder.path(), names, store, port)?;
        let (stop, stopped) = mpsc::channel::<()>();
        let (told, started) = mpsc::channel();
        // A process dies with the thread that has started it, so this one stays.
        let keeper = thread::spawn(move || {
            let mut running = Running(Vec::new());
            for mut command in commands {
                match command.spawn() {
                    Ok(child) => running.0.push(child),
                    Err(error) => {
                        let _ = told.send(Err(error));
                        return;
                    }
                }
            }
            let _ = told.send(Ok(()));
            let _ = stopped.recv();
        });
        started.recv()??;
        let mut real = Self {
            address: format!("https://127.0.0.1:{port}"),
            minor: 0,
            folder,
            stop: Some(stop),
            keeper: Some(keeper),
        };
        match real.prepare() {
            Ok(minor) => {
                real.minor = minor;
                Ok(real)
            }
            Err(error) => {
                let mut log = String::new();
                let file = fs::File::open(real.folder.path().join("kube-apiserver.log"));
                let _ = file.map(|mut file| file.read_to_string(&mut log));
                let last: Vec<&str> = log.lines().rev().take(20).collect();
                Err(error.context(last.into_iter().rev().collect::<Vec<_>>().join("\n")))
            }
        }
    }

    /// Waits until it serves, and installs the definitions.
    fn prepare(&self) -> Result<u32> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let client = self.client().await?;
            let give_up = Instant::now() + PATIENCE;
            loop {
                let ready = asks(&client, "/readyz").await;
                match ready {
                    Ok(_) => break,
                    Err(error) if Instant::now() > give_up => bail!("it is not ready: {error}"),
                    Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                }
            }
            install(&client, give_up).await?;
            let version = client.apiserver_version().await?;
            // `29+` of some vendors, and nothing at all of servers built by hand.
            let digits = version
                .minor
                .trim_end_matches(|c: char| !c.is_ascii_digit());
            Ok(digits.parse().unwrap_or(u32::MAX))
        })
    }

    /// A client that may do all.
    pub(crate) async fn client(&self) -> Result<Client> {
        let file = self.kubeconfig(ADMINISTRATOR)?;
        Ok(connect(Some(&file)).await?)
    }

    /// A kubeconfig for who has this token.
    pub(crate) fn kubeconfig_at(&self, address: &str, token: &str) -> Result<PathBuf> {
        let name: String = token.chars().rev().take(24).collect();
        let file = self.folder.path().join(format!("kubeconfig-{name}"));
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": address,
                "certificate-authority": self.folder.path().join("ca.crt")}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
            "users": [{"name": "me", "user": {"token": token}}],
        });
        fs::write(&file, text.to_string())?;
        Ok(file)
    }

    fn kubeconfig(&self, token: &str) -> Result<PathBuf> {
        self.kubeconfig_at(&self.address, token)
    }

    /// A kubeconfig for the administrator, who reaches it by this address.
    pub(crate) fn administrator_at(&self, address: &str) -> Result<PathBuf> {
        self.kubeconfig_at(address, ADMINISTRATOR)
    }

    /// A kubeconfig for the administrator.
    pub(crate) fn administrator(&self) -> Result<PathBuf> {
        self.administrator_at(&self.address)
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.keeper.take().map(JoinHandle::join));
    }
}

/// Processes that end with this.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in self.0.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held before one is given back, so that they differ.
    let held: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, held) in ports.iter_mut().zip(&held) {
        *port = held.local_addr()?.port();
    }
    Ok(ports)
}

/// The store and the server, in the order in which they start.
fn commands(
    assets: &Path,
    folder: &Path,
    names: &[String],
    store: u16,
    port: u16,
) -> Result<[Command; 2]> {
    certificates(folder, names)?;
    fs::write(
        folder.join("tokens"),
        format!("{ADMINISTRATOR},administrator,1,\"system:masters\"\n"),
    )?;
    let at = |name: &str| folder.join(name).display().to_string();
    let store = format!("http://127.0.0.1:{store}");
    let etcd = [
        ("data-dir", at("etcd")),
        ("listen-client-urls", store.clone()),
        ("advertise-client-urls", store.clone()),
        ("listen-peer-urls", "http://127.0.0.1:0".to_owned()),
        ("unsafe-no-fsync", "true".to_owned()),
    ];
    let server = [
        ("etcd-servers", store),
        ("bind-address", "127.0.0.1".to_owned()),
        ("advertise-address", "127.0.0.1".to_owned()),
        ("secure-port", port.to_string()),
        ("tls-cert-file", at("server.crt")),
        ("tls-private-key-file", at("server.key")),
        ("token-auth-file", at("tokens")),
        ("authorization-mode", "RBAC".to_owned()),
        ("allow-privileged", "true".to_owned()),
        ("service-cluster-ip-range", "10.0.0.0/24".to_owned()),
        ("service-account-issuer", "https://127.0.0.1".to_owned()),
        ("service-account-key-file", at("account.pub")),
        ("service-account-signing-key-file", at("account.key")),
        // Nobody makes the accounts that pods would need.
        ("disable-admission-plugins", "ServiceAccount".to_owned()),
        ("endpoint-reconciler-type", "none".to_owned()),
    ];
    Ok([
        command(assets, "etcd", &etcd, folder)?,
        command(assets, "kube-apiserver", &server, folder)?,
    ])
}

fn command(assets: &Path, name: &str, flags: &[(&str, String)], folder: &Path) -> Result<Command> {
    let log = fs::File::create(folder.join(format!("{name}.log")))?;
    let mut command = Command::new(assets.join(name));
    command
        .args(
            flags
                .iter()
                .map(|(flag, value)| format!("--{flag}={value}")),
        )
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let dies_too = || {
        // SAFETY: prctl is async-signal-safe, and PR_SET_PDEATHSIG takes a
        // signal and no pointer.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec nothing is called but prctl and errno.
    unsafe { command.pre_exec(dies_too) };
    Ok(command)
}

/// An authority, what it says of the server, and the key that signs the tokens
/// of service accounts.
fn certificates(folder: &Path, names: &[String]) -> Result<()> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    fs::write(folder.join("ca.crt"), parameters.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(parameters, key);
    let mut all = vec!["127.0.0.1".to_owned()];
    all.extend_from_slice(names);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(all)?.signed_by(&key, &issuer)?;
    fs::write(folder.join("server.crt"), certificate.pem())?;
    fs::write(folder.join("server.key"), key.serialize_pem())?;
    let key = KeyPair::generate()?;
    fs::write(folder.join("account.key"), key.serialize_pem())?;
    fs::write(folder.join("account.pub"), key.public_key_pem())?;
    Ok(())
}

async fn asks(client: &Client, path: &str) -> Result<String> {
    let request = Request::new(path).list(&ListParams::default())?;
    Ok(client.request_text(request).await?)
}

/// Creates the definitions, and waits until their kinds are served.
async fn install(client: &Client, give_up: Instant) -> Result<()> {
    let resource = ApiResource {
        group: "apiextensions.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "apiextensions.k8s.io/v1".to_owned(),
        kind: "CustomResourceDefinition".to_owned(),
        plural: "customresourcedefinitions".to_owned(),
    };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let kinds = crd::all().into_iter().map(|one| one.value);
    let reports = crd::reports().into_iter().map(|one| one.value);
    let all: Vec<Value> = kinds.chain(reports).collect();
    for value in &all {
        let object = serde_json::from_value(value.clone())?;
        let made = api.create(&PostParams::default(), &object).await;
        made.with_context(|| format!("{} is not taken", value["metadata"]["name"]))?;
    }
    for value in &all {
        let name = value["metadata"]["name"].as_str().context("a name")?;
        let spec = &value["spec"];
        let path = format!(
            "/apis/{}/{}/{}",
            spec["group"].as_str().context("a group")?,
            spec["versions"][0]["name"].as_str().context("a version")?,
            spec["names"]["plural"].as_str().context("a plural")?,
        );
        while asks(client, &path).await.is_err() {
            ensure!(Instant::now() < give_up, "{name} is not served");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// The version that a kind is written in.
fn version(kind: &str) -> &'static str {
    match kind {
        "HostEndpointTemplate" | "NodeAddresses" | "NodeEnforcement" => "hostfw.io/v1alpha1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        "Event" => "events.k8s.io/v1",
        kind if KINDS.iter().any(|(known, _)| *known == kind) => WRITTEN,
        _ => "v1",
    }
}

/// What the server calls the objects of a kind.
pub(crate) fn resource(kind: &str) -> ApiResource {
    let version = version(kind);
    let (group, number) = version.split_once('/').unwrap_or(("", version));
    ApiResource {
        group: group.to_owned(),
        version: number.to_owned(),
        api_version: version.to_owned(),
        kind: kind.to_owned(),
        plural: plural(kind).to_owned(),
    }
}
