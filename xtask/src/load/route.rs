//! Which interfaces hold a default route.

use anyhow::Result;

use crate::workspace::{Workspace, output};

/// The interfaces of the default routes of both families, in all tables.
pub(super) fn default_interfaces(workspace: &Workspace) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for family in ["-4", "-6"] {
        let text = output(
            workspace
                .command("ip")
                .args([family, "route", "show", "table", "all", "default"]),
            "looking for the default route",
        )?;
        found.extend(devices(&text));
    }
    Ok(found)
}

/// The words behind `dev`, which routes over several hops hold several of.
fn devices(text: &str) -> Vec<String> {
    let mut words = text.split_whitespace();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        if word == "dev" {
            found.extend(words.next().map(str::to_owned));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hop_counts() {
        let text = "default via 10.0.0.1 dev eth0 proto dhcp\n\
                    default \n\tnexthop via 10.1.0.1 dev eth1 weight 1 \n\tnexthop via 10.2.0.1 dev eth2 weight 1 \n";
        assert_eq!(devices(text), ["eth0", "eth1", "eth2"]);
        assert!(devices("").is_empty());
    }
}
