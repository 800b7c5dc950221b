//! The tutorial, step by step, with every probe after every step.

use std::{collections::BTreeSet, fmt, str::FromStr};

use anyhow::{Context as _, Result, bail};

use crate::{
    cluster::{Binaries, Cluster},
    expectations::{Expectation, Expected, Step, held_connections, new_connections},
    insist::Insistence,
    probe::{self, Held, Outcome, Probe},
    report::{Check, Report, Round},
    topology::{
        Family, Host, Topology,
        kube_proxy::{self, NODE_PORT},
    },
};

/// What is broken on purpose, to see that the probes notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No DNAT for the NodePort, on either node.
    NoDnat,
    /// The pinhole's policy is deleted as soon as it is applied.
    NoPinhole,
    /// Step 2 without the endpoints.
    NoEndpoints,
    /// Both agents are killed after step 2b, and started again.
    KillAgent,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 4] = [
        Self::NoDnat,
        Self::NoPinhole,
        Self::NoEndpoints,
        Self::KillAgent,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoDnat => "no-dnat",
            Self::NoPinhole => "no-pinhole",
            Self::NoEndpoints => "no-endpoints",
            Self::KillAgent => "kill-agent",
        }
    }

    /// The probes that it must change, and no others.
    #[must_use]
    pub fn changes(self) -> BTreeSet<String> {
        let chosen: fn(&Expected) -> bool = match self {
            Self::NoDnat => |one| one.probe.action.port() == NODE_PORT,
            Self::NoPinhole => |one| {
                one.probe.from == Host::Client
                    && matches!(one.probe.action, probe::Action::Tcp(_, NODE_PORT))
            },
            Self::NoEndpoints => |one| {
                Step::ALL
                    .iter()
                    .any(|step| one.after(*step) != one.after(Step::Nothing))
            },
            Self::KillAgent => |_| false,
        };
        new_connections()
            .iter()
            .filter(|one| chosen(one))
            .map(|one| one.probe.to_string())
            .collect()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = Self::ALL.map(Self::name);
        match Self::ALL.into_iter().find(|fault| fault.name() == text) {
            Some(fault) => Ok(fault),
            None => bail!(
                "unknown fault {text:?}: expected one of {}",
                names.join(", ")
            ),
        }
    }
}

/// Probes and what they should find; connections held open meanwhile.
#[derive(Debug)]
pub struct Probing<'a> {
    topology: &'a Topology,
    new: Vec<Expected>,
    held: Vec<Expected>,
    connections: Vec<Held>,
    insistence: Insistence,
}

impl<'a> Probing<'a> {
    /// Opens the connections that are to be held.
    ///
    /// # Errors
    ///
    /// If one does not open.
    pub fn start(topology: &'a Topology) -> Result<Self> {
        let held = held_connections();
        let probes: Vec<Probe> = held.iter().map(|one| one.probe).collect();
        Ok(Self {
            topology,
            new: new_connections(),
            connections: Held::open(topology, &probes).context("before anything is configured")?,
            held,
            insistence: Insistence::default(),
        })
    }

    /// Tries everything: outcomes of new and of held connections, in the order
    /// of their tables. What should be answered after the step, and is not, is
    /// tried again, but for what the fault changes.
    ///
    /// # Errors
    ///
    /// If a namespace cannot be entered.
    fn round(&mut self, step: Step, fault: Option<Fault>) -> Result<(Vec<Outcome>, Vec<Outcome>)> {
        let changed = fault.map(Fault::changes).unwrap_or_default();
        let probes: Vec<Probe> = self.new.iter().map(|one| one.probe).collect();
        let expected: Vec<Expectation> = self
            .new
            .iter()
            .map(|one| match changed.contains(&one.probe.to_string()) {
                true => Expectation::Closed,
                false => one.after(step),
            })
            .collect();
        let new = self.insistence.try_all(self.topology, &probes, &expected)?;
        let expected: Vec<Expectation> = self.held.iter().map(|one| one.after(step)).collect();
        let held = self.insistence.exchange(&mut self.connections, &expected);
        Ok((new, held))
    }

    /// Tries everything and returns what is not as it should be after
    /// the step, one line each.
    ///
    /// # Errors
    ///
    /// If a namespace cannot be entered.
    pub fn differences(&mut self, step: Step) -> Result<Vec<String>> {
        let (new, held) = self.round(step, None)?;
        let new = self.new.iter().zip(&new).map(|pair| ("", pair));
        let held = self.held.iter().zip(&held).map(|pair| ("held ", pair));
        Ok(new
            .chain(held)
            .filter(|(_, (expected, found))| !expected.after(step).agrees(found))
            .map(|(kind, (expected, found))| {
                let should = expected.after(step);
                format!("{kind}{}: expected {should}, found {found}", expected.probe)
            })
            .collect())
    }
}

