//! Carries out a plan, and keeps count of what the kernel holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use hostfw_common::endpoint::{FLAG_LEARNING, FLAG_NETFILTER, FLAG_OBSERVE, FLAG_WORKLOAD};
use tracing::{info, warn};

use super::{
    dataplane::{Dataplane, Hooks},
    plan::{Known, Step, plan},
};
use crate::{compile::image::Image, model::Interface};

/// The kernel side and what is known of it.
#[derive(Debug)]
pub(super) struct Enforcer<D> {
    dataplane: D,
    /// Nothing is enforced.
    observe_only: bool,
    /// What this agent has put in force last.
    in_force: Option<Image>,
    /// What this agent has attached.
    held: BTreeMap<u32, Hooks>,
    /// What was last wrong with the netfilter hooks, so that it is logged once.
    netfilter_missing: Option<String>,
    /// How long each switch took, since that was asked.
    switches: Vec<Duration>,
}

/// Interfaces before anything was done.
struct Before {
    /// Those that have programs, of whatever agent.
    attached: BTreeSet<u32>,
    /// Those that are judged already, on the maps of this version.
    judged: BTreeSet<u32>,
}

/// What came of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Whether the image is in force, judging.
    pub(super) switched: bool,
    /// Why it is not, or what else went wrong that concerns the whole node.
    pub(super) error: Option<String>,
    /// Interfaces whose programs could not be attached, and why.
    pub(super) not_attached: BTreeMap<u32, String>,
    /// Interfaces that should have been let go, and why they were not.
    pub(super) not_detached: BTreeMap<u32, String>,
    /// Interfaces whose established flows could not be taken over, and why.
    pub(super) not_adopted: BTreeMap<u32, String>,
    /// Why not all is judged at the netfilter hooks, if so. No failure: there
    /// are kernels that cannot.
    pub(super) netfilter_missing: Option<String>,
}

impl Outcome {
    /// Whether everything was done.
    pub(super) fn complete(&self) -> bool {
        self.switched
            && self.error.is_none()
            && self.not_attached.is_empty()
            && self.not_detached.is_empty()
    }
}

impl<D: Dataplane> Enforcer<D> {
    pub(super) fn new(dataplane: D) -> Self {
        Self {
            dataplane,
            observe_only: false,
            in_force: None,
            held: BTreeMap::new(),
            netfilter_missing: None,
            switches: Vec::new(),
        }
    }

    /// Whether everything is judged, counted and reported, and nothing enforced.
    pub(super) fn observing(self, observe_only: bool) -> Self {
        Self {
            observe_only,
            ..self
        }
    }

    pub(super) fn dataplane(&self) -> &D {
        &self.dataplane
    }

    pub(super) fn dataplane_mut(&mut self) -> &mut D {
        &mut self.dataplane
    }

