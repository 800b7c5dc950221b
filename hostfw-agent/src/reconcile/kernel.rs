//! The kernel side, as the loop wants it.

use std::collections::BTreeSet;

use hostfw_common::{
    conntrack::FLOW_DENIED,
    counter::{Checkpoint, Counter, StagedKey},
    verdict::{Direction, Reason},
};

use super::{CountFlows, Dataplane, Hooks, ReadFlows, tally::Page};
use crate::{
    adopt::{Kernel, KnownFlow, Surroundings, ip},
    attach::{self, DataplaneError, Hook},
    compile::image::Image,
    maps::MapSize,
    model::Interface,
    observe::{
        live::{FlowStatus, Flows, Inside, MOST_FLOWS},
        metrics::FlowFill,
        status::HookStatus,
    },
};

impl Dataplane for attach::Dataplane {
    type Error = DataplaneError;

    fn generation(&self) -> u64 {
        self.generation()
    }

    fn attached(&self) -> Result<BTreeSet<u32>, DataplaneError> {
        let attachments = self.attachments()?;
        Ok(attachments.into_iter().map(|a| a.ifindex).collect())
    }

    fn judged(&self, observed: bool) -> Result<BTreeSet<u32>, DataplaneError> {
        self.judged(observed)
    }

    fn switch(&mut self, image: &Image) -> Result<u64, DataplaneError> {
        self.switch(image)
    }

    fn attach(&mut self, interface: &Interface, workload: bool) -> Result<Hooks, DataplaneError> {
        let attachment = if workload {
            self.attach_workload(interface)?
        } else {
            self.attach(interface)?
        };
        Ok(Hooks {
            ingress: hook_status(attachment.ingress),
            egress: hook_status(attachment.egress),
        })
    }

    fn unfit_for_xdp(&self) -> Result<BTreeSet<u32>, DataplaneError> {
        self.below_vlans()
    }

    fn detach(&mut self, interface: u32) -> Result<(), DataplaneError> {
        self.detach(interface)
    }

    fn attach_netfilter(&mut self) -> Result<(), DataplaneError> {
        Ok(self.attach_netfilter()?)
    }

    fn netfilter_attached(&self) -> bool {
        self.netfilter_attached()
    }

    fn detach_netfilter(&mut self) -> Result<(), DataplaneError> {
        self.detach_netfilter()
    }

    fn retire(&mut self) -> Result<(), DataplaneError> {
        self.retire()
    }

    fn adopt(&mut self) -> Result<usize, DataplaneError> {
        let adopted = self.adopt()?;
        Ok(adopted.conntrack + adopted.sockets)
    }

    fn counters(&self) -> Result<Vec<(Checkpoint, Reason, Counter)>, DataplaneError> {
        self.counters()
    }

    fn would_drop(&self) -> Result<Vec<(Checkpoint, Reason, Counter)>, DataplaneError> {
        self.would_drop()
    }

    fn hidden(&self) -> Result<Vec<(Checkpoint, Reason, u64)>, DataplaneError> {
        self.hidden()
    }

    fn staged(&self) -> Result<Vec<(StagedKey, u64)>, DataplaneError> {
        self.staged()
    }

    fn forget_staged(&mut self, key: &StagedKey) -> Result<(), DataplaneError> {
        self.forget_staged(key)
    }

    fn rule_counters(&self, page: u32) -> Result<Page, DataplaneError> {
        self.rule_counters(page)
    }

    fn is_settled(&mut self) -> bool {
        self.is_settled()
    }

    fn map_sizes(&self) -> Result<Vec<MapSize>, DataplaneError> {
        self.map_sizes()
    }

    fn flows(&self) -> Result<ReadFlows, DataplaneError> {
        let reader = self.flow_reader()?;
        Ok(Box::new(move || {
            let mut known = reader.read().map_err(|error| error.to_string())?;
            known.retain(|known| known.flow.state & FLOW_DENIED == 0);
            let mut kernel = Kernel::read();
            let flows = known.iter().take(MOST_FLOWS);
            Ok(Flows {
                flows: flows
                    .map(|known| flow_status(*known, kernel.surroundings(&known.key)))
                    .collect(),
                left_out: known.len().saturating_sub(MOST_FLOWS),
            })
        }))
    }

    fn flow_counter(&self) -> Result<CountFlows, DataplaneError> {
        let reader = self.flow_reader()?;
        let capacity = self.flow_capacity()?;
        let filter = self.filter_keeper();
        Ok(Box::new(move || {
            Ok(FlowFill {
                alive: reader.count().map_err(|error| error.to_string())?,
                capacity,
                filter: filter.fill(),
            })
        }))
    }
}

fn flow_status(known: KnownFlow, surroundings: Surroundings) -> FlowStatus {
    let KnownFlow {
        key,
        flow,
        confirmed,
    } = known;
    FlowStatus {
        protocol: key.protocol,
        remote: ip(key.remote),
        remote_port: u16::from_be_bytes(key.remote_port),
        local: ip(key.local),
        local_port: u16::from_be_bytes(key.local_port),
        opened_by_remote: flow.opened_by == Direction::Ingress as u8,
        confirmed,
        interface: surroundings.interface,
        inside: surroundings.inside.map(|(address, port)| Inside {
            address,
            port,
            here: surroundings.here,
        }),
    }
}

fn hook_status(hook: Hook) -> HookStatus {
    HookStatus {
        hook: hook.kind.hook().to_owned(),
        mode: hook.kind.mode().map(str::to_owned),
        fallback: hook.fallback,
    }
}
