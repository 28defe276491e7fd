//! What a source holds, as data.

use std::collections::BTreeMap;

use dmc_protocol::media::{
    Colour, ContentLight, FieldOrder, InputFormat, MasteringDisplay, MediaKind, PixFmt, Rational,
};
use serde::{Deserialize, Serialize};

/// What one stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StreamKind {
    /// Moving pictures.
    Video,
    /// Sound.
    Audio,
    /// Text or pictures shown over the film.
    Subtitle,
    /// A picture that stands for the file.
    Cover,
    /// A file inside the file, such as a font.
    Attachment,
    /// Anything else: time code, telemetry, …
    Data,
}

/// One stream of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Index in the source.
    pub index: u32,
    /// What it is.
    pub kind: StreamKind,
    /// ffmpeg's name of its codec; empty when unknown.
    pub codec: String,
    /// Tags as the source has them.
    pub tags: BTreeMap<String, String>,
    /// Names of the dispositions that are set.
    pub dispositions: Vec<String>,
    /// First timestamp in microseconds.
    pub start_us: Option<i64>,
    /// Length in microseconds.
    pub duration_us: Option<u64>,
    /// Channels of sound.
    pub channels: u16,
    /// Samples of sound per second.
    pub sample_rate: u32,
    /// Bits of one sample that matter (0 unknown).
    pub sample_bits: u8,
    /// ffmpeg's sample format.
    pub sample_fmt: String,
    /// Width and height in pixels, for pictures.
    pub size: (u32, u32),
    /// Whether a trial showed that this container can hold it as it is.
    pub fits: Fits,
}

/// Which containers can hold a stream without encoding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fits {
    /// Matroska.
    pub mkv: bool,
    /// MP4.
    pub mp4: bool,
}

impl Stream {
    /// A tag by its name, in any case.
    pub fn tag(&self, name: &str) -> Option<&str> {
        let found = self.tags.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// What people call it: `audio 1 (aac, deu)`.
    pub fn label(&self) -> String {
        let kind = match self.kind {
            StreamKind::Video => "video",
            StreamKind::Audio => "audio",
            StreamKind::Subtitle => "subtitle",
            StreamKind::Cover => "cover",
            StreamKind::Attachment => "attachment",
            StreamKind::Data => "data",
        };
        let codec = if self.codec.is_empty() { "unknown" } else { &self.codec };
        match self.tag("language").filter(|language| *language != "und") {
            Some(language) => format!("{kind} stream {} ({codec}, {language})", self.index),
            None => format!("{kind} stream {} ({codec})", self.index),
        }
    }
}

/// How the pictures must be turned to stand upright: first mirrored left–right, then turned
/// clockwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Orientation {
    /// Mirror left and right first.
    pub mirror: bool,
    /// Then this many quarter turns clockwise (0–3).
    pub quarter_turns: u8,
}

impl Orientation {
    /// Whether nothing needs to be done.
    pub fn is_upright(self) -> bool {
        self == Orientation::default()
    }

    /// The four numbers of a display matrix that say this turn.
    pub fn matrix(self) -> [i32; 4] {
        match (self.mirror, self.quarter_turns % 4) {
            (false, 0) => [1, 0, 0, 1],
            (false, 1) => [0, 1, -1, 0],
            (false, 2) => [-1, 0, 0, -1],
            (false, _) => [0, -1, 1, 0],
            (true, 0) => [-1, 0, 0, 1],
            (true, 1) => [0, -1, -1, 0],
            (true, 2) => [1, 0, 0, -1],
            (true, _) => [0, 1, 1, 0],
        }
    }

    /// From the orientation that EXIF counts from 1 to 8.
    pub fn from_exif(number: u16) -> Orientation {
        let (mirror, quarter_turns) = match number {
            2 => (true, 0),
            3 => (false, 2),
            4 => (true, 2),
            5 => (true, 3),
            6 => (false, 1),
            7 => (true, 1),
            8 => (false, 3),
            _ => (false, 0),
        };
        Orientation { mirror, quarter_turns }
    }

