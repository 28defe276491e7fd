//! Writes colour and HDR data into the header of an MP4 or QuickTime file that was just encoded.
//!
//! ffmpeg 5.1 loses the range of QuickTime files, colour that is only partly known, and mastering
//! display and content light on every encode. FFV1 has no place of its own for any of them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use dmc_protocol::media::{Colour, ContentLight, MasteringDisplay, VideoSettings};

use super::error::MediaError;
use super::streams::Orientation;

/// A header larger than this is not one of ours.
const HEADER_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// H.273: unspecified.
const UNSPECIFIED: u8 = 2;
/// Bytes of a video sample entry before its boxes.
const ENTRY_BYTES: usize = 8 + 78;
/// The boxes that lead to the sample entries.
const WAY: [&[u8; 4]; 5] = [b"trak", b"mdia", b"minf", b"stbl", b"stsd"];

/// Adds the boxes that the settings ask for. The header is at the end of the file, so that nothing
/// else moves.
///
/// # Errors
/// When the file cannot be read or written, or is not as ffmpeg writes it.
pub(crate) async fn mark(path: &Path, settings: &VideoSettings) -> Result<(), MediaError> {
    let boxes = boxes(settings);
    if boxes.is_empty() {
        return Ok(());
    }
    let file = path.to_owned();
    let done = tokio::task::spawn_blocking(move || append(&file, &boxes)).await;
    let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| MediaError::io("write", path, error))
}

fn boxes(settings: &VideoSettings) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(colr(&settings.colour));
    out.extend(settings.mastering.iter().flat_map(mdcv));
    out.extend(settings.light.iter().flat_map(clli));
    out
}

fn one_box(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 8).unwrap_or(8);
    [&length.to_be_bytes()[..], name, data].concat()
}

fn colr(colour: &Colour) -> Vec<u8> {
    let Colour { full_range, primaries, transfer, matrix, .. } = *colour;
    if full_range.is_none() && primaries.is_none() && transfer.is_none() && matrix.is_none() {
        return Vec::new();
    }
    let mut data = b"nclx".to_vec();
    for code in [primaries, transfer, matrix] {
        data.extend(u16::from(code.unwrap_or(UNSPECIFIED)).to_be_bytes());
    }
    data.push(u8::from(full_range == Some(true)) << 7);
    one_box(b"colr", &data)
}

fn mdcv(display: &MasteringDisplay) -> Vec<u8> {
    let [red, green, blue] = display.primaries;
    let mut data = Vec::new();
    for (x, y) in [green, blue, red, display.white] {
        data.extend(x.to_be_bytes());
        data.extend(y.to_be_bytes());
    }
    data.extend(display.luminance_max.to_be_bytes());
    data.extend(display.luminance_min.to_be_bytes());
    one_box(b"mdcv", &data)
}

fn clli(light: &ContentLight) -> Vec<u8> {
    let data = [light.max_cll.to_be_bytes(), light.max_fall.to_be_bytes()].concat();
    one_box(b"clli", &data)
}

/// Writes into a joined MP4 how its pictures are to be turned, which ffmpeg forgets on encoding.
///
/// # Errors
/// As [`mark`].
pub(crate) async fn turn(path: &Path, orientation: Orientation) -> Result<(), MediaError> {
    if orientation.is_upright() {
        return Ok(());
    }
    let file = path.to_owned();
    let done = tokio::task::spawn_blocking(move || write_matrix(&file, orientation)).await;
    let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| MediaError::io("write", path, error))
}

fn write_matrix(path: &Path, orientation: Orientation) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let (at, size) = find_header(&mut file, length)?;
    let mut header = read_header(&mut file, at, size)?;
    set_matrix(&mut header, orientation)
        .ok_or_else(|| io::Error::other("its header is not as ffmpeg writes it"))?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&header)
}

fn read_header(file: &mut File, at: u64, size: u64) -> io::Result<Vec<u8>> {
    if size > HEADER_BYTES_MAX {
        return Err(io::Error::other("its header is too long"));
    }
    let mut header = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take(size).read_to_end(&mut header)?;
    Ok(header)
}

