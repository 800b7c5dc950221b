//! Carries out a plan, and keeps count of what the kernel holds.

use std::collections::{BTreeMap, BTreeSet};

use hostfw_common::endpoint::{FLAG_LEARNING, FLAG_WORKLOAD};
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
    /// What this agent has put in force last.
    in_force: Option<Image>,
    /// What this agent has attached.
    held: BTreeMap<u32, Hooks>,
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
            in_force: None,
            held: BTreeMap::new(),
        }
    }

    pub(super) fn dataplane(&self) -> &D {
        &self.dataplane
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
        let (steps, judged_before) = match self.steps(target) {
            Ok(known) => known,
            Err(error) => {
                outcome.error = Some(format!("cannot see what is attached: {error}"));
                return outcome;
            }
        };
        outcome.switched = self.in_force.as_ref() == Some(target);
        for step in steps {
            match step {
                Step::Switch { learning } => {
                    if let Err(error) = self.switch(target, &learning, &mut told) {
                        outcome.switched = false;
                        outcome.error = Some(format!("cannot put policy in force: {error}"));
                        // What follows relies on it: an interface must not be
                        // let go while the old image governs it.
                        return outcome;
                    }
                    outcome.switched = learning.is_empty();
                }
                Step::Attach(index) => {
                    let Some(interface) = interfaces.iter().find(|i| i.index == index) else {
                        // The image and the interfaces come from one selection.
                        continue;
                    };
                    let endpoint = target.endpoints.get(&index);
                    let workload = endpoint.is_some_and(|e| e.flags & FLAG_WORKLOAD != 0);
                    if let Err(error) = self.attach(interface, workload) {
                        outcome.not_attached.insert(index, error.to_string());
                    }
                }
                Step::Adopt => match self.dataplane.adopt() {
                    Ok(flows) => info!(flows, "took over established flows"),
                    Err(error) => {
                        // Judging late would leave the interface open; so
                        // flows from before may break, and that is told.
                        warn!(%error, "cannot take over established flows");
                        for &index in target.endpoints.keys() {
                            if !judged_before.contains(&index) {
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
        outcome
    }

    /// The steps to the image, and the interfaces that are judged already, on
    /// the maps of this version.
    fn steps(&mut self, target: &Image) -> Result<(Vec<Step>, BTreeSet<u32>), D::Error> {
        let attached = self.dataplane.attached()?;
        // What is attached although nothing was ever put in force belongs to
        // another version, and judges.
        let fresh_maps = self.dataplane.generation() == 0;
        let judged = if fresh_maps {
            attached.clone()
        } else {
            &self.dataplane.judged()? & &attached
        };
        // An interface that went away took its programs along.
        self.held.retain(|index, _| attached.contains(index));
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
        let judged_before = if fresh_maps { BTreeSet::new() } else { judged };
        Ok((steps, judged_before))
    }

    fn switch(
        &mut self,
        target: &Image,
        learning: &BTreeSet<u32>,
        told: &mut impl FnMut(u64),
    ) -> Result<(), D::Error> {
        let mut image = target.clone();
        for index in learning {
            if let Some(endpoint) = image.endpoints.get_mut(index) {
                endpoint.flags |= FLAG_LEARNING;
            }
        }
        let generation = self.dataplane.switch(&image)?;
        info!(
            generation,
            endpoints = image.endpoints.len(),
            learning = learning.len(),
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

#[cfg(test)]
mod tests;
