//! What the loop does when it hears who belongs to the mesh.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use dmc_protocol::codec::WIRE_VERSION;
use dmc_protocol::id::AgentId;
use dmc_protocol::mesh::peers::PeerState;
use dmc_protocol::mesh::{Input, Output};
use dmc_protocol::message::Message;
use dmc_protocol::roster::{FACTS_PER_MESSAGE, Fact};
use tracing::{error, info, warn};

use super::{Runtime, Shared};
use crate::members::{Change, Code};
use crate::net::JoinError;
use crate::worker::chain;

/// Agents of other versions that are remembered: anybody on the link can claim to be one.
const VERSIONS_MAX: usize = 16;

/// What came of asking somebody to join by a code.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The code that it was asked with.
    pub code: Code,
    /// Why it did not join, and whether asking again may end otherwise.
    pub outcome: Result<(), (String, bool)>,
}

pub(super) fn asked(shared: &Shared, peer: AgentId, code: Code, outcome: Result<(), JoinError>) {
    let outcome =
        outcome.map_err(|e| (format!("{} says: {}", peer.short(), chain(&e)), e.is_passing()));
    // The person may have gone.
    let _ = shared.asked.send(Asked { code, outcome });
}

/// What a person is told of an agent of another version.
pub fn version_text(peer: AgentId, theirs: &str) -> String {
    format!(
        "the agent {} speaks version {theirs} of the protocol, this one {WIRE_VERSION}: no work is \
         shared with it; bring both to the same dmc",
        peer.short()
    )
}

impl Shared {
    /// Somebody runs a copy of this agent's data directory.
    pub(super) fn note_twin(&self, addr: SocketAddr) {
        let text = format!(
            "another agent has the identity of this one, at {}: its data directory was copied; stop \
             one of the two and run `dmc mesh reset` there",
            addr.ip()
        );
        let mut twin = self.twin.lock().unwrap_or_else(PoisonError::into_inner);
        if twin.as_ref() != Some(&text) {
            error!("{text}");
            *twin = Some(text);
        }
    }

    /// Somebody speaks another version of the protocol: said once, and shown until it is over.
    pub(super) fn note_version(&self, peer: AgentId, theirs: String) {
        let mut all = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(&peer) == Some(&theirs);
        if !known && (all.len() < VERSIONS_MAX || all.contains_key(&peer)) {
            warn!("{}", version_text(peer, &theirs));
            all.insert(peer, theirs);
        }
    }

    /// Whether somebody spoke another version when it was last heard.
    pub(super) fn speaks_other_version(&self, peer: AgentId) -> bool {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&peer)
    }

    /// It speaks this agent's version now.
    pub(super) fn forget_version(&self, peer: AgentId) {
        let mut all = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if all.remove(&peer).is_some() {
            info!("the agent {} speaks this agent's version of the protocol now", peer.short());
        }
    }

    /// Dials everybody on the link that may be dialled now.
    pub async fn dial_seen(&self) {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (peer, addresses) in met {
            if peer != self.me && self.members.may_dial(peer) {
                self.net.know(Some(peer), addresses.into_iter().collect()).await;
            }
        }
    }

    async fn say_facts(&self, to: AgentId, digest: [u8; 32], facts: &[Fact]) {
        for part in facts.chunks(FACTS_PER_MESSAGE) {
            let message = Message::Roster { digest, facts: part.to_vec() };
            self.net.send(to, message).await;
        }
    }
}

impl Runtime {
    /// The first word to a member: which facts this agent knows.
    pub(super) fn greet(&self, peer: AgentId, outputs: &mut Vec<Output>) {
        let digest = self.shared.members.digest();
        let message = Message::Roster { digest, facts: Vec::new() };
        outputs.push(Output::Send { to: peer, message });
    }

    /// A member says what it knows. One that knows something else is told everything.
    pub(super) fn on_roster(&self, from: AgentId, digest: [u8; 32], facts: Vec<Fact>) {
        let shared = Arc::clone(&self.shared);
        if !shared.members.gate().admits(from) {
            return;
        }
        self.shared.tasks.spawn(async move {
            if facts.is_empty() {
                if digest != shared.members.digest() {
                    let all = shared.members.facts();
                    shared.say_facts(from, shared.members.digest(), &all).await;
                }
                return;
            }
            let is_last = facts.len() < FACTS_PER_MESSAGE;
            match shared.members.learn(facts).await {
                // Facts that came before those that connect them to this agent were left out: they
                // are asked for again, as long as that brings anything new.
                Ok(true) if is_last && digest != shared.members.digest() => {
                    let digest = shared.members.digest();
                    shared.net.send(from, Message::Roster { digest, facts: Vec::new() }).await;
                }
                Ok(_) => {}
                Err(e) => {
                    let why = chain(&e);
                    warn!(peer = %from.short(), "what it says of the mesh is not taken: {why}");
                }
            }
        });
    }

    /// Who belongs to the mesh has changed: everybody who still does hears why, and so do those who
    /// do not any more, as the last word.
    pub(super) async fn on_members(&mut self, change: Change, outputs: &mut Vec<Output>) {
        let (shared, now) = (Arc::clone(&self.shared), self.shared.now());
        let digest = shared.members.digest();
        let connected = self.mesh.peers().iter().filter(|(_, peer)| peer.state != PeerState::Gone);
        let connected: Vec<AgentId> = connected.map(|(id, _)| id).collect();
        for to in connected.into_iter().filter(|to| *to != shared.me) {
            shared.say_facts(to, digest, &change.facts).await;
        }
        if shared.members.is_evicted() {
            error!(
                "this agent was evicted from its mesh: nobody works with it any more; `dmc mesh reset` \
                 makes it a new agent that can join again"
            );
        }
        for peer in change.left {
            info!("{} is a member no longer", self.mesh.name_of(peer));
            outputs.extend(self.mesh.handle(now, Input::Evicted(peer)));
            shared.net.expel(peer).await;
        }
        if !change.joined.is_empty() {
            shared.dial_seen().await;
        }
    }

    /// The door ages, and discovery tells how it stands.
    pub(super) async fn tick_door(&mut self) {
        let open = self.shared.members.door().open;
        if let Some(discovery) = &mut self.discovery {
            discovery.set_door(self.shared.me, open);
        }
        if open && !std::mem::replace(&mut self.door_was_open, open) {
            self.shared.dial_seen().await;
        }
        self.door_was_open = open;
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(async move {
            if let Err(e) = shared.members.tick().await {
                warn!("the door is closed: {}", chain(&e));
            }
        });
    }

    /// What was decided before a crash is carried out: nothing ties this agent to those who left.
    pub(super) fn part_from_former(&mut self) -> Vec<Output> {
        let now = self.shared.now();
        let former = self.shared.members.former();
        former.into_iter().flat_map(|peer| self.mesh.handle(now, Input::Evicted(peer))).collect()
    }
}
