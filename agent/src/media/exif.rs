//! EXIF data, which is a TIFF file without pixels: its orientation, its place, and how a real TIFF
//! file becomes one. Pure.

const ORIENTATION: u16 = 0x0112;
const PHOTOMETRIC: u16 = 0x0106;
const XMP: u16 = 0x02bc;
const PROFILE: u16 = 0x8773;
const EXIF_IFD: u16 = 0x8769;
const GPS_IFD: u16 = 0x8825;
/// What a TIFF file says about the photograph, not about how its pixels are stored.
const ABOUT: [u16; 13] = [
    0x010e,
    0x010f,
    0x0110,
    ORIENTATION,
    0x011a,
    0x011b,
    0x0128,
    0x0131,
    0x0132,
    0x013b,
    0x8298,
    EXIF_IFD,
    GPS_IFD,
];
const ENTRY_BYTES: usize = 12;
/// Entries of one directory that are read.
const ENTRIES_MAX: usize = 1_000;
/// Bytes of one value that are copied.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// The order of the bytes in a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    little: bool,
}

impl Order {
    fn of(tiff: &[u8]) -> Option<Order> {
        match tiff.get(..4)? {
            b"II*\0" => Some(Order { little: true }),
            b"MM\0*" => Some(Order { little: false }),
            _ => None,
        }
    }

    fn short(self, data: &[u8], at: usize) -> Option<u16> {
        let bytes = data.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn long(self, data: &[u8], at: usize) -> Option<usize> {
        let bytes = data.get(at..at.checked_add(4)?)?.try_into().ok()?;
        let number =
            if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) };
        usize::try_from(number).ok()
    }

    fn put_short(self, number: u16) -> [u8; 2] {
        if self.little { number.to_le_bytes() } else { number.to_be_bytes() }
    }

    fn put_long(self, number: usize) -> [u8; 4] {
        let number = u32::try_from(number).unwrap_or(0);
        if self.little { number.to_le_bytes() } else { number.to_be_bytes() }
    }
}

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
struct Entry {
    at: usize,
    tag: u16,
    kind: u16,
    count: usize,
    /// Where its value is, in the entry or elsewhere.
    value: usize,
    bytes: usize,
}

/// The entries of the directory at `at`, and where it says that the next one is.
fn directory(order: Order, data: &[u8], at: usize) -> Option<(Vec<Entry>, usize)> {
    let count = usize::from(order.short(data, at)?).min(ENTRIES_MAX);
    let mut entries = Vec::with_capacity(count);
    for number in 0..count {
        let at = at.checked_add(2 + number * ENTRY_BYTES)?;
        let (tag, kind) = (order.short(data, at)?, order.short(data, at + 2)?);
        let count = order.long(data, at + 4)?;
        let unit = match kind {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 => 8,
            _ => continue,
        };
        let bytes = count.checked_mul(unit)?;
        let value = if bytes <= 4 { at + 8 } else { order.long(data, at + 8)? };
        if data.get(value..value.checked_add(bytes)?).is_some() {
            entries.push(Entry { at, tag, kind, count, value, bytes });
        }
    }
    let next = order.long(data, at + 2 + count * ENTRY_BYTES).unwrap_or(0);
    Some((entries, next))
}

fn first(data: &[u8]) -> Option<(Order, usize)> {
    let order = Order::of(data)?;
    Some((order, order.long(data, 4)?))
}

fn find(order: Order, data: &[u8], at: usize, tag: u16) -> Option<Entry> {
    directory(order, data, at)?.0.into_iter().find(|entry| entry.tag == tag)
}

/// The orientation, where it is set.
pub(crate) fn orientation(exif: &[u8]) -> Option<u16> {
    let (order, at) = first(exif)?;
    order.short(exif, find(order, exif, at, ORIENTATION)?.value)
}

