//! Fetching from peers that do not behave, over the loopback interface.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dmc_protocol::codec;
use dmc_protocol::id::{AgentId, BlobRef};
use dmc_store::{BlobLimits, Blobs, CHUNK_BYTES, Kv, Manifest};
use futures::{AsyncWriteExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::swarm::{Stream, SwarmEvent};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::behaviour::build_swarm;
use super::blobs::{BLOB, FetchError, Request, Times};
use super::control::{self, CONTROL, read_frame_up_to, write_frame};
use super::{Gate, Net, NetEvent, agent, socket_addr};
use crate::config::Door;
use crate::members::Members;

/// How a peer does not behave.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    /// The bytes of a chunk are others.
    WrongBytes,
    /// The list of chunks is that of another blob.
    WrongList,
    /// A list that never ends.
    EndlessList,
    /// A chunk that never ends.
    EndlessChunk,
    /// One byte a while.
    Trickle,
    /// No answer at all.
    Silent,
    /// Breaks off after each chunk.
    Flaky,
    /// Speaks a newer version of the protocol.
    Newer,
}

const BYTES: usize = 5 * CHUNK_BYTES as usize / 2;
/// Far more than any of this takes; a busy machine needs not be quick.
const LIMIT: Duration = Duration::from_secs(60);

fn content() -> Vec<u8> {
    (0..BYTES).map(|n| (n * 7 + n / 251) as u8).collect()
}

/// Runs a peer with that manner; returns how to reach it.
async fn hostile(manner: Manner) -> (AgentId, std::net::SocketAddr) {
    let key = Keypair::generate_ed25519();
    let id = agent(&key.public().to_peer_id()).unwrap();
    let gate = Gate::default();
    gate.set_joining(true);
    let mut swarm = build_swarm(key, gate).unwrap();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let mut streams = swarm.behaviour().streams.new_control();
    let mut controls = streams.accept(CONTROL).unwrap();
    let mut blobs = streams.accept(BLOB).unwrap();
    let (found, mut address) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                event = swarm.select_next_some() => {
                    if let SwarmEvent::NewListenAddr { address, .. } = event {
                        found.send(socket_addr(&address).unwrap()).await.unwrap();
                    }
                }
                // It lives, so that it is not just away.
                Some((_, mut stream)) = controls.next() => drop(tokio::spawn(async move {
                    while control::greet(&mut stream).await.is_ok() {
                        if manner == Manner::Newer {
                            let _ = write_frame(&mut stream, &[codec::WIRE_VERSION + 1, 0]).await;
                        }
                        sleep(Duration::from_millis(200)).await;
                    }
                })),
                Some((_, stream)) = blobs.next() => drop(tokio::spawn(answer(stream, manner))),
            }
        }
    });
    (id, address.recv().await.unwrap())
}

async fn answer(mut stream: Stream, manner: Manner) -> std::io::Result<()> {
    let content = content();
    loop {
        let frame = read_frame_up_to(&mut stream, 1_024).await?;
        let request: Request = codec::from_bytes(&frame, 1_024).unwrap();
        match (manner, request) {
            (Manner::Silent, _) => sleep(LIMIT * 2).await,
            (Manner::EndlessList, Request::Manifest(_)) => {
                stream.write_all(&u32::MAX.to_le_bytes()).await?;
                loop {
                    stream.write_all(&[0; 4_096]).await?;
                }
            }
            (_, Request::Manifest(_)) => {
                let list = match manner {
                    Manner::WrongList => Manifest::of_bytes(&content[1..]),
                    _ => Manifest::of_bytes(&content),
                };
                let body = codec::to_bytes(&Ok::<_, String>(list)).unwrap();
                write_frame(&mut stream, &body).await?;
            }
            (_, Request::Chunks { indices, .. }) => {
                for index in indices {
                    let from = index as usize * CHUNK_BYTES as usize;
                    let chunk = &content[from..BYTES.min(from + CHUNK_BYTES as usize)];
                    send(&mut stream, manner, chunk).await?;
                    if manner == Manner::Flaky {
                        return stream.close().await;
                    }
                }
                stream.flush().await?;
            }
        }
    }
}

