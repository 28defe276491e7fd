//! Everything that concerns ffmpeg.
//!
//! The order of work: [`probe`] and [`index`] read a source, [`plan`] decides (pure), [`cut`] makes
//! the pieces, [`work`] runs a task at a worker, [`verify`] checks what came back, [`join`] makes
//! the result and [`publish`] puts it in its place. [`args`] writes ffmpeg's arguments (pure) and
//! [`run`] is the only door through which programs are called.

pub mod error;
pub mod run;
mod sandbox;

pub use error::MediaError;
