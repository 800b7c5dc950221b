//! The endpoints that templates make.

use std::collections::BTreeMap;

use super::{Inert, InertReason, settings::Settings};
use crate::model::{
    HostEndpoint, HostEndpointTemplate, Interface, InterfaceMatch, Model, NodeAddresses,
};

/// The endpoints of all templates.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Of this node, one for each interface that a template means, those of the
    /// template that counts first ahead.
    pub(super) here: Vec<HostEndpoint>,
    /// Those of other nodes, as these tell them; and one for each template and
    /// other node that it means and that tells nothing: its labels are known,
    /// its interfaces and addresses only there.
    pub(super) elsewhere: Vec<HostEndpoint>,
    /// Templates that mean this node, and nothing of it.
    pub(super) idle: Vec<Inert>,
}

impl Made {
    pub(super) fn new(
        model: &Model,
        node: &str,
        interfaces: &[Interface],
        settings: &Settings,
    ) -> Self {
        let mut made = Self::default();
        if model.templates.is_empty() {
            return made;
        }
        let unknown = BTreeMap::new();
        let labels = model
            .nodes
            .iter()
            .find(|known| known.name == node)
            .map_or(&unknown, |known| &known.labels);
        for told in model.addresses.iter().filter(|told| told.node != node) {
            made.elsewhere_of(&model.templates, told);
        }
        for template in &model.templates {
            if template.means_node(labels) {
                made.here_of(template, node, labels, interfaces, settings);
            }
            let others = model
                .nodes
                .iter()
                .filter(|other| other.name != node && template.means_node(&other.labels));
            let tells = |node: &str| model.addresses.iter().any(|told| told.node == node);
            for other in others.filter(|other| !tells(&other.name)) {
                let name = template.name_on_node(&other.name);
                made.elsewhere.push(template.endpoint(
                    name,
                    &other.name,
                    &other.labels,
                    InterfaceMatch::Wildcard,
                ));
            }
        }
        made
    }

    /// What templates have made on a node, by what it tells.
    fn elsewhere_of(&mut self, templates: &[HostEndpointTemplate], told: &NodeAddresses) {
        for one in &told.endpoints {
            let Some((name, interface)) = one.template_and_interface() else {
                continue;
            };
            let template = templates
                .iter()
                .find(|it| it.name == name && it.interfaces.is_match(interface));
            // One that is not known is gone, or still to come.
            if let Some(template) = template
                && !one.addresses.is_empty()
            {
                self.elsewhere.push(HostEndpoint {
                    expected_ips: one.addresses.clone(),
                    ..template.endpoint(
                        format!("{name}/{}/{interface}", told.node),
                        &told.node,
                        &one.labels,
                        InterfaceMatch::Name(interface.to_owned()),
                    )
                });
            }
        }
    }

