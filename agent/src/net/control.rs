//! The control stream: length-prefixed frames of [`dmc_protocol::codec`].
//!
//! The dialling side opens it. libp2p-stream may drop an inbound stream without a word when the
//! acceptor is slow, so the acceptor says one empty frame first; until that arrives the stream
//! does not count.

use std::io;
use std::time::Duration;

use dmc_protocol::codec::{self, CodecError};
use dmc_protocol::config::FRAME_BYTES_MAX;
use dmc_protocol::id::AgentId;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::swarm::Stream;
use libp2p::{PeerId, StreamProtocol};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::NetEvent;
use super::heard::Heard;

/// The protocol's name in libp2p's negotiation.
pub(super) const CONTROL: StreamProtocol = StreamProtocol::new("/dmc/control/1");
/// How long one try to open the stream may take, and how many there are.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
const OPEN_TRIES: u32 = 3;
/// A peer that does not take a frame for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often both sides say that they live: by an empty frame.
const ALIVE_EVERY: Duration = Duration::from_millis(2_500);
/// A peer that is not heard on this stream, nor on any other, for so long has lost its connection.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// What a peer may say in a second: far more than a thousand tasks need.
const PACE: Duration = Duration::from_secs(1);
const FRAMES_A_SECOND: u32 = 2_000;
const BYTES_A_SECOND: usize = 16 << 20;
/// How often a peer that was heard just now is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(2_500);
/// The same when its silence will soon have been too long.
const LOOK_EVERY_AT_LAST: Duration = Duration::from_secs(1);
/// A look at the clock that comes so late is this machine's own sleep, or its own trouble.
const OWN_SLEEP: Duration = Duration::from_secs(4);

/// Opens the stream and waits for the acceptor's word.
pub(super) async fn open(
    mut streams: libp2p_stream::Control,
    peer: PeerId,
) -> Result<Stream, String> {
    let mut last = String::new();
    for attempt in 0..OPEN_TRIES {
        tokio::time::sleep(Duration::from_millis(200) * attempt).await;
        let opened = timeout(OPEN_TIMEOUT, async {
            let mut stream = streams.open_stream(peer, CONTROL).await.map_err(|e| e.to_string())?;
            match read_frame(&mut stream).await {
                Ok(frame) if frame.is_empty() => Ok(stream),
                Ok(_) => Err("the peer did not greet".to_owned()),
                Err(e) => Err(e.to_string()),
            }
        });
        match opened.await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(reason)) => last = reason,
            Err(_) => "no answer in time".clone_into(&mut last),
        }
    }
    Err(last)
}

/// The acceptor's first word.
pub(super) async fn greet(stream: &mut Stream) -> io::Result<()> {
    write_frame(stream, &[]).await
}

/// Why a control stream ended.
pub(super) enum End {
    /// Either side closed it, or it broke.
    Over(String),
    /// The peer sent what is refused.
    Refused(String),
    /// The peer speaks another version: nobody's fault.
    OtherVersion(String),
}

/// Reads and writes frames until either side ends or the peer is silent; returns why.
pub(super) async fn pump(
    stream: Stream,
    mut outbox: mpsc::Receiver<Vec<u8>>,
    from: AgentId,
    events: &mpsc::Sender<NetEvent>,
    heard: &Heard,
) -> End {
    let (reader, mut writer) = stream.split();
    let (last, silence) = watch::channel(Instant::now());
    let write = async {
        loop {
            let frame = match timeout(ALIVE_EVERY, outbox.recv()).await {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => Vec::new(),
            };
            match timeout(WRITE_TIMEOUT, write_frame(&mut writer, &frame)).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return e.to_string(),
                Err(_) => return "the peer takes no data".to_owned(),
            }
        }
        let _ = writer.close().await;
        "closed here".to_owned()
    };
    tokio::select! {
        reason = read(reader, from, events, heard, &last) => reason,
        reason = write => End::Over(reason),
        reason = wait_for_silence(from, heard, silence) => End::Over(reason),
    }
}

