use std::collections::BTreeMap;

use regex_lite::Regex;

use super::{HostEndpoint, InterfaceMatch, NamedPort, Order};
use crate::selector::Selector;

/// A `HostEndpointTemplate`: an endpoint for every interface of some names, on
/// every node of some labels.
#[derive(Clone, Debug)]
pub struct HostEndpointTemplate {
    /// `metadata.name`.
    pub name: String,
    /// Of several templates that mean an interface, the lowest counts; of equal
    /// ones, the one whose name is bytewise smallest.
    pub order: Order,
    /// Which nodes, by their labels.
    pub nodes: Selector,
    /// Which interfaces; it matches whole names only.
    pub interfaces: Regex,
    /// Labels of the endpoints.
    pub labels: BTreeMap<String, String>,
    /// Keys of labels that the endpoints have from their node, if it has them.
    pub labels_from_node: Vec<String>,
    /// Names of profiles, in the order in which they are evaluated.
    pub profiles: Vec<String>,
    /// Ports that rules may call by name.
    pub ports: Vec<NamedPort>,
}

/// What is known of a `Node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
}

impl HostEndpointTemplate {
    /// What the endpoint of an interface is called. No object's name holds a
    /// slash, so it is nobody else's name.
    #[must_use]
    pub fn endpoint_name(&self, interface: &str) -> String {
        format!("{}/{interface}", self.name)
    }

    /// What stands for the endpoints on a node of which no interface is known,
    /// or none matches.
    #[must_use]
    pub fn name_on_node(&self, node: &str) -> String {
        format!("{}/{node}/*", self.name)
    }

    /// Whether it means a node with these labels.
    #[must_use]
    pub fn means_node(&self, labels: &BTreeMap<String, String>) -> bool {
        self.nodes.matches(labels)
    }

    /// The endpoint of an interface of a node with these labels.
    #[must_use]
    pub fn endpoint(
        &self,
        name: String,
        node: &str,
        labels: &BTreeMap<String, String>,
        interface: InterfaceMatch,
    ) -> HostEndpoint {
        let copied = self
            .labels_from_node
            .iter()
            .filter_map(|key| labels.get_key_value(key))
            .map(|(key, value)| (key.clone(), value.clone()));
        HostEndpoint {
            name,
            labels: self.labels.clone().into_iter().chain(copied).collect(),
            node: node.to_owned(),
            interface,
            expected_ips: Vec::new(),
            profiles: self.profiles.clone(),
            ports: self.ports.clone(),
        }
    }
}

impl PartialEq for HostEndpointTemplate {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            name,
            order,
            nodes,
            interfaces,
            labels,
            labels_from_node,
            profiles,
            ports,
        } = self;
        *name == other.name
            && *order == other.order
            && *nodes == other.nodes
            && interfaces.as_str() == other.interfaces.as_str()
            && *labels == other.labels
            && *labels_from_node == other.labels_from_node
            && *profiles == other.profiles
            && *ports == other.ports
    }
}
