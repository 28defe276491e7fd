//! WebP files: their chunks, what they show, and how metadata gets into them. Pure.

use super::metadata::Metadata;

/// Flags of the `VP8X` chunk.
const HAS_PROFILE: u8 = 0x20;
const HAS_ALPHA: u8 = 0x10;
const HAS_EXIF: u8 = 0x08;
const HAS_XMP: u8 = 0x04;
const MOVES: u8 = 0x02;
/// Bytes of a frame before its picture.
const FRAME_HEAD_BYTES: usize = 16;

/// A chunk: its name and data.
pub(crate) type Chunk<'a> = ([u8; 4], &'a [u8]);

/// The chunks of a RIFF file, or of a part of one without its 12 first bytes.
fn split(mut rest: &[u8]) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    while let Some((head, data)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, length @ ..] = *head;
        let length = u32::from_le_bytes(length) as usize;
        let Some(content) = data.get(..length) else { break };
        chunks.push(([a, b, c, d], content));
        rest = data.get(length + length % 2..).unwrap_or_default();
    }
    chunks
}

/// The chunks of a WebP file; none of another file.
pub(crate) fn chunks(file: &[u8]) -> Vec<Chunk<'_>> {
    let is_webp = file.starts_with(b"RIFF") && file.get(8..12) == Some(b"WEBP");
    if is_webp { split(&file[12..]) } else { Vec::new() }
}

/// The chunks that are the pictures.
pub(crate) fn coded(file: &[u8]) -> Vec<Chunk<'_>> {
    let mut chunks = chunks(file);
    chunks.retain(|(name, _)| matches!(name, b"VP8 " | b"VP8L" | b"ALPH" | b"ANIM" | b"ANMF"));
    chunks
}

fn u24(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at + 3)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]))
}

/// Width, height, and whether the coded picture has transparency of its own.
fn coded_size((name, data): Chunk<'_>) -> Option<(u32, u32, bool)> {
    match &name {
        b"VP8 " => {
            let at = |at: usize| data.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes);
            Some((u32::from(at(6)? & 0x3fff), u32::from(at(8)? & 0x3fff), false))
        }
        b"VP8L" => {
            let bits = u32::from_le_bytes(data.get(1..5)?.try_into().ok()?);
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1, bits >> 28 & 1 == 1))
        }
        _ => None,
    }
}

/// The size of the whole picture, and whether it has transparency.
pub(crate) fn canvas(file: &[u8]) -> Option<(u32, u32, bool)> {
    let all = chunks(file);
    if let Some((_, data)) = all.iter().find(|(name, _)| name == b"VP8X") {
        let alpha = data.first()? & HAS_ALPHA != 0;
        return Some((u24(data, 4)? + 1, u24(data, 7)? + 1, alpha));
    }
    all.into_iter().find_map(coded_size)
}

/// The file with that metadata and no other; `None` when it is no WebP file.
pub(crate) fn with_metadata(file: &[u8], metadata: &Metadata) -> Option<Vec<u8>> {
    let (width, height, alpha) = canvas(file)?;
    let coded = coded(file);
    let moves = coded.iter().any(|(name, _)| name == b"ANIM");
    let mut flags = 0;
    for (flag, set) in [
        (HAS_PROFILE, !metadata.profile.is_empty()),
        (HAS_ALPHA, alpha),
        (HAS_EXIF, !metadata.exif.is_empty()),
        (HAS_XMP, !metadata.xmp.is_empty()),
        (MOVES, moves),
    ] {
        flags |= if set { flag } else { 0 };
    }
    let mut body = b"WEBP".to_vec();
    let needs_head = flags & !HAS_ALPHA != 0 || coded.len() > 1;
    if needs_head {
        push(&mut body, *b"VP8X", &head(flags, width, height))?;
    }
    if !metadata.profile.is_empty() {
        push(&mut body, *b"ICCP", &metadata.profile)?;
    }
    for (name, data) in coded {
        push(&mut body, name, data)?;
    }
    for (name, data) in [(b"EXIF", &metadata.exif), (b"XMP ", &metadata.xmp)] {
        if !data.is_empty() {
            push(&mut body, *name, data)?;
        }
    }
    riff(&body)
}

fn riff(body: &[u8]) -> Option<Vec<u8>> {
    let mut out = b"RIFF".to_vec();
    out.extend(u32::try_from(body.len()).ok()?.to_le_bytes());
    out.extend_from_slice(body);
    Some(out)
}

