//! What two agents tell each other when they meet again, and with every heartbeat.
//!
//! The worker lists every attempt that it holds for the owner. The owner answers where something
//! is to be done: it fetches what is finished, says `Drop` or `Unknown` where nothing is wanted,
//! and ends leases that the worker does not know of. Because a heartbeat states all of it, any
//! lost message heals with the next one.

use std::collections::BTreeSet;

use crate::id::{AgentId, AttemptId};
use crate::message::{HeldAttempt, HeldState, Message, Verdict};
use crate::time::Time;

use super::{Mesh, Output};

impl Mesh {
    /// Tells a peer that this agent lives and what it holds for it.
    pub(super) fn reconcile_with(&mut self, to: AgentId, out: &mut Vec<Output>) {
        let held = self.work.held_for(to);
        out.push(Output::Send { to, message: Message::Heartbeat { held } });
    }

    pub(super) fn on_heartbeat(
        &mut self,
        now: Time,
        from: AgentId,
        held: Vec<HeldAttempt>,
        out: &mut Vec<Output>,
    ) {
        let listed: BTreeSet<AttemptId> = held.iter().map(|held| held.attempt).collect();
        self.end_unlisted_leases(now, from, &listed, out);
        for HeldAttempt { attempt, task, state } in held {
            if let HeldState::Done(result) = state {
                // The report may have been lost: to hear it again is harmless.
                self.on_done(now, from, attempt, task, result, out);
                continue;
            }
            match self.verdict_on(from, attempt, task) {
                Verdict::Keep => self.adopt_lease(now, from, attempt, task, state, out),
                verdict => {
                    out.push(Output::Send {
                        to: from,
                        message: Message::Verdict { attempt, verdict },
                    });
                }
            }
        }
    }
}
