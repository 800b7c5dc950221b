//! What the agent writes into the cluster.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::kube::Client;
use hostfw_agent::{
    model::EndpointAddresses,
    observe::{
        notes::Notes,
        socket::{Question, Reply},
        status::{self, Status},
    },
    publish::{self, Agent, Pace},
    source::kubernetes::{KubernetesSource, Times, client_at},
};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    cluster::object,
    server::{Server, WRITTEN},
    world::World,
};

const OWN: &str = "hostfw.io/v1alpha1";
const EVENTS: &str = "events.k8s.io/v1";
const PACE: Pace = Pace {
    gather: Duration::from_millis(5),
    urgent: Duration::from_millis(10),
    calm: Duration::from_millis(20),
    settle: Duration::from_millis(5),
    refresh: Duration::from_secs(3600),
    spread: Duration::ZERO,
    retry: [Duration::from_millis(10), Duration::from_millis(50)],
    patience: Duration::from_secs(30),
};

/// An agent that answers as it is told, with what writes for it.
struct Told {
    status: Arc<Mutex<Status>>,
    asked: Arc<AtomicU64>,
    passes: watch::Sender<u64>,
    told: watch::Sender<Option<Vec<EndpointAddresses>>>,
    notes: Notes,
    source: KubernetesSource,
    _tasks: JoinSet<()>,
}

impl Told {
    fn start(server: &Server, node: &str) -> Self {
        Self::through(client_at(&server.address).expect("an address"), node)
    }

    fn through(client: Client, node: &str) -> Self {
        let times = Times {
            retry: [Duration::from_millis(10), Duration::from_millis(100)],
            patience: Duration::from_secs(20),
            rediscover: Duration::from_millis(100),
        };
        let source = KubernetesSource::start(&client, node, Vec::new(), times);
        let status = Arc::new(Mutex::new(Status {
            node: node.to_owned(),
            generation: 1,
            ..Status::default()
        }));
        let asked = Arc::new(AtomicU64::new(0));
        let (questions, mut answers) = mpsc::channel::<Question>(1);
        let passes = watch::Sender::new(0);
        let told = watch::Sender::new(None);
        let notes = Notes::default();
        let agent = Agent {
            node: node.to_owned(),
            passes: passes.subscribe(),
            questions,
            known: source.known(),
            told: told.subscribe(),
            notes: notes.clone(),
        };
        let mut tasks = JoinSet::new();
        let (answer, count) = (Arc::clone(&status), Arc::clone(&asked));
        tasks.spawn(async move {
            while let Some(question) = answers.recv().await {
                count.fetch_add(1, Ordering::SeqCst);
                let status = answer.lock().expect("nobody panics").clone();
                let _ = question.reply.send(Reply::Status(Box::new(status)));
            }
        });
        tasks.spawn(publish::run(client, agent, PACE));
        Self {
            status,
            asked,
            passes,
            told,
            notes,
            source,
            _tasks: tasks,
        }
    }

    /// Changes what the agent says, and has it looked at.
    fn say(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().expect("nobody panics"));
        self.passes.send_modify(|passes| *passes += 1);
    }

    /// Waits until what is said now was looked at, and what it led to is done.
    async fn looked_at(&self) {
        for _ in 0..2 {
            let before = self.asked.load(Ordering::SeqCst);
            self.passes.send_modify(|passes| *passes += 1);
            until("asked", || self.asked.load(Ordering::SeqCst) > before).await;
        }
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "never came true: {what}");
}

fn problem(file: &str, object: &str) -> status::Problem {
    status::Problem {
        file: Some(file.to_owned()),
        object: Some(object.to_owned()),
        message: "document 1: wrong".to_owned(),
    }
}

async fn serving() -> Server {
    let server = Server::serving(WRITTEN).await;
    server.serve(OWN, "NodeEnforcement");
    server.serve(OWN, "NodeAddresses");
    server.serve(EVENTS, "Event");
    server.serve("v1", "Node");
    let node = json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "node1", "uid": "uid-of-node1"}});
    server.put("Node", node);
    server
}

