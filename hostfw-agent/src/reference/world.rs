//! The objects that rules and endpoints speak of: which endpoint governs which
//! interface (semantics section 6), and which addresses a selector stands for
//! (section 5).

use std::net::{AddrParseError, IpAddr};

use ipnet::IpNet;

use super::{
    criterion::Point,
    objects::Profiles,
    selector::{Labels, Selector},
    settings::Settings,
};
use crate::{
    model::Interface,
    resource::{
        EndpointPort, EndpointSlice, HostEndpoint, HostEndpointTemplateSpec, NetworkSet,
        NetworkSetSpec, NumberOrText, Object, ServiceMatch, WorkloadEndpoint,
    },
};

/// The label that tells an object's namespace.
pub(super) const NAMESPACE: &str = "projectcalico.org/namespace";

/// Addresses of a set.
pub(super) type SetNets = Vec<IpNet>;

/// An endpoint, read.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) name: String,
    pub(super) node: String,
    pub(super) labels: Labels,
    pub(super) profiles: Vec<String>,
    /// Empty: any that holds an expected address.
    interface: String,
    expected: Vec<IpAddr>,
    /// Of one of another node: the addresses that this tells.
    pub(super) told: Vec<IpAddr>,
    /// Name, protocol, port.
    ports: Vec<(String, u8, u16)>,
}

impl Endpoint {
    /// `None` if it is not one.
    pub(super) fn read(object: &HostEndpoint, profiles: &Profiles<'_>) -> Option<Self> {
        let spec = &object.spec;
        let addresses = spec.expected_ips.iter();
        Some(Self {
            name: object.metadata.name.clone(),
            node: spec.node.clone()?,
            labels: inherit(object.metadata.labels.clone(), &spec.profiles, profiles),
            profiles: spec.profiles.clone(),
            interface: spec.interface.clone().unwrap_or_default(),
            expected: addresses
                .map(|text| Some(text.parse::<IpAddr>().ok()?.to_canonical()))
                .collect::<Option<_>>()?,
            told: Vec::new(),
            ports: spec.ports.iter().map(named_port).collect::<Option<_>>()?,
        })
    }

    /// The endpoint that a template makes of an interface of a node.
    pub(super) fn made(
        spec: &HostEndpointTemplateSpec,
        [name, node, interface]: [&str; 3],
        labels: Labels,
        profiles: &Profiles<'_>,
    ) -> Option<Self> {
        Some(Self {
            name: name.to_owned(),
            node: node.to_owned(),
            labels: inherit(labels, &spec.profiles, profiles),
            profiles: spec.profiles.clone(),
            interface: interface.to_owned(),
            expected: Vec::new(),
            told: Vec::new(),
            ports: spec.ports.iter().map(named_port).collect::<Option<_>>()?,
        })
    }

    pub(super) fn is_wildcard(&self) -> bool {
        self.interface == "*"
    }

    /// Whether it means this very interface, not just what is left.
    fn means(&self, interface: &Interface) -> bool {
        if self.interface.is_empty() {
            self.expected
                .iter()
                .any(|address| interface.addresses.contains(address))
        } else {
            self.interface == interface.name
        }
    }
}

fn named_port(port: &EndpointPort) -> Option<(String, u8, u16)> {
    let protocol = super::rule::protocol(&port.protocol)?.0;
    Some((port.name.clone(), protocol, u16::try_from(port.port).ok()?))
}

/// An object's own labels, then those of its profiles: the first that has a key
/// gives it.
fn inherit(mut labels: Labels, names: &[String], profiles: &Profiles<'_>) -> Labels {
    for profile in names.iter().filter_map(|name| profiles.get(name)) {
        for (key, value) in &profile.labels_to_apply {
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    labels
}

/// An interface and the endpoint that governs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) interface: &'a Interface,
    pub(super) endpoint: &'a Endpoint,
    /// The interface is a workload's.
    pub(super) workload: bool,
}

/// Which endpoint governs which interface of the node. Of `endpoints`, the first
/// that means an interface does: they are sorted by name, and those of templates
/// come behind.
pub(super) fn govern<'a>(
    endpoints: &'a [Endpoint],
    node: &str,
    interfaces: &'a [Interface],
    settings: &Settings,
) -> Vec<Pair<'a>> {
    let here = || endpoints.iter().filter(|endpoint| endpoint.node == node);
    interfaces
        .iter()
        .filter(|interface| !settings.is_excluded(&interface.name))
        .filter_map(|interface| {
            let workload = settings.is_workload(&interface.name);
            let meant = here().find(|endpoint| !workload && endpoint.means(interface));
            let endpoint = meant.or_else(|| here().find(|endpoint| endpoint.is_wildcard()))?;
            Some(Pair {
                interface,
                endpoint,
                workload,
            })
        })
        .collect()
}

