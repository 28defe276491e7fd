//! Reads what a source is, and refuses what cannot be converted.

use std::path::Path;
use std::time::Duration;

use dmc_protocol::media::{FieldOrder, InputFormat, MediaKind, PixFmt, Rational};
use tokio_util::sync::CancellationToken;

use super::alpha;
use super::bounds;
use super::error::MediaError;
use super::ffprobe::{self, ColourWords, Document, RawFrame, RawStream};
use super::holds;
use super::metadata::Metadata;
use super::picture;
use super::run::{self, Args, Call, Tools};
use super::sniff::{self, Sniffed};
use super::streams::{Orientation, Pictures, Probe, StillFacts, Stream, StreamKind};

/// How long reading a file's headers may take.
const WALL: Duration = Duration::from_secs(120);
/// Frames that are decoded to learn what the headers do not say.
const FRAMES: u32 = 12;
/// Packets that are searched for marks of encryption.
const PACKETS: u32 = 64;
/// What ffprobe calls the mark of an encrypted packet.
pub(crate) const ENCRYPTED: &str = "Encryption info";

/// Reads what the file is.
///
/// # Errors
/// One clear [`MediaError::Refused`] for a file that is missing, empty, a directory, not media,
/// encrypted or of a kind that ffmpeg cannot read.
pub async fn probe(tools: &Tools, path: &Path) -> Result<Probe, MediaError> {
    let (bytes, sniffed) = sniff::look(path).await?;
    let forced = match sniffed {
        Sniffed::Picture(name) => InputFormat::new(name),
        Sniffed::Unsupported(what) => {
            let why = format!("it is {what}, which ffmpeg here cannot read");
            return Err(MediaError::refused(path, why, "Convert it to JPEG or PNG first"));
        }
        Sniffed::Other => None,
    };
    let document = headers(tools, path, forced.as_ref()).await?;
    let Some(format) = InputFormat::new(&document.format.format_name) else {
        let name = &document.format.format_name;
        let why = format!("its file format ({name}) is not one of media files");
        return Err(MediaError::refused(path, why, "Give a film, sound or picture file"));
    };
    bounds::check_headers(path, &document)?;
    let pictures = async {
        match main_video(&document.streams, &format) {
            // Its one frame came with the headers.
            Some(raw) if format.is_still_picture() => {
                describe(path, raw, &document.frames).map(Some)
            }
            Some(raw) => pictures(tools, path, &format, raw).await.map(Some),
            None => Ok(None),
        }
    };
    // A person waits for these; most of their time is that of starting a program.
    let (readable, pictures) =
        tokio::join!(refuse_encrypted(tools, path, &format, &document), pictures);
    readable?;
    let pictures = pictures?;
    let mut probe = assemble(&document, format, bytes, pictures);
    refuse_useless(path, &probe)?;
    still_facts(path, &mut probe).await?;
    // A picture file goes into no other container as it is.
    if !probe.format.is_still_picture() {
        holds::try_streams(tools, path, &mut probe).await?;
    }
    Ok(probe)
}

/// [`probe`] of a file that dmc has just made: nobody encrypted it, and no stream of it is to go into
/// another container.
///
/// # Errors
/// As [`probe`].
pub(crate) async fn made(tools: &Tools, path: &Path) -> Result<Probe, MediaError> {
    let (bytes, _) = sniff::look(path).await?;
    let document = headers(tools, path, None).await?;
    let name = &document.format.format_name;
    let Some(format) = InputFormat::new(name) else {
        return Err(MediaError::wrong("the result", format!("its format is {name}")));
    };
    bounds::check_headers(path, &document)?;
    let pictures = match main_video(&document.streams, &format) {
        Some(raw) => Some(pictures(tools, path, &format, raw).await?),
        None => None,
    };
    let probe = assemble(&document, format, bytes, pictures);
    refuse_useless(path, &probe)?;
    Ok(probe)
}

