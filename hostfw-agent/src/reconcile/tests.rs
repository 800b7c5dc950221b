mod large;

use std::{
    fs,
    time::{Duration, Instant},
};

use hostfw_common::{counter::StagedKey, policy::Action, stage::List};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    fake::{Call, Fake},
    *,
};
use crate::{
    observe::{
        metrics::families::{FAMILIES, Type},
        socket::{Question, Reply, Request},
        status::{ObjectState, StagedStatus, Status},
    },
    source::FolderSource,
};

const ENDPOINT: &str = "\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: node1-eth0, labels: {host-endpoint: ''}, generation: 3}
spec: {node: node1, interfaceName: eth0}
";

fn policy(name: &str, rules: usize) -> String {
    let mut text = format!(
        "apiVersion: projectcalico.org/v3\n\
         kind: GlobalNetworkPolicy\n\
         metadata: {{name: {name}}}\n\
         spec:\n  selector: has(host-endpoint)\n  preDNAT: true\n  applyOnForward: true\n  ingress:\n"
    );
    for _ in 0..rules {
        text.push_str("  - action: Deny\n");
    }
    text
}

fn interface(index: u32, name: &str) -> Interface {
    Interface {
        index,
        name: name.to_owned(),
        addresses: vec!["10.240.0.1".parse().unwrap()],
        link_header: true,
        loopback: false,
        up: true,
        master: None,
    }
}

/// A reconciler with folders of its own, which go with the value.
fn reconciler(folder: &TempDir, dataplane: Fake) -> Reconciler<Fake> {
    Reconciler::new(
        Settings {
            node: "node1".to_owned(),
            state_file: folder.path().join("accepted.json"),
            only: BTreeSet::new(),
            observe_only: false,
        },
        dataplane,
        NameBook::default(),
    )
}

fn programmed(status: &Status) -> Vec<(String, bool, String)> {
    status
        .endpoints
        .iter()
        .map(|endpoint| {
            let condition = &endpoint.conditions[0];
            assert_eq!(condition.kind, "Programmed");
            (
                endpoint.name.clone(),
                condition.status,
                condition.reason.clone(),
            )
        })
        .collect()
}

#[test]
fn what_the_store_says_comes_into_force_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = reconciler(&folder, Fake::default());
    let stored = Snapshot::of_texts(&[("hep.yaml", ENDPOINT), ("deny.yaml", &policy("deny", 1))]);
    it.take_read(Ok(stored.clone()));
    assert!(it.reconcile(&[interface(1, "lo"), interface(2, "eth0")]));

    let status = it.status();
    assert_eq!(status.node, "node1");
    assert_eq!(status.generation, 2);
    assert_eq!(status.error, None);
    assert_eq!(status.store_revision, stored.revision);
    assert_eq!(status.enforced_revision, stored.revision);
    assert_eq!(
        programmed(&status),
        [("node1-eth0".to_owned(), true, "Enforced".to_owned())]
    );
    let endpoint = &status.endpoints[0];
    let policies: Vec<_> = endpoint
        .policies
        .iter()
        .map(|policy| (&*policy.stage, &*policy.name))
        .collect();
    assert_eq!(policies, [("preDNAT", "deny")]);
    assert_eq!(
        endpoint.ingress.as_ref().unwrap().mode.as_deref(),
        Some("native")
    );
    let hep = status.objects.iter().find(|o| o.name == "node1-eth0");
    let hep = hep.unwrap();
    assert_eq!(hep.state, ObjectState::Enforced);
    assert_eq!(
        (hep.enforced_generation, hep.dataplane_generation),
        (Some(3), Some(2))
    );
    assert_eq!(status.counters[0].packets, 3);
}

/// The metrics, once the flows were counted.
fn metrics(it: &mut Reconciler<Fake>) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let Reply::Metrics(text) = it.metrics() else {
            panic!("no metrics");
        };
        if text.contains("hostfw_flows{") {
            return text;
        }
        assert!(Instant::now() < deadline, "flows are not counted:\n{text}");
        std::thread::yield_now();
    }
}

