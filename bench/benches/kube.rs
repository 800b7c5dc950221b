//! What a large cluster costs an agent: 5,000 nodes, 100,000 pods and 10,000
//! policies, from an API server in a process of its own, through the source to the
//! image that would be written into the kernel. No kernel is needed.
//!
//! `cargo xtask bench --only kube`, or `cargo bench -p hostfw-bench --bench kube [--
//! --pods N --policies N --nodes N --rounds N --out FOLDER]`; `-- --render FOLDER`
//! writes what a run came to into docs/performance.md.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what fails ends the measurement"
)]

#[path = "../../hostfw-agent/tests/kube/server.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "of a script, a part is needed here"
)]
mod server;

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use hostfw_agent::{
    accept::{self, Accepted, Acceptor, Assembler},
    compile::{self, compile_with, image::Image},
    model::{Interface, Kind, ObjectRef},
    select::{self, Selection, select_with},
    source::{
        Source as _, Trust,
        kubernetes::{KubernetesSource, Times, client_at},
    },
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use self::server::{Server, WRITTEN};

/// The node whose agent is measured.
const NODE: &str = "node-00000";
/// Groups of nodes; each policy is for one.
const ROLES: usize = 500;
/// Pods of a deployment.
const REPLICAS: usize = 50;
const NAMESPACES: usize = 200;

#[derive(Clone, Debug, Parser)]
struct Cli {
    #[arg(long, default_value_t = 5_000)]
    nodes: usize,
    #[arg(long, default_value_t = 100_000)]
    pods: usize,
    #[arg(long, default_value_t = 10_000)]
    policies: usize,
    /// Changes of each sort
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Policies that change, for the rates
    #[arg(long, default_value_t = 1_000)]
    changes: usize,
    /// Print a line of JSON for each value
    #[arg(long)]
    json: bool,
    /// Folder for the raw data
    #[arg(long)]
    out: Option<PathBuf>,
    /// Measure nothing: write what the run in this folder came to into
    /// docs/performance.md
    #[arg(long)]
    render: Option<PathBuf>,
    /// Be the API server
    #[arg(long, hide = true)]
    serve: bool,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let cli = Cli::parse();
    if let Some(run) = &cli.render {
        return render(run);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    if cli.serve {
        runtime.block_on(serve(&cli));
    } else {
        runtime.block_on(measure(&cli));
    }
}

/// Deployments; of ten, one is a set whose pods have labels of their own.
fn pod(number: usize, address: u32, seen: usize) -> Value {
    let app = number / REPLICAS;
    let namespace = app % NAMESPACES;
    let octets = address.to_be_bytes();
    let address = format!("10.{}.{}.{}", octets[1], octets[2], octets[3]);
    let tier = ["front", "back", "data"][app % 3];
    let mut labels = json!({
        "app": format!("app-{app}"), "app.kubernetes.io/part-of": format!("team-{}", app % 40),
        "pod-template-hash": format!("{:08x}", app * 7919), "tier": tier,
    });
    if app.is_multiple_of(10) {
        labels["statefulset.kubernetes.io/pod-name"] = json!(format!("app-{app}-{number}"));
    }
    // As much besides as is usual.
    let env: Vec<Value> = (0..12)
        .map(|it| json!({"name": format!("SETTING_{it}"), "value": "x".repeat(40)}))
        .collect();
    let volumes: Vec<Value> = (0..3)
        .map(|it| json!({"name": format!("v{it}"), "configMap": {"name": format!("c{it}")}}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("pod-{number:06}"), "namespace": format!("ns-{namespace}"),
            "uid": format!("00000000-0000-0000-0000-{number:012}"), "labels": labels,
            "annotations": {"checksum/config": "0".repeat(64)},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                "name": format!("app-{app}"), "controller": true}],
        },
        "spec": {
            "nodeName": format!("node-{:05}", number % 5000), "serviceAccountName": "default",
            "containers": [{"name": "main", "image": "registry.example/app:1.2.3", "env": env,
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}],
            "volumes": volumes, "tolerations": [{"operator": "Exists"}],
        },
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": (0..4).map(|it| json!({"type": format!("C{it}"), "status": "True",
                "lastProbeTime": seen})).collect::<Vec<_>>(),
            "containerStatuses": [{"name": "main", "ready": true, "restartCount": 0}],
        },
    })
}

