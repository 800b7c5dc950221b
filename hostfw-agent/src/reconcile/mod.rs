//! The loop that brings the kernel to what the store says: the only module
//! that sees both ends.
//!
//! ```text
//! store, interfaces -> read -> accept -> select -> compile -> enforce -> status
//! ```
//!
//! Whatever fails on the way leaves in force what is in force, is told in the
//! status, and is tried again.

mod dataplane;
mod enforce;
mod facts;
#[cfg(test)]
mod fake;
mod filter;
mod flows;
mod kernel;
mod metrics;
mod plan;
mod run;
mod save;
mod staged;
mod status;
mod steps;
mod tally;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use hostfw_common::{counter::Checkpoint, verdict::Reason};
use tokio::sync::watch;
use tracing::{error, info, warn};

use self::{
    enforce::{Enforcer, Outcome},
    facts::{is_ipvs, masters, summary},
    flows::FlowClients,
    metrics::Meter,
    save::{Saver, When},
    staged::StagedCounts,
    steps::Steps,
    tally::Tally,
};
use crate::{
    accept::{self, Accepted, AcceptedObject, Acceptor, Assembler, LoadError, Shortfall},
    compile::{self, CompileError, compile_with, image::Image},
    lint::Warning,
    model::{EndpointAddresses, Interface, Model},
    observe::{
        conditions::{Facts, endpoint_statuses},
        events::NameBook,
        live::Enforced,
        notes::Notes,
        objects::FirstHeld,
        reports::{RecentReports, Reports},
        socket::{Health, Question, Refusal, Reply, Request},
        status::EndpointStatus,
    },
    select::{self, Selection, select_with},
    sorted::Sorted,
    source::{
        Snapshot, SourceFile,
        follow::{FollowError, create_folder},
    },
};

pub use dataplane::{CountFlows, Dataplane, Hooks, ReadFlows};
pub use filter::keep_filter;
pub use run::run;

/// What the agent is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node that it speaks for.
    pub node: String,
    /// Where to write down what is in force.
    pub state_file: PathBuf,
    /// If not empty: govern only the interfaces of these names.
    pub only: BTreeSet<String>,
    /// Judge, count and report everything, and drop nothing.
    pub observe_only: bool,
}

/// Everything between what the store says and what the kernel does.
#[derive(Debug)]
pub struct Reconciler<D> {
    settings: Settings,
    enforcer: Enforcer<D>,
    names: NameBook,
    /// What the store's files say.
    acceptor: Acceptor,
    /// The model of it.
    assembler: Assembler,
    /// What of it is not enforced.
    shortfall: Shortfall,
    /// What need not be selected or compiled again.
    caches: (select::Cache, compile::Cache),
    /// What came of the last pass.
    derived: Option<Derived>,
    saver: Saver,
    /// The store as it was read last.
    snapshot: Option<Snapshot>,
    /// Why it could not be read since, if so.
    read_error: Option<String>,
    /// Its files that someone is writing, which count as they were before.
    being_written: BTreeSet<String>,
    /// The kinds of objects that it follows one by one, and whether it can.
    kinds: Vec<(&'static str, bool)>,
    /// What is valid in it, and probably not meant.
    warnings: Arc<[Warning]>,
    /// What the store asks for.
    latest: Accepted,
    /// What is in force.
    enforced: Accepted,
    first_held: FirstHeld,
    enforced_revision: String,
    error: Option<String>,
    endpoints: Vec<EndpointStatus>,
    /// The node's interfaces when it was reconciled last.
    interfaces: Vec<Interface>,
    not_adopted: BTreeMap<u32, String>,
    staged: StagedCounts,
    tally: Tally,
    flow_clients: FlowClients,
    reports: RecentReports,
    meter: Meter,
    /// What goes wrong beside enforcing.
    notes: Notes,
    /// How often it was reconciled.
    passes: watch::Sender<u64>,
    /// What other nodes have to be told of this one.
    told: watch::Sender<Option<Vec<EndpointAddresses>>>,
}

/// What follows from objects and interfaces.
#[derive(Debug)]
struct Derived {
    objects: Sorted<AcceptedObject>,
    interfaces: Vec<Interface>,
    /// Of every interface that is meant.
    all: Selection,
    /// Of those that are to be governed.
    selection: Selection,
    left_alone: BTreeSet<u32>,
    image: Result<Image, CompileError>,
}

impl<D: Dataplane> Reconciler<D> {
    /// Begins with what was in force when the last agent of this state folder
    /// ended. `names` is told the names of every generation.
    ///
    /// A state that cannot be read is reported and left out: the kernel still
    /// enforces it, until the store says otherwise.
    pub fn new(settings: Settings, dataplane: D, names: NameBook) -> Self {
        let enforced = match accept::load(&settings.state_file) {
            Ok(accepted) => accepted,
            Err(LoadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                Accepted::default()
            }
            Err(error) => {
                error!(
                    file = %settings.state_file.display(),
                    %error,
                    "cannot tell what was accepted before"
                );
                Accepted::default()
            }
        };
        let saver = Saver::new(&settings.state_file);
        Self {
            enforcer: Enforcer::new(dataplane).observing(settings.observe_only),
            settings,
            names,
            acceptor: Acceptor::default(),
            assembler: Assembler::default(),
            shortfall: Shortfall::default(),
            caches: Default::default(),
            derived: None,
            saver,
            snapshot: None,
            read_error: None,
            being_written: BTreeSet::new(),
            kinds: Vec::new(),
            warnings: Arc::default(),
            latest: enforced.clone(),
            enforced,
            first_held: FirstHeld::default(),
            enforced_revision: String::new(),
            error: None,
            endpoints: Vec::new(),
            interfaces: Vec::new(),
            not_adopted: BTreeMap::new(),
            staged: StagedCounts::default(),
            tally: Tally::default(),
            flow_clients: FlowClients::default(),
            reports: RecentReports::default(),
            meter: Meter::new(),
            notes: Notes::default(),
            passes: watch::Sender::new(0),
            told: watch::Sender::new(None),
        }
    }

