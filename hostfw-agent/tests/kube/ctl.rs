//! `hostfwctl` on a cluster.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use super::{
    cluster::{endpoint, object, policy},
    server::{STORED, Server, WRITTEN},
    world::World,
};

const TUTORIAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/protect-hosts");

/// An administrator with a kubeconfig for the server.
pub(super) struct Admin {
    folder: tempfile::TempDir,
    program: &'static str,
}

impl Admin {
    pub(super) fn of(server: &Server) -> Self {
        let admin = Self::new();
        let of = |context: &str, address: &str| {
            (
                json!({"name": context, "cluster": {"server": address}}),
                json!({"name": context, "context": {"cluster": context, "user": "me"}}),
            )
        };
        let (here, is_here) = of("here", &server.address);
        // Nobody listens there.
        let (away, is_away) = of("away", "http://127.0.0.1:1");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [here, away], "contexts": [is_here, is_away],
            "users": [{"name": "me", "user": {}}],
        });
        std::fs::write(admin.path().join("config"), config.to_string()).expect("a file");
        admin
    }

    /// Of a server of either sort.
    fn of_world(world: &World) -> Self {
        match world {
            World::Script(server) => Self::of(server),
            World::Real(real, _) => {
                let admin = Self::new();
                let config = real.administrator().expect("a file");
                std::fs::copy(config, admin.path().join("config")).expect("a file");
                admin
            }
        }
    }

    fn new() -> Self {
        let admin = Self {
            folder: tempfile::tempdir().expect("a folder"),
            program: "hostfwctl",
        };
        for name in ["hostfwctl", "kubectl-hostfw"] {
            let program = env!("CARGO_BIN_EXE_hostfwctl");
            std::os::unix::fs::symlink(program, admin.path().join(name)).expect("a link");
        }
        admin
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the program in its own time: the server answers meanwhile.
    pub(super) async fn run(&self, arguments: &[&str], input: &str) -> Done {
        let mut command = Command::new(self.path().join(self.program));
        command
            .args(arguments)
            .env_clear()
            .env("KUBECONFIG", self.path().join("config"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let input = input.to_owned();
        let output = tokio::task::spawn_blocking(move || -> std::io::Result<Output> {
            let mut child = command.spawn()?;
            // It may leave without having read all, or any.
            drop(
                child
                    .stdin
                    .take()
                    .map(|mut it| it.write_all(input.as_bytes())),
            );
            child.wait_with_output()
        });
        let output = output.await.expect("no panic").expect("it runs");
        Done {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// On the cluster.
    pub(super) async fn ctl(&self, arguments: &[&str], input: &str) -> Done {
        let all = [&["--cluster"], arguments].concat();
        self.run(&all, input).await
    }
}

#[derive(Debug)]
pub(super) struct Done {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl Done {
    #[track_caller]
    pub(super) fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    #[track_caller]
    pub(super) fn fails(self, part: &str) -> Self {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.err.contains(part), "{self:?}");
        self
    }
}

async fn names(world: &World, kind: &'static str) -> Vec<String> {
    let of = |object: &Value| object["metadata"]["name"].as_str().map(str::to_owned);
    world.all(kind).await.iter().filter_map(of).collect()
}

#[tokio::test]
async fn the_tutorial_is_applied_through_the_api() {
    apply_the_tutorial(&World::Script(Server::serving(WRITTEN).await)).await;
}

#[tokio::test]
async fn the_tutorial_is_applied_through_a_real_api() {
    if let Some(world) = World::real().await {
        apply_the_tutorial(&world).await;
    }
}

async fn apply_the_tutorial(world: &World) {
    let admin = Admin::of_world(world);
    let file = |name: &str| format!("{TUTORIAL}/{name}");
    let (policies, endpoints) = (file("1-policies.yaml"), file("2-endpoints.yaml"));
    let done = admin.ctl(&["apply", "-f", &policies], "").await.succeeds();
    assert!(done.out.starts_with("Successfully applied"), "{done:?}");
    assert!(done.err.contains("IPv6"), "{done:?}");
    admin.ctl(&["apply", "-f", &endpoints], "").await.succeeds();
    assert_eq!(
        names(world, "HostEndpoint").await,
        ["node1-eth0", "node2-eth0"]
    );
    let policies = names(world, "GlobalNetworkPolicy").await.len();
    assert!(policies > 2, "{policies}");
    if let Some(server) = world.script() {
        let created = server.wrote("POST /apis/projectcalico.org/v3/");
        assert_eq!(created, policies + 2, "each once");
    }
    // What is as it should be is not written again.
    admin.ctl(&["apply", "-f", &endpoints], "").await.succeeds();
    admin
        .ctl(&["create", "-f", &endpoints], "")
        .await
        .fails("resource already exists: HostEndpoint(node1-eth0)");
    if let Some(server) = world.script() {
        assert_eq!(server.wrote("PUT "), 0);
    }

    // Step 4 changes a label, and nothing that the server keeps.
    let special = file("4-special-label.yaml");
    admin.ctl(&["apply", "-f", &special], "").await.succeeds();
    if let Some(server) = world.script() {
        assert!(server.wrote("PUT ") > 0);
        let wrote = server.wrote("POST ") + server.wrote("PUT ");
        assert_eq!(wrote, server.wrote("fieldValidation=Strict"));
        assert_eq!(wrote, server.wrote("fieldManager=hostfwctl"));
    }
    let endpoint = world.object("HostEndpoint", "node2-eth0").await;
    let endpoint = endpoint.expect("it is there");
    assert_eq!(endpoint["metadata"]["labels"]["host-endpoint"], "special");

    let shown = admin.ctl(&["get", "hep"], "").await.succeeds();
    assert!(shown.out.contains("node2-eth0"), "{shown:?}");
    admin
        .ctl(&["delete", "hep", "node2-eth0"], "")
        .await
        .succeeds();
    assert_eq!(names(world, "HostEndpoint").await, ["node1-eth0"]);
    admin
        .ctl(&["delete", "hep", "node2-eth0"], "")
        .await
        .fails("resource does not exist: HostEndpoint(node2-eth0)");
    // The other node's folder was never thought of.
    assert!(
        !Path::new("/var/lib/hostfw/resources")
            .join("node1-eth0")
            .exists()
    );
}

#[tokio::test]
async fn a_change_of_another_version_is_a_conflict() {
    meet_a_conflict(&World::Script(Server::serving(WRITTEN).await)).await;
}

#[tokio::test]
async fn a_change_of_another_version_is_a_conflict_on_a_real_server() {
    if let Some(world) = World::real().await {
        meet_a_conflict(&world).await;
    }
}

async fn meet_a_conflict(world: &World) {
    let admin = Admin::of_world(world);
    let mut kept = endpoint("a");
    kept["metadata"]["finalizers"] = json!(["example.org/keep"]);
    world.put("HostEndpoint", kept).await;
    let read = admin
        .ctl(&["get", "hep", "a", "-o", "yaml"], "")
        .await
        .succeeds();
    assert!(read.out.contains("resourceVersion"), "{read:?}");
    let changed = read.out.replace("eth0", "eth1");
    admin
        .ctl(&["replace", "-f", "-"], &changed)
        .await
        .succeeds();
    let now = world.object("HostEndpoint", "a").await;
    let now = now.expect("it is there");
    assert_eq!(now["spec"]["interfaceName"], "eth1");
    assert_eq!(now["metadata"]["finalizers"], json!(["example.org/keep"]));

    let late = read.out.replace("eth0", "eth2");
    for command in ["replace", "apply"] {
        admin
            .ctl(&[command, "-f", "-"], &late)
            .await
            .fails("the object has been modified");
    }
    // Who says no version means the last one.
    let object = endpoint("a").to_string();
    admin.ctl(&["replace", "-f", "-"], &object).await.succeeds();
    let other = endpoint("b").to_string();
    admin
        .ctl(&["replace", "-f", "-"], &other)
        .await
        .fails("resource does not exist: HostEndpoint(b)");
}

#[tokio::test]
async fn what_calico_stores_is_read_and_not_written() {
    let server = Server::serving(STORED).await;
    let mut stored = policy("default.deny", "Deny");
    stored["apiVersion"] = json!(STORED);
    server.put("GlobalNetworkPolicy", stored);
    let admin = Admin::of(&server);
    let shown = admin
        .ctl(&["get", "gnp", "deny", "-o", "json"], "")
        .await
        .succeeds();
    let shown: Value = serde_json::from_str(&shown.out).expect("JSON");
    assert_eq!(shown["apiVersion"], WRITTEN);
    assert_eq!(shown["metadata"]["name"], "deny");
    for command in ["apply", "create", "replace"] {
        admin
            .ctl(&[command, "-f", "-"], &policy("deny", "Allow").to_string())
            .await
            .fails("only as Calico stores it (crd.projectcalico.org/v1)");
    }
    admin
        .ctl(&["delete", "gnp", "deny"], "")
        .await
        .fails("only as Calico stores it");
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        assert_eq!(server.wrote(method), 0);
    }
}

#[tokio::test]
async fn what_the_server_refuses_is_told_of_the_object() {
    let server = Server::serving(WRITTEN).await;
    let admin = Admin::of(&server);
    server.refuse_writes("HostEndpoint", Some(403));
    let both = format!("{}\n---\n{}", endpoint("a"), policy("deny", "Deny"));
    let done = admin.ctl(&["apply", "-f", "-"], &both).await;
    let done = done.fails("HostEndpoint(a): hostendpoints is refused by script (403)");
    assert!(done.out.starts_with("Partial success"), "{done:?}");
    assert_eq!(
        names(&World::Script(server.clone()), "GlobalNetworkPolicy").await,
        ["deny"]
    );

    server.refuse("Tier", Some(403));
    admin.ctl(&["get", "gnp"], "").await.succeeds();
    admin
        .ctl(&["get", "tier"], "")
        .await
        .fails("Tier: cannot be listed: tiers is refused by script (403)");
    admin
        .ctl(&["get", "hept"], "")
        .await
        .fails("the cluster does not serve HostEndpointTemplate");
    admin
        .ctl(&["--context", "away", "get", "gnp"], "")
        .await
        .fails("the API server cannot be asked what it serves");
    admin
        .ctl(&["--context", "nowhere", "get", "gnp"], "")
        .await
        .fails("nowhere");
}

#[tokio::test]
async fn pages_of_a_list_are_put_together() {
    let server = Server::serving(WRITTEN).await;
    for number in 0..1201 {
        let spec = json!({"nets": [format!("10.0.{}.{}/32", number / 256, number % 256)]});
        let name = format!("set-{number:04}");
        server.put("GlobalNetworkSet", object("GlobalNetworkSet", &name, spec));
    }
    let admin = Admin::of(&server);
    let shown = admin.ctl(&["get", "gnetset"], "").await.succeeds();
    assert_eq!(shown.out.matches("set-").count(), 1201);
    assert_eq!(server.asked("/globalnetworksets?"), 3);
}

#[tokio::test]
async fn a_change_is_judged_before_it_is_made() {
    let server = Server::serving(WRITTEN).await;
    server.put("HostEndpoint", endpoint("a"));
    let admin = Admin::of(&server);
    let change = object(
        "GlobalNetworkPolicy",
        "open",
        json!({"selector": "all()", "ingress": [{"action": "Allow", "protocol": "TCP",
            "destination": {"ports": [8080]}}]}),
    );
    let words = [
        "diff",
        "-f",
        "-",
        "--node",
        "node1",
        "--address",
        "eth0=192.0.2.1/24",
    ];
    let done = admin.ctl(&words, &change.to_string()).await.succeeds();
    assert!(done.out.contains("8080"), "{done:?}");
    assert_eq!(
        names(&World::Script(server.clone()), "GlobalNetworkPolicy").await,
        [""; 0]
    );
}

#[tokio::test]
async fn kubectl_finds_a_plugin() {
    let server = Server::serving(WRITTEN).await;
    server.put("HostEndpoint", endpoint("a"));
    let mut admin = Admin::of(&server);
    // Without a word about a cluster, the folder is meant.
    let folder = admin.path().join("none").display().to_string();
    admin
        .run(&["--store", &folder, "get", "hep"], "")
        .await
        .fails("none");
    admin.program = "kubectl-hostfw";
    let shown = admin.run(&["get", "hep"], "").await.succeeds();
    assert!(shown.out.contains('a'), "{shown:?}");
    let help = admin.run(&["--help"], "").await.succeeds();
    assert!(help.out.contains("Usage: kubectl hostfw "), "{help:?}");
    assert!(!help.out.contains("hostfwctl"), "{help:?}");
    let help = admin.run(&["apply", "--help"], "").await.succeeds();
    assert!(
        help.out.contains("Usage: kubectl hostfw apply "),
        "{help:?}"
    );
}