/// `version`: how often it was changed. Each version denies something else.
fn policy(number: usize, apps: usize, version: usize) -> Value {
    let app = |salt: usize| (number * 31 + salt * 17) % apps.max(1);
    let mut ingress = vec![
        json!({"action": "Allow", "protocol": "TCP",
            "source": {"selector": format!("app == 'app-{}'", app(1))},
            "destination": {"ports": [443, 8443]}}),
        json!({"action": "Allow", "protocol": "TCP",
            "source": {
                "selector": format!("tier == 'front' && app in {{'app-{}', 'app-{}'}}", app(2), app(3)),
                "namespaceSelector": format!("team == 'team-{}'", number % 40)},
            "destination": {"ports": [9100]}}),
        json!({"action": "Deny", "protocol": "UDP",
            "source": {"nets": [format!("172.{}.{}.0/24", 16 + number % 16, number / 16 % 256),
                format!("100.{}.{}.0/24", 64 + version / 256 % 64, version % 256)]}}),
    ];
    if number.is_multiple_of(20) {
        let service = json!({"name": format!("app-{}", app(4)), "namespace":
            format!("ns-{}", app(4) % NAMESPACES)});
        ingress.push(json!({"action": "Allow", "source": {"services": service}}));
    }
    json!({"apiVersion": WRITTEN, "kind": "GlobalNetworkPolicy",
        "metadata": {"name": format!("p-{number:05}"), "generation": version + 1},
        "spec": {"order": number, "selector": format!("role == 'role-{}'", number % ROLES),
            "applyOnForward": true, "ingress": ingress}})
}

/// An API server that holds the cluster, and changes it as it is told.
async fn serve(cli: &Cli) {
    let server = Server::serving(WRITTEN).await;
    for kind in ["Namespace", "Pod", "ServiceAccount"] {
        server.serve("v1", kind);
    }
    server.serve("discovery.k8s.io/v1", "EndpointSlice");
    for number in 0..cli.nodes {
        let [_, a, b, c] = u32::try_from(number).expect("few").to_be_bytes();
        server.put(
            "HostEndpoint",
            json!({"apiVersion": WRITTEN, "kind": "HostEndpoint",
                "metadata": {"name": format!("node-{number:05}-eth0"),
                    "labels": {"role": format!("role-{}", number % ROLES), "host-endpoint": ""}},
                "spec": {"node": format!("node-{number:05}"), "interfaceName": "eth0",
                    "expectedIPs": [format!("192.{}.{b}.{c}", 168 + a)]}}),
        );
    }
    for number in 0..NAMESPACES {
        server.put(
            "Namespace",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": format!("ns-{number}"), "labels": {"team": format!("team-{}", number % 40)}}}),
        );
    }
    let apps = cli.pods.div_ceil(REPLICAS);
    for number in 0..apps {
        let addresses: Vec<Value> = (0..REPLICAS)
            .map(|it| {
                let address = u32::try_from(number * REPLICAS + it).expect("few") + 256;
                let [_, b, c, d] = address.to_be_bytes();
                json!({"addresses": [format!("10.{b}.{c}.{d}")], "conditions": {"ready": true}})
            })
            .collect();
        server.put(
            "EndpointSlice",
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": format!("app-{number}-x"),
                    "namespace": format!("ns-{}", number % NAMESPACES),
                    "labels": {"kubernetes.io/service-name": format!("app-{number}")}},
                "addressType": "IPv4", "endpoints": addresses,
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}),
        );
    }
    for number in 0..cli.pods {
        let address = u32::try_from(number).expect("few") + 256;
        server.put("Pod", pod(number, address, 0));
    }
    for number in 0..cli.policies {
        server.put("GlobalNetworkPolicy", policy(number, apps, 0));
    }
    let sent = Arc::new(AtomicU64::new(0));
    println!("{}", through(&server.address, &sent).await);
    // NUMBER ADDRESS SEEN: what becomes of a pod; NUMBER VERSION: of a policy; or a
    // question, how many bytes were sent.
    tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lock().lines() {
            let line = line.expect("a line");
            if line == "sent" {
                println!("{}", sent.load(Ordering::Relaxed));
                continue;
            }
            let words = line.split(' ');
            let words = words.map(|word| word.parse::<usize>().expect("a number"));
            match words.collect::<Vec<_>>()[..] {
                [number, address, seen] => {
                    let address = u32::try_from(address).expect("an address");
                    server.put("Pod", pod(number, address, seen));
                }
                [number, version] => {
                    server.put("GlobalNetworkPolicy", policy(number, apps, version));
                }
                _ => panic!("an order: {line}"),
            }
        }
    })
    .await
    .expect("it ends");
}

