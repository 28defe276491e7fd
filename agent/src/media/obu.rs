//! The header of an AV1 picture: its size and how its colours are stored. Pure.

/// An OBU type: a sequence header.
const SEQUENCE: u8 = 1;
/// An OBU type: the start of a picture, which pictures in files have not.
const DELIMITER: u8 = 2;

/// What a sequence header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub width: u32,
    pub height: u32,
    /// Bits of a component.
    pub depth: u8,
    pub monochrome: bool,
    profile: u8,
    level: u8,
    tier: u8,
    halved: (bool, bool),
    place: u8,
    /// Primaries, transfer, matrix: code points of ITU-T H.273.
    codes: (u8, u8, u8),
    full_range: bool,
}

impl Header {
    /// The content of an `av1C` box.
    pub fn configuration(&self) -> [u8; 4] {
        let bit = |set: bool, at: u8| u8::from(set) << at;
        let depth = bit(self.depth > 8, 6) | bit(self.depth > 10, 5);
        let colour = bit(self.monochrome, 4) | bit(self.halved.0, 3) | bit(self.halved.1, 2);
        let third = self.tier << 7 | depth | colour | self.place;
        [0x81, self.profile << 5 | self.level, third, 0]
    }

    /// The content of an `nclx` colour box. What is not said is what sRGB pictures have.
    pub fn colour_codes(&self) -> [u8; 7] {
        let or = |code: u8, usual: u8| if code == 2 { usual } else { code };
        let (primaries, transfer, matrix) = self.codes;
        let codes = [or(primaries, 1), or(transfer, 13), or(matrix, 6)];
        [0, codes[0], 0, codes[1], 0, codes[2], u8::from(self.full_range) << 7]
    }
}

/// Reads bits, the first is the highest.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut number = 0;
        for _ in 0..count {
            let byte = self.data.get(self.at / 8)?;
            number = number << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(number)
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.take(1)? == 1)
    }

    fn byte(&mut self, count: usize) -> Option<u8> {
        u8::try_from(self.take(count)?).ok()
    }
}

/// An OBU: its type and all its bytes.
type Unit<'a> = (u8, &'a [u8]);

/// The OBUs of a stream.
fn split(mut rest: &[u8]) -> Option<Vec<Unit<'_>>> {
    let mut found = Vec::new();
    while let Some(&head) = rest.first() {
        let (kind, has_more, has_size) = (head >> 3 & 15, head & 4 != 0, head & 2 != 0);
        if head & 0x80 != 0 || !has_size {
            return None;
        }
        let mut at = 1 + usize::from(has_more);
        let mut length = 0_usize;
        for shift in 0..4 {
            let byte = *rest.get(at)?;
            at += 1;
            length |= usize::from(byte & 0x7f) << (shift * 7);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let end = at.checked_add(length)?;
        found.push((kind, rest.get(..end)?));
        rest = rest.get(end..)?;
    }
    Some(found)
}

/// A stream without its delimiters, as files of pictures have it; `None` when it is no AV1.
pub(crate) fn undelimited(stream: &[u8]) -> Option<Vec<u8>> {
    let all = split(stream)?.into_iter().filter(|(kind, _)| *kind != DELIMITER);
    Some(all.flat_map(|(_, whole)| whole.iter().copied()).collect())
}

/// A stream that begins with a delimiter, as decoders want it.
pub(crate) fn delimited(picture: &[u8]) -> Vec<u8> {
    [&[DELIMITER << 3 | 2, 0], picture].concat()
}

/// What the sequence header of a picture says.
pub(crate) fn header(picture: &[u8]) -> Option<Header> {
    // A byte that is left over is no reason not to read what is whole.
    let first = picture.first()?;
    let is_sequence = first >> 3 & 15 == SEQUENCE && first & 2 != 0;
    let length = usize::from(*picture.get(1)?);
    let data = picture.get(2..2 + length).filter(|_| is_sequence && length < 128)?;
    sequence(&mut Bits { data, at: 0 })
}

