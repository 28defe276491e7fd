//! Deterministic simulator of a mesh: virtual time, one seed, no IO.
//!
//! Real state machines ([`dmc_protocol::mesh::Mesh`]) talk through a faulty [`network`], in front
//! of fake disks and fake media tools ([`executor`]), under a [`faults::Scenario`]. A separate small
//! model, the [`oracle`], watches every record and message. The same scenario and seed give the
//! same run, so a failure is its own reproduction.

pub mod executor;
pub mod faults;
pub mod fixture;
pub mod network;
pub mod oracle;
pub mod rng;
pub mod world;
