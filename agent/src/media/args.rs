//! ffmpeg's arguments for every task. Pure.

use std::path::Path;

use dmc_protocol::media::{
    AudioTask, ContentLight, Encoder, Feed, FieldOrder, ImageTask, MasteringDisplay, Quality,
    Rational, SegmentTask, VideoSettings, VideoWork, WholeTask,
};

use super::bounds;
use super::filters::{exact, field_filter, filter, frame_marks, lossy};
use super::hardware;
use super::proof::HASH;
use super::run::Args;
use crate::machine;

/// Sound in pieces of ten seconds of 48 kHz, so that a list of them is short.
pub(crate) const AUDIO_CHUNK: &str = "asetnsamples=n=480000:p=0";

/// The end of a file name for a task's result.
pub(crate) fn segment_format(encoder: Encoder) -> &'static str {
    // ffmpeg's MP4 refuses FFV1; QuickTime is the same format with that tag allowed.
    if encoder == Encoder::Ffv1 { "mov" } else { "mp4" }
}

/// A segment: two outputs, the encoded frames of [A, B) and the hashes of all frames before B.
pub(crate) fn segment(task: &SegmentTask, input: &Path, media: &Path, proof: &Path) -> Args {
    let work = &task.video;
    let base = work.time_base;
    let mut args = Args::ffmpeg();
    args.words(hardware::device(work.settings.encoder));
    let (source, shift) = match &task.feed {
        Feed::Piece { shift_s, .. } => {
            args.words("-copyts -noautorotate -protocol_whitelist file");
            args.words(&format!("-max_pixels {} -f nut -i", bounds::PIXELS_MAX)).read(input);
            let ticks = u64::from(*shift_s) * u64::from(base.den) / u64::from(base.num.max(1));
            ("[0:v:0]".to_owned(), format!(",setpts=PTS-{ticks}"))
        }
        Feed::Seek { format, stream, from_us } => {
            args.words("-copyts -noautorotate");
            if let Some(from_us) = from_us {
                args.words("-noaccurate_seek -seek_timestamp 1 -ss").arg(seconds(*from_us));
            }
            args.input(Some(format), input);
            (format!("[0:{stream}]"), String::new())
        }
    };
    let (a, b) = (task.a_pts, task.b_pts);
    let head = format!("{source}settb={base}{shift},trim=end_pts={b}");
    // The first frame of a piece with pre-roll has no frame before it that would decide.
    let begins = match &task.feed {
        Feed::Piece { preroll_keyframes, .. } => *preroll_keyframes == 0,
        Feed::Seek { from_us, .. } => from_us.is_none(),
    };
    graph(&mut args, work, (&head, begins), &format!("trim=start_pts={a},setpts=PTS-{a}"));
    outputs(&mut args, work, media, proof);
    args
}

/// All frames of a film, with their own timestamps where the packets have them all.
pub(crate) fn whole(task: &WholeTask, input: &Path, media: &Path, proof: &Path) -> Args {
    let work = &task.video;
    let mut args = Args::ffmpeg();
    args.words(hardware::device(work.settings.encoder));
    if !task.continuous {
        args.arg("-copyts");
    }
    args.arg("-noautorotate").input(Some(&task.format), input);
    let stream = task.stream;
    let mut head = format!("[0:{stream}]settb={}", work.time_base);
    if task.expected.is_none() {
        // A frame without a timestamp, or with one that goes back, comes one tick after the last.
        head.push_str(
            ",setpts='st(0,if(isnan(PTS),if(isnan(PREV_OUTPTS),0,PREV_OUTPTS+1),PTS));\
             if(isnan(PREV_OUTPTS),ld(0),max(ld(0),PREV_OUTPTS+1))'",
        );
    }
    graph(&mut args, work, (&head, true), "setpts=PTS-STARTPTS");
    outputs(&mut args, work, media, proof);
    if task.continuous {
        // Which streams are read decides how ffmpeg bridges the jumps; joining reads the same.
        args.words("-map 0:a? -c copy -f null -");
    }
    args
}

fn graph(args: &mut Args, work: &VideoWork, (head, begins): (&str, bool), trim: &str) {
    let mut first = vec![head.to_owned()];
    first.extend(exact(work, begins));
    first.extend(field_filter(work.settings.field_order));
    let mut second = lossy(work);
    second.push(trim.to_owned());
    second.extend(frame_marks(&work.settings));
    second.extend(hardware::upload(&work.settings).map(ToOwned::to_owned));
    let (first, second) = (first.join(","), second.join(","));
    let graph = match hash_format(&work.settings) {
        Some(format) => format!("{first},split[x][z];[z]format={format}[y];[x]{second}[e]"),
        None => format!("{first},split[x][y];[x]{second}[e]"),
    };
    args.arg("-filter_complex").arg(graph);
}

