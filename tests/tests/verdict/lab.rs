//! The loaded programs, to be asked for verdicts.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, OnceLock},
};

use aya::{
    maps::{HashMap, Map, MapData, PerCpuArray, PerCpuValues},
    programs::{Program, TestRun as _, TestRunOptions},
};
use hostfw_agent::{
    attach::{Dataplane, FlowTables, Options, remove_all},
    compile::{compile, image::Image},
    model::{Interface, Model},
    resource::parse_documents,
    select::select,
    validate::{assemble, validate},
};
use hostfw_common::{
    ABI_VERSION,
    conntrack::{Flow, FlowKey, FragmentKey},
    counter::{self, COUNTER_SLOTS, Checkpoint, Outcome, ReasonCounter},
    event::{Event, NO_REASON},
    names,
    verdict::{Reason, Verdict},
};
use hostfw_tests::packet::Packet;

/// The interface that packets of a test run cross: the loopback interface of
/// the namespace, whose index is always 1.
pub(crate) const INTERFACE: u32 = 1;

/// Which program judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Incoming, at XDP.
    Xdp,
    /// Incoming, at TC.
    TcIn,
    /// Sent by a local process.
    TcOut,
    /// Forwarded: came in through another interface.
    TcForward,
}

impl Hook {
    /// Both programs that judge what comes in.
    pub(crate) const INGRESS: [Self; 2] = [Self::Xdp, Self::TcIn];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::TcIn => "tc-in",
            Self::TcOut => "tc-out",
            Self::TcForward => "tc-forward",
        }
    }

    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Xdp => names::PROGRAM_XDP,
            Self::TcIn => names::PROGRAM_TC_INGRESS,
            Self::TcOut | Self::TcForward => names::PROGRAM_TC_EGRESS,
        }
    }

    pub(crate) fn checkpoint(self) -> Checkpoint {
        match self {
            Self::Xdp | Self::TcIn => Checkpoint::WireIn,
            Self::TcOut | Self::TcForward => Checkpoint::WireOut,
        }
    }

    /// What a test run gives the program beside the packet.
    pub(crate) fn context(self) -> Option<[u8; 192]> {
        match self {
            Self::Xdp => None,
            Self::TcIn | Self::TcOut => Some(skb_context(0)),
            Self::TcForward => Some(skb_context(INTERFACE)),
        }
    }

    /// What the program's answer means.
    pub(crate) fn verdict(self, answer: u32) -> Verdict {
        match (self, answer) {
            (Self::Xdp, 2) => Verdict::Pass,
            (Self::Xdp, 1) => Verdict::Drop,
            // TC_ACT_UNSPEC and TC_ACT_SHOT (linux/pkt_cls.h).
            (Self::TcIn | Self::TcOut | Self::TcForward, u32::MAX) => Verdict::Pass,
            (Self::TcIn | Self::TcOut | Self::TcForward, 2) => Verdict::Drop,
            (hook, answer) => panic!("{hook:?} answered {answer}"),
        }
    }
}

/// What was counted for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// What became of it.
    For(Reason),
    /// What would have become of it, if anything were enforced.
    Would(Reason),
}

/// The loaded programs and their maps.
pub(crate) struct Lab {
    /// None while another takes over.
    dataplane: Option<Dataplane>,
    root: PathBuf,
}

/// The lab, for one test at a time; `None` outside of the sandbox.
pub(crate) fn lab(test: &str) -> Option<MutexGuard<'static, Lab>> {
    static LAB: OnceLock<Mutex<Lab>> = OnceLock::new();
    if std::env::var_os("HOSTFW_SANDBOX").is_none_or(|value| value != "1") {
        println!("{test}: skipped: needs the sandbox of cargo xtask test");
        return None;
    }
    let lab = LAB.get_or_init(|| Mutex::new(Lab::open()));
    // A test that failed left nothing that `forget` and `enforce` do not
    // replace.
    let lab = lab.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    lab.forget();
    lab.set_denials(|counter| ReasonCounter {
        decided: counter.decided,
        ..ReasonCounter::default()
    });
    Some(lab)
}

