//! Every figure as it was taken, and what they come to.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::plot::{Plot, Series};

/// All figures, in the order in which they were taken.
#[derive(Debug, Default)]
pub(crate) struct Record {
    rows: Vec<Row>,
    measures: Vec<Measure>,
    plots: Vec<Wanted>,
}

#[derive(Debug)]
struct Row {
    scenario: String,
    contender: String,
    /// How many rules, networks or flows.
    size: usize,
    unit: &'static str,
    round: usize,
    value: f64,
}

/// A contender at a size.
pub(crate) type Of<'a> = (&'a str, usize);

/// What a value must keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }

    const fn value(self) -> f64 {
        match self {
            Self::AtMost(bound) | Self::AtLeast(bound) => bound,
        }
    }

    const fn sense(self) -> &'static str {
        match self {
            Self::AtMost(_) => "at most",
            Self::AtLeast(_) => "at least",
        }
    }
}

/// One line of the result.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    /// What it belongs to: a letter of the table in docs/performance.md.
    pub(crate) id: &'static str,
    /// What was measured.
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) bound: Option<Bound>,
    /// One for each round; the value is their median. None: not available.
    pub(crate) samples: Vec<f64>,
    /// What else is to be known.
    pub(crate) note: String,
}

impl Measure {
    fn value(&self) -> Option<f64> {
        median(&self.samples)
    }

    fn to_json(&self) -> Value {
        let value = self.value();
        json!({
            "id": self.id,
            "name": self.name,
            "value": value,
            "unit": self.unit,
            "bound": self.bound.map(Bound::value),
            "sense": self.bound.map(Bound::sense),
            "met": self.bound.map(|bound| value.is_some_and(|value| bound.met(value))),
            "samples": self.samples,
            "note": self.note,
        })
    }
}

#[derive(Debug)]
struct Wanted {
    file: &'static str,
    title: &'static str,
    sizes: &'static str,
    scenarios: Vec<String>,
}

impl Record {
    /// Takes a figure down.
    pub(crate) fn add(
        &mut self,
        scenario: &str,
        (contender, size): Of<'_>,
        unit: &'static str,
        round: usize,
        value: f64,
    ) {
        self.rows.push(Row {
            scenario: scenario.to_owned(),
            contender: contender.to_owned(),
            size,
            unit,
            round,
            value,
        });
    }

