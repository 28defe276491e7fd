//! JPEG XL files: a bare codestream, or boxes around one, which can hold metadata. Pure.

use super::metadata::Metadata;

const SIGNATURE: &[u8] = b"\0\0\0\x0cJXL \r\n\x87\n";
const FILE_TYPE: &[u8] = b"\0\0\0\x14ftypjxl \0\0\0\0jxl ";
/// Boxes of metadata, of which a file gets new ones.
const METADATA: [&[u8; 4]; 4] = [b"Exif", b"xml ", b"jumb", b"brob"];

/// The boxes of a file: name and content. `None` for what is no list of boxes.
fn boxes(file: &[u8]) -> Option<Vec<([u8; 4], &[u8])>> {
    let mut rest = file.strip_prefix(SIGNATURE)?;
    let mut boxes = Vec::new();
    while !rest.is_empty() {
        let short = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let name = rest.get(4..8)?.try_into().ok()?;
        let (head, length) = match short {
            0 => (8, rest.len()),
            1 => (16, usize::try_from(u64::from_be_bytes(rest.get(8..16)?.try_into().ok()?)).ok()?),
            length => (8, length),
        };
        boxes.push((name, rest.get(head..length)?));
        rest = rest.get(length..)?;
    }
    Some(boxes)
}

fn push(out: &mut Vec<u8>, name: &[u8; 4], parts: &[&[u8]]) -> Option<()> {
    let length = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
    out.extend(u32::try_from(length).ok()?.to_be_bytes());
    out.extend_from_slice(name);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    Some(())
}

/// What is neither signature nor metadata: the picture.
pub(crate) fn coded(file: &[u8]) -> Vec<u8> {
    let Some(boxes) = boxes(file) else { return file.to_vec() };
    let picture = boxes.into_iter().filter(|(name, _)| matches!(name, b"jxlc" | b"jxlp"));
    picture.flat_map(|(_, data)| data.iter().copied()).collect()
}

/// The file with that EXIF and XMP and no other; the profile is in the codestream.
pub(crate) fn with_metadata(file: &[u8], metadata: &Metadata) -> Option<Vec<u8>> {
    let bare = file.starts_with(b"\xff\x0a");
    if bare && metadata.exif.is_empty() && metadata.xmp.is_empty() {
        return Some(file.to_vec());
    }
    let kept = if bare { vec![(*b"jxlc", file)] } else { boxes(file)? };
    let mut out = [SIGNATURE, FILE_TYPE].concat();
    for (name, data) in &kept {
        if name == b"jxll" {
            push(&mut out, name, &[data])?;
        }
    }
    if !metadata.exif.is_empty() {
        // First how far the TIFF header is away.
        push(&mut out, b"Exif", &[&[0; 4], &metadata.exif])?;
    }
    if !metadata.xmp.is_empty() {
        push(&mut out, b"xml ", &[&metadata.xmp])?;
    }
    for (name, data) in &kept {
        if !METADATA.contains(&name) && name != b"ftyp" && name != b"jxll" {
            push(&mut out, name, &[data])?;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_gets_around_the_picture() {
        let bare = b"\xff\x0apixels".to_vec();
        assert_eq!(with_metadata(&bare, &Metadata::default()).unwrap(), bare);
        let metadata = Metadata { exif: b"II*\0".to_vec(), ..Metadata::default() };
        let with = with_metadata(&bare, &metadata).unwrap();
        assert_eq!(coded(&with), bare);
        let names: Vec<[u8; 4]> = boxes(&with).unwrap().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [*b"ftyp", *b"Exif", *b"jxlc"]);
        // A second time the old ones go.
        assert_eq!(with_metadata(&with, &metadata).unwrap(), with);
        assert_eq!(with_metadata(b"nothing", &metadata), None);
        let cut = [SIGNATURE, b"\0\0\0\xffjxlc"].concat();
        assert_eq!(with_metadata(&cut, &metadata), None);
    }
}
