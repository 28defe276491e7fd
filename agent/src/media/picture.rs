//! Finishes a converted picture: its source's EXIF, colour profile and texts go into the PNG.

use std::path::Path;

use super::error::MediaError;

/// Sources larger than this are not searched for metadata.
const SOURCE_BYTES_MAX: u64 = 512 * 1024 * 1024;
const PNG_MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Chunks that a PNG source hands on.
const HANDED_ON: [&[u8; 4]; 10] =
    [b"eXIf", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tEXt", b"zTXt", b"iTXt", b"tIME"];
/// A profile replaces these simpler descriptions of colour.
const COLOUR: [&[u8; 4]; 4] = [b"iCCP", b"gAMA", b"cHRM", b"sRGB"];
const ORIENTATION_TAG: u16 = 0x0112;

/// A PNG chunk: its name and data.
pub(super) type Chunk = ([u8; 4], Vec<u8>);

/// Writes the picture to `out` with the metadata of its source. The pixels stand upright, so the
/// orientation in the EXIF data says so.
///
/// # Errors
/// When a file cannot be read or written. Metadata that makes no sense is left out.
pub(crate) async fn finish(source: &Path, media: &Path, out: &Path) -> Result<(), MediaError> {
    let read = |path: &Path| {
        let path = path.to_owned();
        async move { tokio::fs::read(&path).await.map_err(|e| MediaError::io("read", &path, e)) }
    };
    let png = read(media).await?;
    let metadata = tokio::fs::metadata(source).await;
    let small = metadata.is_ok_and(|metadata| metadata.len() <= SOURCE_BYTES_MAX);
    let chunks = if small { chunks_of(&read(source).await?) } else { Vec::new() };
    let finished = insert(&png, &chunks).unwrap_or(png);
    tokio::fs::write(out, finished).await.map_err(|error| MediaError::io("write", out, error))
}

pub(super) fn chunks_of(source: &[u8]) -> Vec<Chunk> {
    if source.starts_with(PNG_MAGIC) {
        let chunks = png_chunks(source).into_iter();
        return chunks.filter(|(name, _)| HANDED_ON.contains(&name)).map(upright).collect();
    }
    if source.starts_with(b"\xff\xd8") {
        return jpeg_metadata(source).chunks();
    }
    if source.starts_with(b"RIFF") {
        return webp_metadata(source).chunks();
    }
    Vec::new()
}

/// What pictures carry besides pixels.
#[derive(Default)]
struct Metadata {
    exif: Vec<u8>,
    profile: Vec<u8>,
    xmp: Vec<u8>,
}

impl Metadata {
    fn chunks(self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        if !self.profile.is_empty() {
            let mut data = b"ICC profile\0\0".to_vec();
            data.extend(zlib_stored(&self.profile));
            chunks.push((*b"iCCP", data));
        }
        if !self.exif.is_empty() {
            chunks.push(upright((*b"eXIf", self.exif)));
        }
        if !self.xmp.is_empty() {
            let mut data = b"XML:com.adobe.xmp\0\0\0\0\0".to_vec();
            data.extend(self.xmp);
            chunks.push((*b"iTXt", data));
        }
        chunks
    }
}

fn jpeg_metadata(source: &[u8]) -> Metadata {
    let mut metadata = Metadata::default();
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) =
        source.get(at..at + 4).and_then(|head| <&[u8; 4]>::try_from(head).ok())
    {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some(data) = source.get(at + 4..at + 2 + length.max(2)) else { break };
        match marker {
            // The picture itself begins.
            0xda => break,
            0xe1 => {
                if let Some(exif) = data.strip_prefix(b"Exif\0\0") {
                    metadata.exif = exif.to_vec();
                } else if let Some(xmp) = data.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0") {
                    metadata.xmp = xmp.to_vec();
                }
            }
            // A profile comes in numbered parts, in order.
            0xe2 => {
                let part = data.strip_prefix(b"ICC_PROFILE\0").and_then(|part| part.get(2..));
                metadata.profile.extend_from_slice(part.unwrap_or_default());
            }
            _ => {}
        }
        at += 2 + length.max(2);
    }
    metadata
}

fn webp_metadata(source: &[u8]) -> Metadata {
    let mut metadata = Metadata::default();
    let mut at = 12;
    while let Some(head) = source.get(at..at + 8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some(data) = source.get(at + 8..at + 8 + length) else { break };
        match &head[..4] {
            b"EXIF" => metadata.exif = data.strip_prefix(b"Exif\0\0").unwrap_or(data).to_vec(),
            b"ICCP" => metadata.profile = data.to_vec(),
            b"XMP " => metadata.xmp = data.to_vec(),
            _ => {}
        }
        at += 8 + length + length % 2;
    }
    metadata
}

fn png_chunks(png: &[u8]) -> Vec<Chunk> {
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
        colour || new.iter().any(|(other, _)| other == name && name != b"tEXt")
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

/// Sets the orientation in EXIF data to upright, where it is set at all.
fn upright((name, mut data): Chunk) -> Chunk {
    if &name == b"eXIf" {
        reset_orientation(&mut data);
    }
    (name, data)
}

fn reset_orientation(exif: &mut [u8]) -> Option<()> {
    let little = match exif.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let short = |at: usize, exif: &[u8]| {
        let bytes = [*exif.get(at)?, *exif.get(at + 1)?];
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let offset = exif.get(4..8)?;
    let offset = [offset[0], offset[1], offset[2], offset[3]];
    let first = if little { u32::from_le_bytes(offset) } else { u32::from_be_bytes(offset) };
    let first = usize::try_from(first).ok()?;
    for entry in 0..usize::from(short(first, exif)?) {
        let at = first.checked_add(2 + entry * 12)?;
        if short(at, exif)? == ORIENTATION_TAG {
            let one = if little { [1, 0] } else { [0, 1] };
            exif.get_mut(at + 8..at + 10)?.copy_from_slice(&one);
        }
    }
    Some(())
}

/// A zlib stream of blocks that are not compressed: profiles are small.
fn zlib_stored(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let mut blocks = data.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        out.push(u8::from(blocks.peek().is_none()));
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    let (mut a, mut b) = (1u32, 0u32);
    for byte in data {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    out.extend((b << 16 | a).to_be_bytes());
    out
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
        assert_eq!(&zlib_stored(b"abc")[10..], 0x024d_0127u32.to_be_bytes());
    }

    #[test]
    fn the_orientation_is_reset() {
        let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
        reset_orientation(&mut exif).unwrap();
        assert_eq!(exif[18], 1);
        assert_eq!(reset_orientation(&mut b"II*\0\xff\xff\xff\xff".to_vec()), None);
        assert_eq!(reset_orientation(&mut Vec::new()), None);
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

    #[test]
    fn broken_sources_give_nothing() {
        for source in [
            &b""[..],
            b"\xff\xd8\xff\xe1\xff\xff",
            b"RIFF",
            PNG_MAGIC,
            b"RIFF1234WEBPEXIF\xff\xff\xff\xff",
        ] {
            assert!(chunks_of(source).is_empty());
        }
    }
}
