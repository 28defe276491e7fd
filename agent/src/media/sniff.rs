//! A first look at a file without ffmpeg: what it cannot be asked about safely.

use std::path::Path;

use tokio::io::AsyncReadExt;

use super::bounds;
use super::error::MediaError;

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sniffed {
    /// A picture, and the demuxer that reads it from its content alone. ffmpeg would choose by
    /// the file's name, and a name with `%d` in it would make it read other files.
    Picture(&'static str),
    /// Something that is known and cannot be read.
    Unsupported(&'static str),
    /// Anything else.
    Other,
}

const HEAD_BYTES: usize = 64 * 1024;

/// The file's size and what its first bytes say.
///
/// # Errors
/// [`MediaError::Refused`] for a missing or empty file, a directory or a device.
pub(crate) async fn look(path: &Path) -> Result<(u64, Sniffed), MediaError> {
    let metadata = tokio::fs::metadata(path).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            MediaError::refused(path, "there is no such file", "Check the name")
        }
        _ => MediaError::io("read", path, error),
    })?;
    if metadata.is_dir() {
        let next = "Give the files in it, as in DIR/*.mkv";
        return Err(MediaError::refused(path, "it is a directory", next));
    }
    if !metadata.is_file() {
        return Err(MediaError::refused(path, "it is not a regular file", "Give a file"));
    }
    if metadata.len() == 0 {
        return Err(MediaError::refused(path, "it is empty", "Copy it again"));
    }
    let file = tokio::fs::File::open(path).await.map_err(|e| MediaError::io("read", path, e))?;
    let mut head = Vec::with_capacity(HEAD_BYTES);
    file.take(HEAD_BYTES as u64)
        .read_to_end(&mut head)
        .await
        .map_err(|error| MediaError::io("read", path, error))?;
    if let Some((width, height)) = picture_size(&head) {
        bounds::check_picture(path, width, height)?;
    }
    Ok((metadata.len(), sniff(&head)))
}

/// What the header of a picture says of its size, where that is in a fixed place. ffmpeg only says
/// that it cannot decode a picture that it finds too large.
fn picture_size(head: &[u8]) -> Option<(u32, u32)> {
    let word = |at: usize| head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    let big = |at| word(at).map(u32::from_be_bytes);
    let little = |at| word(at).map(u32::from_le_bytes);
    match head {
        [0x89, b'P', b'N', b'G', ..] => Some((big(16)?, big(20)?)),
        [b'q', b'o', b'i', b'f', ..] => Some((big(4)?, big(8)?)),
        [b'8', b'B', b'P', b'S', ..] => Some((big(18)?, big(14)?)),
        // Older headers are shorter, and their numbers too small to matter. A picture that is
        // stored from top to bottom has a negative height.
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] if little(14)? >= 40 => {
            Some((little(18)?, little(22)?.cast_signed().unsigned_abs()))
        }
        _ => None,
    }
}

pub(super) fn sniff(head: &[u8]) -> Sniffed {
    let starts = |magic: &[u8]| head.starts_with(magic);
    let at = |offset: usize, magic: &[u8]| {
        head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
    };
    if starts(b"\x89PNG\r\n\x1a\n") {
        return if is_animated_png(head) { Sniffed::Other } else { Sniffed::Picture("png_pipe") };
    }
    if starts(b"\xff\xd8\xff") {
        // A stream of JPEG pictures begins the same way but is rare; one picture is the rule.
        return Sniffed::Picture("jpeg_pipe");
    }
    if starts(b"RIFF") && at(8, b"WEBP") {
        let animated = at(12, b"VP8X") && head.get(20).is_some_and(|flags| flags & 2 != 0);
        return if animated {
            Sniffed::Unsupported("an animated WebP")
        } else {
            Sniffed::Picture("webp_pipe")
        };
    }
    if at(4, b"ftyp") && head.get(8..12).is_some_and(is_still_brand) {
        return Sniffed::Unsupported("a HEIC or AVIF picture");
    }
    let pictures: [(&[u8], &str); 8] = [
        (b"II*\0", "tiff_pipe"),
        (b"MM\0*", "tiff_pipe"),
        (b"8BPS", "psd_pipe"),
        (b"qoif", "qoi_pipe"),
        (b"\x76\x2f\x31\x01", "exr_pipe"),
        (b"DDS ", "dds_pipe"),
        (b"\0\0\0\x0cjP  ", "j2k_pipe"),
        (b"\xff\x4f\xff\x51", "j2k_pipe"),
    ];
    if let Some((_, name)) = pictures.iter().find(|(magic, _)| starts(magic)) {
        return Sniffed::Picture(name);
    }
    if starts(b"\0\0\0\x0cJXL ") || starts(b"\xff\x0a") {
        return Sniffed::Picture("jpegxl_pipe");
    }
    if starts(b"BM") && at(6, b"\0\0\0\0") {
        return Sniffed::Picture("bmp_pipe");
    }
    Sniffed::Other
}

fn is_still_brand(brand: &[u8]) -> bool {
    matches!(brand, b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1")
        || matches!(brand, b"avif" | b"avis")
}

/// An animated PNG has an `acTL` chunk before its picture data.
fn is_animated_png(head: &[u8]) -> bool {
    let mut at = 8;
    while let Some(header) = head.get(at..at + 8) {
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        match &header[4..8] {
            b"acTL" => return true,
            b"IDAT" => return false,
            _ => at += 12 + length,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_picture_is_known_before_it_is_decoded() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        png.extend([100_000_u32.to_be_bytes(), 3_u32.to_be_bytes()].concat());
        assert_eq!(picture_size(&png), Some((100_000, 3)));
        let mut bmp = b"BM".to_vec();
        bmp.resize(14, 0);
        bmp.extend(40_u32.to_le_bytes());
        bmp.extend([5_i32.to_le_bytes(), (-7_i32).to_le_bytes()].concat());
        assert_eq!(picture_size(&bmp), Some((5, 7)));
        assert_eq!(picture_size(b"\x89PNG"), None);
    }

    #[test]
    fn pictures_are_told_by_their_first_bytes() {
        let cases: [(&[u8], Sniffed); 6] = [
            (b"\xff\xd8\xff\xe0", Sniffed::Picture("jpeg_pipe")),
            (b"\x89PNG\r\n\x1a\n\0\0\0\x04IDAT", Sniffed::Picture("png_pipe")),
            (b"\x89PNG\r\n\x1a\n\0\0\0\x08acTL", Sniffed::Other),
            (b"\0\0\0\x18ftypheic", Sniffed::Unsupported("a HEIC or AVIF picture")),
            (b"\0\0\0\x18ftypisom", Sniffed::Other),
            (b"", Sniffed::Other),
        ];
        for (head, expected) in cases {
            assert_eq!(sniff(head), expected, "{head:?}");
        }
    }
}
