//! The measures as a table, for people and for the document.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// What the document has around what is written into it.
const BEGIN: &str = "<!-- results: begin -->";
const END: &str = "<!-- results: end -->";

/// A line of `measures.jsonl`.
#[derive(Debug, Deserialize)]
struct Line {
    id: String,
    name: String,
    value: Option<f64>,
    unit: String,
    bound: Option<f64>,
    sense: Option<String>,
    met: Option<bool>,
    samples: Vec<f64>,
    note: String,
}

/// A table in Markdown, a row for each measure.
pub(crate) fn table(json: &str) -> Result<String> {
    let mut text = String::from(
        "| | measure | value | must reach | met | lowest to highest | |\n|-|-|-:|-:|-|-|-|\n",
    );
    for line in json.lines() {
        let line: Line = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let bound = match (&line.sense, line.bound) {
            (Some(sense), Some(bound)) => {
                let sign = if sense == "at most" { "≤" } else { "≥" };
                format!("{sign} {} {}", figure(bound), line.unit)
            }
            _ => "report".to_owned(),
        };
        let value = line.value.map_or_else(
            || "not available".to_owned(),
            |value| format!("{} {}", figure(value), line.unit),
        );
        let met = match line.met {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        let low = line.samples.iter().copied().fold(f64::NAN, f64::min);
        let high = line.samples.iter().copied().fold(f64::NAN, f64::max);
        let range = match line.samples.len() {
            0 => String::new(),
            1 => "once".to_owned(),
            rounds => format!("{} to {} in {rounds} rounds", figure(low), figure(high)),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {value} | {bound} | {met} | {range} | {} |",
            line.id, line.name, line.note
        );
    }
    Ok(text)
}

/// Three digits that count.
fn figure(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || size == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

/// Writes what a run came to into the document, between its marks.
pub(crate) fn render(run: &Path, document: &Path) -> Result<()> {
    let read = |path: &Path| fs::read_to_string(path).with_context(|| path.display().to_string());
    let name = run
        .file_name()
        .context("a run has a name")?
        .to_string_lossy();
    let mut body = format!(
        "Run `bench/runs/{name}`:\n\n{}\n",
        read(&run.join("setup.md"))?
    );
    body += &table(&read(&run.join("measures.jsonl"))?)?;
    let mut plots: Vec<String> = fs::read_dir(run)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".svg"))
        .collect();
    plots.sort();
    for plot in plots {
        let title = plot.trim_end_matches(".svg");
        let _ = write!(body, "\n![{title}](../bench/runs/{name}/{plot})\n");
    }
    let text = between(&read(document)?, &body)
        .with_context(|| format!("{} lacks the marks {BEGIN} and {END}", document.display()))?;
    fs::write(document, text).with_context(|| document.display().to_string())
}

/// The text with another body between its marks.
fn between(text: &str, body: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{body}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_value_bound_and_whether_it_is_met() {
        let json = r#"{"id":"a","name":"x","value":1.234,"unit":"×","bound":2.0,"sense":"at most","met":true,"samples":[1.2,1.234,1.3],"note":"n"}
{"id":"i","name":"y","value":null,"unit":"ns","bound":null,"sense":null,"met":null,"samples":[],"note":"why"}
"#;
        let table = table(json).unwrap();
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| a | x | 1.23 × | ≤ 2.00 × | yes | 1.20 to 1.30 in 3 rounds | n |",
                "| i | y | not available | report |  |  | why |"
            ]
        );
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = between(&text, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(between(&new, "new\n").unwrap(), new);
        assert_eq!(between("no marks", "new"), None);
    }
}
