//! The same rules for everybody: none but the last matches the traffic.
//!
//! Half of them ask for a source net, half for a destination port, as rules in
//! a cluster do; the last one denies all. What hostfw enforces goes the whole
//! way from YAML, so it is what a user would get.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use hostfw_agent::{
    compile::{compile, image::Image},
    model::Model,
    resource::parse_documents,
    select::select,
    validate::{assemble, validate},
};

use crate::wire::{HERE, Wire};

/// A policy holds at most so many rules in a direction.
const RULES_PER_POLICY: usize = 1024;

/// A rule of the list, but for the last.
pub(crate) enum Rule {
    /// Deny what comes from 10.x.y.0/24.
    Net(u8, u8),
    /// Deny UDP to this port.
    Port(u16),
}

/// `count - 1` rules that the traffic does not match; the one that denies all
/// is to follow.
pub(crate) fn rules(count: usize) -> impl Iterator<Item = Rule> {
    (0..count.saturating_sub(1)).map(|number| {
        let half = (number / 2) as u16;
        if number % 2 == 0 {
            let [high, low] = (half + 256).to_be_bytes();
            Rule::Net(high + 16, low)
        } else {
            Rule::Port(10_000 + half)
        }
    })
}

/// What hostfw enforces for a list of `count` rules.
pub(crate) fn image(wire: &Wire, count: usize) -> Result<Image> {
    let mut lines: Vec<String> = rules(count)
        .map(|rule| match rule {
            Rule::Net(x, y) => {
                format!("    - {{action: Deny, source: {{nets: [10.{x}.{y}.0/24]}}}}\n")
            }
            Rule::Port(port) => {
                format!("    - {{action: Deny, protocol: UDP, destination: {{ports: [{port}]}}}}\n")
            }
        })
        .collect();
    lines.push("    - {action: Deny}\n".to_owned());
    let mut text = String::new();
    for (number, chunk) in lines.chunks(RULES_PER_POLICY).enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: p{number}}}\nspec:\n  order: {number}\n  selector: all()\n  preDNAT: true\n  applyOnForward: true\n  ingress:\n{}",
            chunk.concat()
        );
    }
    image_of(wire, &text)
}

/// Compiles resources for an endpoint of `hf0`.
pub(crate) fn image_of(wire: &Wire, policies: &str) -> Result<Image> {
    let text = format!(
        "{policies}\n---\napiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {{name: hf0}}\nspec: {{node: bench, interfaceName: {HERE}}}\n"
    );
    let mut objects = Vec::new();
    for document in parse_documents(&text) {
        for resource in document.result? {
            match validate(&resource) {
                Ok(object) => objects.push(object),
                Err(errors) => bail!("{}: {errors:?}", resource.object_ref()),
            }
        }
    }
    let model: Model = assemble(objects);
    Ok(compile(&select(&model, "bench", &[wire.interface()]))?)
}
