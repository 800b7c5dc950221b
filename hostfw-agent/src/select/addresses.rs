//! Which addresses and ports a rule's selectors and named ports stand for.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    Point, UnknownAddresses,
    govern::Pair,
    labels::Profiles,
    matches::{LabelSets, Matched},
    members::{Asked, Cache, Texts},
};
use crate::{
    model::{
        EndpointSlice, HostEndpoint, Kind, NamedPort, NetworkSet, NodeAddresses, ObjectRef,
        ServiceName, WorkloadEndpoint, is_of_one_node,
    },
    selector::Selector,
};

/// Something with labels that has addresses.
struct Object<'a> {
    /// The number of its labels.
    labels: usize,
    nets: Arc<[IpNet]>,
    ports: &'a [NamedPort],
    /// The endpoint has addresses, but only its own node knows which.
    elsewhere: Option<&'a str>,
    /// The addresses are those that another node tells.
    told: bool,
}

/// Resolves selectors to the addresses of all endpoints and sets of the
/// cluster.
pub(super) struct Addresses<'a> {
    /// Endpoints, then sets, then workloads.
    objects: Vec<Object<'a>>,
    endpoints: usize,
    /// The objects by the numbers of their labels.
    by_labels: Vec<Vec<u32>>,
    sets: &'a LabelSets,
    /// What was found out about selectors, now and before.
    asked: &'a mut HashMap<Texts, Asked>,
    round: u64,
    resolved: HashMap<Texts, Resolved>,
    /// By name: the objects that declare the port. Made when it is asked for.
    ports: Option<HashMap<&'a str, Vec<(usize, &'a NamedPort)>>>,
    slices: &'a [Arc<EndpointSlice>],
    services: Option<HashMap<&'a ServiceName, Vec<&'a EndpointSlice>>>,
    unknown: BTreeSet<(String, ObjectRef)>,
}

/// What has labels and addresses.
#[derive(Clone, Copy, Default)]
pub(super) struct Cluster<'a> {
    pub(super) endpoints: &'a [Arc<HostEndpoint>],
    /// Endpoints that templates made, here and elsewhere.
    pub(super) made: [&'a [HostEndpoint]; 2],
    pub(super) networks: &'a [Arc<NetworkSet>],
    pub(super) workloads: &'a [Arc<WorkloadEndpoint>],
    pub(super) slices: &'a [Arc<EndpointSlice>],
    /// What other nodes tell of themselves.
    pub(super) told: &'a [Arc<NodeAddresses>],
}

/// What a pair of selectors stands for.
#[derive(Clone)]
struct Resolved {
    nets: Arc<[IpNet]>,
    /// Names of endpoints that match, whose addresses are not known.
    unknown: Vec<String>,
}

