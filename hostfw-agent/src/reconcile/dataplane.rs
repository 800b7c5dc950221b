//! What the loop wants of the kernel side.

use std::{collections::BTreeSet, error::Error};

use hostfw_common::{
    counter::{Checkpoint, Counter, StagedKey},
    verdict::Reason,
};

use super::tally::Page;
use crate::{
    compile::image::Image,
    maps::MapSize,
    model::Interface,
    observe::{live::Flows, metrics::FlowFill, status::HookStatus},
};

/// The programs and maps in the kernel. A trait so that what is done in which
/// order, and what happens when it fails, can be tested without a kernel.
pub trait Dataplane {
    /// Why something did not work; one line.
    type Error: Error;

    /// The generation in force; 0 before the first.
    fn generation(&self) -> u64;

    /// Interfaces that programs are attached to, by whichever agent.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    fn attached(&self) -> Result<BTreeSet<u32>, Self::Error>;

    /// Those of the attached interfaces whose packets the generation in force
    /// judges: it has an endpoint for them, which is not learning. `observed`:
    /// also if nothing is enforced there.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    fn judged(&self, observed: bool) -> Result<BTreeSet<u32>, Self::Error>;

    /// Puts an image in force as a whole, and gives its generation.
    ///
    /// # Errors
    ///
    /// If it could not be; then the former generation is in force.
    fn switch(&mut self, image: &Image) -> Result<u64, Self::Error>;

    /// Attaches this agent's programs to both hooks, in place of an earlier
    /// agent's without a gap. `workload`: the interface is a workload's.
    ///
    /// # Errors
    ///
    /// If a hook could not be had.
    fn attach(&mut self, interface: &Interface, workload: bool) -> Result<Hooks, Self::Error>;

    /// The interfaces on which XDP would take the packets of others for theirs,
    /// for there are VLAN interfaces on them. They get another hook when they
    /// are attached again.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    fn unfit_for_xdp(&self) -> Result<BTreeSet<u32>, Self::Error>;

    /// Removes the programs from an interface, which may be gone already.
    ///
    /// # Errors
    ///
    /// If they could not be.
    fn detach(&mut self, interface: u32) -> Result<(), Self::Error>;

    /// Has this agent's programs judge at the netfilter hooks, in place of an
    /// earlier agent's without a gap.
    ///
    /// # Errors
    ///
    /// If they cannot, or do not see all. An earlier agent's go on then.
    fn attach_netfilter(&mut self) -> Result<(), Self::Error>;

    /// Whether programs judge at the netfilter hooks, whichever agent's.
    fn netfilter_attached(&self) -> bool;

    /// Removes the programs from the netfilter hooks.
    ///
    /// # Errors
    ///
    /// If they could not be.
    fn detach_netfilter(&mut self) -> Result<(), Self::Error>;

    /// Removes what programs of older versions have left, now that this one's
    /// judge everything.
    ///
    /// # Errors
    ///
    /// If it could not be.
    fn retire(&mut self) -> Result<(), Self::Error>;

    /// Takes over flows that the kernel's own tables call established, and
    /// gives their number.
    ///
    /// # Errors
    ///
    /// If the tables could not be read.
    fn adopt(&mut self) -> Result<usize, Self::Error>;

    /// Packets and bytes by what decided them.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    fn counters(&self) -> Result<Vec<(Checkpoint, Reason, Counter)>, Self::Error>;

    /// Packets and bytes that passed although there was a reason to drop them.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    fn would_drop(&self) -> Result<Vec<(Checkpoint, Reason, Counter)>, Self::Error>;

    /// Of packets that were dropped, those that were not reported one by one.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    fn hidden(&self) -> Result<Vec<(Checkpoint, Reason, u64)>, Self::Error>;

    /// Packets by rule of a staged policy, of all generations that are not
    /// forgotten.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    fn staged(&self) -> Result<Vec<(StagedKey, u64)>, Self::Error>;

    /// Forgets a count of an earlier generation.
    ///
    /// # Errors
    ///
    /// If it could not be.
    fn forget_staged(&mut self, key: &StagedKey) -> Result<(), Self::Error>;

    /// A page of the counters of rules.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    fn rule_counters(&self, page: u32) -> Result<Page, Self::Error>;

    /// Whether no packet is judged by a generation before the one in force any
    /// more; false if that is not known.
    fn is_settled(&mut self) -> bool;

    /// What the maps take of the kernel's memory.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    fn map_sizes(&self) -> Result<Vec<MapSize>, Self::Error>;

    /// What reads the flows that policy has allowed, whether or not they are
    /// confirmed: there may be a million, so not the loop does it.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    fn flows(&self) -> Result<ReadFlows, Self::Error>;

    /// What counts the flows; not the loop does it, either.
    ///
    /// # Errors
    ///
    /// If the kernel does not tell.
    fn flow_counter(&self) -> Result<CountFlows, Self::Error>;
}

/// Counts flows, which takes a while; or tells why it cannot.
pub type CountFlows = Box<dyn FnOnce() -> Result<FlowFill, String> + Send>;

/// Reads flows, which takes a while; or tells why it cannot.
pub type ReadFlows = Box<dyn FnOnce() -> Result<Flows, String> + Send>;

/// Where the programs of an interface are attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// Where incoming packets are judged.
    pub ingress: HookStatus,
    /// Where outgoing packets are judged.
    pub egress: HookStatus,
}
