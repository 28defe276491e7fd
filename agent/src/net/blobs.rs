//! Blobs on streams of their own: verified chunk by chunk, resumable, four streams at a time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dmc_protocol::codec::{self, CodecError};
use dmc_protocol::id::{AgentId, BlobId, BlobRef};
use dmc_store::{Blobs, CHUNK_BYTES, Manifest, Partial, StoreError};
use futures::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use libp2p::swarm::Stream;
use libp2p::{PeerId, StreamProtocol};
use libp2p_stream::OpenStreamError;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::Net;
use super::control::{read_frame_up_to, write_frame};
use super::heard::Heard;

/// The protocol's name in libp2p's negotiation.
pub(super) const BLOB: StreamProtocol = StreamProtocol::new("/dmc/blob/1");
const STREAMS: usize = 4;
/// Chunks asked for at a time on one stream: enough that the answer never waits for the question.
const CHUNKS_PER_REQUEST: usize = 8;
const REQUEST_BYTES_MAX: usize = 1_024;
/// A manifest has 32 bytes for each MiB: this serves blobs up to 256 GiB.
const MANIFEST_BYTES_MAX: usize = 8 << 20;
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes after which a peer counts as heard.
const READ_BYTES: usize = 32 << 10;
/// A requester that is silent for this long is gone.
const SERVE_TIMEOUT: Duration = Duration::from_secs(60);

/// How patient the fetching side is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// For 32 KiB of a chunk, or for a manifest.
    pub(super) part: Duration,
    /// For a whole chunk.
    pub(super) chunk: Duration,
    /// How long a peer that is there may send no chunk, over all tries.
    pub(super) stall: Duration,
    /// Between two tries.
    pub(super) pause: Duration,
}

