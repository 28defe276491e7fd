//! A program that speaks libp2p, is no member of the mesh, and wants to be a nuisance: for
//! `tests/bench/strangers`, which measures what an agent loses by it.
//!
//! `stranger HOST:PORT SECONDS`: connects as often as it can, with new keys, with half-made
//! handshakes, and with garbage.

use std::net::SocketAddr;
use std::time::Duration;

use libp2p::futures::StreamExt;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{SwarmEvent, dummy};
use libp2p::{Multiaddr, SwarmBuilder, noise, tcp, yamux};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, seconds] = &words[..] else {
        eprintln!("usage: stranger HOST:PORT SECONDS");
        std::process::exit(2);
    };
    let (Ok(address), Ok(seconds)) = (address.parse::<SocketAddr>(), seconds.parse::<u64>()) else {
        eprintln!("an address and a number of seconds are wanted");
        std::process::exit(2);
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    let tasks = (0..4).map(|_| tokio::spawn(handshakes(address, end)));
    let tasks = tasks.chain((0..4).map(|_| tokio::spawn(garbage(address, end))));
    let tasks = tasks.chain((0..8).map(|_| tokio::spawn(half_open(address, end))));
    let mut made = 0;
    for task in tasks.collect::<Vec<_>>() {
        made += task.await.unwrap_or_default();
    }
    let _ = std::io::Write::write_all(
        &mut std::io::stdout(),
        format!("{made} connections in {seconds} s\n").as_bytes(),
    );
}

/// Whole handshakes, each with a new identity.
async fn handshakes(address: SocketAddr, end: Instant) -> u64 {
    let mut made = 0;
    let to = Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()));
    while Instant::now() < end {
        let swarm = SwarmBuilder::with_new_identity().with_tokio().with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        );
        let Ok(swarm) = swarm.map(|built| built.with_behaviour(|_| dummy::Behaviour)) else {
            break;
        };
        let mut swarm = match swarm {
            Ok(built) => built.build(),
            Err(never) => match never {},
        };
        if swarm.dial(to.clone()).is_err() {
            break;
        }
        let ended = async {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionClosed { .. }
                    | SwarmEvent::OutgoingConnectionError { .. } => return,
                    _ => {}
                }
            }
        };
        let _ = timeout(Duration::from_secs(2), ended).await;
        made += 1;
    }
    made
}

/// Bytes that are no handshake.
async fn garbage(address: SocketAddr, end: Instant) -> u64 {
    let mut made = 0;
    while Instant::now() < end {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            let _ = stream.write_all(&[0x42; 4_096]).await;
            made += 1;
        }
        sleep(Duration::from_millis(1)).await;
    }
    made
}

/// Connections that say nothing.
async fn half_open(address: SocketAddr, end: Instant) -> u64 {
    let mut made = 0;
    let mut held = Vec::new();
    while Instant::now() < end {
        if let Ok(stream) = TcpStream::connect(address).await {
            held.push(stream);
            made += 1;
        }
        if held.len() > 32 {
            held.clear();
        }
        sleep(Duration::from_millis(5)).await;
    }
    made
}