async fn read(
    mut reader: impl futures::AsyncRead + Unpin,
    from: AgentId,
    events: &mpsc::Sender<NetEvent>,
    heard: &Heard,
    last: &watch::Sender<Instant>,
) -> End {
    let mut pace = Pace { since: Instant::now(), frames: 0, bytes: 0 };
    loop {
        let frame = match read_frame(&mut reader).await {
            Ok(frame) => frame,
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return End::Refused(e.to_string()),
            Err(e) => return End::Over(e.to_string()),
        };
        heard.touch(from);
        let _ = last.send(Instant::now());
        pace.keep(frame.len()).await;
        if frame.is_empty() {
            continue; // it lives
        }
        match codec::decode(&frame) {
            Ok(message) => {
                if events.send(NetEvent::Message(from, message)).await.is_err() {
                    return End::Over("this agent stops".to_owned());
                }
            }
            // Nobody's fault: people bring machines up to date one after another.
            Err(e @ CodecError::Version { theirs, .. }) => {
                let _ = events.send(NetEvent::OtherVersion(from, theirs)).await;
                return End::OtherVersion(e.to_string());
            }
            Err(e) => return End::Refused(format!("the peer sent what is no message: {e}")),
        }
    }
}

/// What a peer said within a second; one that says more is read later.
struct Pace {
    since: Instant,
    frames: u32,
    bytes: usize,
}

impl Pace {
    async fn keep(&mut self, bytes: usize) {
        let now = Instant::now();
        if now.duration_since(self.since) >= PACE {
            *self = Pace { since: now, frames: 0, bytes: 0 };
        }
        (self.frames, self.bytes) = (self.frames + 1, self.bytes + bytes);
        if self.frames > FRAMES_A_SECOND || self.bytes > BYTES_A_SECOND {
            tokio::time::sleep_until(self.since + PACE).await;
        }
    }
}

/// Ends when nothing came from the peer for too long.
async fn wait_for_silence(from: AgentId, heard: &Heard, here: watch::Receiver<Instant>) -> String {
    let mut looked = Instant::now();
    // Before this nothing is held against the peer.
    let mut fair = looked;
    let mut pause = LOOK_EVERY;
    loop {
        tokio::time::sleep(pause).await;
        let now = Instant::now();
        if now.duration_since(looked) > pause + OWN_SLEEP {
            fair = now;
        }
        looked = now;
        let elsewhere = heard.last(from).unwrap_or(fair);
        let last = here.borrow().max(elsewhere).max(fair);
        let silence = now.duration_since(last);
        if silence > SILENCE_MAX {
            return format!("nothing was heard for {} s", SILENCE_MAX.as_secs());
        }
        pause = (SILENCE_MAX - silence).clamp(LOOK_EVERY_AT_LAST, LOOK_EVERY);
    }
}

/// One frame: four bytes of length, little endian, then the body. The length is checked before
/// anything is allocated.
pub(super) async fn read_frame<R>(reader: &mut R) -> io::Result<Vec<u8>>
where
    R: futures::AsyncRead + Unpin,
{
    read_frame_up_to(reader, FRAME_BYTES_MAX).await
}

/// As [`read_frame`], with a limit of the caller's.
pub(super) async fn read_frame_up_to<R>(reader: &mut R, bytes_max: usize) -> io::Result<Vec<u8>>
where
    R: futures::AsyncRead + Unpin,
{
    let mut length = [0u8; 4];
    reader.read_exact(&mut length).await?;
    let length = u32::from_le_bytes(length) as usize;
    if length > bytes_max {
        let reason = format!("a frame of {length} bytes is over the limit of {bytes_max}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    let mut body = vec![0u8; length];
    reader.read_exact(&mut body).await?;
    Ok(body)
}

/// Writes one frame and flushes it.
pub(super) async fn write_frame<W>(writer: &mut W, body: &[u8]) -> io::Result<()>
where
    W: futures::AsyncWrite + Unpin,
{
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    writer.write_all(&length.to_le_bytes()).await?;
    writer.write_all(body).await?;
    writer.flush().await
}
