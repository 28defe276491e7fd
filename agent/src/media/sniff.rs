//! A first look at a file without ffmpeg: what it cannot be asked about safely.

use std::path::Path;

use tokio::io::AsyncReadExt;

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
    Ok((metadata.len(), sniff(&head)))
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
