//! Tables of flows that are full, and that an agent finds with another size than it
//! would give them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use aya::maps::MapInfo;
use hostfw_agent::attach::FlowTables;
use hostfw_common::{
    names::{CONFIRMED, HALF_OPEN},
    verdict::Reason::{Established, RuleAllow, RuleDeny},
};
use hostfw_tests::packet::{
    Packet,
    flags::{ACK, SYN},
};

use super::{
    lab::{Hook, Lab, lab, socket},
    policy::{ENDPOINT, pre_dnat},
    remembered::stay_on_this_processor,
};

const SMALL: FlowTables = FlowTables {
    half_open: 1024,
    confirmed: 1024,
};
const SERVER: &str = "10.240.0.11:8080";

fn allow() -> String {
    let rules = "{action: Allow, protocol: TCP, destination: {ports: [8080]}}, {action: Deny}";
    [ENDPOINT, &pre_dnat("p", 1, rules)].concat()
}

fn deny() -> String {
    [ENDPOINT, &pre_dnat("p", 1, "{action: Deny}")].concat()
}

fn client(number: u32) -> SocketAddr {
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(203, 0, 0, 0).to_bits() | number);
    SocketAddr::new(IpAddr::V4(address), 40_000)
}

fn incoming(number: u32, flags: u8) -> Packet {
    Packet::tcp(client(number), socket(SERVER), flags)
}

/// A flow from outside that is confirmed.
fn open(lab: &Lab, number: u32) {
    assert_eq!(lab.judge(Hook::Xdp, &incoming(number, SYN)), RuleAllow);
    let answer = Packet::tcp(socket(SERVER), client(number), SYN | ACK);
    assert_eq!(lab.judge(Hook::TcOut, &answer), Established);
    assert_eq!(lab.judge(Hook::Xdp, &incoming(number, ACK)), Established);
}

/// The flows of which a packet passes although policy denies it, without bringing
/// them up to date for the next that asks.
fn known(lab: &Lab, numbers: impl Iterator<Item = u32>) -> Vec<u32> {
    let known = |number: &u32| {
        let reason = lab.judge(Hook::Xdp, &incoming(*number, ACK));
        assert!(
            [Established, RuleDeny].contains(&reason),
            "flow {number}: {reason:?}"
        );
        reason == Established
    };
    numbers.filter(known).collect()
}

#[test]
fn a_full_table_forgets_the_oldest_and_lets_in_none_that_was_not_allowed() {
    const FLOWS: u32 = 4096;
    /// In use all the time.
    const BUSY: u32 = 32;
    if lab("capacity").is_none() {
        return;
    }
    // Others would use what the kernel keeps back for each processor.
    stay_on_this_processor();
    let mut lab = Lab::with_tables("capacity", SMALL);
    lab.enforce(&allow());
    for number in 0..FLOWS {
        open(&lab, number);
        if number % 64 == 0 {
            for busy in 0..BUSY.min(number) {
                let packet = incoming(busy, ACK);
                assert_eq!(
                    lab.judge(Hook::Xdp, &packet),
                    Established,
                    "{number}: {busy}"
                );
            }
        }
    }
    let (_, confirmed) = lab.flow_counts();
    println!(
        "{confirmed} of {FLOWS} flows are known, with room for {}",
        SMALL.confirmed
    );
    assert!(confirmed <= SMALL.confirmed as usize, "{confirmed}");
    // 128 for each processor, of which this test uses one, and half of them at most.
    assert!(confirmed >= SMALL.confirmed as usize / 2, "{confirmed}");

    // From here on nothing but what is known passes.
    lab.enforce(&deny());
    let stranger = 1 << 20;
    for number in stranger..stranger + 2 * SMALL.confirmed {
        for flags in [SYN, ACK, SYN | ACK] {
            assert_eq!(lab.judge(Hook::Xdp, &incoming(number, flags)), RuleDeny);
        }
    }
    assert_eq!(
        lab.flow_counts().1,
        confirmed,
        "what is denied makes no room for itself"
    );
    let all = known(&lab, 0..FLOWS);
    assert_eq!(all.len(), confirmed);
    let newest = FLOWS - SMALL.confirmed / 4;
    assert!(
        (newest..FLOWS).all(|number| all.contains(&number)),
        "{all:?}"
    );
    let oldest = BUSY..FLOWS - 2 * SMALL.confirmed;
    assert!(
        oldest.clone().all(|number| !all.contains(&number)),
        "{all:?}"
    );
    assert!((0..BUSY).all(|number| all.contains(&number)), "{all:?}");
    // Who was forgotten has to ask again, and may not.
    for number in oldest {
        assert_eq!(lab.judge(Hook::Xdp, &incoming(number, SYN)), RuleDeny);
    }
}

#[test]
fn flow_tables_keep_their_size_and_their_flows_until_all_is_removed() {
    const FLOWS: u32 = 300;
    if lab("sizes").is_none() {
        return;
    }
    let mut lab = Lab::with_tables("sizes", SMALL);
    lab.enforce(&allow());
    for number in 0..FLOWS {
        open(&lab, number);
    }
    lab.enforce(&deny());
    let sizes = |lab: &Lab| {
        [HALF_OPEN, CONFIRMED].map(|name| {
            let info = MapInfo::from_pin(lab.pins().join("maps").join(name)).unwrap();
            info.max_entries()
        })
    };
    for (half_open, confirmed) in [(8192, 4096), (64, 128), (1024, 1024)] {
        lab.reopen(FlowTables {
            half_open,
            confirmed,
        });
        assert_eq!(sizes(&lab), [1024, 1024], "another agent's size");
        assert_eq!(lab.flow_counts(), (0, FLOWS as usize));
        assert_eq!(known(&lab, 0..FLOWS).len(), FLOWS as usize);
        let stranger = incoming(FLOWS, ACK);
        assert_eq!(lab.judge(Hook::Xdp, &stranger), RuleDeny);
    }
    let other = FlowTables {
        half_open: 2048,
        confirmed: 4096,
    };
    lab.remove();
    lab.reopen(other);
    assert_eq!(sizes(&lab), [2048, 4096]);
    lab.enforce(&deny());
    assert!(known(&lab, 0..FLOWS).is_empty());
}