impl Lab {
    fn open() -> Self {
        let mounted = Command::new("sh")
            .args([
                "-c",
                "mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf",
            ])
            .status()
            .unwrap();
        assert!(mounted.success());
        let root = PathBuf::from(format!("/sys/fs/bpf/hostfw-verdict-{}", std::process::id()));
        let dataplane = Dataplane::open(&Options::new(&root)).unwrap();
        Self {
            dataplane: Some(dataplane),
            root,
        }
    }

    /// A lab of one test's own, with so much room for flows. The one that all share
    /// must have been asked for before.
    pub(crate) fn with_tables(test: &str, tables: FlowTables) -> Self {
        let name = format!("/sys/fs/bpf/hostfw-verdict-{}-{test}", std::process::id());
        let mut lab = Self {
            dataplane: None,
            root: PathBuf::from(name),
        };
        lab.reopen(tables);
        lab
    }

    /// Has another agent take over, which would give the tables these sizes.
    pub(crate) fn reopen(&mut self, tables: FlowTables) {
        // It wants the lock that the first one has.
        self.dataplane = None;
        let options = Options {
            tables,
            ..Options::new(&self.root)
        };
        self.dataplane = Some(Dataplane::open(&options).unwrap());
    }

    /// Removes all that is pinned.
    pub(crate) fn remove(&mut self) {
        self.dataplane = None;
        remove_all(&self.root).unwrap();
    }

    fn dataplane(&self) -> &Dataplane {
        self.dataplane.as_ref().unwrap()
    }

    /// Enforces resources as node1 would, whose external interface is the
    /// lab's.
    pub(crate) fn enforce(&mut self, yaml: &str) {
        self.switch(&image(yaml));
    }

    pub(crate) fn switch(&mut self, image: &Image) {
        self.dataplane.as_mut().unwrap().switch(image).unwrap();
    }

    /// The folder of pins.
    pub(crate) fn pins(&self) -> PathBuf {
        self.root.join(format!("v{ABI_VERSION}"))
    }

    fn map(&self, name: &str) -> MapData {
        MapData::from_pin(self.pins().join("maps").join(name)).unwrap()
    }

    fn flows(&self, name: &str) -> HashMap<MapData, FlowKey, Flow> {
        Map::LruHashMap(self.map(name)).try_into().unwrap()
    }

    /// Forgets all flows and fragments.
    pub(crate) fn forget(&self) {
        for name in [names::HALF_OPEN, names::CONFIRMED] {
            let mut flows = self.flows(name);
            let keys: Vec<_> = flows.keys().collect::<Result<_, _>>().unwrap();
            for key in keys {
                flows.remove(&key).unwrap();
            }
        }
        let mut fragments: HashMap<_, FragmentKey, u64> =
            Map::LruHashMap(self.map(names::FRAGMENTS))
                .try_into()
                .unwrap();
        let keys: Vec<_> = fragments.keys().collect::<Result<_, _>>().unwrap();
        for key in keys {
            fragments.remove(&key).unwrap();
        }
    }

    /// Whether flows can be made to look that old: time stamps count from the
    /// machine's start.
    pub(crate) fn can_age(&self, nanoseconds: u64) -> bool {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        seconds * 1e9 > nanoseconds as f64
    }

    /// Makes all flows look as if their last packet was so long ago.
    pub(crate) fn age(&self, nanoseconds: u64) {
        for name in [names::HALF_OPEN, names::CONFIRMED] {
            let mut flows = self.flows(name);
            let all: Vec<_> = flows.iter().collect::<Result<_, _>>().unwrap();
            for (key, mut flow) in all {
                flow.last_seen = flow.last_seen.saturating_sub(nanoseconds);
                flows.insert(key, flow, 0).unwrap();
            }
        }
    }

    /// How many flows are half-open, and how many confirmed.
    pub(crate) fn flow_counts(&self) -> (usize, usize) {
        (
            self.flows(names::HALF_OPEN).keys().count(),
            self.flows(names::CONFIRMED).keys().count(),
        )
    }

    /// The state of each flow that is half-open.
    pub(crate) fn half_open_states(&self) -> Vec<u8> {
        let flows = self.flows(names::HALF_OPEN);
        flows.iter().map(|flow| flow.unwrap().1.state).collect()
    }

