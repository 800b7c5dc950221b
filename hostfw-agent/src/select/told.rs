//! What other nodes have to be told of this one.

use std::collections::{BTreeMap, BTreeSet};

use super::govern::Pair;
use crate::model::{EndpointAddresses, HostEndpoint, HostEndpointTemplate, is_of_one_node};

/// The endpoints of this node without `expectedIPs`, each with the addresses of
/// the interfaces that it governs; sorted by name. One that governs nothing is
/// told, too: else it would count as one that is not known yet. `made`: by
/// templates.
pub(super) fn told<'a>(
    here: &[&'a HostEndpoint],
    made: &'a [HostEndpoint],
    templates: &[HostEndpointTemplate],
    pairs: &[Pair<'a>],
) -> Vec<EndpointAddresses> {
    let governs = |name: &str| pairs.iter().any(|pair| pair.endpoint.name == name);
    let mut told: BTreeMap<&str, EndpointAddresses> = BTreeMap::new();
    let made = made.iter().filter(|endpoint| governs(&endpoint.name));
    for endpoint in here.iter().copied().chain(made) {
        if !endpoint.expected_ips.is_empty() {
            continue;
        }
        let mut one = EndpointAddresses {
            name: endpoint.name.clone(),
            labels: BTreeMap::new(),
            addresses: Vec::new(),
        };
        if let Some((template, _)) = one.template_and_interface()
            && let Some(template) = templates.iter().find(|it| it.name == template)
        {
            let mut labels = endpoint.labels.clone();
            labels.retain(|key, _| template.labels_from_node.contains(key));
            one.labels = labels;
        }
        told.insert(&endpoint.name, one);
    }
    for pair in pairs {
        if let Some(one) = told.get_mut(&*pair.endpoint.name) {
            let held = pair.interface.addresses.iter();
            one.addresses.extend(held.filter(|it| is_of_one_node(it)));
        }
    }
    told.into_values()
        .map(|one| EndpointAddresses {
            addresses: BTreeSet::from_iter(one.addresses).into_iter().collect(),
            ..one
        })
        .collect()
}
