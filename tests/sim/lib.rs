//! Deterministic simulator of a mesh: virtual time, one seed, no IO.
//!
//! Real state machines ([`dmc_protocol::mesh::Mesh`]) talk through a faulty `network`, in front
//! of fake disks and fake media tools (`executor`), under a [`faults::Scenario`] of the table in
//! `scenarios` or one that `chaos` makes up. A separate small model, the `oracle`, watches
//! every record and message. The same scenario and seed give the same run, so a failure is its own
//! reproduction.

mod agent;
mod chaos;
mod executor;
pub mod faults;
mod fixture;
mod ledger;
mod liar;
mod network;
mod oracle;
pub mod race;
pub mod rng;
pub mod runner;
pub mod scenarios;
pub mod world;