/// Something that selectors of rules match: an endpoint, a set or a workload.
#[derive(Debug)]
pub(super) struct Known {
    labels: Labels,
    nets: Vec<IpNet>,
    /// What names of ports stand for.
    ports: Vec<(String, Point)>,
}

/// All that selectors of rules match.
#[derive(Debug)]
pub(super) struct World {
    known: Vec<Known>,
    /// Addresses of all endpoints by which nodes know each other.
    pub(super) nodes: Vec<IpAddr>,
    services: Vec<Service>,
}

/// Addresses and ports that a service has, or some of them.
#[derive(Debug)]
pub(super) struct Service {
    namespace: String,
    name: String,
    addresses: Vec<IpAddr>,
    points: Vec<Point>,
}

impl World {
    pub(super) fn new(
        endpoints: &[Endpoint],
        pairs: &[Pair<'_>],
        sets: impl IntoIterator<Item = (Labels, SetNets)>,
    ) -> Self {
        let mut known: Vec<Known> = Vec::new();
        let mut nodes = Vec::new();
        for endpoint in endpoints {
            // Semantics 12.1: the expected addresses, else those that its
            // interfaces hold, here or by what another node tells.
            let held = pairs
                .iter()
                .filter(|pair| pair.endpoint.name == endpoint.name)
                .flat_map(|pair| &pair.interface.addresses);
            let addresses: Vec<IpAddr> = if endpoint.expected.is_empty() {
                held.chain(&endpoint.told).copied().collect()
            } else {
                endpoint.expected.clone()
            };
            let ports = endpoint.ports.iter().flat_map(|(name, protocol, port)| {
                addresses.iter().map(|&address| {
                    let point = Point {
                        address,
                        protocol: *protocol,
                        port: *port,
                    };
                    (name.clone(), point)
                })
            });
            known.push(Known {
                labels: endpoint.labels.clone(),
                nets: addresses.iter().copied().map(IpNet::from).collect(),
                ports: ports.collect(),
            });
            // What is told is not always asked for.
            if endpoint.told.is_empty() || !endpoint.expected.is_empty() {
                nodes.extend(addresses.into_iter().filter(is_of_a_node));
            }
        }
        known.extend(sets.into_iter().map(|(labels, nets)| Known {
            labels,
            nets,
            ports: Vec::new(),
        }));
        Self {
            known,
            nodes,
            services: Vec::new(),
        }
    }

    pub(super) fn add_workloads(&mut self, workloads: Vec<Known>) {
        self.known.extend(workloads);
    }

    pub(super) fn add_services(&mut self, slices: Vec<Option<Service>>) {
        self.services.extend(slices.into_iter().flatten());
    }

    /// Addresses of a service, and its ports at them.
    pub(super) fn service(&self, named: &ServiceMatch) -> (Vec<IpNet>, Vec<Point>) {
        let (mut nets, mut points) = (Vec::new(), Vec::new());
        for service in &self.services {
            if named.namespace.as_ref() == Some(&service.namespace)
                && named.name.as_ref() == Some(&service.name)
            {
                nets.extend(service.addresses.iter().copied().map(IpNet::from));
                points.extend(&service.points);
            }
        }
        (nets, points)
    }

    /// Objects that `all` of the selectors match, and `except` does not: each
    /// object by itself, whatever addresses it shares with another.
    fn matching<'a>(
        &'a self,
        all: &'a [Selector],
        except: Option<&'a Selector>,
    ) -> impl Iterator<Item = &'a Known> {
        self.known.iter().filter(move |known| {
            all.iter().all(|selector| selector.matches(&known.labels))
                && !except.is_some_and(|selector| selector.matches(&known.labels))
        })
    }

    pub(super) fn addresses(&self, all: &[Selector], except: Option<&Selector>) -> Vec<IpNet> {
        let mut nets: Vec<IpNet> = self
            .matching(all, except)
            .flat_map(|known| known.nets.iter().copied())
            .collect();
        nets.sort();
        nets.dedup();
        nets
    }

    pub(super) fn points(
        &self,
        name: &str,
        all: &[Selector],
        except: Option<&Selector>,
    ) -> Vec<Point> {
        self.matching(all, except)
            .flat_map(|known| &known.ports)
            .filter(|(declared, _)| declared == name)
            .map(|(_, point)| *point)
            .collect()
    }
}

