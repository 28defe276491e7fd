//! What dmc agents say to each other and how they decide.
//!
//! **Architecture invariant:** nothing in this crate reads a clock, draws a random number, touches
//! a file or a socket, or awaits anything. Time, identifiers and random numbers arrive inside
//! inputs, so the simulator can replay thousands of agents from one seed.

pub mod codec;
pub mod condition;
pub mod config;
pub mod handover;
pub mod id;
pub mod join;
pub mod media;
pub mod mesh;
pub mod message;
pub mod record;
pub mod roster;
pub mod time;
