//! Attaches to interfaces and detaches from them.

use std::collections::BTreeSet;

use aya::programs::ProgramFd;
use hostfw_common::{
    names::{PROGRAM_TC_EGRESS, PROGRAM_TC_INGRESS, PROGRAM_XDP},
    verdict::Direction,
};

use super::{
    Attachment, Dataplane, DataplaneError, Hook, HookKind, IngressChoice,
    hook::{candidates, without_native, without_xdp},
    links, traffic_control,
};
use crate::{
    maps::{
        bpf,
        pins::{self, Pins},
    },
    model::Interface,
};

impl Dataplane {
    /// Whether programs judge both directions of the interface on the maps of
    /// this dataplane, be it those of an earlier agent.
    #[must_use]
    pub fn is_attached(&self, ifindex: u32) -> bool {
        Direction::ALL.into_iter().all(|direction| {
            links::current(std::slice::from_ref(&self.pins), true, ifindex, direction)
                .inspect_err(|error| tracing::warn!(%error, "taken as not attached"))
                .is_ok_and(|current| current.is_some())
        })
    }

    /// Has this agent's programs judge both directions of the interface. In
    /// place of an earlier agent's, if there are: without a gap. Does nothing
    /// if it is so already.
    ///
    /// # Errors
    ///
    /// If no hook can be used. What judged before does so still.
    pub fn attach(&mut self, interface: &Interface) -> Result<Attachment, DataplaneError> {
        self.attach_at(interface, self.options.ingress)
    }

    /// Like [`attach`](Self::attach), for a workload's interface: at TC, for
    /// XDP on one end of a veth pair takes segmentation offload from the other
    /// end, which is the workload's.
    ///
    /// # Errors
    ///
    /// Like [`attach`](Self::attach).
    pub fn attach_workload(&mut self, interface: &Interface) -> Result<Attachment, DataplaneError> {
        self.attach_at(interface, IngressChoice::Tc)
    }

    fn attach_at(
        &mut self,
        interface: &Interface,
        choice: IngressChoice,
    ) -> Result<Attachment, DataplaneError> {
        links::remove_stale(&self.pins)?;
        let mut fresh = true;
        for direction in Direction::ALL {
            fresh &= self.current(interface.index, direction)?.is_none();
        }
        let egress = self.hook(interface, Direction::Egress, choice)?;
        let ingress = match self.hook(interface, Direction::Ingress, choice) {
            Ok(ingress) => ingress,
            Err(error) => {
                // Half an attachment would be none that anybody asked for.
                if fresh && let Err(error) = self.detach(interface.index) {
                    tracing::warn!(%error, "a hook stays behind");
                }
                return Err(error);
            }
        };
        for (hook, direction) in [(&ingress, Direction::Ingress), (&egress, Direction::Egress)] {
            if hook.kind == HookKind::Clsact {
                self.filtered.insert(interface.index);
            } else if self.filtered.contains(&interface.index) {
                // Left behind by an agent that was killed between attaching a
                // link and removing the filter that it replaced.
                links::remove_filter(interface.index, direction)?;
            }
        }
        self.retire_older_versions()?;
        Ok(Attachment {
            ifindex: interface.index,
            ingress,
            egress,
        })
    }

