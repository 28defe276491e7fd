//! Which encoders really work here: each proves itself by a short test encode.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use dmc_protocol::codec;
use dmc_protocol::media::{Capabilities, Encoder, MediaKind, PixFmt};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::filters;
use super::hardware;
use super::run::{self, Args, Call, Tools};

/// A test encode that takes longer has failed. Encoders prove themselves while the machine may be
/// busy with work of an agent that was killed a moment ago.
const WALL: Duration = Duration::from_secs(20);
/// What a cache file may hold.
const CACHE_BYTES_MAX: usize = 64 << 10;
const AT_ONCE: usize = 2;
const VERSION_CHARS_MAX: usize = 80;

/// Tries every encoder; those that fail are left out. A machine without ffmpeg has none.
pub async fn detect(tools: &Tools) -> Capabilities {
    let ffmpeg_version = version(tools).await;
    let proven: Vec<(Encoder, Option<[u8; 8]>)> = futures::stream::iter(Encoder::ALL)
        .map(|encoder| prove(tools, encoder, &ffmpeg_version))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut encoders: BTreeMap<Encoder, [u8; 8]> =
        proven.into_iter().filter_map(|(encoder, print)| Some((encoder, print?))).collect();
    let chips = hardware::probe(tools, &ffmpeg_version).await;
    encoders.extend(chips.into_iter().filter_map(|(encoder, print)| Some((encoder, print.ok()?))));
    let kinds: BTreeSet<MediaKind> = encoders.keys().map(|encoder| encoder.kind()).collect();
    Capabilities { ffmpeg_version, encoders, kinds }
}

/// What an earlier start found with the same ffmpeg, so that a restarted agent is back at once. It
/// is to be proven again soon: a library under ffmpeg may be another one by now.
pub fn cached(tools: &Tools, cache: &Path) -> Option<Capabilities> {
    let bytes = std::fs::read(cache).ok()?;
    let (of, found): (Key, Capabilities) = codec::from_bytes(&bytes, CACHE_BYTES_MAX).ok()?;
    (of == key(tools)?).then_some(found)
}

/// Keeps what was found for the next start. Nothing is lost when that fails.
pub fn keep(tools: &Tools, cache: &Path, found: &Capabilities) {
    let Some(bytes) = key(tools).and_then(|key| codec::to_bytes(&(key, found)).ok()) else {
        return;
    };
    let temp = cache.with_extension("tmp");
    if std::fs::write(&temp, bytes).and_then(|()| std::fs::rename(&temp, cache)).is_err() {
        tracing::debug!(path = %cache.display(), "what ffmpeg can do is not kept");
    }
}

/// Which ffmpeg, of which agent, on what: path, length, time in nanoseconds since 1970, version,
/// drivers of graphics cards.
type Key = (String, u64, u128, String, String);

fn key(tools: &Tools) -> Option<Key> {
    let meta = std::fs::metadata(tools.ffmpeg.path()).ok()?;
    let modified = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let path = tools.ffmpeg.path().display().to_string();
    let of = env!("CARGO_PKG_VERSION").to_owned();
    Some((path, meta.len(), modified.as_nanos(), of, hardware::driver()))
}

async fn version(tools: &Tools) -> String {
    let mut args = Args::default();
    args.arg("-version");
    let mut call = Call::new("asking for ffmpeg's version", &tools.ffmpeg, args);
    call.wall = WALL;
    let captured = match run::capture(call, &CancellationToken::new()).await {
        Ok(captured) => captured,
        Err(error) => {
            let path = tools.ffmpeg.path().display();
            tracing::warn!(
                "{path} does not start, so this machine encodes nothing: {error}. If it only \
                 needs files that the sandbox does not know, name them in LD_LIBRARY_PATH or set \
                 sandbox = \"off\""
            );
            return String::new();
        }
    };
    let text = String::from_utf8_lossy(&captured.stdout);
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" Copyright").next().unwrap_or_default();
    line.chars().take(VERSION_CHARS_MAX).collect()
}

/// The fingerprint is the hash of the bits of a fixed test and of the headers that go with them:
/// two builds with the same one make segments that can be joined.
async fn prove(tools: &Tools, encoder: Encoder, version: &str) -> (Encoder, Option<[u8; 8]>) {
    let mut args = Args::ffmpeg();
    match encoder.kind() {
        MediaKind::Audio => {
            args.words("-f lavfi -i sine=frequency=440:sample_rate=48000:duration=0.1 -bitexact");
        }
        MediaKind::Video | MediaKind::Image => {
            let frames = if encoder.kind() == MediaKind::Image { 1 } else { 3 };
            args.words("-f lavfi -i testsrc2=size=128x96:rate=25 -pix_fmt");
            args.arg(match encoder {
                Encoder::Png | Encoder::Libjxl => "rgb24",
                Encoder::Libwebp | Encoder::LibwebpAnim => "bgra",
                _ => "yuv420p",
            });
            // One thread: some encoders choose other bits with more of them.
            args.words(&format!("-frames:v {frames} -bitexact -threads 1"));
        }
    }
    args.words(&format!("-c {}", encoder.name()));
    match encoder {
        Encoder::Libx264 => args.words("-preset medium -crf 28"),
        Encoder::Libx265 => {
            args.words("-preset medium -crf 28 -x265-params log-level=error:pools=1")
        }
        Encoder::Libsvtav1 => args.words("-preset 8 -crf 35 -svtav1-params lp=1"),
        // As pictures are made: an old ffmpeg may not know all of it.
        Encoder::LibaomAv1 => {
            args.words("-usage allintra -still-picture 1 -crf 30 -b:v 0 -cpu-used 8")
        }
        Encoder::Ffv1 => args.words("-level 3 -coder 1 -context 0 -g 1 -slices 4 -slicecrc 1"),
        _ => &mut args,
    };
    // NUT has no name for some formats of pictures.
    args.words(match encoder.kind() {
        MediaKind::Image if encoder != Encoder::Png => "-f rawvideo pipe:1",
        _ => "-f nut pipe:1",
    });
    let mut call = Call::new("trying an encoder", &tools.ffmpeg, args);
    call.wall = WALL;
    let captured = match run::capture(call, &CancellationToken::new()).await {
        Ok(captured) if !captured.stdout.is_empty() => captured,
        Ok(_) => return (encoder, None),
        Err(error) => {
            tracing::info!(%encoder, %error, "this encoder does not work here");
            return (encoder, None);
        }
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(version.as_bytes()).update(&[0]).update(&captured.stdout);
    let mut print = [0; 8];
    print.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    (encoder, Some(print))
}

/// Whether high dynamic range can be mapped to ordinary pictures, or why not: tried, not looked up.
pub async fn tone_maps(tools: &Tools) -> Result<(), String> {
    let mut args = Args::ffmpeg();
    let Some(pix_fmt) = PixFmt::new("yuv420p") else { return Err("no pixel format".to_owned()) };
    let chain = filters::tone_map(16, false, &pix_fmt);
    args.words("-f lavfi -i color=size=64x64:duration=0.04 -vf");
    args.arg(format!("format=yuv420p10le,{chain}")).words("-f null -");
    let mut call = Call::new("trying to map high dynamic range", &tools.ffmpeg, args);
    call.wall = WALL;
    match run::capture(call, &CancellationToken::new()).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let said = error.stderr().unwrap_or_default();
            let why = said.lines().next().unwrap_or("the filters do not run");
            Err(why.chars().take(160).collect())
        }
    }
}
