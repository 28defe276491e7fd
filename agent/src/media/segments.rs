//! Decides where a film is cut, from its packets. Pure.

use dmc_protocol::media::lengths::{SEGMENTS_MAX, segment_s};
use dmc_protocol::media::{Feed, PtsDigest, Rational, SegmentTask, TaskSpec, VideoWork, WholeTask};

use super::index::{Index, Packet};
use super::plan::{Cut, Replacement, Rung};
use super::streams::Probe;

/// Timestamps of a piece are moved at least this much, so that none is negative.
const SHIFT_S_MIN: u32 = 3_600;
const SHIFT_S_MAX: u32 = 100_000;
/// Packets after the end of a piece, so that the decoder is not at its end at B.
const TAIL_PACKETS: usize = 2;
/// A longer pause in the timestamps is a break in the recording.
const GAP_S_MAX: f64 = 10.0;
/// Pre-roll in keyframes at the second try.
const LONG_PREROLL: u8 = 3;

/// How the pictures are shared out.
pub(crate) struct Shared {
    pub rung: Rung,
    pub tasks: Vec<TaskSpec>,
    pub cuts: Vec<Option<Cut>>,
    pub reasons: Vec<String>,
    /// The source's clock jumps.
    pub continuous: bool,
    span: Option<(i64, i64)>,
}

impl Shared {
    /// Length by the timestamps, in microseconds.
    pub fn duration_us(&self, base: Rational) -> u64 {
        let Some((a, b)) = self.span else { return 0 };
        u64::try_from(base.ticks_to_us(b.saturating_sub(a))).unwrap_or(0)
    }
}

/// The digest of timestamps.
pub(crate) fn digest(pts: &[i64]) -> PtsDigest {
    let mut hasher = blake3::Hasher::new();
    for pts in pts {
        hasher.update(&pts.to_le_bytes());
    }
    PtsDigest {
        count: u32::try_from(pts.len()).unwrap_or(u32::MAX),
        hash: *hasher.finalize().as_bytes(),
    }
}

/// Keyframes at which the film may be cut, and all shown timestamps.
struct Cuttable {
    /// Positions in the index of keyframes that are shown, increasing in time and place.
    keys: Vec<usize>,
    shown: Vec<i64>,
    end: i64,
}

/// Shares the film out. With `decoded_only` (reasons why) it becomes one task whose frames are
/// whatever the decoder gives.
pub(crate) fn share(
    probe: &Probe,
    index: &Index,
    work: &VideoWork,
    target_s: f64,
    decoded_only: &[String],
) -> Shared {
    let shown = index.shown_pts();
    let kept = kept(work, &shown);
    if !decoded_only.is_empty() {
        return whole(probe, index, work, None, decoded_only.to_vec(), &shown);
    }
    let cuttable = match cuttable(index, work.time_base, shown.clone()) {
        Ok(cuttable) => cuttable,
        Err(reason) => return whole(probe, index, work, None, vec![reason], &shown),
    };
    let borders = borders(&cuttable, index, work.time_base, target_s);
    if let Some(reason) = not_shared(&cuttable, borders.len(), work) {
        return whole(probe, index, work, Some(digest(&kept)), vec![reason], &shown);
    }
    let by_pos = can_be_cut(probe, index, work);
    let mut shared = Shared {
        rung: if by_pos.is_ok() { Rung::Pieces } else { Rung::Seek },
        tasks: Vec::new(),
        cuts: Vec::new(),
        reasons: by_pos.err().into_iter().collect(),
        continuous: false,
        span: span(&cuttable.shown, cuttable.end),
    };
    for (number, key) in borders.iter().enumerate() {
        let next = borders.get(number + 1);
        let place = (number, borders.len());
        let mut task = segment(&cuttable, index, work, place, *key, next.copied());
        if work.rate_cap().is_some() {
            let within = |pts: &&i64| (task.a_pts..task.b_pts).contains(*pts);
            let of_task: Vec<i64> = kept.iter().filter(within).copied().collect();
            task.expected = digest(&of_task);
        }
        let replacement = if shared.rung == Rung::Pieces {
            piece(index, task, 1)
        } else {
            seek(probe, index, task, 1)
        };
        shared.tasks.push(replacement.spec);
        shared.cuts.push(replacement.cut);
    }
    if shared.tasks.iter().any(|task| task.frames() == Some(0)) {
        let reason = "the cap leaves no frame of some segment".to_owned();
        return whole(probe, index, work, Some(digest(&kept)), vec![reason], &shown);
    }
    shared
}

