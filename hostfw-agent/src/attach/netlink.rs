//! Just enough netlink: requests with attributes, and their answers.
//!
//! See netlink(7); sizes and alignment are those of linux/netlink.h. Headers
//! and common attributes are in the byte order of the host.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;
/// `NLA_TYPE_MASK`: the rest are flags.
const TYPE_MASK: u16 = 0x3fff;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// Longest answer that is read at once. The kernel fills at most 32 KiB for a
/// dump (netlink_dump in net/netlink/af_netlink.c), and one message is shorter.
const BUFFER: usize = 1 << 16;

const fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

/// One answer: its type and what follows the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// `nlmsg_type`.
    pub(crate) kind: u16,
    /// The payload: a header of the protocol's own, then attributes.
    pub(crate) payload: Vec<u8>,
}

/// A request in the making.
#[derive(Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// Begins a request with the protocol's own header. Asks for an
    /// acknowledgement unless `flags` asks for a dump.
    pub(crate) fn new(kind: u16, flags: i32, header: &[u8]) -> Self {
        let mut flags = flags | libc::NLM_F_REQUEST;
        if flags & libc::NLM_F_DUMP != libc::NLM_F_DUMP {
            flags |= libc::NLM_F_ACK;
        }
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags as u16).to_ne_bytes());
        // The only request on its socket: any number serves.
        bytes[8..12].copy_from_slice(&1_u32.to_ne_bytes());
        bytes.extend_from_slice(header);
        bytes.resize(aligned(bytes.len()), 0);
        Self { bytes }
    }

    /// Adds an attribute.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (ATTRIBUTE_HEADER + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(aligned(self.bytes.len()), 0);
        self
    }

    /// Adds an attribute that holds the attributes that `inside` adds.
    pub(crate) fn nested(self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        let mut request = inside(self.attribute(kind | NESTED, &[]));
        let length = (request.bytes.len() - start) as u16;
        request.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        request
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }

    /// Sends the request on a socket of its own and hands every answer to
    /// `each`. Ends at the acknowledgement or the end of the dump.
    ///
    /// # Errors
    ///
    /// What the kernel answered, as an error number.
    pub(crate) fn send(self, protocol: i32, mut each: impl FnMut(Message)) -> io::Result<()> {
        let socket = open(protocol)?;
        let request = self.finish();
        // SAFETY: the buffer is valid for its length.
        let sent = unsafe {
            libc::send(
                socket.as_raw_fd(),
                request.as_ptr().cast(),
                request.len(),
                0,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut buffer = vec![0_u8; BUFFER];
        loop {
            // SAFETY: the buffer is valid for writes of its length.
            let received = unsafe {
                libc::recv(
                    socket.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_TRUNC,
                )
            };
            if received < 0 {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error);
            }
            let received = received as usize;
            if received > buffer.len() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "netlink answer: expected at most {} bytes, found {received}",
                        buffer.len()
                    ),
                ));
            }
            if read(&buffer[..received], &mut each)? {
                return Ok(());
            }
        }
    }
}

fn open(protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe {
        libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            protocol,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that is ours alone.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: integers only: all zeros is valid.
    let mut kernel: libc::sockaddr_nl = unsafe { mem::zeroed() };
    kernel.nl_family = libc::AF_NETLINK as u16;
    // SAFETY: a valid address of the length that is given. Connected to the
    // kernel, the socket hears of no other process.
    let connected = unsafe {
        libc::connect(
            socket.as_raw_fd(),
            std::ptr::from_ref(&kernel).cast(),
            size_of_val(&kernel) as u32,
        )
    };
    if connected != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(
        bytes.get(offset..offset + 2)?.try_into().ok()?,
    ))
}

/// A number of the host's byte order at an offset.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(
        bytes.get(offset..offset + 4)?.try_into().ok()?,
    ))
}

/// Reads the messages of one datagram. `true`: it was the last.
fn read(mut bytes: &[u8], each: &mut impl FnMut(Message)) -> io::Result<bool> {
    while bytes.len() >= HEADER {
        let length = u32_at(bytes, 0).unwrap_or(0) as usize;
        let kind = u16_at(bytes, 4).unwrap_or(0);
        let Some(payload) = bytes.get(HEADER..length) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "netlink message: expected between {HEADER} and {} bytes, found {length}",
                    bytes.len()
                ),
            ));
        };
        match i32::from(kind) {
            libc::NLMSG_NOOP => {}
            libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                // Both begin with an error number, negated; 0 is success.
                return match u32_at(payload, 0).map_or(0, |number| number as i32) {
                    0 => Ok(true),
                    number => Err(io::Error::from_raw_os_error(-number)),
                };
            }
            _ => each(Message {
                kind,
                payload: payload.to_vec(),
            }),
        }
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
    }
    Ok(false)
}

/// Iterates over attributes: type without flags, and value. Ends at the first
/// that does not fit.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        let value = bytes.get(ATTRIBUTE_HEADER..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a type.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(found, _)| *found == kind)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_the_round_trip() {
        let bytes = Request::new(36, libc::NLM_F_DUMP, &[9; 5])
            .attribute(1, b"bpf\0")
            .nested(2, |request| {
                request.attribute(7, &[1]).attribute(8, &[2, 3])
            })
            .finish();
        assert_eq!(u32_at(&bytes, 0), Some(bytes.len() as u32));
        // A dump is not acknowledged.
        assert_eq!(
            i32::from(u16_at(&bytes, 6).unwrap()),
            libc::NLM_F_DUMP | libc::NLM_F_REQUEST
        );
        let found: Vec<_> = attributes(&bytes[HEADER + 8..]).collect();
        assert_eq!(found[0], (1, &b"bpf\0"[..]));
        let inside: Vec<_> = attributes(found[1].1).collect();
        assert_eq!(inside, [(7, &[1][..]), (8, &[2, 3][..])]);
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_truncated_attribute_ends_the_list() {
        let mut bytes = vec![8, 0, 1, 0, 1, 2, 3, 4];
        bytes.extend([200, 0, 2, 0, 1]);
        assert_eq!(
            attributes(&bytes).collect::<Vec<_>>(),
            [(1, &[1, 2, 3, 4][..])]
        );
        // A length below that of the header must not loop for ever.
        assert_eq!(attributes(&[0, 0, 0, 0]).count(), 0);
    }

    fn message(kind: i32, payload: &[u8]) -> Vec<u8> {
        Request::new(kind as u16, 0, payload).finish()
    }

    #[test]
    fn a_dump_ends_at_done_and_an_error_is_an_error() {
        let mut seen = Vec::new();
        let mut datagram = message(99, b"abcd");
        datagram.extend(message(libc::NLMSG_DONE, &[0; 4]));
        assert!(read(&datagram, &mut |message| seen.push(message)).unwrap());
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].kind, &seen[0].payload[..]), (99, &b"abcd"[..]));

        let refused = message(libc::NLMSG_ERROR, &(-libc::ENOENT).to_ne_bytes());
        let error = read(&refused, &mut |_| ()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));

        let mut short = message(99, b"abcd");
        short[0] = 200;
        assert!(read(&short, &mut |_| ()).is_err());
    }
}
