//! Decoders of what peers send, on bytes in memory; see [`crate::fuzzing`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use dmc_protocol::id::{AgentId, BlobId, BlobRef};
use dmc_store::Manifest;
use futures::AsyncRead;

use super::blobs::{self, Ear, Request, Times};
use super::control;
use super::heard::Heard;

/// A stream whose bytes arrive in pieces of `step` bytes.
struct Drip<'a> {
    rest: &'a [u8],
    step: usize,
}

impl AsyncRead for Drip<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let count = self.step.max(1).min(buffer.len()).min(self.rest.len());
        let (now, later) = self.rest.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.rest = later;
        Poll::Ready(Ok(count))
    }
}

/// All frames of a control stream up to the first that is cut off or refused, and whether it was
/// refused.
pub fn control_frames(stream: &[u8], step: usize) -> (Vec<Vec<u8>>, bool) {
    let mut frames = Vec::new();
    let mut stream = Drip { rest: stream, step };
    loop {
        match futures::executor::block_on(control::read_frame(&mut stream)) {
            Ok(frame) => frames.push(frame),
            Err(e) => return (frames, e.kind() == io::ErrorKind::InvalidData),
        }
    }
}

/// A frame as it goes over a stream.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut stream = futures::io::Cursor::new(Vec::new());
    // A cursor over a vector takes everything.
    let _ = futures::executor::block_on(control::write_frame(&mut stream, body));
    stream.into_inner()
}

/// What a peer's request for a blob asks: the blob, and its chunks if not its manifest.
pub fn blob_request(frame: &[u8]) -> Option<(BlobId, Option<Vec<u32>>)> {
    match blobs::read_request(frame).ok()? {
        Request::Manifest(id) => Some((id, None)),
        Request::Chunks { id, indices } => Some((id, Some(indices))),
    }
}

/// A request as it is sent.
pub fn blob_request_frame(id: BlobId, indices: Option<Vec<u32>>) -> Vec<u8> {
    let request = match indices {
        None => Request::Manifest(id),
        Some(indices) => Request::Chunks { id, indices },
    };
    dmc_protocol::codec::to_bytes(&request).unwrap_or_default()
}

/// The manifest in a peer's answer, or why there is none.
pub fn blob_manifest(frame: &[u8], blob: BlobRef) -> Result<Manifest, String> {
    blobs::read_manifest(frame, blob).map_err(|e| e.to_string())
}

/// The first chunk of a peer's answer, or why there is none.
pub fn blob_chunk(stream: &[u8], step: usize) -> Result<Vec<u8>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let ear = Ear { peer: AgentId([0; 32]), heard: Heard::default(), times: Times::default() };
    let mut stream = Drip { rest: stream, step };
    let mut chunk = Vec::new();
    let read = runtime.block_on(blobs::read_chunk(&mut stream, &ear, &mut chunk));
    read.map(|()| chunk).map_err(|e| e.to_string())
}
