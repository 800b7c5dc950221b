//! The API server by script, as nodes reach a real one: on the host outside of
//! the cluster, with TLS by a certificate authority of its own.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use hostfw_tests::topology::{Family, Host, Topology};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

use crate::{
    Objects,
    server::{KINDS, Server, WRITTEN},
};

/// Where API servers listen, which default fail-safes keep open.
const PORT: u16 = 6443;

/// The server, and what nodes reach it by. It ends when this is dropped.
pub(crate) struct Front {
    pub(crate) server: Server,
    /// The authority's certificate, in PEM.
    pub(crate) authority: String,
    /// What clients have sent.
    sent: Arc<Mutex<Vec<u8>>>,
    /// Changes so far.
    changes: AtomicU64,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    /// Starts a server that serves all kinds as users write them.
    pub(crate) fn start(topology: &Topology) -> Result<Self> {
        let address = Self::address();
        // It stays in the namespace, whoever accepts.
        let listener = topology
            .namespace(Host::Client)
            .run(|| std::net::TcpListener::bind(address))??;
        listener.set_nonblocking(true)?;
        let authority = Authority::new()?;
        let acceptor = authority.acceptor(address.ip())?;
        let sent = Arc::<Mutex<Vec<u8>>>::default();
        let (stop, stopped) = oneshot::channel();
        let (started, starts) = mpsc::channel();
        let of_thread = Arc::clone(&sent);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = thread::spawn(move || {
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("it does not block");
                let server = Server::serving(WRITTEN).await;
                server.serve("hostfw.io/v1alpha1", "HostEndpointTemplate");
                // Which rules may refer to.
                for kind in ["Namespace", "Node", "Pod", "ServiceAccount"] {
                    server.serve("v1", kind);
                }
                server.serve("discovery.k8s.io/v1", "EndpointSlice");
                let backend = server.address.replace("http://", "");
                let _ = started.send(server);
                tokio::select! {
                    () = serve(listener, acceptor, backend, of_thread) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self {
            server: starts.recv().context("the server has not started")?,
            authority: authority.certificate,
            sent,
            changes: AtomicU64::new(0),
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub(crate) fn address() -> SocketAddr {
        SocketAddr::new(Host::Client.address(Family::V4), PORT)
    }

    /// Whether clients have sent this.
    pub(crate) fn was_sent(&self, text: &str) -> bool {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.windows(text.len())
            .any(|part| part.eq_ignore_ascii_case(text.as_bytes()))
    }

    /// Writes a kubeconfig that trusts this authority.
    pub(crate) fn kubeconfig(folder: &Path, authority: &str) -> Result<PathBuf> {
        let ca = folder.join("ca.crt");
        fs::write(&ca, authority)?;
        let file = folder.join("kubeconfig");
        let text = format!(
            "apiVersion: v1
kind: Config
clusters:
- name: here
  cluster: {{server: 'https://{}', certificate-authority: {}}}
users:
- name: me
  user: {{token: of-a-kubeconfig}}
contexts:
- name: it
  context: {{cluster: here, user: me}}
current-context: it
",
            Self::address(),
            ca.display()
        );
        fs::write(&file, text)?;
        Ok(file)
    }

    /// Whether all kinds are watched by this many.
    pub(crate) fn is_watched_by(&self, number: usize) -> bool {
        KINDS
            .iter()
            .all(|(kind, _)| self.server.watchers(kind) >= number)
    }
}

impl Objects for Front {
    fn put(&self, kind: &'static str, mut object: Value) -> Result<u64> {
        let generation = 1 + self.changes.fetch_add(1, Ordering::Relaxed);
        let name = object["metadata"]["name"].as_str().context("a name")?;
        object["metadata"]["uid"] = json!(format!("{kind}({name})"));
        object["metadata"]["generation"] = json!(generation);
        self.server.put(kind, object);
        Ok(generation)
    }

    fn delete(&self, kind: &'static str, name: &str) -> Result<()> {
        self.server.delete(kind, name);
        Ok(())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // It may have ended by itself, which its own message says.
        let _ = self.stop.take().map(|stop| stop.send(()));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: String,
}

impl Authority {
    pub(crate) fn new() -> Result<Self> {
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        Ok(Self {
            certificate: parameters.self_signed(&key)?.pem(),
            issuer: Issuer::new(parameters, key),
        })
    }

    /// Takes connections as the server of this address.
    fn acceptor(&self, address: IpAddr) -> Result<TlsAcceptor> {
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new(vec![address.to_string()])?.signed_by(&key, &self.issuer)?;
        let chain = vec![CertificateDer::from(certificate)];
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    backend: String,
    sent: Arc<Mutex<Vec<u8>>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, backend, sent) = (acceptor.clone(), backend.clone(), Arc::clone(&sent));
        // A client that hangs up, or does not trust the certificate, is none
        // of the others' business.
        tokio::spawn(async move { pass_on(stream, &acceptor, &backend, &sent).await.ok() });
    }
}

/// Passes on what both say, until one of them has finished.
async fn pass_on(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    backend: &str,
    sent: &Mutex<Vec<u8>>,
) -> io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(acceptor.accept(stream).await?);
    let (mut from_server, mut to_server) = TcpStream::connect(backend).await?.into_split();
    let asks = async {
        let mut buffer = [0; 4096];
        loop {
            let read = from_client.read(&mut buffer).await?;
            if read == 0 {
                return io::Result::Ok(());
            }
            sent.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(&buffer[..read]);
            to_server.write_all(&buffer[..read]).await?;
        }
    };
    let answers = async {
        let mut buffer = [0; 4096];
        loop {
            let read = from_server.read(&mut buffer).await?;
            if read == 0 {
                return io::Result::Ok(());
            }
            to_client.write_all(&buffer[..read]).await?;
            to_client.flush().await?;
        }
    };
    tokio::select! {
        done = asks => done,
        done = answers => done,
    }
}
