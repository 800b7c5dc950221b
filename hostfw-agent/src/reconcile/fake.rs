//! A kernel side for tests: remembers what was asked of it, and fails on
//! demand.

use std::collections::{BTreeMap, BTreeSet};

use hostfw_common::{
    counter::{Checkpoint, Counter, PAGE_COUNTERS, StagedKey},
    endpoint::{Endpoint, FLAG_LEARNING, FLAG_NETFILTER, FLAG_OBSERVE},
    verdict::Reason,
};

use super::{
    dataplane::{CountFlows, Dataplane, Hooks, ReadFlows},
    tally::Page,
};
use crate::{
    compile::image::Image,
    maps::MapSize,
    model::Interface,
    observe::{live::Flows, metrics::FlowFill, status::HookStatus},
};

/// What was asked of the kernel side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// With the interfaces that learn, and those that are judged.
    Switch(Vec<u32>, Vec<u32>),
    Attach(u32),
    AttachWorkload(u32),
    Detach(u32),
    Adopt,
    AttachNetfilter,
    DetachNetfilter,
    /// A switch after which netfilter programs judge these interfaces; told
    /// behind the [`Call::Switch`].
    Netfilter(Vec<u32>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) &'static str);

#[derive(Debug, Default)]
pub(super) struct Fake {
    pub(super) calls: Vec<Call>,
    pub(super) generation: u64,
    pub(super) attached: BTreeSet<u32>,
    pub(super) unfit_for_xdp: BTreeSet<u32>,
    pub(super) image: Image,
    /// Switches that succeed before one fails; `None`: all do.
    pub(super) switches_left: Option<usize>,
    pub(super) cannot_attach: BTreeSet<u32>,
    pub(super) cannot_detach: bool,
    pub(super) cannot_adopt: bool,
    pub(super) cannot_list: bool,
    /// A kernel with netfilter programs; else there are none.
    pub(super) has_netfilter: bool,
    pub(super) netfilter_attached: bool,
    pub(super) staged: BTreeMap<StagedKey, u64>,
    /// By number.
    pub(super) rule_counters: BTreeMap<u32, Counter>,
    /// Packets may still be judged by the generation before.
    pub(super) unsettled: bool,
}

impl Fake {
    /// As an earlier agent left it, judging these interfaces.
    pub(super) fn left_behind(image: Image) -> Self {
        Self {
            generation: 7,
            attached: image.endpoints.keys().copied().collect(),
            image,
            ..Self::default()
        }
    }

    pub(super) fn take_calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls)
    }
}

fn split(image: &Image) -> (Vec<u32>, Vec<u32>) {
    let by_learning: BTreeMap<u32, bool> = image
        .endpoints
        .iter()
        .map(|(&index, endpoint)| (index, endpoint.flags & FLAG_LEARNING != 0))
        .collect();
    by_learning
        .keys()
        .copied()
        .partition(|index| by_learning[index])
}

impl Dataplane for Fake {
    type Error = Refused;

    fn generation(&self) -> u64 {
        self.generation
    }

    fn attached(&self) -> Result<BTreeSet<u32>, Refused> {
        if self.cannot_list {
            return Err(Refused("no list today"));
        }
        Ok(self.attached.clone())
    }

    fn judged(&self, observed: bool) -> Result<BTreeSet<u32>, Refused> {
        let enforced = |index: &u32| {
            let endpoint = self.image.endpoints.get(index);
            endpoint.is_some_and(|endpoint| endpoint.flags & FLAG_OBSERVE == 0)
        };
        let judged = split(&self.image).1.into_iter();
        Ok(judged.filter(|index| observed || enforced(index)).collect())
    }

    fn switch(&mut self, image: &Image) -> Result<u64, Refused> {
        if self.switches_left == Some(0) {
            return Err(Refused("no memory for maps"));
        }
        self.switches_left = self.switches_left.map(|left| left - 1);
        let (learning, judged) = split(image);
        self.calls.push(Call::Switch(learning, judged));
        if self.has_netfilter {
            let at_netfilter = |endpoint: &Endpoint| endpoint.flags & FLAG_NETFILTER != 0;
            self.calls.push(Call::Netfilter(
                image
                    .endpoints
                    .iter()
                    .filter(|(_, endpoint)| at_netfilter(endpoint))
                    .map(|(&index, _)| index)
                    .collect(),
            ));
        }
        self.image = image.clone();
        self.generation += 1;
        Ok(self.generation)
    }

