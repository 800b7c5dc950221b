//! hostfw, from Calico's resources to the hooks.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use hostfw_agent::{
    attach::{Dataplane, HookKind, IngressChoice, Options, TcChoice, remove_all},
    compile::{compile, image::Image},
    resource::parse_documents,
    select::select,
    validate::{assemble, validate},
};
use hostfw_bench::shapes::{RuleSet, host_endpoint};
use hostfw_common::endpoint::FLAG_NETFILTER;

use crate::wire::{HERE, Wire, interface};

/// The node that the endpoints are of.
pub(crate) const NODE_NAME: &str = "bench";

/// Where hostfw judges what comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    XdpNative,
    XdpGeneric,
    Tcx,
}

impl Hook {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "hostfw, native XDP",
            Self::XdpGeneric => "hostfw, generic XDP",
            Self::Tcx => "hostfw, TCX",
        }
    }

    const fn options(self) -> (IngressChoice, TcChoice, HookKind) {
        match self {
            Self::XdpNative => (
                IngressChoice::XdpNative,
                TcChoice::Auto,
                HookKind::XdpNative,
            ),
            Self::XdpGeneric => (
                IngressChoice::XdpGeneric,
                TcChoice::Auto,
                HookKind::XdpGeneric,
            ),
            Self::Tcx => (IngressChoice::Tc, TcChoice::Tcx, HookKind::Tcx),
        }
    }
}

/// Compiles resources for `hf0`.
pub(crate) fn image_of(resources: &str) -> Result<Image> {
    let text = format!("{resources}{}", host_endpoint(NODE_NAME, HERE));
    let mut objects = Vec::new();
    for document in parse_documents(&text) {
        for resource in document.result? {
            match validate(&resource) {
                Ok(object) => objects.push(object),
                Err(errors) => bail!("{}: {errors:?}", resource.object_ref()),
            }
        }
    }
    let selection = select(&assemble(objects), NODE_NAME, &[interface()]);
    Ok(compile(&selection)?)
}

/// Compiles a rule set.
pub(crate) fn image(set: &RuleSet) -> Result<Image> {
    image_of(&set.yaml())
}

/// The same image, for an agent that has netfilter hooks: then the hook on the
/// wire judges and leaves it to them to record a flow.
pub(crate) fn with_netfilter(mut image: Image) -> Image {
    for endpoint in image.endpoints.values_mut() {
        endpoint.flags |= FLAG_NETFILTER;
    }
    image
}

/// For measuring what the search itself costs.
pub(crate) fn no_verdict_cache(options: &mut Options) {
    options.remember = false;
}

/// Programs and maps with an image in force, removed when dropped.
pub(crate) struct Plane {
    dataplane: Option<Box<Dataplane>>,
    root: PathBuf,
    wire: Option<Wire>,
}

impl Plane {
    /// Loads programs that are attached to nothing.
    pub(crate) fn load(
        name: &str,
        image: &Image,
        adjust: impl FnOnce(&mut Options),
    ) -> Result<Self> {
        let root = PathBuf::from("/sys/fs/bpf").join(name);
        let mut options = Options::new(&root);
        adjust(&mut options);
        let mut plane = Self {
            dataplane: Some(Box::new(Dataplane::open(&options)?)),
            root,
            wire: None,
        };
        plane.dataplane_mut()?.switch(image)?;
        Ok(plane)
    }

    /// Attaches programs to `hf0` of a wire.
    pub(crate) fn attach(name: &str, image: &Image, hook: Hook, wire: Wire) -> Result<Self> {
        let (ingress, tc, expected) = hook.options();
        let mut plane = wire.host.run(|| {
            Self::load(name, image, |options| {
                options.ingress = ingress;
                options.tc = tc;
            })
        })??;
        let dataplane = plane.dataplane_mut()?;
        let attachment = wire.host.run(|| dataplane.attach(&interface()))??;
        let found = attachment.ingress.kind;
        ensure!(found == expected, "expected {expected:?}, found {found:?}");
        plane.wire = Some(wire);
        Ok(plane)
    }

