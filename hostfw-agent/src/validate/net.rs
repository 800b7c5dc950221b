//! Addresses and nets.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Findings;
use crate::{model::IpVersion, resource::quote};

/// Longest list of nets (Calico: api/pkg/apis/projectcalico/v3).
const MOST_NETS: usize = 256;

pub(super) fn version_of(net: &IpNet) -> IpVersion {
    match net {
        IpNet::V4(_) => IpVersion::V4,
        IpNet::V6(_) => IpVersion::V6,
    }
}

/// Checks a list of plain addresses.
pub(super) fn addresses(field: &str, texts: &[String], findings: &mut Findings) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match text.parse::<IpAddr>() {
            // `::ffff:10.0.0.1` is 10.0.0.1: no packet carries it in IPv6.
            Ok(address) => addresses.push(address.to_canonical()),
            Err(_) => findings.invalid(
                format!("{field}[{index}]"),
                "an IPv4 or IPv6 address, without a prefix length",
                quote(text),
            ),
        }
    }
    addresses
}

/// Checks a list of nets.
pub(super) fn nets(field: &str, texts: &[String], findings: &mut Findings) -> Vec<IpNet> {
    if !findings.within_limit(field, texts.len(), MOST_NETS, "nets") {
        return Vec::new();
    }
    texts
        .iter()
        .enumerate()
        .filter_map(|(index, text)| net(|| format!("{field}[{index}]"), text, findings))
        .collect()
}

/// Checks an address, or a net of any form: host bits are cleared.
pub(super) fn net_or_address(
    field: impl Fn() -> String,
    text: &str,
    findings: &mut Findings,
) -> Option<IpNet> {
    if !text.contains('/')
        && let Ok(address) = text.parse::<IpAddr>()
    {
        return Some(IpNet::from(address.to_canonical()));
    }
    let Ok(net) = text.parse::<IpNet>() else {
        findings.invalid(
            field(),
            "an address or a CIDR, as 10.0.0.1, 10.0.0.0/8 or fd00::/8",
            quote(text),
        );
        return None;
    };
    in_own_notation(field, text, net.trunc(), findings)
}

/// Checks a net: prefix length given, host bits zero.
pub(super) fn net(
    field: impl Fn() -> String,
    text: &str,
    findings: &mut Findings,
) -> Option<IpNet> {
    let Ok(net) = text.parse::<IpNet>() else {
        let expected = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => format!("a CIDR with a prefix length, as {text}/32"),
            Ok(IpAddr::V6(_)) => format!("a CIDR with a prefix length, as {text}/128"),
            Err(_) => "a CIDR, as 10.0.0.0/8 or fd00::/8".to_owned(),
        };
        findings.invalid(field(), expected, quote(text));
        return None;
    };
    if net.trunc() != net {
        findings.invalid(
            field(),
            format!("a CIDR without host bits, as {}", net.trunc()),
            quote(text),
        );
        return None;
    }
    in_own_notation(field, text, net, findings)
}

/// `::ffff:10.0.0.0/104` is a net that no packet is in.
fn in_own_notation(
    field: impl Fn() -> String,
    text: &str,
    net: IpNet,
    findings: &mut Findings,
) -> Option<IpNet> {
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= 96
        && v6.addr().to_ipv4_mapped().is_some()
    {
        findings.invalid(field(), "IPv4 addresses in their own notation", quote(text));
        return None;
    }
    Some(net)
}
