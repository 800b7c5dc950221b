//! What is measured of passes, and told of the node: metrics and health.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use hostfw_common::{
    limits::{
        MAX_ENDPOINTS, MAX_FAILSAFES, MAX_INDEX_LINES, MAX_LISTS, MAX_PREFIXES, MAX_ROW_LINES,
        MAX_RULE_ENTRIES,
    },
    names,
};
use tracing::{error, warn};

use super::{CountFlows, Dataplane, Reconciler};
use crate::{
    compile::image::{Class, Image, Trie},
    observe::{
        metrics::{FlowFill, MapFill, Metrics, Readings},
        socket::{Refusal, Reply},
    },
};

/// Between two counts of the flows.
const PAUSE: Duration = Duration::from_secs(60);
/// A count takes at most this part of a CPU's time.
const PART: u32 = 200;

/// What is measured, and what came of the last pass.
#[derive(Debug)]
pub(super) struct Meter {
    /// None if the metrics cannot be had: a defect, which is no reason to
    /// enforce nothing.
    metrics: Option<Metrics>,
    /// Whether the last pass left everything enforced; `None` before the first.
    complete: Option<bool>,
    census: Census,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            metrics: Metrics::new()
                .inspect_err(|error| error!(%error, "there are no metrics"))
                .ok(),
            complete: None,
            census: Census::default(),
        }
    }

    pub(super) fn passed(&mut self, complete: bool, took: Duration) {
        self.complete = Some(complete);
        if let Some(metrics) = &self.metrics {
            metrics.passed(complete, took);
        }
    }

    pub(super) fn compiled(&self, took: Duration) {
        if let Some(metrics) = &self.metrics {
            metrics.compiled(took);
        }
    }

    pub(super) fn switched(&self, took: Duration) {
        if let Some(metrics) = &self.metrics {
            metrics.switched(took);
        }
    }
}

impl<D: Dataplane> Reconciler<D> {
    /// Why what the source wants is not enforced on every governed interface;
    /// `None` if it is.
    pub(super) fn not_ready(&self) -> Option<String> {
        if let Some(error) = self.read_error.as_ref().or(self.error.as_ref()) {
            return Some(error.clone());
        }
        let begun = self.snapshot.is_some() && self.meter.complete == Some(true);
        (!begun).then(|| "not everything was read and enforced yet".to_owned())
    }

    /// All metrics, as things are now.
    pub(super) fn metrics(&mut self) -> Reply {
        let brief = self.brief();
        let dataplane = self.enforcer.dataplane();
        self.meter.census.take_if_due(|| {
            dataplane
                .flow_counter()
                .inspect_err(|error| warn!(%error, "cannot count the flows"))
                .ok()
        });
        let image = self.derived.as_ref().map(|derived| &derived.image);
        let readings = Readings {
            complete: self.meter.complete == Some(true),
            readable: self.read_error.is_none() && self.snapshot.is_some(),
            maps: match image {
                Some(Ok(image)) => fills(image),
                Some(Err(_)) | None => Vec::new(),
            },
            flows: self.meter.census.last(),
            kinds: self.kinds.clone(),
            policies: self
                .tally
                .by_policy(|page| dataplane.rule_counters(page))
                .inspect_err(|error| warn!(%error, "cannot read the counters of rules"))
                .unwrap_or_default(),
            not_counted: self.tally.not_counted(),
            hidden: self.hidden(),
        };
        let rendered = match &self.meter.metrics {
            Some(metrics) => metrics
                .render(&brief, &readings)
                .map_err(|error| error.to_string()),
            None => Err("there are none".to_owned()),
        };
        match rendered {
            Ok(text) => Reply::Metrics(text),
            Err(error) => Reply::Refusal(Refusal {
                error: format!("cannot tell the metrics: {error}"),
            }),
        }
    }
}

