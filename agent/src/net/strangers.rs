//! What the swarm's task does with agents that are no members: it asks them to join, answers them,
//! and shows them out.

use std::sync::Arc;

use dmc_protocol::id::AgentId;
use libp2p::PeerId;
use libp2p::swarm::Stream;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::members::Code;

use super::node::{Command, EXPEL_TIME, Node, STRANGER_TIME};
use super::{NetEvent, agent, join};

impl Node {
    /// This agent dialled a stranger: it is asked to join.
    pub(super) fn ask_to_join(&self, peer: PeerId, id: AgentId) {
        let (streams, commands, members) =
            (self.streams(), self.commands.clone(), Arc::clone(&self.members));
        tokio::spawn(async move {
            let code = members.code_for(id);
            let outcome = join::ask(streams, peer, id, &members, code.clone()).await;
            let _ = commands.send(Command::Asked { peer, id, code, outcome }).await;
        });
    }

    pub(super) fn on_asked(
        &mut self,
        peer: PeerId,
        id: AgentId,
        code: Option<Code>,
        outcome: Result<(), join::JoinError>,
    ) {
        match &outcome {
            // The connection stays, and is that of a member from now on.
            Ok(()) => self.open_control(peer, id),
            Err(_) if self.members.gate().admits(id) => self.open_control(peer, id),
            Err(why) => {
                debug!(peer = %id.short(), "not joined: {why}");
                self.dialer.is_refused(Instant::now(), peer);
                let _ = self.swarm.disconnect_peer_id(peer);
            }
        }
        if let Some(code) = code {
            self.pending.push_back(NetEvent::Asked(id, code, outcome));
        }
    }

    pub(super) fn accept_join(&self, peer: PeerId, stream: Stream) {
        let Some(id) = agent(&peer) else { return };
        let gate = self.members.gate();
        if !gate.lets_join(id) && !gate.admits(id) {
            return;
        }
        let Ok(place) = Arc::clone(&self.joining).try_acquire_owned() else {
            return debug!(%peer, "a join stream is refused: too many are open");
        };
        let members = Arc::clone(&self.members);
        tokio::spawn(async move {
            if let Err(e) = join::answer(stream, id, &members).await {
                info!(peer = %id.short(), "a stranger did not join: {e}");
            }
            drop(place);
        });
    }

    /// A stranger that does not join is shown out after a while.
    pub(super) fn watch_stranger(&self, peer: PeerId, id: AgentId) {
        let (commands, members) = (self.commands.clone(), Arc::clone(&self.members));
        tokio::spawn(async move {
            tokio::time::sleep(STRANGER_TIME).await;
            if !members.gate().admits(id) {
                let _ = commands.send(Command::Disconnect { peer }).await;
            }
        });
    }

    /// Lets what was said last leave, then closes the connections.
    pub(super) fn expel(&mut self, id: AgentId) {
        // Each stream ends after its last frame.
        self.outboxes.remove(&id);
        self.heard.forget(id);
        self.pending.push_back(NetEvent::Down(id));
        let Some(peer) = crate::identity::peer_id(id) else { return };
        self.dialer.drop_peer(peer);
        let commands = self.commands.clone();
        tokio::spawn(async move {
            tokio::time::sleep(EXPEL_TIME).await;
            let _ = commands.send(Command::Disconnect { peer }).await;
        });
    }
}