/// An address through which the server is reached, and what it sends counted.
async fn through(server: &str, sent: &Arc<AtomicU64>) -> String {
    let server = server.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let sent = Arc::clone(sent);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let behind = TcpStream::connect(&server).await.expect("the server");
            let (mut asked, mut answered) = client.into_split();
            let (mut answers, mut asks) = behind.into_split();
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut asked, &mut asks).await;
            });
            let sent = Arc::clone(&sent);
            tokio::spawn(async move {
                let mut piece = vec![0; 64 << 10];
                while let Ok(length) = answers.read(&mut piece).await
                    && length > 0
                    && answered.write_all(&piece[..length]).await.is_ok()
                {
                    sent.fetch_add(length as u64, Ordering::Relaxed);
                }
            });
        }
    });
    format!("http://{address}")
}

/// The server, ended with this.
struct Served {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    address: String,
}

impl Served {
    fn start(cli: &Cli) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("a path"))
            .arg("--serve")
            .args(["--nodes", &cli.nodes.to_string()])
            .args(["--pods", &cli.pods.to_string()])
            .args(["--policies", &cli.policies.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("itself");
        let orders = child.stdin.take().expect("a pipe");
        let mut address = String::new();
        let mut answers = BufReader::new(child.stdout.take().expect("a pipe"));
        answers.read_line(&mut address).expect("an address");
        Self {
            child,
            orders,
            answers,
            address: address.trim().to_owned(),
        }
    }

    fn pod(&mut self, number: usize, address: usize, seen: usize) {
        writeln!(self.orders, "{number} {address} {seen}").expect("it listens");
    }

    fn policy(&mut self, number: usize, version: usize) {
        writeln!(self.orders, "{number} {version}").expect("it listens");
    }

    /// Bytes that the server has sent so far.
    fn sent(&mut self) -> f64 {
        writeln!(self.orders, "sent").expect("it listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("an answer");
        answer.trim().parse().expect("a number")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an agent does with what it is told.
struct Agent {
    source: KubernetesSource,
    acceptor: Acceptor,
    assembler: Assembler,
    accepted: Accepted,
    caches: (select::Cache, compile::Cache),
    interfaces: Vec<Interface>,
    /// What was selected and compiled last.
    last: Option<(Selection, Arc<Image>)>,
}

/// How long each step took, and whether the image is another.
struct Pass {
    read: Duration,
    accept: Duration,
    model: Duration,
    report: Duration,
    select: Duration,
    compile: Duration,
    /// Whether the image is another than before.
    changed: bool,
}

impl Agent {
    fn new(address: &str) -> Self {
        let times = Times {
            patience: Duration::from_secs(300),
            ..Times::default()
        };
        let client = client_at(address).expect("an address");
        Self {
            source: KubernetesSource::start(&client, NODE, Vec::new(), times),
            acceptor: Acceptor::default(),
            assembler: Assembler::default(),
            accepted: Accepted::default(),
            caches: Default::default(),
            interfaces: vec![Interface {
                index: 2,
                name: "eth0".to_owned(),
                addresses: vec!["192.168.0.0".parse().expect("an address")],
                link_header: true,
                loopback: false,
                up: true,
                master: None,
            }],
            last: None,
        }
    }

    /// `None`: not everything was listed yet.
    fn pass(&mut self) -> Option<Pass> {
        fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
            let begin = Instant::now();
            let done = work();
            (begin.elapsed(), done)
        }
        let (read, snapshot) = timed(|| self.source.read(Trust::Stamps, None));
        let snapshot = snapshot.ok()?;
        let (accept, accepted) = timed(|| self.acceptor.accept(&snapshot, &self.accepted));
        self.accepted = accepted;
        assert!(
            self.accepted.problems.is_empty(),
            "{:?}",
            self.accepted.problems.first()
        );
        let (model, made) = timed(|| self.assembler.model(&self.accepted));
        let (report, _) = timed(|| self.assembler.warnings(&self.accepted));
        let (select, selection) =
            timed(|| select_with(&made, NODE, &self.interfaces, &mut self.caches.0));
        let (compile, image) = timed(|| match &self.last {
            // As the agent does it.
            Some((before, image)) if *before == selection => Arc::clone(image),
            Some(_) | None => {
                Arc::new(compile_with(&selection, &mut self.caches.1).expect("it fits"))
            }
        });
        let before = self.last.replace((selection, Arc::clone(&image)));
        let changed = before.is_none_or(|(_, before)| before != image);
        Some(Pass {
            read,
            accept,
            model,
            report,
            select,
            compile,
            changed,
        })
    }

    /// The `metadata.generation` in which a policy is in force.
    fn generation(&self, number: usize) -> Option<u64> {
        let named = ObjectRef {
            kind: Kind::GlobalNetworkPolicy,
            name: format!("p-{number:05}"),
        };
        self.accepted.object(&named)?.resource.generation()
    }

    /// Passes until all of these policies are in force in this version, and gives how
    /// often that was, and how often the image became another.
    async fn until(&mut self, policies: &[usize], version: usize) -> (usize, usize) {
        let (mut passes, mut images) = (0, 0);
        let there = Some(version as u64 + 1);
        while !policies
            .iter()
            .all(|number| self.generation(*number) == there)
        {
            self.source.changed().await;
            let pass = self.pass().expect("all is listed");
            passes += 1;
            images += usize::from(pass.changed);
        }
        (passes, images)
    }
}

/// Seconds of CPU that this process has had.
fn cpu() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: it writes to the structure alone, which lives until it returns.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0, "every Linux has this clock");
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// MiB of a line of /proc/self/status.
fn memory(what: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("proc");
    let line = status
        .lines()
        .find(|line| line.starts_with(what))
        .expect("a line");
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// What was measured, one value a line.
#[derive(Default)]
struct Raw {
    lines: String,
    json: bool,
}

impl Raw {
    fn add(&mut self, measure: &str, unit: &str, round: usize, value: f64) {
        writeln!(self.lines, "\"{measure}\",{unit},{round},{value:.3}").expect("a text");
        if self.json {
            let line = json!({"measure": measure, "unit": unit, "round": round, "value": value});
            println!("{line}");
        } else {
            println!("{measure}: {value:.1} {unit}");
        }
    }
}

async fn measure(cli: &Cli) {
    let mut served = Served::start(cli);
    let mut raw = Raw {
        lines: String::from("measure,unit,round,value\n"),
        json: cli.json,
    };
    raw.add("memory before", "MiB", 0, memory("VmRSS"));
    let begin = Instant::now();
    let mut agent = Agent::new(&served.address);
    let first = loop {
        agent.source.changed().await;
        if let Some(pass) = agent.pass() {
            break pass;
        }
    };
    raw.add("start to image, first", "ms", 0, ms(begin.elapsed()));
    steps(&mut raw, "first", 0, &first);
    raw.add("CPU, first", "s", 0, cpu());
    raw.add("memory, first", "MiB", 0, memory("VmRSS"));
    raw.add("objects", "1", 0, agent.accepted.objects.len() as f64);
    raw.add("sent by the server, first", "MiB", 0, mib(served.sent()));

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("accepted.json");
    let begin = Instant::now();
    accept::save(&file, &agent.accepted).expect("space");
    raw.add("save what is in force", "ms", 0, ms(begin.elapsed()));
    let size = fs::metadata(&file).expect("a file").len();
    raw.add("saved", "MiB", 0, mib(size as f64));

    // Policies of the node's own role are those whose number is 0 modulo ROLES:
    // the first names this app.
    let apps = cli.pods.div_ceil(REPLICAS);
    let meant = 17 % apps * REPLICAS;
    for (sort, number) in [("a pod that a rule here means", meant), ("another pod", 5)] {
        for round in 0..cli.rounds {
            let (used, sent) = (cpu(), served.sent());
            let begin = Instant::now();
            served.pod(number, 0x00c8_0000 + number * 64 + round, 0);
            agent.source.changed().await;
            let pass = agent.pass().expect("all is listed");
            raw.add(
                &format!("{sort}: change to image"),
                "ms",
                round,
                ms(begin.elapsed()),
            );
            let used = (cpu() - used) * 1000.0;
            raw.add(&format!("{sort}: CPU"), "ms", round, used);
            let bytes = served.sent() - sent;
            raw.add(&format!("{sort}: sent by the server"), "B", round, bytes);
            steps(&mut raw, sort, round, &pass);
            assert_eq!(pass.changed, number == meant, "{sort}, round {round}");
        }
    }
    rates(cli, &mut served, &mut agent, &mut raw).await;
    // What kubelets write all the time, and what comes behind it to be told.
    let (used, sent) = (cpu(), served.sent());
    let updates = cli.rounds * 50;
    for update in 0..updates {
        let number = 1000 + update % 50;
        served.pod(number, number + 256, update + 1);
    }
    let begin = Instant::now();
    served.pod(6, 0x00c9_0000, 0);
    agent.source.changed().await;
    raw.add("status updates, then told", "ms", 0, ms(begin.elapsed()));
    let each = (cpu() - used) * 1000.0 / updates as f64;
    raw.add("a status update: CPU", "ms", 0, each);
    let each = (served.sent() - sent) / updates as f64;
    raw.add("a status update: sent by the server", "B", 0, each);
    raw.add("memory, at the end", "MiB", 0, memory("VmRSS"));
    raw.add("memory, most", "MiB", 0, memory("VmHWM"));
    if let Some(out) = &cli.out {
        fs::create_dir_all(out).expect("a folder");
        fs::write(out.join("kube.csv"), raw.lines).expect("space");
        fs::write(out.join("kube-setup.md"), setup(cli)).expect("space");
    }
}

/// How many changes of policies reach the image in a second.
async fn rates(cli: &Cli, served: &mut Served, agent: &mut Agent, raw: &mut Raw) {
    // Those of the node's own role, and others.
    let own = |number: &usize| number.is_multiple_of(ROLES);
    let here: Vec<usize> = (0..cli.policies).filter(own).collect();
    let elsewhere: Vec<usize> = (0..cli.policies).filter(|it| !own(it)).collect();
    let mut version = 0;
    for (sort, policies) in [("here", &here), ("elsewhere", &elsewhere)] {
        let name = |what: &str| format!("policies {sort}, one after the other: {what}");
        let (used, begin) = (cpu(), Instant::now());
        let count = cli.changes / 5;
        for change in 0..count {
            let number = policies[change % policies.len()];
            version += 1;
            served.policy(number, version);
            let (_, images) = agent.until(&[number], version).await;
            assert_eq!(images > 0, sort == "here", "{number}");
        }
        let rate = count as f64 / begin.elapsed().as_secs_f64();
        raw.add(&name("rate"), "1/s", 0, rate);
        let each = (cpu() - used) * 1000.0 / count as f64;
        raw.add(&name("CPU for each"), "ms", 0, each);
    }
    // All at once, those that are for the node among them, as a rollout does it.
    let others = cli.changes.saturating_sub(here.len());
    let all: Vec<usize> = here.iter().chain(&elsewhere).copied().collect();
    let all = &all[..(here.len() + others).min(all.len())];
    for round in 0..cli.rounds.min(5) {
        version += 1;
        let (used, begin) = (cpu(), Instant::now());
        for number in all {
            served.policy(*number, version);
        }
        let (passes, images) = agent.until(all, version).await;
        assert!(images > 0);
        let rate = all.len() as f64 / begin.elapsed().as_secs_f64();
        raw.add("policies at once: rate", "1/s", round, rate);
        raw.add("policies at once: passes", "1", round, passes as f64);
        let used = (cpu() - used) * 1000.0;
        raw.add(
            "policies at once: CPU for each",
            "ms",
            round,
            used / all.len() as f64,
        );
    }
}

/// What was measured on.
fn setup(cli: &Cli) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let processors = read("/proc/cpuinfo");
    let count = processors.lines().filter(|it| it.starts_with("processor"));
    format!(
        "- kernel: Linux {}\n- CPUs: {}, {}\n- memory: {}\n- load average at the end: {}\n\
         - {} nodes, {} pods, {} policies; {} rounds, {} policies that change\n",
        read("/proc/sys/kernel/osrelease").trim(),
        count.count(),
        line(&processors, "model name"),
        line(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/loadavg").trim(),
        cli.nodes,
        cli.pods,
        cli.policies,
        cli.rounds,
        cli.changes,
    )
}

/// What of a run is told, as people call it.
const TOLD: &[(&str, &str)] = &[
    ("start to image, first", "from the start to the first image"),
    ("CPU, first", "CPU until then"),
    (
        "sent by the server, first",
        "sent by the API server until then",
    ),
    ("memory, first", "memory of the agent then"),
    ("memory, at the end", "memory at the end"),
    ("memory, most", "most memory at any time"),
    ("objects", "objects"),
    ("saved", "what is in force, on disk"),
    ("save what is in force", "writing that"),
    (
        "a pod that a rule here means: change to image",
        "a pod moves that a rule of this node means, to the new image",
    ),
    ("a pod that a rule here means: CPU", "CPU for it"),
    (
        "a pod that a rule here means: sent by the server",
        "sent by the API server for it",
    ),
    (
        "another pod: change to image",
        "another pod moves, until it is known that the image is the same",
    ),
    ("another pod: CPU", "CPU for it"),
    ("another pod: read", "of that: taking over what was told"),
    ("another pod: accept", "of that: accepting"),
    ("another pod: model", "of that: putting the model together"),
    ("another pod: report", "of that: warnings"),
    ("another pod: select", "of that: selecting"),
    (
        "policies here, one after the other: rate",
        "apply rate: policies of this node that change, each when the one before is in the image",
    ),
    (
        "policies here, one after the other: CPU for each",
        "CPU for each",
    ),
    (
        "policies elsewhere, one after the other: rate",
        "apply rate: policies of other nodes likewise, each when it is known that the image is \
         the same",
    ),
    (
        "policies elsewhere, one after the other: CPU for each",
        "CPU for each",
    ),
    (
        "policies at once: rate",
        "apply rate: policies that change all at once, those of this node among them",
    ),
    ("policies at once: passes", "passes that they take"),
    ("policies at once: CPU for each", "CPU for each"),
    (
        "a status update: CPU",
        "CPU for a change of a pod's status, which is told to nobody",
    ),
    (
        "a status update: sent by the server",
        "sent by the API server for it",
    ),
];

/// Writes a run's figures between their marks in the document.
fn render(run: &Path) {
    const BEGIN: &str = "<!-- cluster: begin -->";
    const END: &str = "<!-- cluster: end -->";
    let read = |name: &str| fs::read_to_string(run.join(name)).expect("a run");
    let raw = read("kube.csv");
    let values = |measure: &str| -> (String, Vec<f64>) {
        let lines = raw.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix('"')?.split_once("\",")?;
            (name == measure).then_some(rest)
        });
        let fields = lines.map(|rest| {
            let mut fields = rest.split(',');
            let unit = fields.next().expect("a unit").to_owned();
            let value = fields.next_back().expect("a value");
            (unit, value.parse::<f64>().expect("a number"))
        });
        let (units, mut values): (Vec<String>, Vec<f64>) = fields.unzip();
        values.sort_by(f64::total_cmp);
        let unit = units.into_iter().next().unwrap_or_default();
        (unit, values)
    };
    let figure = |value: f64| match value.abs() {
        size if size >= 100.0 || size == size.trunc() => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    let name = run.file_name().expect("a name").to_string_lossy();
    let mut body = format!("Run `bench/runs/{name}`:\n\n{}\n", read("kube-setup.md"));
    body += "| measure | median | lowest to highest |\n|-|-:|-|\n";
    for (measure, told) in TOLD {
        let (unit, values) = values(measure);
        let (Some(low), Some(high)) = (values.first(), values.last()) else {
            panic!("the run has no {measure}");
        };
        let unit = if unit == "1" { "" } else { &unit };
        let range = match values.len() {
            1 => "once".to_owned(),
            rounds => format!("{} to {} in {rounds} rounds", figure(*low), figure(*high)),
        };
        let median = figure(values[values.len() / 2]);
        writeln!(body, "| {told} | {median} {unit} | {range} |").expect("a text");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
    let text = fs::read_to_string(&file).expect("the document");
    let (before, rest) = text.split_once(BEGIN).expect("a mark");
    let (_, behind) = rest.split_once(END).expect("a mark");
    fs::write(&file, format!("{before}{BEGIN}\n{body}{END}{behind}")).expect("space");
}

fn steps(raw: &mut Raw, sort: &str, round: usize, pass: &Pass) {
    for (step, time) in [
        ("read", pass.read),
        ("accept", pass.accept),
        ("model", pass.model),
        ("report", pass.report),
        ("select", pass.select),
        ("compile", pass.compile),
    ] {
        raw.add(&format!("{sort}: {step}"), "ms", round, ms(time));
    }
}
