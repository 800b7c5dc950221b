use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

/// `spec` of a `FelixConfiguration`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FelixConfigurationSpec {
    /// Ports of this host that no policy can close.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failsafe_inbound_host_ports: Option<Vec<ProtoPort>>,
    /// Ports of others that no policy can close for this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failsafe_outbound_host_ports: Option<Vec<ProtoPort>>,
    /// How names of workload interfaces begin, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_prefix: Option<String>,
    /// Interfaces that no endpoint governs, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_exclude: Option<String>,
    /// Let packets pass that connection tracking finds invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_conntrack_invalid_check: Option<bool>,
    /// What an event of a rule with action Log begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_prefix: Option<String>,
    /// UDP port of VXLAN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_port: Option<i64>,
    /// UDP port of Geneve; absent means that there are no such tunnels. No field
    /// of Calico's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub geneve_port: Option<i64>,
    /// UDP port of WireGuard over IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard_listening_port: Option<i64>,
    /// UDP port of WireGuard over IPv6.
    #[serde(
        rename = "wireguardListeningPortV6",
        skip_serializing_if = "Option::is_none"
    )]
    pub wireguard_listening_port_v6: Option<i64>,
    /// All other fields, as written. Calico has some 150, which change with
    /// every release.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// A fail-safe port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProtoPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Destination port.
    pub port: i64,
    /// CIDR of the other side; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net: Option<String>,
}

// By hand, and not with `flatten`: that buffers the fields, and an error would
// no longer know where it happened.
impl<'de> Deserialize<'de> for FelixConfigurationSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SpecVisitor)
    }
}

struct SpecVisitor;

impl<'de> de::Visitor<'de> for SpecVisitor {
    type Value = FelixConfigurationSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut spec = FelixConfigurationSpec::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "failsafeInboundHostPorts" => {
                    spec.failsafe_inbound_host_ports = map.next_value()?;
                }
                "failsafeOutboundHostPorts" => {
                    spec.failsafe_outbound_host_ports = map.next_value()?;
                }
                "interfacePrefix" => spec.interface_prefix = map.next_value()?,
                "interfaceExclude" => spec.interface_exclude = map.next_value()?,
                "disableConntrackInvalidCheck" => {
                    spec.disable_conntrack_invalid_check = map.next_value()?;
                }
                "logPrefix" => spec.log_prefix = map.next_value()?,
                "vxlanPort" => spec.vxlan_port = map.next_value()?,
                "genevePort" => spec.geneve_port = map.next_value()?,
                "wireguardListeningPort" => spec.wireguard_listening_port = map.next_value()?,
                "wireguardListeningPortV6" => {
                    spec.wireguard_listening_port_v6 = map.next_value()?;
                }
                _ => {
                    spec.others.insert(key, map.next_value()?);
                }
            }
        }
        Ok(spec)
    }
}
