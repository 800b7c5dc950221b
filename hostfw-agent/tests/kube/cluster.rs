//! A cluster that is followed, and what is accepted of it.

use std::time::Duration;

use ::kube::Client;
use hostfw_agent::{
    accept::{Accepted, Acceptor},
    source::{
        Source as _, SourceFile, Trust,
        kubernetes::{KubernetesSource, Times, client_at},
    },
};
use serde_json::{Value, json};

use super::server::{Server, WRITTEN};

/// Long enough for a machine that is busy; nothing waits for it otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub(crate) source: KubernetesSource,
    pub(crate) trust: Trust,
    pub(crate) accepted: Accepted,
    acceptor: Acceptor,
    /// If it is one by script.
    server: Option<Server>,
    error: Option<String>,
}

impl Cluster {
    pub(crate) fn follow(server: &Server) -> Self {
        Self::remembering(server, Vec::new())
    }

    pub(crate) fn remembering(server: &Server, remembered: Vec<SourceFile>) -> Self {
        let client = client_at(&server.address).expect("an address");
        Self::through(&client, server, remembered)
    }

    /// As a client finds the server.
    pub(crate) fn through(client: &Client, server: &Server, remembered: Vec<SourceFile>) -> Self {
        Self {
            server: Some(server.clone()),
            ..Self::of(client, Duration::from_millis(1000), remembered)
        }
    }

    /// Of a real server.
    pub(crate) fn of_real(client: &Client) -> Self {
        Self::of(client, PATIENCE, Vec::new())
    }

    fn of(client: &Client, patience: Duration, remembered: Vec<SourceFile>) -> Self {
        let times = Times {
            retry: [Duration::from_millis(10), Duration::from_millis(100)],
            patience,
            rediscover: Duration::from_millis(100),
        };
        Self {
            source: KubernetesSource::start(client, "node1", remembered, times),
            trust: Trust::Stamps,
            accepted: Accepted::default(),
            acceptor: Acceptor::default(),
            server: None,
            error: None,
        }
    }

    /// Accepts what is told, until this holds.
    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&Accepted) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                self.read();
                if self.error.is_none() && holds(&self.accepted) {
                    return;
                }
                self.source.changed().await;
            }
        });
        if waited.await.is_err() {
            panic!(
                "never came true: {what}; error {:?}, accepted {:?}, problems {:?}",
                self.error,
                self.files(),
                self.accepted.problems
            );
        }
    }

    /// Accepts what is told, until nothing is, for this reason.
    pub(crate) async fn until_error(&mut self, part: &str) -> String {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                self.read();
                if let Some(error) = &self.error
                    && error.contains(part)
                {
                    return error.clone();
                }
                self.source.changed().await;
            }
        });
        match waited.await {
            Ok(error) => error,
            Err(_) => panic!("never told: {part}; but {:?}", self.error),
        }
    }

    /// Waits until the kind is watched, if the server can tell.
    pub(crate) async fn until_watched(&self, kind: &'static str) {
        if let Some(server) = &self.server {
            self.poll(|| server.watchers(kind) > 0).await;
        }
    }

    /// Waits until nobody watches the kind, if the server can tell.
    pub(crate) async fn until_unwatched(&self, kind: &'static str) {
        if let Some(server) = &self.server {
            self.poll(|| server.watchers(kind) == 0).await;
        }
    }

    async fn poll(&self, holds: impl Fn() -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "never came true");
    }

    fn read(&mut self) {
        match self.source.read(self.trust, None) {
            Ok(snapshot) => {
                self.accepted = self.acceptor.accept(&snapshot, &self.accepted);
                self.error = None;
            }
            Err(error) => self.error = Some(error),
        }
    }

    /// What stands for the files of what is accepted.
    pub(crate) fn files(&self) -> Vec<String> {
        let objects = self.accepted.objects.iter();
        let files = objects.flat_map(|object| object.files.iter());
        files.map(|file| file.to_string()).collect()
    }
}

pub(crate) fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": WRITTEN, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

pub(crate) fn endpoint(name: &str) -> Value {
    object(
        "HostEndpoint",
        name,
        json!({"node": "node1", "interfaceName": "eth0"}),
    )
}

pub(crate) fn policy(name: &str, action: &str) -> Value {
    let spec = json!({"selector": "all()", "ingress": [{"action": action}]});
    object("GlobalNetworkPolicy", name, spec)
}
