//! What must decide in a run, each by itself.

use super::rule::WAYS_OF_PORTS;

/// Every stage, by direction.
const STAGES: [&str; 7] = [
    "untracked in",
    "untracked out",
    "preDNAT in",
    "forward in",
    "forward out",
    "normal in",
    "normal out",
];

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const SIDES: [&str; 2] = ["source", "destination"];

/// All of it, as [`Coverage`](super::Coverage) counts it.
pub(super) fn all() -> Vec<String> {
    let mut all: Vec<String> = [
        "state new",
        "state established",
        "state invalid",
        "invalid, which is not checked",
        "endpoint by its name",
        "endpoint by expectedIPs",
        "endpoint by a template",
        "endpoint by *",
        "endpoint by *, of lo",
        "endpoint by *, of a workload",
        "fail-safe TCP for all",
        "fail-safe TCP for one net",
        "fail-safe UDP for all",
        "fail-safe UDP for one net",
        "fail-safe SCTP for all",
        "fail-safe SCTP for one net",
    ]
    .map(str::to_owned)
    .into();
    for stage in STAGES {
        for what in met_at(stage) {
            all.push(format!("{stage}: {what}"));
        }
        for family in FAMILIES {
            for what in decides_at(stage) {
                all.push(format!("{stage} {family}: {what}"));
            }
        }
    }
    for family in FAMILIES {
        all.push(format!("translated destination {family}"));
        for (way, reasons) in WITHOUT_STAGE {
            for reason in *reasons {
                // IPv4 has no neighbour discovery.
                if (*reason, family) != ("neighbour discovery", "IPv4") {
                    all.push(format!("{way} {family}: {reason}"));
                }
            }
        }
        for what in matched() {
            all.push(format!("matched {family}: {what}"));
        }
        for what in missed() {
            all.push(format!("missed {family}: {what}"));
        }
    }
    all
}

/// What decides ahead of the stages, or behind them.
const WITHOUT_STAGE: &[(&str, &[&str])] = &[
    (
        "in local",
        &[
            "established",
            "tunnel",
            "neighbour discovery",
            "no endpoint",
            "workload",
        ],
    ),
    (
        "in forward",
        &[
            "established",
            "neighbour discovery",
            "no endpoint",
            "no match",
        ],
    ),
    (
        "out local",
        &[
            "established",
            "tunnel",
            "neighbour discovery",
            "no endpoint",
            "workload",
        ],
    ),
    (
        "out forward",
        &[
            "established",
            "neighbour discovery",
            "no endpoint",
            "no match",
        ],
    ),
];

/// What decides at a stage, in both families.
fn decides_at(stage: &str) -> Vec<&'static str> {
    let mut what = vec!["allow by rule", "deny by rule"];
    what.extend_from_slice(match stage {
        "untracked in" | "untracked out" => &[
            "no match",
            "fail-safe by destination port",
            "fail-safe by source port",
        ],
        "preDNAT in" => &[
            "no match",
            "deny by invalid",
            "fail-safe by destination port",
            "tunnel led around",
        ],
        "forward in" | "forward out" => &["no match", "deny by invalid", "deny by tier default"],
        _ => &[
            "deny by invalid",
            "deny by tier default",
            "allow by fail-safe",
            "allow by profile",
            "deny by profile",
            "deny by missing profile",
            "deny by endpoint default",
        ],
    });
    what
}

/// What is met at a stage on the way to what decides.
fn met_at(stage: &str) -> Vec<&'static str> {
    let mut what = vec![
        "Log",
        "Pass",
        "staged Allow",
        "staged Deny",
        "staged Pass",
        "staged Log",
        "end of a tier of staged rules",
    ];
    what.extend_from_slice(match stage {
        "untracked in" | "untracked out" | "preDNAT in" => &["end of a tier"],
        "forward in" | "forward out" => &[
            "Pass of a tier",
            "Deny of a tier",
            "Deny of a tier that does not exist",
        ],
        _ => &[
            "Pass of a tier",
            "Deny of a tier",
            "Deny of a tier that does not exist",
            "Log of a profile",
            "Pass of a profile",
        ],
    });
    what
}

/// The criteria of rules that matched.
fn matched() -> Vec<String> {
    let mut all: Vec<String> = [
        "no criterion",
        "ipVersion",
        "protocol by name",
        "protocol by number",
        "notProtocol by name",
        "notProtocol by number",
        "icmp type",
        "icmp type and code",
        "notICMP type",
        "notICMP type and code",
    ]
    .map(str::to_owned)
    .into();
    for side in SIDES {
        for field in [
            "nets",
            "notNets",
            "selector",
            "notSelector",
            "selector and notSelector",
            "namespaceSelector",
            "serviceAccounts",
            "services",
        ] {
            all.push(format!("{side}.{field}"));
        }
        all.extend(ports(side));
    }
    all
}

fn ports(side: &str) -> impl Iterator<Item = String> {
    ["ports", "notPorts"]
        .into_iter()
        .flat_map(move |field| WAYS_OF_PORTS.map(|how| format!("{side}.{field} {how}")))
}

/// The criteria by which rules did not match.
fn missed() -> Vec<String> {
    let mut all: Vec<String> = [
        "ipVersion",
        "protocol",
        "notProtocol",
        "icmp type",
        "icmp code",
        "notICMP of another protocol",
        "notICMP type",
        "notICMP code",
    ]
    .map(str::to_owned)
    .into();
    for side in SIDES {
        for field in [
            "nets",
            "nets of the other family",
            "notNets",
            "notNets of the other family",
            "selector",
            "notSelector",
            "namespaceSelector",
            "serviceAccounts",
            "services",
        ] {
            all.push(format!("{side}.{field}"));
        }
        all.extend(ports(side));
    }
    all
}