/// Why one worker does all of a film that could be cut at so many `borders`.
fn not_shared(cuttable: &Cuttable, borders: usize, work: &VideoWork) -> Option<String> {
    if borders < 2 && cuttable.keys.len() < 2 {
        return Some("it has one keyframe only".to_owned());
    }
    if borders < 2 {
        return Some("it is shorter than two segments".to_owned());
    }
    let remembers = "deinterlacing looks at the frames beside each frame";
    work.remembers().then(|| remembers.to_owned())
}

/// The timestamps of the result.
fn kept(work: &VideoWork, shown: &[i64]) -> Vec<i64> {
    match work.rate_cap() {
        Some(cap) => cap.keep(work.time_base, shown),
        None => shown.to_vec(),
    }
}

fn span(shown: &[i64], end: i64) -> Option<(i64, i64)> {
    shown.first().map(|first| (*first, end))
}

fn whole(
    probe: &Probe,
    index: &Index,
    work: &VideoWork,
    expected: Option<PtsDigest>,
    reasons: Vec<String>,
    shown: &[i64],
) -> Shared {
    let stream = probe.pictures.as_ref().map_or(0, |pictures| pictures.index);
    let continuous = expected.is_none() && jumps(probe, index, work.time_base);
    let task = WholeTask {
        format: probe.format.clone(),
        stream,
        expected,
        continuous,
        frames_estimate: Some(match work.rate_cap() {
            Some(cap) if !shown.is_empty() => cap.keep(work.time_base, shown).len() as u64,
            _ => index.packets.len() as u64,
        }),
        video: work.clone(),
    };
    Shared {
        rung: Rung::Whole,
        tasks: vec![TaskSpec::Whole(task)],
        cuts: vec![None],
        reasons,
        continuous,
        span: span(shown, shown.last().copied().unwrap_or(0)),
    }
}

/// Formats of broadcasts, whose clock may jump; ffmpeg bridges the jumps when asked for its own
/// clock. The limits are its own: a tenth of a second back, or 10 s ahead.
fn jumps(probe: &Probe, index: &Index, base: Rational) -> bool {
    if !matches!(probe.format.name(), "mpegts" | "mpeg") {
        return false;
    }
    let times: Vec<i64> = index.packets.iter().filter_map(|packet| packet.dts).collect();
    times.windows(2).any(|pair| {
        let step = base.ticks_to_s(pair[1].saturating_sub(pair[0]));
        !(-0.1..=GAP_S_MAX).contains(&step)
    })
}

/// Whether the packets' timestamps say all that is needed, or why not.
fn cuttable(index: &Index, base: Rational, shown: Vec<i64>) -> Result<Cuttable, String> {
    let packets = &index.packets;
    if packets.iter().any(|packet| packet.pts.is_none()) {
        return Err("packets without timestamps".to_owned());
    }
    if packets.iter().any(|packet| packet.corrupt) {
        return Err("damaged packets".to_owned());
    }
    if shown.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("two packets with the same timestamp".to_owned());
    }
    let (Some(first), Some(last)) = (shown.first().copied(), shown.last().copied()) else {
        return Err("no packet is shown".to_owned());
    };
    let hidden = packets.iter().filter(|packet| packet.discard).filter_map(|packet| packet.pts);
    if hidden.clone().any(|pts| (first..=last).contains(&pts)) {
        return Err("an edit list hides packets in the middle".to_owned());
    }
    let gap = |pair: &[i64]| base.ticks_to_s(pair[1].saturating_sub(pair[0])) > GAP_S_MAX;
    if shown.windows(2).any(gap) {
        return Err("a gap of more than 10 s in the timestamps".to_owned());
    }
    let keys: Vec<usize> =
        (0..packets.len()).filter(|at| packets[*at].key && !packets[*at].discard).collect();
    // Matroska has no decoding times of its own; the first ones may be missing.
    let increasing = |get: fn(&Packet) -> Option<i64>| {
        let times: Vec<i64> = keys.iter().filter_map(|at| get(&packets[*at])).collect();
        times.windows(2).all(|pair| pair[0] < pair[1])
    };
    if !increasing(|packet| packet.pts) || !increasing(|packet| packet.dts) {
        return Err("keyframes are not in the order of time".to_owned());
    }
    Ok(Cuttable { end: end_of(packets, &shown, hidden), keys, shown })
}