/// Plays the tutorial on the topology. Without binaries, only as far as that
/// goes: step 0. `progress` is told what happens.
///
/// # Errors
///
/// If it cannot be played to its end; a probe that finds something else than
/// expected is no error.
pub fn play(
    topology: &Topology,
    cluster: Option<&mut Cluster<'_>>,
    fault: Option<Fault>,
    progress: &mut dyn FnMut(&str),
) -> Result<Report> {
    let mut probing = Probing::start(topology)?;
    let mut report = Report::new(&probing.new, &probing.held);
    report.fault = fault;
    if fault == Some(Fault::NoDnat) {
        for node in [Host::Node1, Host::Node2] {
            for family in Family::ALL {
                kube_proxy::remove_dnat(topology.namespace(node), family)?;
            }
        }
    }
    let Some(cluster) = cluster else {
        progress("step 0: nothing configured, and no agent");
        observe(&mut probing, &mut report, Step::Nothing, "0")?;
        return Ok(report);
    };
    cluster.start_agents()?;
    for step in Step::ALL {
        progress(&format!("step {}: {}", step.number(), step.title()));
        apply(cluster, step, fault, &mut report)?;
        cluster
            .settle()
            .with_context(|| format!("after step {}", step.number()))?;
        observe(&mut probing, &mut report, step, step.number())?;
        if step == Step::Ipv6 && fault == Some(Fault::KillAgent) {
            progress("kill -9 of both agents");
            cluster.kill_agents()?;
            observe(&mut probing, &mut report, step, "2b killed")?;
            progress("agents started again");
            cluster.start_agents()?;
            cluster.settle().context("after the restart")?;
            observe(&mut probing, &mut report, step, "2b again")?;
        }
        cluster.tend()?;
        for note in cluster.take_notes() {
            progress(&note);
            report.notes.push(note);
        }
    }
    Ok(report)
}

fn observe(
    probing: &mut Probing<'_>,
    report: &mut Report,
    step: Step,
    label: &'static str,
) -> Result<()> {
    let (new, held) = probing.round(step, report.fault)?;
    report.add(Round { step, label }, new, held);
    Ok(())
}

fn apply(
    cluster: &Cluster<'_>,
    step: Step,
    fault: Option<Fault>,
    report: &mut Report,
) -> Result<()> {
    let Some(file) = step.file() else {
        return Ok(());
    };
    if step == Step::Endpoints && fault == Some(Fault::NoEndpoints) {
        return Ok(());
    }
    let output = cluster.apply_example(file)?;
    let said = format!("{}{}", output.stdout, output.stderr);
    let warned = said
        .lines()
        .any(|line| line.to_lowercase().contains("warning") && line.contains("IPv6"));
    if let Some(policy) = step.deletes() {
        cluster.ctl(&["delete", "gnp", policy], "")?;
    }
    let name = match step {
        Step::Policies => Some(("apply warns that the policies close IPv6", warned)),
        Step::Ipv6 => Some(("apply does not warn of IPv6 any more", !warned)),
        Step::Nothing | Step::Endpoints | Step::NodePort | Step::SpecialLabel | Step::AllStages => {
            None
        }
    };
    if let Some((name, passed)) = name {
        report.checks.push(Check {
            step: step.number(),
            name,
            passed,
            found: said.trim().to_owned(),
        });
    }
    if fault == Some(Fault::NoPinhole) && matches!(step, Step::NodePort | Step::SpecialLabel) {
        cluster.ctl(&["delete", "gnp", "allow-nodeport"], "")?;
    }
    Ok(())
}

/// Builds the topology and plays the tutorial on it, for tests.
///
/// # Errors
///
/// As [`play`], and if the topology cannot be built.
pub fn run(binaries: &Binaries, fault: Option<Fault>) -> Result<Report> {
    let topology = Topology::up()?;
    let mut cluster = Cluster::new(&topology, binaries, &[])?;
    play(&topology, Some(&mut cluster), fault, &mut |line| {
        eprintln!("{line}");
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_that_break_something_name_probes() {
        for fault in Fault::ALL {
            assert_eq!(fault.changes().is_empty(), fault == Fault::KillAgent);
            assert_eq!(fault.name().parse::<Fault>().ok(), Some(fault));
        }
    }

    #[test]
    fn without_the_pinhole_only_the_outside_changes() {
        let expected = [
            "v4 outside -> node1:31852/tcp",
            "v6 outside -> node1:31852/tcp",
            "v4 outside -> node2:31852/tcp",
            "v6 outside -> node2:31852/tcp",
        ];
        assert_eq!(
            Fault::NoPinhole.changes(),
            expected.map(str::to_owned).into()
        );
    }
}