    fn here_of(
        &mut self,
        template: &HostEndpointTemplate,
        node: &str,
        labels: &BTreeMap<String, String>,
        interfaces: &[Interface],
        settings: &Settings,
    ) {
        let before = self.here.len();
        // The loopback interface takes an endpoint that names it, or `*`: a
        // pattern that fits too much must not cut a node off from itself.
        let meant = interfaces.iter().filter(|interface| {
            !interface.loopback
                && template.interfaces.is_match(&interface.name)
                && !settings.is_excluded(&interface.name)
                && !settings.is_workload(&interface.name)
        });
        self.here.extend(meant.map(|interface| {
            template.endpoint(
                template.endpoint_name(&interface.name),
                node,
                labels,
                InterfaceMatch::Name(interface.name.clone()),
            )
        }));
        if self.here.len() == before {
            let pattern = template.interfaces.as_str();
            let written = pattern
                .strip_prefix(r"\A(?:")
                .and_then(|rest| rest.strip_suffix(r")\z"))
                .unwrap_or(pattern);
            self.idle.push(Inert {
                endpoint: template.name_on_node(node),
                reason: InertReason::NoSuchInterfaces(written.to_owned()),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Node,
        resource::parse_documents,
        select::{
            Selection,
            fixture::{endpoint, interface},
            select,
        },
        validate::{assemble, validate},
    };

    /// Templates of these names and specs, and a few nodes.
    fn model(templates: &[(&str, &str)]) -> Model {
        let templates = templates.iter().map(|(name, spec)| {
            let text = format!(
                "{{apiVersion: hostfw.io/v1alpha1, kind: HostEndpointTemplate, metadata: {{name: \
                 {name}}}, spec: {{{spec}}}}}"
            );
            let resources = parse_documents(&text).remove(0).result.unwrap();
            validate(&resources[0]).unwrap()
        });
        let node = |name: &str, role: &str| Node {
            name: name.to_owned(),
            labels: [("role".to_owned(), role.to_owned())].into(),
        };
        Model {
            nodes: vec![node("node1", "edge"), node("node2", "core")],
            ..assemble(templates)
        }
    }

    fn interfaces() -> Vec<Interface> {
        vec![
            interface(1, "lo", &["127.0.0.1"]),
            interface(2, "eth0", &["10.240.0.11"]),
            interface(3, "eth1", &["10.250.0.11"]),
            interface(9, "cali1", &[]),
            interface(4, "kube-ipvs0", &["10.96.0.1"]),
        ]
    }

    fn governed(selection: &Selection) -> Vec<(&str, &str)> {
        selection
            .governed
            .iter()
            .map(|governed| (&*governed.interface.name, &*governed.endpoint))
            .collect()
    }

    fn inert(selection: &Selection) -> Vec<(&str, &InertReason)> {
        selection
            .inert
            .iter()
            .map(|inert| (&*inert.endpoint, &inert.reason))
            .collect()
    }

    #[test]
    fn a_pattern_that_fits_all_leaves_out_loopback_workloads_and_what_is_excluded() {
        let selection = select(
            &model(&[("all", "interfacePattern: '.*'")]),
            "node1",
            &interfaces(),
        );
        assert_eq!(
            governed(&selection),
            [("eth0", "all/eth0"), ("eth1", "all/eth1")]
        );
        assert_eq!(selection.inert, []);
    }

    #[test]
    fn an_interface_that_comes_and_goes_has_its_endpoint_meanwhile() {
        let model = model(&[("t", "interfacePattern: 'ppp[0-9]+'")]);
        let mut node = interfaces();
        let idle = InertReason::NoSuchInterfaces("ppp[0-9]+".to_owned());
        let before = select(&model, "node1", &node);
        assert_eq!(governed(&before), []);
        assert_eq!(inert(&before), [("t/node1/*", &idle)]);
        node.push(interface(12, "ppp0", &["192.0.2.1"]));
        let with = select(&model, "node1", &node);
        assert_eq!(governed(&with), [("ppp0", "t/ppp0")]);
        assert_eq!(with.inert, []);
        node.pop();
        assert_eq!(select(&model, "node1", &node), before);
    }

    #[test]
    fn an_endpoint_of_its_own_comes_before_templates_and_templates_before_all() {
        let mut model = model(&[
            ("late", "interfacePattern: 'eth.'"),
            ("b", "interfacePattern: eth0, order: 5"),
            ("a", "interfacePattern: eth0, order: 5"),
            ("first", "interfacePattern: eth1, order: -1"),
        ]);
        let shadowed = |interface: &str, by: &str| InertReason::Shadowed {
            interface: interface.to_owned(),
            by: by.to_owned(),
        };
        let selection = select(&model, "node1", &interfaces());
        assert_eq!(
            governed(&selection),
            [("eth0", "a/eth0"), ("eth1", "first/eth1")]
        );
        assert_eq!(
            inert(&selection),
            [
                ("b/eth0", &shadowed("eth0", "a/eth0")),
                ("late/eth0", &shadowed("eth0", "a/eth0")),
                ("late/eth1", &shadowed("eth1", "first/eth1")),
            ]
        );
        model.endpoints = vec![
            endpoint("everything", "node1", "*", &[]).into(),
            endpoint("zz", "node1", "", &["10.240.0.11"]).into(),
        ];
        let selection = select(&model, "node1", &interfaces());
        assert_eq!(
            governed(&selection),
            [
                ("lo", "everything"),
                ("eth0", "zz"),
                ("eth1", "first/eth1"),
                ("cali1", "everything")
            ]
        );
        assert!(inert(&selection).contains(&("a/eth0", &shadowed("eth0", "zz"))));
    }

    #[test]
    fn nodes_are_told_by_their_labels() {
        let model = model(&[(
            "edge",
            "nodeSelector: \"role == 'edge'\", interfacePattern: eth0",
        )]);
        for (node, expected) in [("node1", 1), ("node2", 0), ("unknown", 0)] {
            let selection = select(&model, node, &interfaces());
            assert_eq!(selection.governed.len(), expected, "{node}");
            assert_eq!(selection.inert, [], "{node}");
        }
    }

    #[test]
    fn selectors_find_the_addresses_here_and_miss_those_elsewhere() {
        let text = "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: \
                    {name: p}, spec: {ingress: [{action: Allow, destination: {selector: \
                    \"zone == 'a' && has(role)\"}}]}}";
        let resources = parse_documents(text).remove(0).result.unwrap();
        let policy = assemble([validate(&resources[0]).unwrap()]).policies;
        let model = Model {
            policies: policy,
            ..model(&[(
                "t",
                "interfacePattern: eth0, labels: {zone: a}, labelsFromNode: [role]",
            )])
        };
        let meant = |model: &Model| {
            let selection = select(model, "node1", &interfaces());
            let list = selection.governed[0].list(hostfw_common::stage::List::NormalIn);
            let rule = &list.policies().next().unwrap().rules[0];
            let members = rule.destination.members.as_deref().unwrap();
            let members: Vec<String> = members.iter().map(ToString::to_string).collect();
            let unknown = selection.unknown_addresses.iter();
            let unknown: Vec<String> = unknown.map(|it| it.endpoint.to_string()).collect();
            (members.join(" "), unknown.join(" "))
        };
        let (own, hidden) = ("10.240.0.11/32", "HostEndpoint(t/node2/*)");
        assert_eq!(meant(&model), (own.to_owned(), hidden.to_owned()));

        // Until the node tells them, with what its labels add.
        for (name, role, expected) in [
            ("t/eth0", "role", "10.240.0.11/32 10.240.0.12/32"),
            ("t/eth0", "other", own),
            ("t/eth1", "role", own),
            ("gone/eth0", "role", own),
        ] {
            let one = crate::model::EndpointAddresses {
                name: name.to_owned(),
                labels: [(role.to_owned(), String::new())].into(),
                addresses: vec!["10.240.0.12".parse().unwrap()],
            };
            let told = NodeAddresses {
                node: "node2".to_owned(),
                endpoints: vec![one],
            };
            let model = Model {
                addresses: vec![told.into()],
                ..model.clone()
            };
            assert_eq!(
                meant(&model),
                (expected.to_owned(), String::new()),
                "{name}"
            );
        }
    }

    #[test]
    fn what_a_template_made_here_is_told_with_what_its_node_adds() {
        let model = model(&[(
            "t",
            "interfacePattern: eth., labels: {zone: a}, labelsFromNode: [role, missing]",
        )]);
        let told = select(&model, "node1", &interfaces()).told;
        let told: Vec<_> = told
            .iter()
            .map(|one| (&*one.name, &one.labels, one.addresses.len()))
            .collect();
        let labels = [("role".to_owned(), "edge".to_owned())].into();
        assert_eq!(told, [("t/eth0", &labels, 1), ("t/eth1", &labels, 1)]);
    }
}