fn push(out: &mut Vec<u8>, name: [u8; 4], data: &[u8]) -> Option<()> {
    out.extend(name);
    out.extend(u32::try_from(data.len()).ok()?.to_le_bytes());
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(2), 0);
    Some(())
}

fn head(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let mut head = vec![flags, 0, 0, 0];
    for side in [width, height] {
        head.extend_from_slice(&side.saturating_sub(1).to_le_bytes()[..3]);
    }
    head
}

/// One picture of an animation: a part of the canvas.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
    pub duration_ms: u32,
    /// It is laid over what is there; otherwise it takes its place.
    pub blends: bool,
    /// Its place is made transparent before the next picture.
    pub is_cleared: bool,
    chunks: Vec<Chunk<'a>>,
}

impl Frame<'_> {
    /// The picture as a file of its own.
    pub fn alone(&self) -> Option<Vec<u8>> {
        let mut body = b"WEBP".to_vec();
        if self.chunks.len() > 1 {
            push(&mut body, *b"VP8X", &head(HAS_ALPHA, self.width, self.height))?;
        }
        for (name, data) in &self.chunks {
            push(&mut body, *name, data)?;
        }
        riff(&body)
    }
}

/// The pictures of an animation and how often they are played; `None` when it makes no sense.
pub(crate) fn frames(file: &[u8]) -> Option<(Vec<Frame<'_>>, u16)> {
    let (width, height, _) = canvas(file)?;
    let all = chunks(file);
    let (_, anim) = all.iter().find(|(name, _)| name == b"ANIM")?;
    let loops = u16::from_le_bytes(anim.get(4..6)?.try_into().ok()?);
    let mut frames = Vec::new();
    for (_, data) in all.iter().filter(|(name, _)| name == b"ANMF") {
        let flags = *data.get(15)?;
        let frame = Frame {
            x: u24(data, 0)? * 2,
            y: u24(data, 3)? * 2,
            width: u24(data, 6)? + 1,
            height: u24(data, 9)? + 1,
            duration_ms: u24(data, 12)?,
            blends: flags & 2 == 0,
            is_cleared: flags & 1 == 1,
            chunks: split(data.get(FRAME_HEAD_BYTES..)?)
                .into_iter()
                .filter(|(name, _)| matches!(name, b"VP8 " | b"VP8L" | b"ALPH"))
                .collect(),
        };
        let picture = frame.chunks.iter().find_map(|chunk| coded_size(*chunk))?;
        let is_sized = (picture.0, picture.1) == (frame.width, frame.height);
        let is_inside = frame.x + frame.width <= width && frame.y + frame.height <= height;
        if !is_sized || !is_inside {
            return None;
        }
        frames.push(frame);
    }
    Some((frames, loops))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lossless(width: u32, height: u32) -> Vec<u8> {
        let mut body = b"WEBP".to_vec();
        let bits = (width - 1) | (height - 1) << 14 | 1 << 28;
        push(&mut body, *b"VP8L", &[&[0x2f][..], &bits.to_le_bytes()].concat()).unwrap();
        riff(&body).unwrap()
    }

    #[test]
    fn metadata_gets_in_and_the_picture_stays() {
        let file = lossless(30, 20);
        assert_eq!(canvas(&file), Some((30, 20, true)));
        let metadata =
            Metadata { exif: vec![1], profile: vec![2; 3], xmp: vec![3], ..Metadata::default() };
        let with = with_metadata(&file, &metadata).unwrap();
        assert_eq!(coded(&with), coded(&file));
        assert_eq!(canvas(&with), Some((30, 20, true)));
        assert_eq!(Metadata::of(&with), metadata);
        let names: Vec<[u8; 4]> = chunks(&with).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [*b"VP8X", *b"ICCP", *b"VP8L", *b"EXIF", *b"XMP "]);
        assert_eq!(with_metadata(&with, &Metadata::default()).unwrap(), file);
    }

    #[test]
    fn broken_files_are_none() {
        for file in [&b""[..], b"RIFF\0\0\0\0WEBP", b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0"] {
            assert_eq!(canvas(file), None);
            assert!(frames(file).is_none());
            assert!(with_metadata(file, &Metadata::default()).is_none());
        }
    }
}
