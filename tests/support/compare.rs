//! Is this the same film? Every difference between a source and a lossless conversion of it.
//!
//! The policy for rotation: MP4 must say the same turn. ffmpeg 5.1 writes none into Matroska, so
//! there the pictures must stand upright, turned exactly as ffmpeg and players turn the source, and
//! the result must say no turn.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::film::{Film, Row, Track, Tracks, tags};
use super::picture::{close, common_formats, look_and_shape, numbers, rotation};

/// Sound may move against the picture by Matroska's tick, or by that of an MP4 edit list.
const SYNC_S: f64 = 0.001_1;
/// Chapters carry whole milliseconds, and a muxer that moves the film by the sound's priming
/// (21 to 48 ms for AAC) leaves them where they are.
const CHAPTER_S: f64 = 0.05;
/// Text subtitles of some formats count in hundredths.
const TEXT_S: f64 = 0.011;

/// Damage reaches to the end of a group of pictures, though a few decodes may agree by luck.
const DAMAGE_FRAMES: usize = 30;

/// What must be equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Every bit of every frame.
    Lossless,
    /// Every frame and its time, but not what it shows.
    Times,
}

/// The outcome of a comparison.
#[derive(Default, Debug)]
pub struct Verdict {
    /// Each makes the result wrong.
    pub differences: Vec<String>,
    /// What the target's container cannot hold, which is not the program's fault.
    pub notes: Vec<String>,
}

impl Verdict {
    pub(super) fn differ(&mut self, what: impl Into<String>) {
        self.differences.push(what.into());
    }

    pub(super) fn equal<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: &str,
        source: &T,
        result: &T,
    ) {
        if source != result {
            self.differ(format!("{what}: {source:?} became {result:?}"));
        }
    }
}

/// Compares a source with what was made of it.
pub fn compare(source: &Film, result: &Film, depth: Depth) -> Result<Verdict, String> {
    let filters = common_formats(source, result);
    let (mut of_source, of_result): (Vec<_>, Vec<_>) = filters.into_iter().unzip();
    let turns = turns(source, result);
    for (filter, turn) in of_source.iter_mut().zip(&turns) {
        let both = turn.iter().map(|turn| (*turn).to_owned()).chain(filter.take());
        *filter = both.reduce(|turn, format| format!("{turn},{format}"));
    }
    let source_tracks = source.tracks(&of_source, None)?;
    let result_tracks = result.tracks(&of_result, None)?;
    let filters = of_source;
    let both = Both { source, result, source_tracks, result_tracks, filters, turns, depth };
    let mut verdict = Verdict::default();
    both.counts(&mut verdict);
    both.video(&mut verdict);
    both.audio(&mut verdict);
    both.subtitles(&mut verdict);
    both.covers_and_attachments(&mut verdict);
    both.chapters(&mut verdict);
    both.film_tags(&mut verdict);
    if let (None, Some(said)) = (&both.source_tracks.complaint, &both.result_tracks.complaint) {
        verdict.differ(format!("the result does not read cleanly: {said}"));
    }
    Ok(verdict)
}

struct Both<'a> {
    source: &'a Film,
    result: &'a Film,
    source_tracks: Tracks,
    result_tracks: Tracks,
    /// What the source's videos went through.
    filters: Vec<Option<String>>,
    /// How the source's videos are turned upright, where the result cannot say a turn.
    turns: Vec<Option<&'static str>>,
    depth: Depth,
}

/// ffmpeg's own automatic rotation of each video, where the result must stand upright.
fn turns(source: &Film, result: &Film) -> Vec<Option<&'static str>> {
    let videos = 0..source.streams("video").len();
    if !result.is("matroska") || source.is_still() {
        return videos.map(|_| None).collect();
    }
    videos.map(|n| turn(&source.side_data(n))).collect()
}

/// The filters that ffmpeg itself inserts for a display matrix of quarter turns and mirrors.
fn turn(side_data: &[Value]) -> Option<&'static str> {
    let text = side_data.iter().find_map(|d| d["displaymatrix"].as_str())?;
    let rows = text.lines().filter_map(|line| Some(line.split_once(':')?.1));
    let numbers = rows.flat_map(str::split_whitespace);
    let signs: Vec<i64> = numbers.filter_map(|n| Some(n.parse::<i64>().ok()?.signum())).collect();
    let [a, b, _, c, d, ..] = signs[..] else { return None };
    match [a, b, c, d] {
        [0, 1, -1, 0] => Some("transpose=clock"),
        [0, -1, 1, 0] => Some("transpose=cclock"),
        [0, 1, 1, 0] => Some("transpose=cclock_flip"),
        [0, -1, -1, 0] => Some("transpose=clock_flip"),
        [-1, 0, 0, -1] => Some("hflip,vflip"),
        [-1, 0, 0, 1] => Some("hflip"),
        [1, 0, 0, -1] => Some("vflip"),
        _ => None,
    }
}

