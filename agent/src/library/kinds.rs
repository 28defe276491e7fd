//! What files are, by the ends of their names. It only spares looking into files that are no media
//! or of a kind that nobody wants; what a file really is, ffmpeg says.

use std::path::Path;

use dmc_protocol::media::MediaKind;

const VIDEO: &[&str] = &[
    "3g2", "3gp", "asf", "avi", "divx", "dv", "evo", "f4v", "flv", "m1v", "m2p", "m2t", "m2ts",
    "m2v", "m4v", "mjpeg", "mk3d", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mts", "mxf", "nut",
    "ogm", "ogv", "qt", "rm", "rmvb", "tod", "ts", "vob", "webm", "wmv", "wtv", "y4m",
];
const AUDIO: &[&str] = &[
    "aac", "ac3", "aif", "aifc", "aiff", "alac", "amr", "ape", "au", "caf", "dff", "dsf", "dts",
    "eac3", "flac", "m4a", "m4b", "mka", "mp2", "mp3", "mpc", "oga", "ogg", "opus", "ra", "shn",
    "spx", "tak", "tta", "wav", "wma", "wv",
];
const IMAGE: &[&str] = &[
    "apng", "avif", "bmp", "dds", "exr", "gif", "heic", "heif", "jfif", "jp2", "jpe", "jpeg",
    "jpg", "jxl", "png", "pnm", "ppm", "psd", "qoi", "tga", "tif", "tiff", "webp",
];

/// The kind that a name promises.
pub fn by_name(name: &Path) -> Option<MediaKind> {
    let end = name.extension()?.to_str()?.to_ascii_lowercase();
    let is = |list: &[&str]| list.contains(&end.as_str());
    match () {
        () if is(VIDEO) => Some(MediaKind::Video),
        () if is(AUDIO) => Some(MediaKind::Audio),
        () if is(IMAGE) => Some(MediaKind::Image),
        () => None,
    }
}

/// A kind as people say it.
pub fn article(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Video => "a film",
        MediaKind::Audio => "a sound",
        MediaKind::Image => "a picture",
    }
}
