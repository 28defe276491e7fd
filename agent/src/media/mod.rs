//! Everything that concerns ffmpeg.
//!
//! The order of work: [`probe`] and [`index`] read a source, [`plan`] decides (pure), [`cut`] makes
//! the pieces, [`run`] runs a task at a worker, [`verify`] checks what came back, [`join`] makes the
//! result and [`publish`] puts it in its place. `args` writes ffmpeg's arguments (pure), and `run`
//! is the only door through which programs are called.

mod alpha;
mod animation;
mod args;
mod args_single;
mod avif;
pub(crate) mod borders;
mod bounds;
mod boxes;
pub mod calibrate;
mod call;
pub mod capability;
pub mod children;
pub mod cut;
pub mod error;
mod exif;
mod ffprobe;
mod filters;
pub(crate) mod fuzzing;
pub mod hardware;
mod holds;
pub mod index;
pub mod join;
mod join_alone;
mod jxl;
mod keep;
pub mod leftovers;
mod metadata;
mod obu;
mod packets;
mod picture;
pub mod plan;
mod priming;
pub mod probe;
pub mod proof;
pub mod publish;
pub mod quality;
pub(crate) mod remux;
pub mod run;
pub mod sandbox;
mod segments;
mod shape;
mod single;
mod sniff;
pub(crate) mod still;
pub mod streams;
mod timeline;
pub mod verify;
mod verify_alone;
mod verify_handed;
mod verify_output;
mod verify_sound;
mod verify_still;
mod video;
mod webp;
mod work;

pub use error::MediaError;