#[test]
fn every_metric_is_fed() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = reconciler(&folder, Fake::default());
    let staged = "apiVersion: projectcalico.org/v3\nkind: StagedGlobalNetworkPolicy\n\
                  metadata: {name: staged}\n\
                  spec: {selector: has(host-endpoint), ingress: [{action: Deny}]}\n";
    let stored = Snapshot::of_texts(&[
        ("hep", ENDPOINT),
        ("deny", &policy("deny", 2)),
        ("s", staged),
    ]);
    it.take_read(Ok(stored));
    assert_eq!(
        it.not_ready().as_deref(),
        Some("not everything was read and enforced yet")
    );
    assert!(it.reconcile(&[interface(2, "eth0")]));
    assert_eq!(it.not_ready(), None);
    it.kinds = vec![("HostEndpoint", true), ("Tier", false)];
    let generation = it.enforcer.dataplane().generation;
    let deny = StagedKey {
        generation: generation as u32,
        list: List::NormalIn as u8,
        action: Action::StagedDeny as u8,
        ..StagedKey::default()
    };
    // The policies' numbers are in the order in which they are met.
    for number in 0..2 {
        let policy = hostfw_common::policy::PolicyId { number };
        let key = StagedKey { policy, ..deny };
        it.enforcer.dataplane_mut().staged.insert(key, 5);
    }
    let text = metrics(&mut it);
    for family in FAMILIES {
        let name = family.name;
        let series = match family.kind {
            Type::Histogram => format!("{name}_count "),
            Type::Counter | Type::Gauge if family.labels.is_empty() => format!("{name} "),
            Type::Counter | Type::Gauge => format!("{name}{{"),
        };
        let line = text.lines().find(|line| line.starts_with(&series));
        let line = line.unwrap_or_else(|| panic!("nothing of {name} in:\n{text}"));
        for label in family.labels {
            assert!(line.contains(&format!("{label}=\"")), "{line}");
        }
    }
    for line in [
        "hostfw_compile_duration_seconds_count 1",
        // Learning, then enforcing.
        "hostfw_switch_duration_seconds_count 2",
        "hostfw_pass_duration_seconds_count 1",
        "hostfw_passes_total{result=\"complete\"} 1",
        "hostfw_generation_enforced 2",
        "hostfw_generation_wanted 2",
        "hostfw_ready 1",
        "hostfw_objects{kind=\"GlobalNetworkPolicy\",state=\"enforced\"} 1",
        "hostfw_map_entries{map=\"ENDPOINTS\"} 1",
        "hostfw_source_readable 1",
        "hostfw_source_kind_followed{kind=\"Tier\"} 0",
        // A kernel without netfilter programs.
        "hostfw_endpoint_enforced{endpoint=\"node1-eth0\",hook=\"wire-in\",interface=\"eth0\"} 1",
        "hostfw_endpoint_enforced{endpoint=\"node1-eth0\",hook=\"local-in\",interface=\"eth0\"} 0",
        "hostfw_packets_total{checkpoint=\"wire-in\",reason=\"rule-deny\",verdict=\"drop\"} 3",
    ] {
        assert!(text.lines().any(|one| one == line), "no {line} in:\n{text}");
    }
}

#[test]
fn a_node_is_not_ready_while_something_is_not_enforced() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = reconciler(&folder, Fake::default());
    let eth0 = [interface(2, "eth0")];
    it.take_read(Ok(Snapshot::of_texts(&[("hep", ENDPOINT)])));
    it.enforcer.dataplane_mut().cannot_attach.insert(2);
    assert!(!it.reconcile(&eth0));
    let why = it.not_ready().unwrap();
    assert!(why.contains("cannot attach to eth0"), "{why}");
    let text = metrics(&mut it);
    assert!(text.contains("hostfw_ready 0\n"), "{text}");
    assert!(
        text.contains("hostfw_passes_total{result=\"incomplete\"} 1\n"),
        "{text}"
    );

    it.enforcer.dataplane_mut().cannot_attach.clear();
    assert!(it.reconcile(&eth0));
    assert_eq!(it.not_ready(), None);

    // What is wanted is not known.
    it.take_read(Err("no such folder".to_owned()));
    assert!(!it.reconcile(&eth0));
    assert_eq!(it.not_ready().as_deref(), Some("no such folder"));
    let text = metrics(&mut it);
    assert!(text.contains("hostfw_source_readable 0\n"), "{text}");
    assert!(text.contains("hostfw_ready 0\n"), "{text}");
}

