//! Plans pictures and sound that stand alone, into formats of their own. Pure.

use dmc_protocol::media::{
    Container, Encoder, Filter, ImageTask, MediaKind, PixFmt, Preset, Quality, SoundTask,
    StillTask, TaskSpec,
};

use super::error::MediaError;
use super::index::Index;
use super::keep;
use super::plan::{JoinSpec, Plan, PlanHints, Rung, refused};
use super::streams::{Pictures, Probe, Stream, StreamKind};
use super::video;

/// Greatest side of a WebP picture.
const WEBP_SIDE_MAX: u32 = 16_383;
/// Bytes of all pictures of an animation, decoded, while it is compared.
const MOVING_BYTES_MAX: u64 = 1 << 30;
/// Sample rates that are kept by encoders that do not take all.
const MP3_RATES: [u32; 9] = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];
const AAC_RATES: [u32; 4] = [32_000, 44_100, 48_000, 96_000];
/// Tags that an M4A file keeps.
const M4A_TAGS: [&str; 22] = [
    "title",
    "artist",
    "album",
    "album_artist",
    "albumartist",
    "composer",
    "date",
    "year",
    "genre",
    "comment",
    "track",
    "disc",
    "copyright",
    "grouping",
    "lyrics",
    "description",
    "synopsis",
    "show",
    "compilation",
    "gapless_playback",
    "media_type",
    "sort_name",
];

/// Tags that say something of the file that is left, or that become something else.
const NO_LOSS: [&str; 7] = [
    "major_brand",
    "minor_version",
    "compatible_brands",
    "creation_time",
    "tlen",
    "tsse",
    "language",
];

/// How often an animation is played; `None` for one picture.
fn loops(probe: &Probe, index: &Index) -> Option<u16> {
    probe.still.loops.filter(|_| index.packets.len() != 1)
}

/// A picture, or pictures that move.
pub(super) fn pictures(
    probe: &Probe,
    index: &Index,
    preset: &Preset,
    hints: &PlanHints,
) -> Result<Plan, MediaError> {
    let Some(pictures) = &probe.pictures else {
        return Err(refused("it has no picture", "Check that it opens"));
    };
    let mut notes = Vec::new();
    let png = matches!(preset.encoder, Encoder::Ffv1 | Encoder::Png);
    let (task, container) = if png {
        (TaskSpec::Image(png_task(probe, pictures, &mut notes)), Container::Png)
    } else {
        let loops = loops(probe, index);
        check_moving(preset, pictures, loops, index)?;
        let task = still_task(probe, pictures, preset, loops, &mut notes)?;
        (TaskSpec::Still(task), preset.container)
    };
    say_what_is_lost(probe, container, &mut notes);
    if hints.strip_gps {
        notes.push("where it was taken is removed from its metadata".to_owned());
    }
    let frames = if task.frames().is_none() { index.packets.len().max(1) as u64 } else { 1 };
    let bytes_a_unit = if preset.is_lossless() { 8 } else { 2 };
    let coded = task.work_units().saturating_mul(bytes_a_unit).saturating_mul(frames);
    let join = JoinSpec { strip_gps: hints.strip_gps, ..JoinSpec::of(container, Vec::new()) };
    Ok(Plan {
        output_bytes_estimate: coded.saturating_add(1_000_000),
        notes,
        duration_us: 0,
        start_us: 0,
        ..Plan::uncut(MediaKind::Image, Rung::Image, (probe, preset), vec![task], join)
    })
}

fn check_moving(
    preset: &Preset,
    pictures: &Pictures,
    loops: Option<u16>,
    index: &Index,
) -> Result<(), MediaError> {
    if loops.is_none() {
        return Ok(());
    }
    if preset.encoder.codec() != dmc_protocol::media::Codec::Webp {
        let why = format!("its pictures move, and {} makes one of them only", preset.name);
        return Err(refused(why, "Use --preset image-webp, or av1 for a film"));
    }
    let pixels = u64::from(pictures.width) * u64::from(pictures.height);
    if pixels.saturating_mul(index.packets.len() as u64 * 4) > MOVING_BYTES_MAX {
        let why = "its moving pictures are too large to be compared one by one";
        return Err(refused(why, "Use --preset av1, which makes a film"));
    }
    Ok(())
}