async fn send(stream: &mut Stream, manner: Manner, chunk: &[u8]) -> std::io::Result<()> {
    let mut chunk = chunk.to_vec();
    let mut length = u32::try_from(chunk.len()).unwrap();
    match manner {
        Manner::WrongBytes => chunk[17] ^= 1,
        Manner::EndlessChunk => length = u32::MAX,
        _ => {}
    }
    stream.write_all(&length.to_le_bytes()).await?;
    if manner != Manner::Trickle {
        return stream.write_all(&chunk).await;
    }
    for byte in chunk {
        stream.write_all(&[byte]).await?;
        stream.flush().await?;
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// An agent with a mesh of its own and a closed door.
pub(super) async fn member_of_none() -> (Keypair, Arc<Members>) {
    let key = Keypair::generate_ed25519();
    let me = agent(&key.public().to_peer_id()).unwrap();
    let (kv, gate) = (Kv::memory(), Gate::default());
    let opened = Members::open((me, key.clone()), "test".to_owned(), kv, gate, Door::Closed);
    (key, opened.await.unwrap().0)
}

struct Fetched {
    result: Result<(), FetchError>,
    refused: u64,
    blobs: Blobs,
    blob: BlobRef,
    _dir: tempfile::TempDir,
}

/// An honest agent fetches from a peer with that manner.
async fn fetch_from(manner: Manner) -> Fetched {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path(), BlobLimits::default()).unwrap();
    let (events, mut inbox) = mpsc::channel(64);
    let any = ["127.0.0.1:0".parse().unwrap()];
    let (key, members) = member_of_none().await;
    let net = Net::start(key, &any, blobs.clone(), Arc::clone(&members), events);
    let mut net = net.unwrap();
    net.times = Times {
        part: Duration::from_millis(600),
        chunk: Duration::from_secs(3),
        stall: Duration::from_secs(2),
        pause: Duration::from_millis(20),
    };
    let (peer, address) = hostile(manner).await;
    members.gate().set_members([peer].into(), BTreeSet::new());
    net.know(Some(peer), vec![address]).await;
    let up = async {
        while !matches!(inbox.recv().await, Some(NetEvent::Up(_))) {}
        inbox
    };
    let mut inbox = timeout(LIMIT, up).await.expect("no connection");
    tokio::spawn(async move { while inbox.recv().await.is_some() {} });
    let manifest = Manifest::of_bytes(&content());
    let blob = BlobRef { id: manifest.id, bytes: manifest.bytes };
    let fetched = net.fetch(peer, blob, &blobs, Duration::from_secs(1));
    let result = timeout(LIMIT, fetched).await.expect("it never ends");
    Fetched { result, refused: net.refused(peer), blobs, blob, _dir: dir }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_and_endless_answers_are_refused_at_once() {
    for manner in [Manner::WrongBytes, Manner::WrongList, Manner::EndlessList, Manner::EndlessChunk]
    {
        let fetched = fetch_from(manner).await;
        let error = fetched.result.unwrap_err();
        assert!(matches!(error, FetchError::Wrong(_)), "{manner:?}: {error}");
        assert_eq!(fetched.refused, 1, "{manner:?} is counted");
        assert!(!fetched.blobs.contains(fetched.blob.id), "{manner:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_there_and_sends_nothing_is_given_up() {
    for manner in [Manner::Silent, Manner::Trickle] {
        let began = Instant::now();
        let fetched = fetch_from(manner).await;
        let error = fetched.result.unwrap_err();
        assert!(matches!(error, FetchError::Stalled(_)), "{manner:?}: {error}");
        // Not at the first slow answer.
        assert!(began.elapsed() > Duration::from_millis(1_800), "{manner:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_another_version_is_named_and_not_blamed() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path(), BlobLimits::default()).unwrap();
    let (events, mut inbox) = mpsc::channel(64);
    let (key, members) = member_of_none().await;
    let any = ["127.0.0.1:0".parse().unwrap()];
    let net = Net::start(key, &any, blobs, Arc::clone(&members), events).unwrap();
    let (peer, address) = hostile(Manner::Newer).await;
    members.gate().set_members([peer].into(), BTreeSet::new());
    net.know(Some(peer), vec![address]).await;
    let told = async {
        loop {
            if let Some(NetEvent::OtherVersion(from, theirs)) = inbox.recv().await {
                return (from, theirs);
            }
        }
    };
    let told = timeout(LIMIT, told).await.expect("nobody said it");
    assert_eq!(told, (peer, codec::WIRE_VERSION + 1));
    assert_eq!(net.refused(peer), 0);
    // Whoever lost a peer dials again within two seconds.
    let again = async { while !matches!(inbox.recv().await, Some(NetEvent::Up(_)) | None) {} };
    timeout(Duration::from_secs(5), again).await.expect_err("it is dialled as if it were of use");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flaky_peer_is_asked_again_and_what_came_is_kept() {
    let fetched = fetch_from(Manner::Flaky).await;
    fetched.result.unwrap();
    let path = fetched.blobs.path(fetched.blob.id).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content());
    // Nothing refused: it only broke off.
    assert_eq!(fetched.refused, 0);
}
