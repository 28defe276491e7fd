//! The network between the hosts: one switch, a cable to each, and what can happen to them.
//!
//! The hosts are network namespaces; the switch is a bridge in the test's own namespace.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::process::run;

const LIMIT: Duration = Duration::from_secs(20);

/// Runs one of the system's own commands, which must work.
pub fn must(words: &str) {
    let mut all = words.split_whitespace();
    let done = run(Command::new(all.next().unwrap()).args(all), LIMIT);
    assert!(done.ok(), "{done}");
}

/// Makes the switch. Namespaces are named by files below `/run`; the system's own stay untouched.
pub fn make_switch() {
    must("mount -t tmpfs none /run");
    must("mkdir /run/netns");
    must("ip link set lo up");
    must("ip link add br0 type bridge");
    must("ip link set br0 up");
}

/// The address of host `n`; `turn` counts how often it changed.
pub fn address(n: usize, turn: usize) -> String {
    format!("10.91.{turn}.{}", n + 1)
}

/// Makes host `n` and plugs it in.
pub fn add_host(n: usize) {
    must(&format!("ip netns add h{n}"));
    must(&format!("ip link add port{n} type veth peer name eth0 netns h{n}"));
    must(&format!("ip link set port{n} master br0 up"));
    must(&format!("ip -n h{n} link set lo up"));
    must(&format!("ip -n h{n} link set eth0 up"));
    must(&format!("ip -n h{n} addr add {}/16 brd + dev eth0", address(n, 0)));
}

/// A command that runs on host `n`.
pub fn on_host(n: usize, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/h{n}")).arg(program);
    command
}

/// Pulls or plugs the cable at the host, which sees it.
pub fn plug(n: usize, up: bool) {
    must(&format!("ip -n h{n} link set eth0 {}", if up { "up" } else { "down" }));
}

/// Gives a host another address and takes the old one away.
pub fn change_address(n: usize, from: usize, to: usize) {
    must(&format!("ip -n h{n} addr del {}/16 dev eth0", address(n, from)));
    must(&format!("ip -n h{n} addr add {}/16 brd + dev eth0", address(n, to)));
}

/// The switch forwards nothing between these two any more; neither sees why.
pub fn part(a: usize, b: usize) {
    let rules = format!(
        "table bridge part_{a}_{b} {{ chain f {{ type filter hook forward priority 0; \
         iifname \"port{a}\" oifname \"port{b}\" drop; \
         iifname \"port{b}\" oifname \"port{a}\" drop; }}; }}"
    );
    let done = run(Command::new("nft").arg(rules).stdin(Stdio::null()), LIMIT);
    assert!(done.ok(), "{done}");
}

/// The end of [`part`].
pub fn join(a: usize, b: usize) {
    must(&format!("nft delete table bridge part_{a}_{b}"));
}

/// Makes the cable to a host slow, 16 Mbit/s each way, or as fast as before.
pub fn slow(n: usize, on: bool) {
    let what = if on { "replace" } else { "del" };
    let how = if on { "tbf rate 16mbit burst 64kb latency 50ms" } else { "" };
    must(&format!("tc qdisc {what} dev port{n} root {how}"));
    must(&format!("tc -n h{n} qdisc {what} dev eth0 root {how}"));
}