/// Reads what the headers of a file say: enough to decide whether to convert it, not to do it.
///
/// # Errors
/// As [`probe`], as far as the headers show it.
pub async fn glance(tools: &Tools, path: &Path) -> Result<Probe, MediaError> {
    let (bytes, sniffed) = sniff::look(path).await?;
    let forced = match sniffed {
        Sniffed::Picture(name) => InputFormat::new(name),
        // With its own words.
        Sniffed::Unsupported(_) => return probe(tools, path).await,
        Sniffed::Other => None,
    };
    let document = headers(tools, path, forced.as_ref()).await?;
    let Some(format) = InputFormat::new(&document.format.format_name) else {
        return probe(tools, path).await;
    };
    bounds::check_headers(path, &document)?;
    let pictures = match main_video(&document.streams, &format) {
        Some(raw) => match describe(path, raw, &[]) {
            Ok(pictures) => Some(pictures),
            // The first frames may tell what the headers do not.
            Err(_) => return probe(tools, path).await,
        },
        None => None,
    };
    let probe = assemble(&document, format, bytes, pictures);
    refuse_useless(path, &probe)?;
    Ok(probe)
}

async fn headers(
    tools: &Tools,
    path: &Path,
    format: Option<&InputFormat>,
) -> Result<Document, MediaError> {
    let mut args = Args::ffprobe();
    args.guards(format).words("-show_streams -show_format -show_chapters -of json");
    if format.is_some_and(InputFormat::is_still_picture) {
        // One program less to start: with thousands of pictures that is most of the time.
        args.words("-show_frames -read_intervals %+#1");
    }
    args.arg("-i").read(path);
    let mut call = Call::new("reading the file's headers", &tools.ffprobe, args);
    call.wall = WALL;
    let captured = run::capture(call, &CancellationToken::new())
        .await
        .map_err(|error| explain_unreadable(path, error))?;
    serde_json::from_slice(&captured.stdout).map_err(|error| {
        MediaError::refused(path, format!("ffprobe's answer makes no sense ({error})"), "")
    })
}

/// What two answers of ffprobe, with the headers and with the first frames, say together. Asks no
/// program, so some things stay unknown: for fuzzing.
pub(crate) fn understand(headers: &[u8], frames: &[u8], bytes: u64) -> Option<Probe> {
    let document: Document = serde_json::from_slice(headers).ok()?;
    let format = InputFormat::new(&document.format.format_name)?;
    let pictures = match main_video(&document.streams, &format) {
        Some(raw) => Some(describe(Path::new(""), raw, &read_frames(frames)).ok()?),
        None => None,
    };
    let mut probe = assemble(&document, format, bytes, pictures);
    refuse_useless(Path::new(""), &probe).ok()?;
    holds::fill_known(&mut probe);
    Some(probe)
}

/// Turns ffprobe's words into ones that help.
fn explain_unreadable(path: &Path, error: MediaError) -> MediaError {
    let Some(said) = error.stderr() else { return error };
    let (why, next) = if said.contains("moov atom not found") {
        ("its index (moov) is missing: the recording or the copy was cut off", "Copy it again")
    } else if said.contains("Format not on whitelist") {
        ("it is a playlist or a script, not a media file", "Give the media file itself")
    } else if said.contains("Invalid data found") || said.contains("End of file") {
        ("it is not a media file, or it is damaged", "Check that it plays")
    } else {
        return error;
    };
    MediaError::refused(path, why, next)
}

fn is_attached(raw: &RawStream) -> bool {
    let set = |name: &str| raw.disposition.get(name).copied().unwrap_or(0) == 1;
    set("attached_pic") || set("timed_thumbnails")
}

/// The stream that a player shows: the default one, else the largest.
fn main_video<'a>(streams: &'a [RawStream], format: &InputFormat) -> Option<&'a RawStream> {
    let candidates = streams.iter().filter(|raw| {
        raw.codec_type == "video"
            && !is_attached(raw)
            && (format.is_still_picture() || !raw.codec_name.is_empty())
            && raw.codec_name != "unknown"
    });
    // `max_by_key` takes the last of equals; the first must win.
    let key = |raw: &&RawStream| {
        let default = raw.disposition.get("default").copied().unwrap_or(0);
        (default, u64::from(raw.width) * u64::from(raw.height), std::cmp::Reverse(raw.index))
    };
    candidates.max_by_key(key)
}

