//! What a plan is made of.

use dmc_protocol::media::{Container, InputFormat, MediaKind, Preset, TaskSpec};
use serde::{Deserialize, Serialize};

use crate::media::cut::CutSource;
use crate::media::streams::{Orientation, Probe, StreamKind};

/// What the mesh knows and the file does not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlanHints {
    /// Wanted length of a segment in seconds.
    pub segment_target_s: f64,
    /// Whether the place where a picture was taken is removed from its metadata.
    pub strip_gps: bool,
}

impl Default for PlanHints {
    fn default() -> PlanHints {
        PlanHints { segment_target_s: 10.0, strip_gps: false }
    }
}

/// How the pictures of a file are shared out, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rung {
    /// Cut into pieces with pre-roll.
    Pieces,
    /// Every worker gets the whole source and enters it near its segment.
    Seek,
    /// One worker does all.
    Whole,
    /// Nothing is encoded but perhaps sound.
    Remux,
    /// One still picture.
    Image,
}

/// How a piece is cut from the source. Byte positions choose the packets: they name the same ones
/// whatever the seek finds first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Where to enter the source, in microseconds of its time; `None` for the start.
    pub seek_us: Option<i64>,
    /// First byte position of the piece; `None` for the start.
    pub pos_start: Option<u64>,
    /// First byte position after the piece; `None` for the end.
    pub pos_end: Option<u64>,
    /// Packets in the piece.
    pub packets: u64,
    /// Bytes in the piece, about.
    pub bytes: u64,
    /// How much later its timestamps are, in seconds.
    pub shift_s: u32,
}

/// A task and how its piece is cut, where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// What the worker does.
    pub spec: TaskSpec,
    /// How its piece is cut.
    pub cut: Option<Cut>,
}

/// What to do after a task whose result was not right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and never stored")]
pub enum Demotion {
    /// Try this instead; see [`Plan::replace`].
    Retry(Replacement),
    /// Start over with this plan: one worker, the whole file. Results so far do not count.
    WholeFile(Box<Plan>),
    /// There is no lower rung.
    GiveUp,
}

/// Where a stream of the result comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The encoded pictures.
    Pictures,
    /// Copied from the source.
    Copy,
    /// The result of a task, by its position in the plan.
    Task(u32),
    /// The source's subtitles as another kind, by ffmpeg's name of the encoder.
    Subtitle(String),
    /// A cover picture that becomes an attached file with that name and type.
    CoverFile {
        /// File name inside the result.
        name: String,
        /// MIME type.
        mime: String,
    },
}

/// One stream of the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutStream {
    /// Index of the source's stream.
    pub source: u32,
    /// What it is.
    pub kind: StreamKind,
    /// How it is made.
    pub origin: Origin,
    /// Tags to write.
    pub tags: Vec<(String, String)>,
    /// Dispositions to set.
    pub dispositions: Vec<String>,
}

/// How the results become one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinSpec {
    /// The file format.
    pub container: Container,
    /// The streams, in order.
    pub streams: Vec<OutStream>,
    /// Turn to write into the container, where it can hold one.
    pub orientation: Orientation,
    /// The source's clock jumps, see [`dmc_protocol::media::WholeTask::continuous`].
    pub continuous: bool,
    /// Whether the place where a picture was taken is removed from its metadata.
    pub strip_gps: bool,
}

impl JoinSpec {
    /// These streams, upright, with the source's clock.
    pub(crate) fn of(container: Container, streams: Vec<OutStream>) -> JoinSpec {
        JoinSpec {
            container,
            streams,
            orientation: Orientation::default(),
            continuous: false,
            strip_gps: false,
        }
    }
}

/// A job's tasks and what becomes of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What the result is.
    pub kind: MediaKind,
    /// How the pictures are shared out.
    pub rung: Rung,
    /// The settings that were asked for.
    pub preset: Preset,
    /// The tasks; segments first, in order. May be empty: then there is only joining to do.
    pub tasks: Vec<TaskSpec>,
    /// For each task how its piece is cut, where it has one.
    pub cuts: Vec<Option<Cut>>,
    /// What the pieces are cut from.
    pub cut_source: Option<CutSource>,
    /// The source's file format.
    pub source_format: InputFormat,
    /// For each audio stream that is encoded: its index in the source, and how much later than the
    /// source it starts, in microseconds.
    pub delays: Vec<(u32, i64)>,
    /// How the results become one file.
    pub join: JoinSpec,
    /// What the result cannot hold or will not be: said before work starts.
    pub notes: Vec<String>,
    /// Why a lower rung was taken.
    pub reasons: Vec<String>,
    /// About how large the result will be.
    pub output_bytes_estimate: u64,
    /// Length in microseconds.
    pub duration_us: u64,
    /// The source's start time in microseconds.
    pub start_us: i64,
    /// Whether every pixel must equal the source's.
    pub lossless: bool,
}

impl Plan {
    /// Tasks for which nothing is cut, and nothing to say of them. The result is estimated at no
    /// bytes.
    pub(crate) fn uncut(
        kind: MediaKind,
        rung: Rung,
        (probe, preset): (&Probe, &Preset),
        tasks: Vec<TaskSpec>,
        join: JoinSpec,
    ) -> Plan {
        Plan {
            kind,
            rung,
            preset: preset.clone(),
            cuts: vec![None; tasks.len()],
            tasks,
            cut_source: None,
            source_format: probe.format.clone(),
            delays: Vec::new(),
            join,
            notes: Vec::new(),
            reasons: Vec::new(),
            output_bytes_estimate: 0,
            duration_us: probe.duration_us.unwrap_or(0),
            start_us: probe.start_us,
            lossless: preset.is_lossless(),
        }
    }

    /// Takes over another way to do one task.
    pub fn replace(&mut self, task: u32, replacement: Replacement) {
        let at = task as usize;
        if let (Some(spec), Some(cut)) = (self.tasks.get_mut(at), self.cuts.get_mut(at)) {
            *spec = replacement.spec;
            *cut = replacement.cut;
        }
    }

    /// How much later than the source an encoded audio stream starts, in microseconds.
    pub(crate) fn delay_us(&self, stream: u32) -> i64 {
        self.delays.iter().find(|(index, _)| *index == stream).map_or(0, |(_, delay)| *delay)
    }

    /// The positions of the tasks that make pictures, in the order of time.
    pub fn video_tasks(&self) -> Vec<u32> {
        (0u32..)
            .zip(&self.tasks)
            .filter(|(_, task)| task.video().is_some())
            .map(|(n, _)| n)
            .collect()
    }
}
