use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::{
    CtlError, Streams,
    client::{self, Agent},
    table::Table,
    wait,
};
use crate::{
    model::Kind,
    observe::status::{
        EndpointStatus, HookStatus, ObjectState, ObjectStatus, PolicyStatus, Problem, StagedStatus,
        Status,
    },
    source::{read_folder, yaml},
};

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Wait until the agent enforces what the store holds, or of a cluster
    /// what it has heard; fail if it does not, or if it refuses an object.
    #[arg(long)]
    wait: bool,
    /// How long to wait: `30s`, `500ms`, `2m`.
    #[arg(long, requires = "wait", value_parser = duration, default_value = "30s")]
    timeout: Duration,
    /// Form of the answer, instead of text for reading.
    #[arg(short, long, value_enum)]
    output: Option<Form>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

impl Show {
    pub(super) fn run(
        &self,
        store: Option<&Path>,
        agent: &Agent,
        streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    ) -> Result<(), CtlError> {
        let (status, result) = if self.wait {
            wait::wait(store, agent, self.timeout)
        } else {
            (Some(client::status(agent)?), Ok(()))
        };
        if let Some(status) = &status {
            let output = &mut streams.output;
            match self.output {
                None => {
                    let revision = match store {
                        Some(store) => read_folder(store).ok().map(|snapshot| snapshot.revision),
                        None => Some(status.store_revision.clone()),
                    };
                    text(status, revision.as_deref(), output)?;
                }
                Some(Form::Yaml) => {
                    let value = serde_json::to_value(status)?;
                    write!(output, "{}", yaml::to_yaml(&value)?)?;
                }
                Some(Form::Json) => {
                    serde_json::to_writer_pretty(&mut *output, status)?;
                    writeln!(output)?;
                }
            }
        }
        result
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        _ => return Err("expected a number with unit ms, s or m".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "expected a number with unit ms, s or m".to_owned())?;
    Ok(Duration::from_millis(number.saturating_mul(unit)))
}

/// For people: what is wrong comes first.
fn text(status: &Status, revision: Option<&str>, output: &mut impl Write) -> io::Result<()> {
    writeln!(output, "Node:         {}", status.node)?;
    writeln!(output, "Agent:        {}", status.version)?;
    let store = match revision {
        Some(revision) if revision == status.enforced_revision => "enforced",
        Some(_) => "changes are pending",
        None => "cannot be read by this command",
    };
    writeln!(output, "Store:        {store}")?;
    writeln!(output, "Generation:   {}", status.generation)?;
    if status.observe_only {
        writeln!(output, "Enforcement:  observe only, nothing is dropped")?;
    }
    if let Some(error) = &status.error {
        writeln!(output, "Error:        {}", one_line(error))?;
    }

    if !status.problems.is_empty() {
        writeln!(output, "\nProblems:")?;
        for one in &status.problems {
            writeln!(output, "  {}", problem(one))?;
        }
    }
    if !status.warnings.is_empty() {
        writeln!(output, "\nWarnings:")?;
        for one in &status.warnings {
            let line = format!("{}: {}", one.object, one.message);
            writeln!(output, "  {}", one_line(&line))?;
        }
    }
    if !status.objects.is_empty() {
        writeln!(output)?;
        objects(&status.objects).write(output)?;
    }
    let not_enforced = not_enforced(&status.objects);
    if !not_enforced.is_empty() {
        writeln!(output, "\nNot enforced:")?;
        for line in not_enforced {
            writeln!(output, "  {}", one_line(&line))?;
        }
    }
    if !status.endpoints.is_empty() {
        writeln!(output)?;
        endpoints(&status.endpoints).write(output)?;
    }
    if status.endpoints.iter().any(|one| !one.policies.is_empty()) {
        writeln!(output)?;
        policies(&status.endpoints).write(output)?;
    }
    let conditions = conditions(&status.endpoints);
    if !conditions.is_empty() {
        writeln!(output, "\nConditions:")?;
        for condition in conditions {
            writeln!(output, "  {}", one_line(&condition))?;
        }
    }
    if !status.counters.is_empty() {
        writeln!(output)?;
        counters(status).write(output)?;
    }
    if !status.staged.is_empty() {
        writeln!(output)?;
        staged(&status.staged).write(output)?;
    }
    if !status.maps.is_empty() {
        let bytes: u64 = status.maps.iter().map(|map| map.bytes).sum();
        let (count, kib) = (status.maps.len(), bytes.div_ceil(1024));
        writeln!(output, "\nKernel memory of {count} maps: {kib} KiB")?;
    }
    Ok(())
}

/// Names of files and what a parser quotes may hold anything, which is not for
/// the terminal to obey.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A problem in one line.
pub(super) fn problem(problem: &Problem) -> String {
    let parts = [
        &problem.file,
        &problem.object,
        &Some(problem.message.clone()),
    ];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    one_line(&parts.join(": "))
}

fn objects(objects: &[ObjectStatus]) -> Table {
    let number = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
    // What needs attention comes first.
    let state = |object: &ObjectStatus| match object.state {
        ObjectState::Refused => (0, "Refused"),
        ObjectState::LastGood => (1, "LastGood"),
        ObjectState::Pending => (2, "Pending"),
        ObjectState::Enforced => (3, "Enforced"),
    };
    let mut table = Table::new(&["KIND", "NAME", "STATE", "STORED", "ENFORCED", "GENERATION"]);
    let mut sorted: Vec<&ObjectStatus> = objects.iter().collect();
    sorted.sort_by_key(|object| state(object));
    for object in sorted {
        table.row(vec![
            object.kind.clone(),
            object.name.clone(),
            state(object).1.to_owned(),
            number(object.stored_generation),
            number(object.enforced_generation),
            number(object.dataplane_generation),
        ]);
    }
    table
}

fn endpoints(endpoints: &[EndpointStatus]) -> Table {
    let hook = |hook: &Option<HookStatus>| match hook {
        None => String::new(),
        Some(HookStatus { hook, mode, .. }) => match mode {
            None => hook.clone(),
            Some(mode) => format!("{hook}/{mode}"),
        },
    };
    let mut table = Table::new(&["ENDPOINT", "INTERFACE", "INGRESS", "EGRESS"]);
    for endpoint in endpoints {
        table.row(vec![
            endpoint.name.clone(),
            endpoint.interface.clone().unwrap_or_default(),
            hook(&endpoint.ingress),
            hook(&endpoint.egress),
        ]);
    }
    table
}

/// What objects ask for and do not get.
fn not_enforced(objects: &[ObjectStatus]) -> Vec<String> {
    let lines = |object: &ObjectStatus| -> Vec<String> {
        let lines = object.not_enforced.iter().map(|one| {
            let ObjectStatus { kind, name, .. } = object;
            format!("{kind}({name}): {}: {}", one.field, one.message)
        });
        lines.collect()
    };
    objects.iter().flat_map(lines).collect()
}

/// What applies, a row for each tier; the interfaces of an endpoint that have
/// the same share their rows.
fn policies(endpoints: &[EndpointStatus]) -> Table {
    let mut table = Table::new(&[
        "ENDPOINT",
        "INTERFACES",
        "STAGE",
        "DIRECTION",
        "TIER",
        "POLICIES",
    ]);
    let mut shared: Vec<(&EndpointStatus, Vec<&str>)> = Vec::new();
    for endpoint in endpoints {
        let interface = endpoint.interface.as_deref().unwrap_or_default();
        let same = |(one, _): &&mut (&EndpointStatus, Vec<&str>)| {
            one.name == endpoint.name && one.policies == endpoint.policies
        };
        match shared.iter_mut().rev().find(same) {
            Some((_, interfaces)) => interfaces.push(interface),
            None => shared.push((endpoint, vec![interface])),
        }
    }
    for (endpoint, interfaces) in shared {
        let interfaces = match &interfaces[..] {
            [first, second, third, rest @ ..] if !rest.is_empty() => {
                format!("{first},{second},{third},+{}", rest.len())
            }
            few => few.join(","),
        };
        let tier =
            |one: &PolicyStatus| (one.stage.clone(), one.direction.clone(), one.tier.clone());
        for policies in endpoint.policies.chunk_by(|a, b| tier(a) == tier(b)) {
            let names: Vec<String> = policies.iter().map(policy).collect();
            let (stage, direction, tier) = tier(&policies[0]);
            table.row(vec![
                endpoint.name.clone(),
                interfaces.clone(),
                stage,
                direction,
                tier.unwrap_or_else(|| "(profiles)".to_owned()),
                names.join(","),
            ]);
        }
    }
    table
}

fn policy(policy: &PolicyStatus) -> String {
    if policy.kind == Kind::StagedGlobalNetworkPolicy.name() {
        format!("{}(staged)", policy.name)
    } else {
        policy.name.clone()
    }
}

/// What does not hold, and what was not the first choice.
fn conditions(endpoints: &[EndpointStatus]) -> Vec<String> {
    let mut lines = Vec::new();
    for endpoint in endpoints {
        // A `*` endpoint governs several.
        let about = match &endpoint.interface {
            Some(interface) => format!("{} ({interface})", endpoint.name),
            None => endpoint.name.clone(),
        };
        for (direction, hook) in [("ingress", &endpoint.ingress), ("egress", &endpoint.egress)] {
            if let Some(fallback) = hook.as_ref().and_then(|hook| hook.fallback.as_ref()) {
                lines.push(format!("{about}: {direction}: {fallback}"));
            }
        }
        for condition in endpoint.conditions.iter().filter(|one| !one.status) {
            lines.push(format!(
                "{about}: {} is false ({}): {}",
                condition.kind, condition.reason, condition.message
            ));
        }
    }
    lines
}

fn counters(status: &Status) -> Table {
    let mut table = Table::new(&["CHECKPOINT", "VERDICT", "REASON", "PACKETS", "BYTES"]);
    for counter in &status.counters {
        table.row(vec![
            counter.checkpoint.clone(),
            counter.verdict.clone(),
            counter.reason.clone(),
            counter.packets.to_string(),
            counter.bytes.to_string(),
        ]);
    }
    table
}

/// What staged policies would have done.
fn staged(counts: &[StagedStatus]) -> Table {
    let mut table = Table::new(&[
        "ENDPOINT",
        "STAGE",
        "TIER",
        "STAGED POLICY",
        "RULE",
        "WOULD",
        "PACKETS",
    ]);
    for one in counts {
        table.row(vec![
            one.endpoint.clone(),
            one.stage.clone(),
            one.tier.clone().unwrap_or_default(),
            one.policy.clone(),
            one.rule.clone(),
            one.would.clone(),
            one.packets.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::status::{Condition, NotEnforced};

    fn policy(stage: &str, tier: Option<&str>, name: &str, kind: &str) -> PolicyStatus {
        PolicyStatus {
            stage: stage.to_owned(),
            direction: "ingress".to_owned(),
            tier: tier.map(str::to_owned),
            kind: kind.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn interfaces_of_an_endpoint_with_the_same_policies_share_rows() {
        let endpoint = |interface: &str, policies: &[PolicyStatus]| EndpointStatus {
            name: "all".to_owned(),
            interface: Some(interface.to_owned()),
            ingress: None,
            egress: None,
            workload: false,
            policies: policies.to_vec(),
            conditions: Vec::new(),
        };
        let own = [
            policy("normal", Some("t"), "a", "GlobalNetworkPolicy"),
            policy("normal", Some("default"), "b", "GlobalNetworkPolicy"),
            policy("normal", Some("default"), "c", "GlobalNetworkPolicy"),
            policy("normal", None, "p", "Profile"),
        ];
        let mut shown = Vec::new();
        let endpoints = [
            endpoint("eth0", &own),
            endpoint("cali1", &own[..1]),
            endpoint("cali2", &own[..1]),
            endpoint("eth1", &own),
            endpoint("cali3", &own[..1]),
            endpoint("cali4", &own[..1]),
            endpoint("cali5", &own[..1]),
        ];
        policies(&endpoints).write(&mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        let rows: Vec<Vec<&str>> = shown
            .lines()
            .skip(1)
            .map(|row| row.split_whitespace().collect())
            .collect();
        let row = |interfaces, tier, policies| {
            vec!["all", interfaces, "normal", "ingress", tier, policies]
        };
        assert_eq!(
            rows,
            [
                row("eth0,eth1", "t", "a"),
                row("eth0,eth1", "default", "b,c"),
                row("eth0,eth1", "(profiles)", "p"),
                row("cali1,cali2,cali3,+2", "t", "a"),
            ]
        );
    }

    #[test]
    fn durations() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "-1s", "1h", "1.5s", "é"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_comes_first() {
        let object = |name: &str, state| ObjectStatus {
            kind: "GlobalNetworkPolicy".to_owned(),
            name: name.to_owned(),
            stored_generation: Some(2),
            enforced_generation: None,
            state,
            dataplane_generation: None,
            not_enforced: Vec::new(),
        };
        let status = Status {
            node: "node1".to_owned(),
            enforced_revision: "r".to_owned(),
            error: Some("boom".to_owned()),
            objects: vec![
                object("fine", ObjectState::Enforced),
                object("bad", ObjectState::Refused),
                ObjectStatus {
                    not_enforced: vec![NotEnforced {
                        field: "spec.ingress[0].http".to_owned(),
                        message: "not looked into".to_owned(),
                    }],
                    ..object("half", ObjectState::Enforced)
                },
            ],
            endpoints: vec![EndpointStatus {
                name: "ep".to_owned(),
                interface: Some("eth0".to_owned()),
                ingress: Some(HookStatus {
                    hook: "xdp".to_owned(),
                    mode: Some("generic".to_owned()),
                    fallback: Some("no native XDP".to_owned()),
                }),
                egress: None,
                workload: false,
                policies: vec![
                    policy("preDNAT", Some("default"), "a", "GlobalNetworkPolicy"),
                    policy("preDNAT", Some("default"), "b", "StagedGlobalNetworkPolicy"),
                ],
                conditions: vec![Condition {
                    kind: "NormalIngressEnforced".to_owned(),
                    status: false,
                    reason: "NotInThisRelease".to_owned(),
                    message: "only pre-DNAT".to_owned(),
                }],
            }],
            problems: vec![Problem {
                file: Some("x.yaml".to_owned()),
                object: None,
                message: "\u{1b}broken\n".to_owned(),
            }],
            ..Status::default()
        };
        let mut shown = Vec::new();
        text(&status, Some("r"), &mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        let at = |what: &str| {
            shown
                .find(what)
                .unwrap_or_else(|| panic!("{what}: {shown}"))
        };
        assert!(at("Store:        enforced") < at("Error:        boom"));
        assert!(at("boom") < at("x.yaml:  broken \n"));
        assert!(at("x.yaml") < at("bad"));
        assert!(at("bad ") < at("fine "));
        at("xdp/generic");
        at("ep         eth0         preDNAT   ingress     default   a,b(staged)");
        at("GlobalNetworkPolicy(half): spec.ingress[0].http: not looked into");
        at("ep (eth0): ingress: no native XDP");
        at("ep (eth0): NormalIngressEnforced is false (NotInThisRelease): only pre-DNAT");

        let mut shown = Vec::new();
        text(&status, Some("newer"), &mut shown).unwrap();
        assert!(
            String::from_utf8(shown)
                .unwrap()
                .contains("changes are pending")
        );
    }
}