/// A stream as it is after its turn.
fn turned(stream: &Value, turn: &str) -> Value {
    let mut stream = stream.clone();
    if turn.starts_with("transpose") {
        let (width, height) = (stream["width"].take(), stream["height"].take());
        (stream["width"], stream["height"]) = (height, width);
        let shape = stream["sample_aspect_ratio"].as_str().and_then(|r| r.split_once(':'));
        if let Some(shape) = shape.map(|(over, under)| format!("{under}:{over}")) {
            stream["sample_aspect_ratio"] = shape.into();
        }
    }
    stream
}

impl Both<'_> {
    fn counts(&self, verdict: &mut Verdict) {
        for kind in ["video", "audio", "subtitle"] {
            let (was, is) = (self.source.streams(kind).len(), self.result.streams(kind).len());
            if is < was && kind == "subtitle" && self.result.is("mp4") && self.has_pictures() {
                verdict.notes.push(format!("{was} subtitles became {is}: MP4 holds only text"));
            } else {
                verdict.equal(&format!("number of {kind} streams"), &was, &is);
            }
        }
        let data = self.source.streams("data").len();
        if data > 0 && data != self.result.streams("data").len() {
            verdict.notes.push(format!("{data} data streams of the source were left out"));
        }
    }

    fn has_pictures(&self) -> bool {
        self.source.streams("subtitle").iter().any(|s| is_picture(s))
    }

    fn video(&self, verdict: &mut Verdict) {
        let streams = self.source.streams("video").into_iter().zip(self.result.streams("video"));
        for (n, (was, is)) in streams.enumerate() {
            let name = format!("video {n}");
            let (Some(from), Some(to)) =
                (self.source_tracks.video.get(n), self.result_tracks.video.get(n))
            else {
                verdict.differ(format!("{name}: no frames could be read"));
                continue;
            };
            self.frames((n, &name), from, to, verdict);
            // A still may be turned and recoloured to how it is shown, which is what was compared.
            if !self.result.is_still() {
                let upright = self.turns[n].map(|turn| turned(was, turn));
                look_and_shape(&name, upright.as_ref().unwrap_or(was), is, verdict);
                self.side_data(n, &name, (was, is), verdict);
            }
            self.stream_tags(&name, was, is, verdict);
        }
    }

    fn frames(&self, of: (usize, &str), from: &Track, to: &Track, verdict: &mut Verdict) {
        let (n, name) = of;
        verdict.equal(&format!("{name}: number of frames"), &from.rows.len(), &to.rows.len());
        // One tick of the result, and a little for the arithmetic of both.
        let tolerance_s = to.tick_s.max(1e-6) + 1e-5;
        let moved = self.moved(from, to, tolerance_s);
        report(&format!("{name}: time of frame"), &moved, verdict);
        if self.depth == Depth::Times {
            return;
        }
        let mut changed = differing(&from.rows, &to.rows, |a, b| {
            (a.hash != b.hash).then(|| "shows something else".to_owned())
        });
        if !changed.is_empty() {
            let unsteady = self.unsteady(n);
            changed.retain(|(frame, _)| !unsteady.contains(frame));
            if let (Some(first), Some(last)) = (unsteady.first(), unsteady.last()) {
                verdict.notes.push(format!(
                    "{name}: {} frames from {first} to {last} are damaged and ffmpeg decodes them \
                     differently each time: only their number and times were compared",
                    unsteady.len()
                ));
            }
        }
        report(&format!("{name}: picture of frame"), &changed, verdict);
    }

    /// The frames that ffmpeg decodes differently from one time to the next, and their neighbours.
    ///
    /// It conceals damage with what its threads have at hand, so nobody can say what such a frame
    /// shows. Only a source that ffmpeg complains of can have them.
    fn unsteady(&self, n: usize) -> BTreeSet<usize> {
        let mut all = BTreeSet::new();
        let Some(reference) = self.source_tracks.video.get(n) else { return all };
        if self.source_tracks.complaint.is_none() {
            return all;
        }
        for threads in [1, 2, 3, 4, 8] {
            let Ok(again) = self.source.tracks(&self.filters, Some(threads)) else { continue };
            let Some(again) = again.video.get(n) else { continue };
            let differ = differing(&reference.rows, &again.rows, |a, b| {
                (a.hash != b.hash).then(String::new)
            });
            for (frame, _) in differ {
                all.extend(frame.saturating_sub(DAMAGE_FRAMES)..=frame + DAMAGE_FRAMES);
            }
        }
        all
    }

    /// Rows whose distance from the film's first frame changed.
    fn moved(&self, from: &Track, to: &Track, tolerance_s: f64) -> Vec<(usize, String)> {
        let zeros = (self.source_tracks.origin(), self.result_tracks.origin());
        differing(&from.rows, &to.rows, |a, b| match (a.at, b.at) {
            (Some(a), Some(b)) => {
                let (a, b) = (a - zeros.0, b - zeros.1);
                ((a - b).abs() > tolerance_s).then(|| format!("{a:.6} s became {b:.6} s"))
            }
            // A source without times cannot be held against the result.
            _ => None,
        })
    }

    fn side_data(&self, n: usize, name: &str, of: (&Value, &Value), verdict: &mut Verdict) {
        let (was, is) = (self.source.side_data(n), self.result.side_data(n));
        for kind in ["Mastering display metadata", "Content light level metadata"] {
            let (was, is) = (numbers(&was, kind), numbers(&is, kind));
            let close = was.len() == is.len()
                && was.iter().all(|(k, v)| is.get(k).is_some_and(|w| close(*v, *w)));
            if !close {
                verdict.differ(format!("{name}: {kind}: {was:?} became {is:?}"));
            }
        }
        for kind in ["Stereo 3D", "Spherical Mapping"] {
            let found = |all: &[Value]| all.iter().any(|d| d["side_data_type"] == kind);
            verdict.equal(&format!("{name}: has {kind}"), &found(&was), &found(&is));
        }
        let must = if self.turns[n].is_some() { 0 } else { rotation(of.0, &was) };
        verdict.equal(&format!("{name}: rotation"), &must, &rotation(of.1, &is));
    }

    fn audio(&self, verdict: &mut Verdict) {
        let streams = self.source.streams("audio").into_iter().zip(self.result.streams("audio"));
        for (n, (was, is)) in streams.enumerate() {
            let name = format!("audio {n}");
            if self.depth == Depth::Lossless {
                for field in ["sample_rate", "channels"] {
                    verdict.equal(&format!("{name}: {field}"), &was[field], &is[field]);
                }
                self.sound(n, &name, (was, is), verdict);
            }
            self.stream_tags(&name, was, is, verdict);
        }
    }

    /// The same packets at the same times, or else the same samples.
    fn sound(&self, n: usize, name: &str, of: (&Value, &Value), verdict: &mut Verdict) {
        let (Some(from), Some(to)) =
            (self.source_tracks.audio.get(n), self.result_tracks.audio.get(n))
        else {
            return verdict.differ(format!("{name}: no packets could be read"));
        };
        let same_packets = from.rows.len() == to.rows.len()
            && from.rows.iter().zip(&to.rows).all(|(a, b)| a.hash == b.hash);
        if same_packets {
            let moved = self.moved(from, to, SYNC_S.max(from.tick_s).max(to.tick_s));
            return report(&format!("{name}: time of packet"), &moved, verdict);
        }
        let format = sample_format(of.0);
        match (self.source.sample_hash(n, format), self.result.sample_hash(n, format)) {
            (Ok(was), Ok(is)) if was == is => self.sync(n, name, format, verdict),
            (Ok(_), Ok(_)) => verdict.differ(format!(
                "{name}: neither the packets ({} became {}) nor the samples are the same; {} became {}",
                from.rows.len(), to.rows.len(), of.0["codec_name"], of.1["codec_name"],
            )),
            (was, is) => verdict.differ(format!("{name}: cannot be decoded: {was:?} {is:?}")),
        }
    }

    /// The same samples: do they start when they did?
    fn sync(&self, n: usize, name: &str, format: &str, verdict: &mut Verdict) {
        let start = |film: &Film, tracks: &Tracks| {
            let first = film.samples(n, format).ok()?.rows.first()?.at?;
            Some(first - tracks.origin())
        };
        let was = start(self.source, &self.source_tracks);
        let is = start(self.result, &self.result_tracks);
        if let (Some(was), Some(is)) = (was, is)
            && (was - is).abs() > SYNC_S
        {
            verdict.differ(format!("{name}: starts at {is:.6} s instead of {was:.6} s"));
        }
    }

    fn subtitles(&self, verdict: &mut Verdict) {
        let was = self.source.streams("subtitle");
        let is = self.result.streams("subtitle");
        if was.len() != is.len() {
            return;
        }
        for (n, (was, is)) in was.into_iter().zip(is).enumerate() {
            let name = format!("subtitle {n}");
            if let Some(what) = self.words(n, was, is) {
                verdict.differ(format!("{name}: {what}"));
            }
            self.stream_tags(&name, was, is, verdict);
        }
    }

    /// What differs in a subtitle: the packets, and where those must be rewritten, the words.
    fn words(&self, n: usize, was: &Value, is: &Value) -> Option<String> {
        let from = self.source_tracks.subtitles.get(n)?;
        let to = self.result_tracks.subtitles.get(n)?;
        // MP4 fills the time between two texts with empty ones.
        let full = |t: &Track| t.rows.iter().filter(|r| r.size > 2).cloned().collect::<Vec<Row>>();
        let (a, b) = (full(from), full(to));
        let same = a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.hash == b.hash);
        if same {
            let from = Track { rows: a, ..from.clone() };
            let to = Track { rows: b, ..to.clone() };
            return self
                .moved(&from, &to, TEXT_S)
                .first()
                .map(|(row, what)| format!("line {row}: {what}"));
        }
        if is_picture(was) {
            return Some(format!("{} pictures became {} others", a.len(), b.len()));
        }
        let (Ok(a), Ok(b)) = (self.source.text(n), self.result.text(n)) else {
            return Some(format!("{} cannot be read as text", is["codec_name"]));
        };
        if a.len() != b.len() {
            return Some(format!("{} lines became {}", a.len(), b.len()));
        }
        a.iter()
            .zip(&b)
            .find(|(a, b)| a.1 != b.1 || (self.since(a.0, b.0)).abs() > TEXT_S)
            .map(|(a, b)| format!("{a:?} became {b:?}"))
    }

    /// How much later a time of the result is than one of the source.
    fn since(&self, was: f64, is: f64) -> f64 {
        (is - self.result_tracks.origin()) - (was - self.source_tracks.origin())
    }

    fn covers_and_attachments(&self, verdict: &mut Verdict) {
        let covers = |tracks: &Tracks| {
            let rows = tracks.covers.iter().flat_map(|t| t.rows.first());
            sorted(rows.map(|r| r.hash.clone()))
        };
        let (was, is) = (covers(&self.source_tracks), covers(&self.result_tracks));
        verdict.equal("cover pictures", &was, &is);
        let attachments = |film: &Film| {
            sorted(film.streams("attachment").iter().map(|s| {
                let tags = tags(s);
                format!(
                    "{:?} {:?} {}",
                    tags.get("filename"),
                    tags.get("mimetype"),
                    s["extradata_hash"]
                )
            }))
        };
        let (was, is) = (attachments(self.source), attachments(self.result));
        if self.result.is("mp4") && !was.is_empty() {
            verdict.notes.push("MP4 holds no attachments".to_owned());
        } else {
            verdict.equal("attachments", &was, &is);
        }
    }

    fn chapters(&self, verdict: &mut Verdict) {
        let (was, is) = (self.source.chapters(), self.result.chapters());
        verdict.equal("number of chapters", &was.len(), &is.len());
        for (n, (was, is)) in was.iter().zip(is).enumerate() {
            let title = |c: &Value| tags(c).remove("title").unwrap_or_default();
            verdict.equal(&format!("title of chapter {n}"), &title(was), &title(is));
            for end in ["start_time", "end_time"] {
                let at = |c: &Value| c[end].as_str().and_then(|t| t.parse::<f64>().ok());
                let (Some(was), Some(is)) = (at(was), at(is)) else { continue };
                if self.since(was, is).abs() > CHAPTER_S {
                    verdict.differ(format!("{end} of chapter {n}: {was} became {is}"));
                }
            }
        }
    }

    fn film_tags(&self, verdict: &mut Verdict) {
        self.lost_tags("file", self.source.tags(), &self.result.tags(), verdict);
    }

    fn stream_tags(&self, name: &str, was: &Value, is: &Value, verdict: &mut Verdict) {
        let mut now = tags(is);
        if self.source.is("ogg") {
            // Ogg hangs the tags that mean the file on its only stream.
            now.extend(self.result.tags());
        }
        let mut was_tags = tags(was);
        // The date of a file is its owner's; the date of a track is MP4's own bookkeeping.
        was_tags.remove("creation_time");
        self.lost_tags(name, was_tags, &now, verdict);
        let flags = |s: &Value| self.flags(s);
        verdict.equal(&format!("{name}: dispositions"), &flags(was), &flags(is));
    }

    fn lost_tags(
        &self,
        name: &str,
        was: BTreeMap<String, String>,
        is: &BTreeMap<String, String>,
        verdict: &mut Verdict,
    ) {
        for (key, value) in was.into_iter().filter(|(k, v)| is_meant(k, v)) {
            match is.get(&key) {
                Some(now) if *now == value => {}
                None if self.result.is("mp4") && !in_mp4(name, &key) => {
                    verdict.notes.push(format!("{name}: MP4 has no place for the tag {key}"));
                }
                now => verdict.differ(format!("{name}: tag {key}: {value:?} became {now:?}")),
            }
        }
    }

    /// The dispositions that are set and that the result's container can say.
    fn flags(&self, stream: &Value) -> Vec<String> {
        let holds: &[&str] = if self.result.is("matroska") {
            &["forced", "comment", "hearing_impaired", "visual_impaired", "original", "captions"]
        } else {
            &[]
        };
        let all = stream["disposition"].as_object().into_iter().flatten();
        let set = all.filter(|(_, value)| **value == 1).map(|(key, _)| key.clone());
        // Only a container with the flag can mean something by not setting it.
        let knows_default = self.source.is("matroska") && self.result.is("matroska");
        set.filter(|key| holds.contains(&key.as_str()) || (knows_default && key == "default"))
            .collect()
    }
}