#[test]
fn what_staged_policies_would_do_is_counted_over_generations() {
    let staged = |name: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: StagedGlobalNetworkPolicy\n\
             metadata: {{name: {name}}}\n\
             spec: {{selector: has(host-endpoint), ingress: [{{action: Deny}}]}}\n"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let mut it = reconciler(&folder, Fake::default());
    let eth0 = [interface(2, "eth0")];
    let count = |it: &mut Reconciler<Fake>, packets| {
        let dataplane = it.enforcer.dataplane_mut();
        let key = StagedKey {
            generation: dataplane.generation as u32,
            list: List::NormalIn as u8,
            action: Action::StagedDeny as u8,
            ..StagedKey::default()
        };
        dataplane.staged.insert(key, packets);
    };
    let counted = |it: &Reconciler<Fake>| {
        let staged = it.status().staged;
        let status = |one: &StagedStatus| (one.policy.clone(), one.would.clone(), one.packets);
        staged.iter().map(status).collect::<Vec<_>>()
    };
    let one = |policy: &str, packets| (policy.to_owned(), "deny".to_owned(), packets);

    it.take_read(Ok(Snapshot::of_texts(&[
        ("hep", ENDPOINT),
        ("a", &staged("b")),
    ])));
    assert!(it.reconcile(&eth0));
    count(&mut it, 3);
    assert_eq!(counted(&it), [one("b", 3)]);
    // In the next generation another policy has its number.
    let both = Snapshot::of_texts(&[("hep", ENDPOINT), ("a", &staged("b")), ("b", &staged("a"))]);
    it.take_read(Ok(both));
    assert!(it.reconcile(&eth0));
    assert_eq!(counted(&it), [one("b", 3)]);
    count(&mut it, 4);
    assert_eq!(counted(&it), [one("a", 4), one("b", 3)]);
    // What was collected is not counted twice.
    it.take_read(Ok(Snapshot::of_texts(&[
        ("hep", ENDPOINT),
        ("b", &staged("a")),
    ])));
    assert!(it.reconcile(&eth0));
    assert_eq!(counted(&it), [one("a", 4), one("b", 3)]);
    let generation = it.enforcer.dataplane().generation as u32;
    let kept = it.enforcer.dataplane().staged.keys();
    assert!(kept.into_iter().all(|key| key.generation == generation));
}

#[test]
fn where_nothing_is_enforced_the_status_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = reconciler(&folder, Fake::default()).settings;
    settings.observe_only = true;
    let mut it = Reconciler::new(settings, Fake::default(), NameBook::default());
    it.take_read(Ok(Snapshot::of_texts(&[("hep", ENDPOINT)])));
    assert!(it.reconcile(&[interface(2, "eth0")]));
    let observed = |status: &Status| {
        let conditions = status.endpoints[0].conditions.iter();
        let not_enforced: Vec<_> = conditions
            .filter(|one| one.kind == "DenialsEnforced")
            .map(|one| (one.status, one.reason.clone()))
            .collect();
        (status.observe_only, not_enforced)
    };
    let expected = (true, vec![(false, "ObserveOnly".to_owned())]);
    assert_eq!(observed(&it.status()), expected);

    let mut it = reconciler(&folder, Fake::default());
    it.take_read(Ok(Snapshot::of_texts(&[("hep", ENDPOINT)])));
    assert!(it.reconcile(&[interface(2, "eth0")]));
    assert_eq!(observed(&it.status()), (false, vec![]));
}