    /// What was measured of a contender, by round.
    pub(crate) fn of(&self, scenario: &str, (contender, size): Of<'_>) -> Vec<f64> {
        let mut rows: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| {
                row.scenario == scenario && row.contender == contender && row.size == size
            })
            .collect();
        rows.sort_by_key(|row| row.round);
        rows.iter().map(|row| row.value).collect()
    }

    /// One contender's figures over another's, each of the same round: a
    /// machine that grows slower meets both alike.
    pub(crate) fn ratios(&self, scenario: &str, one: Of<'_>, other: Of<'_>) -> Vec<f64> {
        self.of(scenario, one)
            .iter()
            .zip(self.of(scenario, other))
            .map(|(one, other)| one / other)
            .collect()
    }

    /// Adds a line to the result.
    pub(crate) fn measure(&mut self, measure: Measure) {
        eprintln!(
            "  {}: {}: {}",
            measure.id,
            measure.name,
            measure.value().map_or_else(
                || measure.note.clone(),
                |value| format!("{value:.3} {}", measure.unit)
            )
        );
        self.measures.push(measure);
    }

    /// Adds a ratio to the result.
    pub(crate) fn ratio(
        &mut self,
        id: &'static str,
        name: impl Into<String>,
        bound: Bound,
        samples: Vec<f64>,
        note: impl Into<String>,
    ) {
        self.measure(Measure {
            id,
            name: name.into(),
            unit: "×",
            bound: Some(bound),
            samples,
            note: note.into(),
        });
    }

    /// Wants a plot of all contenders of some scenarios.
    pub(crate) fn plot(
        &mut self,
        file: &'static str,
        title: &'static str,
        sizes: &'static str,
        scenarios: &[&str],
    ) {
        self.plots.push(Wanted {
            file,
            title,
            sizes,
            scenarios: scenarios.iter().map(|name| (*name).to_owned()).collect(),
        });
    }

    /// One object a line for each measure.
    pub(crate) fn json(&self) -> String {
        self.measures
            .iter()
            .map(|measure| format!("{}\n", measure.to_json()))
            .collect()
    }

    /// Median, lowest and highest of everything, in Markdown.
    pub(crate) fn summary(&self) -> String {
        let mut text = String::from(
            "| scenario | contender | size | unit | median | lowest | highest |\n|-|-|-:|-|-:|-:|-:|\n",
        );
        for (scenario, contender, size, unit) in self.kinds(|_| true) {
            let values = self.of(scenario, (contender, size));
            let fold = |with: fn(f64, f64) -> f64| values.iter().copied().fold(f64::NAN, with);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {scenario} | {contender} | {size} | {unit} | {:.3} | {:.3} | {:.3} |",
                median(&values).unwrap_or(f64::NAN),
                fold(f64::min),
                fold(f64::max),
            );
        }
        text
    }

    /// What there are figures of, in the order of the first.
    fn kinds(&self, wanted: impl Fn(&Row) -> bool) -> Vec<(&str, &str, usize, &'static str)> {
        let mut kinds = Vec::new();
        for row in self.rows.iter().filter(|row| wanted(row)) {
            let kind = (&*row.scenario, &*row.contender, row.size, row.unit);
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }

    fn drawing(&self, wanted: &Wanted) -> Plot {
        let mut series: Vec<Series> = Vec::new();
        let mut unit = "";
        for (scenario, contender, size, of_unit) in
            self.kinds(|row| wanted.scenarios.contains(&row.scenario))
        {
            unit = of_unit;
            let name = match wanted.scenarios.len() {
                1 => contender.to_owned(),
                _ => format!("{scenario}: {contender}"),
            };
            let Some(value) = median(&self.of(scenario, (contender, size))) else {
                continue;
            };
            let point = (size as f64, value);
            match series.iter_mut().find(|series| series.name == name) {
                Some(series) => series.points.push(point),
                None => series.push(Series {
                    name,
                    points: vec![point],
                }),
            }
        }
        Plot {
            title: wanted.title.to_owned(),
            x: wanted.sizes.to_owned(),
            y: unit.to_owned(),
            series,
        }
    }

    /// Leaves `raw.csv`, `measures.jsonl`, `summary.md` and the plots in the
    /// folder.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let mut csv = String::from("scenario,contender,size,unit,round,value\n");
        for row in &self.rows {
            let _ = writeln!(
                csv,
                "\"{}\",\"{}\",{},{},{},{}",
                row.scenario, row.contender, row.size, row.unit, row.round, row.value
            );
        }
        let mut files = vec![
            ("raw.csv".to_owned(), csv),
            ("measures.jsonl".to_owned(), self.json()),
            ("summary.md".to_owned(), self.summary()),
        ];
        for wanted in &self.plots {
            files.push((format!("{}.svg", wanted.file), self.drawing(wanted).svg()));
        }
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        for (name, text) in files {
            fs::write(folder.join(&name), text).context(name)?;
        }
        Ok(())
    }
}

/// The value in the middle, or between the two there; `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let mut record = Record::default();
        for (round, (a, b)) in [(1.0, 4.0), (9.0, 6.0), (2.0, 5.0)].into_iter().enumerate() {
            record.add("s", ("a", 10), "ns", round, a);
            record.add("s", ("b", 10), "ns", round, b);
        }
        record
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn ratios_are_of_one_round() {
        let ratios = record().ratios("s", ("b", 10), ("a", 10));
        assert_eq!(ratios, [4.0, 6.0 / 9.0, 2.5]);
        assert!(record().ratios("s", ("b", 10), ("a", 11)).is_empty());
    }

    #[test]
    fn a_measure_says_whether_its_bound_is_met() {
        let mut record = record();
        for (samples, bound) in [
            (vec![1.9, 2.0, 5.0], Bound::AtMost(2.0)),
            (vec![0.5], Bound::AtLeast(0.55)),
            (vec![], Bound::AtMost(1.0)),
        ] {
            record.ratio("a", "name", bound, samples, "");
        }
        let lines: Vec<Value> = record
            .json()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["met"], true);
        assert_eq!(lines[0]["value"], 2.0);
        assert_eq!(lines[0]["sense"], "at most");
        assert_eq!(lines[1]["met"], false);
        // What could not be measured has not met its bound.
        assert_eq!(lines[2]["met"], false);
        assert_eq!(lines[2]["value"], Value::Null);
    }

    #[test]
    fn a_summary_has_a_line_for_each_contender_and_size() {
        let summary = record().summary();
        assert_eq!(summary.lines().count(), 4);
        assert!(
            summary.contains("| s | a | 10 | ns | 2.000 | 1.000 | 9.000 |"),
            "{summary}"
        );
    }

    #[test]
    fn a_folder_gets_the_figures_and_the_plots() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = record();
        record.plot("all", "All", "rules", &["s"]);
        record.write(folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("raw.csv").lines().count(), 7);
        assert!(read("all.svg").starts_with("<svg"));
    }
}
