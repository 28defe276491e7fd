//! Decoders of what media files and ffmpeg say, on bytes in memory; see [`crate::fuzzing`].

use std::ffi::OsString;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use dmc_protocol::media::TaskSpec;

use super::index::{self, Index};
use super::run::{Progress, ProgressLines};
use super::sniff::{self, Sniffed};
use super::streams::{Orientation, Probe};
use super::work::{self, TaskOutput};
use super::{boxes, picture, probe};

/// What ffmpeg's progress lines tell, when they arrive in pieces of `step` bytes.
pub fn progress(stdout: &[u8], step: usize) -> Vec<Progress> {
    let mut lines = ProgressLines::default();
    let mut told = Vec::new();
    for piece in stdout.chunks(step.max(1)) {
        lines.push(piece, &mut |progress| told.push(progress));
    }
    told
}

/// What ffprobe's answers about the headers and the first frames make of a source.
pub fn probe(headers: &[u8], frames: &[u8], bytes: u64) -> Option<Probe> {
    probe::understand(headers, frames, bytes)
}

/// The packets in ffprobe's list.
pub fn packets(csv: &[u8]) -> Index {
    Index { packets: index::packets(&String::from_utf8_lossy(csv)) }
}

/// ffmpeg's arguments for a task, and the most that it may write.
pub fn arguments(spec: &TaskSpec) -> (Vec<OsString>, u64) {
    let output = TaskOutput { media: PathBuf::from("media"), proof: PathBuf::from("proof") };
    (work::arguments(spec, Path::new("input"), &output).words, work::bytes_max(spec))
}

/// The demuxer of a picture with these first bytes.
pub fn picture_format(head: &[u8]) -> Option<&'static str> {
    match sniff::sniff(head) {
        Sniffed::Picture(name) => Some(name),
        Sniffed::Unsupported(_) | Sniffed::Other => None,
    }
}

/// Where the header of an MP4 file is, and its length.
pub fn mp4_header(file: &[u8]) -> Option<(u64, u64)> {
    boxes::find_header(&mut Cursor::new(file), file.len() as u64).ok()
}

/// An MP4 header with these boxes in its first sample entry.
pub fn mp4_header_with(header: &[u8], boxes: &[u8]) -> Option<Vec<u8>> {
    boxes::insert(header.to_vec(), boxes)
}

/// An MP4 header whose pictures are turned.
pub fn mp4_header_turned(header: &[u8], orientation: Orientation) -> Option<Vec<u8>> {
    let mut header = header.to_vec();
    boxes::set_matrix(&mut header, orientation)?;
    Some(header)
}

/// A PNG with the metadata of a source.
pub fn png_with_metadata(png: &[u8], source: &[u8]) -> Option<Vec<u8>> {
    picture::insert(png, &picture::chunks_of(source, true))
}