async fn first_frames(
    tools: &Tools,
    path: &Path,
    format: &InputFormat,
    index: u32,
) -> Vec<RawFrame> {
    let mut args = Args::ffprobe();
    args.guards(Some(format)).words(&format!(
        "-select_streams {index} -show_frames -read_intervals %+#{FRAMES} -of json"
    ));
    args.arg("-i").read(path);
    let mut call = Call::new("looking at the first frames", &tools.ffprobe, args);
    call.wall = WALL;
    // Damaged first frames are no reason to refuse: the headers may say enough.
    let Ok(captured) = run::capture(call, &CancellationToken::new()).await else {
        return Vec::new();
    };
    read_frames(&captured.stdout)
}

fn read_frames(answer: &[u8]) -> Vec<RawFrame> {
    serde_json::from_slice::<Document>(answer).map(|d| d.frames).unwrap_or_default()
}

async fn pictures(
    tools: &Tools,
    path: &Path,
    format: &InputFormat,
    raw: &RawStream,
) -> Result<Pictures, MediaError> {
    let frames = first_frames(tools, path, format, raw.index).await;
    let mut pictures = describe(path, raw, &frames)?;
    if let Some(pix_fmt) = alpha::format(tools, path, format, raw).await {
        pictures.pix_fmt = pix_fmt;
    }
    Ok(pictures)
}

/// What the headers and the first frames say of the pictures.
fn describe(path: &Path, raw: &RawStream, frames: &[RawFrame]) -> Result<Pictures, MediaError> {
    let first = frames.first();
    let refuse = |why: String| {
        MediaError::refused(path, why, "Check that it plays, and that ffmpeg knows its codec")
    };
    let name = first.and_then(|frame| frame.pix_fmt.as_deref()).or(raw.pix_fmt.as_deref());
    let Some(name) = name else {
        let codec = &raw.codec_name;
        return Err(refuse(format!("its pictures ({codec}) cannot be decoded or are encrypted")));
    };
    let Some(pix_fmt) = PixFmt::new(name) else {
        return Err(refuse(format!("its pixel format {name} is not supported")));
    };
    let (width, height) = first
        .map(|frame| (frame.width, frame.height))
        .filter(|size| size.0 > 0 && size.1 > 0)
        .unwrap_or((raw.width, raw.height));
    if width == 0 || height == 0 {
        return Err(refuse("the size of its pictures is unknown".to_owned()));
    }
    bounds::check_picture(path, width, height)?;
    let side: Vec<_> = raw
        .side_data_list
        .iter()
        .chain(frames.iter().flat_map(|frame| frame.side_data_list.iter()))
        .cloned()
        .collect();
    let orientation = ffprobe::display_matrix(&side)
        .and_then(|[a, b, c, d]| Orientation::from_matrix(a, b, c, d))
        .unwrap_or_default();
    Ok(Pictures {
        index: raw.index,
        codec: raw.codec_name.clone(),
        width,
        height,
        pix_fmt,
        time_base: ffprobe::ratio(raw.time_base.as_deref()).unwrap_or(Rational::new(1, 1000)),
        sample_aspect: ffprobe::ratio(raw.sample_aspect_ratio.as_deref())
            .or_else(|| ffprobe::ratio(first?.sample_aspect_ratio.as_deref())),
        frame_rate: ffprobe::ratio(raw.avg_frame_rate.as_deref())
            .or_else(|| ffprobe::ratio(raw.r_frame_rate.as_deref())),
        colour: colour(raw, first),
        mastering: ffprobe::mastering(&side),
        light: ffprobe::light(&side),
        dolby_vision: ffprobe::side_data(&side, "dovi").is_some()
            || ffprobe::side_data(&side, "dolby vision").is_some(),
        hdr10_plus: ffprobe::side_data(&side, "hdr dynamic metadata").is_some(),
        captions: raw.closed_captions == 1
            || ffprobe::side_data(&side, "closed captions").is_some(),
        hidden_alpha: alpha::decoder(raw).is_some(),
        field_order: field_order(raw, frames),
        orientation,
    })
}

