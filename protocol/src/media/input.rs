//! The file formats that are read.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Demuxers of real containers. Playlists and scripts (`hls`, `dash`, `concat`, `sdp`, …) are left
/// out on purpose: they make ffmpeg read other files.
const KNOWN: [&str; 91] = [
    "matroska",
    "mov",
    "avi",
    "mpegts",
    "mpeg",
    "mpegvideo",
    "flv",
    "asf",
    "ogg",
    "nut",
    "mxf",
    "gxf",
    "rm",
    "wtv",
    "nsv",
    "dv",
    "ivf",
    "h264",
    "hevc",
    "m4v",
    "obu",
    "vc1",
    "h263",
    "h261",
    "mjpeg",
    "yuv4mpegpipe",
    "av1",
    "swf",
    "bink",
    "smk",
    "roq",
    "flic",
    "gif",
    "apng",
    "wav",
    "w64",
    "flac",
    "mp3",
    "aac",
    "ac3",
    "eac3",
    "dts",
    "dtshd",
    "truehd",
    "mlp",
    "ape",
    "tta",
    "wv",
    "aiff",
    "au",
    "caf",
    "amr",
    "amrnb",
    "amrwb",
    "mpc",
    "mpc8",
    "tak",
    "voc",
    "dsf",
    "oma",
    "qcp",
    "sox",
    "ircam",
    "shn",
    "xwma",
    "loas",
    "sbc",
    "gsm",
    "png_pipe",
    "jpeg_pipe",
    "webp_pipe",
    "bmp_pipe",
    "tiff_pipe",
    "psd_pipe",
    "exr_pipe",
    "dds_pipe",
    "qoi_pipe",
    "j2k_pipe",
    "jpegls_pipe",
    "jpegxl_pipe",
    "pbm_pipe",
    "pgm_pipe",
    "ppm_pipe",
    "pam_pipe",
    "pcx_pipe",
    "sgi_pipe",
    "sunrast_pipe",
    "dpx_pipe",
    "cavsvideo",
    "ea",
    "dirac",
];

/// A file format by the name of ffmpeg's demuxer, from a closed list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InputFormat(String);

impl InputFormat {
    /// The format of that name; of a list like `mov,mp4,m4a` the first. `None` when the closed
    /// list does not hold it.
    pub fn new(name: &str) -> Option<InputFormat> {
        let first = name.split(',').next().unwrap_or_default();
        KNOWN.contains(&first).then(|| InputFormat(first.to_owned()))
    }

    /// ffmpeg's name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether the name is on the list. A value that came over the wire may not be.
    pub fn is_known(&self) -> bool {
        KNOWN.contains(&self.0.as_str())
    }

    /// Every accepted name, for ffmpeg's `-format_whitelist`.
    pub fn whitelist() -> String {
        // A demuxer with several names is listed under each of them.
        format!("{},mp4,m4a,3gp,3g2,mj2,webm", KNOWN.join(","))
    }

    /// Whether the file is one still picture.
    pub fn is_still_picture(&self) -> bool {
        self.0.ends_with("_pipe")
    }

    /// Whether the file is a picture by its format that may move: GIF and animated PNG.
    pub fn is_moving_picture(&self) -> bool {
        matches!(&*self.0, "gif" | "apng")
    }
}

impl fmt::Display for InputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
