//! Random rules and packets: the loaded programs must decide as the compiled
//! tables say, which are held against a naive matcher elsewhere.

#[path = "../../../hostfw-agent/tests/property/random.rs"]
mod generator;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use generator::Random;
use hostfw_agent::compile::{
    compile,
    evaluate::{Addresses, Packet as Facts, evaluate},
};
use hostfw_tests::packet::{Packet, flags::SYN};

use super::lab::{Hook, INTERFACE, lab};

const SELECTIONS: u64 = 150;
const PACKETS: usize = 60;

#[test]
fn programs_decide_as_the_tables_say() {
    let Some(mut lab) = lab("random") else {
        return;
    };
    let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
    let mut logged = 0;
    for seed in 0..SELECTIONS {
        let mut random = Random::new(1 << 32 | seed);
        let mut selection = random.selection();
        selection.governed.truncate(1);
        selection.governed[0].interface.index = INTERFACE;
        let image = compile(&selection).unwrap();
        lab.switch(&image);
        lab.events();
        for _ in 0..PACKETS {
            let facts = random.packet();
            let Some(packet) = packet(&facts) else {
                continue;
            };
            let hook = *random.one_of(&[Hook::Xdp, Hook::TcIn, Hook::TcOut]);
            let expected = evaluate(&image, INTERFACE, hook.direction(), &facts);
            lab.forget();
            let found = lab.judge(hook, &packet);
            let context = || {
                format!(
                    "seed {seed}, {hook:?}, {facts:?}, {:#?}",
                    selection.governed
                )
            };
            assert_eq!(found, expected.reason, "{}", context());
            let events: Vec<_> = lab.events().iter().map(|event| event.rule).collect();
            let most = hostfw_common::limits::MAX_LOGS_PER_PACKET as usize;
            let all = expected.logged.len().min(most);
            assert_eq!(events, expected.logged[..all], "{}", context());
            *reasons.entry(found.name()).or_default() += 1;
            logged += events.len();
        }
    }
    for (reason, least) in [
        ("failsafe", 50),
        ("rule-allow", 500),
        ("rule-deny", 500),
        ("no-match", 500),
        ("endpoint-default", 200),
    ] {
        let count = reasons.get(reason).copied().unwrap_or(0);
        assert!(count >= least, "{reason}: {count} of {reasons:?}");
    }
    assert!(logged > 500, "{logged} logged");
}

/// The packet of these facts; `None` if something ahead of policy decides
/// about it.
fn packet(facts: &Facts) -> Option<Packet> {
    let (source, destination): (IpAddr, IpAddr) = match facts.addresses {
        Addresses::V4 {
            source,
            destination,
        } => (source.into(), destination.into()),
        Addresses::V6 {
            source,
            destination,
        } => (source.into(), destination.into()),
    };
    let from = SocketAddr::new(source, facts.source_port);
    let to = SocketAddr::new(destination, facts.destination_port);
    let [kind, code] = facts.destination_port.to_be_bytes();
    match (facts.protocol, source) {
        (6, _) => Some(Packet::tcp(from, to, SYN)),
        (17, _) => Some(Packet::udp(from, to)),
        // ICMP errors: their flow decides.
        (1, IpAddr::V4(_)) if [3, 4, 5, 11, 12].contains(&kind) => None,
        (58, IpAddr::V6(_)) if kind < 128 => None,
        (1 | 58, _) => {
            let mut payload = vec![kind, code, 0, 0];
            payload.extend(facts.source_port.to_be_bytes());
            payload.extend([0; 4]);
            Some(Packet::raw(source, destination, facts.protocol, payload))
        }
        (protocol, _) => {
            let mut payload = facts.source_port.to_be_bytes().to_vec();
            payload.extend(facts.destination_port.to_be_bytes());
            payload.extend([0; 8]);
            Some(Packet::raw(source, destination, protocol, payload))
        }
    }
}