    fn attach(&mut self, interface: &Interface, workload: bool) -> Result<Hooks, Refused> {
        if self.cannot_attach.contains(&interface.index) {
            return Err(Refused("no such device"));
        }
        self.calls.push(if workload {
            Call::AttachWorkload(interface.index)
        } else {
            Call::Attach(interface.index)
        });
        self.attached.insert(interface.index);
        let mut hooks = hooks();
        if self.unfit_for_xdp.contains(&interface.index) {
            hooks.ingress = hooks.egress.clone();
        }
        Ok(hooks)
    }

    fn unfit_for_xdp(&self) -> Result<BTreeSet<u32>, Refused> {
        Ok(self.unfit_for_xdp.clone())
    }

    fn detach(&mut self, interface: u32) -> Result<(), Refused> {
        if self.cannot_detach {
            return Err(Refused("busy"));
        }
        self.calls.push(Call::Detach(interface));
        self.attached.remove(&interface);
        Ok(())
    }

    fn attach_netfilter(&mut self) -> Result<(), Refused> {
        if !self.has_netfilter {
            return Err(Refused("an old kernel"));
        }
        if !self.netfilter_attached {
            self.calls.push(Call::AttachNetfilter);
            self.netfilter_attached = true;
        }
        Ok(())
    }

    fn netfilter_attached(&self) -> bool {
        self.netfilter_attached
    }

    fn detach_netfilter(&mut self) -> Result<(), Refused> {
        if self.netfilter_attached {
            self.calls.push(Call::DetachNetfilter);
            self.netfilter_attached = false;
        }
        Ok(())
    }

    fn retire(&mut self) -> Result<(), Refused> {
        Ok(())
    }

    fn adopt(&mut self) -> Result<usize, Refused> {
        if self.cannot_adopt {
            return Err(Refused("no conntrack"));
        }
        self.calls.push(Call::Adopt);
        Ok(0)
    }

    fn flows(&self) -> Result<ReadFlows, Refused> {
        Ok(Box::new(|| Ok(Flows::default())))
    }

    fn flow_counter(&self) -> Result<CountFlows, Refused> {
        Ok(Box::new(|| {
            Ok(FlowFill {
                alive: [2, 7],
                capacity: [16, 64],
                filter: 0.125,
            })
        }))
    }

    fn would_drop(&self) -> Result<Vec<(Checkpoint, Reason, Counter)>, Refused> {
        Ok(Vec::new())
    }

    fn hidden(&self) -> Result<Vec<(Checkpoint, Reason, u64)>, Refused> {
        Ok(vec![
            (Checkpoint::WireIn, Reason::RuleDeny, 2),
            (Checkpoint::Forward, Reason::TierDefault, 5),
        ])
    }

    fn staged(&self) -> Result<Vec<(StagedKey, u64)>, Refused> {
        Ok(self
            .staged
            .iter()
            .map(|(key, packets)| (*key, *packets))
            .collect())
    }

    fn forget_staged(&mut self, key: &StagedKey) -> Result<(), Refused> {
        self.staged.remove(key);
        Ok(())
    }

    fn rule_counters(&self, page: u32) -> Result<Page, Refused> {
        let mut counters = [Counter::default(); PAGE_COUNTERS as usize];
        for (number, counter) in (page * PAGE_COUNTERS..).zip(&mut counters) {
            *counter = self.rule_counters.get(&number).copied().unwrap_or_default();
        }
        Ok(counters)
    }

    fn is_settled(&mut self) -> bool {
        !self.unsettled
    }

    fn map_sizes(&self) -> Result<Vec<MapSize>, Refused> {
        Ok(vec![MapSize {
            name: "ROWS",
            bytes: 4096,
        }])
    }

    fn counters(&self) -> Result<Vec<(Checkpoint, Reason, Counter)>, Refused> {
        Ok(vec![(
            Checkpoint::WireIn,
            Reason::RuleDeny,
            Counter {
                packets: 3,
                bytes: 180,
            },
        )])
    }
}

pub(super) fn hooks() -> Hooks {
    Hooks {
        ingress: HookStatus {
            hook: "xdp".to_owned(),
            mode: Some("native".to_owned()),
            fallback: None,
        },
        egress: HookStatus {
            hook: "tcx".to_owned(),
            mode: None,
            fallback: None,
        },
    }
}