/// Not one that any node may have: loopback (127/8, ::1) or link-local
/// (169.254/16, fe80::/10).
pub(super) fn is_of_a_node(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !matches!(address.octets(), [127, ..] | [169, 254, ..]),
        IpAddr::V6(address) => address.to_bits() != 1 && address.segments()[0] & 0xffc0 != 0xfe80,
    }
}

/// Labels and addresses of a `GlobalNetworkSet`; `None` if it is not one.
pub(super) fn global_set(object: &Object<NetworkSetSpec>) -> Option<(Labels, SetNets)> {
    Some((object.metadata.labels.clone(), nets(&object.spec)?))
}

/// Labels and addresses of a `NetworkSet`, which inherits its namespace's
/// labels.
pub(super) fn namespaced_set(
    object: &NetworkSet,
    profiles: &Profiles<'_>,
) -> Option<(Labels, SetNets)> {
    let namespace = object.metadata.namespace.as_ref()?;
    let mut own = object.metadata.labels.clone();
    own.entry(NAMESPACE.to_owned())
        .or_insert_with(|| namespace.clone());
    let labels = inherit(own, &[format!("kns.{namespace}")], profiles);
    Some((labels, nets(&object.spec)?))
}

/// A `WorkloadEndpoint`, which always has the labels that say its namespace and
/// its service account (semantics section 5).
pub(super) fn workload(object: &WorkloadEndpoint, profiles: &Profiles<'_>) -> Option<Known> {
    const ACCOUNT: &str = "projectcalico.org/serviceaccount";
    let spec = &object.spec;
    let mut own = object.metadata.labels.clone();
    own.insert(NAMESPACE.to_owned(), object.metadata.namespace.clone()?);
    match spec.service_account_name.as_deref() {
        None | Some("") => own.remove(ACCOUNT),
        Some(account) => own.insert(ACCOUNT.to_owned(), account.to_owned()),
    };
    let nets: Vec<IpNet> = spec
        .ip_networks
        .iter()
        .map(|text| net(text))
        .collect::<Option<_>>()?;
    let mut ports = Vec::new();
    for port in &spec.ports {
        let (name, protocol, port) = named_port(port)?;
        ports.extend(nets.iter().map(|net| {
            let address = net.addr();
            (
                name.clone(),
                Point {
                    address,
                    protocol,
                    port,
                },
            )
        }));
    }
    Some(Known {
        labels: inherit(own, &spec.profiles, profiles),
        nets,
        ports,
    })
}

/// What an `EndpointSlice` says of its service, if it has one; the outer `None`
/// if it cannot be read.
#[expect(
    clippy::option_option,
    reason = "unreadable, of no service and of one are three things"
)]
pub(super) fn slice(object: &EndpointSlice) -> Option<Option<Service>> {
    let spec = &object.spec;
    let namespace = object.metadata.namespace.clone()?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    match spec.address_type.as_deref() {
        Some("IPv4" | "IPv6") => {
            for text in spec.endpoints.iter().flat_map(|it| &it.addresses) {
                addresses.push(text.parse::<IpAddr>().ok()?.to_canonical());
            }
        }
        Some("FQDN") => {}
        _ => return None,
    }
    let mut points = Vec::new();
    for written in &spec.ports {
        let Some(port) = written.port else {
            continue;
        };
        let protocol = match written.protocol.as_deref() {
            None | Some("") => "TCP",
            Some(protocol) => protocol,
        };
        let protocol = super::rule::protocol(&NumberOrText::Text(protocol.to_owned()))?.0;
        let port = u16::try_from(port).ok()?;
        points.extend(addresses.iter().map(|&address| Point {
            address,
            protocol,
            port,
        }));
    }
    let labels = &object.metadata.labels;
    let name = match labels.get("kubernetes.io/service-name") {
        Some(name) if !name.is_empty() => name.clone(),
        Some(_) | None => return Some(None),
    };
    Some(Some(Service {
        namespace,
        name,
        addresses,
        points,
    }))
}

fn nets(spec: &NetworkSetSpec) -> Option<Vec<IpNet>> {
    spec.nets.iter().map(|text| net(text)).collect()
}

/// A CIDR or an address; host bits do not matter. `::ffff:192.0.2.1` is an IPv4
/// address, here as in `expectedIPs`.
pub(super) fn net(text: &str) -> Option<IpNet> {
    let net: Result<IpNet, _> = text.parse();
    net.map(|net| net.trunc())
        .or_else(|_| {
            let address = text.parse::<IpAddr>()?;
            Ok::<_, AddrParseError>(IpNet::from(address.to_canonical()))
        })
        .ok()
}