/// The first tick after the last shown frame: its duration later, but not after a hidden one.
fn end_of(packets: &[Packet], shown: &[i64], hidden: impl Iterator<Item = i64>) -> i64 {
    let last = shown.last().copied().unwrap_or(0);
    let given = packets.iter().find(|packet| packet.pts == Some(last)).map_or(0, |p| p.duration);
    let usual = shown.windows(2).last().map_or(1, |pair| pair[1] - pair[0]);
    let end = last.saturating_add(if given > 0 { given } else { usual.max(1) });
    hidden.filter(|pts| *pts > last).fold(end, i64::min)
}

/// Chooses the keyframes (positions in the index) at which segments begin.
fn borders(cuttable: &Cuttable, index: &Index, base: Rational, target_s: f64) -> Vec<usize> {
    let (Some(&first), Some(&first_key)) = (cuttable.shown.first(), cuttable.keys.first()) else {
        return Vec::new();
    };
    let total_s = base.ticks_to_s(cuttable.end.saturating_sub(first));
    let target_s = target_s.max(total_s / SEGMENTS_MAX).max(0.1);
    let mut borders = vec![first_key];
    let mut begun = first;
    for &key in &cuttable.keys[1..] {
        let Some(pts) = index.packets[key].pts else { continue };
        let left_s = base.ticks_to_s(cuttable.end.saturating_sub(pts));
        let begun_s = base.ticks_to_s(begun.saturating_sub(first));
        let wanted_s = segment_s(target_s, begun_s, total_s);
        let long_enough = base.ticks_to_s(pts.saturating_sub(begun)) >= wanted_s * 0.99;
        // A short rest would cost more than it shares.
        if long_enough && left_s >= wanted_s * 0.4 && pts > first {
            borders.push(key);
            begun = pts;
        }
    }
    borders
}

fn segment(
    cuttable: &Cuttable,
    index: &Index,
    work: &VideoWork,
    (number, segments): (usize, usize),
    key: usize,
    next: Option<usize>,
) -> SegmentTask {
    let pts_of = |at: usize| index.packets[at].pts;
    let first = cuttable.shown.first().copied().unwrap_or(0);
    // The first segment also takes what is shown before the first keyframe.
    let a_pts = if number == 0 { first } else { pts_of(key).unwrap_or(first) };
    let b_pts = next.and_then(pts_of).unwrap_or(cuttable.end);
    let from = cuttable.shown.partition_point(|pts| *pts < a_pts);
    let to = cuttable.shown.partition_point(|pts| *pts < b_pts);
    SegmentTask {
        number: u32::try_from(number).unwrap_or(u32::MAX),
        segments: u32::try_from(segments).unwrap_or(u32::MAX),
        a_pts,
        b_pts,
        expected: digest(&cuttable.shown[from..to]),
        feed: Feed::Piece { shift_s: shift(work.time_base), preroll_keyframes: 1 },
        video: work.clone(),
    }
}

/// A shift in whole seconds that is also a whole number of ticks.
fn shift(base: Rational) -> u32 {
    SHIFT_S_MIN.div_ceil(base.num.max(1)).saturating_mul(base.num.max(1))
}

/// Codecs whose packets NUT carries whole, and whose decoders start at a keyframe. Others are
/// entered in the source itself.
const CUT: &[&str] = &[
    "h264",
    "hevc",
    "vp8",
    "vp9",
    "av1",
    "mpeg2video",
    "mpeg1video",
    "mpeg4",
    "mjpeg",
    "prores",
    "dnxhd",
    "ffv1",
    "huffyuv",
    "ffvhuff",
    "utvideo",
    "h263",
    "msmpeg4v2",
    "msmpeg4v3",
    "theora",
    "wmv1",
    "wmv2",
    "wmv3",
    "vc1",
    "flv1",
    "dvvideo",
    "rawvideo",
    "jpeg2000",
    "cfhd",
];