impl<'a> Addresses<'a> {
    /// An endpoint has its `expectedIPs`; without any, the addresses that the
    /// interfaces hold which it governs: here as they are, on another node as it
    /// tells them, of its own endpoints and no others. Calico knows `expectedIPs` only:
    /// there, an endpoint without them matches no selector's packets
    /// (felix/labelindex/named_port_index.go).
    pub(super) fn new(
        cluster: Cluster<'a>,
        profiles: &Profiles<'_>,
        node: &str,
        governed: &[Pair<'a>],
        cache: &'a mut Cache,
    ) -> Self {
        let made = || cluster.made.into_iter().flatten();
        let known = cluster.endpoints.len() + made().count() + cluster.networks.len();
        let round = cache.begin(cluster.workloads, profiles, known);
        let held = Held::new(cluster.told, node, governed);
        let mut objects = Vec::with_capacity(known);
        for endpoint in cluster.endpoints {
            let (labels, expected) = cache.endpoint(endpoint, profiles);
            objects.push(held.object(endpoint, labels, expected));
        }
        for endpoint in made() {
            let labels = cache.labels(&profiles.labels_of_endpoint(endpoint));
            let expected = endpoint.expected_ips.iter().copied();
            let expected = expected.map(IpNet::from).collect();
            objects.push(held.object(endpoint, labels, expected));
        }
        let endpoints = objects.len();
        let of_many = |labels, nets, ports| Object {
            labels,
            nets,
            ports,
            elsewhere: None,
            told: false,
        };
        for set in cluster.networks {
            let (labels, nets) = cache.network(set, profiles);
            objects.push(of_many(labels, nets, &[]));
        }
        let Cache {
            asked,
            groups,
            sets,
            ..
        } = cache;
        for group in groups.all().iter().filter(|group| !group.nets.is_empty()) {
            objects.push(of_many(
                group.labels,
                Arc::clone(&group.nets),
                &group.one.ports,
            ));
        }
        let mut by_labels = vec![Vec::new(); sets.len()];
        for (number, object) in (0..).zip(&objects) {
            by_labels[object.labels].push(number);
        }
        Self {
            objects,
            endpoints,
            by_labels,
            sets,
            asked,
            round,
            resolved: HashMap::new(),
            ports: None,
            slices: cluster.slices,
            services: None,
            unknown: BTreeSet::new(),
        }
    }

    /// Addresses of the objects that `selector` matches and `except` does
    /// not; sorted, each once. `asking` is named along with the endpoints
    /// whose addresses are not known.
    ///
    /// Per object, not per address: an address that one object shares with an
    /// excepted one stays.
    pub(super) fn of(
        &mut self,
        selector: &Selector,
        except: Option<&Selector>,
        asking: &ObjectRef,
    ) -> Arc<[IpNet]> {
        let resolved = match self.resolved.entry(texts(selector, except)) {
            Entry::Occupied(resolved) => resolved.into_mut(),
            Entry::Vacant(vacant) => {
                let asked = ask(self.asked, vacant.key(), self.round);
                asked.matched.update(self.sets, selector, except);
                let (mut parts, mut unknown) = (Vec::new(), Vec::new());
                for labels in asked.matched.sets() {
                    for number in &self.by_labels[*labels] {
                        let object = &self.objects[*number as usize];
                        parts.push(Arc::clone(&object.nets));
                        unknown.extend(object.elsewhere.map(str::to_owned));
                    }
                }
                let nets = asked.union.become_of(parts);
                vacant.insert(Resolved { nets, unknown })
            }
        };
        for endpoint in &resolved.unknown {
            self.unknown.insert((endpoint.clone(), asking.clone()));
        }
        Arc::clone(&resolved.nets)
    }

    /// Addresses with the ports that their endpoints call by one of `names`,
    /// of the endpoints that `selector` matches and `except` does not; sorted,
    /// each once. With `protocol`, only ports of that one.
    pub(super) fn points(
        &mut self,
        names: &[String],
        protocol: Option<u8>,
        selector: Option<&Selector>,
        except: Option<&Selector>,
        asking: &ObjectRef,
    ) -> Vec<Point> {
        let objects = &self.objects;
        let ports = self.ports.get_or_insert_with(|| declared(objects));
        let matched: Option<&Matched> = (selector.is_some() || except.is_some()).then(|| {
            let all = Selector::all();
            let selector = selector.unwrap_or(&all);
            let asked = ask(self.asked, &texts(selector, except), self.round);
            asked.matched.update(self.sets, selector, except);
            &asked.matched
        });
        let mut points = BTreeSet::new();
        let declared = names.iter().filter_map(|name| ports.get(&**name)).flatten();
        for (object, port) in declared {
            let object = &objects[*object];
            if protocol.is_some_and(|protocol| protocol != port.protocol)
                || matched.is_some_and(|matched| !matched.contain(object.labels))
            {
                continue;
            }
            if let Some(endpoint) = object.elsewhere {
                self.unknown.insert((endpoint.to_owned(), asking.clone()));
            }
            points.extend(object.nets.iter().map(|net| Point {
                address: net.addr(),
                protocol: port.protocol,
                port: port.port,
            }));
        }
        points.into_iter().collect()
    }

    fn slices_of(&mut self, service: &ServiceName) -> impl Iterator<Item = &'a EndpointSlice> {
        let services = self.services.get_or_insert_with(|| {
            let mut services: HashMap<&ServiceName, Vec<&EndpointSlice>> = HashMap::new();
            for slice in self.slices {
                if let Some(service) = &slice.service {
                    services.entry(service).or_default().push(slice);
                }
            }
            services
        });
        services.get(service).into_iter().flatten().copied()
    }

    /// The addresses of a service, sorted, each once.
    pub(super) fn of_service(&mut self, service: &ServiceName) -> Arc<[IpNet]> {
        let all: BTreeSet<IpNet> = self
            .slices_of(service)
            .flat_map(|slice| slice.addresses.iter().copied().map(IpNet::from))
            .collect();
        all.into_iter().collect()
    }

