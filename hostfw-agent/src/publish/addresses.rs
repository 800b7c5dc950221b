//! The addresses of this node's endpoints, for the selectors of other nodes: a
//! `NodeAddresses` with the node's name, which is written when it changes.

use tokio::{sync::watch, time::Instant};
use tracing::warn;

use super::{Pace, some_of, write::Pen};
use crate::{
    model::{EndpointAddresses, MOST_ADDRESSES, MOST_ENDPOINTS},
    resource::{Metadata, NodeAddressesSpec, Object, Resource, ToldEndpoint},
};

/// Writes for as long as the agent tells.
pub(super) async fn run(
    pen: Pen,
    mut told: watch::Receiver<Option<Vec<EndpointAddresses>>>,
    pace: Pace,
) {
    let about = format!("NodeAddresses({})", pen.node);
    let mut written: Option<(Instant, NodeAddressesSpec)> = None;
    let mut failures = 0;
    if told.wait_for(Option::is_some).await.is_err() {
        return;
    }
    loop {
        // What comes until it is due goes with it.
        let settled = Instant::now() + some_of(pace.settle);
        let rested = written.as_ref().map(|(when, _)| *when + pace.urgent);
        tokio::time::sleep_until(rested.map_or(settled, |rested| rested.max(settled))).await;
        let (spec, left_out) = spec(told.borrow_and_update().as_deref().unwrap_or_default());
        let refresh = |when: Instant| when + pace.refresh <= Instant::now();
        let due = written
            .as_ref()
            .is_none_or(|(when, last)| *last != spec || refresh(*when));
        if due {
            let done = pen.apply("nodeaddresses", object(&pen.node, &spec)).await;
            let otherwise = "rules on other nodes know only expectedIPs of this one";
            if !pen.note(&about, done, otherwise) {
                let [first, last] = pace.retry;
                let wait = (first * 2u32.saturating_pow(failures)).min(last);
                failures = failures.saturating_add(1).min(16);
                tokio::time::sleep(some_of(wait)).await;
                if told.has_changed().is_err() {
                    return;
                }
                continue;
            }
            failures = 0;
            if left_out > 0 {
                warn!(
                    about,
                    left_out, "more addresses than other nodes can be told"
                );
                let message = format!(
                    "{left_out} addresses are not told: at most {MOST_ENDPOINTS} endpoints and \
                     {MOST_ADDRESSES} addresses are"
                );
                pen.notes.set(&about, message);
            }
            written = Some((Instant::now(), spec));
        }
        let again = written.as_ref().map(|(when, _)| *when + pace.refresh);
        tokio::select! {
            changed = told.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)) => {}
        }
    }
}

/// What is told, and how many addresses do not fit.
fn spec(all: &[EndpointAddresses]) -> (NodeAddressesSpec, usize) {
    let mut endpoints = Vec::new();
    let (mut told, mut left_out) = (0, 0);
    for one in all {
        told += one.addresses.len();
        if told > MOST_ADDRESSES || endpoints.len() >= MOST_ENDPOINTS {
            told -= one.addresses.len();
            left_out += one.addresses.len();
            continue;
        }
        endpoints.push(ToldEndpoint {
            name: one.name.clone(),
            labels: one.labels.clone(),
            addresses: one.addresses.iter().map(ToString::to_string).collect(),
        });
    }
    (NodeAddressesSpec { endpoints }, left_out)
}

fn object(node: &str, spec: &NodeAddressesSpec) -> serde_json::Value {
    Resource::NodeAddresses(Object {
        metadata: Metadata {
            name: node.to_owned(),
            ..Metadata::default()
        },
        spec: spec.clone(),
    })
    .to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::{Object as Valid, validate};

    fn one(name: &str, count: u32) -> EndpointAddresses {
        let addresses = (1..=count).map(|it| (0x0a00_0000 + it).to_be_bytes().into());
        EndpointAddresses {
            name: name.to_owned(),
            labels: Default::default(),
            addresses: addresses.collect(),
        }
    }

    #[test]
    fn what_is_told_is_what_others_read() {
        let mut made = one("edge/eth0", 2);
        made.labels = [("zone".to_owned(), "a".to_owned())].into();
        let all = [made, one("node1-eth1", 0), one("node1-eth2", 3)];
        let (spec, left_out) = spec(&all);
        assert_eq!(left_out, 0);
        let read = Resource::from_value(&object("node1", &spec)).unwrap();
        let Valid::NodeAddresses(read) = validate(&read).unwrap() else {
            panic!("it is another kind");
        };
        assert_eq!(read.node, "node1");
        assert_eq!(read.endpoints, all);
    }

    #[test]
    fn what_others_would_refuse_is_left_out() {
        let most = u32::try_from(MOST_ADDRESSES).unwrap();
        let (fits, left_out) = spec(&[one("a", 5), one("b", most), one("c", most - 5)]);
        assert_eq!((fits.endpoints.len(), left_out), (2, MOST_ADDRESSES));
        validate(&Resource::from_value(&object("n", &fits)).unwrap()).unwrap();
        let many: Vec<_> = (0..2000).map(|it| one(&format!("e{it}"), 1)).collect();
        let (fits, left_out) = spec(&many);
        assert_eq!(left_out, 2000 - MOST_ENDPOINTS);
        validate(&Resource::from_value(&object("n", &fits)).unwrap()).unwrap();
    }
}
