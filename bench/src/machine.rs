//! What the figures were taken on.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

/// Commands whose versions matter.
const VERSIONS: [(&str, &str); 7] = [
    ("nft", "--version"),
    ("iptables-nft", "--version"),
    ("iptables-legacy", "--version"),
    ("ipset", "--version"),
    ("iperf3", "--version"),
    ("ip", "-V"),
    ("bpftool", "version"),
];

/// Leaves `setup.md` in the folder: the machine, and what went wrong on it.
pub(crate) fn write(folder: &Path, failed: &[String]) -> Result<()> {
    let mut text = String::new();
    let mut line = |what: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "- {what}: {value}");
    };
    line(
        "kernel",
        &format!("Linux {}", read("/proc/sys/kernel/osrelease")),
    );
    let cpus = read("/proc/cpuinfo");
    let field = |name: &str| {
        let values = cpus.lines().filter_map(|line| line.split_once(':'));
        let values: Vec<&str> = values
            .filter(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
            .collect();
        (
            values.len(),
            values.first().copied().unwrap_or("unknown").to_owned(),
        )
    };
    let (count, model) = field("model name");
    line("CPUs", &format!("{count}, {model}"));
    line("cache", &field("cache size").1);
    line(
        "governor",
        &match &*read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") {
            "" => "none: the machine does not let one be chosen".to_owned(),
            governor => governor.to_owned(),
        },
    );
    let memory = read("/proc/meminfo");
    line(
        "memory",
        memory
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("MemTotal:")
            .trim(),
    );
    line("BPF JIT", &read("/proc/sys/net/core/bpf_jit_enable"));
    line("load average at the end", &read("/proc/loadavg"));
    for (command, argument) in VERSIONS {
        line(command, &version(command, argument));
    }
    for failure in failed {
        line("failed", failure);
    }
    fs::write(folder.join("setup.md"), text).context("setup.md")
}

/// Without what surrounds it; empty if it cannot be read.
fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn version(command: &str, argument: &str) -> String {
    match Command::new(command).arg(argument).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines()
                .next()
                .unwrap_or("says nothing")
                .trim()
                .to_owned()
        }
        Err(error) => error.to_string(),
    }
}
