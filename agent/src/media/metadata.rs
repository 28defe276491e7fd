//! What a picture file carries beside its pixels: EXIF, colour profile, XMP. Pure.
//!
//! ffmpeg hands some of it on for some formats, and turns by it for others; so it is read here,
//! alike for all of them. Files are not trusted: whatever makes no sense is as if it were not there.

use super::exif;

/// A decompressed profile or text may be so large.
const INFLATED_BYTES_MAX: usize = 16 << 20;
pub(super) const PNG_MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";
const XMP_KEYWORD: &[u8] = b"XML:com.adobe.xmp\0";

/// What pictures carry besides pixels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// EXIF, as a TIFF file.
    pub exif: Vec<u8>,
    /// ICC profile.
    pub profile: Vec<u8>,
    /// XMP.
    pub xmp: Vec<u8>,
    /// Four channels of ink, whose colours only their profile tells.
    pub is_cmyk: bool,
    /// Texts that only PNG files have.
    pub has_texts: bool,
}

impl Metadata {
    /// What a file carries; nothing for formats that are not known.
    pub fn of(source: &[u8]) -> Metadata {
        if source.starts_with(PNG_MAGIC) {
            of_png(source)
        } else if source.starts_with(b"\xff\xd8") {
            of_jpeg(source)
        } else if source.starts_with(b"RIFF") {
            of_webp(source)
        } else if source.starts_with(b"II*\0") || source.starts_with(b"MM\0*") {
            of_tiff(source)
        } else if source.starts_with(b"8BPS") {
            let is_cmyk = source.get(24..26) == Some(&[0, 4]);
            Metadata { is_cmyk, ..Metadata::default() }
        } else {
            Metadata::default()
        }
    }

    /// How the picture must be turned, 1 to 8, as EXIF counts; 1 where nothing is said.
    pub fn orientation(&self) -> u16 {
        exif::orientation(&self.exif).filter(|turn| (1..=8).contains(turn)).unwrap_or(1)
    }

    /// The pixels stand upright now, and the tags say so.
    pub fn set_upright(&mut self) {
        exif::set_upright(&mut self.exif);
        let key = b"tiff:Orientation";
        for at in positions(&self.xmp, key) {
            let after = at + key.len();
            // `="6"` or `>6<`.
            let digit = self.xmp.iter_mut().skip(after).take(3).find(|byte| byte.is_ascii_digit());
            if let Some(digit) = digit {
                *digit = b'1';
            }
        }
    }

    /// Removes where the picture was taken.
    pub fn strip_gps(&mut self) {
        exif::strip_gps(&mut self.exif);
        self.xmp = xmp_without_gps(&self.xmp).unwrap_or_default();
    }

    /// The colours that the profile is for: `RGB `, `GRAY`, `CMYK`.
    pub fn profile_space(&self) -> Option<[u8; 4]> {
        self.profile.get(16..20)?.try_into().ok()
    }
}

fn positions(text: &[u8], part: &[u8]) -> Vec<usize> {
    let windows = text.windows(part.len()).enumerate();
    windows.filter(|(_, window)| *window == part).map(|(at, _)| at).collect()
}

/// The text without `exif:GPS…` attributes and elements; `None` where some may be left.
fn xmp_without_gps(xmp: &[u8]) -> Option<Vec<u8>> {
    let mut text = std::str::from_utf8(xmp).ok()?.to_owned();
    while let Some(at) = text.find("exif:GPS") {
        let name: String =
            text[at..].chars().take_while(|c| c.is_alphanumeric() || *c == ':').collect();
        let after = at + name.len();
        if text[..at].ends_with('<') {
            let end = format!("</{name}>");
            let tag_end = after + text[after..].find('>')?;
            let to = if text[..tag_end].ends_with('/') {
                tag_end + 1
            } else {
                after + text[after..].find(&end)? + end.len()
            };
            text.replace_range(at - 1..to, "");
        } else {
            let quote = text[after..].strip_prefix('=')?.chars().next()?;
            if quote != '"' && quote != '\'' {
                return None;
            }
            let value = after + 2;
            let to = value + text[value..].find(quote)? + 1;
            text.replace_range(at..to, "");
        }
    }
    (!text.contains("GPS")).then(|| text.into_bytes())
}