impl Default for Times {
    fn default() -> Times {
        Times {
            part: Duration::from_secs(30),
            chunk: Duration::from_secs(120),
            stall: Duration::from_secs(60),
            pause: Duration::from_secs(1),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Manifest(BlobId),
    Chunks { id: BlobId, indices: Vec<u32> },
}

/// Why a blob could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The peer cannot be reached.
    #[error("cannot reach the peer: {0}")]
    Unreachable(String),
    /// The connection broke or was too slow.
    #[error("the transfer broke off")]
    Broken(#[source] io::Error),
    /// The peer does not have the blob.
    #[error("the peer cannot serve it: {0}")]
    Refused(String),
    /// The peer is there, and sends nothing, or far too slowly.
    #[error("the peer is connected, but does not send it")]
    Stalled(#[source] Box<FetchError>),
    /// What the peer sent is not what was asked for.
    #[error("the peer sent wrong data: {0}")]
    Wrong(String),
    /// The own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<io::Error> for FetchError {
    fn from(e: io::Error) -> FetchError {
        FetchError::Broken(e)
    }
}

/// What the serving side notices.
pub(super) enum Note {
    /// The peer asked for something.
    Heard,
    /// The file of a blob is damaged.
    Damaged(BlobId),
}

type Notes<'a> = &'a (dyn Fn(Note) + Sync);

/// Answers the requests of one inbound stream until it ends.
pub(super) async fn serve(mut stream: Stream, blobs: Blobs, notes: Notes<'_>) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let request = timeout(SERVE_TIMEOUT, read_frame_up_to(&mut stream, REQUEST_BYTES_MAX));
        let request = match request.await {
            Ok(Ok(frame)) => frame,
            Ok(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(e)) => return Err(e),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        notes(Note::Heard);
        let request =
            read_request(&request).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        match request {
            Request::Manifest(id) => send_manifest(&mut stream, &blobs, id, notes).await?,
            Request::Chunks { id, indices } => {
                for index in indices.into_iter().take(CHUNKS_PER_REQUEST) {
                    buffer = send_chunk(&mut stream, &blobs, (id, index), buffer, notes).await?;
                }
                stream.flush().await?;
            }
        }
    }
}

/// What a peer asks for.
pub(super) fn read_request(frame: &[u8]) -> Result<Request, CodecError> {
    codec::from_bytes(frame, REQUEST_BYTES_MAX)
}

/// Damage and a changed source must be known to whoever gave the blob out.
fn note_damage(error: &StoreError, id: BlobId, notes: Notes<'_>) {
    if matches!(error, StoreError::Corrupt { .. } | StoreError::SourceChanged { .. }) {
        notes(Note::Damaged(id));
    }
}

async fn send_manifest(
    stream: &mut Stream,
    blobs: &Blobs,
    id: BlobId,
    notes: Notes<'_>,
) -> io::Result<()> {
    let blobs = blobs.clone();
    let manifest = blocking(move || blobs.manifest(id)).await;
    let manifest = manifest.inspect_err(|e| note_damage(e, id, notes));
    let body = match manifest {
        Ok(manifest) => codec::to_bytes(&Ok::<&Manifest, String>(&manifest)),
        Err(e) => codec::to_bytes(&Err::<Manifest, String>(e.to_string())),
    };
    write_frame(stream, &body.map_err(io::Error::other)?).await
}

/// The buffer is that of the chunk before; it is given back for the next one.
async fn send_chunk(
    stream: &mut Stream,
    blobs: &Blobs,
    (id, index): (BlobId, u32),
    mut buffer: Vec<u8>,
    notes: Notes<'_>,
) -> io::Result<Vec<u8>> {
    let blobs = blobs.clone();
    let read = blocking(move || blobs.read_chunk_into(id, index, &mut buffer).map(|()| buffer));
    let write = async {
        match read.await {
            Ok(chunk) => {
                let length = u32::try_from(chunk.len()).map_err(io::Error::other)?;
                stream.write_all(&length.to_le_bytes()).await?;
                stream.write_all(&chunk).await?;
                Ok(chunk)
            }
            // Length zero is no chunk: the reason follows.
            Err(e) => {
                note_damage(&e, id, notes);
                stream.write_all(&0u32.to_le_bytes()).await?;
                write_frame(stream, e.to_string().as_bytes()).await?;
                Ok(Vec::new())
            }
        }
    };
    timeout(SERVE_TIMEOUT, write).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}

impl Net {
    /// Fetches a blob into the store, again and again for as long as chunks come. While the peer
    /// is not connected this waits, `away` at most; one that is there must send.
    pub async fn fetch(
        &self,
        from: AgentId,
        blob: BlobRef,
        blobs: &Blobs,
        away: Duration,
    ) -> Result<(), FetchError> {
        let (mut stalled, mut there) = (Duration::ZERO, Instant::now());
        loop {
            let (began, chunks) = (Instant::now(), AtomicU64::new(0));
            let error = match self.fetch_once(from, blob, blobs, &chunks).await {
                Err(e @ (FetchError::Unreachable(_) | FetchError::Broken(_))) => e,
                Err(e @ FetchError::Wrong(_)) => {
                    self.refused.count(from);
                    return Err(e);
                }
                done => return done,
            };
            let (moved, connected) = (chunks.into_inner() > 0, self.heard.last(from).is_some());
            if moved || connected {
                there = Instant::now();
            }
            if moved {
                stalled = Duration::ZERO;
            } else if connected {
                // One try counts no more than its own limit: this machine may have been asleep.
                stalled += began.elapsed().min(self.times.part) + self.times.pause;
                if stalled > self.times.stall {
                    return Err(FetchError::Stalled(Box::new(error)));
                }
            }
            if there.elapsed() > away {
                return Err(error);
            }
            tokio::time::sleep(self.times.pause).await;
        }
    }

    /// One try; chunks that an earlier one brought are not fetched again. Counts the chunks that
    /// come.
    async fn fetch_once(
        &self,
        from: AgentId,
        blob: BlobRef,
        blobs: &Blobs,
        chunks: &AtomicU64,
    ) -> Result<(), FetchError> {
        if blobs.contains(blob.id) {
            return Ok(());
        }
        let peer = crate::identity::peer_id(from)
            .filter(|_| self.members.gate().admits(from))
            .ok_or_else(|| FetchError::Unreachable("not a member".to_owned()))?;
        let mut first = self.open_blob_stream(peer).await?;
        let manifest = fetch_manifest(&mut first, blob, self.times.part).await?;
        let store = blobs.clone();
        let partial = blocking(move || store.begin_partial(&manifest)).await?;
        let before = partial.missing_count();
        let fetched = self.fetch_missing(from, peer, first, &partial).await;
        let came = before.saturating_sub(partial.missing_count());
        chunks.store(came as u64, Ordering::Relaxed);
        fetched?;
        blocking(move || partial.finish()).await?;
        Ok(())
    }

    async fn fetch_missing(
        &self,
        from: AgentId,
        peer: PeerId,
        first: Stream,
        partial: &Partial,
    ) -> Result<(), FetchError> {
        let missing = partial.missing();
        let runs: Vec<Vec<u32>> = missing.chunks(CHUNKS_PER_REQUEST).map(<[u32]>::to_vec).collect();
        let streams = STREAMS.min(runs.len());
        let queue = Arc::new(Mutex::new(runs.into_iter().rev().collect::<Vec<_>>()));
        let mut first = Some(first);
        let mut tasks = JoinSet::new();
        for _ in 0..streams {
            let stream = match first.take() {
                Some(stream) => stream,
                None => self.open_blob_stream(peer).await?,
            };
            let (partial, queue) = (partial.clone(), Arc::clone(&queue));
            let ear = Ear { peer: from, heard: self.heard.clone(), times: self.times };
            tasks.spawn(fetch_runs(stream, partial, queue, ear));
        }
        while let Some(done) = tasks.join_next().await {
            match done {
                Ok(result) => result?,
                Err(stopped) if stopped.is_panic() => {
                    std::panic::resume_unwind(stopped.into_panic())
                }
                Err(_) => return Err(FetchError::Broken(io::ErrorKind::Interrupted.into())),
            }
        }
        Ok(())
    }

    async fn open_blob_stream(&self, peer: PeerId) -> Result<Stream, FetchError> {
        let mut streams = self.streams.clone();
        let open = timeout(OPEN_TIMEOUT, async move { streams.open_stream(peer, BLOB).await });
        match open.await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(e @ OpenStreamError::UnsupportedProtocol(_))) => {
                Err(FetchError::Refused(e.to_string()))
            }
            Ok(Err(e)) => Err(FetchError::Unreachable(e.to_string())),
            Err(_) => Err(FetchError::Unreachable("no answer in time".to_owned())),
        }
    }
}

async fn ask(stream: &mut Stream, request: &Request) -> Result<(), FetchError> {
    let body = codec::to_bytes(request).map_err(io::Error::other)?;
    Ok(write_frame(stream, &body).await?)
}

async fn fetch_manifest(
    stream: &mut Stream,
    blob: BlobRef,
    limit: Duration,
) -> Result<Manifest, FetchError> {
    let frame = timeout(limit, async {
        ask(stream, &Request::Manifest(blob.id)).await?;
        let frame = read_frame_up_to(stream, MANIFEST_BYTES_MAX).await;
        frame.map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => FetchError::Wrong(e.to_string()),
            _ => FetchError::Broken(e),
        })
    });
    let frame = frame.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    read_manifest(&frame, blob)
}

