//! Typed descriptions of media work; never raw ffmpeg words from the wire.
//!
//! Everything here may arrive from a peer, so every type is bounded: enums, numbers with ranges, and
//! closed lists of pixel and file formats. [`TaskSpec::validate`] is called before anything is run.

mod builtin;
mod capabilities;
mod class;
mod codec;
mod container;
mod encoder;
mod input;
pub mod lengths;
pub mod options;
mod pixel;
mod preset;
mod single;
mod speed;
mod stored;
mod task;
mod validate;
mod video;
mod word;

pub use capabilities::Capabilities;
pub use class::{ResolutionBand, WorkClass};
pub use codec::{Codec, MediaKind};
pub use container::Container;
pub use encoder::{Encoder, Hardware};
pub use input::InputFormat;
pub use pixel::PixFmt;
pub use preset::{AudioPolicy, Preset, PresetError, PresetOverrides, Quality};
pub use single::{SoundTask, StillTask};
pub use speed::EncoderSpeed;
pub use task::{
    AudioTask, Feed, ImageTask, PtsDigest, SegmentTask, TaskInput, TaskSpec, WholeTask,
};
pub use validate::SpecError;
pub use video::{
    Colour, ContentLight, FieldOrder, Filter, MasteringDisplay, RateCap, Rational, VideoSettings,
    VideoWork,
};
pub use word::UnknownWord;
