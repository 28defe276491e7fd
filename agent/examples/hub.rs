//! Many members in one process, for `tests/bench/hub`: each has a key, a place in the mesh,
//! connections and the core's state machine of its own, but no disk, no ffmpeg and no API.
//!
//! `hub HOST:PORT COUNT`: makes COUNT of them, which join the agent at that address through its door.
//! Prints `connected` when all are, and stays until its input ends.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dmc_agent::config::Door;
use dmc_agent::identity::{self, Keypair};
use dmc_agent::members::Members;
use dmc_agent::net::{Gate, Net, NetEvent};
use dmc_protocol::id::AttemptId;
use dmc_protocol::media::Capabilities;
use dmc_protocol::mesh::{IDS_BATCH, Input, Mesh, Output};
use dmc_protocol::message::{AgentInfo, Message};
use dmc_protocol::time::Time;
use dmc_store::{BlobLimits, Blobs, Kv};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, count] = &words[..] else { bail!("usage: hub HOST:PORT COUNT") };
    let (address, count): (SocketAddr, usize) = (address.parse()?, count.parse()?);
    let dir = tempfile::tempdir()?;
    let blobs = Blobs::open(dir.path(), BlobLimits::default())?;
    let connected = Arc::new(AtomicUsize::new(0));
    for n in 0..count {
        let member = Member::start(n, address, blobs.clone()).await?;
        tokio::spawn(member.run(Arc::clone(&connected)));
        // An address that comes faster than this is kept waiting.
        tokio::time::sleep(Duration::from_millis(130)).await;
    }
    while connected.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut out = std::io::stdout();
    writeln!(out, "connected")?;
    out.flush()?;
    let rest = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    rest.await??;
    Ok(())
}

struct Member {
    mesh: Mesh,
    net: Net,
    events: mpsc::Receiver<NetEvent>,
    started: Instant,
    _members: Arc<Members>,
}

fn info(name: String) -> AgentInfo {
    AgentInfo {
        name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: rand::random(),
        slots: 1,
        wishes: Default::default(),
        free_disk_bytes: 1 << 40,
        paused: false,
        capabilities: Capabilities::default(),
        speeds: Vec::new(),
        uptime_s: 0,
        custodian: false,
        inbox: false,
        on_battery: false,
        condition: Default::default(),
    }
}

impl Member {
    async fn start(n: usize, address: SocketAddr, blobs: Blobs) -> Result<Member> {
        let key = Keypair::generate_ed25519();
        let me = identity::agent_id(&key.public().to_peer_id()).context("no agent's key")?;
        let (name, kv) = (format!("member-{n}"), Kv::memory());
        let opened =
            Members::open((me, key.clone()), name.clone(), kv, Gate::default(), Door::Auto);
        let (members, mut changes) = opened.await?;
        members.tick().await?;
        tokio::spawn(async move { while changes.recv().await.is_some() {} });
        let (sender, events) = mpsc::channel(256);
        let listen = [SocketAddr::from(([127, 0, 0, 1], 0))];
        let net = Net::start(key, &listen, blobs, Arc::clone(&members), sender)?;
        net.know(None, vec![address]).await;
        let mut mesh = Mesh::new(me, dmc_protocol::config::Config::default());
        mesh.handle(Time(0), Input::Restore(Vec::new()));
        mesh.handle(Time(0), Input::Local(info(name)));
        Ok(Member { mesh, net, events, started: Instant::now(), _members: members })
    }

    async fn run(mut self, connected: Arc<AtomicUsize>) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            let input = tokio::select! {
                _ = tick.tick() => Input::Tick,
                event = self.events.recv() => match event {
                    None => return,
                    Some(NetEvent::Up(peer)) => {
                        connected.fetch_add(1, Ordering::Relaxed);
                        Input::PeerUp(peer)
                    }
                    Some(NetEvent::Down(peer)) => {
                        connected.fetch_sub(1, Ordering::Relaxed);
                        Input::PeerDown(peer)
                    }
                    // It knows the hub only.
                    Some(NetEvent::Message(_, Message::Roster { .. })) => continue,
                    Some(NetEvent::Message(from, message)) => Input::Received { from, message },
                    Some(_) => continue,
                }
            };
            self.handle(input).await;
        }
    }

    async fn handle(&mut self, input: Input) {
        let now = Time(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX));
        for output in self.mesh.handle(now, input) {
            match output {
                Output::Send { to, message } => self.net.send(to, message).await,
                Output::NeedIds => {
                    let ids = (0..IDS_BATCH).map(|_| AttemptId(rand::random())).collect();
                    // It has no jobs, so nothing comes of it.
                    self.mesh.handle(now, Input::Ids(ids));
                }
                _ => {}
            }
        }
    }
}