/// Whether pieces can be cut: a codec that allows it, a time base of whole seconds' fractions, and
/// byte positions that order the packets as the file does.
fn can_be_cut(probe: &Probe, index: &Index, work: &VideoWork) -> Result<(), String> {
    let base = work.time_base;
    let codec = probe.pictures.as_ref().map_or("", |pictures| pictures.codec.as_str());
    let hidden_alpha = probe.pictures.as_ref().is_some_and(|pictures| pictures.hidden_alpha);
    if hidden_alpha && work.settings.pix_fmt.has_alpha() {
        return Err("pieces do not carry the transparency".to_owned());
    }
    if !CUT.contains(&codec) {
        return Err(format!("pieces of {codec} are not known to be exact"));
    }
    if base.num > SHIFT_S_MAX {
        return Err(format!("a time base of {base}"));
    }
    let ordered = index.packets.windows(2).all(|pair| match (pair[0].pos, pair[1].pos) {
        (Some(first), Some(second)) => first < second,
        _ => false,
    });
    if ordered { Ok(()) } else { Err("packets have no byte positions of their own".to_owned()) }
}

/// Where the segment begins in the index, and the keyframe `back` keyframes before.
fn entry(index: &Index, segment: &SegmentTask, back: u8) -> Option<usize> {
    let is_key = |packet: &Packet| packet.key && packet.pts.is_some();
    let at = index
        .packets
        .iter()
        .position(|packet| is_key(packet) && packet.pts == Some(segment.a_pts))?;
    let mut keys = (0..at).rev().filter(|at| is_key(&index.packets[*at]));
    keys.nth(usize::from(back.max(1)) - 1)
}

/// The segment fed by a piece with that many keyframes of pre-roll.
fn piece(index: &Index, mut segment: SegmentTask, preroll: u8) -> Replacement {
    let packets = &index.packets;
    let base = segment.video.time_base;
    let shift_s = shift(base);
    let start = if segment.number == 0 { None } else { entry(index, &segment, preroll) };
    let is_last = segment.number + 1 == segment.segments;
    let before_b = |packet: &Packet| packet.pts.is_some_and(|pts| pts < segment.b_pts);
    let last = packets.iter().rposition(before_b).unwrap_or(packets.len().saturating_sub(1));
    let end = if is_last { packets.len() } else { last + 1 + TAIL_PACKETS };
    let from = start.unwrap_or(0);
    let held = &packets[from.min(packets.len())..end.min(packets.len())];
    let cut = Cut {
        seek_us: start
            .and_then(|at| packets[at].pts)
            .map(|pts| base.ticks_to_us(pts).saturating_sub(250_000)),
        pos_start: start.and_then(|at| packets[at].pos),
        pos_end: packets.get(end).and_then(|packet| packet.pos),
        packets: held.len() as u64,
        bytes: held.iter().map(|packet| u64::from(packet.bytes)).sum(),
        shift_s,
    };
    let preroll_keyframes = if start.is_some() { preroll } else { 0 };
    segment.feed = Feed::Piece { shift_s, preroll_keyframes };
    Replacement { spec: TaskSpec::Segment(segment), cut: Some(cut) }
}

/// The segment fed by the whole source, entered that many keyframes before.
fn seek(probe: &Probe, index: &Index, mut segment: SegmentTask, back: u8) -> Replacement {
    let base = segment.video.time_base;
    let start = if segment.number == 0 { None } else { entry(index, &segment, back) };
    let from_us = start
        .and_then(|at| index.packets[at].pts)
        .map(|pts| base.ticks_to_us(pts).saturating_sub(500_000));
    let stream = probe.pictures.as_ref().map_or(0, |pictures| pictures.index);
    segment.feed = Feed::Seek { format: probe.format.clone(), stream, from_us };
    Replacement { spec: TaskSpec::Segment(segment), cut: None }
}

/// The next lower rung of one segment; `None` when there is none.
pub(crate) fn lower(probe: &Probe, index: &Index, segment: &SegmentTask) -> Option<Replacement> {
    match &segment.feed {
        Feed::Piece { preroll_keyframes: 1, .. } => {
            Some(piece(index, segment.clone(), LONG_PREROLL))
        }
        Feed::Piece { .. } => Some(seek(probe, index, segment.clone(), 1)),
        Feed::Seek { .. } => None,
    }
}
