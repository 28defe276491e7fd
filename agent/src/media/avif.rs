//! AVIF files: an AV1 picture, another one for its transparency, and metadata, in boxes. Pure.
//!
//! ffmpeg writes AVIF since 5.1, without transparency, profile or EXIF, and older ones read none; so
//! the boxes are made here around what its encoder gives.

use super::metadata::Metadata;
use super::obu::{self, Header};

const ALPHA: &[u8] = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0";
/// What items are numbered.
const COLOUR_ITEM: u16 = 1;
const ALPHA_ITEM: u16 = 2;
const EXIF_ITEM: u16 = 3;
const XMP_ITEM: u16 = 4;

/// The coded pictures of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Avif {
    pub colour: Vec<u8>,
    pub alpha: Option<Vec<u8>>,
}

fn boxed(name: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let length = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut out = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    out.extend_from_slice(name);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// An item of the file: its number, type, and bytes.
struct Item<'a> {
    number: u16,
    info: Vec<u8>,
    parts: Vec<&'a [u8]>,
}

/// A file with those pictures and that metadata; `None` when the pictures are no AV1.
pub(crate) fn write(pictures: &Avif, metadata: &Metadata) -> Option<Vec<u8>> {
    let colour = obu::header(&pictures.colour)?;
    let alpha = match &pictures.alpha {
        Some(alpha) => Some((alpha.as_slice(), obu::header(alpha)?)),
        None => None,
    };
    let mut items = vec![item(COLOUR_ITEM, b"av01", b"", vec![&pictures.colour])];
    items.extend(alpha.iter().map(|(data, _)| item(ALPHA_ITEM, b"av01", b"", vec![data])));
    if !metadata.exif.is_empty() {
        // First how far the TIFF header is away.
        items.push(item(EXIF_ITEM, b"Exif", b"", vec![&[0; 4], &metadata.exif]));
    }
    if !metadata.xmp.is_empty() {
        let kind = b"application/rdf+xml\0";
        items.push(item(XMP_ITEM, b"mime", kind, vec![&metadata.xmp]));
    }
    let file_type = boxed(b"ftyp", &[b"avif\0\0\0\0avifmif1miaf"]);
    // The positions of the items follow from the length of what comes before them.
    let length = meta(&items, 0, &colour, alpha.as_ref().map(|(_, h)| h), metadata).len();
    let base = file_type.len() + length + 8;
    let meta = meta(&items, base, &colour, alpha.as_ref().map(|(_, h)| h), metadata);
    let data: Vec<&[u8]> = items.iter().flat_map(|item| item.parts.iter().copied()).collect();
    Some([file_type, meta, boxed(b"mdat", &data)].concat())
}

fn item<'a>(number: u16, kind: &[u8; 4], more: &[u8], parts: Vec<&'a [u8]>) -> Item<'a> {
    let info = boxed(b"infe", &[&[2, 0, 0, 0], &number.to_be_bytes(), &[0, 0], kind, b"\0", more]);
    Item { number, info, parts }
}

