//! Two real agents, of which one fetches a file from the other: for `tests/bench/transfer`.
//!
//! `transfer serve DIR FILE`: starts an agent on port 7341, prints `ready PEER BLOB BYTES`, and
//! serves until its input ends.
//! `transfer fetch DIR HOST:PORT PEER BLOB BYTES`: starts another one, prints `connected`, waits for
//! a line, fetches the blob into its store, prints `fetched SECONDS`, and stays until its input ends.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dmc_agent::agent::{self, PEER_PORT, Running};
use dmc_agent::config::Settings;
use dmc_protocol::id::{AgentId, BlobRef};
use tokio::io::{AsyncBufReadExt, BufReader, Stdin};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let running = match words[..] {
        ["serve", dir, file] => serve(dir, file).await?,
        ["fetch", dir, address, peer, blob, bytes] => {
            let blob = BlobRef { id: blob.parse()?, bytes: bytes.parse()? };
            fetch(dir, address, peer.parse()?, blob).await?
        }
        _ => bail!("usage: transfer serve DIR FILE | transfer fetch DIR HOST:PORT PEER BLOB BYTES"),
    };
    running.stop().await;
    Ok(())
}

fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// The end of the input ends it too.
async fn wait_for_line(input: &mut BufReader<Stdin>) -> Result<()> {
    input.read_line(&mut String::new()).await?;
    Ok(())
}

fn settings(peers: Vec<String>) -> Result<Settings> {
    let listen = vec![format!("0.0.0.0:{PEER_PORT}").parse()?];
    let api = Some("127.0.0.1:0".parse()?);
    Ok(Settings { listen, api, peers, discovery: false, ..Settings::default() })
}

async fn serve(dir: &str, file: &str) -> Result<Running> {
    let running = agent::start(Path::new(dir), settings(Vec::new())?).await?;
    let (blobs, file) = (running.shared.store.blobs.clone(), file.to_owned());
    let source = tokio::task::spawn_blocking(move || {
        let manifest = blobs.hash_file(Path::new(&file))?;
        let blob = BlobRef { id: manifest.id, bytes: manifest.bytes };
        blobs.add_external(manifest, Path::new(&file)).map(|()| blob)
    });
    let blob = source.await??;
    say(&format!("ready {} {} {}", running.shared.me, blob.id, blob.bytes))?;
    let mut input = BufReader::new(tokio::io::stdin());
    wait_for_line(&mut input).await?;
    Ok(running)
}

async fn fetch(dir: &str, address: &str, peer: AgentId, blob: BlobRef) -> Result<Running> {
    let running = agent::start(Path::new(dir), settings(vec![address.to_owned()])?).await?;
    let shared = &running.shared;
    let joined = async {
        while !shared.members.all().contains(&peer) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(CONNECT_TIMEOUT, joined).await.context("the two did not join")?;
    say("connected")?;
    let mut input = BufReader::new(tokio::io::stdin());
    wait_for_line(&mut input).await?;
    let began = Instant::now();
    shared.net.fetch(peer, blob, &shared.store.blobs, CONNECT_TIMEOUT).await?;
    say(&format!("fetched {:.3}", began.elapsed().as_secs_f64()))?;
    wait_for_line(&mut input).await?;
    Ok(running)
}
