//! What names metrics, held to those that the agent has: that these are fed is
//! for `reconcile`'s tests and the end-to-end ones.

use std::{collections::BTreeSet, env, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use hostfw_agent::observe::metrics::families::{FAMILIES, Family, Type, documentation};
use regex_lite::Regex;
use serde_json::Value;

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn the_documentation_is_that_of_the_code() -> Result<()> {
    let path = repository().join("docs/metrics.md");
    let expected = documentation();
    if env::var_os("HOSTFW_BLESS").is_some_and(|value| value == "1") {
        return Ok(fs::write(path, expected)?);
    }
    let found = fs::read_to_string(&path).context("docs/metrics.md")?;
    ensure!(
        found == expected,
        "docs/metrics.md is not that of the code; HOSTFW_BLESS=1 cargo test -p hostfw-agent \
         --test metrics writes it"
    );
    Ok(())
}

/// The metric of this name, a histogram's suffix left out.
fn family(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| match family.kind {
        Type::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|suffix| name.strip_suffix(suffix) == Some(family.name)),
        Type::Counter | Type::Gauge => family.name == name,
    })
}

/// Labels that are not the metrics' own: those of targets and of histograms.
const GIVEN: [&str; 4] = ["instance", "job", "namespace", "le"];

/// Checks the metrics and labels that an expression names, and gives the metrics.
fn check(expression: &str) -> Result<BTreeSet<String>> {
    let names = Regex::new(r"\bhostfw_[a-z0-9_]+")?;
    let mut found = BTreeSet::new();
    let mut labels: BTreeSet<&str> = GIVEN.into();
    for name in names.find_iter(expression) {
        let family = family(name.as_str())
            .with_context(|| format!("no metric {} for {expression}", name.as_str()))?;
        labels.extend(family.labels);
        found.insert(family.name.to_owned());
    }
    ensure!(!found.is_empty(), "no metric in {expression}");
    let used = Regex::new(r#"([a-z_]+)\s*(?:=~|!~|!=|=)\s*""#)?;
    let grouped = Regex::new(r"(?:by|on|without|ignoring|group_left)\s*\(([a-z_, ]*)\)")?;
    let used = used.captures_iter(expression).map(|one| one.get(1));
    let grouped = grouped.captures_iter(expression).map(|one| one.get(1));
    for list in used.chain(grouped).flatten() {
        for label in list.as_str().split(',').map(str::trim) {
            ensure!(
                label.is_empty() || labels.contains(label),
                "no label {label} for {expression}"
            );
        }
    }
    Ok(found)
}

#[test]
fn alerts_name_metrics_that_exist() -> Result<()> {
    let path = repository().join("deploy/monitoring/alerts.yaml");
    let text = fs::read_to_string(&path).context("alerts.yaml")?;
    let rules: Value = serde_saphyr::from_str(&text)?;
    let groups = rules["groups"].as_array().context("no groups")?;
    let mut names = BTreeSet::new();
    for rule in groups
        .iter()
        .filter_map(|group| group["rules"].as_array())
        .flatten()
    {
        let name = rule["alert"].as_str().context("a rule that is no alert")?;
        ensure!(names.insert(name), "{name} is there twice");
        let expression = rule["expr"].as_str().context("no expr")?;
        check(expression).with_context(|| name.to_owned())?;
        for text in ["summary", "description"] {
            let text = &rule["annotations"][text];
            ensure!(
                text.as_str().is_some_and(|text| text.ends_with('.')),
                "{name}: {text}"
            );
        }
        ensure!(
            matches!(
                rule["labels"]["severity"].as_str(),
                Some("warning" | "critical")
            ),
            "{name}: no severity"
        );
    }
    ensure!(names.len() > 5, "only {names:?}");
    Ok(())
}

#[test]
fn the_dashboard_names_metrics_that_exist() -> Result<()> {
    let path = repository().join("deploy/monitoring/dashboard.json");
    let text = fs::read_to_string(&path).context("dashboard.json")?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let mut shown = BTreeSet::new();
    let mut panels = BTreeSet::new();
    for panel in dashboard["panels"].as_array().context("no panels")? {
        let title = panel["title"].as_str().context("a panel without title")?;
        ensure!(
            panels.insert(panel["id"].as_u64()),
            "{title}: its id is there twice"
        );
        let targets = panel["targets"].as_array().context("no targets")?;
        for target in targets {
            let expression = target["expr"].as_str().context("no expr")?;
            shown.extend(check(expression).with_context(|| title.to_owned())?);
        }
    }
    // All but what only says what was built.
    let missing: Vec<_> = FAMILIES
        .iter()
        .filter(|family| !shown.contains(family.name))
        .map(|family| family.name)
        .collect();
    ensure!(missing.is_empty(), "no panel shows {missing:?}");
    Ok(())
}

#[test]
fn what_is_no_metric_is_found() {
    assert!(check("rate(hostfw_packets_total{verdict=\"drop\"}[5m])").is_ok());
    assert!(check("hostfw_packets").is_err());
    assert!(check("hostfw_pass_duration_seconds").is_err());
    assert!(check("hostfw_ready{verdict=\"drop\"} == 0").is_err());
    assert!(check("sum by (policy) (hostfw_ready)").is_err());
    assert!(check("up == 0").is_err());
}
