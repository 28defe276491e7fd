//! Finishes a converted picture: its source's EXIF, colour profile, XMP and texts go into it.

use std::path::Path;

use dmc_protocol::media::TaskSpec;

use super::error::MediaError;
use super::metadata::{Metadata, PNG_MAGIC};
use super::plan::Plan;
use super::verify_still;

/// Sources larger than this are not searched for metadata.
pub(super) const SOURCE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Chunks that a PNG source hands on.
const HANDED_ON: [&[u8; 4]; 10] =
    [b"eXIf", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tEXt", b"zTXt", b"iTXt", b"tIME"];
/// A profile replaces these simpler descriptions of colour.
const COLOUR: [&[u8; 4]; 4] = [b"iCCP", b"gAMA", b"cHRM", b"sRGB"];

/// A PNG chunk: its name and data.
pub(super) type Chunk = ([u8; 4], Vec<u8>);

/// Writes the picture to `out` with the metadata of its source. The pixels stand upright, so the
/// orientation in the metadata says so.
///
/// # Errors
/// When a file cannot be read or written. Metadata that makes no sense is left out.
pub(crate) async fn finish(
    plan: &Plan,
    source: &Path,
    media: &Path,
    out: &Path,
) -> Result<(), MediaError> {
    let read = |path: &Path| {
        let path = path.to_owned();
        async move { tokio::fs::read(&path).await.map_err(|e| MediaError::io("read", &path, e)) }
    };
    let picture = read(media).await?;
    let size = tokio::fs::metadata(source).await;
    let small = size.is_ok_and(|size| size.len() <= SOURCE_BYTES_MAX);
    let source = if small { read(source).await? } else { Vec::new() };
    let finished = match plan.tasks.first() {
        Some(TaskSpec::Still(task)) => {
            let metadata = handed_on(plan, &source);
            verify_still::with_metadata(task.encoder, &picture, &metadata)
                .ok_or_else(|| MediaError::wrong("the picture", "its file makes no sense"))?
        }
        _ => insert(&picture, &chunks_of(&source, plan.join.strip_gps)).unwrap_or(picture),
    };
    tokio::fs::write(out, finished).await.map_err(|error| MediaError::io("write", out, error))
}

/// The metadata that goes into another format.
fn handed_on(plan: &Plan, source: &[u8]) -> Metadata {
    use dmc_protocol::media::Container::Jxl;
    let mut metadata = Metadata::of(source);
    metadata.set_upright();
    if plan.join.strip_gps {
        metadata.strip_gps();
    }
    // WebP and AVIF of colours take a profile of colours only; libjxl got it with the pixels.
    let grey = match plan.tasks.first() {
        Some(TaskSpec::Still(task)) => task.pix_fmt.is_grey(),
        _ => false,
    };
    let wanted = if grey { *b"GRAY" } else { *b"RGB " };
    if metadata.profile_space() != Some(wanted) || plan.join.container == Jxl {
        metadata.profile.clear();
    }
    metadata
}

/// How often the pictures of a GIF or PNG file are played; 0 for ever.
pub(super) fn loops(file: &[u8]) -> u16 {
    if file.starts_with(PNG_MAGIC) {
        let chunks = png_chunks(file);
        let plays = chunks
            .iter()
            .find(|(name, _)| name == b"acTL")
            .and_then(|(_, data)| data.get(4..8)?.try_into().ok().map(u32::from_be_bytes));
        return plays.map_or(1, |plays| u16::try_from(plays).unwrap_or(0));
    }
    // After the name of the extension a block of three bytes: 1, and how often it is repeated.
    const NAME: &[u8] = b"NETSCAPE2.0\x03\x01";
    let Some(at) = file.windows(NAME.len()).position(|window| window == NAME) else { return 1 };
    match file.get(at + NAME.len()..at + NAME.len() + 2) {
        Some(&[0, 0]) | None => 0,
        Some(again) => u16::from_le_bytes([again[0], again[1]]).saturating_add(1),
    }
}

/// Whether a GIF or PNG file has one picture only. What is broken counts as more.
pub(super) fn is_one(file: &[u8]) -> bool {
    if file.starts_with(PNG_MAGIC) {
        let chunks = png_chunks(file);
        let moves = chunks.iter().find(|(name, _)| name == b"acTL");
        return moves.is_none_or(|(_, data)| data.get(..4) == Some(&[0, 0, 0, 1]));
    }
    gif_pictures(file) == Some(1)
}

/// The pictures of a GIF file, at most two.
/// Source: GIF89a specification, W3C, <https://www.w3.org/Graphics/GIF/spec-gif89a.txt>.
fn gif_pictures(file: &[u8]) -> Option<usize> {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + table(*file.get(10)?);
    let mut count = 0;
    while count < 2 {
        at = match *file.get(at)? {
            0x3b => return Some(count),
            0x21 => at + 2,
            0x2c => {
                count += 1;
                // Its place and size, its colours, and the width of its codes.
                at + 10 + table(*file.get(at + 9)?) + 1
            }
            _ => return None,
        };
        while let length @ 1.. = *file.get(at)? {
            at += 1 + usize::from(length);
        }
        at += 1;
    }
    Some(count)
}

pub(super) fn chunks_of(source: &[u8], strip_gps: bool) -> Vec<Chunk> {
    let mut metadata = Metadata::of(source);
    metadata.set_upright();
    if strip_gps {
        metadata.strip_gps();
    }
    let mut chunks = metadata_chunks(metadata);
    if source.starts_with(PNG_MAGIC) {
        let known: Vec<[u8; 4]> = chunks.iter().map(|(name, _)| *name).collect();
        // Texts may tell the place, too, and some cannot be read.
        let is_text = |name: &[u8; 4]| matches!(name, b"tEXt" | b"zTXt" | b"iTXt");
        let kept = png_chunks(source).into_iter().filter(|(name, data)| {
            let again = is_text(name) && !data.starts_with(b"XML:com.adobe.xmp\0");
            HANDED_ON.contains(&name)
                && (again || !known.contains(name))
                && !(strip_gps && (is_text(name) || matches!(name, b"eXIf")))
                && (name != b"iTXt" || again)
        });
        chunks.extend(kept);
    }
    chunks
}

fn metadata_chunks(metadata: Metadata) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    if !metadata.profile.is_empty() {
        let mut data = b"ICC profile\0\0".to_vec();
        data.extend(miniz_oxide::deflate::compress_to_vec_zlib(&metadata.profile, 6));
        chunks.push((*b"iCCP", data));
    }
    if !metadata.exif.is_empty() {
        chunks.push((*b"eXIf", metadata.exif));
    }
    if !metadata.xmp.is_empty() {
        let mut data = b"XML:com.adobe.xmp\0\0\0\0\0".to_vec();
        data.extend(metadata.xmp);
        chunks.push((*b"iTXt", data));
    }
    chunks
}