/// The format in which frames are hashed, where their own has bytes that mean nothing.
pub(crate) fn hash_format(settings: &VideoSettings) -> Option<&'static str> {
    (settings.pix_fmt.name() == "bgr0").then_some("gbrp")
}

fn outputs(args: &mut Args, work: &VideoWork, media: &Path, proof: &Path) {
    let base = work.time_base;
    let timing = format!("-fps_mode passthrough -enc_time_base {base}");
    args.words(&format!("-map [e] {timing}"));
    encoder(args, &work.settings, (work.width, work.height));
    let format = segment_format(work.settings.encoder);
    args.words(&format!("-map_metadata -1 -map_chapters -1 -video_track_timescale {}", base.den));
    args.words(&format!("-f {format}")).output(media);
    args.words(&format!("-map [y] {timing} -f framehash -hash {HASH}")).output(proof);
}

/// The encoder and its settings, for pictures of that size.
pub(crate) fn encoder(args: &mut Args, settings: &VideoSettings, size: (u32, u32)) {
    let name = settings.encoder.name();
    if settings.encoder.hardware().is_some() {
        hardware::encoder(args, settings, size);
        return;
    }
    args.words(&format!("-c:v {name} -pix_fmt {}", settings.pix_fmt));
    if let Quality::Crf(crf) = settings.quality {
        args.words(&format!("-crf {crf}"));
    }
    if let Some(location) = settings.colour.chroma_location {
        args.words(&format!("-chroma_sample_location {location}"));
    }
    match settings.encoder {
        Encoder::Libx264 => x264(args, settings),
        Encoder::Libx265 => x265(args, settings),
        Encoder::Libsvtav1 => svt(args, settings),
        _ => {
            // Golomb-Rice decodes twice as fast for 5 % more bytes, but knows 8 bits only. The
            // number of slices must not follow from the number of a worker's cores.
            let coder = u8::from(settings.pix_fmt.depth() > 8);
            args.words(&format!("-level 3 -coder {coder} -context 0 -g 1 -slices 4 -slicecrc 1"));
        }
    }
}

fn x264(args: &mut Args, settings: &VideoSettings) {
    let mut params = Vec::new();
    match settings.field_order {
        FieldOrder::Progressive => {}
        FieldOrder::TopFirst => params.push("tff=1".to_owned()),
        FieldOrder::BottomFirst => params.push("bff=1".to_owned()),
    }
    if settings.field_order != FieldOrder::Progressive {
        args.words("-flags +ildct+ilme");
    }
    params.extend(settings.frame_rate.map(|rate| format!("fps={rate}")));
    params.extend(settings.mastering.map(|m| format!("mastering-display={}", mastering(&m))));
    params.extend(settings.light.map(|l| format!("cll={}", light(&l))));
    if settings.quality == Quality::Lossless {
        args.words("-qp 0");
    }
    args.words(&format!("-preset {}", settings.speed));
    if !params.is_empty() {
        args.arg("-x264-params").arg(params.join(":"));
    }
}

fn x265(args: &mut Args, settings: &VideoSettings) {
    let mut params = vec!["log-level=error".to_owned()];
    params.extend(settings.frame_rate.map(|rate| format!("fps={rate}")));
    params.extend(settings.mastering.map(|m| format!("master-display={}", mastering(&m))));
    params.extend(settings.light.map(|l| format!("max-cll={}", light(&l))));
    if settings.mastering.is_some() || settings.light.is_some() {
        params.push("hdr10=1".to_owned());
    }
    if settings.quality == Quality::Lossless {
        params.push("lossless=1".to_owned());
    }
    // The words of a command are tested on machines of all sizes.
    let cores = if cfg!(test) { 2 } else { machine::threads() };
    params.extend(threads(cores).map(str::to_owned));
    args.words(&format!("-preset {} -tag:v hvc1", settings.speed));
    args.arg("-x265-params").arg(params.join(":"));
}

/// What x265 is told of threads. Left alone it makes some even for one processor: that costs it 3 %
/// of its time and 2 % of its bytes (measured: docs/PERFORMANCE.md).
fn threads(cores: usize) -> Option<&'static str> {
    (cores == 1).then_some("pools=none:frame-threads=1")
}