/// The manifest in a peer's answer, when it is that of the blob.
pub(super) fn read_manifest(frame: &[u8], blob: BlobRef) -> Result<Manifest, FetchError> {
    let answer: Result<Manifest, String> = codec::from_bytes(frame, MANIFEST_BYTES_MAX)
        .map_err(|e| FetchError::Wrong(e.to_string()))?;
    let manifest = answer.map_err(FetchError::Refused)?;
    manifest.verify_shape().map_err(|e| FetchError::Wrong(e.to_string()))?;
    if manifest.id != blob.id || manifest.bytes != blob.bytes {
        return Err(FetchError::Wrong("the manifest is that of another blob".to_owned()));
    }
    Ok(manifest)
}

async fn fetch_runs(
    stream: Stream,
    partial: Partial,
    queue: Arc<Mutex<Vec<Vec<u32>>>>,
    ear: Ear,
) -> Result<(), FetchError> {
    let mut writer = Writer { partial, under_way: None };
    let read = read_runs(stream, &mut writer, queue, &ear).await;
    // What came before the stream broke is kept, and what was wrong in it is said rather than that.
    writer.wait().await.map(|_buffer| ()).and(read)
}

async fn read_runs(
    mut stream: Stream,
    writer: &mut Writer,
    queue: Arc<Mutex<Vec<Vec<u32>>>>,
    ear: &Ear,
) -> Result<(), FetchError> {
    let id = writer.partial.manifest().id;
    let mut chunk = Vec::new();
    while let Some(indices) = { queue.lock().await.pop() } {
        let request = Request::Chunks { id, indices: indices.clone() };
        ask(&mut stream, &request).await?;
        for index in indices {
            let read = timeout(ear.times.chunk, read_chunk(&mut stream, ear, &mut chunk));
            read.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            chunk = writer.write(index, chunk).await?;
        }
    }
    Ok(())
}

