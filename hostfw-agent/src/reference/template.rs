//! `HostEndpointTemplate`: the endpoints that it makes of a node's interfaces.

use std::cmp::Ordering;

use regex_lite::Regex;

use super::{
    objects::{LeftOut, Objects},
    selector::{Dialect, Labels, Selector},
    world::Endpoint,
};
use crate::model::Interface;

/// A template that means this node.
struct Template {
    name: String,
    order: f64,
    /// Endpoints with their interfaces, in the order of those.
    endpoints: Vec<Endpoint>,
}

/// All endpoints that templates make on `node`, those of the template that
/// counts first ahead. An interface may have several.
pub(super) fn endpoints(
    objects: &Objects<'_>,
    node: &str,
    interfaces: &[Interface],
    left_out: &mut LeftOut,
) -> Vec<Endpoint> {
    let nothing = Labels::new();
    let of_node = objects.nodes.get(node).copied().unwrap_or(&nothing);
    let mut templates = left_out.keep(&objects.templates, |object, template| {
        let spec = &template.spec;
        let selector = spec.node_selector.as_deref().unwrap_or_default();
        let meant =
            selector.is_empty() || Selector::read(selector, Dialect::default())?.matches(of_node);
        let pattern = Regex::new(spec.interface_pattern.as_deref()?).ok()?;
        let mut labels = spec.labels.clone();
        for key in &spec.labels_from_node {
            if let Some(value) = of_node.get(key) {
                labels.insert(key.clone(), value.clone());
            }
        }
        let endpoints = interfaces
            .iter()
            .filter(|interface| meant && !interface.loopback && is_whole(&pattern, &interface.name))
            .map(|interface| {
                let name = format!("{}/{}", object.name, interface.name);
                Endpoint::made(
                    spec,
                    [&name, node, &interface.name],
                    labels.clone(),
                    &objects.profiles,
                )
            })
            .collect::<Option<_>>()?;
        Some(Template {
            name: object.name.clone(),
            order: spec.order.unwrap_or(f64::INFINITY),
            endpoints,
        })
    });
    templates.sort_by(|a, b| {
        let order = a.order.partial_cmp(&b.order).unwrap_or(Ordering::Equal);
        order.then_with(|| a.name.cmp(&b.name))
    });
    templates
        .into_iter()
        .flat_map(|template| template.endpoints)
        .collect()
}

/// The endpoint that a template made of an interface of another node, which has
/// these labels of those that templates copy; `None` if there is no such
/// template, or it does not mean the interface. `made`: template, node,
/// interface.
pub(super) fn elsewhere(
    objects: &Objects<'_>,
    made: [&str; 3],
    labels: &Labels,
) -> Option<Endpoint> {
    let [name, node, interface] = made;
    let (_, template) = objects.templates.iter().find(|(it, _)| it.name == name)?;
    let spec = &template.spec;
    let selector = spec.node_selector.as_deref().unwrap_or_default();
    if !selector.is_empty() {
        Selector::read(selector, Dialect::default())?;
    }
    let pattern = Regex::new(spec.interface_pattern.as_deref()?).ok()?;
    if !is_whole(&pattern, interface) {
        return None;
    }
    let mut own = spec.labels.clone();
    for (key, value) in labels {
        if spec.labels_from_node.contains(key) {
            own.insert(key.clone(), value.clone());
        }
    }
    // As nothing on this node is called.
    let called = format!("{node}/{name}/{interface}");
    Endpoint::made(spec, [&called, node, interface], own, &objects.profiles)
}

/// Whether the expression matches all of the name.
fn is_whole(pattern: &Regex, name: &str) -> bool {
    // Of alternatives the first that fits is found, not the longest: anchors
    // have it look on.
    Regex::new(&format!("^({})$", pattern.as_str())).is_ok_and(|whole| whole.is_match(name))
}