    /// Tells clients what is reported there.
    #[must_use]
    pub fn with_reports(self, reports: RecentReports) -> Self {
        Self { reports, ..self }
    }

    /// Makes the store's folder if it is missing, but only where nothing was
    /// ever in force: elsewhere the folder was lost or is not mounted yet, and
    /// an empty one in its place would open what is enforced.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn make_store(&self, folder: &Path) -> Result<(), FollowError> {
        let fresh =
            self.enforced == Accepted::default() && self.enforcer.dataplane().generation() == 0;
        let missing =
            fs::metadata(folder).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if fresh && missing {
            create_folder(folder)?;
            info!(folder = %folder.display(), "made the store's folder");
        }
        Ok(())
    }

    /// What was in force when the last agent of this state folder ended, by the
    /// files that meant it.
    #[must_use]
    pub fn held(&self) -> Vec<SourceFile> {
        let held = self.enforced.objects.iter().flat_map(|object| {
            let text = object.resource.to_text();
            object.files.iter().map(move |file| SourceFile {
                path: Arc::clone(file),
                content: Ok(text.clone()),
            })
        });
        held.collect()
    }

    /// Where to note what goes wrong beside enforcing, for the status.
    #[must_use]
    pub fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// Changes whenever something may have changed that the status tells.
    #[must_use]
    pub fn passes(&self) -> watch::Receiver<u64> {
        self.passes.subscribe()
    }

    /// What other nodes have to be told of this one; `None` before it is known.
    #[must_use]
    pub fn told(&self) -> watch::Receiver<Option<Vec<EndpointAddresses>>> {
        self.told.subscribe()
    }

    /// Takes in what reading the store gave. If it could not be read, what it
    /// last held counts.
    fn take_read(&mut self, read: Result<Snapshot, String>) {
        match read {
            Ok(snapshot) => {
                if self.read_error.take().is_some() {
                    info!("the store can be read again");
                }
                self.snapshot = Some(snapshot);
            }
            Err(reason) => {
                if self.read_error.as_ref() != Some(&reason) {
                    error!(error = reason, "what the store last held stays in force");
                }
                self.read_error = Some(reason);
            }
        }
    }

    /// Brings the kernel to what the store says, for these interfaces, and
    /// says whether nothing is left to be done.
    fn reconcile(&mut self, interfaces: &[Interface]) -> bool {
        let begin = Instant::now();
        let done = self.bring_about(interfaces);
        self.meter.passed(done, begin.elapsed());
        for took in self.enforcer.take_switches() {
            self.meter.switched(took);
        }
        done && self.read_error.is_none()
    }

