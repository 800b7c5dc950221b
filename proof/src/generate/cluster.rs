//! Pods and services.

use std::collections::BTreeMap;

use hostfw_agent::resource::{
    EndpointPort, EndpointSliceSpec, Metadata, NumberOrText, Object, Resource, SliceEndpoint,
    SlicePort, WorkloadEndpointSpec,
};

use super::{
    objects::{labels, metadata},
    pools::{ACCOUNTS, ADDRESSES_V4, ADDRESSES_V6, NAMESPACES, PORT_NAMES, PORTS},
};
use crate::random::Random;

/// Now and then a few.
pub(super) fn objects(random: &mut Random) -> Vec<Resource> {
    let mut objects = Vec::new();
    if random.percent(50) {
        for name in random.subset(40, &["a", "b", "web-0", "web-1", "z"]) {
            objects.push(workload(random, name));
        }
    }
    if random.percent(85) {
        for name in random.subset(70, &["web-1", "web-2", "other"]) {
            objects.push(slice(random, name));
        }
    }
    objects
}

fn within(random: &mut Random, name: &str, labels: BTreeMap<String, String>) -> Metadata {
    Metadata {
        namespace: Some((*random.one_of(&NAMESPACES)).to_owned()),
        ..metadata(name, labels)
    }
}

fn workload(random: &mut Random, name: &str) -> Resource {
    let mut own = labels(random, 30);
    // What its author says of these does not count.
    if random.percent(10) {
        own.insert("projectcalico.org/namespace".to_owned(), "other".to_owned());
        own.insert(
            "projectcalico.org/serviceaccount".to_owned(),
            "a".to_owned(),
        );
    }
    if random.percent(5) {
        own.insert("pcns.team".to_owned(), "web".to_owned());
    }
    let metadata = within(random, name, own);
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let account = random.some(70, |random| (*random.one_of(&ACCOUNTS)).to_owned());
    let mut profiles = Vec::new();
    if random.percent(85) {
        profiles.push(format!("kns.{namespace}"));
        profiles.extend(
            account
                .iter()
                .map(|account| format!("ksa.{namespace}.{account}")),
        );
    }
    let mut addresses = random.several(&(0..=2), |random| {
        (*random.one_of(&ADDRESSES_V4)).to_owned()
    });
    addresses.extend(random.several(&(0..=1), |random| {
        (*random.one_of(&ADDRESSES_V6)).to_owned()
    }));
    let ports = random.few(40, |random| EndpointPort {
        name: (*random.one_of(&PORT_NAMES)).to_owned(),
        protocol: protocol(random),
        port: (*random.one_of(&PORTS)).into(),
    });
    Resource::WorkloadEndpoint(Object {
        metadata,
        spec: WorkloadEndpointSpec {
            service_account_name: account,
            ip_networks: addresses,
            profiles,
            ports,
        },
    })
}

fn slice(random: &mut Random, name: &str) -> Resource {
    let mut own = BTreeMap::new();
    if random.percent(90) {
        let service = (*random.one_of(&["web", "web", "other"])).to_owned();
        own.insert("kubernetes.io/service-name".to_owned(), service);
    }
    let v4 = random.percent(55);
    let pool: &[&str] = if v4 { &ADDRESSES_V4 } else { &ADDRESSES_V6 };
    let least = usize::from(random.percent(90));
    let endpoints = random.several(&(least..=4), |random| SliceEndpoint {
        addresses: vec![(*random.one_of(pool)).to_owned()],
    });
    let ports = random.several(&(least..=3), |random| SlicePort {
        name: None,
        protocol: random.some(80, |random| match protocol(random) {
            NumberOrText::Text(text) => text,
            NumberOrText::Number(number) => number.to_string(),
        }),
        port: random.some(90, |random| (*random.one_of(&PORTS)).into()),
    });
    Resource::EndpointSlice(Object {
        metadata: Metadata {
            namespace: Some(home(random)),
            ..metadata(name, own)
        },
        spec: EndpointSliceSpec {
            address_type: Some(if v4 { "IPv4" } else { "IPv6" }.to_owned()),
            endpoints,
            ports,
        },
    })
}

/// A namespace of services, and of rules that name them: most often the same.
pub(super) fn home(random: &mut Random) -> String {
    let [most, ..] = NAMESPACES;
    match random.percent(85) {
        true => most.to_owned(),
        false => (*random.one_of(&NAMESPACES)).to_owned(),
    }
}

fn protocol(random: &mut Random) -> NumberOrText {
    NumberOrText::Text((*random.one_of(&["TCP", "TCP", "UDP", "SCTP"])).to_owned())
}