/// What goes into a PNG.
fn png_task(probe: &Probe, pictures: &Pictures, notes: &mut Vec<String>) -> ImageTask {
    let mut filters = Vec::new();
    let target = video::png_format(&pictures.pix_fmt);
    if target != pictures.pix_fmt.name()
        && let Some(pix_fmt) = PixFmt::new(target)
    {
        let full_range = video::is_full_range(pictures);
        filters.push(Filter::Format { pix_fmt, full_range });
    }
    let (width, height) = turn(pictures, &mut filters, notes);
    let format = probe.format.clone();
    ImageTask { format, encoder: Encoder::Png, width, height, exact_filters: filters }
}

/// Turns the picture upright; its size then.
fn turn(pictures: &Pictures, filters: &mut Vec<Filter>, notes: &mut Vec<String>) -> (u32, u32) {
    let turned = video::turn_upright(pictures.orientation, filters);
    if !pictures.orientation.is_upright() {
        notes.push("the picture is turned upright; its orientation tag is reset".to_owned());
    }
    if turned { (pictures.height, pictures.width) } else { (pictures.width, pictures.height) }
}

fn still_task(
    probe: &Probe,
    pictures: &Pictures,
    preset: &Preset,
    loops: Option<u16>,
    notes: &mut Vec<String>,
) -> Result<StillTask, MediaError> {
    let encoder = match (preset.encoder, loops) {
        (Encoder::Libwebp, Some(_)) => Encoder::LibwebpAnim,
        (Encoder::LibwebpAnim, None) => Encoder::Libwebp,
        (encoder, _) => encoder,
    };
    let mut filters = Vec::new();
    let pix_fmt = match encoder {
        Encoder::LibaomAv1 => avif_format(pictures, &mut filters, notes),
        Encoder::Libjxl => one_format(pictures, jxl_format(&pictures.pix_fmt), &mut filters),
        _ => webp_format(pictures, preset, &mut filters, notes)?,
    };
    let (mut width, mut height) = turn(pictures, &mut filters, notes);
    if let Some(max) = preset.max_height.filter(|max| *max < height) {
        let across = u64::from(width) * u64::from(max) / u64::from(height.max(1));
        (width, height) = (u32::try_from(across).unwrap_or(u32::MAX).max(1), max);
        // Before the colours change: the format is the last word.
        filters.insert(
            0,
            match turned(&filters) {
                true => Filter::Scale { width: height, height: width },
                false => Filter::Scale { width, height },
            },
        );
    }
    if encoder.codec() == dmc_protocol::media::Codec::Webp && width.max(height) > WEBP_SIDE_MAX {
        let why = format!("it has {width}×{height} pixels, and WebP holds {WEBP_SIDE_MAX} a side");
        return Err(refused(why, "Use --preset image-avif or image-jxl"));
    }
    Ok(StillTask {
        format: probe.format.clone(),
        encoder,
        quality: preset.quality,
        speed: preset.speed,
        width,
        height,
        pix_fmt,
        alpha: pictures.pix_fmt.has_alpha(),
        loops,
        filters,
    })
}

fn turned(filters: &[Filter]) -> bool {
    filters.iter().any(|filter| matches!(filter, Filter::TurnLeft | Filter::TurnRight))
}

fn named(name: &str, source: &PixFmt) -> PixFmt {
    PixFmt::new(name).unwrap_or_else(|| source.clone())
}

/// Brings the pictures to a format, if they have another one.
fn one_format(pictures: &Pictures, target: &str, filters: &mut Vec<Filter>) -> PixFmt {
    let pix_fmt = named(target, &pictures.pix_fmt);
    if pix_fmt != pictures.pix_fmt {
        let full_range = video::is_full_range(pictures);
        filters.push(Filter::Format { pix_fmt: pix_fmt.clone(), full_range });
    }
    pix_fmt
}