    /// The same, as far as it depends on what was read.
    fn bring_about(&mut self, interfaces: &[Interface]) -> bool {
        let mut steps = Steps::begin();
        let candidate = match &self.snapshot {
            Some(snapshot) => self.acceptor.accept(snapshot, &self.enforced),
            // Not read yet, and nothing known from before: to go on would mean
            // to take an unreadable store for an empty one.
            None if self.enforced == Accepted::default() => return false,
            None => self.enforced.clone(),
        };
        steps.done("accept");
        self.tell_problems(&candidate);
        self.names.set_interfaces(
            interfaces
                .iter()
                .map(|interface| (interface.index, interface.name.clone()))
                .collect(),
        );

        self.interfaces = interfaces.to_vec();
        let model = self.assembler.model(&candidate);
        let (derived, changed) = self.derive(&candidate, &model, interfaces, &mut steps);
        let Derived {
            all,
            selection,
            left_alone,
            ..
        } = &derived;
        self.names.set_log_prefix(&selection.log_prefix);
        self.told.send_if_modified(|told| {
            let changed = told.as_ref() != Some(&all.told);
            if changed {
                *told = Some(all.told.clone());
            }
            changed
        });
        let outcome = self.enforce(selection, &derived.image, &candidate);
        steps.done("enforce");
        // Behind what cannot wait.
        if changed {
            let warnings = self.assembler.warnings(&candidate);
            self.tell_warnings(warnings);
        }
        self.not_adopted
            .retain(|index, _| interfaces.iter().any(|i| i.index == *index));
        self.not_adopted.extend(outcome.not_adopted.clone());

        let generation = self.enforcer.dataplane().generation();
        self.collect_staged(generation);
        if outcome.switched {
            self.accepted(&candidate, generation);
        }
        if outcome.complete()
            && let Some(snapshot) = &self.snapshot
        {
            self.enforced_revision.clone_from(&snapshot.revision);
        }
        self.set_error(summary(&outcome, selection));
        self.latest = candidate;
        let facts = Facts {
            generation,
            error: outcome.error.clone(),
            hooks: selection
                .governed
                .iter()
                .filter_map(|governed| {
                    let index = governed.interface.index;
                    let hooks = self.enforcer.hooks(index)?;
                    Some((index, (hooks.ingress.clone(), hooks.egress.clone())))
                })
                .collect(),
            not_attached: outcome.not_attached.clone(),
            not_adopted: self.not_adopted.clone(),
            netfilter_missing: outcome.netfilter_missing.clone(),
            ipvs_interface: interfaces
                .iter()
                .find(|interface| is_ipvs(interface))
                .map(|interface| interface.name.clone()),
            masters: masters(selection, interfaces),
            left_alone: left_alone.clone(),
            observe_only: self.settings.observe_only,
        };
        self.endpoints = endpoint_statuses(&model, all, &facts);
        self.derived = Some(derived);
        steps.done("status");
        outcome.complete()
    }

    /// What is to be enforced, and whether it is not simply that of the last
    /// pass, for something has changed.
    fn derive(
        &mut self,
        candidate: &Accepted,
        model: &Model,
        interfaces: &[Interface],
        steps: &mut Steps,
    ) -> (Derived, bool) {
        let same =
            |last: &Derived| last.interfaces == interfaces && last.objects == candidate.objects;
        let last = match self.derived.take() {
            Some(last) if same(&last) => return (last, false),
            last => last,
        };
        let (selected, compiled) = &mut self.caches;
        let all = select_with(model, &self.settings.node, interfaces, selected);
        let mut selection = all.clone();
        let left_alone = leave_alone(&mut selection, &self.settings.only);
        steps.done("select");
        // Of what happens in a large cluster, little matters here.
        let image = match last {
            Some(last) if last.selection == selection => last.image,
            Some(_) | None => {
                let image = compile_with(&selection, compiled);
                self.meter.compiled(steps.done("compile"));
                image
            }
        };
        let derived = Derived {
            objects: candidate.objects.clone(),
            interfaces: interfaces.to_vec(),
            all,
            selection,
            left_alone,
            image,
        };
        (derived, true)
    }

    fn enforce(
        &mut self,
        selection: &Selection,
        image: &Result<Image, CompileError>,
        candidate: &Accepted,
    ) -> Outcome {
        let mut image = match image {
            Ok(image) => image.clone(),
            Err(error) => {
                return Outcome {
                    error: Some(error.to_string()),
                    ..Outcome::default()
                };
            }
        };
        let interfaces: Vec<_> = selection
            .governed
            .iter()
            .map(|governed| &governed.interface)
            .collect();
        self.collect_counts();
        self.tally.prepare(&mut image, |object| {
            Some(candidate.object(object)?.object.clone())
        });
        let outcome = self.enforcer.enforce(&image, &interfaces, |generation| {
            self.names.add_generation(generation, image.names.clone());
        });
        if outcome.switched {
            self.tally.switched(self.enforcer.dataplane().generation());
        }
        outcome
    }

    /// Takes in what rules that are not in force any more, or are elsewhere, have
    /// counted until then.
    fn collect_counts(&mut self) {
        let dataplane = self.enforcer.dataplane_mut();
        let settled = dataplane.is_settled();
        let generation = dataplane.generation();
        let read = |page| dataplane.rule_counters(page);
        if let Err(error) = self.tally.collect(generation, settled, read) {
            warn!(%error, "cannot collect what rules have counted");
        }
    }

