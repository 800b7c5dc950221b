//! What a pass has found out that the status tells.

use std::collections::BTreeMap;

use super::enforce::{Outcome, members_alone};
use crate::{model::Interface, select::Selection};

/// Whether kube-proxy translates by IPVS: then the addresses of services are
/// this interface's, and NodePorts reach the local-input hook untranslated.
pub(super) fn is_ipvs(interface: &Interface) -> bool {
    interface.name == "kube-ipvs0" && !interface.addresses.is_empty()
}

/// The names of the masters that no endpoint governs, by the indexes of those
/// of their members that one does.
pub(super) fn masters(selection: &Selection, interfaces: &[Interface]) -> BTreeMap<u32, String> {
    let governed: Vec<_> = selection
        .governed
        .iter()
        .map(|one| &one.interface)
        .collect();
    members_alone(&governed)
        .map(|(member, master)| {
            let name = interfaces.iter().find(|one| one.index == master);
            let name = name.map_or_else(|| format!("interface {master}"), |one| one.name.clone());
            (member.index, name)
        })
        .collect()
}

/// What went wrong, in one line.
pub(super) fn summary(outcome: &Outcome, selection: &Selection) -> Option<String> {
    let name = |index: u32| {
        selection
            .governed
            .iter()
            .find(|governed| governed.interface.index == index)
            .map_or_else(
                || format!("interface {index}"),
                |governed| governed.interface.name.clone(),
            )
    };
    let mut parts: Vec<String> = outcome.error.iter().cloned().collect();
    for (&index, error) in &outcome.not_attached {
        parts.push(format!("cannot attach to {}: {error}", name(index)));
    }
    for (&index, error) in &outcome.not_detached {
        parts.push(format!("cannot detach from {}: {error}", name(index)));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
