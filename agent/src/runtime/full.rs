//! What the loop does while the disk of its state is full: nothing that was decided is said, no new
//! work is taken, questions are answered, and a request to stop is heard.

use std::time::Duration;

use dmc_protocol::mesh::Input;
use dmc_store::{Batch, StoreError};
use tokio::time::Instant;
use tracing::info;

use super::{Event, Runtime, membership};
use crate::net::NetEvent;
use crate::worker::chain;

/// How often a full disk is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// Events that may wait for room on the disk: results of running work and wishes of people.
const DEFERRED_MAX: usize = 4_096;

impl Runtime {
    /// Makes a batch durable, however long the disk is full. False: a stop was asked for, and it is
    /// not durable.
    pub(super) async fn commit(&mut self, batch: Batch) -> Result<bool, StoreError> {
        let mut waited = false;
        loop {
            let full = match self.shared.store.kv.commit(batch.clone()).await {
                Err(e) if e.is_disk_full() => e,
                done => {
                    if waited && done.is_ok() {
                        info!("there is room again: everything goes on");
                    }
                    return done.map(|()| true);
                }
            };
            self.shared.room.state_is_full(&chain(&full));
            // The ballast's room is tried at once.
            if waited && (self.stop_asked.is_some() || self.stopping.is_some()) {
                return Ok(false);
            }
            if waited {
                self.serve_for(PAUSE).await;
            }
            waited = true;
        }
    }

    /// Answers questions for a while; all else is put off, and what will be said again is dropped.
    async fn serve_for(&mut self, pause: Duration) {
        self.pulse.beat();
        let until = Instant::now() + pause;
        for question in std::mem::take(&mut self.asked) {
            question(&self.mesh, self.shared.now());
        }
        loop {
            let roomy = self.deferred.len() < DEFERRED_MAX;
            let event = tokio::select! {
                event = self.inbox.recv(), if roomy => event,
                () = tokio::time::sleep_until(until) => return,
            };
            match event {
                Some(Event::Ask(question)) => question(&self.mesh, self.shared.now()),
                Some(Event::Stop(done)) => {
                    self.stop_asked = Some(done);
                    return;
                }
                Some(event) => self.defer(event).await,
                None => return tokio::time::sleep_until(until).await,
            }
        }
    }

    async fn defer(&mut self, event: Event) {
        match event {
            // Peers say again what is so; progress is told again.
            Event::Net(NetEvent::Message(..)) | Event::Input(Input::Worked { .. }) => {}
            Event::Net(NetEvent::Up(peer) | NetEvent::Down(peer)) => {
                // Only the newest word about a peer counts.
                self.deferred.retain(|known| match known {
                    Event::Net(NetEvent::Up(of) | NetEvent::Down(of)) => *of != peer,
                    _ => true,
                });
                self.deferred.push_back(event);
            }
            Event::Net(NetEvent::Reached(peer, addr)) => self.shared.met(peer, [addr]),
            Event::Net(NetEvent::Listening(addr)) => self.shared.listens(addr, true),
            Event::Net(NetEvent::NotListening(addr)) => self.shared.listens(addr, false),
            // It is found again when it is needed again.
            Event::Net(NetEvent::Damaged(_)) => {}
            Event::Net(NetEvent::OtherVersion(peer, theirs)) => {
                self.shared.note_version(peer, theirs.to_string());
            }
            Event::Net(NetEvent::Twin(addr)) => self.shared.note_twin(addr),
            Event::Net(NetEvent::Asked(peer, code, outcome)) => {
                membership::asked(&self.shared, peer, code, outcome);
            }
            Event::Sighting(sighting) => self.shared.seen(sighting).await,
            Event::Input(_) | Event::Ask(_) | Event::Stop(_) | Event::Members(_) => {
                self.deferred.push_back(event);
            }
        }
    }
}
