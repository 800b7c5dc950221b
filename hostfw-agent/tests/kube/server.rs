//! An API server by script: discovery, lists in pages, watches, single objects,
//! and whatever can go wrong with them. Plain HTTP on the loopback interface.

// From here in every program that takes this file in.
#[path = "write.rs"]
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{broadcast, mpsc},
};
use write::{Request, Target};

/// The form that users write.
pub(crate) const WRITTEN: &str = "projectcalico.org/v3";
/// The form that Calico stores.
pub(crate) const STORED: &str = "crd.projectcalico.org/v1";

/// Calico's kinds, with their plurals.
pub(crate) const KINDS: [(&str, &str); 8] = [
    ("FelixConfiguration", "felixconfigurations"),
    ("GlobalNetworkPolicy", "globalnetworkpolicies"),
    ("GlobalNetworkSet", "globalnetworksets"),
    ("HostEndpoint", "hostendpoints"),
    ("NetworkSet", "networksets"),
    ("Profile", "profiles"),
    ("StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicies"),
    ("Tier", "tiers"),
];

/// The others, with their plurals.
pub(crate) const OTHERS: &[(&str, &str)] = &[
    ("EndpointSlice", "endpointslices"),
    ("Event", "events"),
    ("HostEndpointTemplate", "hostendpointtemplates"),
    ("Namespace", "namespaces"),
    ("NodeAddresses", "nodeaddresses"),
    ("NodeEnforcement", "nodeenforcements"),
    ("Node", "nodes"),
    ("Pod", "pods"),
    ("ServiceAccount", "serviceaccounts"),
];

/// The server. It ends with the runtime.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: String,
    world: Arc<Mutex<World>>,
    /// Cuts all connections.
    cut: broadcast::Sender<()>,
}

/// Is given the target of the request, the key of the websocket, and the connection.
pub(crate) type Executor = Arc<dyn Fn(String, String, TcpStream) + Send + Sync>;