fn svt(args: &mut Args, settings: &VideoSettings) {
    let mut params = Vec::new();
    if let Some(Rational { num, den }) = settings.frame_rate {
        params.push(format!("fps-num={num}:fps-denom={den}"));
    }
    params.extend(settings.mastering.map(|m| format!("mastering-display={}", svt_mastering(&m))));
    params.extend(settings.light.map(|l| format!("content-light={}", light(&l))));
    args.words(&format!("-preset {}", settings.speed.svt_preset()));
    if !params.is_empty() {
        args.arg("-svtav1-params").arg(params.join(":"));
    }
}

fn mastering(display: &MasteringDisplay) -> String {
    let [red, green, blue] = display.primaries;
    format!(
        "G({},{})B({},{})R({},{})WP({},{})L({},{})",
        green.0,
        green.1,
        blue.0,
        blue.1,
        red.0,
        red.1,
        display.white.0,
        display.white.1,
        display.luminance_max,
        display.luminance_min
    )
}

/// SVT-AV1 takes plain numbers, not the units of the standard.
fn svt_mastering(display: &MasteringDisplay) -> String {
    let point =
        |(x, y): (u16, u16)| format!("({:.5},{:.5})", f64::from(x) / 5e4, f64::from(y) / 5e4);
    let [red, green, blue] = display.primaries;
    format!(
        "G{}B{}R{}WP{}L({:.4},{:.4})",
        point(green),
        point(blue),
        point(red),
        point(display.white),
        f64::from(display.luminance_max) / 1e4,
        f64::from(display.luminance_min) / 1e4
    )
}

fn light(light: &ContentLight) -> String {
    format!("{},{}", light.max_cll, light.max_fall)
}

/// One audio stream, and for the proof the hash of its samples.
pub(crate) fn audio(task: &AudioTask, input: &Path, media: &Path, proof: &Path) -> Args {
    let mut args = Args::ffmpeg();
    args.input(Some(&task.format), input);
    let stream = task.stream;
    let samples = if task.sample_bits > 16 { "s32" } else { "s16" };
    // Gaps in the sound become silence, so that it stays in step with the pictures.
    let graph = format!(
        "[0:{stream}]aresample=async=1:min_hard_comp=0.1,asetpts=PTS-STARTPTS,asplit[x][y]"
    );
    args.arg("-filter_complex").arg(graph).words("-map [x] -map_metadata -1 -map_chapters -1");
    args.words(&format!("-c:a {}", task.encoder.name()));
    let channels = task.mix_to.unwrap_or(task.channels);
    if let Some(channels) = task.mix_to {
        args.words(&format!("-ac {channels}"));
    }
    match task.encoder {
        Encoder::Flac => args.words(&format!("-sample_fmt {samples} -compression_level 8")),
        Encoder::Libopus => args.words(&format!(
            "-b:a {} -mapping_family {}",
            task.bps.min(510_000 * u32::from(channels)),
            if channels > 2 { 1 } else { 0 }
        )),
        _ => args.words(&format!("-b:a {}", task.bps)),
    };
    args.words(&format!("-f {}", audio_format(task.encoder))).output(media);
    let exact = exact_samples(task.sample_bits);
    args.words(&format!("-map [y] -c:a {exact} -f hash -hash md5")).output(proof);
    args
}

/// The samples that a lossless encoder keeps: of 32 bits, FLAC takes the upper 24.
pub(crate) fn exact_samples(bits: u8) -> &'static str {
    match bits {
        0..=16 => "pcm_s16le",
        17..=24 => "pcm_s24le",
        _ => "pcm_s32le",
    }
}

/// The file format that carries each sound codec with its priming intact.
pub(crate) fn audio_format(encoder: Encoder) -> &'static str {
    match encoder {
        Encoder::Aac => "mp4",
        Encoder::Flac => "flac",
        _ => "matroska",
    }
}

/// One still picture.
pub(crate) fn image(task: &ImageTask, input: &Path, media: &Path, proof: &Path) -> Args {
    let mut args = Args::ffmpeg();
    args.arg("-noautorotate").input(Some(&task.format), input);
    let mut filters: Vec<String> = task.exact_filters.iter().map(filter).collect();
    filters.push("split[x][y]".to_owned());
    args.arg("-filter_complex").arg(format!("[0:v:0]{}", filters.join(",")));
    args.words("-map [x] -frames:v 1 -c:v png -f image2 -update 1").output(media);
    args.words(&format!("-map [y] -frames:v 1 -f framehash -hash {HASH}")).output(proof);
    args
}

/// Microseconds as ffmpeg's seconds.
pub(crate) fn seconds(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    let us = us.unsigned_abs();
    format!("{sign}{}.{:06}", us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
