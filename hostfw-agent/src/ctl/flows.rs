//! What was reported of packets.

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::{
    CtlError, Streams,
    client::{self, Agent},
    explain::protocol_name,
};
use crate::observe::reports::Report;

/// Between two questions. The agent keeps what comes in between.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Go on with what is reported from now on.
    #[arg(short, long)]
    follow: bool,
    /// Form of the answer, instead of text for reading: an object a line.
    #[arg(short, long, value_enum)]
    output: Option<Form>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// JSON.
    Json,
}

impl Show {
    pub(super) fn run(
        &self,
        agent: &Agent,
        streams: &mut Streams<impl io::Read, impl Write, impl Write>,
    ) -> Result<(), CtlError> {
        let mut from = None;
        let mut hidden = None;
        loop {
            let told = client::reports(agent, from)?;
            if let Some(line) = not_shown(hidden, told.hidden) {
                writeln!(streams.warnings, "{line}")?;
            }
            hidden = Some(told.hidden);
            if told.lost > 0 {
                let lost = told.lost;
                writeln!(
                    streams.warnings,
                    "{lost} reports were more than the agent keeps"
                )?;
            }
            for report in &told.reports {
                match self.output {
                    None => writeln!(streams.output, "{}", line(report))?,
                    Some(Form::Json) => {
                        writeln!(streams.output, "{}", serde_json::to_string(report)?)?;
                    }
                }
            }
            streams.output.flush()?;
            if !self.follow {
                return Ok(());
            }
            from = Some(told.next);
            thread::sleep(agent.pause(PAUSE));
        }
    }
}

/// Of how many denials the kernel has not reported: since its maps were made, and
/// then since it was asked `before`.
fn not_shown(before: Option<u64>, now: u64) -> Option<String> {
    match before {
        None if now > 0 => Some(format!(
            "{now} denials not shown since hostfw's maps were made"
        )),
        Some(before) if now > before => Some(format!("{} denials not shown", now - before)),
        _ => None,
    }
}

fn line(report: &Report) -> String {
    let end = |address: IpAddr, port: Option<u16>| match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    };
    let icmp = report
        .icmp
        .map(|(kind, code)| format!(" type {kind} code {code}"));
    let policy = match (&report.tier, &report.policy) {
        (Some(tier), Some(policy)) => format!(" {tier}/{policy}"),
        (Some(tier), None) => format!(" tier {tier}"),
        (None, Some(policy)) => format!(" profile {policy}"),
        (None, None) => String::new(),
    };
    let rest: Vec<&str> = [&report.rule, &report.reason]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let line = format!(
        "{} {} {} {} {} {} {} -> {}{} {}{policy} {}",
        report.time,
        report.verdict,
        report.interface,
        report.endpoint,
        report.direction,
        protocol_name(report.protocol),
        end(report.source, report.source_port),
        end(report.destination, report.destination_port),
        icmp.unwrap_or_default(),
        report.stage.as_deref().unwrap_or("-"),
        rest.join(" "),
    );
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            time: "2026-01-01T00:00:00.125Z".to_owned(),
            interface: "eth0".to_owned(),
            endpoint: "node1-eth0".to_owned(),
            direction: "ingress".to_owned(),
            protocol: 6,
            source: "192.0.2.7".parse().unwrap(),
            source_port: Some(40_000),
            destination: "2001:db8::1".parse().unwrap(),
            destination_port: Some(22),
            icmp: None,
            verdict: "logged".to_owned(),
            stage: Some("normal".to_owned()),
            tier: Some("default".to_owned()),
            kind: Some("GlobalNetworkPolicy".to_owned()),
            policy: Some("look".to_owned()),
            rule: Some("ingress[0]".to_owned()),
            reason: None,
        }
    }

    #[test]
    fn what_is_not_shown_is_counted() {
        assert_eq!(not_shown(None, 0), None);
        let all = not_shown(None, 7).unwrap();
        assert_eq!(all, "7 denials not shown since hostfw's maps were made");
        assert_eq!(not_shown(Some(7), 7), None);
        assert_eq!(not_shown(Some(7), 9).unwrap(), "2 denials not shown");
        // The maps were made anew.
        assert_eq!(not_shown(Some(7), 3), None);
    }

    #[test]
    fn a_report_is_a_line() {
        assert_eq!(
            line(&report()),
            "2026-01-01T00:00:00.125Z logged eth0 node1-eth0 ingress TCP 192.0.2.7:40000 -> \
             [2001:db8::1]:22 normal default/look ingress[0]"
        );
        let observed = Report {
            protocol: 1,
            source_port: None,
            destination_port: None,
            icmp: Some((8, 0)),
            verdict: "would-deny".to_owned(),
            policy: None,
            rule: None,
            reason: Some("tier-default".to_owned()),
            ..report()
        };
        assert_eq!(
            line(&observed),
            "2026-01-01T00:00:00.125Z would-deny eth0 node1-eth0 ingress ICMP 192.0.2.7 -> \
             2001:db8::1 type 8 code 0 normal tier default tier-default"
        );
    }
}
