//! Everything that concerns ffmpeg.
