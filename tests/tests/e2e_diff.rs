//! `hostfwctl diff` on a node with real connections.

use anyhow::{Context as _, Result};
use hostfw_tests::{
    policed::{Policed, on_node1},
    probe::{
        Action::{Tcp, Udp},
        Target::Host as To,
    },
    resources::{endpoint, forward},
    topology::{
        Host::{Client, Node1},
        TCP_PORT, UDP_PORT,
        kube_proxy::NODE_PORT,
    },
};
use serde_json::Value;

/// The changes that the resources would make to flows of the node.
fn changes(policed: &Policed<'_>, resources: &[String]) -> Result<Vec<Value>> {
    let ctl = policed.cluster();
    let output = ctl.ctl(&["diff", "-f", "-", "-o", "json"], &resources.concat())?;
    let lines: Vec<Value> = output
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .with_context(|| output.stdout.clone())?;
    let flows = lines.into_iter().filter(|change| change["from"] == "flow");
    Ok(flows.collect())
}

#[test]
fn a_nodeports_flow_changes_with_forward_policy_for_the_pods_port() -> Result<()> {
    on_node1(|_, policed| {
        let allowed = |port: u16| {
            let rule =
                format!("{{action: Allow, protocol: TCP, destination: {{ports: [{port}]}}}}");
            let udp = "{action: Allow, protocol: UDP}";
            forward("pods", &format!("ingress: [{rule}, {udp}]"))
        };
        let local = "profiles: [projectcalico-default-allow]";
        policed.enforce(
            "Allow of the pods' port",
            &[endpoint(Node1, local), allowed(TCP_PORT)],
        )?;
        let held = policed.hold(&[
            (Client, Tcp(To(Node1), NODE_PORT)),
            (Client, Udp(To(Node1), UDP_PORT)),
        ])?;

        assert_eq!(
            changes(policed, &[allowed(TCP_PORT)])?,
            Vec::<Value>::new(),
            "nothing changes"
        );
        // Only who knows the translated port sees what this does: on the wire the
        // port is the one that it allows.
        let found = changes(policed, &[allowed(NODE_PORT)])?;
        let tcp: Vec<&Value> = found.iter().filter(|one| one["protocol"] == 6).collect();
        assert_eq!(tcp.len(), 2, "a flow of each IP version: {found:#?}");
        for change in &tcp {
            assert_eq!(change["interface"], "eth0", "{change:#}");
            assert_eq!(change["path"], "forward", "{change:#}");
            assert_eq!(change["destinationPort"], NODE_PORT, "{change:#}");
            assert_eq!(change["translatedDestinationPort"], TCP_PORT, "{change:#}");
            assert_eq!(change["before"]["policy"], "pods", "{change:#}");
            assert_eq!(change["after"]["reason"], "tier-default", "{change:#}");
        }
        assert_eq!(
            found.len(),
            tcp.len(),
            "a flow for the node itself is not forwarded: {found:#?}"
        );
        drop(held);
        Ok(())
    })
}
