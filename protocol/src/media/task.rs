//! One unit of work for one worker.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::stored::StoredAudio;
use super::{
    Encoder, EncoderSpeed, Filter, InputFormat, Quality, ResolutionBand, SoundTask, StillTask,
    VideoWork, WorkClass,
};

/// How many PTS there are and the BLAKE3 hash of them, sorted, as little-endian `i64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtsDigest {
    /// Number of frames.
    pub count: u32,
    /// Hash of the sorted PTS.
    pub hash: [u8; 32],
}

/// Where a worker gets the pictures of a segment from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Feed {
    /// A piece that the owner cut, its timestamps moved later so that none is negative.
    Piece {
        /// How much later, in seconds.
        shift_s: u32,
        /// How many keyframes before A the piece begins; 0 for the first segment.
        preroll_keyframes: u8,
    },
    /// The whole source, entered near the segment.
    Seek {
        /// The source's file format.
        format: InputFormat,
        /// The stream's index in the source.
        stream: u32,
        /// Where to enter, in microseconds of the source's time; `None` for the start.
        from_us: Option<i64>,
    },
}

/// A span of video time, [A, B).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentTask {
    /// Position among the segments, from 0.
    pub number: u32,
    /// How many segments the film has.
    pub segments: u32,
    /// First PTS of the segment.
    pub a_pts: i64,
    /// First PTS after the segment.
    pub b_pts: i64,
    /// The PTS that must come out.
    pub expected: PtsDigest,
    /// Where the pictures come from.
    pub feed: Feed,
    /// What is done to them.
    pub video: VideoWork,
}

/// All the pictures of a file, by one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholeTask {
    /// The source's file format.
    pub format: InputFormat,
    /// The stream's index in the source.
    pub stream: u32,
    /// The PTS that must come out, where the source says them; otherwise the proof says them.
    pub expected: Option<PtsDigest>,
    /// The source's clock jumps: time is counted from its start, through the jumps. Otherwise the
    /// source's own clock is used.
    pub continuous: bool,
    /// About how many frames there are.
    pub frames_estimate: Option<u64>,
    /// What is done to them.
    pub video: VideoWork,
}

/// One audio stream of a file, encoded in one go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredAudio", into = "StoredAudio")]
pub struct AudioTask {
    /// The source's file format.
    pub format: InputFormat,
    /// The stream's index in the source.
    pub stream: u32,
    /// The encoder.
    pub encoder: Encoder,
    /// Bits per second in all; 0 for lossless encoders.
    pub bps: u32,
    /// Channels of the source.
    pub channels: u16,
    /// Channels of the result, where they are fewer.
    pub mix_to: Option<u16>,
    /// Samples per second of the source.
    pub sample_rate: u32,
    /// Bits of one sample for lossless encoders (16, 24 or 32).
    pub sample_bits: u8,
    /// Length in microseconds, a hint.
    pub duration_us: u64,
}

/// One still picture, into a PNG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageTask {
    /// The source's file format.
    pub format: InputFormat,
    /// The encoder.
    pub encoder: Encoder,
    /// Width of the result's picture in pixels.
    pub width: u32,
    /// Height of the result's picture in pixels.
    pub height: u32,
    /// Exact changes (turning upright, pixel format).
    pub exact_filters: Vec<Filter>,
}

/// What a worker is asked to do. A spec from a peer is untrusted until [`TaskSpec::validate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskSpec {
    /// A span of video time.
    Segment(SegmentTask),
    /// All the pictures of a file.
    Whole(WholeTask),
    /// One audio stream.
    Audio(AudioTask),
    /// One still picture, into a PNG.
    Image(ImageTask),
    /// A picture, or pictures that move, into another picture format than PNG.
    Still(StillTask),
    /// Sound alone, into a format that loses something.
    Sound(SoundTask),
}

/// What a worker must have fetched before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TaskInput {
    /// A cut blob that the owner makes when it is needed.
    Piece,
    /// The whole source file.
    Source,
}

impl TaskSpec {
    /// The encoders that a worker needs.
    pub fn requires(&self) -> BTreeSet<Encoder> {
        BTreeSet::from([self.encoder()])
    }

    /// The encoder that the task runs.
    pub fn encoder(&self) -> Encoder {
        match self {
            TaskSpec::Segment(task) => task.video.settings.encoder,
            TaskSpec::Whole(task) => task.video.settings.encoder,
            TaskSpec::Audio(task) => task.encoder,
            TaskSpec::Image(task) => task.encoder,
            TaskSpec::Still(task) => task.encoder,
            TaskSpec::Sound(task) => task.encoder,
        }
    }

    /// The class whose measured speed predicts this task's time.
    pub fn class(&self) -> WorkClass {
        match self.video() {
            Some(video) => WorkClass {
                encoder: video.settings.encoder,
                speed: video.settings.speed,
                band: ResolutionBand::of(video.width, video.height),
            },
            None => WorkClass {
                encoder: self.encoder(),
                speed: match self {
                    TaskSpec::Still(task) => task.speed,
                    _ => EncoderSpeed::Medium,
                },
                band: match self {
                    TaskSpec::Image(task) => ResolutionBand::of(task.width, task.height),
                    TaskSpec::Still(task) => ResolutionBand::of(task.width, task.height),
                    _ => ResolutionBand::None,
                },
            },
        }
    }