/// libwebp takes red, green, blue, and does the rest itself.
fn webp_format(
    pictures: &Pictures,
    preset: &Preset,
    filters: &mut Vec<Filter>,
    notes: &mut Vec<String>,
) -> Result<PixFmt, MediaError> {
    if pictures.pix_fmt.depth() > 8 {
        if preset.is_lossless() {
            let why = "it has 16 bits a colour, and WebP holds 8";
            return Err(refused(why, "Use --preset lossless, which makes a PNG"));
        }
        notes.push("WebP holds 8 bits a colour: the others are rounded away".to_owned());
    }
    Ok(one_format(pictures, "bgra", filters))
}

fn jxl_format(source: &PixFmt) -> &'static str {
    let deep = source.depth() > 8;
    match (source.has_alpha(), source.is_grey(), deep) {
        (false, true, false) => "gray",
        (false, true, true) => "gray16le",
        (true, true, false) => "ya8",
        (true, true, true) => "ya16le",
        (true, false, false) => "rgba",
        (true, false, true) => "rgba64le",
        (false, false, false) => "rgb24",
        (false, false, true) => "rgb48le",
    }
}

/// AVIF keeps the colours of JPEG as they are, and all others at full density.
fn avif_format(pictures: &Pictures, filters: &mut Vec<Filter>, notes: &mut Vec<String>) -> PixFmt {
    /// BT.470BG and SMPTE 170M have the same matrix.
    const JPEG: [Option<u8>; 3] = [None, Some(5), Some(6)];
    let source = &pictures.pix_fmt;
    let deep = source.depth() > 8;
    if source.depth() > 10 {
        notes.push("AVIF gets 10 bits a colour: the others are rounded away".to_owned());
    }
    if deep && source.has_alpha() {
        notes.push("the transparency gets 8 bits".to_owned());
    }
    let suffix = if deep { "10le" } else { "" };
    if source.is_grey() {
        return one_format(pictures, &format!("gray{suffix}"), filters);
    }
    let name = source.name();
    let kept = ["yuvj420p", "yuv420p", "yuvj444p", "yuv444p"].contains(&name);
    let is_plain = JPEG.contains(&pictures.colour.matrix) && video::is_full_range(pictures);
    if kept && is_plain {
        return one_format(pictures, &name.replace("yuvj", "yuv"), filters);
    }
    let density = if name.contains("420") { "420" } else { "444" };
    let pix_fmt = named(&format!("yuv{density}p{suffix}"), source);
    if !source.is_rgb() {
        let rgb = named(if deep { "rgb48le" } else { "rgb24" }, source);
        let full_range = video::is_full_range(pictures);
        filters.push(Filter::Format { pix_fmt: rgb, full_range });
    }
    filters.push(Filter::RgbToFullYuv { pix_fmt: pix_fmt.clone() });
    pix_fmt
}

/// What the source carries and the result cannot hold.
fn say_what_is_lost(probe: &Probe, container: Container, notes: &mut Vec<String>) {
    let still = &probe.still;
    if still.has_texts && container != Container::Png {
        notes
            .push(format!("{container} has no place for the texts of this PNG: they are left out"));
    }
    if still.is_grey_profile && container == Container::Webp {
        notes.push("its colour profile is for grey only: WebP cannot hold it".to_owned());
    }
}

