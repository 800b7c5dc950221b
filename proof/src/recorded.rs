//! Cases on disk: what was once found stays a test.
//!
//! `NAME.yaml` holds the resources, as `hostfwctl explain --resources` takes
//! them; `NAME.json` the node, its interfaces, the packet with the keys of
//! `hostfwctl explain --packets`, and the answer.

use std::{fs, net::IpAddr, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use hostfw_agent::{
    model::Interface,
    question::{self, Answer, Question, State},
    resource::parse_documents,
    source::yaml,
};
use hostfw_common::verdict::Direction;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{case::Case, generate::Scene};

/// A case with a single packet, and what must become of it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The case.
    pub case: Case,
    /// What [`written`] makes of the right answer.
    pub expected: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    node: String,
    interfaces: Vec<FileInterface>,
    packet: Packet,
    expected: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileInterface {
    name: String,
    index: u32,
    addresses: Vec<IpAddr>,
    link_header: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Packet {
    interface: String,
    direction: String,
    path: String,
    protocol: u8,
    source: IpAddr,
    source_port: u16,
    destination: IpAddr,
    destination_port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    icmp_type: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    icmp_code: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    translated_destination: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    translated_destination_port: Option<u16>,
    state: String,
}

impl Packet {
    fn of(question: &Question) -> Self {
        Self {
            interface: question.interface.clone(),
            direction: match question.direction {
                Direction::Ingress => "in",
                Direction::Egress => "out",
            }
            .to_owned(),
            path: match question.path {
                question::Path::Local => "local",
                question::Path::Forward => "forward",
            }
            .to_owned(),
            protocol: question.protocol,
            source: question.source,
            source_port: question.source_port,
            destination: question.destination,
            destination_port: question.destination_port,
            icmp_type: question.icmp.map(|(kind, _)| kind),
            icmp_code: question.icmp.map(|(_, code)| code),
            translated_destination: question.translated.map(|(address, _)| address),
            translated_destination_port: question.translated.map(|(_, port)| port),
            state: match question.state {
                State::New => "new",
                State::Established => "established",
                State::Invalid => "invalid",
            }
            .to_owned(),
        }
    }

    fn question(self) -> Result<Question> {
        Ok(Question {
            interface: self.interface,
            direction: match &*self.direction {
                "in" => Direction::Ingress,
                "out" => Direction::Egress,
                other => bail!("direction: expected in or out, found {other}"),
            },
            path: match &*self.path {
                "local" => question::Path::Local,
                "forward" => question::Path::Forward,
                other => bail!("path: expected local or forward, found {other}"),
            },
            protocol: self.protocol,
            source: self.source,
            source_port: self.source_port,
            destination: self.destination,
            destination_port: self.destination_port,
            icmp: self.icmp_type.zip(self.icmp_code),
            translated: self
                .translated_destination
                .zip(self.translated_destination_port),
            state: match &*self.state {
                "new" => State::New,
                "established" => State::Established,
                "invalid" => State::Invalid,
                other => bail!("state: expected new, established or invalid, found {other}"),
            },
        })
    }
}

/// An answer, with the keys of `hostfwctl explain -o json`.
#[must_use]
pub fn written(answer: &Answer) -> Value {
    let stages: Vec<Value> = answer
        .stages
        .iter()
        .map(|met| json!({ "stage": met.stage.name(), "outcome": met.outcome }))
        .collect();
    json!({
        "verdict": if answer.allowed { "allow" } else { "deny" },
        "stage": answer.stage.map(|stage| stage.name()),
        "tier": answer.tier,
        "policy": answer.policy,
        "rule": answer.rule,
        "reason": answer.reason,
        "stages": stages,
    })
}

impl Recorded {
    /// Writes the two files.
    ///
    /// # Errors
    ///
    /// If that fails, or the case has not exactly one packet.
    pub fn write(&self, folder: &Path, name: &str) -> Result<()> {
        let Scene {
            node,
            interfaces,
            resources,
        } = &self.case.scene;
        let [question] = &self.case.questions[..] else {
            bail!("{} packets, expected one", self.case.questions.len());
        };
        let documents = resources
            .iter()
            .map(|resource| Ok(yaml::render(&resource.to_value())?))
            .collect::<Result<Vec<_>>>()?;
        let file = File {
            node: node.clone(),
            interfaces: interfaces
                .iter()
                .map(|interface| FileInterface {
                    name: interface.name.clone(),
                    index: interface.index,
                    addresses: interface.addresses.clone(),
                    link_header: interface.link_header,
                })
                .collect(),
            packet: Packet::of(question),
            expected: self.expected.clone(),
        };
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        for (ending, text) in [
            ("yaml", documents.join("---\n")),
            ("json", serde_json::to_string_pretty(&file)? + "\n"),
        ] {
            let path = folder.join(format!("{name}.{ending}"));
            fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// Reads the two files of a name.
    ///
    /// # Errors
    ///
    /// If they are not there, or not what [`write`](Self::write) writes.
    pub fn read(folder: &Path, name: &str) -> Result<Self> {
        let read = |ending: &str| {
            let path = folder.join(format!("{name}.{ending}"));
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let mut resources = Vec::new();
        for document in parse_documents(&read("yaml")?) {
            resources.extend(document.result?);
        }
        let file: File =
            serde_json::from_str(&read("json")?).with_context(|| format!("{name}.json"))?;
        Ok(Self {
            case: Case {
                scene: Scene {
                    node: file.node,
                    interfaces: file
                        .interfaces
                        .into_iter()
                        .map(|interface| Interface {
                            index: interface.index,
                            loopback: interface.name == "lo",
                            name: interface.name,
                            addresses: interface.addresses,
                            link_header: interface.link_header,
                            up: true,
                            master: None,
                        })
                        .collect(),
                    resources,
                },
                questions: vec![file.packet.question()?],
            },
            expected: file.expected,
        })
    }

    /// All that are in a folder, by name.
    ///
    /// # Errors
    ///
    /// If it, or one of them, cannot be read.
    pub fn read_all(folder: &Path) -> Result<Vec<(String, Self)>> {
        let mut names = Vec::new();
        let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "json") {
                let stem = path.file_stem().and_then(|stem| stem.to_str());
                names.push(stem.context("a file name that is no text")?.to_owned());
            }
        }
        ensure!(!names.is_empty(), "{}: no case", folder.display());
        names.sort();
        names
            .into_iter()
            .map(|name| {
                let recorded = Self::read(folder, &name)?;
                Ok((name, recorded))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read_back_as_it_was_written() {
        let folder = std::env::temp_dir().join(format!("hostfw-proof-{}", std::process::id()));
        for seed in 0..20 {
            let recorded = Recorded {
                case: Case::random(seed, 1),
                expected: json!({ "verdict": "allow" }),
            };
            recorded.write(&folder, "case").unwrap();
            let read = Recorded::read(&folder, "case").unwrap();
            assert_eq!(read.case, recorded.case, "seed {seed}");
            assert_eq!(read.expected, recorded.expected);
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
