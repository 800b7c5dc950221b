//! The cluster: an API server in a process of its own, and what it is told to change.

#[path = "../../../hostfw-agent/tests/kube/server.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "of a script, a part is needed here"
)]
mod server;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use self::server::{Server, WRITTEN};
use super::{Cli, NAMESPACES, REPLICAS, ROLES};

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
pub(super) async fn serve(cli: &Cli) {
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
pub(super) struct Served {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub(super) address: String,
}

impl Served {
    pub(super) fn start(cli: &Cli) -> Self {
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

    pub(super) fn pod(&mut self, number: usize, address: usize, seen: usize) {
        writeln!(self.orders, "{number} {address} {seen}").expect("it listens");
    }

    pub(super) fn policy(&mut self, number: usize, version: usize) {
        writeln!(self.orders, "{number} {version}").expect("it listens");
    }

    /// Bytes that the server has sent so far.
    pub(super) fn sent(&mut self) -> f64 {
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
