//! Results that take the place of their sources: the routines that move the files, killed at each of
//! their steps ([`steps`]), and real agents that do so ([`agents`], [`crashes`], [`trouble`]).
// Clippy knows only `#[test]` functions as tests, not the helpers beside them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod agents;
mod crashes;
mod library;
mod steps;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other tests from outside use the rest of it")]
mod support;
mod trouble;
