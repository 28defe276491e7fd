//! Faults on real agents, each on a host of its own: kills, sleep, partitions, full and bad disks.
//!
//! Every test runs in namespaces of its own, see [`apart`]. Nothing here uses the program's code.
// Clippy knows only `#[test]` functions as tests, not the helpers beside them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod apart;
mod away;
mod blobs;
mod disks;
mod evicted;
mod faults;
mod handover;
mod host;
mod link;
mod mesh;
mod moments;
mod power;
mod rain;
mod redo;
mod report;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other tests from outside use the rest of it")]
mod support;
mod watch;