    /// Events since the last call of this and of [`denials`](Self::denials), but for
    /// those of packets that were dropped.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let mut events = self.all_events();
        events.retain(|event| !is_denial(event));
        events
    }

    /// Likewise, those of packets that were dropped.
    pub(crate) fn denials(&mut self) -> Vec<Event> {
        let mut events = self.all_events();
        events.retain(is_denial);
        events
    }

    /// Has the next packet that is dropped there be reported.
    pub(crate) fn report_next(&self, checkpoint: Checkpoint, reason: Reason) {
        let slot = counter::slot(Outcome::Enforced, checkpoint, reason);
        self.set_denials_of(slot, |counter| ReasonCounter { left: 1, ..counter });
    }

    /// Says of all that is dropped what has been reported, and may still be.
    pub(crate) fn set_denials(&self, set: impl Fn(ReasonCounter) -> ReasonCounter) {
        for slot in 0..COUNTER_SLOTS {
            self.set_denials_of(slot, &set);
        }
    }

    fn set_denials_of(&self, slot: u32, set: impl Fn(ReasonCounter) -> ReasonCounter) {
        let mut counters: PerCpuArray<_, ReasonCounter> =
            Map::PerCpuArray(self.map(names::COUNTERS))
                .try_into()
                .unwrap();
        let values = counters.get(&slot, 0).unwrap();
        let values: Vec<_> = values.iter().map(|value| set(*value)).collect();
        let values = PerCpuValues::try_from(values).unwrap();
        counters.set(slot, values, 0).unwrap();
    }

    /// How many packets were dropped for the reason, and how many of them were not
    /// reported.
    pub(crate) fn dropped(&self, checkpoint: Checkpoint, reason: Reason) -> (u64, u64) {
        let at = |at: Checkpoint, of: Reason| (at, of) == (checkpoint, reason);
        let dropped = self.dataplane().counters().unwrap();
        let dropped = dropped.iter().find(|(a, b, _)| at(*a, *b));
        let hidden = self.dataplane().hidden().unwrap();
        let hidden = hidden.iter().find(|(a, b, _)| at(*a, *b));
        (
            dropped.map_or(0, |(.., counter)| counter.packets),
            hidden.map_or(0, |(.., packets)| *packets),
        )
    }

    /// Events of all kinds, in order.
    pub(crate) fn all_events(&mut self) -> Vec<Event> {
        let mut ring = aya::maps::RingBuf::try_from(Map::RingBuf(self.map(names::EVENTS))).unwrap();
        let mut events = Vec::new();
        while let Some(item) = ring.next() {
            assert_eq!(item.len(), size_of::<Event>());
            // SAFETY: as long as an Event, and any bytes are one.
            events.push(unsafe { std::ptr::read_unaligned(item.as_ptr().cast()) });
        }
        events
    }

    /// A program, to ask what the kernel made of it.
    pub(crate) fn program(&self, name: &str) -> &Program {
        self.dataplane().program(name).unwrap()
    }

    /// What the program says of the bytes, and the reason that it counted.
    pub(crate) fn judge_bytes(&self, hook: Hook, bytes: &[u8]) -> (Verdict, Reason) {
        match self.judged(hook, bytes) {
            (verdict, Judged::For(reason)) => {
                assert_eq!(reason.verdict(), verdict, "{reason:?} at {hook:?}");
                (verdict, reason)
            }
            (verdict, would @ Judged::Would(_)) => panic!("{would:?}, {verdict:?} at {hook:?}"),
        }
    }

    /// Like [`judge_bytes`](Self::judge_bytes), where nothing may be enforced.
    pub(crate) fn judged(&self, hook: Hook, bytes: &[u8]) -> (Verdict, Judged) {
        let before = self.counts(hook.checkpoint());
        let verdict = self.run(hook, bytes);
        let after = self.counts(hook.checkpoint());
        let judged: Vec<Judged> = after
            .iter()
            .zip(&before)
            .filter(|((_, after), (_, before))| after > before)
            .map(|((judged, _), _)| *judged)
            .collect();
        match judged[..] {
            [] => (verdict, Judged::For(Reason::NoEndpoint)),
            [judged] => (verdict, judged),
            _ => panic!("one packet counted for {judged:?}"),
        }
    }

    /// The reason for what happens to the packet.
    pub(crate) fn judge(&self, hook: Hook, packet: &Packet) -> Reason {
        self.judge_bytes(hook, &packet.build()).1
    }

    /// How many bytes the program counts for the packet.
    pub(crate) fn counted(&self, hook: Hook, bytes: &[u8]) -> u64 {
        let sum = || -> u64 {
            let counters = self.dataplane().counters().unwrap();
            let here = counters.iter().filter(|(at, ..)| *at == hook.checkpoint());
            here.map(|(_, _, counter)| counter.bytes).sum()
        };
        let before = sum();
        let _ = self.run(hook, bytes);
        sum() - before
    }

    /// What happens to the packet; the counters are not looked at.
    pub(crate) fn judge_quickly(&self, hook: Hook, packet: &Packet) -> Verdict {
        self.run(hook, &packet.build())
    }

    fn run(&self, hook: Hook, bytes: &[u8]) -> Verdict {
        let mut options = TestRunOptions::new();
        // XDP test runs want the room that a driver leaves behind a frame, and
        // a frame of at least an Ethernet header.
        options.data_in = Some(bytes);
        let context = hook.context();
        let program = self.dataplane().program(hook.program()).unwrap();
        let answer = if let Program::Xdp(program) = program {
            program.test_run(options)
        } else if let Program::SchedClassifier(program) = program {
            options.ctx_in = context.as_ref().map(|context| &context[..]);
            program.test_run(options)
        } else {
            panic!("{program:?}")
        };
        let answer = answer
            .unwrap_or_else(|error| panic!("{hook:?} of {} bytes: {error}", bytes.len()))
            .return_value;
        hook.verdict(answer)
    }

    fn counts(&self, checkpoint: Checkpoint) -> Vec<(Judged, u64)> {
        let judged: [fn(Reason) -> Judged; 2] = [Judged::For, Judged::Would];
        let counters = [
            self.dataplane().counters().unwrap(),
            self.dataplane().would_drop().unwrap(),
        ];
        let mut counts = Vec::new();
        for (judged, counters) in judged.into_iter().zip(counters) {
            for reason in Reason::ALL {
                let packets = counters
                    .iter()
                    .filter(|(at, of, _)| *at == checkpoint && of == reason)
                    .map(|(_, _, counter)| counter.packets)
                    .sum();
                counts.push((judged(*reason), packets));
            }
        }
        counts
    }
}

