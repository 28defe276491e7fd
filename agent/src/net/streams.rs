//! Streams of members: the control stream and those of blobs, each in a task of its own.

use dmc_protocol::id::AgentId;
use libp2p::{PeerId, Stream};
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::control::End;
use super::heard::Heard;
use super::node::{Command, Node};
use super::serving::Refused;
use super::{NetEvent, agent, blobs, control};

/// Frames that may wait for a slow peer before its stream is given up.
const OUTBOX: usize = 1_024;

impl Node {
    /// Opens the control stream to a peer that this side dialled.
    pub(super) fn open_control(&self, peer: PeerId, id: AgentId) {
        let (streams, events, commands) =
            (self.streams(), self.events.clone(), self.commands.clone());
        let ears = (self.heard.clone(), self.refused.clone());
        tokio::spawn(async move {
            match control::open(streams, peer).await {
                Ok(stream) => run_control(id, stream, events, commands, ears).await,
                Err(reason) => {
                    debug!(%peer, "no control stream: {reason}");
                    let _ = commands.send(Command::Disconnect { peer }).await;
                }
            }
        });
    }

    /// The agent behind a connection, if it may use more than the join protocol. Checked for every
    /// stream: a connection may be older than an eviction.
    fn member(&self, peer: PeerId) -> Option<AgentId> {
        agent(&peer).filter(|id| self.members.gate().admits(*id))
    }

    pub(super) fn accept_control(&self, peer: PeerId, mut stream: Stream) {
        let Some(id) = self.member(peer) else { return };
        let (events, commands) = (self.events.clone(), self.commands.clone());
        let ears = (self.heard.clone(), self.refused.clone());
        tokio::spawn(async move {
            if control::greet(&mut stream).await.is_ok() {
                run_control(id, stream, events, commands, ears).await;
            }
        });
    }

    pub(super) fn accept_blobs(&mut self, peer: PeerId, stream: Stream) {
        let Some(id) = self.member(peer) else { return };
        let Some(place) = self.serving.place(id) else {
            return debug!(%peer, "a blob stream is refused: too many are open");
        };
        let (blobs, heard, refused) =
            (self.blobs.clone(), self.heard.clone(), self.refused.clone());
        let events = self.events.clone();
        tokio::spawn(async move {
            let notes = |note: blobs::Note| match note {
                blobs::Note::Heard => heard.touch(id),
                // When nobody has time for this now, the next request tells it again.
                blobs::Note::Damaged(blob) => drop(events.try_send(NetEvent::Damaged(blob))),
            };
            if let Err(e) = blobs::serve(stream, blobs, &notes).await {
                debug!(%peer, "a blob stream ended: {e}");
                if e.kind() == std::io::ErrorKind::InvalidData {
                    refused.count(id);
                }
            }
            drop(place);
        });
    }
}

/// One control stream from its registration to its end. Nothing is read before the runtime has
/// been told that the peer is there.
async fn run_control(
    peer: AgentId,
    stream: Stream,
    events: mpsc::Sender<NetEvent>,
    commands: mpsc::Sender<Command>,
    (heard, refused): (Heard, Refused),
) {
    let (outbox, frames) = mpsc::channel(OUTBOX);
    let (number, registered) = oneshot::channel();
    if commands.send(Command::StreamUp { peer, outbox, number }).await.is_err() {
        return;
    }
    let Ok(number) = registered.await else { return };
    let reason = match control::pump(stream, frames, peer, &events, &heard).await {
        End::Over(reason) => reason,
        End::Refused(reason) => {
            refused.count(peer);
            reason
        }
        End::OtherVersion(reason) => {
            let _ = commands.send(Command::Useless { peer }).await;
            reason
        }
    };
    debug!(peer = %peer.short(), "control stream ended: {reason}");
    let _ = commands.send(Command::StreamDown { peer, number }).await;
}