    /// What the rules in force have counted.
    fn rule_counts(&self) -> Reply {
        let dataplane = self.enforcer.dataplane();
        match self.tally.counts(|page| dataplane.rule_counters(page)) {
            Ok(counts) => Reply::Rules(counts),
            Err(error) => Reply::Refusal(Refusal {
                error: format!("cannot read the counters of rules: {error}"),
            }),
        }
    }

    /// Collects what staged policies of earlier generations would have done,
    /// before their names are forgotten.
    fn collect_staged(&mut self, generation: u64) {
        let dataplane = self.enforcer.dataplane_mut();
        let done = dataplane.staged().and_then(|counts| {
            let past = self.staged.collect(&counts, generation, &self.names);
            past.iter().try_for_each(|key| dataplane.forget_staged(key))
        });
        if let Err(error) = done {
            warn!(%error, "cannot collect what staged policies would have done");
        }
    }

    /// Notes that this is in force.
    fn accepted(&mut self, candidate: &Accepted, generation: u64) {
        self.first_held
            .update(&self.enforced, candidate, generation);
        // Problems are not part of what is written down.
        let changed = self.enforced.objects != candidate.objects
            || self.enforced.refused != candidate.refused;
        if !self.settings.state_file.exists() {
            self.saver.save(candidate, When::Now);
        } else if changed {
            self.saver
                .save(candidate, When::of(&self.enforced, candidate));
        }
        self.enforced = candidate.clone();
    }

    fn tell_problems(&self, candidate: &Accepted) {
        let known: BTreeSet<_> = self.latest.problems.iter().collect();
        for problem in candidate.problems.iter().filter(|p| !known.contains(p)) {
            warn!(
                file = problem.file.as_deref().unwrap_or_default(),
                object = problem
                    .object
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                "{}",
                problem.message
            );
        }
        if candidate.problems.is_empty() && !known.is_empty() {
            info!("nothing is wrong with the store any more");
        }
    }

    fn tell_warnings(&mut self, warnings: Arc<[Warning]>) {
        for warning in warnings.iter().filter(|w| !self.warnings.contains(w)) {
            warn!(object = %warning.about, "{}", warning.message);
        }
        self.warnings = warnings;
    }

    fn set_error(&mut self, error: Option<String>) {
        if self.error != error {
            match &error {
                Some(error) => error!(error, "not everything is enforced as the store says"),
                None => info!("everything is enforced as the store says"),
            }
        }
        self.error = error;
    }

    /// What a client of the control socket wants to know.
    fn answer(&mut self, question: Question) {
        // Who is told that something is in force may rely on it.
        self.saver.wait();
        let reply = match question.request {
            Request::Status => Reply::Status(Box::new(self.status())),
            Request::Brief => Reply::Status(Box::new(self.brief())),
            Request::Enforced => Reply::Enforced(Enforced {
                node: self.settings.node.clone(),
                generation: self.enforcer.dataplane().generation(),
                observe_only: self.settings.observe_only,
                interfaces: self.interfaces.clone(),
                resources: self
                    .enforced
                    .objects
                    .iter()
                    .map(|object| object.resource.to_value())
                    .collect(),
            }),
            Request::Flows => match self.enforcer.dataplane().flows() {
                Ok(read) => return self.flow_clients.serve(read, question.reply),
                Err(error) => flows::refusal(&error),
            },
            Request::Rules => self.rule_counts(),
            Request::Reports { from } => Reply::Reports(Reports {
                hidden: self.hidden().iter().map(|(.., packets)| packets).sum(),
                ..self.reports.since(from)
            }),
            Request::Metrics => self.metrics(),
            Request::Health => Reply::Health(Health {
                not_ready: self.not_ready(),
            }),
        };
        // Fails if the client went away meanwhile.
        let _ = question.reply.send(reply);
    }

    /// Packets that were dropped and not reported one by one.
    fn hidden(&self) -> Vec<(Checkpoint, Reason, u64)> {
        self.enforcer
            .dataplane()
            .hidden()
            .inspect_err(|error| warn!(%error, "cannot read the counters"))
            .unwrap_or_default()
    }
}

/// Removes from the selection the interfaces that the agent was told to leave
/// alone, and gives their indexes. `only`: those that it was not, unless empty.
fn leave_alone(selection: &mut Selection, only: &BTreeSet<String>) -> BTreeSet<u32> {
    if only.is_empty() {
        return BTreeSet::new();
    }
    let (kept, left) = std::mem::take(&mut selection.governed)
        .into_iter()
        .partition(|governed| only.contains(&governed.interface.name));
    selection.governed = kept;
    left.into_iter()
        .map(|governed| governed.interface.index)
        .collect()
}

#[cfg(test)]
mod tests;