#[derive(Default)]
struct World {
    /// Which kinds each version serves.
    served: BTreeMap<&'static str, BTreeSet<&'static str>>,
    collections: BTreeMap<&'static str, Collection>,
    version: u64,
    down: bool,
    /// Who takes the connection over if something is to be run in a pod.
    executor: Option<Executor>,
    /// What discovery of a version is refused with.
    undiscoverable: BTreeMap<&'static str, u16>,
    requests: Vec<String>,
    /// What was asked to be changed: `PATCH /apis/...`.
    writes: Vec<String>,
    /// What each manager has applied, by kind and name.
    applied: BTreeMap<(&'static str, String), BTreeMap<String, Value>>,
}

#[derive(Default)]
struct Collection {
    objects: BTreeMap<String, Value>,
    /// Versions and events.
    history: Vec<(u64, Value)>,
    /// Watches from before this version are too old.
    oldest: u64,
    watchers: Vec<Watcher>,
    /// What lists and watches are refused with.
    refused: Option<u16>,
    /// What changes are refused with.
    refuses_writes: Option<u16>,
    /// Lists are not answered.
    stalled: bool,
}

struct Watcher {
    /// The name of the only object that is asked for.
    only: Option<String>,
    pieces: mpsc::UnboundedSender<Piece>,
}

/// What a watch is sent.
enum Piece {
    Line(String),
    /// The beginning of a line, and then the connection is cut.
    Half(String),
    End,
}

enum Answer {
    Whole(u16, Value),
    Watch(Vec<String>, mpsc::UnboundedReceiver<Piece>),
    Never,
    Hangup,
}

impl Server {
    /// Starts one that serves nothing yet.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = Self {
            address: format!("http://{}", listener.local_addr().expect("it is bound")),
            world: Arc::default(),
            cut: broadcast::channel(1).0,
        };
        server.world().version = 100;
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = serving.clone();
                tokio::spawn(async move {
                    let mut cut = server.cut.subscribe();
                    tokio::select! {
                        _ = cut.recv() => {}
                        () = server.connection(stream) => {}
                    }
                });
            }
        });
        server
    }

    /// Starts one that serves all kinds in this form.
    pub(crate) async fn serving(version: &'static str) -> Self {
        let server = Self::start().await;
        for (kind, _) in KINDS {
            server.serve(version, kind);
        }
        server
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Installs a CRD.
    pub(crate) fn serve(&self, version: &'static str, kind: &'static str) {
        let mut world = self.world();
        world.served.entry(version).or_default().insert(kind);
        world.collections.entry(plural(kind)).or_default();
    }

    /// Removes a CRD, without a word about its objects.
    pub(crate) fn withdraw(&self, version: &'static str, kind: &'static str) {
        let mut world = self.world();
        world.served.entry(version).or_default().remove(kind);
        let collection = world.collections.entry(plural(kind)).or_default();
        for watcher in collection.watchers.drain(..) {
            let _ = watcher.pieces.send(Piece::End);
        }
    }

    /// Creates or changes an object.
    pub(crate) fn put(&self, kind: &'static str, object: Value) {
        self.world().put(kind, object);
    }

    pub(crate) fn delete(&self, kind: &'static str, name: &str) {
        self.world().remove(kind, name);
    }

    /// An object, as it is now.
    pub(crate) fn object(&self, kind: &'static str, name: &str) -> Option<Value> {
        self.collection(kind).objects.get(name).cloned()
    }

    /// All objects of a kind.
    pub(crate) fn all(&self, kind: &'static str) -> Vec<Value> {
        self.collection(kind).objects.values().cloned().collect()
    }

    /// Refuses changes of a kind from now on.
    pub(crate) fn refuse_writes(&self, kind: &'static str, code: Option<u16>) {
        self.collection(kind).refuses_writes = code;
    }

    /// How often a change was asked for with this in its method, path and
    /// query: `PATCH /apis/...`.
    pub(crate) fn wrote(&self, text: &str) -> usize {
        let world = self.world();
        world.writes.iter().filter(|it| it.contains(text)).count()
    }

    /// Changes an object, and sends those who watch something else instead.
    pub(crate) fn put_unreadably(&self, kind: &'static str, object: Value, line: &str) {
        let watchers = std::mem::take(&mut self.collection(kind).watchers);
        self.put(kind, object);
        for watcher in &watchers {
            let _ = watcher.pieces.send(Piece::Line(format!("{line}\n")));
        }
        self.collection(kind).watchers = watchers;
    }

    /// Refuses lists and watches of a kind from now on.
    pub(crate) fn refuse(&self, kind: &'static str, code: Option<u16>) {
        let mut collection = self.collection(kind);
        collection.refused = code;
        for watcher in collection.watchers.drain(..) {
            let _ = watcher.pieces.send(Piece::End);
        }
    }

    /// Refuses discovery of a version.
    pub(crate) fn refuse_discovery(&self, version: &'static str, code: Option<u16>) {
        let mut world = self.world();
        match code {
            Some(code) => world.undiscoverable.insert(version, code),
            None => world.undiscoverable.remove(version),
        };
    }

    /// Leaves lists of a kind without an answer.
    pub(crate) fn stall(&self, kind: &'static str, stalled: bool) {
        self.collection(kind).stalled = stalled;
    }

    /// Cuts watches of the kind amid a line.
    pub(crate) fn break_watches(&self, kind: &'static str) {
        for watcher in self.collection(kind).watchers.drain(..) {
            let _ = watcher.pieces.send(Piece::Half(
                r#"{"type":"MODIFIED","object":{"ki"#.to_owned(),
            ));
        }
    }

    /// Forgets what was: who watches from before is told so.
    pub(crate) fn compact(&self, kind: &'static str) {
        let mut world = self.world();
        world.version += 1;
        let version = world.version;
        let collection = world.collections.entry(plural(kind)).or_default();
        collection.oldest = version;
        collection.history.clear();
        let event = json!({"type": "ERROR", "object": status(410, "too old resource version")});
        for watcher in collection.watchers.drain(..) {
            let _ = watcher.pieces.send(Piece::Line(format!("{event}\n")));
            let _ = watcher.pieces.send(Piece::End);
        }
    }

    /// Tells those who watch where they are.
    pub(crate) fn bookmark(&self, kind: &'static str) {
        let mut world = self.world();
        world.version += 1;
        let version = world.version.to_string();
        let object = json!({
            "kind": kind, "apiVersion": WRITTEN, "metadata": {"resourceVersion": version},
        });
        let line = json!({"type": "BOOKMARK", "object": object}).to_string() + "\n";
        let collection = world.collections.entry(plural(kind)).or_default();
        for watcher in &collection.watchers {
            let _ = watcher.pieces.send(Piece::Line(line.clone()));
        }
    }

    /// Has somebody run what is to be run in pods. Without, that is not found.
    pub(crate) fn execute(&self, executor: Executor) {
        self.world().executor = Some(executor);
    }

    /// Takes the server away, or brings it back.
    pub(crate) fn down(&self, down: bool) {
        self.world().down = down;
        if down {
            let _ = self.cut.send(());
        }
    }

    /// How often something whose path and query hold the text was asked for.
    pub(crate) fn asked(&self, text: &str) -> usize {
        let world = self.world();
        world.requests.iter().filter(|it| it.contains(text)).count()
    }

    /// How many watch the kind now.
    pub(crate) fn watchers(&self, kind: &'static str) -> usize {
        let mut collection = self.collection(kind);
        collection
            .watchers
            .retain(|watcher| !watcher.pieces.is_closed());
        collection.watchers.len()
    }

    fn collection(&self, kind: &'static str) -> impl std::ops::DerefMut<Target = Collection> + '_ {
        struct Guard<'a>(MutexGuard<'a, World>, &'static str);
        impl std::ops::Deref for Guard<'_> {
            type Target = Collection;
            fn deref(&self) -> &Collection {
                &self.0.collections[self.1]
            }
        }
        impl std::ops::DerefMut for Guard<'_> {
            fn deref_mut(&mut self) -> &mut Collection {
                self.0.collections.get_mut(self.1).expect("it was made")
            }
        }
        let mut world = self.world();
        world.collections.entry(plural(kind)).or_default();
        Guard(world, plural(kind))
    }

    async fn connection(&self, mut stream: TcpStream) {
        let mut unread = Vec::new();
        loop {
            let Some(sent) = read_request(&mut stream, &mut unread).await else {
                return;
            };
            let executor = self.world().executor.clone();
            if let (Some(executor), Some(key)) = (executor, sent.websocket_key.clone()) {
                return executor(sent.target, key, stream);
            }
            match self.answer(&sent) {
                Answer::Whole(code, body) => {
                    let body = body
                        .as_str()
                        .map_or_else(|| body.to_string(), str::to_owned);
                    let head = format!(
                        "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: \
                         {}\r\n\r\n",
                        body.len()
                    );
                    let sent = stream.write_all((head + &body).as_bytes()).await;
                    if sent.is_err() {
                        return;
                    }
                }
                Answer::Watch(first, pieces) => {
                    return send_watch(stream, first, pieces).await;
                }
                Answer::Never => std::future::pending().await,
                Answer::Hangup => return,
            }
        }
    }

    fn answer(&self, sent: &Sent) -> Answer {
        let mut world = self.world();
        if world.down {
            return Answer::Hangup;
        }
        let target = &*sent.target;
        world.requests.push(target.to_owned());
        if sent.method != "GET" {
            world.writes.push(format!("{} {target}", sent.method));
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: BTreeMap<&str, &str> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .collect();
        let request = Request {
            method: &sent.method,
            query: &query,
            content_type: &sent.content_type,
            body: &sent.body,
        };
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (version, rest) = match &parts[..] {
            ["api", "v1", rest @ ..] => ("v1".to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return not_found(),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let (plural, name) = match rest {
            [] => return world.discovery(&version),
            [plural] if sent.method == "GET" => return world.objects(&version, plural, &query),
            [plural] => (*plural, None),
            [plural, name] => (*plural, Some(*name)),
            _ => return not_found(),
        };
        let target = Target {
            version: &version,
            namespace,
            plural,
            name,
        };
        world.single(&target, &request)
    }
}

impl World {
    fn put(&mut self, kind: &'static str, mut object: Value) -> Value {
        self.version += 1;
        let version = self.version;
        let collection = self.collections.entry(plural(kind)).or_default();
        let name = object["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        object["metadata"]["managedFields"] = json!([{"manager": "script"}]);
        let known = collection.objects.insert(name, object.clone()).is_some();
        let event = if known { "MODIFIED" } else { "ADDED" };
        collection.tell(version, json!({"type": event, "object": object}));
        object
    }

    fn remove(&mut self, kind: &'static str, name: &str) {
        self.version += 1;
        let version = self.version;
        let collection = self.collections.entry(plural(kind)).or_default();
        let mut object = collection.objects.remove(name).expect("it is there");
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        collection.tell(version, json!({"type": "DELETED", "object": object}));
    }

    /// The kind of a plural that is served in this version.
    fn served_as(&self, version: &str, plural: &str) -> Option<(&'static str, &'static str)> {
        let kind = KINDS
            .iter()
            .chain(OTHERS)
            .find(|(_, known)| *known == plural);
        let kinds = self.served.get(version)?;
        kind.filter(|(kind, _)| kinds.contains(kind)).copied()
    }

    fn discovery(&self, version: &str) -> Answer {
        if let Some(code) = self.undiscoverable.get(version) {
            return Answer::Whole(*code, status(*code, "the server is unable to answer"));
        }
        let Some(kinds) = self.served.get(version).filter(|kinds| !kinds.is_empty()) else {
            // As the real one says it: no JSON.
            return Answer::Whole(404, json!("404 page not found\n"));
        };
        let resources: Vec<Value> = kinds
            .iter()
            .flat_map(|kind| {
                let name = plural(kind);
                let namespaced = *kind == "NetworkSet";
                let verbs = [
                    "get", "list", "watch", "create", "update", "patch", "delete",
                ];
                [
                    json!({"name": name, "singularName": "", "namespaced": namespaced,
                        "kind": kind, "verbs": verbs}),
                    json!({"name": format!("{name}/status"), "singularName": "",
                        "namespaced": namespaced, "kind": kind, "verbs": ["get", "patch"]}),
                ]
            })
            .collect();
        let list = json!({"kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": version, "resources": resources});
        Answer::Whole(200, list)
    }

    fn objects(&mut self, version: &str, plural: &str, query: &BTreeMap<&str, &str>) -> Answer {
        let Some((kind, plural)) = self.served_as(version, plural) else {
            return not_found();
        };
        let now = self.version;
        let collection = self.collections.entry(plural).or_default();
        if let Some(code) = collection.refused {
            let message = format!("{plural} is refused by script");
            return Answer::Whole(code, status(code, &message));
        }
        let only = query
            .get("fieldSelector")
            .and_then(|fields| fields.strip_prefix("metadata.name%3D"))
            .map(str::to_owned);
        let meant = |object: &Value| only.is_none() || object["metadata"]["name"] == json!(only);
        let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
        if query.get("watch").is_some_and(|it| *it == "true") {
            let from = number("resourceVersion").unwrap_or_default() as u64;
            let (sender, receiver) = mpsc::unbounded_channel();
            if from < collection.oldest {
                let gone = status(410, "too old resource version");
                let line = json!({"type": "ERROR", "object": gone}).to_string() + "\n";
                return Answer::Watch(vec![line], receiver);
            }
            let missed = collection
                .history
                .iter()
                .filter(|(version, event)| *version > from && meant(&event["object"]));
            let missed = missed.map(|(_, event)| format!("{event}\n")).collect();
            collection.watchers.push(Watcher {
                only: only.clone(),
                pieces: sender,
            });
            return Answer::Watch(missed, receiver);
        }
        if collection.stalled {
            return Answer::Never;
        }
        let limit = number("limit").unwrap_or(usize::MAX);
        let from = number("continue").unwrap_or(0);
        let all: Vec<&Value> = collection.objects.values().filter(|it| meant(it)).collect();
        let items: Vec<&Value> = all.iter().copied().skip(from).take(limit).collect();
        let end = from + items.len();
        let more = if end < all.len() {
            end.to_string()
        } else {
            String::new()
        };
        let list = json!({"kind": format!("{kind}List"), "apiVersion": version,
            "metadata": {"resourceVersion": now.to_string(), "continue": more}, "items": items});
        Answer::Whole(200, list)
    }
}

impl Collection {
    fn tell(&mut self, version: u64, event: Value) {
        let line = format!("{event}\n");
        let name = event["object"]["metadata"]["name"].as_str();
        self.watchers.retain(|watcher| {
            let meant = watcher.only.is_none() || watcher.only.as_deref() == name;
            !meant || watcher.pieces.send(Piece::Line(line.clone())).is_ok()
        });
        self.history.push((version, event));
    }
}

/// The plural of a kind.
pub(crate) fn plural(kind: &str) -> &'static str {
    KINDS
        .iter()
        .chain(OTHERS)
        .find(|(known, _)| *known == kind)
        .expect("a known kind")
        .1
}

fn not_found() -> Answer {
    Answer::Whole(404, json!("404 page not found\n"))
}

fn status(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "Script", "code": code})
}

