//! One set of resources after another on the same cluster, with probes that
//! show what each of them lets through.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cluster::{self, Binaries, Cluster},
    expectations::Expectation,
    insist::Insistence,
    probe::{Action, Held, Outcome, Probe},
    raw::Message,
    topology::{Family, Host, Topology},
};

/// The only file of the store.
const FILE: &str = "resources.yaml";

/// Runs a test on a new topology with an agent on node1, and finishes it as
/// [`Policed::finish`] does. Outside of the sandbox nothing is done.
///
/// # Errors
///
/// What the test says, and what is not as it expects.
pub fn on_node1(test: impl FnOnce(&Topology, &mut Policed<'_>) -> Result<()>) -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut policed = Policed::start(&topology, &binaries)?;
    test(&topology, &mut policed)?;
    policed.finish()
}

/// A cluster, and what was found on it that should not be.
#[derive(Debug)]
pub struct Policed<'a> {
    topology: &'a Topology,
    cluster: Cluster<'a>,
    /// What is enforced, in words.
    situation: String,
    tried: BTreeSet<Probe>,
    sent: Vec<Message>,
    differences: Vec<String>,
    insistence: Insistence,
}

impl<'a> Policed<'a> {
    /// Starts an agent on node1, with an empty store.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(topology: &'a Topology, binaries: &Binaries) -> Result<Self> {
        Self::start_as(topology, binaries, &[])
    }

    /// As [`start`](Self::start), with these arguments for the agent.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_as(
        topology: &'a Topology,
        binaries: &Binaries,
        arguments: &[&str],
    ) -> Result<Self> {
        let cluster = Cluster::new(topology, binaries, arguments)?;
        Self::start_with(topology, cluster.on(Host::Node1))
    }

    /// As [`start`](Self::start), with agents on both nodes.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_both(topology: &'a Topology, binaries: &Binaries) -> Result<Self> {
        Self::start_with(topology, Cluster::new(topology, binaries, &[])?)
    }

    fn start_with(topology: &'a Topology, mut cluster: Cluster<'a>) -> Result<Self> {
        cluster.start_agents()?;
        Ok(Self {
            topology,
            cluster,
            situation: "nothing".to_owned(),
            tried: BTreeSet::new(),
            sent: Vec::new(),
            differences: Vec::new(),
            insistence: Insistence::default(),
        })
    }

    /// The agents.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster<'a> {
        &self.cluster
    }

    /// The agents, to be stopped and started.
    pub const fn cluster_mut(&mut self) -> &mut Cluster<'a> {
        &mut self.cluster
    }

    /// Makes these the only resources, and waits until they are enforced.
    /// `situation` says in words what they are.
    ///
    /// # Errors
    ///
    /// If they are refused, or that takes too long.
    pub fn enforce(&mut self, situation: &str, resources: &[String]) -> Result<()> {
        situation.clone_into(&mut self.situation);
        let file = cluster::store().join(FILE);
        if resources.is_empty() {
            // A file that has become empty would be taken for half written.
            fs::remove_file(file)?;
        } else {
            // Moved into the store in one step, for the same reason.
            let written = cluster::store().with_file_name(FILE);
            fs::write(&written, resources.concat())?;
            fs::rename(&written, file)?;
        }
        self.cluster
            .settle()
            .with_context(|| self.situation.clone())
    }

    /// Tries these in both IP versions and notes what is not as expected.
    ///
    /// # Errors
    ///
    /// If a namespace cannot be entered.
    pub fn expect(&mut self, expected: &[(Host, Action, Expectation)]) -> Result<()> {
        self.expect_in(&Family::ALL, expected)
    }

    /// As [`expect`](Self::expect), in these IP versions.
    ///
    /// # Errors
    ///
    /// As [`expect`](Self::expect).
    pub fn expect_in(
        &mut self,
        families: &[Family],
        expected: &[(Host, Action, Expectation)],
    ) -> Result<()> {
        let mut probes = Vec::new();
        let mut expectations = Vec::new();
        for (from, action, expectation) in expected {
            for family in families {
                probes.push(Probe {
                    family: *family,
                    from: *from,
                    action: *action,
                });
                expectations.push(*expectation);
            }
        }
        let outcomes = self
            .insistence
            .try_all(self.topology, &probes, &expectations)?;
        for ((probe, expectation), outcome) in probes.iter().zip(expectations).zip(&outcomes) {
            self.check(&probe.to_string(), expectation, outcome);
        }
        self.tried.extend(probes);
        Ok(())
    }

    /// Sends these and notes which do not arrive, or do, against expectation.
    ///
    /// # Errors
    ///
    /// If one cannot be sent.
    pub fn expect_arrival(&mut self, expected: &[(Message, Expectation)]) -> Result<()> {
        let (messages, expectations): (Vec<_>, Vec<_>) = expected.iter().cloned().unzip();
        let outcomes = self
            .insistence
            .send_all(self.topology, &messages, &expectations)?;
        for ((message, expectation), outcome) in expected.iter().zip(&outcomes) {
            self.check(&message.to_string(), *expectation, outcome);
        }
        self.sent.extend(messages);
        Ok(())
    }

    /// Opens these in both IP versions, to be held.
    ///
    /// # Errors
    ///
    /// If one does not open.
    pub fn hold(&self, connections: &[(Host, Action)]) -> Result<Vec<Held>> {
        let mut probes = Vec::new();
        for (from, action) in connections {
            for family in Family::ALL {
                probes.push(Probe {
                    family,
                    from: *from,
                    action: *action,
                });
            }
        }
        Held::open(self.topology, &probes).with_context(|| self.situation.clone())
    }

    /// Uses the connections again and notes what is not as expected.
    pub fn expect_held(&mut self, held: &mut [Held], expectation: Expectation) {
        let expectations = vec![expectation; held.len()];
        let outcomes = self.insistence.exchange(held, &expectations);
        for (one, outcome) in held.iter().zip(&outcomes) {
            self.check(&format!("held {}", one.probe), expectation, outcome);
        }
    }

    /// Notes it if the outcome is not as expected.
    pub fn check(&mut self, what: &str, expectation: Expectation, outcome: &Outcome) {
        if !expectation.agrees(outcome) {
            self.differences.push(format!(
                "{}: {what}: expected {expectation}, found {outcome}",
                self.situation
            ));
        }
    }

    /// Empties the store and tries everything again that was tried: what gets
    /// no answer even then proves nothing.
    ///
    /// # Errors
    ///
    /// All differences, one line each.
    pub fn finish(mut self) -> Result<()> {
        self.enforce("nothing", &[])?;
        let probes: Vec<_> = self.tried.iter().copied().collect();
        let open = vec![Expectation::Open; probes.len().max(self.sent.len())];
        let outcomes = self
            .insistence
            .try_all(self.topology, &probes, &open[..probes.len()])?;
        for (probe, outcome) in probes.iter().zip(&outcomes) {
            if !matches!(outcome, Outcome::Open | Outcome::Refused) {
                self.check(&probe.to_string(), Expectation::Open, outcome);
            }
        }
        let outcomes =
            self.insistence
                .send_all(self.topology, &self.sent, &open[..self.sent.len()])?;
        for (message, outcome) in std::mem::take(&mut self.sent).iter().zip(&outcomes) {
            self.check(&message.to_string(), Expectation::Open, outcome);
        }
        let notes = self.cluster.take_notes();
        ensure!(
            self.differences.is_empty() && notes.is_empty(),
            "not as expected:\n{}{}",
            self.differences.join("\n"),
            notes.join("\n")
        );
        Ok(())
    }
}