/// Sound into a format that is its own.
pub(super) fn sound(probe: &Probe, preset: &Preset) -> Result<Plan, MediaError> {
    let mut notes = Vec::new();
    let lossless = preset.encoder == Encoder::Flac;
    let main = probe.streams_of(StreamKind::Audio).find(|s| s.channels > 0 && s.sample_rate > 0);
    let Some(main) = main else {
        return Err(refused("its sound cannot be decoded", "Check that it plays"));
    };
    let container = if lossless { flac_container(probe, &mut notes) } else { preset.container };
    let mut streams = keep::sound_only(probe, main.index, container, &mut notes);
    let tasks = if lossless {
        keep::flac_tasks(probe, container, &mut streams, &mut notes)
    } else {
        let task = sound_task(probe, main, preset, &mut notes)?;
        keep::tie_one(&mut streams, main.index);
        vec![TaskSpec::Sound(task)]
    };
    if container == Container::Opus && probe.chapters > 0 {
        // FFmpeg's vorbiscomment.c rounds the seconds and then adds the milliseconds.
        notes.push(
            "its chapters may begin a second late: ffmpeg rounds their times in Ogg".to_owned(),
        );
    }
    if container == Container::M4a {
        say_lost_tags(probe, main, &mut notes);
    }
    let coded = tasks.iter().map(|task| task.output_bytes_estimate(probe.bytes)).sum::<u64>();
    let join = JoinSpec::of(container, streams);
    Ok(Plan {
        delays: if lossless { keep::delays(probe) } else { Vec::new() },
        notes,
        output_bytes_estimate: coded.saturating_add(probe.bytes).saturating_add(1_000_000),
        lossless,
        ..Plan::uncut(MediaKind::Audio, Rung::Remux, (probe, preset), tasks, join)
    })
}

/// FLAC files hold one track and no chapters; Matroska holds all.
fn flac_container(probe: &Probe, notes: &mut Vec<String>) -> Container {
    let tracks = probe.streams_of(StreamKind::Audio).count();
    if probe.chapters == 0 && tracks == 1 {
        return Container::Flac;
    }
    let what = if probe.chapters > 0 { "chapters" } else { "several tracks" };
    notes.push(format!("a FLAC file cannot hold {what}: the FLAC sound is in a Matroska file"));
    Container::Mka
}

fn sound_task(
    probe: &Probe,
    stream: &Stream,
    preset: &Preset,
    notes: &mut Vec<String>,
) -> Result<SoundTask, MediaError> {
    let most = if preset.encoder == Encoder::Libmp3lame { 2 } else { 8 };
    if stream.channels > most {
        let (name, have) = (preset.encoder.codec(), stream.channels);
        let why = format!("it has {have} channels, and {name} holds {most}");
        return Err(refused(why, "Use --preset audio-opus, audio-aac or audio-flac"));
    }
    let rate = stream.sample_rate;
    let sample_rate = match preset.encoder {
        Encoder::Libmp3lame if MP3_RATES.contains(&rate) => rate,
        Encoder::Aac if AAC_RATES.contains(&rate) || MP3_RATES.contains(&rate) => rate,
        _ => 48_000,
    };
    if sample_rate != rate {
        notes.push(format!("its {rate} samples a second become {sample_rate}"));
    }
    let Quality::Bitrate(channel_bps) = preset.quality else {
        return Err(refused("the preset names no bit rate", "Choose another preset"));
    };
    Ok(SoundTask {
        format: probe.format.clone(),
        stream: stream.index,
        encoder: preset.encoder,
        bps: preset
            .options
            .audio_bps
            .unwrap_or_else(|| channel_bps.saturating_mul(u32::from(stream.channels))),
        channels: stream.channels,
        sample_rate,
        duration_us: stream.duration_us.or(probe.duration_us).unwrap_or(0),
    })
}

fn say_lost_tags(probe: &Probe, main: &Stream, notes: &mut Vec<String>) {
    let of_file = probe.tags.keys().cloned();
    let of_sound = keep::content_tags(main).into_iter().map(|(key, _)| key);
    let is_kept = |key: &String| {
        let key = key.to_ascii_lowercase();
        let base = key.split_once('-').map_or(key.as_str(), |(base, _)| base);
        M4A_TAGS.contains(&base) || NO_LOSS.contains(&base) || keep::is_technical(&key)
    };
    let mut lost: Vec<String> = of_file.chain(of_sound).filter(|key| !is_kept(key)).collect();
    lost.sort();
    lost.dedup();
    if !lost.is_empty() {
        notes.push(format!("M4A has no place for these tags: {}", lost.join(", ")));
    }
}