    /// Attaches the programs of netfilter, in the wire's namespace.
    pub(crate) fn netfilter(&mut self) -> Result<()> {
        let wire = self.wire.as_ref().context("no wire")?;
        let dataplane = self.dataplane.as_deref_mut().context("dropped")?;
        wire.host.run(|| dataplane.attach_netfilter())??;
        Ok(())
    }

    /// The wire that it is attached to.
    pub(crate) fn wire(&self) -> Option<&Wire> {
        self.wire.as_ref()
    }

    pub(crate) fn dataplane(&self) -> Result<&Dataplane> {
        self.dataplane.as_deref().context("dropped")
    }

    pub(crate) fn dataplane_mut(&mut self) -> Result<&mut Dataplane> {
        self.dataplane.as_deref_mut().context("dropped")
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // Its lock goes with it.
        drop(self.dataplane.take());
        let remove = || remove_all(&self.root);
        let removed = match &self.wire {
            Some(wire) => wire.host.run(remove).map_err(anyhow::Error::from),
            None => Ok(remove()),
        };
        match removed.map(|removed| removed.map(drop)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("hostfw stays attached: {error}"),
            Err(error) => eprintln!("hostfw stays attached: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hostfw_agent::{
        question::{Path, Question, State},
        reference::Reference,
        resource::Resource,
    };
    use hostfw_bench::shapes::{Net, Packet, Rng, Set, Shape, cidrs, flood};
    use hostfw_common::verdict::Direction;

    use super::*;

    fn reference(set: &RuleSet) -> Reference {
        let text = format!("{}{}", set.yaml(), host_endpoint(NODE_NAME, HERE));
        let resources: Vec<Resource> = parse_documents(&text)
            .into_iter()
            .flat_map(|document| document.result.unwrap())
            .collect();
        Reference::new(&resources, NODE_NAME, &[interface()])
    }

    fn question(packet: &Packet) -> Question {
        Question {
            interface: HERE.to_owned(),
            direction: Direction::Ingress,
            path: Path::Forward,
            protocol: packet.protocol.number(),
            source: Ipv4Addr::from(packet.source).into(),
            source_port: packet.source_port,
            destination: Ipv4Addr::from(packet.destination).into(),
            destination_port: packet.destination_port,
            icmp: None,
            translated: None,
            state: State::New,
        }
    }

    /// The rule's policy, and its index there.
    fn place(set: &RuleSet, mut rule: usize) -> (String, u16) {
        for (number, size) in set.policies.iter().enumerate() {
            if rule < *size {
                return (format!("p{number:04}"), rule as u16);
            }
            rule -= size;
        }
        panic!("no rule {rule}");
    }

    #[test]
    fn the_reference_finds_the_same_rule_for_every_packet() {
        for shape in Shape::ALL {
            for size in [10, 200] {
                let set = RuleSet::new(shape, size, 3);
                let reference = reference(&set);
                let floods = (0..50).map(flood);
                let packets = set.witnesses.iter().copied();
                for packet in packets.chain(floods).chain(set.random(300, 1)) {
                    let answer = reference.judge(&question(&packet));
                    let expected = set.judge(&packet);
                    let found = (answer.policy.unwrap(), answer.rule.unwrap());
                    assert_eq!(found, place(&set, expected), "{shape:?}: {packet:?}");
                    assert_eq!(answer.allowed, set.rules[expected].allow);
                }
            }
        }
    }

    #[test]
    fn what_a_set_holds_is_allowed() {
        let nets: Vec<Net> = cidrs::v4(50, 1);
        let set = RuleSet::new(Shape::Cluster, 10, 1).with_set(Set::V4(nets.clone()));
        let reference = reference(&set);
        let mut rng = Rng::new(1);
        for net in nets {
            let packet = Packet {
                source: net.sample(&mut rng),
                ..flood(1)
            };
            assert!(reference.judge(&question(&packet)).allowed, "{net}");
            assert!(!reference.judge(&question(&flood(net.address))).allowed);
        }
    }
}