/// A request as it was sent.
struct Sent {
    method: String,
    target: String,
    content_type: String,
    /// It wants to become a websocket.
    websocket_key: Option<String>,
    body: String,
}

/// The next request.
async fn read_request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Sent> {
    let head_end = |bytes: &[u8]| bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = loop {
        match head_end(unread) {
            Some(end) => break end + 4,
            None => read_more(stream, unread).await?,
        }
    };
    let head: Vec<u8> = unread.drain(..end).collect();
    let head = String::from_utf8(head).expect("ASCII");
    let mut words = head.split(' ').map(str::to_owned);
    let header = |name: &str| {
        let fields = head.lines().filter_map(|line| line.split_once(':'));
        let mut values = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.trim().to_owned())
    };
    let length = header("content-length").map_or(0, |text| text.parse().expect("a length"));
    while unread.len() < length {
        read_more(stream, unread).await?;
    }
    let body = unread.drain(..length).collect();
    Some(Sent {
        method: words.next().expect("a method"),
        target: words.next().expect("a target"),
        content_type: header("content-type").unwrap_or_default(),
        websocket_key: header("sec-websocket-key"),
        body: String::from_utf8(body).expect("UTF-8"),
    })
}

/// `None` if nothing comes any more.
async fn read_more(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 4096];
    let read = stream
        .read(&mut buffer)
        .await
        .ok()
        .filter(|read| *read > 0)?;
    unread.extend(&buffer[..read]);
    Some(())
}

async fn send_watch(
    mut stream: TcpStream,
    first: Vec<String>,
    mut pieces: mpsc::UnboundedReceiver<Piece>,
) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let chunk = |line: &str| format!("{:x}\r\n{line}\r\n", line.len());
    let mut text = head.to_owned();
    text.extend(first.iter().map(|line| chunk(line)));
    while stream.write_all(text.as_bytes()).await.is_ok() {
        let mut unexpected = [0];
        let piece = tokio::select! {
            piece = pieces.recv() => piece,
            // Nothing is asked behind a watch: the client has gone.
            _ = stream.read(&mut unexpected) => return,
        };
        match piece {
            Some(Piece::Line(line)) => text = chunk(&line),
            Some(Piece::Half(half)) => {
                let _ = stream.write_all(chunk(&half).as_bytes()).await;
                return;
            }
            Some(Piece::End) | None => {
                let _ = stream.write_all(b"0\r\n\r\n").await;
                return;
            }
        }
    }
}