#[test]
fn policies_without_endpoints_are_in_force_without_any_interface() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = reconciler(&folder, Fake::default());
    let stored = Snapshot::of_texts(&[("deny.yaml", &policy("deny", 1))]);
    it.take_read(Ok(stored.clone()));
    assert!(it.reconcile(&[interface(2, "eth0")]));
    let status = it.status();
    assert_eq!(status.enforced_revision, stored.revision);
    assert_eq!(status.endpoints, []);
    assert_eq!(status.objects[0].state, ObjectState::Enforced);
}

#[test]
fn a_set_that_does_not_compile_leaves_everything_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = reconciler(&folder, Fake::default());
    let good = Snapshot::of_texts(&[("hep.yaml", ENDPOINT)]);
    it.take_read(Ok(good.clone()));
    let interfaces = [interface(2, "eth0")];
    assert!(it.reconcile(&interfaces));

    // More rules than an endpoint can have, in policies that are valid each.
    let policies: Vec<_> = (0..17).map(|n| policy(&format!("p{n}"), 1000)).collect();
    let mut files = vec![("hep.yaml", ENDPOINT)];
    let names: Vec<_> = (0..17).map(|n| format!("p{n}.yaml")).collect();
    files.extend(names.iter().zip(&policies).map(|(n, p)| (&**n, &**p)));
    it.take_read(Ok(Snapshot::of_texts(&files)));
    assert!(!it.reconcile(&interfaces));

    let status = it.status();
    let error = status.error.clone().unwrap();
    assert!(error.contains("16384"), "{error}");
    assert_eq!(status.generation, 2);
    assert_eq!(status.enforced_revision, good.revision);
    assert_ne!(status.store_revision, good.revision);
    assert_eq!(programmed(&status)[0].2, "NotInForce");
    let states: Vec<_> = status.objects.iter().map(|o| o.state).collect();
    assert_eq!(
        states
            .iter()
            .filter(|s| **s == ObjectState::Pending)
            .count(),
        17
    );
    assert_eq!(states.last(), Some(&ObjectState::Enforced));

    // A restart begins with what was in force, not with what was refused.
    it.saver.wait();
    let again = reconciler(&folder, Fake::default());
    assert_eq!(again.enforced.objects.len(), 1);

    it.take_read(Ok(good));
    assert!(it.reconcile(&interfaces));
    assert_eq!(it.status().error, None);
}

#[test]
fn a_broken_file_leaves_its_last_good_objects_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = reconciler(&folder, Fake::default());
    it.take_read(Ok(Snapshot::of_texts(&[("hep.yaml", ENDPOINT)])));
    let interfaces = [interface(2, "eth0")];
    it.reconcile(&interfaces);
    let broken = Snapshot::of_texts(&[("hep.yaml", "kind: [")]);
    it.take_read(Ok(broken.clone()));
    assert!(it.reconcile(&interfaces));
    let status = it.status();
    assert_eq!(status.generation, 2, "nothing to switch");
    assert_eq!(status.enforced_revision, broken.revision);
    assert_eq!(status.objects[0].state, ObjectState::LastGood);
    assert_eq!(status.problems[0].file.as_deref(), Some("hep.yaml"));
    assert!(programmed(&status)[0].1);

    // Also over a restart.
    it.saver.wait();
    let mut again = reconciler(&folder, Fake::default());
    again.take_read(Ok(broken));
    assert!(again.reconcile(&interfaces));
    assert_eq!(again.status().objects[0].state, ObjectState::LastGood);
    assert!(programmed(&again.status())[0].1);
}

#[test]
fn an_unreadable_store_at_start_leaves_the_kernel_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut enforced = crate::compile::image::Image::default();
    enforced.endpoints.entry(2).or_default();
    let mut it = reconciler(&folder, Fake::left_behind(enforced));
    it.take_read(Err("cannot read folder".to_owned()));
    assert!(!it.reconcile(&[interface(2, "eth0")]));
    assert_eq!(it.enforcer.dataplane().calls, []);
    let status = it.status();
    assert_eq!(status.error.as_deref(), Some("cannot read folder"));
    assert_eq!(status.generation, 7);
}

