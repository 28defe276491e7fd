//! Is this the same film? Every difference between a source and a lossless conversion of it.
//!
//! The policy for rotation: MP4 must say the same turn. ffmpeg 5.1 writes none into Matroska, so
//! there the pictures must stand upright, turned exactly as ffmpeg and players turn the source, and
//! the result must say no turn.

mod sound;
mod subtitles;
mod tags;
mod turn;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::film::{Film, Row, Track, Tracks, tags};
use super::picture::{close, common_formats, look_and_shape, numbers, rotation};
use turn::{turned, turns};

/// Chapters carry whole milliseconds, and a muxer that moves the film by the sound's priming
/// (21 to 48 ms for AAC) leaves them where they are.
const CHAPTER_S: f64 = 0.05;

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

/// Two files must hold the same film.
pub fn same_film(source: &Path, result: &Path, depth: Depth) {
    let (source, result) = (Film::open(source).unwrap(), Film::open(result).unwrap());
    let verdict = compare(&source, &result, depth).unwrap();
    assert_eq!(verdict.differences, Vec::<String>::new());
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
