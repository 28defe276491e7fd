//! Typed descriptions of media work; never raw ffmpeg words from the wire.
//!
//! Everything here may arrive from a peer, so every type is bounded: enums, numbers with ranges,
//! and a closed list of pixel formats. [`TaskSpec::validate`] is called before anything is run.

mod builtin;
mod codec;
mod input;
pub mod lengths;
pub mod options;
mod pixel;
mod preset;
mod single;
mod stored;
mod task;
mod video;

pub use codec::{Codec, Container, Encoder, EncoderSpeed, Hardware, MediaKind, UnknownWord};
pub use input::InputFormat;
pub use pixel::PixFmt;
pub use preset::{AudioPolicy, Preset, PresetError, PresetOverrides, Quality};
pub use single::{SoundTask, StillTask};
pub use task::{
    AudioTask, Capabilities, Feed, ImageTask, PtsDigest, ResolutionBand, SegmentTask, SpecError,
    TaskInput, TaskSpec, WholeTask, WorkClass,
};
pub use video::{
    Colour, ContentLight, FieldOrder, Filter, MasteringDisplay, RateCap, Rational, VideoSettings,
    VideoWork,
};