#[test]
fn with_an_unreadable_store_what_was_accepted_is_still_enforced() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = reconciler(&folder, Fake::default());
    first.take_read(Ok(Snapshot::of_texts(&[("hep.yaml", ENDPOINT)])));
    first.reconcile(&[interface(2, "eth0")]);
    first.saver.wait();

    // After a reboot the interface has another index, and nothing is pinned.
    let mut it = reconciler(&folder, Fake::default());
    it.take_read(Err("cannot read folder".to_owned()));
    assert!(!it.reconcile(&[interface(5, "eth0")]), "tried again");
    assert!(it.enforcer.dataplane().calls.contains(&Call::Attach(5)));
    let status = it.status();
    assert!(programmed(&status)[0].1);
    assert_eq!(status.error.as_deref(), Some("cannot read folder"));
    assert_eq!(status.enforced_revision, "");
}

#[test]
fn a_failed_attachment_is_told_and_holds_the_revision_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = reconciler(
        &folder,
        Fake {
            cannot_attach: BTreeSet::from([2]),
            ..Fake::default()
        },
    );
    it.take_read(Ok(Snapshot::of_texts(&[("hep.yaml", ENDPOINT)])));
    assert!(!it.reconcile(&[interface(2, "eth0")]));
    let status = it.status();
    assert!(status.error.as_deref().unwrap().contains("eth0"));
    assert_eq!(status.enforced_revision, "");
    assert_eq!(programmed(&status)[0].2, "AttachFailed");

    // The interface goes away: nothing is left to fail.
    assert!(it.reconcile(&[]));
    assert_eq!(it.status().error, None);
    assert_eq!(programmed(&it.status())[0].2, "NoSuchInterface");
}

#[test]
fn only_the_interfaces_that_were_asked_for_are_governed() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = reconciler(&folder, Fake::default());
    it.settings.only = BTreeSet::from(["eth9".to_owned()]);
    it.take_read(Ok(Snapshot::of_texts(&[("hep.yaml", ENDPOINT)])));
    assert!(it.reconcile(&[interface(2, "eth0")]));
    assert!(!it.enforcer.dataplane().calls.contains(&Call::Attach(2)));
    assert_eq!(programmed(&it.status())[0].2, "LeftAlone");
}

/// The loop on a real folder, without a kernel.
struct Running {
    requests: mpsc::Sender<Question>,
    interfaces: watch::Sender<Vec<Interface>>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(reconciler: Reconciler<Fake>) -> Self {
        let folder = reconciler.settings.state_file.with_file_name("store");
        reconciler.make_store(&folder).unwrap();
        let store = FolderSource::new(&folder).unwrap();
        let (requests, answers) = mpsc::channel(1);
        let (interfaces, receiver) = watch::channel(vec![interface(2, "eth0")]);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            run(reconciler, store, receiver, answers, async {
                let _ = stopped.await;
            })
            .await;
        });
        Self {
            requests,
            interfaces,
            stop,
            task,
        }
    }

    async fn status(&self) -> Status {
        let (reply, answer) = oneshot::channel();
        let request = Request::Status;
        let question = Question { request, reply };
        self.requests.send(question).await.unwrap();
        let answer = answer.await.unwrap();
        let Reply::Status(status) = answer else {
            panic!("expected the status: {answer:?}");
        };
        *status
    }

    async fn wait_for(&self, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
        for _ in 0..200 {
            let status = self.status().await;
            if holds(&status) {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("never came true: {what}; status: {:?}", self.status().await);
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn the_loop_follows_store_and_interfaces_until_it_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(reconciler(&folder, Fake::default()));
    let store = folder.path().join("store");
    running.status().await;
    assert!(store.is_dir(), "a fresh store is made");

    fs::write(store.join("hep.yaml"), ENDPOINT).unwrap();
    running
        .wait_for("eth0 is governed", |status| {
            status.endpoints.iter().any(|e| e.ingress.is_some())
        })
        .await;

    running.interfaces.send(vec![]).unwrap();
    running
        .wait_for("eth0 is gone", |status| {
            status.endpoints.iter().all(|e| e.interface.is_none())
        })
        .await;

    fs::remove_file(store.join("hep.yaml")).unwrap();
    running
        .wait_for("the object is gone", |status| status.objects.is_empty())
        .await;
    running.stop().await;
}

#[test]
fn what_is_probably_not_meant_is_told_as_long_as_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = reconciler(&folder, Fake::default());
    let ignored = policy("deny", 1).replace("spec:", "spec:\n  types: [Egress]");
    let ignored = ignored.replace("  preDNAT: true\n  applyOnForward: true\n", "");
    it.take_read(Ok(Snapshot::of_texts(&[("a.yaml", &ignored)])));
    assert!(it.reconcile(&[]));
    let warnings = it.status().warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].object, "GlobalNetworkPolicy(deny)");
    assert!(warnings[0].message.contains("no effect"), "{warnings:?}");
    it.take_read(Ok(Snapshot::of_texts(&[])));
    assert!(it.reconcile(&[]));
    assert_eq!(it.status().warnings, []);
}

