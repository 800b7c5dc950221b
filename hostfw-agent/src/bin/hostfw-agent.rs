//! `hostfw-agent`: keeps the host endpoints of one node enforced.
//!
//! Arguments, logging and exit codes; the work is in the library.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, IsTerminal},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::bail;
use clap::{Parser, ValueEnum, builder::NonEmptyStringValueParser};
use hostfw_agent::{
    attach::{
        self, Dataplane, FlowTables, FlowTimeout, IngressChoice, NetfilterChoice, Options, TcChoice,
    },
    interfaces,
    observe::{
        events::{self, NameBook},
        http, program_log,
        reports::RecentReports,
        socket::ControlSocket,
    },
    publish::{self, Pace},
    reconcile::{self, Reconciler, Settings},
    source::{
        FolderSource,
        kubernetes::{self, KubernetesSource, Times},
    },
};
use hostfw_common::conntrack::Timeouts;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tracing::{info, level_filters::LevelFilter, warn};
use tracing_subscriber::EnvFilter;

/// Not a port of Calico (9091 to 9099), Cilium (9878 to 9965), node-exporter
/// (9100), kube-proxy (10249, 10256) or the kubelet (10248 to 10255).
const METRICS_PORT: u16 = 9739;

/// Enforces Calico host endpoint policy on this node with eBPF.
///
/// What is enforced stays when the agent goes, and the next agent takes over
/// without a gap; --detach removes it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where resources come from
    #[arg(long, env = "HOSTFW_SOURCE", value_enum, default_value_t = SourceChoice::Folder)]
    source: SourceChoice,

    /// How to reach the cluster, with --source kubernetes [default: KUBECONFIG,
    /// else the service account of the pod]
    #[arg(long, env = "HOSTFW_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Folder of resources, in YAML or JSON, with --source folder
    #[arg(
        long,
        env = "HOSTFW_STORE",
        value_name = "FOLDER",
        default_value = "/var/lib/hostfw/resources"
    )]
    store: PathBuf,

    /// Folder where the agent writes down what is in force
    #[arg(
        long,
        env = "HOSTFW_STATE_DIR",
        value_name = "FOLDER",
        default_value = "/var/lib/hostfw/state"
    )]
    state_dir: PathBuf,

    /// Folder on bpffs for what must survive the agent
    #[arg(
        long,
        env = "HOSTFW_PIN_ROOT",
        value_name = "FOLDER",
        default_value = "/sys/fs/bpf/hostfw"
    )]
    pin_root: PathBuf,

    /// Control socket, which hostfwctl asks for the status
    #[arg(
        long,
        env = "HOSTFW_SOCKET",
        value_name = "PATH",
        default_value = "/run/hostfw/agent.sock"
    )]
    socket: PathBuf,

    /// Name of this node in HostEndpoints [default: the host name in lower
    /// case]
    #[arg(
        long,
        env = "HOSTFW_NODE",
        value_name = "NAME",
        value_parser = NonEmptyStringValueParser::new()
    )]
    node: Option<String>,

    /// Hook for incoming packets: auto, xdp-native, xdp-generic or tc
    #[arg(
        long,
        env = "HOSTFW_INGRESS",
        value_name = "HOOK",
        default_value = "auto"
    )]
    ingress: IngressChoice,

    /// Kind of TC hook: auto, tcx or clsact
    #[arg(long, env = "HOSTFW_TC", value_name = "KIND", default_value = "auto")]
    tc: TcChoice,

    /// Netfilter hooks, which forward and normal ingress policy need: auto or
    /// off
    #[arg(
        long,
        env = "HOSTFW_NETFILTER",
        value_name = "USE",
        default_value = "auto"
    )]
    netfilter: NetfilterChoice,

    /// Judge, count and report everything, and drop nothing
    #[arg(long, env = "HOSTFW_OBSERVE_ONLY")]
    observe_only: bool,

    /// Confirmed flows to keep room for [default: by memory, 65536 to 1048576]
    #[arg(
        long,
        env = "HOSTFW_CONFIRMED_FLOWS",
        value_name = "FLOWS",
        value_parser = clap::value_parser!(u32).range(1024..=1 << 24)
    )]
    confirmed_flows: Option<u32>,

    /// Half-open flows to keep room for [default: by memory, 16384 to 262144]
    #[arg(
        long,
        env = "HOSTFW_HALF_OPEN_FLOWS",
        value_name = "FLOWS",
        value_parser = clap::value_parser!(u32).range(1024..=1 << 24)
    )]
    half_open_flows: Option<u32>,

    /// Seconds of silence after which flows are forgotten (repeatable):
    /// tcp-half-open, tcp-established, tcp-fin, tcp-reset, udp-half-open,
    /// udp-confirmed, icmp, sctp-confirmed or generic
    #[arg(
        long,
        env = "HOSTFW_FLOW_TIMEOUT",
        value_name = "KIND=SECONDS",
        value_delimiter = ','
    )]
    flow_timeout: Vec<FlowTimeout>,

    /// Address to serve metrics and probes on, over HTTP
    #[arg(
        long,
        env = "HOSTFW_METRICS_ADDRESS",
        value_name = "ADDRESS",
        default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST)
    )]
    metrics_address: IpAddr,

    /// Port for that; 0 serves neither
    #[arg(
        long,
        env = "HOSTFW_METRICS_PORT",
        value_name = "PORT",
        default_value_t = METRICS_PORT
    )]
    metrics_port: u16,

    /// Form of the log, which goes to standard error
    #[arg(long, env = "HOSTFW_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    /// error, warn, info, debug or trace, or directives as in
    /// `info,hostfw_agent=debug`
    #[arg(
        long,
        env = "HOSTFW_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    log_level: String,

    /// What the BPF programs log; costs nothing when off
    #[arg(long, env = "HOSTFW_BPF_LOG", value_enum, default_value_t = BpfLog::Off)]
    bpf_log: BpfLog,

    /// Remove everything that agents have put in place, and leave
    #[arg(long, env = "HOSTFW_DETACH")]
    detach: bool,

    /// Govern only this interface (repeatable), for trials
    #[arg(
        long,
        env = "HOSTFW_INTERFACE",
        value_name = "NAME",
        value_delimiter = ','
    )]
    interface: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SourceChoice {
    /// The files of --store
    Folder,
    /// The objects of a cluster
    Kubernetes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// The order is that of aya-log's levels, which begin with 1 for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BpfLog {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl BpfLog {
    const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

fn main() -> ExitCode {
    if cfg!(panic = "unwind") {
        abort_on_panic();
    }
    let arguments = Arguments::parse();
    let done = if arguments.detach {
        detach(&arguments.pin_root)
    } else {
        run(arguments)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Sources that an error's own text repeats would make two lines of
            // one.
            eprintln!("hostfw-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

/// In a build that unwinds, a panic would end a task and leave an agent that is
/// half there. What is shipped aborts, and so does what is tested.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn detach(pin_root: &Path) -> anyhow::Result<()> {
    require_root()?;
    let removed = attach::remove_all(pin_root)?;
    println!(
        "removed {} links, {} filters and {} maps",
        removed.links, removed.filters, removed.maps
    );
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn run(arguments: Arguments) -> anyhow::Result<()> {
    start_log(&arguments)?;
    require_root()?;
    let node = match &arguments.node {
        Some(node) => node.clone(),
        None => host_name()?,
    };
    make_private(&arguments.state_dir).map_err(|error| {
        anyhow::anyhow!("state folder {}: {error}", arguments.state_dir.display())
    })?;

    // First of all: both find out whether another agent is at work, the socket
    // without leaving anything behind if so.
    let socket = ControlSocket::bind(&arguments.socket)?;
    let defaults = FlowTables::for_this_machine();
    let mut timeouts = Timeouts::DEFAULT;
    for timeout in &arguments.flow_timeout {
        timeout.set(&mut timeouts);
    }
    let mut dataplane = Dataplane::open(&Options {
        ingress: arguments.ingress,
        tc: arguments.tc,
        netfilter: arguments.netfilter,
        log_level: arguments.bpf_log as u8,
        tables: FlowTables {
            half_open: arguments.half_open_flows.unwrap_or(defaults.half_open),
            confirmed: arguments.confirmed_flows.unwrap_or(defaults.confirmed),
        },
        timeouts,
        ..Options::new(&arguments.pin_root)
    })?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let interfaces = interfaces::follow().await?;

    let names = NameBook::default();
    let reports = RecentReports::default();
    reconcile::keep_filter(dataplane.filter_keeper());
    if let Some(ring) = dataplane.take_events()? {
        events::spawn(ring, names.clone(), reports.clone());
    }
    if let Some(log) = dataplane.take_log() {
        program_log::spawn(log);
    }
    // One request waits while another is answered.
    let (requests, answers) = mpsc::channel(1);
    if arguments.metrics_port != 0 {
        let address = SocketAddr::new(arguments.metrics_address, arguments.metrics_port);
        tokio::spawn(http::serve_at(address, requests.clone()));
    }
    tokio::spawn(socket.serve(requests.clone()));

    info!(
        node,
        version = env!("CARGO_PKG_VERSION"),
        source = ?arguments.source,
        pin_root = %arguments.pin_root.display(),
        generation = dataplane.generation(),
        "started"
    );
    if arguments.observe_only {
        warn!("observe only: what policy denies is counted and reported, and passes");
    }
    let reconciler = Reconciler::new(
        Settings {
            node: node.clone(),
            state_file: arguments.state_dir.join("accepted.json"),
            only: BTreeSet::from_iter(arguments.interface),
            observe_only: arguments.observe_only,
        },
        dataplane,
        names,
    )
    .with_reports(reports);
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    match arguments.source {
        SourceChoice::Folder => {
            reconciler.make_store(&arguments.store)?;
            let store = FolderSource::new(&arguments.store)?;
            info!(store = %arguments.store.display(), "follows the store");
            reconcile::run(reconciler, store, interfaces, answers, stop).await;
        }
        SourceChoice::Kubernetes => {
            let client = kubernetes::connect(arguments.kubeconfig.as_deref()).await?;
            let cluster =
                KubernetesSource::start(&client, &node, reconciler.held(), Times::default());
            info!("follows the cluster");
            let agent = publish::Agent {
                node,
                passes: reconciler.passes(),
                questions: requests,
                known: cluster.known(),
                notes: reconciler.notes(),
                told: reconciler.told(),
            };
            tokio::spawn(publish::run(client, agent, Pace::default()));
            reconcile::run(reconciler, cluster, interfaces, answers, stop).await;
        }
    }
    info!("stopped; what is enforced stays");
    Ok(())
}

fn start_log(arguments: &Arguments) -> anyhow::Result<()> {
    let level = &arguments.log_level;
    let filter = EnvFilter::try_new(log_directives(level, arguments.bpf_log)?)
        .map_err(|error| anyhow::anyhow!("log level {level:?}: {error}"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match arguments.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

/// What is said at each attempt to reach an API server; the source says the
/// same once.
const REPEATED: &str = "kube_client::client::builder=off,kube_runtime::watcher=error";

/// The directives of the log, the programs' among them.
fn log_directives(level: &str, bpf_log: BpfLog) -> anyhow::Result<String> {
    let bare = || level.split(',').filter(|part| !part.contains('='));
    // Taken for the name of a module, a misspelt level would silence the log.
    if let Some(found) = bare().find(|part| part.parse::<LevelFilter>().is_err()) {
        bail!(
            "log level {level:?}: expected off, error, warn, info, debug or trace, found {found:?}"
        );
    }
    if bpf_log == BpfLog::Off {
        // Of two directives for the same, the last one counts.
        return Ok(format!("{REPEATED},{level}"));
    }
    // The programs' modules begin with `hostfw`, and so does the agent's name,
    // whose longer directive wins.
    let own = bare().next().unwrap_or("info");
    Ok(format!(
        "{REPEATED},hostfw={},hostfw_agent={own},{level}",
        bpf_log.name()
    ))
}

fn require_root() -> anyhow::Result<()> {
    // SAFETY: takes nothing, touches nothing, cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        bail!("expected to run as root, which loading BPF programs needs");
    }
    Ok(())
}

/// The host name as Kubernetes makes a node's name of it: in lower case.
fn host_name() -> anyhow::Result<String> {
    let path = "/proc/sys/kernel/hostname";
    let name = fs::read_to_string(path)
        .map_err(|error| anyhow::anyhow!("{path}: {error}; give the node's name with --node"))?;
    Ok(name.trim().to_lowercase())
}

/// Makes a folder that only root reads.
fn make_private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let arguments = Arguments::try_parse_from(["hostfw-agent"]).expect("no flag is required");
        assert_eq!(arguments.source, SourceChoice::Folder);
        assert_eq!(arguments.store, Path::new("/var/lib/hostfw/resources"));
        assert_eq!(arguments.state_dir, Path::new("/var/lib/hostfw/state"));
        assert_eq!(arguments.pin_root, Path::new("/sys/fs/bpf/hostfw"));
        assert_eq!(arguments.socket, Path::new("/run/hostfw/agent.sock"));
        assert_eq!(arguments.ingress, IngressChoice::Auto);
        assert_eq!(arguments.tc, TcChoice::Auto);
        assert_eq!(arguments.bpf_log, BpfLog::Off);
        assert!(!arguments.detach && arguments.interface.is_empty());
        assert!(!arguments.observe_only);
        assert_eq!(arguments.metrics_address, Ipv4Addr::LOCALHOST);
        assert_eq!(arguments.metrics_port, 9739);
    }

    #[test]
    fn log_levels_are_checked() {
        let directives = |level| log_directives(level, BpfLog::Off).map_err(|e| e.to_string());
        for fine in [
            "info",
            "OFF",
            "warn,hostfw_agent::reconcile=debug",
            "a=info",
        ] {
            assert_eq!(directives(fine), Ok(format!("{REPEATED},{fine}")));
        }
        for wrong in ["banana", "info,hostfw_agent", "information"] {
            let error = directives(wrong).unwrap_err();
            assert!(error.contains("expected off, error"), "{error}");
        }
        assert_eq!(
            log_directives("warn,x=info", BpfLog::Debug).unwrap(),
            format!("{REPEATED},hostfw=debug,hostfw_agent=warn,warn,x=info")
        );
    }

    #[test]
    fn interfaces_repeat_and_choices_are_checked() {
        let arguments = Arguments::try_parse_from([
            "hostfw-agent",
            "--interface",
            "eth0",
            "--interface=eth1",
            "--ingress",
            "xdp-generic",
            "--bpf-log",
            "debug",
        ])
        .expect("all flags are known");
        assert_eq!(arguments.interface, ["eth0", "eth1"]);
        assert_eq!(arguments.ingress, IngressChoice::XdpGeneric);
        assert_eq!(arguments.bpf_log as u8, 4);
        assert!(Arguments::try_parse_from(["hostfw-agent", "--tc", "xdp"]).is_err());
        // An empty name would govern nothing, and open everything.
        assert!(Arguments::try_parse_from(["hostfw-agent", "--node", ""]).is_err());
    }
}
