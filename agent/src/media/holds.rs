//! Which containers can hold a stream as it is.

use std::path::Path;
use std::time::Duration;

use dmc_protocol::media::Container;
use tokio_util::sync::CancellationToken;

use super::error::MediaError;
use super::run::{self, Args, Call, Tools};
use super::streams::{Fits, Probe, Stream, StreamKind};

/// Codecs that a container surely holds; the others are tried.
const MKV_AUDIO: &[&str] = &[
    "aac",
    "ac3",
    "eac3",
    "dts",
    "truehd",
    "mp3",
    "mp2",
    "opus",
    "vorbis",
    "flac",
    "alac",
    "pcm_s16le",
    "pcm_s24le",
    "pcm_s32le",
];
const MP4_AUDIO: &[&str] = &["aac", "ac3", "eac3", "mp3", "mp2", "opus", "alac", "flac", "dts"];
const MKV_SUBTITLE: &[&str] =
    &["subrip", "ass", "ssa", "webvtt", "dvd_subtitle", "hdmv_pgs_subtitle", "dvb_subtitle"];
/// Text that ffmpeg can turn into another kind of text.
const TEXT: &[&str] = &[
    "subrip",
    "srt",
    "ass",
    "ssa",
    "webvtt",
    "mov_text",
    "text",
    "eia_608",
    "microdvd",
    "subviewer",
    "subviewer1",
    "sami",
    "realtext",
    "jacosub",
    "mpl2",
    "pjs",
    "stl",
    "vplayer",
    "ttml",
    "hdmv_text_subtitle",
];

/// Whether a subtitle codec is text.
pub(crate) fn is_text(codec: &str) -> bool {
    TEXT.contains(&codec)
}

/// Fills in [`Stream::fits`], asking ffmpeg where the answer is not well known.
pub(crate) async fn try_streams(
    tools: &Tools,
    path: &Path,
    probe: &mut Probe,
) -> Result<(), MediaError> {
    for at in 0..probe.streams.len() {
        let fits = match known(&probe.streams[at]) {
            Some(fits) => fits,
            None => {
                let (mkv, mp4) = tokio::join!(
                    trial(tools, path, probe, at, Container::Mkv),
                    trial(tools, path, probe, at, Container::Mp4),
                );
                Fits { mkv, mp4 }
            }
        };
        probe.streams[at].fits = fits;
    }
    Ok(())
}

/// Fills in what is well known; for fuzzing.
pub(crate) fn fill_known(probe: &mut Probe) {
    for stream in &mut probe.streams {
        stream.fits = known(stream).unwrap_or_default();
    }
}

fn known(stream: &Stream) -> Option<Fits> {
    let codec = stream.codec.as_str();
    match stream.kind {
        // The pictures are encoded; the rest is never copied into MP4.
        StreamKind::Data => Some(Fits { mkv: false, mp4: false }),
        StreamKind::Attachment => Some(Fits { mkv: true, mp4: false }),
        StreamKind::Cover => {
            let usual = matches!(codec, "mjpeg" | "png");
            Some(Fits { mkv: usual || matches!(codec, "bmp" | "gif" | "webp"), mp4: usual })
        }
        StreamKind::Video => None,
        StreamKind::Audio => {
            let (mkv, mp4) = (MKV_AUDIO.contains(&codec), MP4_AUDIO.contains(&codec));
            // A known codec may still be packed in a way that cannot be repacked, so only
            // certainty about both containers saves the trial.
            (mkv && (mp4 || codec.starts_with("pcm_"))).then_some(Fits { mkv, mp4 })
        }
        StreamKind::Subtitle => {
            let mp4 = matches!(codec, "mov_text" | "dvd_subtitle");
            Some(Fits { mkv: MKV_SUBTITLE.contains(&codec), mp4 })
        }
    }
}

/// Copies a little of one stream into a container and throws it away.
async fn trial(tools: &Tools, path: &Path, probe: &Probe, at: usize, container: Container) -> bool {
    let index = probe.streams[at].index;
    let format = match container {
        Container::Mp4 => "mp4",
        _ => "matroska",
    };
    let mut args = Args::ffmpeg();
    args.input(Some(&probe.format), path);
    args.words(&format!("-map 0:{index} -c copy -t 1"));
    if container == Container::Mp4 {
        // A pipe cannot be sought, so the headers must come first.
        args.words("-movflags +empty_moov+default_base_moof -strict -2");
    }
    args.words(&format!("-f {format} pipe:1"));
    let mut call = Call::new("trying a container", &tools.ffmpeg, args);
    call.wall = Duration::from_secs(20);
    call.stdout_bytes_max = 256 * 1024 * 1024;
    matches!(run::capture(call, &CancellationToken::new()).await,
        Ok(captured) if !captured.stdout.is_empty())
}
