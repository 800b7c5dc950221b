//! `hostfwctl` as its users see it: messages and exit codes.

mod change;
mod diff;
mod explain;
mod flows;
mod get;
mod input;
mod sandbox;
mod status;

const EMPTY: &str = "";

fn policy(name: &str, order: u32) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\n\
         metadata:\n  name: {name}\nspec:\n  selector: has(host-endpoint)\n  order: {order}\n  \
         types: [Egress]\n  egress:\n  - action: Allow\n"
    )
}

fn endpoint(name: &str) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: HostEndpoint\n\
         metadata:\n  name: {name}\n  labels:\n    host-endpoint: ingress\n\
         spec:\n  node: node1\n  interfaceName: eth0\n"
    )
}

/// Well-formed, and refused: Calico spells protocols in capitals.
fn misspelt(name: &str) -> String {
    policy(name, 1).replace("action: Allow", "{action: Allow, protocol: tcp}")
}

/// A pre-DNAT policy with one rule.
fn pre_dnat(name: &str, order: u32, rule: &str) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\n\
         metadata:\n  name: {name}\nspec:\n  selector: has(host-endpoint)\n  order: {order}\n  \
         preDNAT: true\n  applyOnForward: true\n  ingress:\n  - {rule}\n"
    )
}