fn is_denial(event: &Event) -> bool {
    event.reason != NO_REASON && event.outcome == Outcome::Enforced as u8
}

/// `struct __sk_buff` (linux/bpf.h) with the interface that the packet came in
/// through, 0 for none.
fn skb_context(ingress_ifindex: u32) -> [u8; 192] {
    const INGRESS_IFINDEX: usize = 36;
    const IFINDEX: usize = 40;
    let mut context = [0; 192];
    context[INGRESS_IFINDEX..][..4].copy_from_slice(&ingress_ifindex.to_ne_bytes());
    context[IFINDEX..][..4].copy_from_slice(&INTERFACE.to_ne_bytes());
    context
}

/// The image of resources, as node1 would have it.
pub(crate) fn image(yaml: &str) -> Image {
    let model = model(yaml);
    let selection = select(&model, "node1", &[eth0()]);
    assert!(!selection.governed.is_empty(), "no endpoint governs eth0");
    compile(&selection).unwrap()
}

/// node1's external interface, under the index of the lab's.
pub(crate) fn eth0() -> Interface {
    Interface {
        index: INTERFACE,
        name: "eth0".to_owned(),
        addresses: vec![ip("10.240.0.11"), ip("fd00:10:240::11")],
        link_header: true,
        loopback: false,
        up: true,
        master: None,
    }
}

pub(crate) fn model(yaml: &str) -> Model {
    assemble(parse_documents(yaml).into_iter().flat_map(|document| {
        document
            .result
            .unwrap()
            .iter()
            .map(|resource| validate(resource).unwrap())
            .collect::<Vec<_>>()
    }))
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