/// Hashes and writes one chunk while the next one is read, in the same two buffers all along.
struct Writer {
    partial: Partial,
    under_way: Option<JoinHandle<Result<Vec<u8>, StoreError>>>,
}

impl Writer {
    /// Takes a chunk, and gives the buffer of the one before when that is written.
    async fn write(&mut self, index: u32, chunk: Vec<u8>) -> Result<Vec<u8>, FetchError> {
        let buffer = self.wait().await?;
        let partial = self.partial.clone();
        let write = move || partial.write_chunk(index, &chunk).map(|()| chunk);
        self.under_way = Some(tokio::task::spawn_blocking(write));
        Ok(buffer)
    }

    async fn wait(&mut self) -> Result<Vec<u8>, FetchError> {
        let Some(written) = self.under_way.take() else { return Ok(Vec::new()) };
        match written.await {
            Ok(done) => done.map_err(blame),
            Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
        }
    }
}

fn blame(error: StoreError) -> FetchError {
    match error {
        StoreError::WrongHash { .. } => FetchError::Wrong(error.to_string()),
        other => FetchError::Store(other),
    }
}

/// Notes that bytes come from a peer, and how long that may take.
pub(super) struct Ear {
    pub(super) peer: AgentId,
    pub(super) heard: Heard,
    pub(super) times: Times,
}

impl Ear {
    async fn read<R>(&self, stream: &mut R, part: &mut [u8]) -> Result<(), FetchError>
    where
        R: AsyncRead + Unpin,
    {
        let read = timeout(self.times.part, stream.read_exact(part)).await;
        read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        self.heard.touch(self.peer);
        Ok(())
    }
}

/// Reads a chunk into `chunk`, whatever was in it.
pub(super) async fn read_chunk<R>(
    stream: &mut R,
    ear: &Ear,
    chunk: &mut Vec<u8>,
) -> Result<(), FetchError>
where
    R: AsyncRead + Unpin,
{
    let mut length = [0u8; 4];
    ear.read(stream, &mut length).await?;
    let length = u32::from_le_bytes(length);
    if length == 0 {
        let reason = read_frame_up_to(stream, REQUEST_BYTES_MAX).await?;
        return Err(FetchError::Refused(String::from_utf8_lossy(&reason).into_owned()));
    }
    if u64::from(length) > CHUNK_BYTES {
        return Err(FetchError::Wrong(format!("a chunk of {length} bytes")));
    }
    chunk.resize(length as usize, 0);
    for part in chunk.chunks_mut(READ_BYTES) {
        ear.read(stream, part).await?;
    }
    Ok(())
}
