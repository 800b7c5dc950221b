//! Services that answer every line with their own name and that line, so that
//! a probe knows who answered.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Namespace;

/// How long a stopped service may take to notice.
const TICK: Duration = Duration::from_millis(50);

/// The longest message, in bytes.
pub const LONGEST: usize = 8192;

/// Services of one host; stopped when dropped.
#[derive(Debug)]
pub struct Services {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Services {
    /// Starts services in the namespace that answer as `name`, on these TCP
    /// and UDP ports of all addresses, IPv4 and IPv6.
    ///
    /// # Errors
    ///
    /// If a port cannot be had.
    pub fn start(
        namespace: &Namespace,
        name: &'static str,
        tcp: &[u16],
        udp: &[u16],
    ) -> Result<Self> {
        let (listeners, sockets) = namespace
            .run(|| -> io::Result<_> {
                let listeners = tcp.iter().map(|port| listen(*port));
                let sockets = udp.iter().map(|port| bind(*port));
                Ok((
                    listeners.collect::<io::Result<Vec<_>>>()?,
                    sockets.collect::<io::Result<Vec<_>>>()?,
                ))
            })?
            .with_context(|| format!("services of {name}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for listener in listeners {
            let stop = Arc::clone(&stop);
            threads.push(thread::spawn(move || accept(&listener, name, &stop)));
        }
        for socket in sockets {
            let stop = Arc::clone(&stop);
            threads.push(thread::spawn(move || answer(&socket, name, &stop)));
        }
        Ok(Self { stop, threads })
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic there has been reported already.
            drop(thread.join());
        }
    }
}

fn dual_stack(kind: Type, protocol: Protocol, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, kind, Some(protocol))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.set_read_timeout(Some(TICK))?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    Ok(socket)
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = dual_stack(Type::STREAM, Protocol::TCP, port)?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn bind(port: u16) -> io::Result<UdpSocket> {
    Ok(dual_stack(Type::DGRAM, Protocol::UDP, port)?.into())
}

/// Whether the error only says that nothing came within [`TICK`].
fn idle(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn accept(listener: &TcpListener, name: &'static str, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let stop = Arc::clone(stop);
                thread::spawn(move || converse(stream, name, &stop));
            }
            Err(error) if idle(&error) => {}
            // The peer gave up in between; anything else will show in probes.
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn converse(stream: TcpStream, name: &str, stop: &AtomicBool) {
    if stream.set_read_timeout(Some(TICK)).is_err() || stream.set_nodelay(true).is_err() {
        return;
    }
    let mut reader = BufReader::new(&stream);
    let mut line = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if line.ends_with(b"\n") => {
                let reply = [name.as_bytes(), b" ", &line].concat();
                if (&stream).write_all(&reply).is_err() {
                    return;
                }
                line.clear();
            }
            Ok(_) => {}
            Err(error) if idle(&error) => {}
            Err(_) => return,
        }
    }
}

fn answer(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut buffer = [0; LONGEST];
    while !stop.load(Ordering::Relaxed) {
        // An error may be an ICMP message about an earlier answer.
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let reply = [name.as_bytes(), b" ", &buffer[..length]].concat();
            drop(socket.send_to(&reply, peer));
        }
    }
}
