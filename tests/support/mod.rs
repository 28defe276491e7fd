//! What the black-box tests share. Nothing here uses the program's own code.

pub mod bed;
pub mod compare;
pub mod dmc;
pub mod film;
pub mod namespaces;
pub mod picture;
pub mod process;
pub mod subtitles;
pub mod wait;
pub mod zoo;
