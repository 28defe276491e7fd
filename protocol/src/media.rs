//! Typed descriptions of media work; never raw ffmpeg words from the wire.
