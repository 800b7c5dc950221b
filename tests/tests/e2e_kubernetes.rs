//! Agents that follow a cluster, with real packets: the API server is the one by
//! script, outside of the cluster and behind TLS; or a real one in its place, where
//! `KUBEBUILDER_ASSETS` names a folder with one.

#[path = "../../hostfw-agent/tests/kube/real.rs"]
#[expect(dead_code, reason = "the source's own tests use the rest")]
mod real;
#[path = "../../hostfw-agent/tests/kube/server.rs"]
#[expect(dead_code, reason = "the source's own tests use the rest")]
mod server;
mod kubernetes {
    pub(crate) mod behind;
    pub(crate) mod front;
    mod told;
}

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use hostfw_agent::resource;
use hostfw_tests::{
    cluster::{Binaries, Cluster, examples, log},
    expectations::Step,
    scenario::Probing,
    topology::{Host, Topology},
};
use kubernetes::{
    behind::Behind,
    front::{Authority, Front},
};
use serde_json::{Value, json};

const NODES: [Host; 2] = [Host::Node1, Host::Node2];

/// Longer than it takes an agent to give up on a server that is away.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a pod finds its service account; /var/run is /run.
const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";

const NONE: Vec<String> = Vec::new();

/// What an API server holds.
trait Objects {
    /// Creates or changes an object; hands back its generation.
    fn put(&self, kind: &'static str, object: Value) -> Result<u64>;

    fn delete(&self, kind: &'static str, name: &str) -> Result<()>;
}

/// A cluster, its API server, and what should be in force.
struct Followed<'a> {
    api: &'a dyn Objects,
    cluster: Cluster<'a>,
    probing: Probing<'a>,
    /// By kind and name: the generation.
    objects: BTreeMap<(String, String), u64>,
}

impl<'a> Followed<'a> {
    fn new(topology: &'a Topology, binaries: &Binaries, api: &'a dyn Objects) -> Result<Self> {
        Ok(Self {
            api,
            cluster: Cluster::new(topology, binaries, &["--source", "kubernetes"])?,
            probing: Probing::start(topology)?,
            objects: BTreeMap::new(),
        })
    }

    fn trust(&mut self, folder: &Path, authority: &str) -> Result<()> {
        self.reach_by(&Front::kubeconfig(folder, authority)?)
    }

    fn reach_by(&mut self, kubeconfig: &Path) -> Result<()> {
        let file = kubeconfig.to_str().context("a path of text")?;
        self.cluster
            .set_arguments(&["--source", "kubernetes", "--kubeconfig", file]);
        Ok(())
    }

    /// What `kubectl apply` and `kubectl delete` of this step make of the API.
    fn take(&mut self, step: Step) -> Result<()> {
        if let Some(file) = step.file() {
            let text = fs::read_to_string(examples().join(file))?;
            for document in resource::parse_documents(&text) {
                for resource in document.result? {
                    let object = resource.object_ref();
                    let kind = object.kind.name();
                    let generation = self.api.put(kind, resource.to_value())?;
                    self.objects
                        .insert((kind.to_owned(), object.name), generation);
                }
            }
        }
        if let Some(policy) = step.deletes() {
            self.delete(policy)?;
        }
        Ok(())
    }

    fn delete(&mut self, policy: &str) -> Result<()> {
        let kind = "GlobalNetworkPolicy";
        self.api.delete(kind, policy)?;
        self.objects.remove(&(kind.to_owned(), policy.to_owned()));
        Ok(())
    }

    /// Takes all steps up to this one.
    fn take_all(&mut self, last: Step) -> Result<()> {
        let mut steps = Step::ALL.into_iter().filter(|step| *step <= last);
        steps.try_for_each(|step| self.take(step))
    }

    /// Waits until every agent has in force what the server holds.
    fn settle(&mut self) -> Result<()> {
        let wanted = &self.objects;
        until(&mut self.cluster, "all is in force", |status| {
            let Some(all) = status["objects"].as_array() else {
                return false;
            };
            // Which agents write themselves.
            let told = json!("NodeAddresses");
            let found: Vec<&Value> = all.iter().filter(|it| it["kind"] != told).collect();
            let is_in_force = |((kind, name), generation): (&(String, String), &u64)| {
                found.iter().any(|object| {
                    object["kind"] == json!(kind)
                        && object["name"] == json!(name)
                        && object["state"] == "Enforced"
                        && object["enforcedGeneration"] == json!(generation)
                })
            };
            found.len() == wanted.len() && wanted.iter().all(is_in_force)
        })
    }

    fn finds(&mut self, step: Step, when: &str) -> Result<()> {
        assert_eq!(self.probing.differences(step)?, NONE, "{when}");
        assert_eq!(self.cluster.take_notes(), NONE, "agents died");
        Ok(())
    }

