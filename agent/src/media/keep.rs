//! Decides what becomes of sound, subtitles, covers, attachments and data. Pure.

use dmc_protocol::media::options::{Tracks, language_code};
use dmc_protocol::media::{AudioPolicy, AudioTask, Container, Encoder, Preset, TaskSpec};

use super::holds::is_text;
use super::plan::{Origin, OutStream};
use super::streams::{Probe, Stream, StreamKind};

/// Bits per second for each channel where sound must be encoded although copying was asked for.
const CHANNEL_BPS: u32 = 96_000;
/// Takes the place of a task's number until the task exists.
const NOT_YET: u32 = u32::MAX;
/// Tags that describe the old bits, not the content.
const TECHNICAL_TAGS: &[&str] = &[
    "bps",
    "duration",
    "number_of_frames",
    "number_of_bytes",
    "source_id",
    "handler_name",
    "vendor_id",
    "encoder",
    "rotate",
    "alpha_mode",
    "encoder_options",
];

/// Tags of a stream that is encoded anew.
pub(super) fn content_tags(stream: &Stream) -> Vec<(String, String)> {
    let kept = stream.tags.iter().filter(|(key, value)| !is_technical(key) && !value.is_empty());
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Whether a tag describes bits and not content.
pub(super) fn is_technical(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let base = key.split_once('-').map_or(key.as_str(), |(base, _)| base);
    key.starts_with("_statistics") || TECHNICAL_TAGS.contains(&base)
}

/// The name of a track. An encoded one comes out of an MP4 file, which gives it a name of its own:
/// where the source has none, an empty value removes that.
fn handler_name(stream: &Stream) -> (String, String) {
    const KEY: &str = "handler_name";
    (KEY.to_owned(), stream.tag(KEY).unwrap_or_default().to_owned())
}

fn out(stream: &Stream, origin: Origin) -> OutStream {
    let tags = match &origin {
        Origin::Copy => Vec::new(),
        Origin::Pictures | Origin::Task(_) => {
            content_tags(stream).into_iter().chain([handler_name(stream)]).collect()
        }
        _ => content_tags(stream),
    };
    OutStream {
        source: stream.index,
        kind: stream.kind,
        origin,
        tags,
        dispositions: stream.dispositions.clone(),
    }
}

/// The streams of a film's result, in the source's order.
pub(crate) fn streams(probe: &Probe, preset: &Preset, notes: &mut Vec<String>) -> Vec<OutStream> {
    let main = probe.pictures.as_ref().map(|pictures| pictures.index);
    let container = preset.container;
    let mut kept = Vec::new();
    let chosen = Chosen::of(probe, preset, notes);
    for stream in probe.streams.iter().filter(|stream| chosen.has(stream)) {
        let origin = match stream.kind {
            StreamKind::Video if Some(stream.index) == main => Some(Origin::Pictures),
            StreamKind::Video => copy_if(fits(stream, container), stream, container, notes),
            StreamKind::Audio => audio_origin(stream, preset, notes),
            StreamKind::Subtitle => subtitle_origin(stream, container, notes),
            StreamKind::Cover => cover_origin(stream, container, notes),
            StreamKind::Attachment => copy_if(fits(stream, container), stream, container, notes),
            // The track of chapter names in MP4: chapters are kept as such.
            StreamKind::Data if probe.chapters > 0 && stream.codec == "bin_data" => None,
            StreamKind::Data => copy_if(false, stream, container, notes),
        };
        kept.extend(origin.map(|origin| out(stream, origin)));
    }
    kept
}

/// Which tracks a person wants.
struct Chosen {
    audio: Tracks,
    subtitles: Tracks,
}

fn speaks(stream: &Stream, languages: &[String]) -> bool {
    let own = stream.tag("language").map(language_code);
    own.is_some_and(|own| languages.iter().any(|wanted| language_code(wanted) == own))
}

fn is_in(stream: &Stream, tracks: &Tracks) -> bool {
    match tracks {
        Tracks::All => true,
        Tracks::None => false,
        Tracks::In(languages) => speaks(stream, languages),
    }
}

impl Chosen {
    /// What is left out is said. Languages that a film does not speak do not make it silent.
    fn of(probe: &Probe, preset: &Preset, notes: &mut Vec<String>) -> Chosen {
        let mut audio = preset.options.audio_tracks.clone();
        let subtitles = preset.options.subtitles.clone();
        let mut sounds = probe.streams_of(StreamKind::Audio).peekable();
        if let Tracks::In(languages) = &audio
            && sounds.peek().is_some()
            && !sounds.any(|stream| speaks(stream, languages))
        {
            let wanted = languages.join(", ");
            notes.push(format!("no audio track is in {wanted}: all of them are kept"));
            audio = Tracks::All;
        }
        let chosen = Chosen { audio, subtitles };
        let gone = probe.streams.iter().filter(|stream| !chosen.has(stream));
        notes.extend(gone.map(|stream| format!("{} is left out, as asked", stream.label())));
        chosen
    }

    fn has(&self, stream: &Stream) -> bool {
        match stream.kind {
            StreamKind::Audio => is_in(stream, &self.audio),
            StreamKind::Subtitle => is_in(stream, &self.subtitles),
            _ => true,
        }
    }
}

fn fits(stream: &Stream, container: Container) -> bool {
    match container {
        Container::Mp4 => stream.fits.mp4,
        Container::Mkv | Container::Mka => stream.fits.mkv,
        Container::Flac => stream.kind == StreamKind::Cover || stream.codec == "flac",
        Container::Opus | Container::M4a | Container::Mp3 => {
            let is_usual = matches!(stream.codec.as_str(), "mjpeg" | "png");
            stream.kind == StreamKind::Cover && is_usual
        }
        Container::Png | Container::Webp | Container::Avif | Container::Jxl => false,
    }
}

fn copy_if(
    holds: bool,
    stream: &Stream,
    container: Container,
    notes: &mut Vec<String>,
) -> Option<Origin> {
    if holds {
        return Some(Origin::Copy);
    }
    notes.push(format!("{container} cannot hold {}: it is left out", stream.label()));
    None
}

fn audio_origin(stream: &Stream, preset: &Preset, notes: &mut Vec<String>) -> Option<Origin> {
    let copied = preset.audio == AudioPolicy::Copy && fits(stream, preset.container);
    if copied {
        return Some(Origin::Copy);
    }
    if stream.channels == 0 || stream.sample_rate == 0 || stream.codec.is_empty() {
        notes.push(format!("{} cannot be decoded: it is left out", stream.label()));
        return None;
    }
    Some(Origin::Task(NOT_YET))
}

fn subtitle_origin(
    stream: &Stream,
    container: Container,
    notes: &mut Vec<String>,
) -> Option<Origin> {
    if fits(stream, container) {
        return Some(Origin::Copy);
    }
    let styled = matches!(stream.codec.as_str(), "ass" | "ssa");
    match (container, is_text(&stream.codec)) {
        (Container::Mp4, true) => {
            if styled {
                notes.push(format!("MP4 keeps the text of {}, not its styles", stream.label()));
            }
            Some(Origin::Subtitle("mov_text".to_owned()))
        }
        (Container::Mkv | Container::Mka, true) => Some(Origin::Subtitle("srt".to_owned())),
        (Container::Mkv, false) if stream.codec == "xsub" => {
            Some(Origin::Subtitle("dvdsub".to_owned()))
        }
        _ => copy_if(false, stream, container, notes),
    }
}

fn cover_origin(stream: &Stream, container: Container, notes: &mut Vec<String>) -> Option<Origin> {
    if !fits(stream, container) {
        return copy_if(false, stream, container, notes);
    }
    // In Ogg it is a text, made of a file.
    if !matches!(container, Container::Mkv | Container::Mka | Container::Opus) {
        return Some(Origin::Copy);
    }
    let (end, mime) = match stream.codec.as_str() {
        "mjpeg" => ("jpg", "image/jpeg"),
        other => (other, ""),
    };
    let mime = if mime.is_empty() { format!("image/{end}") } else { mime.to_owned() };
    let name = stream.tag("filename").map_or_else(|| format!("cover.{end}"), ToOwned::to_owned);
    let mime = stream.tag("mimetype").map_or(mime, ToOwned::to_owned);
    Some(Origin::CoverFile { name, mime })
}

/// Makes the tasks for the sound that is encoded and ties the streams to them.
pub(crate) fn audio_tasks(
    probe: &Probe,
    preset: &Preset,
    first: usize,
    streams: &mut [OutStream],
    notes: &mut Vec<String>,
) -> Vec<TaskSpec> {
    let wanted = match preset.audio {
        AudioPolicy::Encode { encoder, channel_bps } => Some((encoder, channel_bps)),
        AudioPolicy::Copy => None,
    };
    let fallback = if preset.is_lossless() { Encoder::Flac } else { Encoder::Aac };
    let choose = |stream: &Stream, notes: &mut Vec<String>| match wanted {
        Some(wanted) => wanted,
        None => {
            let what = stream.label();
            let container = preset.container;
            notes.push(format!("{container} cannot hold {what} as it is: it becomes {fallback}"));
            (fallback, CHANNEL_BPS)
        }
    };
    let mut tasks = tie(probe, first, streams, notes, choose);
    for task in &mut tasks {
        if let (TaskSpec::Audio(task), Some((_, channel_bps))) = (task, wanted) {
            adjust(task, preset, channel_bps);
        }
    }
    tasks
}

fn tie(
    probe: &Probe,
    first: usize,
    streams: &mut [OutStream],
    notes: &mut Vec<String>,
    mut choose: impl FnMut(&Stream, &mut Vec<String>) -> (Encoder, u32),
) -> Vec<TaskSpec> {
    let mut tasks = Vec::new();
    for kept in streams.iter_mut().filter(|kept| kept.origin == Origin::Task(NOT_YET)) {
        let Some(stream) = probe.stream(kept.source) else { continue };
        let (encoder, channel_bps) = choose(stream, notes);
        kept.origin = Origin::Task(u32::try_from(first + tasks.len()).unwrap_or(NOT_YET));
        tasks.push(TaskSpec::Audio(audio_task(probe, stream, encoder, channel_bps)));
    }
    tasks
}

/// Fewer channels and another bit rate, where the preset wants them.
fn adjust(task: &mut AudioTask, preset: &Preset, channel_bps: u32) {
    if !matches!(preset.audio, AudioPolicy::Encode { .. }) {
        return;
    }
    task.mix_to = preset.options.audio_channels.filter(|most| *most < task.channels);
    let channels = u32::from(task.mix_to.unwrap_or(task.channels));
    if task.bps > 0 {
        task.bps = preset.options.audio_bps.unwrap_or(channel_bps.saturating_mul(channels));
    }
}

fn audio_task(probe: &Probe, stream: &Stream, encoder: Encoder, channel_bps: u32) -> AudioTask {
    let lossy = encoder != Encoder::Flac;
    let deep =
        stream.sample_bits > 16 || !matches!(stream.sample_fmt.as_str(), "s16" | "s16p" | "u8");
    AudioTask {
        format: probe.format.clone(),
        stream: stream.index,
        encoder,
        bps: if lossy { channel_bps.saturating_mul(u32::from(stream.channels)) } else { 0 },
        channels: stream.channels,
        mix_to: None,
        sample_rate: stream.sample_rate,
        sample_bits: if deep { 24 } else { 16 },
        duration_us: stream.duration_us.or(probe.duration_us).unwrap_or(0),
    }
}

/// Samples that FLAC keeps exactly.
fn suits_flac(stream: &Stream) -> bool {
    let whole_numbers = stream.codec.starts_with("pcm_s") || stream.codec == "pcm_u8";
    whole_numbers && stream.sample_bits <= 24 && (1..=8).contains(&stream.channels)
}

/// The file format for sound without pictures.
pub(crate) fn audio_container(probe: &Probe) -> Container {
    let audio: Vec<&Stream> = probe.streams_of(StreamKind::Audio).collect();
    let others = probe
        .streams
        .iter()
        .any(|stream| !matches!(stream.kind, StreamKind::Audio | StreamKind::Cover));
    match audio.as_slice() {
        [only] if !others && probe.chapters == 0 && (only.codec == "flac" || suits_flac(only)) => {
            Container::Flac
        }
        _ => Container::Mka,
    }
}

/// The streams of a sound file's result.
pub(crate) fn audio_only(
    probe: &Probe,
    container: Container,
    notes: &mut Vec<String>,
) -> Vec<OutStream> {
    let mut kept = Vec::new();
    for stream in &probe.streams {
        let origin = match stream.kind {
            StreamKind::Audio if fits(stream, container) => Some(Origin::Copy),
            StreamKind::Audio if stream.channels > 0 && stream.sample_rate > 0 => {
                Some(Origin::Task(NOT_YET))
            }
            StreamKind::Cover => cover_origin(stream, container, notes),
            StreamKind::Subtitle => subtitle_origin(stream, container, notes),
            _ => copy_if(
                stream.kind == StreamKind::Attachment && fits(stream, container),
                stream,
                container,
                notes,
            ),
        };
        kept.extend(origin.map(|origin| out(stream, origin)));
    }
    kept
}

/// The streams of a file of sound that is encoded anew: one track, and its covers.
pub(crate) fn sound_only(
    probe: &Probe,
    main: u32,
    container: Container,
    notes: &mut Vec<String>,
) -> Vec<OutStream> {
    let all_tracks = container == Container::Mka;
    let mut kept = Vec::new();
    for stream in &probe.streams {
        let origin = match stream.kind {
            StreamKind::Audio if stream.codec == "flac" && fits(stream, container) => {
                Some(Origin::Copy)
            }
            StreamKind::Audio if all_tracks && stream.channels > 0 => Some(Origin::Task(NOT_YET)),
            StreamKind::Audio if stream.index == main => Some(Origin::Task(NOT_YET)),
            StreamKind::Cover => cover_origin(stream, container, notes),
            // The track of chapter names in MP4: chapters are kept as such.
            StreamKind::Data if probe.chapters > 0 && stream.codec == "bin_data" => None,
            StreamKind::Subtitle if all_tracks => subtitle_origin(stream, container, notes),
            _ => copy_if(false, stream, container, notes),
        };
        kept.extend(origin.map(|origin| out(stream, origin)));
    }
    kept
}

/// Ties the one track to the first task.
pub(crate) fn tie_one(streams: &mut [OutStream], main: u32) {
    for kept in streams.iter_mut().filter(|kept| kept.source == main) {
        kept.origin = Origin::Task(0);
    }
}

/// Tasks for sound that is stored as FLAC.
pub(crate) fn flac_tasks(
    probe: &Probe,
    container: Container,
    streams: &mut [OutStream],
    notes: &mut Vec<String>,
) -> Vec<TaskSpec> {
    tie(probe, 0, streams, notes, |stream, notes| {
        if !suits_flac(stream) {
            let what = stream.label();
            notes
                .push(format!("{container} cannot hold {what} as it is: it becomes FLAC, 24 bits"));
        }
        (Encoder::Flac, 0)
    })
}

/// How much later than the source each audio stream starts, in microseconds.
pub(crate) fn delays(probe: &Probe) -> Vec<(u32, i64)> {
    probe
        .streams_of(StreamKind::Audio)
        .filter_map(|stream| Some((stream.index, stream.start_us?.saturating_sub(probe.start_us))))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::streams::Fits;
    use super::*;

    #[test]
    fn an_encoded_track_has_the_sources_name_or_none() {
        let name = |tags: &[(&str, &str)], origin: Origin| {
            let tags: BTreeMap<String, String> =
                tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let stream = Stream {
                index: 0,
                kind: StreamKind::Video,
                codec: "h264".to_owned(),
                tags,
                dispositions: Vec::new(),
                start_us: None,
                duration_us: None,
                channels: 0,
                sample_rate: 0,
                sample_bits: 0,
                sample_fmt: String::new(),
                size: (16, 16),
                fits: Fits::default(),
            };
            out(&stream, origin).tags
        };
        let named = |value: &str| vec![("handler_name".to_owned(), value.to_owned())];
        assert_eq!(name(&[("HANDLER_NAME", "Camera 1")], Origin::Pictures), named("Camera 1"));
        assert_eq!(name(&[("encoder", "x")], Origin::Pictures), named(""));
        assert!(name(&[("handler_name", "Camera 1")], Origin::Copy).is_empty());
    }
}
