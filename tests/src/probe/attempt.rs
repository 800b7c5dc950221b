//! One socket's way from connecting to an answer, and the loop that drives
//! many of them at once.

use std::{
    io::{self, Read as _, Write as _},
    os::fd::AsRawFd as _,
    time::Instant,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Action, End, Probe, end_of, socket_address, source_address, token};
use crate::{echo::LONGEST, packet::checksum, topology::Family};

/// Length of a datagram that does not fit into one packet at an MTU of 1500.
const BIG: usize = 4000;

/// Bytes of an ICMP echo message before its data.
const ECHO_HEADER: usize = 8;

#[derive(Debug)]
pub(super) struct Attempt {
    probe: Probe,
    token: String,
    socket: Option<Socket>,
    stage: Stage,
    received: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    Connecting,
    Waiting,
    Done(End),
}

impl Attempt {
    /// Begins to connect, from the namespace of the calling thread.
    pub(super) fn start(probe: Probe) -> Self {
        let mut attempt = Self {
            probe,
            token: format!("hostfw-{}", token()),
            socket: None,
            stage: Stage::Connecting,
            received: Vec::new(),
        };
        match connect(probe) {
            Ok(socket) => attempt.socket = Some(socket),
            Err(error) => attempt.stage = Stage::Done(end_of(&error)),
        }
        attempt
    }

    /// How it ended; what has not ended by now was not answered.
    pub(super) fn end(&self) -> End {
        match &self.stage {
            Stage::Done(end) => end.clone(),
            Stage::Connecting | Stage::Waiting => End::Silence,
        }
    }

    /// Sends a new message over the connection, unless it is broken.
    pub(super) fn again(&mut self) {
        match self.stage {
            Stage::Waiting | Stage::Done(End::Answered(_)) => {
                self.token = format!("hostfw-{}", token());
                self.send();
            }
            Stage::Connecting | Stage::Done(_) => {}
        }
    }

    fn step(&mut self) {
        match self.stage {
            Stage::Connecting => self.connected(),
            Stage::Waiting => self.receive(),
            Stage::Done(_) => {}
        }
    }

    fn connected(&mut self) {
        match self.socket.as_ref().map(Socket::take_error) {
            Some(Ok(None)) => self.send(),
            Some(Ok(Some(error)) | Err(error)) => self.stage = Stage::Done(end_of(&error)),
            None => {}
        }
    }

    fn send(&mut self) {
        let message = match self.probe.action {
            Action::Tcp(..) | Action::Udp(..) => format!("{}\n", self.token).into_bytes(),
            Action::BigUdp(_) => {
                let mut message = format!("{} ", self.token).into_bytes();
                message.resize(BIG, b'.');
                message
            }
            Action::Ping(_) => {
                let mut message = vec![0; ECHO_HEADER];
                message[0] = match self.probe.family {
                    Family::V4 => 8,
                    Family::V6 => 128,
                };
                message.extend(self.token.as_bytes());
                if self.probe.family == Family::V4 {
                    let sum = checksum(&message);
                    message[2..4].copy_from_slice(&sum.to_be_bytes());
                }
                message
            }
        };
        let Some(mut socket) = self.socket.as_ref() else {
            return;
        };
        self.stage = match socket.write(&message) {
            Ok(_) => Stage::Waiting,
            Err(error) => Stage::Done(end_of(&error)),
        };
    }

    fn receive(&mut self) {
        let Some(mut socket) = self.socket.as_ref() else {
            return;
        };
        let mut buffer = [0; LONGEST + 64];
        let length = match socket.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                self.stage = Stage::Done(end_of(&error));
                return;
            }
        };
        let received = &buffer[..length];
        match self.probe.action {
            Action::Tcp(..) if length == 0 => {
                self.stage = Stage::Done(End::Failed("connection closed".to_owned()));
            }
            Action::Tcp(..) => {
                self.received.extend(received);
                // Answers to what was asked before may come late.
                while let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.received.drain(..=end).collect();
                    self.answer(&line, None);
                }
            }
            Action::Udp(..) => self.answer(received, None),
            Action::BigUdp(_) => self.answer(received, Some(BIG)),
            Action::Ping(target) => {
                let data = received.get(ECHO_HEADER..).unwrap_or_default();
                if data == self.token.as_bytes() {
                    // A connected socket hears only its peer.
                    self.stage = Stage::Done(End::Answered(target.to_string()));
                }
            }
        }
    }

    /// Takes `NAME TOKEN...`, if it is the answer to the last question;
    /// `echoed` is the length of what must have come back, if it matters.
    fn answer(&mut self, message: &[u8], echoed: Option<usize>) {
        let text = String::from_utf8_lossy(message);
        let mut words = text.split_whitespace();
        let (Some(name), Some(token)) = (words.next(), words.next()) else {
            return;
        };
        let whole = echoed.is_none_or(|length| message.len() == name.len() + 1 + length);
        if token == self.token && whole {
            self.stage = Stage::Done(End::Answered(name.to_owned()));
        }
    }
}

fn connect(probe: Probe) -> io::Result<Socket> {
    let domain = match probe.family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let (kind, protocol) = match probe.action {
        Action::Tcp(..) => (Type::STREAM, Protocol::TCP),
        Action::Udp(..) | Action::BigUdp(_) => (Type::DGRAM, Protocol::UDP),
        Action::Ping(_) => (
            Type::DGRAM,
            match probe.family {
                Family::V4 => Protocol::ICMPV4,
                Family::V6 => Protocol::ICMPV6,
            },
        ),
    };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.bind(&source_address(probe.family).into())?;
    if kind == Type::STREAM {
        socket.set_tcp_nodelay(true)?;
    }
    match socket.connect(&socket_address(probe).into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        Ok(()) | Err(_) => Ok(socket),
    }
}

/// How often to look at what has come when the time is over: a connection, and
/// its answer.
const LAST_LOOKS: usize = 2;

/// Drives them until all have ended or the time is over. What has come by then
/// counts, even if this thread did not get to run.
pub(super) fn drive<'a>(attempts: impl Iterator<Item = &'a mut Attempt>, until: Instant) {
    let mut open: Vec<_> = attempts.collect();
    let mut last_looks = 0;
    loop {
        open.retain(|attempt| !matches!(attempt.stage, Stage::Done(_)));
        let left = until.saturating_duration_since(Instant::now());
        if open.is_empty() || last_looks == LAST_LOOKS {
            return;
        }
        last_looks += usize::from(left.is_zero());
        let mut polled: Vec<_> = open
            .iter()
            .map(|attempt| libc::pollfd {
                // Negative numbers are passed over.
                fd: attempt
                    .socket
                    .as_ref()
                    .map_or(-1, |socket| socket.as_raw_fd()),
                events: match attempt.stage {
                    Stage::Connecting => libc::POLLOUT,
                    Stage::Waiting | Stage::Done(_) => libc::POLLIN,
                },
                revents: 0,
            })
            .collect();
        // Rounded up, so that nobody spins through the last millisecond.
        let left = left.as_nanos().div_ceil(1_000_000);
        let milliseconds = i32::try_from(left).unwrap_or(i32::MAX);
        // SAFETY: the pointer and the length are of one vector.
        let ready = unsafe {
            libc::poll(
                polled.as_mut_ptr(),
                polled.len() as libc::nfds_t,
                milliseconds,
            )
        };
        if ready <= 0 {
            continue;
        }
        for (attempt, polled) in open.iter_mut().zip(&polled) {
            if polled.revents != 0 {
                attempt.step();
            }
        }
    }
}