    /// Waits until every agent tells that the server is away.
    fn until_missed(&mut self) -> Result<()> {
        until(&mut self.cluster, "the agent misses its server", |status| {
            let told = format!("{} {}", status["error"], status["problems"]);
            told.contains("the API server cannot be followed")
                || told.contains("what the cluster last held stays in force")
        })
    }
}

/// Waits until this holds for the status of every agent.
fn until(cluster: &mut Cluster<'_>, what: &str, holds: impl Fn(&Value) -> bool) -> Result<()> {
    NODES
        .into_iter()
        .try_for_each(|node| until_on(cluster, node, what, &holds))
}

/// Waits until this holds for the status of the node's agent.
fn until_on(
    cluster: &mut Cluster<'_>,
    node: Host,
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let status = cluster.status(node);
        if status.as_ref().is_ok_and(&holds) {
            return Ok(());
        }
        if Instant::now() > give_up {
            let log = fs::read_to_string(log(node)).unwrap_or_default();
            bail!("{node}: never came true: {what}; {status:?}\n{log}");
        }
        cluster.tend()?;
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until this holds.
fn comes_true(what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < give_up, "never came true: {what}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn the_tutorial_comes_from_the_api() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let front = Front::start(&topology)?;
    let folder = tempfile::tempdir()?;
    let mut followed = Followed::new(&topology, &binaries, &front)?;
    followed.trust(folder.path(), &front.authority)?;
    followed.cluster.start_agents()?;
    for step in Step::ALL {
        followed.take(step)?;
        followed.settle()?;
        followed.finds(step, step.title())?;
    }
    // Both follow through the interfaces that they govern.
    comes_true("all kinds are watched", || {
        Ok(front.is_watched_by(NODES.len()))
    })?;
    assert!(front.was_sent("authorization: Bearer of-a-kubeconfig"));
    Ok(())
}

#[test]
fn the_tutorial_comes_from_a_real_api_server() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    if !real::is_there("agents were not seen to enforce what a real API server says") {
        return Ok(());
    }
    let topology = Topology::up()?;
    let behind = Behind::start(&topology)?;
    for node in NODES {
        let metadata = json!({"name": node.to_string()});
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata});
        behind.put("Node", object)?;
    }
    let mut followed = Followed::new(&topology, &binaries, &behind)?;
    followed.reach_by(&behind.kubeconfig()?)?;
    followed.cluster.start_agents()?;
    for step in Step::ALL {
        followed.take(step)?;
        followed.settle()?;
        followed.finds(step, step.title())?;
    }
    // What the agents say themselves is there, too: their state, and the addresses of
    // their endpoints, which the tutorial's do not name.
    for node in NODES.map(|node| node.to_string()) {
        for kind in ["NodeEnforcement", "NodeAddresses"] {
            comes_true(&format!("{node} has a {kind}"), || behind.has(kind, &node))?;
        }
    }
    Ok(())
}

#[test]
fn without_its_api_server_a_node_keeps_what_was_in_force() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let front = Front::start(&topology)?;
    let folder = tempfile::tempdir()?;
    let mut followed = Followed::new(&topology, &binaries, &front)?;
    followed.trust(folder.path(), &front.authority)?;
    followed.cluster.start_agents()?;
    followed.take_all(Step::NodePort)?;
    followed.settle()?;
    followed.finds(Step::NodePort, "all is there")?;

    front.server.down(true);
    followed.until_missed()?;
    followed.finds(Step::NodePort, "the server is away")?;

    followed.cluster.kill_agents()?;
    followed.finds(Step::NodePort, "so are the agents")?;
    followed.cluster.start_agents()?;
    followed.until_missed()?;
    followed.finds(Step::NodePort, "agents started without the server")?;

    // As after a reboot: the kernel knows nothing, the disk does.
    followed.cluster.stop_agents()?;
    followed.cluster.detach()?;
    followed.finds(Step::Nothing, "nothing is enforced")?;
    followed.cluster.start_agents()?;
    followed.settle()?;
    followed.finds(Step::NodePort, "enforced from the disk")?;

    // What was deleted meanwhile is noticed.
    followed.delete("allow-nodeport")?;
    front.server.down(false);
    followed.settle()?;
    followed.finds(Step::Ipv6, "the server is back")
}

#[test]
fn a_server_of_another_authority_is_not_believed() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let front = Front::start(&topology)?;
    let folder = tempfile::tempdir()?;
    let mut followed = Followed::new(&topology, &binaries, &front)?;
    followed.take_all(Step::Endpoints)?;
    followed.trust(folder.path(), &Authority::new()?.certificate)?;
    followed.cluster.start_agents()?;
    until(
        &mut followed.cluster,
        "the certificate is refused",
        |status| {
            status["error"].as_str().is_some_and(|error| {
                error.contains("cannot be followed") && error.contains("certificate")
            })
        },
    )?;
    followed.finds(Step::Nothing, "nothing is known")?;
    assert!(!front.was_sent("authorization"), "a token was given away");

    followed.cluster.stop_agents()?;
    followed.trust(folder.path(), &front.authority)?;
    followed.cluster.start_agents()?;
    followed.settle()?;
    followed.finds(Step::Endpoints, "the right authority")
}

#[test]
fn a_pod_follows_by_its_service_account() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let front = Front::start(&topology)?;
    fs::create_dir_all(ACCOUNT)?;
    let account = Path::new(ACCOUNT);
    fs::write(account.join("ca.crt"), &front.authority)?;
    fs::write(account.join("token"), "of-a-pod")?;
    fs::write(account.join("namespace"), "hostfw")?;
    let mut followed = Followed::new(&topology, &binaries, &front)?;
    let address = Front::address();
    followed.cluster.set_environment(&[
        ("KUBERNETES_SERVICE_HOST", &address.ip().to_string()),
        ("KUBERNETES_SERVICE_PORT", &address.port().to_string()),
    ]);
    followed.take_all(Step::Endpoints)?;
    followed.cluster.start_agents()?;
    followed.settle()?;
    followed.finds(Step::Endpoints, "found by the environment")?;
    assert!(front.was_sent("authorization: Bearer of-a-pod"));
    fs::remove_dir_all("/run/secrets")?;
    Ok(())
}
