//! `hostfwctl --on NODE`: the agent of another node, asked through its pod. The API
//! server is a script that runs the real program where a kubelet would, beside
//! an agent by script, over a real websocket.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::{
    ctl::Admin,
    server::{Server, WRITTEN},
};

/// An agent that answers each question by script, and what it was asked.
struct Agent {
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Agent {
    fn answering(answer: impl Fn(&Value) -> Value + Send + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("agent.sock")).expect("a socket");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut line = String::new();
                let read = BufReader::new(&stream).read_line(&mut line);
                read.expect("a request");
                let answer = answer(&serde_json::from_str(&line).expect("JSON"));
                heard.lock().expect("no panic").push(line);
                let sent = stream.write_all(answer.to_string().as_bytes());
                sent.expect("it is taken");
            }
        });
        Self { folder, asked }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

/// What the API server and the kubelet do between them: run the command, and send
/// what it writes and how it ends, each in its channel.
async fn run_in_pod(target: String, key: String, mut stream: TcpStream, socket: PathBuf) {
    let query = target.split_once('?').expect("a query").1;
    let pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').expect("a value");
            (name.to_owned(), decoded(value))
        })
        .collect();
    let of = |name: &str| -> Vec<&str> {
        let of = pairs.iter().filter(|(other, _)| other == name);
        of.map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!(of("container"), ["agent"]);
    assert_eq!((of("stdout"), of("stderr")), (vec!["true"], vec!["true"]));
    let words = of("command");
    assert_eq!(words[0], "/bin/hostfwctl");
    let done = Command::new(env!("CARGO_BIN_EXE_hostfwctl"))
        .args(&words[1..])
        .env_clear()
        .env("HOSTFW_SOCKET", socket)
        .output()
        .expect("it runs");
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(head.as_bytes()).await.expect("it listens");
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    let status = match done.status.code() {
        Some(0) => json!({"metadata": {}, "status": "Success"}),
        code => json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": "command terminated with non-zero exit code",
            "details": {"causes": [{"reason": "ExitCode", "message": format!("{code:?}")}]}}),
    };
    let status = status.to_string();
    // In pieces, as a kubelet sends them.
    let out = done.stdout.chunks(1000).map(|piece| (1, piece));
    let err = done.stderr.chunks(1000).map(|piece| (2, piece));
    for (channel, piece) in out.chain(err).chain([(3, status.as_bytes())]) {
        let message = [&[channel], piece].concat();
        if socket.send(Message::binary(message)).await.is_err() {
            return;
        }
    }
    let _ = socket.close(None).await;
}

/// Without percent signs.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|it| it.expect("two digits"));
                let digits = String::from_utf8(digits.to_vec()).expect("ASCII");
                u8::from_str_radix(&digits, 16).expect("hexadecimal")
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).expect("UTF-8")
}

fn pod(name: &str, node: &str, phase: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "hostfw"},
        "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase}})
}

/// A cluster with agents on two nodes; what is run in the pod of the second one
/// meets this agent.
async fn cluster(socket: &Path) -> Server {
    let server = Server::serving(WRITTEN).await;
    server.serve("v1", "Pod");
    server.put("Pod", pod("agent-1", "node1", "Running"));
    server.put("Pod", pod("agent-2", "node2", "Running"));
    server.put("Pod", pod("agent-3", "node3", "Pending"));
    let socket = socket.to_path_buf();
    server.execute(Arc::new(move |target, key, stream| {
        let path = "/api/v1/namespaces/hostfw/pods/agent-2/exec?";
        assert!(target.starts_with(path), "{target}");
        tokio::spawn(run_in_pod(target, key, stream, socket.clone()));
    }));
    server
}

fn report(rule: usize) -> Value {
    json!({"time": "2026-01-01T00:00:00.125Z", "interface": "eth0", "endpoint": "node2-eth0",
        "direction": "ingress", "protocol": 6, "source": "192.0.2.7", "sourcePort": 40000,
        "destination": "10.0.0.2", "destinationPort": 22, "verdict": "logged",
        "stage": "normal", "tier": "default", "kind": "GlobalNetworkPolicy",
        "policy": "look", "rule": format!("ingress[{rule}]")})
}

#[tokio::test]
async fn another_node_is_asked_through_its_pod() {
    // Longer than a piece.
    let reports: Vec<Value> = (0..50).map(report).collect();
    let agent = Agent::answering(move |_| json!({"reports": reports, "next": 51, "lost": 0}));
    let server = cluster(&agent.socket()).await;
    let admin = Admin::of(&server);
    let done = admin.run(&["--on", "node2", "flows"], "").await.succeeds();
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines.len(), 50);
    assert_eq!(
        lines[49],
        "2026-01-01T00:00:00.125Z logged eth0 node2-eth0 ingress TCP 192.0.2.7:40000 -> \
         10.0.0.2:22 normal default/look ingress[49]"
    );
    assert_eq!(agent.asked(), ["{\"request\":\"reports\"}\n"]);
    let asked = "labelSelector=app.kubernetes.io%2Fname%3Dhostfw%2Capp.kubernetes.io%2F\
                 component%3Dagent";
    assert_eq!(server.asked(asked), 1);
}

#[tokio::test]
async fn what_the_agent_of_another_node_does_not_understand_is_told() {
    let agent = Agent::answering(|_| json!({"error": "expected a request, found noise"}));
    let server = cluster(&agent.socket()).await;
    let admin = Admin::of(&server);
    for command in [&["status"][..], &["get", "gnp", "--counters"]] {
        let words = [&["--on", "node2"], command].concat();
        let expected = "expected an answer from the agent on node node2, found: expected a \
                        request, found noise";
        admin.run(&words, "").await.fails(expected);
    }
}

#[tokio::test]
async fn an_agent_that_cannot_be_reached_is_told_with_the_reason() {
    let nowhere = tempfile::tempdir().expect("a folder");
    let server = cluster(&nowhere.path().join("none.sock")).await;
    let admin = Admin::of(&server);
    let flows = async |node: &str| admin.run(&["--on", node, "flows"], "").await;
    // What the program says in the pod.
    flows("node2")
        .await
        .fails("pod agent-2: no agent answers on ");
    flows("node3")
        .await
        .fails("expected pod agent-3 on node node3 to be Running, found Pending");
    flows("node4")
        .await
        .fails("expected a pod of the agent on node node4, found none in namespace hostfw");
    let other = ["--on", "node2", "--agent-namespace", "other", "flows"];
    admin.run(&other, "").await;
    assert_eq!(server.asked("/api/v1/namespaces/other/pods?"), 1);
    server.refuse("Pod", Some(403));
    flows("node2")
        .await
        .fails("the pods of namespace hostfw cannot be listed: pods is refused by script (403)");
}

#[tokio::test]
async fn a_server_that_runs_nothing_in_pods_is_told() {
    let nowhere = tempfile::tempdir().expect("a folder");
    let server = cluster(nowhere.path()).await;
    server.execute(Arc::new(|_, _, mut stream: TcpStream| {
        tokio::spawn(async move {
            let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }));
    let admin = Admin::of(&server);
    let done = admin.run(&["--on", "node2", "flows"], "").await;
    let done = done.fails("nothing can be run in pod agent-2: ");
    assert!(done.err.contains("403"), "{done:?}");
    assert!(
        done.err.contains("get and create for pods/exec"),
        "{done:?}"
    );
}