pub(super) fn png_chunks(png: &[u8]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut at = PNG_MAGIC.len();
    while let Some(head) = png.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(data) = png.get(at + 8..at + 8 + length) else { break };
        chunks.push(([head[4], head[5], head[6], head[7]], data.to_vec()));
        at += 12 + length;
    }
    chunks
}

/// The PNG with these chunks after its header; `None` when it is none or nothing is to be done.
pub(super) fn insert(png: &[u8], new: &[Chunk]) -> Option<Vec<u8>> {
    if !png.starts_with(PNG_MAGIC) || new.is_empty() {
        return None;
    }
    let brings_colour = new.iter().any(|(name, _)| COLOUR.contains(&name));
    let replaced = |name: &[u8; 4]| {
        let colour = brings_colour && COLOUR.contains(&name);
        colour || new.iter().any(|(other, _)| other == name && !name.ends_with(b"Xt"))
    };
    let mut out = PNG_MAGIC.to_vec();
    for (number, (name, data)) in png_chunks(png).into_iter().enumerate() {
        if number == 0 {
            write_chunk(&mut out, &name, &data);
            new.iter().for_each(|(name, data)| write_chunk(&mut out, name, data));
        } else if !replaced(&name) {
            write_chunk(&mut out, &name, &data);
        }
    }
    Some(out)
}

fn write_chunk(out: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    let Ok(length) = u32::try_from(data.len()) else { return };
    out.extend(length.to_be_bytes());
    let from = out.len();
    out.extend_from_slice(name);
    out.extend_from_slice(data);
    let crc = crc32(&out[from..]);
    out.extend(crc.to_be_bytes());
}

fn crc32(data: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    };
    !data.iter().fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_sums_are_the_known_ones() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn how_often_pictures_are_played() {
        assert_eq!(loops(b"GIF89a!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"), 0);
        assert_eq!(loops(b"GIF89a!\xff\x0bNETSCAPE2.0\x03\x01\x02\x00\x00"), 3);
        assert_eq!(loops(b"GIF89a"), 1);
    }

    #[test]
    fn a_profile_replaces_what_the_encoder_said_of_colour() {
        let mut png = PNG_MAGIC.to_vec();
        for name in [b"IHDR", b"gAMA", b"IDAT", b"IEND"] {
            write_chunk(&mut png, name, b"x");
        }
        let png = insert(&png, &[(*b"iCCP", vec![1])]).unwrap();
        let names: Vec<[u8; 4]> = png_chunks(&png).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [*b"IHDR", *b"iCCP", *b"IDAT", *b"IEND"]);
    }
}