    /// From the first two columns of a display matrix, `[a b; c d]`; `None` for a matrix that is
    /// not made of quarter turns and mirrors.
    pub fn from_matrix(a: i64, b: i64, c: i64, d: i64) -> Option<Orientation> {
        let sign = |n: i64| n.signum();
        let (mirror, quarter_turns) = match (sign(a), sign(b), sign(c), sign(d)) {
            (1, 0, 0, 1) => (false, 0),
            (0, 1, -1, 0) => (false, 1),
            (-1, 0, 0, -1) => (false, 2),
            (0, -1, 1, 0) => (false, 3),
            (-1, 0, 0, 1) => (true, 0),
            (0, 1, 1, 0) => (true, 3),
            (1, 0, 0, -1) => (true, 2),
            (0, -1, -1, 0) => (true, 1),
            _ => return None,
        };
        Some(Orientation { mirror, quarter_turns })
    }
}

/// The pictures of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pictures {
    /// Index of the stream in the source.
    pub index: u32,
    /// ffmpeg's name of the codec.
    pub codec: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Pixel format of the decoded frames.
    pub pix_fmt: PixFmt,
    /// Time base of the timestamps.
    pub time_base: Rational,
    /// Shape of one pixel.
    pub sample_aspect: Option<Rational>,
    /// Average frames per second.
    pub frame_rate: Option<Rational>,
    /// Colour description.
    pub colour: Colour,
    /// Mastering display.
    pub mastering: Option<MasteringDisplay>,
    /// Content light levels.
    pub light: Option<ContentLight>,
    /// Dolby Vision data is present.
    pub dolby_vision: bool,
    /// HDR10+ data is present.
    pub hdr10_plus: bool,
    /// Closed captions inside the pictures.
    pub captions: bool,
    /// Transparency in a second coded picture that ffmpeg's own decoder leaves out. The pixel format
    /// has it where another decoder reads it.
    pub hidden_alpha: bool,
    /// Interlacing.
    pub field_order: FieldOrder,
    /// How to turn it upright.
    pub orientation: Orientation,
}

/// What a picture file says beside its pixels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StillFacts {
    /// How often its pictures are played (0: for ever); `None` for a file that does not say that
    /// they move.
    pub loops: Option<u16>,
    /// It has texts of a kind that only PNG files hold.
    pub has_texts: bool,
    /// Its colour profile is for grey.
    pub is_grey_profile: bool,
}

/// What a source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What it mainly is.
    pub kind: MediaKind,
    /// Its file format.
    pub format: InputFormat,
    /// Its size in bytes.
    pub bytes: u64,
    /// The least timestamp of its streams, in microseconds.
    pub start_us: i64,
    /// Its length in microseconds, where it says it.
    pub duration_us: Option<u64>,
    /// The real pictures: the video stream that is converted.
    pub pictures: Option<Pictures>,
    /// All streams.
    pub streams: Vec<Stream>,
    /// Number of chapters.
    pub chapters: u32,
    /// Tags of the file.
    pub tags: BTreeMap<String, String>,
    /// What a picture file says beside its pixels.
    pub still: StillFacts,
}

impl Probe {
    /// Whether it is a picture by its format, even if it moves: a film to ffmpeg, none to people.
    pub fn is_picture(&self) -> bool {
        self.kind == MediaKind::Image || self.format.is_moving_picture()
    }

    /// The streams of one kind, in order.
    pub fn streams_of(&self, kind: StreamKind) -> impl Iterator<Item = &Stream> {
        self.streams.iter().filter(move |stream| stream.kind == kind)
    }

    /// The stream with that index.
    pub fn stream(&self, index: u32) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.index == index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_survives_its_matrix() {
        for mirror in [false, true] {
            for quarter_turns in 0..4 {
                let turn = Orientation { mirror, quarter_turns };
                let [a, b, c, d] = turn.matrix().map(i64::from);
                assert_eq!(Orientation::from_matrix(a, b, c, d), Some(turn));
            }
        }
    }
}
