//! Every figure as it was measured, and what they come to.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// All measurements, in the order in which they were taken.
#[derive(Debug, Default)]
pub(crate) struct Record {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    scenario: String,
    contender: String,
    unit: &'static str,
    round: usize,
    value: f64,
}

/// A contender in a scenario.
struct Line<'a> {
    scenario: &'a str,
    contender: &'a str,
    unit: &'static str,
    median: f64,
    lowest: f64,
    highest: f64,
    /// To the scenario's first contender.
    ratio: f64,
}

impl Record {
    pub(crate) fn add(
        &mut self,
        scenario: &str,
        contender: &str,
        unit: &'static str,
        round: usize,
        value: f64,
    ) {
        self.rows.push(Row {
            scenario: scenario.to_owned(),
            contender: contender.to_owned(),
            unit,
            round,
            value,
        });
    }

    fn lines(&self) -> Vec<Line<'_>> {
        let mut lines: Vec<Line<'_>> = Vec::new();
        for row in &self.rows {
            let same =
                |line: &Line<'_>| line.scenario == row.scenario && line.contender == row.contender;
            if lines.iter().any(same) {
                continue;
            }
            let mut values: Vec<f64> = self
                .rows
                .iter()
                .filter(|other| other.scenario == row.scenario && other.contender == row.contender)
                .map(|row| row.value)
                .collect();
            values.sort_by(f64::total_cmp);
            let median = median(&values);
            let first = lines.iter().find(|line| line.scenario == row.scenario);
            let ratio = median / first.map_or(median, |line| line.median);
            lines.push(Line {
                scenario: &row.scenario,
                contender: &row.contender,
                unit: row.unit,
                median,
                lowest: values.first().copied().unwrap_or(f64::NAN),
                highest: values.last().copied().unwrap_or(f64::NAN),
                ratio,
            });
        }
        lines
    }

    /// A table, in Markdown.
    pub(crate) fn summary(&self) -> String {
        let mut text = String::from(
            "| scenario | contender | unit | median | lowest | highest | ratio |\n|-|-|-|-:|-:|-:|-:|\n",
        );
        for line in self.lines() {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
                line.scenario,
                line.contender,
                line.unit,
                line.median,
                line.lowest,
                line.highest,
                line.ratio
            );
        }
        text
    }

    pub(crate) fn to_json(&self) -> Value {
        let lines = self.lines().into_iter().map(|line| {
            json!({
                "scenario": line.scenario,
                "contender": line.contender,
                "unit": line.unit,
                "median": line.median,
                "lowest": line.lowest,
                "highest": line.highest,
                "ratio": line.ratio,
            })
        });
        Value::Array(lines.collect())
    }

    /// Leaves `raw.csv`, `summary.md` and `setup.md` in the folder.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let mut csv = String::from("scenario,contender,unit,round,value\n");
        for row in &self.rows {
            let _ = writeln!(
                csv,
                "{},{},{},{},{}",
                row.scenario, row.contender, row.unit, row.round, row.value
            );
        }
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| path.display().to_string())
        };
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        write("raw.csv", &csv)?;
        write("summary.md", &self.summary())?;
        write("setup.md", &setup())
    }
}

/// The machine.
fn setup() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cpus = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    format!(
        "- Linux {}\n- {cpus} CPUs, {model}\n- load average at the end: {}\n",
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").trim()
    )
}

/// Of sorted values.
fn median(values: &[f64]) -> f64 {
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_medians_to_the_first_contender() {
        let mut record = Record::default();
        for (round, (a, b)) in [(1.0, 4.0), (9.0, 6.0), (2.0, 5.0)].into_iter().enumerate() {
            record.add("s", "a", "ns", round, a);
            record.add("s", "b", "ns", round, b);
        }
        let lines = record.lines();
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].median, lines[0].ratio), (2.0, 1.0));
        assert_eq!((lines[1].median, lines[1].ratio), (5.0, 2.5));
        assert_eq!((lines[1].lowest, lines[1].highest), (4.0, 6.0));
    }

    #[test]
    fn an_even_number_of_values_has_a_median_between() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }
}