/// Sets the orientation to upright, where it is set at all.
pub(crate) fn set_upright(exif: &mut [u8]) -> Option<()> {
    let (order, at) = first(exif)?;
    for entry in directory(order, exif, at)?.0 {
        if entry.tag == ORIENTATION {
            exif.get_mut(entry.at + 8..entry.at + 10)?.copy_from_slice(&order.put_short(1));
        }
    }
    Some(())
}

/// Removes the directory of the place, and makes its bytes zero.
pub(crate) fn strip_gps(exif: &mut [u8]) -> Option<()> {
    let (order, mut at) = first(exif)?;
    // The picture's directory, and the thumbnail's.
    for _ in 0..2 {
        let (_, next) = directory(order, exif, at)?;
        while let Some(pointer) = find(order, exif, at, GPS_IFD) {
            if let Some(place) = order.long(exif, pointer.value) {
                wipe(order, exif, place);
            }
            remove(order, exif, at, pointer.at)?;
        }
        if next == 0 {
            break;
        }
        at = next;
    }
    Some(())
}

fn wipe(order: Order, exif: &mut [u8], at: usize) {
    let Some((entries, _)) = directory(order, exif, at) else { return };
    for entry in entries {
        for (from, bytes) in [(entry.value, entry.bytes), (entry.at, ENTRY_BYTES)] {
            if let Some(span) = exif.get_mut(from..from + bytes) {
                span.fill(0);
            }
        }
    }
    if let Some(count) = exif.get_mut(at..at + 2) {
        count.fill(0);
    }
}

/// Takes an entry out of a directory: those after it, and the position of the next directory, move
/// up.
fn remove(order: Order, exif: &mut [u8], directory: usize, entry: usize) -> Option<()> {
    let count = order.short(exif, directory)?;
    let end = directory.checked_add(2 + usize::from(count) * ENTRY_BYTES + 4)?.min(exif.len());
    let from = entry.checked_add(ENTRY_BYTES).filter(|from| *from <= end)?;
    exif.copy_within(from..end, entry);
    exif.get_mut(end - ENTRY_BYTES..end)?.fill(0);
    let fewer = order.put_short(count.checked_sub(1)?);
    exif.get_mut(directory..directory + 2)?.copy_from_slice(&fewer);
    Some(())
}

/// What a TIFF file says beside its pixels.
#[derive(Debug, Default)]
pub(crate) struct TiffFacts {
    pub exif: Vec<u8>,
    pub profile: Vec<u8>,
    pub xmp: Vec<u8>,
    pub photometric: Option<u16>,
}

/// Reads the first picture's directory.
pub(crate) fn of_tiff(tiff: &[u8]) -> Option<TiffFacts> {
    let (order, at) = first(tiff)?;
    let (entries, _) = directory(order, tiff, at)?;
    let value = |tag: u16| {
        let entry = entries.iter().find(|entry| entry.tag == tag)?;
        tiff.get(entry.value..entry.value + entry.bytes)
    };
    let mut exif = tiff.get(..4)?.to_vec();
    exif.extend(order.put_long(8));
    copy(order, tiff, at, Some(&ABOUT), &mut exif)?;
    let photometric = value(PHOTOMETRIC).and_then(|value| order.short(value, 0));
    let owned = |tag| value(tag).map(<[u8]>::to_vec).unwrap_or_default();
    Some(TiffFacts { exif, profile: owned(PROFILE), xmp: owned(XMP), photometric })
}