fn meta(
    items: &[Item<'_>],
    base: usize,
    colour: &Header,
    alpha: Option<&Header>,
    metadata: &Metadata,
) -> Vec<u8> {
    const PLAIN: &[u8] = &[0; 4];
    let count = u16::try_from(items.len()).unwrap_or(0).to_be_bytes();
    let handler = boxed(b"hdlr", &[PLAIN, &[0; 4], b"pict", &[0; 13]]);
    let primary = boxed(b"pitm", &[PLAIN, &COLOUR_ITEM.to_be_bytes()]);
    let mut places = vec![0x44, 0];
    places.extend(count);
    let mut at = base;
    for item in items {
        let length: usize = item.parts.iter().map(|part| part.len()).sum();
        places.extend(item.number.to_be_bytes());
        places.extend([0, 0, 0, 1]);
        for number in [at, length] {
            places.extend(u32::try_from(number).unwrap_or(0).to_be_bytes());
        }
        at += length;
    }
    let places = boxed(b"iloc", &[PLAIN, &places]);
    let infos: Vec<u8> = items.iter().flat_map(|item| item.info.iter().copied()).collect();
    let infos = boxed(b"iinf", &[PLAIN, &count, &infos]);
    let mut references = Vec::new();
    for item in items.iter().filter(|item| item.number != COLOUR_ITEM) {
        let kind = if item.number == ALPHA_ITEM { b"auxl" } else { b"cdsc" };
        let pair = [item.number.to_be_bytes(), [0, 1], COLOUR_ITEM.to_be_bytes()].concat();
        references.extend(boxed(kind, &[&pair]));
    }
    let mut parts = vec![PLAIN.to_vec(), handler, primary, places, infos];
    if !references.is_empty() {
        parts.push(boxed(b"iref", &[PLAIN, &references]));
    }
    parts.push(properties(colour, alpha, metadata));
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    boxed(b"meta", &parts)
}

/// The properties of the pictures, and which picture has which.
fn properties(colour: &Header, alpha: Option<&Header>, metadata: &Metadata) -> Vec<u8> {
    const NEEDED: u8 = 0x80;
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut add = |property: Vec<u8>| {
        all.push(property);
        u8::try_from(all.len()).unwrap_or(0)
    };
    let size = [colour.width.to_be_bytes(), colour.height.to_be_bytes()].concat();
    let size = add(boxed(b"ispe", &[&[0; 4], &size]));
    let mut of_colour = vec![
        size,
        add(depths(colour)),
        NEEDED | add(boxed(b"av1C", &[&colour.configuration()])),
        add(boxed(b"colr", &[b"nclx", &colour.colour_codes()])),
    ];
    if !metadata.profile.is_empty() {
        of_colour.push(add(boxed(b"colr", &[b"prof", &metadata.profile])));
    }
    let of_alpha = alpha.map(|alpha| {
        vec![
            size,
            add(depths(alpha)),
            NEEDED | add(boxed(b"av1C", &[&alpha.configuration()])),
            add(boxed(b"auxC", &[&[0; 4], ALPHA])),
        ]
    });
    let mut ties = vec![0, 0, 0, 1 + u8::from(of_alpha.is_some())];
    let pairs = [(COLOUR_ITEM, Some(of_colour)), (ALPHA_ITEM, of_alpha)];
    for (item, properties) in pairs {
        let Some(properties) = properties else { continue };
        ties.extend(item.to_be_bytes());
        ties.push(u8::try_from(properties.len()).unwrap_or(0));
        ties.extend(properties);
    }
    let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
    boxed(b"iprp", &[&boxed(b"ipco", &all), &boxed(b"ipma", &[&[0; 4], &ties])])
}

fn depths(header: &Header) -> Vec<u8> {
    let channels = if header.monochrome { 1 } else { 3 };
    let mut content = vec![0, 0, 0, 0, channels];
    content.resize(5 + usize::from(channels), header.depth);
    boxed(b"pixi", &[&content])
}

/// The boxes in a span: name and content. Stops at what makes no sense.
fn boxes(mut rest: &[u8]) -> Vec<([u8; 4], &[u8])> {
    let mut found = Vec::new();
    while let Some((head, _)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, name @ ..] = *head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(content) = rest.get(8..length) else { break };
        found.push((name, content));
        rest = rest.get(length..).unwrap_or_default();
    }
    found
}

fn child<'a>(content: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(content).into_iter().find(|(found, _)| found == name).map(|(_, content)| content)
}

/// The coded pictures of a file that [`write`] made; `None` for any other.
pub(crate) fn read(file: &[u8]) -> Option<Avif> {
    let meta = child(file, b"meta")?.get(4..)?;
    let places = child(meta, b"iloc")?.strip_prefix(&[0, 0, 0, 0, 0x44, 0])?;
    let (count, mut rows) = places.split_first_chunk::<2>()?;
    let mut avif = Avif { colour: Vec::new(), alpha: None };
    for _ in 0..u16::from_be_bytes(*count) {
        let (row, rest) = rows.split_first_chunk::<14>()?;
        rows = rest;
        let number = u16::from_be_bytes([row[0], row[1]]);
        let at = u32::from_be_bytes([row[6], row[7], row[8], row[9]]) as usize;
        let length = u32::from_be_bytes([row[10], row[11], row[12], row[13]]) as usize;
        let data = file.get(at..at.checked_add(length)?)?;
        match number {
            COLOUR_ITEM => avif.colour = data.to_vec(),
            ALPHA_ITEM => avif.alpha = Some(data.to_vec()),
            _ => {}
        }
    }
    (!avif.colour.is_empty()).then_some(avif)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let colour = obu::tests::SAMPLE.to_vec();
        let pictures = Avif { alpha: Some([&colour[..], &[9]].concat()), colour };
        let metadata = Metadata { exif: vec![1; 9], xmp: vec![2; 9], ..Metadata::default() };
        let file = write(&pictures, &metadata).unwrap();
        assert_eq!(read(&file), Some(pictures));
        assert!(file.windows(13).any(|part| part == [&[0; 4][..], &[1; 9]].concat()));
    }

    #[test]
    fn what_is_no_picture_is_none() {
        let nothing = Avif { colour: b"nothing".to_vec(), alpha: None };
        assert_eq!(write(&nothing, &Metadata::default()), None);
        for file in [&b""[..], b"\0\0\0\x08meta", b"\0\0\0\x0cmeta\0\0\0\0", b"\0\0\0\0"] {
            assert_eq!(read(file), None);
        }
    }
}
