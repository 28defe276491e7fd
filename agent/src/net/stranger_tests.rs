//! Strangers that speak libp2p and do not behave, over the loopback interface: they get no further
//! than a member of the mesh lets them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dmc_protocol::codec;
use dmc_protocol::id::AgentId;
use dmc_protocol::join::{Join, Refusal, claim_of};
use dmc_protocol::roster::{Seal, Via};
use dmc_store::{BlobLimits, Blobs};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::swarm::{Stream, SwarmEvent};
use libp2p::{PeerId, StreamProtocol};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::behaviour::build_swarm;
use super::blobs::BLOB;
use super::control::{CONTROL, read_frame_up_to, write_frame};
use super::hostile_tests::member_of_none;
use super::join::JOIN;
use super::{Gate, Net, NetEvent, agent, multiaddr};
use crate::members::Members;

const LIMIT: Duration = Duration::from_secs(30);

/// A member of a mesh of its own, and where it is.
struct Member {
    net: Net,
    members: Arc<Members>,
    peer: PeerId,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

async fn member() -> Member {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path(), BlobLimits::default()).unwrap();
    let (events, mut inbox) = mpsc::channel(64);
    let (key, members) = member_of_none().await;
    let peer = key.public().to_peer_id();
    let any = ["127.0.0.1:0".parse().unwrap()];
    let net = Net::start(key, &any, blobs, Arc::clone(&members), events).unwrap();
    let address = timeout(LIMIT, async {
        loop {
            if let Some(NetEvent::Listening(address)) = inbox.recv().await {
                return address;
            }
        }
    });
    let address = address.await.unwrap();
    tokio::spawn(async move { while inbox.recv().await.is_some() {} });
    Member { net, members, peer, address, _dir: dir }
}

/// Somebody who dials a member.
struct Stranger {
    id: AgentId,
    key: Keypair,
    streams: libp2p_stream::Control,
    /// Connections that were made and closed.
    closed: mpsc::Receiver<()>,
}

fn stranger(member: &Member) -> Stranger {
    let key = Keypair::generate_ed25519();
    let id = agent(&key.public().to_peer_id()).unwrap();
    let gate = Gate::default();
    gate.set_joining(true);
    let mut swarm = build_swarm(key.clone(), gate).unwrap();
    let streams = swarm.behaviour().streams.new_control();
    swarm.dial(multiaddr(member.address)).unwrap();
    let (tell, closed) = mpsc::channel(8);
    tokio::spawn(async move {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionClosed { .. }
                | SwarmEvent::OutgoingConnectionError { .. } => {
                    let _ = tell.send(()).await;
                }
                _ => {}
            }
        }
    });
    Stranger { id, key, streams, closed }
}

