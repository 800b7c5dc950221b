//! Rule sets as Calico's resources.

use std::fmt::{Display, Write as _};

use super::{
    RuleSet, Set,
    rule::{Ports, Rule},
};

/// A HostEndpoint for an interface of a node.
#[must_use]
pub fn host_endpoint(node: &str, interface: &str) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {{name: {node}-{interface}}}\nspec: {{node: {node}, interfaceName: {interface}}}\n"
    )
}

impl RuleSet {
    /// Its policies and its set.
    #[must_use]
    pub fn yaml(&self) -> String {
        self.policies_yaml() + &self.set_yaml()
    }

    /// Its policies, which judge what comes in before DNAT.
    #[must_use]
    pub fn policies_yaml(&self) -> String {
        let mut text = String::new();
        let mut rules = self.rules.iter();
        for (number, size) in self.policies.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: p{number:04}}}\nspec:\n  order: {number}\n  selector: all()\n  preDNAT: true\n  applyOnForward: true\n  ingress:\n"
            );
            for rule in rules.by_ref().take(*size) {
                let _ = writeln!(text, "    - {}", line(rule));
            }
        }
        text
    }

    /// Its set, if it has one, as a single object.
    #[must_use]
    pub fn set_yaml(&self) -> String {
        let nets = self.set.as_ref().map(Set::texts);
        nets.map_or_else(String::new, |nets| network_set("listed", &nets))
    }
}

/// A GlobalNetworkSet of these networks, one of those that rules with
/// [`from_set`](Rule::from_set) mean: all that there are count together.
#[must_use]
pub fn network_set(name: &str, nets: &[String]) -> String {
    let mut text = format!(
        "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {{name: {name}, labels: {{set: listed}}}}\nspec:\n  nets:\n"
    );
    for net in nets {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    - {net}");
    }
    text
}

fn line(rule: &Rule) -> String {
    let mut text = format!("{{action: {}", if rule.allow { "Allow" } else { "Deny" });
    if let Some(protocol) = rule.protocol {
        let _ = write!(text, ", protocol: {}", protocol.name().to_uppercase());
    }
    let mut source = Vec::new();
    if rule.from_set {
        source.push("selector: set == 'listed'".to_owned());
    }
    field(&mut source, "nets", &rule.sources);
    field(&mut source, "notNets", &rule.not_sources);
    let mut destination = Vec::new();
    field(&mut destination, "nets", &rule.destinations);
    field(&mut destination, "ports", &ports(&rule.ports));
    field(&mut destination, "notPorts", &ports(&rule.not_ports));
    for (name, fields) in [("source", source), ("destination", destination)] {
        if !fields.is_empty() {
            let _ = write!(text, ", {name}: {{{}}}", fields.join(", "));
        }
    }
    text + "}"
}

fn field<T: Display>(fields: &mut Vec<String>, name: &str, values: &[T]) {
    if !values.is_empty() {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        fields.push(format!("{name}: [{}]", values.join(", ")));
    }
}

fn ports(ports: &[Ports]) -> Vec<String> {
    ports
        .iter()
        .map(|ports| {
            if ports.first == ports.last {
                ports.first.to_string()
            } else {
                // A range is a string in YAML.
                format!("'{}'", ports.text(':'))
            }
        })
        .collect()
}