fn of_jpeg(source: &[u8]) -> Metadata {
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
            // A frame header: after depth and size, the number of components.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                metadata.is_cmyk = data.get(5) == Some(&4);
            }
            _ => {}
        }
        at += 2 + length.max(2);
    }
    metadata
}

fn of_webp(source: &[u8]) -> Metadata {
    let mut metadata = Metadata::default();
    for (name, data) in super::webp::chunks(source) {
        match &name {
            b"EXIF" => metadata.exif = data.strip_prefix(b"Exif\0\0").unwrap_or(data).to_vec(),
            b"ICCP" => metadata.profile = data.to_vec(),
            b"XMP " => metadata.xmp = data.to_vec(),
            _ => {}
        }
    }
    metadata
}

fn of_png(source: &[u8]) -> Metadata {
    let mut metadata = Metadata::default();
    for (name, data) in super::picture::png_chunks(source) {
        match &name {
            b"eXIf" => metadata.exif = data,
            b"iCCP" => metadata.profile = inflated_after_name(&data).unwrap_or_default(),
            b"iTXt" if data.starts_with(XMP_KEYWORD) => {
                metadata.xmp = xmp_of_text(&data).unwrap_or_default();
            }
            b"tEXt" | b"zTXt" | b"iTXt" => metadata.has_texts = true,
            _ => {}
        }
    }
    metadata
}

fn inflate(data: &[u8]) -> Option<Vec<u8>> {
    miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(data, INFLATED_BYTES_MAX).ok()
}

/// A name, its end, the method of compression, what was compressed.
fn inflated_after_name(data: &[u8]) -> Option<Vec<u8>> {
    let end = data.iter().take(80).position(|byte| *byte == 0)?;
    inflate(data.get(end + 2..)?)
}

/// Keyword, whether it is compressed, method, language, translated keyword, text.
fn xmp_of_text(data: &[u8]) -> Option<Vec<u8>> {
    let rest = data.strip_prefix(XMP_KEYWORD)?;
    let (&compressed, rest) = rest.split_first()?;
    let mut parts = rest.get(1..)?.splitn(3, |byte| *byte == 0);
    let text = parts.nth(2)?;
    if compressed == 1 { inflate(text) } else { Some(text.to_vec()) }
}

fn of_tiff(source: &[u8]) -> Metadata {
    const INK: u16 = 5;
    let Some(facts) = exif::of_tiff(source) else { return Metadata::default() };
    let exif::TiffFacts { exif, profile, xmp, photometric } = facts;
    Metadata { exif, profile, xmp, is_cmyk: photometric == Some(INK), has_texts: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_picture_was_taken_leaves_the_xmp() {
        let xmp =
            br#"<x exif:GPSLatitude="52,1N" a="1"><exif:GPSAltitude>3</exif:GPSAltitude><b/></x>"#;
        let stripped = xmp_without_gps(xmp).unwrap();
        assert_eq!(String::from_utf8(stripped).unwrap(), r#"<x  a="1"><b/></x>"#);
        assert_eq!(xmp_without_gps(b"<x other:GPSPlace=\"1\"/>"), None, "all of it goes");
        assert_eq!(xmp_without_gps(b"<x exif:GPSLatitude=1"), None);
    }

    #[test]
    fn the_orientation_in_xmp_is_reset() {
        let mut metadata =
            Metadata { xmp: b"<x tiff:Orientation=\"6\"/>".to_vec(), ..Metadata::default() };
        metadata.set_upright();
        assert_eq!(metadata.xmp, b"<x tiff:Orientation=\"1\"/>");
    }

    #[test]
    fn broken_sources_give_nothing() {
        for source in [
            &b""[..],
            b"\xff\xd8\xff\xe1\xff\xff",
            b"RIFF",
            PNG_MAGIC,
            b"RIFF1234WEBPEXIF\xff\xff\xff\xff",
            b"II*\0\xff\xff\xff\xff",
        ] {
            assert_eq!(Metadata::of(source), Metadata::default());
        }
    }

    #[test]
    fn ink_is_known_by_its_four_channels() {
        let jpeg = b"\xff\xd8\xff\xc0\0\x08\x08\0\x01\0\x01\x04\0\0";
        assert!(Metadata::of(jpeg).is_cmyk);
    }
}