    /// How long each switch took, since that was asked last.
    pub(super) fn take_switches(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.switches)
    }

    /// Where the programs of an interface are, if this agent attached them.
    pub(super) fn hooks(&self, interface: u32) -> Option<&Hooks> {
        self.held.get(&interface)
    }

    /// Brings the kernel to the image. `interfaces` are those that the image
    /// has endpoints for. `told` is called after every switch, with the
    /// generation, before any packet of it can have been reported.
    ///
    /// If the image cannot be put in force, what was in force stays, except
    /// that interfaces that were not judged before may be learning.
    pub(super) fn enforce(
        &mut self,
        target: &Image,
        interfaces: &[&Interface],
        mut told: impl FnMut(u64),
    ) -> Outcome {
        let mut outcome = Outcome::default();
        // First of all: attached, they see every packet, and judge those of the
        // endpoints that say so.
        let netfilter = self.netfilter(target, &mut outcome);
        let mut target = at_netfilter(target, netfilter, interfaces);
        if self.observe_only {
            for endpoint in target.endpoints.values_mut() {
                endpoint.flags |= FLAG_OBSERVE;
            }
        }
        let (steps, before) = match self.steps(&target) {
            Ok(known) => known,
            Err(error) => {
                outcome.error = Some(format!("cannot see what is attached: {error}"));
                return outcome;
            }
        };
        outcome.switched = self.in_force.as_ref() == Some(&target);
        for step in steps {
            match step {
                Step::Switch {
                    learning,
                    netfilter,
                } => {
                    let image = stage(&target, &learning, netfilter);
                    if let Err(error) = self.switch(image, learning.len(), &mut told) {
                        outcome.switched = false;
                        outcome.error = Some(format!("cannot put policy in force: {error}"));
                        // What follows relies on it: an interface must not be
                        // let go while the old image governs it.
                        return outcome;
                    }
                    outcome.switched = self.in_force.as_ref() == Some(&target);
                }
                Step::Attach(index) => {
                    let Some(interface) = interfaces.iter().find(|i| i.index == index) else {
                        // The image and the interfaces come from one selection.
                        continue;
                    };
                    let Some(endpoint) = target.endpoints.get_mut(&index) else {
                        continue;
                    };
                    let workload = endpoint.flags & FLAG_WORKLOAD != 0;
                    if let Err(error) = self.attach(interface, workload) {
                        outcome.not_attached.insert(index, error.to_string());
                        // Nobody sees what goes out: judged at netfilter, the
                        // answers to it would be strangers.
                        if !before.attached.contains(&index) {
                            endpoint.flags &= !FLAG_NETFILTER;
                        }
                    }
                }
                Step::Adopt => match self.dataplane.adopt() {
                    Ok(flows) => info!(flows, "took over established flows"),
                    Err(error) => {
                        // Judging late would leave the interface open; so
                        // flows from before may break, and that is told.
                        warn!(%error, "cannot take over established flows");
                        for &index in target.endpoints.keys() {
                            if !before.judged.contains(&index) {
                                outcome.not_adopted.insert(index, error.to_string());
                            }
                        }
                    }
                },
                Step::Detach(index) => {
                    self.held.remove(&index);
                    match self.dataplane.detach(index) {
                        Ok(()) => info!(interface = index, "let go of interface"),
                        Err(error) => {
                            warn!(interface = index, %error, "cannot let go of interface");
                            outcome.not_detached.insert(index, error.to_string());
                        }
                    }
                }
            }
        }
        self.retire(netfilter, &mut outcome);
        outcome
    }

    /// Has the netfilter programs attached if the image has a use for them, and
    /// says whether they are, this agent's or an earlier one's.
    fn netfilter(&mut self, target: &Image, outcome: &mut Outcome) -> bool {
        if target.endpoints.is_empty() {
            return false;
        }
        outcome.netfilter_missing = self
            .dataplane
            .attach_netfilter()
            .err()
            .map(|error| error.to_string());
        if self.netfilter_missing != outcome.netfilter_missing {
            match &outcome.netfilter_missing {
                Some(error) => warn!(error, "not all is judged at the netfilter hooks"),
                None => info!("netfilter hooks are in use"),
            }
            self.netfilter_missing
                .clone_from(&outcome.netfilter_missing);
        }
        self.dataplane.netfilter_attached()
    }

    /// Removes what nothing in force needs any more.
    fn retire(&mut self, netfilter: bool, outcome: &mut Outcome) {
        if !outcome.complete() {
            return;
        }
        let retired = if netfilter {
            self.dataplane.retire()
        } else {
            self.dataplane.detach_netfilter()
        };
        if let Err(error) = retired {
            warn!(%error, "something stays that is not needed any more");
        }
    }

    /// The steps to the image, and what is so before them.
    fn steps(&mut self, target: &Image) -> Result<(Vec<Step>, Before), D::Error> {
        let attached = self.dataplane.attached()?;
        // What is attached although nothing was ever put in force belongs to
        // another version, and judges.
        let fresh_maps = self.dataplane.generation() == 0;
        let judged = if fresh_maps {
            attached.clone()
        } else {
            // What was only observed is enforced for the first time, which is to
            // cut no flow.
            &self.dataplane.judged(self.observe_only)? & &attached
        };
        // An interface that went away took its programs along; one that has
        // become unfit for the hook that it has is attached again.
        let unfit = self.dataplane.unfit_for_xdp()?;
        self.held.retain(|index, hooks| {
            attached.contains(index) && !(hooks.ingress.hook == "xdp" && unfit.contains(index))
        });
        let held = self.held.keys().copied().collect();
        let steps = plan(
            target,
            Known {
                in_force: self.in_force.as_ref(),
                attached: &attached,
                judged: &judged,
                held: &held,
                fresh_maps,
            },
        );
        let judged = if fresh_maps { BTreeSet::new() } else { judged };
        Ok((steps, Before { attached, judged }))
    }

    fn switch(
        &mut self,
        image: Image,
        learning: usize,
        told: &mut impl FnMut(u64),
    ) -> Result<(), D::Error> {
        let begin = Instant::now();
        let generation = self.dataplane.switch(&image)?;
        self.switches.push(begin.elapsed());
        info!(
            generation,
            endpoints = image.endpoints.len(),
            learning,
            "switched generation"
        );
        self.in_force = Some(image);
        told(generation);
        Ok(())
    }

    fn attach(&mut self, interface: &Interface, workload: bool) -> Result<(), D::Error> {
        match self.dataplane.attach(interface, workload) {
            Ok(hooks) => {
                self.held.insert(interface.index, hooks);
                Ok(())
            }
            Err(error) => {
                warn!(interface = interface.name, %error, "cannot attach");
                Err(error)
            }
        }
    }
}

/// The image as it is when the netfilter programs are attached, or not. They
/// know what comes in through a member for its master's, and record it only if
/// an endpoint governs that.
fn at_netfilter(image: &Image, attached: bool, interfaces: &[&Interface]) -> Image {
    let mut image = image.clone();
    let members: BTreeSet<u32> = members_alone(interfaces)
        .map(|(one, _)| one.index)
        .collect();
    for (index, endpoint) in &mut image.endpoints {
        if attached && !members.contains(index) {
            endpoint.flags |= FLAG_NETFILTER;
        } else {
            endpoint.flags &= !FLAG_NETFILTER;
        }
    }
    image
}

/// Those of the interfaces that are members of one that is not among them, and
/// the index of that.
pub(super) fn members_alone<'a>(
    interfaces: &'a [&'a Interface],
) -> impl Iterator<Item = (&'a Interface, u32)> {
    interfaces.iter().filter_map(|one| {
        let master = one.master?;
        let governed = interfaces.iter().any(|other| other.index == master);
        (!governed).then_some((*one, master))
    })
}

/// The image on the way to all of it. What learns is recorded where it comes in
/// from the wire, so the netfilter programs need not see it.
fn stage(target: &Image, learning: &BTreeSet<u32>, netfilter: bool) -> Image {
    let mut image = target.clone();
    for (index, endpoint) in &mut image.endpoints {
        if learning.contains(index) {
            endpoint.flags |= FLAG_LEARNING;
        }
        if learning.contains(index) || !netfilter {
            endpoint.flags &= !FLAG_NETFILTER;
        }
    }
    image
}

#[cfg(test)]
mod tests;
