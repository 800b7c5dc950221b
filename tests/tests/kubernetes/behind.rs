//! A real API server, as nodes reach it: on the host outside of the cluster, which
//! passes on what comes to where the server listens.

use std::{
    path::PathBuf,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use hostfw_tests::topology::{Host, Topology};
use kube::{
    Api, Client, Error,
    api::{DeleteParams, DynamicObject, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::oneshot,
};

use super::front::Front;
use crate::{
    Objects,
    real::{Real, resource},
};

/// The server, and what passes on. It ends when this is dropped.
pub(crate) struct Behind {
    real: Real,
    client: Client,
    runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Behind {
    /// Starts the server. It must be [there](crate::real::is_there).
    pub(crate) fn start(topology: &Topology) -> Result<Self> {
        let address = Front::address();
        let listener = topology
            .namespace(Host::Client)
            .run(|| std::net::TcpListener::bind(address))??;
        listener.set_nonblocking(true)?;
        let real = Real::start(&[address.ip().to_string()])?;
        let server = real.address.replace("https://", "");
        let (stop, stopped) = oneshot::channel();
        let passing = runtime()?;
        let thread = thread::spawn(move || {
            passing.block_on(async {
                let listener = TcpListener::from_std(listener).expect("it does not block");
                tokio::select! {
                    () = pass_on(listener, server) => {}
                    _ = stopped => {}
                }
            });
        });
        let runtime = runtime()?;
        let client = runtime.block_on(real.client())?;
        Ok(Self {
            real,
            client,
            runtime,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// A kubeconfig for agents.
    pub(crate) fn kubeconfig(&self) -> Result<PathBuf> {
        let address = format!("https://{}", Front::address());
        self.real.administrator_at(&address)
    }

    /// Whether there is an object of this name.
    pub(crate) fn has(&self, kind: &'static str, name: &str) -> Result<bool> {
        let found = self.runtime.block_on(self.api(kind).get_opt(name))?;
        Ok(found.is_some())
    }

    fn api(&self, kind: &'static str) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource(kind))
    }
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

async fn pass_on(listener: TcpListener, server: String) {
    while let Ok((mut client, _)) = listener.accept().await {
        let server = server.clone();
        // Who hangs up is none of the others' business.
        tokio::spawn(async move {
            let mut server = TcpStream::connect(server).await?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}

impl Objects for Behind {
    fn put(&self, kind: &'static str, mut object: Value) -> Result<u64> {
        let name = object["metadata"]["name"]
            .as_str()
            .context("a name")?
            .to_owned();
        let api = self.api(kind);
        let parameters = PostParams::default();
        let stored = self.runtime.block_on(async {
            let Some(before) = api.get_opt(&name).await? else {
                let object = serde_json::from_value(object).map_err(Error::SerdeError)?;
                return api.create(&parameters, &object).await;
            };
            object["metadata"]["resourceVersion"] = json!(before.metadata.resource_version);
            let object = serde_json::from_value(object).map_err(Error::SerdeError)?;
            api.replace(&name, &parameters, &object).await
        });
        let stored = stored.with_context(|| format!("{kind} {name}"))?;
        Ok(stored.metadata.generation.unwrap_or(0) as u64)
    }

    fn delete(&self, kind: &'static str, name: &str) -> Result<()> {
        let api = self.api(kind);
        let parameters = DeleteParams::default();
        let deleted = self.runtime.block_on(api.delete(name, &parameters));
        deleted.with_context(|| format!("{kind} {name}")).map(drop)
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        // It may have ended by itself, which its own message says.
        let _ = self.stop.take().map(|stop| stop.send(()));
        drop(self.thread.take().map(JoinHandle::join));
    }
}