#[tokio::test]
async fn a_node_tells_its_state_when_it_changes_and_only_then() {
    let server = serving().await;
    let agent = Told::start(&server, "node1");
    let state = || server.object("NodeEnforcement", "node1");
    until("it is told", || state().is_some()).await;
    let first = state().unwrap();
    assert_eq!(
        first["metadata"]["ownerReferences"],
        json!([{"apiVersion": "v1", "kind": "Node", "name": "node1", "uid": "uid-of-node1"}])
    );
    assert_eq!(first["status"]["generation"], 1);
    let condition = |state: &serde_json::Value, number: usize| {
        state["status"]["conditions"][number]["status"]
            .as_str()
            .map(str::to_owned)
    };
    assert_eq!(condition(&first, 0).as_deref(), Some("True"));
    let patch = "PATCH /apis/hostfw.io/v1alpha1/nodeenforcements/node1?";
    for _ in 0..5 {
        agent.looked_at().await;
    }
    assert_eq!(server.wrote(patch), 1);
    assert_eq!(server.wrote("fieldManager=hostfw-agent"), 1);

    agent.say(|status| status.generation = 2);
    until("the generation is told", || {
        state().unwrap()["status"]["generation"] == 2
    })
    .await;
    agent.say(|status| status.error = Some("too many rules".to_owned()));
    until("the error is told", || {
        state().unwrap()["status"]["conditions"][1]["reason"] == "NotInForce"
    })
    .await;
    let failed = state().unwrap();
    // What has not changed holds since it was told first.
    for number in [0, 2] {
        let since = |of: &serde_json::Value| {
            of["status"]["conditions"][number]["lastTransitionTime"].clone()
        };
        assert!(since(&failed).is_string());
        assert_eq!(since(&first), since(&failed), "{number}");
    }
    assert_eq!(condition(&failed, 1).as_deref(), Some("False"));
    agent.say(|status| status.error = None);
    until("it is well", || {
        state().unwrap()["status"]["conditions"][1]["reason"] == "Enforced"
    })
    .await;
    assert_eq!(server.wrote(patch), 4);
    assert_eq!(agent.notes.warnings(), []);
}

#[tokio::test]
async fn a_real_server_takes_the_state_of_a_node() {
    let Some(world) = World::real().await else {
        return;
    };
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}});
    world.put("Node", node).await;
    let uid = world.object("Node", "node1").await.expect("a node")["metadata"]["uid"].clone();
    // As it is without the rights of an administrator.
    let client = super::rights::agent(&world).await.expect("a real server");
    let agent = Told::through(client, "node1");
    let first = state_when(&world, "/generation", &json!(1)).await;
    assert_eq!(first["metadata"]["ownerReferences"][0]["uid"], uid);
    assert_eq!(
        first["metadata"]["managedFields"][0]["manager"],
        "hostfw-agent"
    );
    agent.say(|status| status.error = Some("too many rules".to_owned()));
    let failed = state_when(&world, "/conditions/1/reason", &json!("NotInForce")).await;
    for number in [0, 2] {
        let since = |of: &serde_json::Value| {
            of["status"]["conditions"][number]["lastTransitionTime"].clone()
        };
        assert!(since(&failed).is_string());
        assert_eq!(since(&first), since(&failed), "{number}");
    }
    agent.say(|status| status.error = None);
    let well = state_when(&world, "/conditions/1/reason", &json!("Enforced")).await;
    // What is not said any more goes from a real server, too.
    agent.say(|status| status.problems = vec![problem("Tier/a", "Tier(a)")]);
    state_when(&world, "/problems/0/object", &json!("Tier(a)")).await;
    agent.say(|status| status.problems.clear());
    let again = state_when(&world, "/problems/0", &json!(null)).await;
    assert_eq!(again["status"]["generation"], well["status"]["generation"]);
    assert_eq!(agent.notes.warnings(), []);
}