#[tokio::test]
async fn a_status_is_of_the_store_as_it_was_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    fs::create_dir(&store).unwrap();
    let running = Running::start(reconciler(&folder, Fake::default()));
    running.status().await;
    for generation in 3..20 {
        let text = ENDPOINT.replace("generation: 3", &format!("generation: {generation}"));
        fs::write(store.join("hep.yaml"), text).unwrap();
        let status = running.status().await;
        let hep = &status.objects[0];
        assert_eq!(hep.stored_generation, Some(generation));
        assert_eq!(hep.enforced_generation, Some(generation));
        assert_eq!(hep.state, ObjectState::Enforced);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_store_that_is_lost_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    fs::create_dir(&store).unwrap();
    fs::write(store.join("hep.yaml"), ENDPOINT).unwrap();
    let running = Running::start(reconciler(&folder, Fake::default()));
    let governed = |status: &Status| status.endpoints.iter().any(|e| e.ingress.is_some());
    running.wait_for("eth0 is governed", governed).await;
    fs::rename(&store, folder.path().join("away")).unwrap();
    let status = running
        .wait_for("the loss is told", |status| status.error.is_some())
        .await;
    assert!(governed(&status));
    assert_eq!(status.objects.len(), 1);
    assert!(!store.exists(), "an empty one in its place would open it");
    running.stop().await;

    // Nor at the next start.
    let running = Running::start(reconciler(&folder, Fake::default()));
    let status = running.wait_for("eth0 is governed", governed).await;
    assert!(status.error.is_some());
    assert!(!store.exists());

    fs::rename(folder.path().join("away"), &store).unwrap();
    let status = running
        .wait_for("it is back", |status| status.error.is_none())
        .await;
    assert_eq!(status.store_revision, status.enforced_revision);
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_is_being_written_is_what_it_was() {
    use std::io::Write;

    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    fs::create_dir(&store).unwrap();
    let path = store.join("hep.yaml");
    let two = format!("{ENDPOINT}---\n{}", policy("deny", 1));
    fs::write(&path, &two).unwrap();
    let running = Running::start(reconciler(&folder, Fake::default()));
    running
        .wait_for("both are there", |status| status.objects.len() == 2)
        .await;

    // The first half alone is valid, and would drop the policy.
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(ENDPOINT.as_bytes()).unwrap();
    file.flush().unwrap();
    running.interfaces.send(vec![interface(3, "eth0")]).unwrap();
    let status = running
        .wait_for("the loop went round", |status| {
            status.endpoints.iter().any(|e| e.ingress.is_some()) && status.generation > 2
        })
        .await;
    assert_eq!(status.objects.len(), 2);
    assert_eq!(status.problems.len(), 1);
    assert_eq!(status.problems[0].file.as_deref(), Some("hep.yaml"));
    assert!(status.problems[0].message.contains("writing"));

    drop(file);
    let status = running
        .wait_for("the rest counts", |status| status.objects.len() == 1)
        .await;
    assert_eq!(status.problems, []);
    running.stop().await;
}