    /// The addresses of a service with its ports, sorted, each once.
    pub(super) fn points_of_service(&mut self, service: &ServiceName) -> Vec<Point> {
        let all: BTreeSet<Point> = self
            .slices_of(service)
            .flat_map(|slice| {
                slice.addresses.iter().flat_map(|&address| {
                    slice.ports.iter().map(move |&(protocol, port)| Point {
                        address,
                        protocol,
                        port,
                    })
                })
            })
            .collect();
        all.into_iter().collect()
    }

    /// The addresses of all endpoints by which nodes know each other, but those
    /// that are told: they come and go with the rules that ask for them, on
    /// which tunnels must not depend.
    pub(super) fn of_endpoints(&self) -> BTreeSet<IpAddr> {
        self.objects[..self.endpoints]
            .iter()
            .filter(|object| !object.told)
            .flat_map(|object| object.nets.iter())
            .map(IpNet::addr)
            .filter(is_of_one_node)
            .collect()
    }

    /// What was asked for and is not known, sorted by endpoint, then by who
    /// asked.
    pub(super) fn into_unknown(self) -> Vec<UnknownAddresses> {
        // What nobody has asked for is forgotten.
        self.asked.retain(|_, asked| asked.round == self.round);
        self.unknown
            .into_iter()
            .map(|(endpoint, policy)| UnknownAddresses {
                endpoint: ObjectRef {
                    kind: Kind::HostEndpoint,
                    name: endpoint,
                },
                policy,
            })
            .collect()
    }
}

/// The addresses of endpoints that do not say theirs.
struct Held<'a> {
    node: &'a str,
    /// By name: of those that govern an interface here.
    here: HashMap<&'a str, Arc<[IpNet]>>,
    /// By node and name: as other nodes tell them.
    told: HashMap<(&'a str, &'a str), &'a [IpAddr]>,
}

impl<'a> Held<'a> {
    fn new(told: &'a [Arc<NodeAddresses>], node: &'a str, governed: &[Pair<'a>]) -> Self {
        let mut here: HashMap<&str, Vec<IpNet>> = HashMap::new();
        for pair in governed {
            let addresses = pair.interface.addresses.iter().copied();
            let held = here.entry(&pair.endpoint.name).or_default();
            held.extend(addresses.map(IpNet::from));
        }
        let told = told.iter().flat_map(|of| {
            let told = of.endpoints.iter();
            told.map(|one| ((&*of.node, &*one.name), &*one.addresses))
        });
        Self {
            node,
            here: here
                .into_iter()
                .map(|(name, held)| (name, held.into()))
                .collect(),
            told: told.collect(),
        }
    }

    /// An endpoint, with the number of its labels and its `expectedIPs`.
    fn object<'e>(
        &self,
        endpoint: &'e HostEndpoint,
        labels: usize,
        expected: Arc<[IpNet]>,
    ) -> Object<'e> {
        let (node, name) = (&*endpoint.node, &*endpoint.name);
        let nets = if !expected.is_empty() {
            Some(expected)
        } else if node == self.node {
            self.here.get(name).cloned()
        } else {
            let told = self.told.get(&(node, name));
            told.map(|told| told.iter().copied().map(IpNet::from).collect())
        };
        Object {
            labels,
            elsewhere: (nets.is_none() && node != self.node).then_some(name),
            nets: nets.unwrap_or_default(),
            ports: &endpoint.ports,
            // No object's name holds a slash: a template made it.
            told: node != self.node && (endpoint.expected_ips.is_empty() || name.contains('/')),
        }
    }
}

fn texts(selector: &Selector, except: Option<&Selector>) -> Texts {
    (selector.to_string(), except.map(Selector::to_string))
}

/// What is known of these selectors, which are asked about in this round.
fn ask<'c>(all: &'c mut HashMap<Texts, Asked>, texts: &Texts, round: u64) -> &'c mut Asked {
    let asked = all.entry(texts.clone()).or_default();
    asked.round = round;
    asked
}

/// By name, the objects that declare the port.
fn declared<'a>(objects: &[Object<'a>]) -> HashMap<&'a str, Vec<(usize, &'a NamedPort)>> {
    let mut declared: HashMap<&str, Vec<_>> = HashMap::new();
    for (number, object) in objects.iter().enumerate() {
        for port in object.ports {
            declared.entry(&port.name).or_default().push((number, port));
        }
    }
    declared
}

#[cfg(test)]
mod tests;