/// What the container says wins over what the frames say, as in players.
fn colour(raw: &RawStream, first: Option<&RawFrame>) -> dmc_protocol::media::Colour {
    let stream = ColourWords {
        range: raw.color_range.as_deref(),
        primaries: raw.color_primaries.as_deref(),
        transfer: raw.color_transfer.as_deref(),
        matrix: raw.color_space.as_deref(),
        location: raw.chroma_location.as_deref(),
    };
    let frame = first.map(|frame| ColourWords {
        range: frame.color_range.as_deref(),
        primaries: frame.color_primaries.as_deref(),
        transfer: frame.color_transfer.as_deref(),
        matrix: frame.color_space.as_deref(),
        location: frame.chroma_location.as_deref(),
    });
    let frame = frame.map(|words| words.colour()).unwrap_or_default();
    ffprobe::merge(stream.colour(), frame)
}

/// What the frames say wins: many headers call interlaced film progressive.
fn field_order(raw: &RawStream, frames: &[RawFrame]) -> FieldOrder {
    let interlaced: Vec<&RawFrame> =
        frames.iter().filter(|frame| frame.interlaced_frame == 1).collect();
    if interlaced.len() * 2 > frames.len() {
        let top = interlaced.iter().filter(|frame| frame.top_field_first == 1).count();
        return if top * 2 >= interlaced.len() {
            FieldOrder::TopFirst
        } else {
            FieldOrder::BottomFirst
        };
    }
    match raw.field_order.as_deref() {
        Some("tt" | "bt") if frames.is_empty() => FieldOrder::TopFirst,
        Some("bb" | "tb") if frames.is_empty() => FieldOrder::BottomFirst,
        _ => FieldOrder::Progressive,
    }
}

fn assemble(
    document: &Document,
    format: InputFormat,
    bytes: u64,
    pictures: Option<Pictures>,
) -> Probe {
    let main = pictures.as_ref().map(|pictures| pictures.index);
    let streams: Vec<Stream> = document.streams.iter().map(|raw| stream(raw, main)).collect();
    let kind = match &pictures {
        Some(_) if format.is_still_picture() => MediaKind::Image,
        Some(_) => MediaKind::Video,
        None => MediaKind::Audio,
    };
    Probe {
        kind,
        format,
        bytes,
        start_us: ffprobe::seconds_to_us(document.format.start_time.as_deref()).unwrap_or(0),
        duration_us: ffprobe::seconds_to_us(document.format.duration.as_deref())
            .and_then(|us| u64::try_from(us).ok())
            .filter(|us| *us > 0),
        pictures,
        streams,
        chapters: u32::try_from(document.chapters.len()).unwrap_or(u32::MAX),
        tags: document.format.tags.clone(),
        still: StillFacts::default(),
    }
}

fn stream(raw: &RawStream, main: Option<u32>) -> Stream {
    let kind = match raw.codec_type.as_str() {
        "video" if is_attached(raw) => StreamKind::Cover,
        "video" if main.is_some() && !raw.codec_name.is_empty() => StreamKind::Video,
        "audio" => StreamKind::Audio,
        "subtitle" => StreamKind::Subtitle,
        "attachment" => StreamKind::Attachment,
        _ => StreamKind::Data,
    };
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
    let raw_bits: u8 = number(&raw.bits_per_raw_sample).unwrap_or(0);
    Stream {
        index: raw.index,
        kind,
        codec: raw.codec_name.clone(),
        tags: raw.tags.clone(),
        dispositions: raw
            .disposition
            .iter()
            .filter(|(_, set)| **set == 1)
            .map(|(name, _)| name.clone())
            .collect(),
        start_us: ffprobe::seconds_to_us(raw.start_time.as_deref()),
        duration_us: ffprobe::seconds_to_us(raw.duration.as_deref())
            .and_then(|us| u64::try_from(us).ok()),
        channels: raw.channels,
        sample_rate: raw
            .sample_rate
            .as_deref()
            .and_then(|rate| rate.parse().ok())
            .unwrap_or_default(),
        sample_bits: if raw_bits > 0 { raw_bits } else { raw.bits_per_sample },
        sample_fmt: raw.sample_fmt.clone().unwrap_or_default(),
        size: (raw.width, raw.height),
        fits: Default::default(),
    }
}

