//! Which addresses and ports a rule's selectors and named ports stand for.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    Point, UnknownAddresses,
    govern::Pair,
    labels::{Labels, Profiles},
    members::Cache,
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
    labels: Cow<'a, Labels>,
    nets: Arc<[IpNet]>,
    /// The endpoint has addresses, but only its own node knows which.
    elsewhere: Option<&'a str>,
    /// The addresses are those that another node tells.
    told: bool,
}

impl Object<'_> {
    /// Per object, not per address: an address that one object shares with an
    /// excepted one stays.
    fn is_meant(&self, selector: Option<&Selector>, except: Option<&Selector>) -> bool {
        selector.is_none_or(|selector| selector.matches(&self.labels))
            && !except.is_some_and(|except| except.matches(&self.labels))
    }
}

/// Resolves selectors to the addresses of all endpoints and sets of the
/// cluster.
pub(super) struct Addresses<'a> {
    /// Endpoints, then sets, then workloads.
    objects: Vec<Object<'a>>,
    endpoints: usize,
    /// By name: the objects that declare the port.
    ports: HashMap<String, Vec<(usize, NamedPort)>>,
    /// By the texts of selector and not-selector.
    resolved: HashMap<(String, Option<String>), Resolved>,
    services: HashMap<ServiceName, Vec<&'a EndpointSlice>>,
    unknown: BTreeSet<(String, ObjectRef)>,
    cache: &'a mut Cache,
}

/// What lives in the cluster beside hosts and sets.
#[derive(Clone, Copy, Default)]
pub(super) struct Cluster<'a> {
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
        endpoints: impl IntoIterator<Item = &'a HostEndpoint>,
        sets: &'a [NetworkSet],
        cluster: Cluster<'a>,
        profiles: &Profiles<'_>,
        node: &str,
        governed: &[Pair<'a>],
        cache: &'a mut Cache,
    ) -> Self {
        cache.begin();
        let mut held: HashMap<&str, Vec<IpAddr>> = HashMap::new();
        for pair in governed {
            held.entry(&pair.endpoint.name)
                .or_default()
                .extend(&pair.interface.addresses);
        }
        let told: HashMap<(&str, &str), &Vec<IpAddr>> = cluster
            .told
            .iter()
            .flat_map(|of| {
                let told = of.endpoints.iter();
                told.map(|one| ((&*of.node, &*one.name), &one.addresses))
            })
            .collect();
        let mut objects = Vec::new();
        let mut ports: HashMap<String, Vec<(usize, NamedPort)>> = HashMap::new();
        for endpoint in endpoints {
            declare(&mut ports, objects.len(), &endpoint.ports);
            let addresses = if !endpoint.expected_ips.is_empty() {
                Some(&endpoint.expected_ips)
            } else if endpoint.node == node {
                held.get(&*endpoint.name)
            } else {
                told.get(&(&*endpoint.node, &*endpoint.name)).copied()
            };
            objects.push(Object {
                labels: profiles.labels_of_endpoint(endpoint),
                nets: addresses.map_or_else(Arc::default, |addresses| {
                    addresses.iter().copied().map(IpNet::from).collect()
                }),
                elsewhere: (addresses.is_none() && endpoint.node != node)
                    .then_some(&*endpoint.name),
                // No object's name holds a slash: a template made it.
                told: endpoint.node != node
                    && (endpoint.expected_ips.is_empty() || endpoint.name.contains('/')),
            });
        }
        let endpoints = objects.len();
        objects.extend(sets.iter().map(|set| Object {
            labels: profiles.labels_of_set(set),
            nets: Arc::clone(&set.nets),
            elsewhere: None,
            told: false,
        }));
        for group in cache.groups(cluster.workloads) {
            declare(&mut ports, objects.len(), &group.one.ports);
            objects.push(Object {
                labels: Cow::Owned(profiles.labels_of_workload(&group.one)),
                nets: Arc::clone(&group.nets),
                elsewhere: None,
                told: false,
            });
        }
        let mut services: HashMap<ServiceName, Vec<&EndpointSlice>> = HashMap::new();
        for slice in cluster.slices {
            if let Some(service) = &slice.service {
                services.entry(service.clone()).or_default().push(slice);
            }
        }
        Self {
            objects,
            endpoints,
            ports,
            resolved: HashMap::new(),
            services,
            unknown: BTreeSet::new(),
            cache,
        }
    }

    /// Addresses of the objects that `selector` matches and `except` does
    /// not; sorted, each once. `asking` is named along with the endpoints
    /// whose addresses are not known.
    pub(super) fn of(
        &mut self,
        selector: &Selector,
        except: Option<&Selector>,
        asking: &ObjectRef,
    ) -> Arc<[IpNet]> {
        let key = (selector.to_string(), except.map(Selector::to_string));
        let (objects, cache) = (&self.objects, &mut *self.cache);
        let resolved = match self.resolved.entry(key) {
            Entry::Occupied(resolved) => resolved.into_mut(),
            Entry::Vacant(vacant) => {
                let (parts, unknown) = resolve(objects, selector, except);
                let nets = cache.union(vacant.key(), parts);
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
        let mut points = BTreeSet::new();
        let declared = names
            .iter()
            .filter_map(|name| self.ports.get(&**name))
            .flatten();
        for (object, port) in declared {
            let object = &self.objects[*object];
            if protocol.is_some_and(|protocol| protocol != port.protocol)
                || !object.is_meant(selector, except)
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

    /// The addresses of a service, sorted, each once.
    pub(super) fn of_service(&self, service: &ServiceName) -> Arc<[IpNet]> {
        let slices = self.services.get(service).into_iter().flatten();
        let all: BTreeSet<IpNet> = slices
            .flat_map(|slice| slice.addresses.iter().copied().map(IpNet::from))
            .collect();
        all.into_iter().collect()
    }

    /// The addresses of a service with its ports, sorted, each once.
    pub(super) fn points_of_service(&self, service: &ServiceName) -> Vec<Point> {
        let slices = self.services.get(service).into_iter().flatten();
        let all: BTreeSet<Point> = slices
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
        self.cache.end();
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

fn declare(all: &mut HashMap<String, Vec<(usize, NamedPort)>>, object: usize, ports: &[NamedPort]) {
    for port in ports {
        let declared = all.entry(port.name.clone()).or_default();
        declared.push((object, port.clone()));
    }
}

/// Lists of addresses of the objects that are meant, and the names of those
/// whose addresses are not known.
fn resolve(
    objects: &[Object<'_>],
    selector: &Selector,
    except: Option<&Selector>,
) -> (Vec<Arc<[IpNet]>>, Vec<String>) {
    let mut parts = Vec::new();
    let mut unknown = Vec::new();
    for object in objects {
        if object.is_meant(Some(selector), except) {
            parts.push(Arc::clone(&object.nets));
            unknown.extend(object.elsewhere.map(str::to_owned));
        }
    }
    (parts, unknown)
}

#[cfg(test)]
mod tests;