/// What the maps of a generation hold.
fn fills(image: &Image) -> Vec<MapFill> {
    fn trie<K>(trie: &Trie<K>) -> usize {
        trie.values()
            .map(|table: &Arc<[Class<K>]>| table.len())
            .sum()
    }
    let fill = |name, entries, capacity: u32| MapFill {
        name,
        entries,
        capacity: capacity as usize,
    };
    vec![
        fill(names::ENDPOINTS, image.endpoints.len(), MAX_ENDPOINTS),
        fill(names::LISTS, image.lists.len(), MAX_LISTS),
        fill(names::PREFIXES_V4, trie(&image.prefixes_v4), MAX_PREFIXES),
        fill(names::PREFIXES_V6, trie(&image.prefixes_v6), MAX_PREFIXES),
        fill(names::SERVICES, trie(&image.services), MAX_PREFIXES),
        fill(names::INDEX, image.index.len(), MAX_INDEX_LINES),
        fill(names::ROWS, image.rows.len(), MAX_ROW_LINES),
        fill(names::RULES, image.rules.len(), MAX_RULE_ENTRIES),
        fill(names::FAILSAFES_V4, image.failsafes_v4.len(), MAX_FAILSAFES),
        fill(names::FAILSAFES_V6, image.failsafes_v6.len(), MAX_FAILSAFES),
    ]
}

/// How many flows there were when they were counted last. There may be a million,
/// so it is done on a thread, and not often.
#[derive(Clone, Debug, Default)]
struct Census(Arc<Mutex<Count>>);

#[derive(Debug, Default)]
struct Count {
    last: Option<FlowFill>,
    running: bool,
    /// Not to be counted before.
    next: Option<Instant>,
}

impl Census {
    fn last(&self) -> Option<FlowFill> {
        self.count(|count| count.last)
    }

    /// Begins to count, unless somebody does or did so a moment ago.
    fn take_if_due(&self, counter: impl FnOnce() -> Option<CountFlows>) {
        let due = self.count(|count| {
            let due = !count.running && count.next.is_none_or(|next| next <= Instant::now());
            count.running |= due;
            due
        });
        if !due {
            return;
        }
        let census = self.clone();
        let Some(counter) = counter() else {
            self.end(None, Duration::ZERO);
            return;
        };
        let work = move || {
            let begin = Instant::now();
            let counted = counter()
                .inspect_err(|error| warn!(error, "cannot count the flows"))
                .ok();
            census.end(counted, begin.elapsed());
        };
        if let Err(error) = thread::Builder::new()
            .name("flow-census".to_owned())
            .spawn(work)
        {
            warn!(%error, "cannot count the flows");
            self.end(None, Duration::ZERO);
        }
    }

    fn end(&self, counted: Option<FlowFill>, took: Duration) {
        self.count(|count| {
            count.last = counted.or(count.last);
            count.running = false;
            count.next = Some(Instant::now() + PAUSE.max(took * PART));
        });
    }

    fn count<T>(&self, with: impl FnOnce(&mut Count) -> T) -> T {
        // It is whole after every statement.
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn fill(alive: u64) -> FlowFill {
        FlowFill {
            alive: [alive; 2],
            ..FlowFill::default()
        }
    }

    #[test]
    fn flows_are_counted_by_one_at_a_time_and_not_at_once_again() {
        let census = Census::default();
        let (go_on, wait) = mpsc::channel::<()>();
        census.take_if_due(|| {
            Some(Box::new(move || {
                wait.recv().map_err(|error| error.to_string())?;
                Ok(fill(1))
            }))
        });
        let nobody = || -> Option<CountFlows> { panic!("counted twice") };
        census.take_if_due(nobody);
        assert_eq!(census.last(), None);
        go_on.send(()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while census.last().is_none() && Instant::now() < deadline {
            thread::yield_now();
        }
        assert_eq!(census.last(), Some(fill(1)));
        census.take_if_due(nobody);
        // What cannot be counted leaves what was counted last.
        census.count(|count| count.next = None);
        census.take_if_due(|| None);
        assert_eq!(census.last(), Some(fill(1)));
    }
}
