//! Expected against observed, probe by probe and step by step.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use serde::Serialize;

use crate::{
    expectations::{Expectation, Expected, Step},
    probe::Outcome,
    scenario::Fault,
};

/// One time that everything was tried.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// After this step.
    pub step: Step,
    /// Heading of its column.
    pub label: &'static str,
}

/// Something else that must hold.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// At this step.
    pub step: &'static str,
    /// What must hold.
    pub name: &'static str,
    /// Whether it did.
    pub passed: bool,
    /// What was found.
    pub found: String,
}

/// A probe in one round.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// Heading of the round.
    pub step: &'static str,
    /// What should be.
    pub expected: Expectation,
    /// What was.
    pub observed: Outcome,
    /// Whether they agree.
    pub agrees: bool,
}

/// A probe in all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Name of the probe.
    pub probe: String,
    /// Whether it is a connection that was opened before step 0.
    pub held: bool,
    /// Why it should be so.
    pub reason: &'static str,
    /// By round.
    pub steps: Vec<Cell>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was broken on purpose.
    pub fault: Option<Fault>,
    /// What must hold besides the probes.
    pub checks: Vec<Check>,
    /// What else happened.
    pub notes: Vec<String>,
    rounds: Vec<Round>,
    rows: Vec<Row>,
    expected: Vec<Expected>,
}

impl Report {
    /// No rounds yet, of these probes.
    #[must_use]
    pub fn new(new: &[Expected], held: &[Expected]) -> Self {
        let row = |held| {
            move |one: &Expected| Row {
                probe: one.probe.to_string(),
                held,
                reason: one.reason,
                steps: Vec::new(),
            }
        };
        Self {
            fault: None,
            checks: Vec::new(),
            notes: Vec::new(),
            rounds: Vec::new(),
            rows: new
                .iter()
                .map(row(false))
                .chain(held.iter().map(row(true)))
                .collect(),
            expected: [new, held].concat(),
        }
    }

    /// Adds a round: outcomes in the order of the probes.
    pub fn add(&mut self, round: Round, new: Vec<Outcome>, held: Vec<Outcome>) {
        self.rounds.push(round);
        let outcomes = new.into_iter().chain(held);
        for ((row, expected), observed) in self.rows.iter_mut().zip(&self.expected).zip(outcomes) {
            let expected = expected.after(round.step);
            row.steps.push(Cell {
                step: round.label,
                expected,
                agrees: expected.agrees(&observed),
                observed,
            });
        }
    }

    /// Names of the probes that found something else than they should, and
    /// whether they are of held connections.
    #[must_use]
    pub fn differing(&self) -> BTreeSet<String> {
        self.rows
            .iter()
            .filter(|row| row.steps.iter().any(|cell| !cell.agrees))
            .map(Row::name)
            .collect()
    }

    /// Every probe that found something else than it should, one line for all
    /// steps where it found the same; failed checks too.
    #[must_use]
    pub fn differences(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for row in &self.rows {
            let mut at: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for cell in row.steps.iter().filter(|cell| !cell.agrees) {
                let what = format!("expected {}, found {}", cell.expected, cell.observed);
                at.entry(what).or_default().push(cell.step);
            }
            for (what, steps) in at {
                let (name, steps, reason) = (row.name(), steps.join(", "), row.reason);
                lines.push(format!("{name}: {what} at step {steps} ({reason})"));
            }
        }
        for check in self.checks.iter().filter(|check| !check.passed) {
            lines.push(format!(
                "check at step {}: {}; found: {}",
                check.step, check.name, check.found
            ));
        }
        lines
    }

    /// Whether everything is as expected.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.differences().is_empty()
    }

    /// The same as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "agrees": self.agrees(),
            "fault": self.fault.map(Fault::name),
            "steps": self.rounds.iter().map(|round| serde_json::json!({
                "step": round.label,
                "title": round.step.title(),
            })).collect::<Vec<_>>(),
            "probes": self.rows,
            "checks": self.checks,
            "notes": self.notes,
            "differing": self.differing(),
        })
    }
}

impl Row {
    fn name(&self) -> String {
        if self.held {
            format!("held {}", self.probe)
        } else {
            self.probe.clone()
        }
    }
}

impl Cell {
    /// Expected, or expected and observed if they differ.
    fn text(&self) -> String {
        if self.agrees {
            self.expected.to_string()
        } else {
            format!("{}!{}", self.expected, short(&self.observed))
        }
    }
}

fn short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Odd(_) => "odd".to_owned(),
        Outcome::Open | Outcome::Closed | Outcome::Refused | Outcome::Only(_) => {
            outcome.to_string()
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name_width = self.rows.iter().map(|row| row.probe.len()).max();
        let name_width = name_width.unwrap_or(0);
        let widths: Vec<usize> = self
            .rounds
            .iter()
            .enumerate()
            .map(|(index, round)| {
                let cells = self.rows.iter().map(|row| row.steps[index].text().len());
                cells.max().unwrap_or(0).max(round.label.len())
            })
            .collect();
        let mut heading = format!("{:name_width$}", "step");
        for (round, width) in self.rounds.iter().zip(&widths) {
            write!(heading, "  {:width$}", round.label)?;
        }
        writeln!(
            f,
            "Where only one word stands, it was expected and found; in a!b, a was expected and b found.\n"
        )?;
        for held in [false, true] {
            let title = if held {
                "Connections opened before step 0, used again after each step"
            } else {
                "New connections"
            };
            writeln!(f, "{title}\n\n{heading}")?;
            writeln!(f, "{}", "-".repeat(heading.len()))?;
            for row in self.rows.iter().filter(|row| row.held == held) {
                let mut line = format!("{:name_width$}", row.probe);
                for (cell, width) in row.steps.iter().zip(&widths) {
                    write!(line, "  {:width$}", cell.text())?;
                }
                writeln!(f, "{}", line.trim_end())?;
            }
            writeln!(f)?;
        }
        for check in &self.checks {
            let result = if check.passed { "yes" } else { "NO" };
            writeln!(f, "step {}: {}: {result}", check.step, check.name)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        let cells = self.rows.len() * self.rounds.len();
        let differences = self.differences();
        if differences.is_empty() {
            return writeln!(f, "\nAll {cells} observations are as expected.");
        }
        writeln!(f, "\nDifferent from what is expected:")?;
        for line in differences {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}