fn sequence(bits: &mut Bits<'_>) -> Option<Header> {
    let profile = bits.byte(3)?;
    let _still = bits.flag()?;
    let reduced = bits.flag()?;
    let (level, tier) = if reduced { (bits.byte(5)?, 0) } else { operating_point(bits)? };
    let (across, down) = (bits.take(4)? as usize + 1, bits.take(4)? as usize + 1);
    let (width, height) = (bits.take(across)? + 1, bits.take(down)? + 1);
    if !reduced && bits.flag()? {
        bits.take(7)?; // lengths of frame numbers
    }
    bits.take(3)?; // large blocks, two filters inside frames
    if !reduced {
        tools_between_frames(bits)?;
    }
    bits.take(3)?; // scaling, two filters after decoding
    let mut header = colour(bits, profile)?;
    (header.width, header.height, header.level, header.tier) = (width, height, level, tier);
    Some(header)
}

/// Level and tier of the first one. Those of films with timing are not read.
fn operating_point(bits: &mut Bits<'_>) -> Option<(u8, u8)> {
    if bits.flag()? {
        return None;
    }
    let has_delay = bits.flag()?;
    let count = bits.take(5)? + 1;
    let mut first = None;
    for _ in 0..count {
        bits.take(12)?;
        let level = bits.byte(5)?;
        let tier = if level > 7 { bits.byte(1)? } else { 0 };
        if has_delay && bits.flag()? {
            bits.take(4)?;
        }
        first = first.or(Some((level, tier)));
    }
    first
}

fn tools_between_frames(bits: &mut Bits<'_>) -> Option<()> {
    bits.take(4)?; // compound and warped prediction, dual filters
    let has_order = bits.flag()?;
    if has_order {
        bits.take(2)?;
    }
    let screen = if bits.flag()? { 2 } else { bits.take(1)? };
    if screen > 0 && !bits.flag()? {
        bits.take(1)?;
    }
    if has_order {
        bits.take(3)?;
    }
    Some(())
}

fn colour(bits: &mut Bits<'_>, profile: u8) -> Option<Header> {
    let high = bits.flag()?;
    let twelve = profile == 2 && high && bits.flag()?;
    let depth = if twelve {
        12
    } else if high {
        10
    } else {
        8
    };
    let monochrome = profile != 1 && bits.flag()?;
    let codes =
        if bits.flag()? { (bits.byte(8)?, bits.byte(8)?, bits.byte(8)?) } else { (2, 2, 2) };
    let (full_range, halved) = if monochrome {
        (bits.flag()?, (true, true))
    } else if codes == (1, 13, 0) {
        (true, (false, false))
    } else {
        let full_range = bits.flag()?;
        let halved = match profile {
            0 => (true, true),
            1 => (false, false),
            _ if depth == 12 => {
                let across = bits.flag()?;
                (across, across && bits.flag()?)
            }
            _ => (true, false),
        };
        (full_range, halved)
    };
    let has_place = !monochrome && halved == (true, true);
    let place = if has_place { bits.byte(2)? } else { 0 };
    let (width, height, level, tier) = (0, 0, 0, 0);
    Some(Header {
        width,
        height,
        depth,
        monochrome,
        profile,
        level,
        tier,
        halved,
        place,
        codes,
        full_range,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The header of a picture of 1200×1800 pixels by libaom.
    pub(in crate::media) const SAMPLE: &[u8] =
        &[0x0a, 0x0a, 0x1a, 0x2a, 0xa5, 0x7f, 0x07, 0xe8, 0x81, 0x01, 0x02, 0x82];

    #[test]
    fn a_header_is_read() {
        let header = header(SAMPLE).unwrap();
        assert_eq!((header.width, header.height), (1200, 1800));
        assert_eq!((header.depth, header.monochrome, header.halved), (8, false, (true, true)));
    }

    #[test]
    fn delimiters_come_and_go() {
        let stream = [&[0x12, 0], SAMPLE].concat();
        assert_eq!(undelimited(&stream).unwrap(), SAMPLE);
        assert_eq!(delimited(SAMPLE), stream);
        assert_eq!(undelimited(b"\xff\xff"), None);
        assert_eq!(header(b""), None);
        assert_eq!(header(&SAMPLE[..5]), None);
    }
}