/// Refuses what is encrypted, in the headers (old DRM, Matroska's key names) or in the packets:
/// ffmpeg reports a Common Encryption track under the name of what is inside.
async fn refuse_encrypted(
    tools: &Tools,
    path: &Path,
    format: &InputFormat,
    document: &Document,
) -> Result<(), MediaError> {
    let by_header = document.streams.iter().any(|raw| {
        matches!(raw.codec_tag_string.as_str(), "encv" | "enca" | "drmi" | "drms")
            || raw.tags.keys().any(|key| key.eq_ignore_ascii_case("enc_key_id"))
            || ffprobe::side_data(&raw.side_data_list, "encryption").is_some()
    });
    let may_be = matches!(format.name(), "mov" | "matroska");
    if by_header || (may_be && first_packets_are_encrypted(tools, path, format).await) {
        return Err(encrypted(path));
    }
    Ok(())
}

/// The refusal of an encrypted file.
pub(crate) fn encrypted(path: &Path) -> MediaError {
    let next = "Decrypt it first, where you have the right to";
    MediaError::refused(path, "it is encrypted (DRM)", next)
}

async fn first_packets_are_encrypted(tools: &Tools, path: &Path, format: &InputFormat) -> bool {
    let mut args = Args::ffprobe();
    args.guards(Some(format)).words(&format!(
        "-show_packets -show_entries packet_side_data=side_data_type \
         -read_intervals %+#{PACKETS} -of csv=p=0"
    ));
    args.arg("-i").read(path);
    let mut call = Call::new("looking at the first packets", &tools.ffprobe, args);
    call.wall = WALL;
    match run::capture(call, &CancellationToken::new()).await {
        Ok(captured) => String::from_utf8_lossy(&captured.stdout).contains(ENCRYPTED),
        // What cannot be read is refused with better words later.
        Err(_) => false,
    }
}

/// What a picture file says beside its pixels. ffmpeg reads the orientation of some formats only, so
/// that of all is read here.
///
/// # Errors
/// [`MediaError::Refused`] for colours of ink, which only their profile could tell.
async fn still_facts(path: &Path, probe: &mut Probe) -> Result<(), MediaError> {
    let moves = probe.format.is_moving_picture();
    let is_still = probe.format.is_still_picture();
    if !(moves || is_still) || probe.bytes > picture::SOURCE_BYTES_MAX {
        return Ok(());
    }
    let file = tokio::fs::read(path).await.map_err(|error| MediaError::io("read", path, error))?;
    let metadata = Metadata::of(&file);
    if metadata.is_cmyk {
        let why = "its colours are those of ink (CMYK), which only its own profile tells exactly";
        return Err(MediaError::refused(path, why, "Convert it to RGB with its profile first"));
    }
    if let Some(pictures) = probe.pictures.as_mut().filter(|_| is_still) {
        pictures.orientation = Orientation::from_exif(metadata.orientation());
    }
    let moves = moves && !picture::is_one(&file);
    if !(moves || is_still) {
        probe.kind = MediaKind::Image;
    }
    probe.still = StillFacts {
        loops: moves.then(|| picture::loops(&file)),
        has_texts: metadata.has_texts,
        is_grey_profile: metadata.profile_space() == Some(*b"GRAY"),
    };
    Ok(())
}

fn refuse_useless(path: &Path, probe: &Probe) -> Result<(), MediaError> {
    let usable = |stream: &Stream| matches!(stream.kind, StreamKind::Video | StreamKind::Audio);
    if !probe.streams.iter().any(usable) {
        let why = "it has neither pictures nor sound";
        return Err(MediaError::refused(path, why, "Give a film, sound or picture file"));
    }
    Ok(())
}