    /// Takes the programs off an interface. Nothing judges its packets then.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to. That there is nothing, or no such interface,
    /// is no error.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        for direction in Direction::ALL {
            // More than one if an agent was killed while it changed hooks.
            while let Some(current) = self.current(ifindex, direction)? {
                links::remove(current, ifindex, direction)?;
            }
            self.fallbacks.remove(&(ifindex, direction));
        }
        self.filtered.remove(&ifindex);
        links::remove_stale(&self.pins)?;
        Ok(())
    }

    /// The interfaces whose packets the generation in force judges, whether
    /// programs are attached to them or not: those that learn are left out, and
    /// unless `observed`, those where nothing is enforced.
    ///
    /// # Errors
    ///
    /// If the map of endpoints cannot be read.
    pub fn judged(&self, observed: bool) -> Result<BTreeSet<u32>, DataplaneError> {
        Ok(self.generations.judged(observed)?)
    }

    /// The interfaces that have VLAN interfaces on them. [`attach`](Self::attach)
    /// gives them no XDP; one that has it from before wants to be attached
    /// again.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked.
    pub fn below_vlans(&self) -> Result<BTreeSet<u32>, DataplaneError> {
        traffic_control::below_vlans().map_err(DataplaneError::Interfaces)
    }

    /// The interfaces both of whose directions are judged, by index.
    ///
    /// # Errors
    ///
    /// If the kernel or bpffs cannot be asked.
    pub fn attachments(&self) -> Result<Vec<Attachment>, DataplaneError> {
        let mut indices = self.filtered.clone();
        indices.extend(links::pinned_interfaces(&self.pins)?);
        let mut attachments = Vec::new();
        for ifindex in indices {
            let ingress = self.current(ifindex, Direction::Ingress)?;
            let egress = self.current(ifindex, Direction::Egress)?;
            if let (Some(ingress), Some(egress)) = (ingress, egress) {
                attachments.push(Attachment {
                    ifindex,
                    ingress: self.described(ifindex, Direction::Ingress, ingress.kind),
                    egress: self.described(ifindex, Direction::Egress, egress.kind),
                });
            }
        }
        Ok(attachments)
    }

    /// Own version's folder first, then those of others.
    fn folders(&self) -> Result<Vec<Pins>, DataplaneError> {
        let mut folders = vec![self.pins.clone()];
        folders.extend(
            Pins::every(&self.options.pin_root)?
                .into_iter()
                .filter(|folder| *folder != self.pins),
        );
        Ok(folders)
    }

    fn current(
        &self,
        ifindex: u32,
        direction: Direction,
    ) -> Result<Option<links::Current>, DataplaneError> {
        links::current(&self.folders()?, false, ifindex, direction)
    }

    fn program_for(
        &self,
        kind: HookKind,
        direction: Direction,
    ) -> Result<(&'static str, &ProgramFd), DataplaneError> {
        let name = match (direction, kind.is_xdp()) {
            (Direction::Ingress, true) => PROGRAM_XDP,
            (Direction::Ingress, false) => PROGRAM_TC_INGRESS,
            (Direction::Egress, _) => PROGRAM_TC_EGRESS,
        };
        let program = self
            .ebpf
            .program(name)
            .ok_or(DataplaneError::MissingProgram(name))?;
        let fd = program.fd().map_err(|error| DataplaneError::Program {
            name,
            error: Box::new(error),
        })?;
        Ok((name, fd))
    }

    fn described(&self, ifindex: u32, direction: Direction, kind: HookKind) -> Hook {
        Hook {
            kind,
            fallback: self.fallbacks.get(&(ifindex, direction)).cloned(),
        }
    }

    /// Brings one direction of an interface to this agent's program.
    fn hook(
        &mut self,
        interface: &Interface,
        direction: Direction,
        choice: IngressChoice,
    ) -> Result<Hook, DataplaneError> {
        let ifindex = interface.index;
        let mut wanted = candidates(direction, choice, self.options.tc, interface.link_header);
        let mut tried = Vec::new();
        if wanted.iter().any(|kind| kind.is_xdp()) {
            let vlans = self.below_vlans()?.contains(&ifindex);
            tried.extend(without_xdp(&mut wanted, vlans));
        }
        if wanted.contains(&HookKind::XdpNative) {
            let members = traffic_control::may_have_members(ifindex).map_err(|error| {
                DataplaneError::Kernel {
                    action: "look for members of",
                    ifindex,
                    error: error.to_string(),
                }
            })?;
            tried.extend(without_native(&mut wanted, members));
        }
        let mut old = self.current(ifindex, direction)?;
        if let Some(current) = &old
            && wanted.contains(&current.kind)
        {
            let kind = current.kind;
            match self.take_over(current, ifindex, direction)? {
                Ok(()) => {
                    if wanted.first() != Some(&kind) {
                        self.fallbacks
                            .entry((ifindex, direction))
                            .or_insert_with(|| "as an earlier agent has attached it".to_owned());
                    } else if let Some(reason) = tried.pop() {
                        self.fallbacks.entry((ifindex, direction)).or_insert(reason);
                    }
                    return Ok(self.described(ifindex, direction, kind));
                }
                Err(error) => tried.push(format!("take-over of {kind}: {error}")),
            }
        }
        for kind in wanted {
            let program = self.program_for(kind, direction)?;
            // An interface runs XDP in one mode at a time, so the other one
            // must go first; meanwhile TC judges.
            let mut bridge = None;
            let other_mode = old.take_if(|old| old.kind.is_xdp() && kind.is_xdp());
            let before = other_mode.as_ref().map(|old| old.kind);
            if let Some(old) = other_mode {
                let (_, tc) = self.program_for(HookKind::Tcx, direction)?;
                bridge = links::bridge(ifindex, tc);
                links::remove(old, ifindex, direction)?;
            }
            let result = links::attach(kind, &self.pins, ifindex, direction, program);
            if let (Err(_), Some(before)) = (&result, before) {
                links::attach(before, &self.pins, ifindex, direction, program).map_err(
                    |error| DataplaneError::Kernel {
                        action: "restore XDP on",
                        ifindex,
                        error,
                    },
                )?;
                old = self.current(ifindex, direction)?;
            }
            drop(bridge);
            match result {
                Ok(()) => {
                    if let Some(old) = old {
                        links::retire(old, kind, ifindex, direction, &self.pins)?;
                    }
                    if tried.is_empty() {
                        self.fallbacks.remove(&(ifindex, direction));
                    } else {
                        self.fallbacks
                            .insert((ifindex, direction), tried.join("; "));
                    }
                    tracing::info!(
                        interface = interface.name,
                        ifindex,
                        ?direction,
                        hook = %kind,
                        "attached"
                    );
                    return Ok(self.described(ifindex, direction, kind));
                }
                Err(error) => tried.push(format!("{kind}: {error}")),
            }
        }
        Err(DataplaneError::Attach {
            interface: interface.name.clone(),
            ifindex,
            direction,
            tried: tried.join("; "),
        })
    }

    /// The inner result: whether the kernel took the new program.
    fn take_over(
        &self,
        current: &links::Current,
        ifindex: u32,
        direction: Direction,
    ) -> Result<Result<(), String>, DataplaneError> {
        let (name, fd) = self.program_for(current.kind, direction)?;
        let own = bpf::program_info(fd).map_err(|error| DataplaneError::Kernel {
            action: "look at the program for",
            ifindex,
            error: error.to_string(),
        })?;
        if current.program == own.id {
            return Ok(Ok(()));
        }
        Ok(links::replace(
            current,
            &self.pins,
            ifindex,
            direction,
            (name, fd),
        ))
    }

    /// Removes the maps of versions none of whose links is left.
    pub(super) fn retire_older_versions(&self) -> Result<(), DataplaneError> {
        for folder in self.folders()?.into_iter().skip(1) {
            links::remove_stale(&folder)?;
            if links::pinned_interfaces(&folder)?.is_empty()
                && pins::names(&folder.netfilter())?.is_empty()
            {
                folder.remove_all()?;
            }
        }
        Ok(())
    }
}
