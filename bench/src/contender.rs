//! Who drops the packets.

use std::{fmt::Write as _, os::fd::AsFd as _, process::Command};

use anyhow::{Context as _, Result, ensure};
use hostfw_agent::{
    attach::{Dataplane, HookKind, IngressChoice, Options, TcChoice, remove_all},
    compile::image::Image,
};
use hostfw_tests::netns;

use crate::{
    policy::{self, Rule},
    wire::{HERE, Wire},
};

/// Where hostfw judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    XdpNative,
    XdpGeneric,
    Tcx,
    Clsact,
}

impl Hook {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "hostfw, native XDP",
            Self::XdpGeneric => "hostfw, generic XDP",
            Self::Tcx => "hostfw, TCX",
            Self::Clsact => "hostfw, clsact",
        }
    }

    const fn options(self) -> (IngressChoice, TcChoice) {
        match self {
            Self::XdpNative => (IngressChoice::XdpNative, TcChoice::Auto),
            Self::XdpGeneric => (IngressChoice::XdpGeneric, TcChoice::Auto),
            Self::Tcx => (IngressChoice::Tc, TcChoice::Tcx),
            Self::Clsact => (IngressChoice::Tc, TcChoice::Clsact),
        }
    }
}

/// hostfw on `hf0`, until dropped.
pub(crate) struct Hostfw {
    plane: Option<Box<Dataplane>>,
}

const PIN_ROOT: &str = "/sys/fs/bpf/bench";

impl Hostfw {
    pub(crate) fn up(wire: &Wire, hook: Hook, image: &Image) -> Result<Self> {
        let (ingress, tc) = hook.options();
        let options = Options {
            ingress,
            tc,
            ..Options::new(PIN_ROOT)
        };
        let mut plane = Dataplane::open(&options)?;
        plane.switch(image)?;
        let attachment = plane.attach(&wire.interface())?;
        let found = attachment.ingress.kind;
        let expected = match hook {
            Hook::XdpNative => HookKind::XdpNative,
            Hook::XdpGeneric => HookKind::XdpGeneric,
            Hook::Tcx => HookKind::Tcx,
            Hook::Clsact => HookKind::Clsact,
        };
        ensure!(found == expected, "expected {expected:?}, found {found:?}");
        Ok(Self {
            plane: Some(Box::new(plane)),
        })
    }
}

impl Drop for Hostfw {
    fn drop(&mut self) {
        // Its lock goes with it.
        drop(self.plane.take());
        if let Err(error) = remove_all(PIN_ROOT.as_ref()) {
            eprintln!("hostfw stays attached: {error}");
        }
    }
}

/// Somebody who drops what the last of a number of rules matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Hostfw(Hook),
    /// A native XDP program that drops everything: what no firewall can beat.
    BareXdp,
    /// Rules in the table raw, before nf_conntrack.
    Iptables,
    /// Rules in the netdev family's ingress hook, before everything but XDP.
    Nftables,
}

/// What takes a contender away again.
pub(crate) enum Up {
    Hostfw(#[expect(dead_code, reason = "attached until dropped")] Hostfw),
    Command(&'static [&'static str]),
}

impl Drop for Up {
    fn drop(&mut self) {
        let command = match self {
            Self::Hostfw(_) => return,
            Self::Command(command) => command,
        };
        if let Err(error) = netns::run(Command::new(command[0]).args(&command[1..]), None) {
            eprintln!("{error:#}");
        }
    }
}

impl Contender {
    pub(crate) const ALL: [Self; 7] = [
        Self::Hostfw(Hook::XdpNative),
        Self::BareXdp,
        Self::Hostfw(Hook::XdpGeneric),
        Self::Hostfw(Hook::Tcx),
        Self::Hostfw(Hook::Clsact),
        Self::Nftables,
        Self::Iptables,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Hostfw(hook) => hook.name(),
            Self::BareXdp => "bare XDP drop",
            Self::Iptables => "iptables, raw",
            Self::Nftables => "nftables, netdev",
        }
    }

    pub(crate) fn up(self, wire: &Wire, rules: usize) -> Result<Up> {
        match self {
            Self::Hostfw(hook) => {
                let image = policy::image(wire, rules)?;
                Hostfw::up(wire, hook, &image).map(Up::Hostfw)
            }
            Self::BareXdp => {
                let pin = "/sys/fs/bpf/bare";
                let program = crate::bpf::constant_xdp(crate::bpf::XDP_DROP)?;
                crate::bpf::pin(program.as_fd(), pin).context("pinning")?;
                let attached = netns::run(
                    Command::new("ip").args(["link", "set", HERE, "xdpdrv", "pinned", pin]),
                    None,
                );
                std::fs::remove_file(pin).context(pin)?;
                attached?;
                Ok(Up::Command(&["ip", "link", "set", HERE, "xdpdrv", "off"]))
            }
            Self::Iptables => {
                netns::run(
                    Command::new("iptables-restore").arg("--noflush"),
                    Some(&iptables(rules)),
                )?;
                Ok(Up::Command(&["iptables", "-t", "raw", "-F", "PREROUTING"]))
            }
            Self::Nftables => {
                netns::run(
                    Command::new("nft").args(["-f", "-"]),
                    Some(&nftables(rules)),
                )?;
                Ok(Up::Command(&["nft", "delete", "table", "netdev", "bench"]))
            }
        }
    }
}

fn iptables(count: usize) -> String {
    let mut text = String::from("*raw\n");
    for rule in policy::rules(count) {
        // Writing to a String cannot fail.
        let _ = match rule {
            Rule::Net(x, y) => {
                writeln!(text, "-A PREROUTING -i {HERE} -s 10.{x}.{y}.0/24 -j DROP")
            }
            Rule::Port(port) => {
                writeln!(
                    text,
                    "-A PREROUTING -i {HERE} -p udp --dport {port} -j DROP"
                )
            }
        };
    }
    text + &format!("-A PREROUTING -i {HERE} -j DROP\nCOMMIT\n")
}

fn nftables(count: usize) -> String {
    let mut text = format!(
        "table netdev bench {{\n chain ingress {{\n type filter hook ingress device {HERE} priority 0;\n"
    );
    for rule in policy::rules(count) {
        let _ = match rule {
            Rule::Net(x, y) => writeln!(text, "ip saddr 10.{x}.{y}.0/24 drop"),
            Rule::Port(port) => writeln!(text, "udp dport {port} drop"),
        };
    }
    text + "drop\n }\n}\n"
}