    /// The size of the work: pixels for pictures, samples for sound. Predicted seconds are this
    /// divided by the class's measured speed. At least 1.
    pub fn work_units(&self) -> u64 {
        let units = match self {
            TaskSpec::Segment(task) => pixels(task.video.width, task.video.height)
                .saturating_mul(u64::from(task.expected.count)),
            TaskSpec::Whole(task) => pixels(task.video.width, task.video.height)
                .saturating_mul(self.frames().unwrap_or(1_000)),
            TaskSpec::Audio(task) => samples(task.duration_us, task.sample_rate, task.channels),
            TaskSpec::Image(task) => pixels(task.width, task.height),
            TaskSpec::Still(task) => pixels(task.width, task.height),
            TaskSpec::Sound(task) => samples(task.duration_us, task.sample_rate, task.channels),
        };
        units.max(1)
    }

    /// Frames that come out, where known (exact for segments, else an estimate).
    pub fn frames(&self) -> Option<u64> {
        match self {
            TaskSpec::Segment(task) => Some(u64::from(task.expected.count)),
            TaskSpec::Whole(task) => {
                task.expected.map(|pts| u64::from(pts.count)).or(task.frames_estimate)
            }
            TaskSpec::Audio(_) | TaskSpec::Sound(_) => None,
            TaskSpec::Still(task) if task.loops.is_some() => None,
            TaskSpec::Image(_) | TaskSpec::Still(_) => Some(1),
        }
    }

    /// Bytes that the result may have, about; its input has `input_bytes`.
    pub fn output_bytes_estimate(&self, input_bytes: u64) -> u64 {
        match self {
            TaskSpec::Segment(_) | TaskSpec::Whole(_) => {
                // Without loss, half of three components of a byte each; otherwise smaller than
                // the input, of which a segment may be a small part.
                let raw = self.work_units().saturating_mul(3) / 2;
                let lossless =
                    self.video().is_some_and(|v| v.settings.quality == Quality::Lossless);
                if lossless { raw } else { input_bytes.min(raw) }
            }
            TaskSpec::Audio(task) => {
                let seconds = task.duration_us / 1_000_000 + 1;
                let bytes_a_sample = u64::from(task.sample_bits) / 8;
                let raw = self.work_units().saturating_mul(bytes_a_sample);
                let coded = seconds.saturating_mul(u64::from(task.bps)) / 8;
                if task.bps > 0 { coded.min(raw) } else { raw }
            }
            TaskSpec::Image(_) => self.work_units().saturating_mul(4),
            TaskSpec::Still(_) => input_bytes.max(self.work_units().saturating_mul(4)),
            TaskSpec::Sound(task) => {
                (task.duration_us / 1_000_000 + 1).saturating_mul(u64::from(task.bps)) / 8
            }
        }
    }

    /// Bytes that must be free where the task is done: the input and twice the result.
    pub fn disk_bytes(&self, input_bytes: u64) -> u64 {
        let output = self.output_bytes_estimate(input_bytes);
        input_bytes.saturating_add(output.saturating_mul(2))
    }

    /// What must be fetched before the task can start.
    pub fn input(&self) -> TaskInput {
        match self {
            TaskSpec::Segment(SegmentTask { feed: Feed::Piece { .. }, .. }) => TaskInput::Piece,
            _ => TaskInput::Source,
        }
    }

    /// The part of a film, if that is what the task is.
    pub fn segment(&self) -> Option<&SegmentTask> {
        match self {
            TaskSpec::Segment(task) => Some(task),
            _ => None,
        }
    }

    /// The work on pictures, if that is what the task is.
    pub fn video(&self) -> Option<&VideoWork> {
        match self {
            TaskSpec::Segment(task) => Some(&task.video),
            TaskSpec::Whole(task) => Some(&task.video),
            _ => None,
        }
    }

    /// What people call the task: `segment 3 (10.0 s–20.0 s)`.
    pub fn label(&self) -> String {
        match self {
            TaskSpec::Segment(task) => {
                let second = |pts| task.video.time_base.ticks_to_s(pts);
                let (a, b) = (second(task.a_pts), second(task.b_pts));
                format!("segment {} ({a:.1} s–{b:.1} s)", task.number)
            }
            TaskSpec::Whole(_) => "whole film".to_owned(),
            TaskSpec::Audio(task) => format!("audio {} ({})", task.stream, task.encoder),
            TaskSpec::Image(_) => "image".to_owned(),
            TaskSpec::Still(task) if task.loops.is_some() => {
                format!("animation ({})", task.encoder)
            }
            TaskSpec::Still(task) => format!("image ({})", task.encoder),
            TaskSpec::Sound(task) => format!("sound ({})", task.encoder),
        }
    }
}

/// Samples of all channels in that time.
fn samples(duration_us: u64, sample_rate: u32, channels: u16) -> u64 {
    let a_second = u64::from(sample_rate);
    (duration_us / 1_000).saturating_mul(a_second).saturating_mul(u64::from(channels)) / 1_000
}

/// Pixels of a picture of that size.
pub(super) fn pixels(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height)
}