/// Copies a directory, with the values of its entries and the directories below it, to the end.
fn copy(
    order: Order,
    tiff: &[u8],
    at: usize,
    wanted: Option<&[u16]>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let (entries, _) = directory(order, tiff, at)?;
    let is_wanted = |entry: &&Entry| {
        entry.bytes <= VALUE_BYTES_MAX && wanted.is_none_or(|tags| tags.contains(&entry.tag))
    };
    let entries: Vec<&Entry> = entries.iter().filter(is_wanted).collect();
    out.extend(order.put_short(u16::try_from(entries.len()).ok()?));
    let table = out.len();
    out.resize(table + entries.len() * ENTRY_BYTES + 4, 0);
    for (number, entry) in entries.into_iter().enumerate() {
        let mut row = [0; ENTRY_BYTES];
        row[..2].copy_from_slice(&order.put_short(entry.tag));
        row[2..4].copy_from_slice(&order.put_short(entry.kind));
        row[4..8].copy_from_slice(&order.put_long(entry.count));
        let below = wanted.is_some() && matches!(entry.tag, EXIF_IFD | GPS_IFD);
        if below {
            let place = order.long(tiff, entry.value)?;
            row[8..].copy_from_slice(&order.put_long(out.len()));
            let before = out.len();
            if copy(order, tiff, place, None, out).is_none() {
                out.truncate(before);
                out.extend([0; 6]); // a directory without entries
            }
        } else if entry.bytes <= 4 {
            row[8..].copy_from_slice(tiff.get(entry.at + 8..entry.at + 12)?);
        } else {
            row[8..].copy_from_slice(&order.put_long(out.len()));
            out.extend_from_slice(tiff.get(entry.value..entry.value + entry.bytes)?);
            out.resize(out.len().next_multiple_of(2), 0);
        }
        let from = table + number * ENTRY_BYTES;
        out.get_mut(from..from + ENTRY_BYTES)?.copy_from_slice(&row);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tag: u16, kind: u16, count: u32, value: u32) -> Vec<u8> {
        let mut row = [tag.to_le_bytes(), kind.to_le_bytes()].concat();
        row.extend(count.to_le_bytes());
        row.extend(value.to_le_bytes());
        row
    }

    /// A maker's name, an orientation and a place: `SECRET!!`.
    fn sample() -> Vec<u8> {
        let mut exif = b"II*\0\x08\0\0\0\x03\0".to_vec();
        exif.extend(entry(0x010f, 2, 4, u32::from_le_bytes(*b"abc\0")));
        exif.extend(entry(ORIENTATION, 3, 1, 6));
        exif.extend(entry(GPS_IFD, 4, 1, 50));
        exif.extend([0; 4]);
        exif.extend(1_u16.to_le_bytes());
        exif.extend(entry(2, 2, 8, 68));
        exif.extend([0; 4]);
        exif.extend(b"SECRET!!");
        exif
    }

    #[test]
    fn the_orientation_is_reset() {
        let mut exif = sample();
        assert_eq!(orientation(&exif), Some(6));
        set_upright(&mut exif).unwrap();
        assert_eq!(orientation(&exif), Some(1));
        assert_eq!(set_upright(&mut b"II*\0\xff\xff\xff\xff".to_vec()), None);
        assert_eq!(set_upright(&mut Vec::new()), None);
    }

    #[test]
    fn the_place_goes_and_the_rest_stays() {
        let mut exif = sample();
        strip_gps(&mut exif).unwrap();
        assert!(!exif.windows(6).any(|window| window == b"SECRET"));
        let (order, at) = first(&exif).unwrap();
        let tags: Vec<u16> =
            directory(order, &exif, at).unwrap().0.iter().map(|entry| entry.tag).collect();
        assert_eq!(tags, [0x010f, ORIENTATION]);
        let before = exif.clone();
        strip_gps(&mut exif).unwrap();
        assert_eq!(exif, before);
    }

    #[test]
    fn a_tiff_file_hands_on_what_it_says_of_the_photograph() {
        let facts = of_tiff(&sample()).unwrap();
        assert_eq!(orientation(&facts.exif), Some(6));
        assert!(facts.exif.windows(8).any(|window| window == b"SECRET!!"));
        let mut stripped = facts.exif.clone();
        strip_gps(&mut stripped).unwrap();
        assert!(!stripped.windows(8).any(|window| window == b"SECRET!!"));
    }

    #[test]
    fn a_directory_that_points_at_itself_ends() {
        let mut exif = b"II*\0\x08\0\0\0\x01\0".to_vec();
        exif.extend(entry(GPS_IFD, 4, 1, 8));
        exif.extend(8_u32.to_le_bytes());
        strip_gps(&mut exif);
        of_tiff(&exif);
    }
}