/// Sets the matrix of the first track with the handler of pictures.
pub(super) fn set_matrix(header: &mut [u8], orientation: Orientation) -> Option<()> {
    let mut from = 8;
    let (track, size) = loop {
        let (track, size) = child(header, from..header.len(), b"trak")?;
        if is_pictures(header, track, size) {
            break (track, size);
        }
        from = track + size;
    };
    let (head, size) = child(header, track + 8..track + size, b"tkhd")?;
    // Times and lengths take 8 bytes instead of 4 in version 1.
    let fields = if *header.get(head + 8)? == 1 { 32 } else { 20 };
    let at = head + 8 + 4 + fields + 16;
    if at + 36 > head + size {
        return None;
    }
    let [a, b, c, d] = orientation.matrix().map(|n| n * 0x1_0000);
    let rows = [a, b, 0, c, d, 0, 0, 0, 0x4000_0000];
    for (number, value) in rows.into_iter().enumerate() {
        let from = at + number * 4;
        header.get_mut(from..from + 4)?.copy_from_slice(&value.to_be_bytes());
    }
    Some(())
}

fn is_pictures(header: &[u8], track: usize, size: usize) -> bool {
    let handler = child(header, track + 8..track + size, b"mdia")
        .and_then(|(media, size)| child(header, media + 8..media + size, b"hdlr"))
        .and_then(|(handler, _)| header.get(handler + 16..handler + 20));
    handler == Some(b"vide")
}

fn append(path: &Path, boxes: &[u8]) -> io::Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let (at, size) = find_header(&mut file, length)?;
    if at.checked_add(size) != Some(length) {
        return Err(io::Error::other("its header is not at its end"));
    }
    let header = read_header(&mut file, at, size)?;
    let header = insert(header, boxes)
        .ok_or_else(|| io::Error::other("its header is not as ffmpeg writes it"))?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&header)
}

/// Where the header begins and how long it is.
pub(super) fn find_header(file: &mut (impl Read + Seek), length: u64) -> io::Result<(u64, u64)> {
    let mut at = 0u64;
    while length.saturating_sub(at) >= 16 {
        let mut head = [0; 16];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head)?;
        let [a, b, c, d, name @ .., _, _, _, _, _, _, _, _] = head;
        let size = match u64::from(u32::from_be_bytes([a, b, c, d])) {
            1 => {
                let [.., e, f, g, h, i, j, k, l] = head;
                u64::from_be_bytes([e, f, g, h, i, j, k, l])
            }
            size => size,
        };
        if &name == b"moov" {
            return Ok((at, size));
        }
        match at.checked_add(size) {
            Some(next) if size >= 8 => at = next,
            _ => break,
        }
    }
    Err(io::Error::other("it has no header"))
}

/// Puts the boxes at the end of the first sample entry and makes everything around it longer.
pub(super) fn insert(mut header: Vec<u8>, boxes: &[u8]) -> Option<Vec<u8>> {
    let mut around = vec![0];
    let mut range = 8..header.len();
    for name in WAY {
        let (at, size) = child(&header, range, name)?;
        around.push(at);
        range = at + 8..at + size;
    }
    // The list of sample entries begins with its version and their number.
    let entry = range.start + 8;
    let size = size_at(&header, entry)?;
    if size < ENTRY_BYTES || entry + size > range.end {
        return None;
    }
    around.push(entry);
    for at in around {
        let longer = u32::try_from(size_at(&header, at)? + boxes.len()).ok()?;
        header.get_mut(at..at + 4)?.copy_from_slice(&longer.to_be_bytes());
    }
    header.splice(entry + size..entry + size, boxes.iter().copied());
    Some(header)
}

fn size_at(data: &[u8], at: usize) -> Option<usize> {
    let bytes = data.get(at..at + 4)?;
    usize::try_from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).ok()
}

fn child(data: &[u8], range: std::ops::Range<usize>, name: &[u8; 4]) -> Option<(usize, usize)> {
    let mut at = range.start;
    while at + 8 <= range.end {
        let size = size_at(data, at)?;
        if size < 8 || at + size > range.end {
            return None;
        }
        if &data[at + 4..at + 8] == name {
            return Some((at, size));
        }
        at += size;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_put_into_the_sample_entry() {
        let entry = one_box(b"FFV1", &[0; 78]);
        let mut inner = one_box(b"stsd", &[&[0; 8][..], &entry].concat());
        for name in [b"stbl", b"minf", b"mdia", b"trak"] {
            inner = one_box(name, &[one_box(b"free", &[]), inner].concat());
        }
        let header = one_box(b"moov", &inner);
        let light = ContentLight { max_cll: 1000, max_fall: 400 };
        let longer = insert(header.clone(), &clli(&light)).unwrap();
        assert_eq!(longer.len(), header.len() + 12);
        assert_eq!(size_at(&longer, 0), Some(longer.len()));
        assert!(longer.ends_with(b"clli\x03\xe8\x01\x90"));
        assert_eq!(insert(b"\0\0\0\x08moov".to_vec(), b"x"), None);
    }
}
