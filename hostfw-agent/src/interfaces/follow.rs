//! Feeds the table from the kernel.

use std::{future::Future, io, time::Duration};

use futures_util::{Stream, StreamExt, TryStreamExt};
use rtnetlink::{
    Handle, MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    sys::AsyncSocket,
};
use tokio::{sync::watch, time::Instant};
use tracing::{debug, error, warn};

use super::table::Table;
use crate::model::Interface;

/// A burst of changes (an interface with its addresses) is over when nothing
/// came for this long.
const QUIET: Duration = Duration::from_millis(50);
/// However long a burst goes on, what is known is told after this long.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between attempts to open a socket or to list anew.
const RETRY: Duration = Duration::from_secs(1);
/// Receive buffer of the notification socket: a node with hundreds of pods
/// makes bursts that overrun the kernel's default (212,992 bytes).
const RECEIVE_BYTES: u32 = 4 << 20;

/// Why the node's interfaces are not known.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The netlink socket could not be made.
    #[error("cannot open a route netlink socket: {0}")]
    Socket(#[source] io::Error),
    /// The kernel did not list links or addresses.
    #[error("cannot list {what}: {source}")]
    List {
        /// `links` or `addresses`.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
}

/// Lists the interfaces of the current network namespace and follows them from
/// then on, in a task of the current runtime. The receiver holds all
/// interfaces, sorted by index, and changes at most every 50 ms.
///
/// If the kernel drops notifications, or the socket fails, everything is
/// listed anew.
///
/// # Errors
///
/// If the socket cannot be opened, or the first list fails.
pub async fn follow() -> Result<watch::Receiver<Vec<Interface>>, InterfaceError> {
    let (mut notifications, mut table) = start().await?;
    let (sender, receiver) = watch::channel(table.interfaces());
    tokio::spawn(async move {
        loop {
            let reason = relay(&mut notifications, &mut table, &sender, list_all).await;
            if reason == Stopped::NoReceiver {
                return;
            }
            error!("the netlink socket that follows interfaces closed; opening another");
            (notifications, table) = loop {
                match start().await {
                    Ok(started) => break started,
                    Err(error) => {
                        error!(%error, "cannot follow interfaces");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            };
            publish(&sender, &table);
        }
    });
    Ok(receiver)
}

/// Lists the interfaces of the current network namespace once.
///
/// # Errors
///
/// If the socket cannot be opened, or the list fails.
pub async fn list() -> Result<Vec<Interface>, InterfaceError> {
    Ok(list_all().await?.interfaces())
}

type Notification = NetlinkPayload<RouteNetlinkMessage>;
type Notifications = std::pin::Pin<Box<dyn Stream<Item = Notification> + Send>>;

/// Subscribes first and lists afterwards, so that no change falls between: one
/// that is in the list already does no harm when it is applied again.
async fn start() -> Result<(Notifications, Table), InterfaceError> {
    let (mut connection, _, messages) = rtnetlink::new_multicast_connection(&[
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
    ])
    .map_err(InterfaceError::Socket)?;
    if let Err(error) = connection
        .socket_mut()
        .socket_mut()
        .set_rx_buf_sz(RECEIVE_BYTES)
    {
        debug!(%error, "the netlink socket keeps its default receive buffer");
    }
    tokio::spawn(connection);
    let notifications =
        messages.map(|(message, _): (NetlinkMessage<RouteNetlinkMessage>, _)| message.payload);
    Ok((Box::pin(notifications), list_all().await?))
}

/// Lists on a socket of its own: on that of the notifications an overrun could
/// hit the list.
async fn list_all() -> Result<Table, InterfaceError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(InterfaceError::Socket)?;
    let connection = tokio::spawn(connection);
    let listed = list_with(&handle).await;
    connection.abort();
    listed
}

async fn list_with(handle: &Handle) -> Result<Table, InterfaceError> {
    let mut table = Table::default();
    let mut links = std::pin::pin!(handle.link().get().execute());
    while let Some(link) = links
        .try_next()
        .await
        .map_err(|source| InterfaceError::List {
            what: "links",
            source,
        })?
    {
        table.apply(&RouteNetlinkMessage::NewLink(link));
    }
    let mut addresses = std::pin::pin!(handle.address().get().execute());
    while let Some(address) = addresses
        .try_next()
        .await
        .map_err(|source| InterfaceError::List {
            what: "addresses",
            source,
        })?
    {
        table.apply(&RouteNetlinkMessage::NewAddress(address));
    }
    Ok(table)
}

/// Why the relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    /// The notifications ended.
    NoNotifications,
    /// Nobody wants to know any more.
    NoReceiver,
}

/// Applies notifications to the table and tells of it when a burst is over.
async fn relay<F>(
    notifications: &mut (impl Stream<Item = Notification> + Unpin),
    table: &mut Table,
    sender: &watch::Sender<Vec<Interface>>,
    mut list: impl FnMut() -> F,
) -> Stopped
where
    F: Future<Output = Result<Table, InterfaceError>>,
{
    // When what is known is told, and the latest time for it.
    let mut due: Option<(Instant, Instant)> = None;
    let mut relist: Option<Instant> = None;
    loop {
        let deadline = [due.map(|(quiet, last)| quiet.min(last)), relist]
            .into_iter()
            .flatten()
            .min();
        let notification = tokio::select! {
            () = sender.closed() => return Stopped::NoReceiver,
            notification = notifications.next() => match notification {
                Some(notification) => Some(notification),
                None => return Stopped::NoNotifications,
            },
            () = sleep_until(deadline) => None,
        };
        let now = Instant::now();
        match notification {
            Some(NetlinkPayload::InnerMessage(message)) => {
                if table.apply(&message) {
                    let last = due.map_or(now + PATIENCE, |(_, last)| last);
                    due = Some((now + QUIET, last));
                }
            }
            Some(NetlinkPayload::Overrun(_)) => {
                warn!("the kernel dropped notifications about interfaces; listing them anew");
                relist = Some(now);
            }
            Some(_) => {}
            None => {
                if relist.is_some_and(|at| at <= now) {
                    match list().await {
                        Ok(listed) => {
                            *table = listed;
                            relist = None;
                            due = Some((now, now));
                        }
                        Err(error) => {
                            error!(%error, "cannot list interfaces");
                            relist = Some(Instant::now() + RETRY);
                        }
                    }
                }
                if due.is_some_and(|(quiet, last)| quiet.min(last) <= now) {
                    due = None;
                    publish(sender, table);
                }
            }
        }
    }
}

fn publish(sender: &watch::Sender<Vec<Interface>>, table: &Table) {
    let interfaces = table.interfaces();
    sender.send_if_modified(|current| {
        let changed = *current != interfaces;
        *current = interfaces;
        changed
    });
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use rtnetlink::packet_route::link::{LinkAttribute, LinkLayerType, LinkMessage};

    use super::*;

    fn link(index: u32, name: &str) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        RouteNetlinkMessage::NewLink(message)
    }

    fn table_with(index: u32, name: &str) -> Table {
        let mut table = Table::default();
        table.apply(&link(index, name));
        table
    }

    fn names(receiver: &mut watch::Receiver<Vec<Interface>>) -> Vec<String> {
        receiver
            .borrow_and_update()
            .iter()
            .map(|interface| interface.name.clone())
            .collect()
    }

    #[tokio::test]
    async fn a_burst_is_told_once() {
        let (sender, mut receiver) = watch::channel(Vec::new());
        let mut notifications = Box::pin(
            stream::iter([
                NetlinkPayload::InnerMessage(link(2, "eth0")),
                NetlinkPayload::InnerMessage(link(3, "eth1")),
            ])
            .chain(stream::pending()),
        );
        let mut table = Table::default();
        let relay = relay(&mut notifications, &mut table, &sender, || async {
            panic!("nothing was lost, so nothing is listed")
        });
        tokio::select! {
            _ = relay => panic!("the relay ended"),
            changed = receiver.changed() => changed.expect("the sender lives"),
        }
        assert_eq!(names(&mut receiver), ["eth0", "eth1"]);
        assert!(!receiver.has_changed().expect("the sender lives"));
    }

    #[tokio::test]
    async fn after_an_overrun_everything_is_listed_anew() {
        let (sender, mut receiver) = watch::channel(Vec::new());
        let mut notifications = Box::pin(
            stream::iter([
                NetlinkPayload::InnerMessage(link(2, "gone")),
                NetlinkPayload::Overrun(Vec::new()),
            ])
            .chain(stream::pending()),
        );
        let mut table = Table::default();
        let relay = relay(&mut notifications, &mut table, &sender, || async {
            Ok(table_with(7, "listed"))
        });
        tokio::select! {
            _ = relay => panic!("the relay ended"),
            changed = receiver.changed() => changed.expect("the sender lives"),
        }
        assert_eq!(names(&mut receiver), ["listed"]);
    }

    #[tokio::test]
    async fn a_failed_list_is_tried_again() {
        let (sender, mut receiver) = watch::channel(Vec::new());
        let mut notifications =
            Box::pin(stream::iter([NetlinkPayload::Overrun(Vec::new())]).chain(stream::pending()));
        let mut table = Table::default();
        let mut attempts = 0;
        let relay = relay(&mut notifications, &mut table, &sender, || {
            attempts += 1;
            let first = attempts == 1;
            async move {
                if first {
                    Err(InterfaceError::Socket(io::Error::other("no")))
                } else {
                    Ok(table_with(7, "listed"))
                }
            }
        });
        tokio::select! {
            _ = relay => panic!("the relay ended"),
            changed = receiver.changed() => changed.expect("the sender lives"),
        }
        assert_eq!(names(&mut receiver), ["listed"]);
        assert_eq!(attempts, 2);
    }

    #[tokio::test]
    async fn the_end_of_notifications_is_reported() {
        let (sender, _receiver) = watch::channel(Vec::new());
        let mut table = Table::default();
        let stopped = relay(&mut stream::empty(), &mut table, &sender, || async {
            Ok(Table::default())
        })
        .await;
        assert_eq!(stopped, Stopped::NoNotifications);
    }

    #[tokio::test]
    async fn without_a_receiver_the_relay_ends() {
        let (sender, receiver) = watch::channel(Vec::new());
        drop(receiver);
        let mut table = Table::default();
        let stopped = relay(&mut stream::pending(), &mut table, &sender, || async {
            Ok(Table::default())
        })
        .await;
        assert_eq!(stopped, Stopped::NoReceiver);
    }

    #[tokio::test]
    async fn the_loopback_interface_is_listed() {
        let interfaces = list().await.expect("any process may list links");
        let lo = interfaces
            .iter()
            .find(|interface| interface.name == "lo")
            .expect("every network namespace has lo");
        assert_eq!((lo.index, lo.loopback, lo.link_header), (1, true, true));
    }
}