fn is_picture(stream: &Value) -> bool {
    let codec = stream["codec_name"].as_str().unwrap_or_default();
    ["dvd_subtitle", "dvb_subtitle", "hdmv_pgs_subtitle", "xsub"].contains(&codec)
}

/// The PCM codec that holds every bit of a stream's decoded samples.
fn sample_format(stream: &Value) -> &'static str {
    match stream["sample_fmt"].as_str().unwrap_or_default() {
        "u8" | "u8p" | "s16" | "s16p" => "pcm_s16le",
        "s32" | "s32p" => "pcm_s32le",
        "dbl" | "dblp" => "pcm_f64le",
        _ => "pcm_f32le",
    }
}

/// Whether a tag is the user's rather than the container's or the writing program's own.
fn is_meant(key: &str, value: &str) -> bool {
    const PLUMBING: &[&str] = &[
        "encoder",
        "duration",
        "major_brand",
        "minor_version",
        "compatible_brands",
        "vendor_id",
        "alpha_mode",
        "rotate",
        "bps",
        "number_of_frames",
        "number_of_bytes",
        "software",
        "filename",
        "mimetype",
    ];
    const DEFAULT_HANDLERS: &[&str] = &["VideoHandler", "SoundHandler", "SubtitleHandler"];
    let machine = PLUMBING.contains(&key) || key.starts_with("_statistics") || key.contains("bps-");
    let default = match key {
        "language" => value == "und",
        "creation_time" => value.starts_with("1970-01-01T00:00:00"),
        "handler_name" => DEFAULT_HANDLERS.contains(&value),
        _ => false,
    };
    !machine && !default
}

/// Whether MP4 has a place for a tag.
fn in_mp4(of: &str, key: &str) -> bool {
    let keys: &[&str] = if of == "file" {
        &[
            "title",
            "artist",
            "album",
            "album_artist",
            "comment",
            "genre",
            "date",
            "composer",
            "copyright",
            "description",
        ]
    } else {
        &["language"]
    };
    keys.contains(&key)
}

fn sorted(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = all.collect();
    all.sort();
    all
}

/// The rows at the same place that differ, and how.
fn differing(
    from: &[Row],
    to: &[Row],
    how: impl Fn(&Row, &Row) -> Option<String>,
) -> Vec<(usize, String)> {
    let pairs = from.iter().zip(to).enumerate();
    pairs.filter_map(|(n, (a, b))| Some((n, how(a, b)?))).collect()
}

/// Says where the first difference is and how many there are, rather than all of them.
fn report(what: &str, differences: &[(usize, String)], verdict: &mut Verdict) {
    if let [(first, how), ..] = differences {
        verdict.differ(format!("{what} {first}: {how}, {} in all", differences.len()));
    }
}
