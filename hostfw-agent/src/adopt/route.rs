//! Where the kernel's routing leads (rtnetlink(7)).

use std::{io, net::IpAddr};

use crate::attach::netlink::{Request, attribute, u32_at};

/// `struct rtmsg`.
const RTMSG: usize = 12;

/// Where packets to an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To this host.
    Here,
    /// Out of the interface with this index.
    Out(u32),
}

/// Asks the kernel; `None` if it knows no way.
pub(super) fn route(to: IpAddr) -> Option<Route> {
    let mut found = None;
    let asked = request(to).send(libc::NETLINK_ROUTE, |message| {
        if message.kind == libc::RTM_NEWROUTE {
            found = parse(&message.payload);
        }
    });
    match asked {
        Ok(()) => found,
        // No route is an error here.
        Err(error) => {
            let _: io::Error = error;
            None
        }
    }
}

fn request(to: IpAddr) -> Request {
    let (family, bytes) = match to {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let mut header = [0; RTMSG];
    header[0] = family as u8;
    header[1] = bytes.len() as u8 * 8;
    Request::new(libc::RTM_GETROUTE, 0, &header).attribute(libc::RTA_DST, &bytes)
}

fn parse(message: &[u8]) -> Option<Route> {
    /// Offset of `rtm_type`.
    const TYPE: usize = 7;
    match *message.get(TYPE)? {
        libc::RTN_LOCAL => Some(Route::Here),
        libc::RTN_UNICAST => {
            let interface = attribute(message.get(RTMSG..)?, libc::RTA_OIF)?;
            Some(Route::Out(u32_at(interface, 0)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_leads_here() {
        assert_eq!(route([127, 0, 0, 1].into()), Some(Route::Here));
    }

    #[test]
    fn a_message_is_read_and_one_that_is_cut_is_not() {
        let mut message = vec![0; RTMSG];
        message[7] = libc::RTN_UNICAST;
        message.extend([8, 0, 4, 0]);
        message.extend(7_u32.to_ne_bytes());
        assert_eq!(parse(&message), Some(Route::Out(7)));
        assert_eq!(parse(&message[..RTMSG + 6]), None);
        assert_eq!(parse(&message[..5]), None);
        message[7] = libc::RTN_BLACKHOLE;
        assert_eq!(parse(&message), None);
    }
}