impl Stranger {
    /// Opens a stream as soon as there is a connection.
    async fn open(&mut self, to: PeerId, protocol: StreamProtocol) -> Option<Stream> {
        for _ in 0..100 {
            if let Ok(Ok(stream)) =
                timeout(LIMIT, self.streams.open_stream(to, protocol.clone())).await
            {
                return Some(stream);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    async fn is_shut_out(&mut self) -> bool {
        timeout(LIMIT, self.closed.recv()).await.is_ok()
    }
}

async fn say(stream: &mut Stream, message: &Join) {
    write_frame(stream, &codec::to_bytes(message).unwrap()).await.unwrap();
}

async fn hear(stream: &mut Stream) -> Option<Join> {
    let frame = timeout(LIMIT, read_frame_up_to(stream, 1 << 16)).await.unwrap().ok()?;
    codec::from_bytes(&frame, 1 << 16).ok()
}

/// Whether the other side closes a stream without a word.
async fn is_silent(mut stream: Stream) -> bool {
    // It may be closed before this is written.
    let _ = stream.write_all(&[0xff; 64]).await;
    let _ = stream.flush().await;
    let mut byte = [0];
    !matches!(timeout(LIMIT, stream.read(&mut byte)).await, Ok(Ok(1)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_door_is_shut_before_a_stream_is_read() {
    let member = member().await;
    let mut stranger = stranger(&member);
    assert!(stranger.is_shut_out().await);
    let refused = member.members.gate().refused();
    assert_eq!(refused.keys().copied().collect::<BTreeSet<_>>(), [stranger.id].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_door_leads_to_the_join_protocol_only() {
    let member = member().await;
    member.members.open_door(LIMIT, true);
    let mut stranger = stranger(&member);
    for protocol in [CONTROL, BLOB] {
        let stream = stranger.open(member.peer, protocol).await.unwrap();
        assert!(is_silent(stream).await, "nothing answers there");
    }
    // A frame that says it is huge, one that is no message, and one that comes too early.
    for bytes in [u32::MAX.to_le_bytes().to_vec(), vec![3, 0, 0, 0, 9, 9, 9]] {
        let mut stream = stranger.open(member.peer, JOIN).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(hear(&mut stream).await, None);
    }
    let mut stream = stranger.open(member.peer, JOIN).await.unwrap();
    let seal = Seal([0; 32], [0; 32]);
    say(&mut stream, &Join::Sign { proof: None, seal }).await;
    assert_eq!(hear(&mut stream).await, None);
    assert_eq!(member.members.all().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signatures_that_are_wrong_or_replayed_let_nobody_in() {
    let member = member().await;
    member.members.open_door(LIMIT, true);
    let me = member.members.me();
    let mut stranger = stranger(&member);
    let mut ask = member.members.party(None);
    ask.standing.open = true;
    let mut last = None;
    for replay in [false, true] {
        let mut stream = stranger.open(member.peer, JOIN).await.unwrap();
        say(&mut stream, &Join::Ask(ask.clone())).await;
        let Some(Join::Go(theirs)) = hear(&mut stream).await else { panic!("it is asked in") };
        let claim = claim_of((stranger.id, &ask), (me, &theirs), Via::Door);
        let signed = stranger.key.sign(&claim.bytes()).unwrap();
        let seal = match (replay, last) {
            // That of the first exchange: the member's own part of the claim differs.
            (true, Some(seal)) => seal,
            _ => Seal([7; 32], [7; 32]),
        };
        last = Seal::from_bytes(&signed);
        say(&mut stream, &Join::Sign { proof: None, seal }).await;
        assert_eq!(hear(&mut stream).await, None, "replay: {replay}");
        assert_eq!(member.members.all().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_joins_and_connections_are_bounded_and_honest_agents_still_join() {
    let member = member().await;
    member.members.open_door(LIMIT, true);
    let mut held = Vec::new();
    for _ in 0..24 {
        held.push(stranger(&member));
    }
    let mut idle = Vec::new();
    for stranger in &mut held {
        for _ in 0..8 {
            let opened = stranger.streams.open_stream(member.peer, JOIN);
            if let Ok(Ok(stream)) = timeout(Duration::from_millis(300), opened).await {
                idle.push(stream);
            }
        }
    }
    assert!(!idle.is_empty());
    // Members have their own places: one that is known gets through the crowd.
    let (key, friend) = member_of_none().await;
    let id = agent(&key.public().to_peer_id()).unwrap();
    member.members.gate().set_members([id, member.members.me()].into(), BTreeSet::new());
    friend.gate().set_members([member.members.me(), id].into(), BTreeSet::new());
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path(), BlobLimits::default()).unwrap();
    let (events, mut inbox) = mpsc::channel(64);
    let any = ["127.0.0.1:0".parse().unwrap()];
    let net = Net::start(key, &any, blobs, friend, events).unwrap();
    net.know(Some(member.members.me()), vec![member.address]).await;
    let up = async { while !matches!(inbox.recv().await, Some(NetEvent::Up(_))) {} };
    timeout(LIMIT, up).await.expect("the crowd keeps a member out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_joins_by_a_code_that_is_not_there() {
    let member = member().await;
    member.members.open_door(LIMIT, true);
    let mut stranger = stranger(&member);
    let mut ask = member.members.party(Some(vec![0; 33]));
    ask.standing.open = true;
    let mut stream = stranger.open(member.peer, JOIN).await.unwrap();
    say(&mut stream, &Join::Ask(ask)).await;
    assert_eq!(hear(&mut stream).await, Some(Join::Refused(Refusal::NoCode)));
    // The network of the test lives until here.
    assert_eq!(member.net.refused(stranger.id), 0);
}
