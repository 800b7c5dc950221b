//! Writes what a run came to into the document.

use std::{fmt::Write as _, fs, path::Path};

/// What of a run is told, as people call it.
const TOLD: &[(&str, &str)] = &[
    ("start to image, first", "from the start to the first image"),
    ("CPU, first", "CPU until then"),
    (
        "sent by the server, first",
        "sent by the API server until then",
    ),
    ("memory, first", "memory of the agent then"),
    ("memory, at the end", "memory at the end"),
    ("memory, most", "most memory at any time"),
    ("objects", "objects"),
    ("saved", "what is in force, on disk"),
    ("save what is in force", "writing that"),
    (
        "a pod that a rule here means: change to image",
        "a pod moves that a rule of this node means, to the new image",
    ),
    ("a pod that a rule here means: CPU", "CPU for it"),
    (
        "a pod that a rule here means: sent by the server",
        "sent by the API server for it",
    ),
    (
        "another pod: change to image",
        "another pod moves, until it is known that the image is the same",
    ),
    ("another pod: CPU", "CPU for it"),
    ("another pod: read", "of that: taking over what was told"),
    ("another pod: accept", "of that: accepting"),
    ("another pod: model", "of that: putting the model together"),
    ("another pod: report", "of that: warnings"),
    ("another pod: select", "of that: selecting"),
    (
        "policies here, one after the other: rate",
        "apply rate: policies of this node that change, each when the one before is in the image",
    ),
    (
        "policies here, one after the other: CPU for each",
        "CPU for each",
    ),
    (
        "policies elsewhere, one after the other: rate",
        "apply rate: policies of other nodes likewise, each when it is known that the image is \
         the same",
    ),
    (
        "policies elsewhere, one after the other: CPU for each",
        "CPU for each",
    ),
    (
        "policies at once: rate",
        "apply rate: policies that change all at once, those of this node among them",
    ),
    ("policies at once: passes", "passes that they take"),
    ("policies at once: CPU for each", "CPU for each"),
    (
        "a status update: CPU",
        "CPU for a change of a pod's status, which is told to nobody",
    ),
    (
        "a status update: sent by the server",
        "sent by the API server for it",
    ),
];

/// Writes a run's figures between their marks in the document.
pub(super) fn render(run: &Path) {
    const BEGIN: &str = "<!-- cluster: begin -->";
    const END: &str = "<!-- cluster: end -->";
    let read = |name: &str| fs::read_to_string(run.join(name)).expect("a run");
    let raw = read("kube.csv");
    let values = |measure: &str| -> (String, Vec<f64>) {
        let lines = raw.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix('"')?.split_once("\",")?;
            (name == measure).then_some(rest)
        });
        let fields = lines.map(|rest| {
            let mut fields = rest.split(',');
            let unit = fields.next().expect("a unit").to_owned();
            let value = fields.next_back().expect("a value");
            (unit, value.parse::<f64>().expect("a number"))
        });
        let (units, mut values): (Vec<String>, Vec<f64>) = fields.unzip();
        values.sort_by(f64::total_cmp);
        let unit = units.into_iter().next().unwrap_or_default();
        (unit, values)
    };
    let figure = |value: f64| match value.abs() {
        size if size >= 100.0 || size == size.trunc() => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    let name = run.file_name().expect("a name").to_string_lossy();
    let mut body = format!("Run `bench/runs/{name}`:\n\n{}\n", read("kube-setup.md"));
    body += "| measure | median | lowest to highest |\n|-|-:|-|\n";
    for (measure, told) in TOLD {
        let (unit, values) = values(measure);
        let (Some(low), Some(high)) = (values.first(), values.last()) else {
            panic!("the run has no {measure}");
        };
        let unit = if unit == "1" { "" } else { &unit };
        let range = match values.len() {
            1 => "once".to_owned(),
            rounds => format!("{} to {} in {rounds} rounds", figure(*low), figure(*high)),
        };
        let median = figure(values[values.len() / 2]);
        writeln!(body, "| {told} | {median} {unit} | {range} |").expect("a text");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
    let text = fs::read_to_string(&file).expect("the document");
    let (before, rest) = text.split_once(BEGIN).expect("a mark");
    let (_, behind) = rest.split_once(END).expect("a mark");
    fs::write(&file, format!("{before}{BEGIN}\n{body}{END}{behind}")).expect("space");
}
