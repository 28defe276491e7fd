//! An agent is not a member any more: nothing ties this agent to it.

use crate::handover::HandedEnd;
use crate::id::{AgentId, JobId};
use crate::time::Time;

use super::Mesh;
use super::Output;

impl Mesh {
    /// What it was granted is granted to others, what it asked for is dropped, and whole jobs that
    /// it kept for this agent come back.
    pub(super) fn on_evicted(&mut self, now: Time, peer: AgentId, out: &mut Vec<Output>) {
        if peer == self.me {
            return;
        }
        self.end_leases_of(peer, out);
        self.on_peer_down(now, peer);
        self.drop_work_of(peer, out);
        self.drop_custody_of(peer, out);
        let at_peer = self.handovers.iter().filter(|handed| !handed.record.state.is_over());
        let at_peer = at_peer.filter(|handed| {
            handed.record.to == Some(peer) || handed.record.handed.deliver_to == Some(peer)
        });
        let at_peer: Vec<(JobId, bool)> = at_peer
            .map(|handed| (handed.record.id, handed.record.handed.deliver_to == Some(peer)))
            .collect();
        for (job, delivery) in at_peer {
            if delivery {
                let name = self.name_of(peer);
                let why = format!("{name}, to which the result was to go, was evicted");
                self.end_handed(job, HandedEnd::Failed(why), out);
            } else {
                self.lose_custodian(now, job, out);
            }
        }
    }
}