/// The state of the node, when this part of its status is so.
async fn state_when(
    world: &World,
    pointer: &str,
    expected: &serde_json::Value,
) -> serde_json::Value {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let state = world.object("NodeEnforcement", "node1").await;
            if let Some(state) = state {
                let found = state["status"].pointer(pointer);
                if found.unwrap_or(&serde_json::Value::Null) == expected {
                    return state;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    match waited.await {
        Ok(state) => state,
        Err(_) => panic!("{pointer} never became {expected}"),
    }
}

#[tokio::test]
async fn a_real_server_keeps_one_event_of_all_nodes() {
    let Some(world) = World::real().await else {
        return;
    };
    // With a namespace: in which one Events about other objects are differs
    // between versions before 1.25.
    let mut wrong = object("NetworkSet", "wrong", json!({"nets": ["192.0.2.0/24"]}));
    wrong["metadata"]["namespace"] = json!("web");
    world.put("NetworkSet", wrong).await;
    let file = "NetworkSet/web/wrong";
    let client = super::rights::agent(&world).await.expect("a real server");
    let agents = ["node1", "node2"].map(|node| Told::through(client.clone(), node));
    for agent in &agents {
        until("the object is there", || {
            agent.source.known().text(file).is_some()
        })
        .await;
        let told = problem(file, "NetworkSet(web/wrong)");
        agent.say(|status| status.problems = vec![told]);
    }
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let events = world.all("Event").await;
            let ours = |event: &&serde_json::Value| event["reason"] == "Invalid";
            if events.iter().filter(ours).count() > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let came = waited.await.is_ok();
    assert!(came, "no event: {:?}", agents[0].notes.warnings());
    for agent in &agents {
        agent.looked_at().await;
        assert_eq!(agent.notes.warnings(), []);
    }
    let mut events = world.all("Event").await;
    events.retain(|event| event["reason"] == "Invalid");
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["regarding"]["name"], "wrong");
}

#[tokio::test]
async fn what_may_not_be_written_is_noted_and_tried_again() {
    for refuse in [
        |server: &Server| server.refuse_writes("NodeEnforcement", Some(403)),
        |server: &Server| server.withdraw(OWN, "NodeEnforcement"),
    ] {
        let server = serving().await;
        refuse(&server);
        let agent = Told::start(&server, "node1");
        until("it is noted", || !agent.notes.warnings().is_empty()).await;
        let note = &agent.notes.warnings()[0];
        assert_eq!(note.object, "NodeEnforcement(node1)");
        assert!(
            note.message.starts_with("cannot be written: "),
            "{}",
            note.message
        );
        // The agent goes on answering.
        agent.looked_at().await;
        server.refuse_writes("NodeEnforcement", None);
        server.serve(OWN, "NodeEnforcement");
        until("it is written", || {
            server.object("NodeEnforcement", "node1").is_some()
        })
        .await;
        until("nothing is noted", || agent.notes.warnings().is_empty()).await;
    }
}

#[tokio::test]
async fn a_node_that_may_not_be_read_has_its_state_told() {
    let server = serving().await;
    server.refuse("Node", Some(403));
    let _agent = Told::start(&server, "node1");
    until("it is told", || {
        server.object("NodeEnforcement", "node1").is_some()
    })
    .await;
    let state = server.object("NodeEnforcement", "node1").unwrap();
    assert!(state["metadata"].get("ownerReferences").is_none());
}

#[tokio::test]
async fn all_nodes_write_one_event_for_an_invalid_object() {
    let server = serving().await;
    let mut tier = object("Tier", "a", json!({"order": "first"}));
    tier["metadata"]["uid"] = json!("uid-of-a");
    server.put("Tier", tier.clone());
    let agents = ["node1", "node2", "node3"].map(|node| Told::start(&server, node));
    for agent in &agents {
        until("the object is there", || {
            agent.source.known().text("Tier/a").is_some()
        })
        .await;
        agent.say(|status| status.problems = vec![problem("Tier/a", "Tier(a)")]);
    }
    let posts = "POST /apis/events.k8s.io/v1/namespaces/default/events";
    until("all have told", || server.wrote(posts) == 3).await;
    let events = server.all("Event");
    assert_eq!(events.len(), 1);
    let regarding = &events[0]["regarding"];
    assert_eq!(
        *regarding,
        json!({"apiVersion": WRITTEN, "kind": "Tier", "name": "a", "uid": "uid-of-a"})
    );
    assert_eq!(events[0]["reason"], "Invalid");
    for agent in &agents {
        agent.looked_at().await;
        assert_eq!(agent.notes.warnings(), []);
    }
    assert_eq!(server.wrote(posts), 3);

    // Another version of it is another matter.
    tier["metadata"]["generation"] = json!(2);
    server.put("Tier", tier);
    until("there is another one", || {
        agents[0].say(|_| {});
        server.all("Event").len() == 2
    })
    .await;
}

#[tokio::test]
async fn events_that_may_not_be_written_stop_nothing() {
    let server = serving().await;
    server.refuse_writes("Event", Some(403));
    let agent = Told::start(&server, "node1");
    agent.say(|status| status.problems = vec![problem("Tier/a", "Tier(a)")]);
    until("it is noted", || {
        agent.notes.warnings().iter().any(|it| it.object == "Event")
    })
    .await;
    until("the state is told", || {
        let state = server.object("NodeEnforcement", "node1");
        state.is_some_and(|state| state["status"]["problems"][0]["object"] == "Tier(a)")
    })
    .await;
    server.refuse_writes("Event", None);
    until("it is told", || server.all("Event").len() == 1).await;
    until("nothing is noted", || agent.notes.warnings().is_empty()).await;
}

fn holding(addresses: &[&str]) -> Option<Vec<EndpointAddresses>> {
    Some(vec![EndpointAddresses {
        name: "node1-eth0".to_owned(),
        labels: Default::default(),
        addresses: addresses
            .iter()
            .map(|it| it.parse().expect("an address"))
            .collect(),
    }])
}

#[tokio::test]
async fn a_node_tells_its_addresses_when_they_change_and_only_then() {
    let server = serving().await;
    let agent = Told::start(&server, "node1");
    let told = || server.object("NodeAddresses", "node1");
    let patch = "PATCH /apis/hostfw.io/v1alpha1/nodeaddresses/node1?";
    agent.looked_at().await;
    assert_eq!(server.wrote(patch), 0, "before anything is known");

    agent.told.send_replace(holding(&["10.0.0.1", "fd00::1"]));
    until("it is told", || told().is_some()).await;
    let first = told().unwrap();
    assert_eq!(
        first["spec"],
        json!({"endpoints": [{"name": "node1-eth0", "addresses": ["10.0.0.1", "fd00::1"]}]})
    );
    assert_eq!(
        first["metadata"]["ownerReferences"][0]["uid"],
        "uid-of-node1"
    );
    // The same once more, and then what is seen to come behind it.
    agent.told.send_replace(holding(&["10.0.0.1", "fd00::1"]));
    tokio::time::sleep(PACE.settle * 4).await;
    agent.told.send_replace(holding(&[]));
    until("it has none", || {
        told().unwrap()["spec"] == json!({"endpoints": [{"name": "node1-eth0"}]})
    })
    .await;
    agent.told.send_replace(Some(Vec::new()));
    until("it has no endpoint", || {
        told().unwrap()["spec"]
            .as_object()
            .is_none_or(|it| it.is_empty())
    })
    .await;
    assert_eq!(server.wrote(patch), 3);
    assert_eq!(agent.notes.warnings(), []);
}

#[tokio::test]
async fn addresses_that_may_not_be_written_are_noted_and_tried_again() {
    let server = serving().await;
    server.refuse_writes("NodeAddresses", Some(403));
    let agent = Told::start(&server, "node1");
    agent.told.send_replace(holding(&["10.0.0.1"]));
    until("it is noted", || {
        let notes = agent.notes.warnings();
        notes.iter().any(|it| it.object == "NodeAddresses(node1)")
    })
    .await;
    // The state of the node is told all the same, and the newest is told then.
    until("the state is told", || {
        server.object("NodeEnforcement", "node1").is_some()
    })
    .await;
    agent.told.send_replace(holding(&["10.0.0.2"]));
    server.refuse_writes("NodeAddresses", None);
    until("it is told", || {
        let told = server.object("NodeAddresses", "node1");
        told.is_some_and(|it| it["spec"]["endpoints"][0]["addresses"] == json!(["10.0.0.2"]))
    })
    .await;
    until("nothing is noted", || agent.notes.warnings().is_empty()).await;
}
