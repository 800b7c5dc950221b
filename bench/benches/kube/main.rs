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

mod cluster;
mod render;

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    sync::Arc,
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
use serde_json::json;

use self::{
    cluster::{Served, serve},
    render::render,
};

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
