//! Decides what is done to the pictures. Pure.

use dmc_protocol::media::options::Crop;
use dmc_protocol::media::{
    Codec, Colour, Container, Encoder, FieldOrder, Filter, PixFmt, Preset, Rational, VideoSettings,
    VideoWork,
};

use super::error::MediaError;
use super::shape::{codes_fields, crop, deinterlace, shrink, tone_mapping};
use super::streams::{Orientation, Pictures};

/// Pixel formats that FFV1 of ffmpeg 5.1 stores.
const FFV1: &[&str] = &[
    "yuv420p",
    "yuva420p",
    "yuva422p",
    "yuv444p",
    "yuva444p",
    "yuv440p",
    "yuv422p",
    "yuv411p",
    "yuv410p",
    "bgr0",
    "bgra",
    "yuv420p16le",
    "yuv422p16le",
    "yuv444p16le",
    "yuv444p9le",
    "yuv422p9le",
    "yuv420p9le",
    "yuv420p10le",
    "yuv422p10le",
    "yuv444p10le",
    "yuv420p12le",
    "yuv422p12le",
    "yuv444p12le",
    "yuva444p16le",
    "yuva422p16le",
    "yuva420p16le",
    "yuva444p10le",
    "yuva422p10le",
    "yuva420p10le",
    "yuva444p9le",
    "yuva422p9le",
    "yuva420p9le",
    "gray16le",
    "gray",
    "gbrp9le",
    "gbrp10le",
    "gbrp12le",
    "gbrp14le",
    "gbrap10le",
    "gbrap12le",
    "ya8",
    "gray10le",
    "gray12le",
    "gbrp16le",
    "rgb48le",
    "gbrap16le",
    "rgba64le",
    "gray9le",
    "yuv420p14le",
    "yuv422p14le",
    "yuv444p14le",
    "yuv440p10le",
    "yuv440p12le",
];

/// What is done to the pictures, and the turn that is left to the container.
///
/// # Errors
/// [`MediaError::Refused`] for pictures that no setting of ours can hold.
pub(crate) fn work(
    pictures: &Pictures,
    preset: &Preset,
    notes: &mut Vec<String>,
) -> Result<(VideoWork, Orientation), MediaError> {
    let mut exact = Vec::new();
    let mut filters = Vec::new();
    let mut colour = pictures.colour;
    let tone = tone_mapping(pictures, preset);
    let pix_fmt = if preset.encoder == Encoder::Ffv1 {
        lossless_format(pictures, &mut exact, notes)
    } else {
        lossy_format(pictures, (preset, tone), &mut filters, &mut colour, notes)
    };
    if tone.is_none() && pictures.pix_fmt.is_full_range_name() {
        colour.full_range = Some(true);
    }
    if pictures.hidden_alpha && !pictures.pix_fmt.has_alpha() {
        notes.push(
            "the transparency of this VP8/VP9 film is not decoded: it is left out".to_owned(),
        );
    }
    let kept = turn(pictures, preset, &mut exact, notes);
    let turned = exact.iter().any(|f| matches!(f, Filter::TurnLeft | Filter::TurnRight));
    let lists = (&mut exact, &mut filters);
    let (width, height) = size(pictures, preset, (&pix_fmt, turned), lists, notes)?;
    say_lost_hdr(pictures, preset, notes);
    let field_order = deinterlace(pictures, preset, &mut filters, notes);
    if field_order != FieldOrder::Progressive && !codes_fields(preset.encoder) {
        let encoder = preset.encoder;
        notes.push(format!("{encoder} has no interlaced coding: fields stay in whole frames"));
    }
    let settings = VideoSettings {
        encoder: preset.encoder,
        quality: preset.quality,
        speed: preset.speed,
        pix_fmt,
        colour,
        mastering: pictures.mastering.filter(|_| tone.is_none()),
        light: pictures.light.filter(|_| tone.is_none()),
        sample_aspect: pictures
            .sample_aspect
            .filter(in_aspect_range)
            .map(|sar| if turned { Rational::new(sar.den, sar.num) } else { sar }),
        field_order,
        frame_rate: pictures.frame_rate.filter(in_aspect_range),
    };
    let work = VideoWork {
        time_base: pictures.time_base,
        source_width: pictures.width,
        source_height: pictures.height,
        width,
        height,
        exact_filters: exact,
        filters,
        settings,
    };
    work.validate()?;
    Ok((work, kept))
}

/// Width and height of the result: turned, cropped, made smaller, made even.
fn size(
    pictures: &Pictures,
    preset: &Preset,
    (pix_fmt, turned): (&PixFmt, bool),
    (exact, filters): (&mut Vec<Filter>, &mut Vec<Filter>),
    notes: &mut Vec<String>,
) -> Result<(u32, u32), MediaError> {
    let flip = |size: (u32, u32)| if turned { (size.1, size.0) } else { size };
    let mut size = flip((pictures.width, pictures.height));
    if let Some(Crop::To { .. }) = preset.options.crop {
        size = crop(pictures, preset, size, exact, notes)?;
    }
    let most = (preset.options.max_width, preset.max_height);
    if let Some((width, height)) = shrink(size, most) {
        size = (width, height);
        filters.insert(0, Filter::Scale { width, height });
    }
    if preset.encoder != Encoder::Ffv1 {
        size = make_even(pix_fmt, size, filters, notes);
    }
    Ok(size)
}

fn in_aspect_range(ratio: &Rational) -> bool {
    let part = |n: u32| (1..=1_000_000).contains(&n);
    part(ratio.num) && part(ratio.den)
}

/// Whether the values use the full range.
pub(crate) fn is_full_range(pictures: &Pictures) -> bool {
    pictures.pix_fmt.is_full_range_name()
        || pictures.pix_fmt.is_rgb()
        || pictures.colour.full_range == Some(true)
}

/// The FFV1 format that holds every pixel of the source's format.
fn exact_format(name: &str) -> Option<&str> {
    if FFV1.contains(&name) {
        return Some(name);
    }
    Some(match name {
        "yuvj420p" | "nv12" | "nv21" => "yuv420p",
        "yuvj422p" | "yuyv422" | "uyvy422" | "yvyu422" | "nv16" => "yuv422p",
        "yuvj444p" | "nv24" => "yuv444p",
        "yuvj440p" => "yuv440p",
        "yuvj411p" => "yuv411p",
        "pal8" | "rgba" | "argb" | "abgr" | "gbrap" => "bgra",
        "rgb24" | "bgr24" | "gbrp" | "0bgr" | "0rgb" | "rgb0" | "rgb555le" | "rgb565le" => "bgr0",
        "rgb48be" => "rgb48le",
        "rgba64be" => "rgba64le",
        "monob" | "monow" => "gray",
        "gray16be" => "gray16le",
        "gray14le" => "gray16le",
        "p010le" => "yuv420p10le",
        "p016le" => "yuv420p16le",
        "y210le" => "yuv422p10le",
        "yuva444p12le" => "yuva444p16le",
        "yuva422p12le" => "yuva422p16le",
        "ya16le" | "ya16be" => "rgba64le",
        _ => return None,
    })
}

fn lossless_format(
    pictures: &Pictures,
    exact: &mut Vec<Filter>,
    notes: &mut Vec<String>,
) -> PixFmt {
    let source = &pictures.pix_fmt;
    let target = exact_format(source.name()).and_then(PixFmt::new);
    let target = match target {
        Some(target) => target,
        None => {
            notes.push(format!("{source} pixels are rounded to 16 bits: FFV1 holds no more"));
            let name = if source.has_alpha() {
                "gbrap16le"
            } else if source.is_grey() {
                "gray16le"
            } else {
                "gbrp16le"
            };
            PixFmt::new(name).unwrap_or_else(|| source.clone())
        }
    };
    if &target != source {
        let full_range = is_full_range(pictures);
        exact.push(Filter::Format { pix_fmt: target.clone(), full_range });
    }
    target
}

/// The format nearest to the source's that the encoder takes.
fn lossy_format(
    pictures: &Pictures,
    (preset, tone): (&Preset, Option<u8>),
    filters: &mut Vec<Filter>,
    colour: &mut Colour,
    notes: &mut Vec<String>,
) -> PixFmt {
    let source = &pictures.pix_fmt;
    let (encoder, plain) = (preset.encoder, preset.options.plain_pixels || tone.is_some());
    let chip = encoder.hardware().is_some();
    if source.has_alpha() && source.name() != "pal8" && source.name() != "bgra" {
        notes.push(format!("{} cannot hold transparency: it is dropped", encoder.codec()));
    }
    let depth = match (encoder, source.depth()) {
        (_, 8) => 8,
        _ if plain || (chip && encoder.codec() == Codec::H264) => 8,
        (Encoder::Libx265, 11..) => 12,
        _ => 10,
    };
    if source.depth() > depth {
        notes.push(format!("{} bits a sample become {depth}", source.depth()));
    }
    let chroma = if plain || chip { "420" } else { chroma_of(source, encoder) };
    let suffix = if depth == 8 { String::new() } else { format!("{depth}le") };
    let name = match chroma {
        _ if chip => if depth == 8 { "nv12" } else { "p010le" }.to_owned(),
        "gray" => format!("gray{suffix}"),
        chroma => format!("yuv{chroma}p{suffix}"),
    };
    let target = PixFmt::new(&name).unwrap_or_else(|| source.clone());
    let ordinary = Colour {
        full_range: Some(false),
        primaries: Some(1),
        transfer: Some(1),
        matrix: Some(1),
        chroma_location: Some(1),
    };
    if let Some(transfer) = tone {
        let full_range = is_full_range(pictures);
        filters.push(Filter::ToneMap { transfer, full_range, pix_fmt: target.clone() });
        notes.push("its high dynamic range is mapped to ordinary pictures (BT.709)".to_owned());
        *colour = ordinary;
    } else if source.is_rgb() {
        filters.push(Filter::RgbToYuv { pix_fmt: target.clone() });
        *colour = Colour {
            primaries: colour.primaries.or(Some(1)),
            transfer: colour.transfer.or(Some(1)),
            ..ordinary
        };
    } else if &target != source {
        let full_range = is_full_range(pictures);
        filters.push(Filter::Format { pix_fmt: target.clone(), full_range });
    }
    target
}

fn chroma_of(source: &PixFmt, encoder: Encoder) -> &'static str {
    let name = source.name();
    if encoder == Encoder::Libsvtav1 || source.is_rgb() {
        return "420";
    }
    if source.is_grey() {
        // Grey H.264 and HEVC play on few devices.
        return "420";
    }
    let has = |part: &str| name.contains(part);
    if has("444") || has("nv24") {
        "444"
    } else if has("422") || has("nv16") || has("y210") || has("440") {
        "422"
    } else {
        "420"
    }
}

/// Turns the pictures upright where the container cannot say how to turn them; returns the turn
/// that is left to the container.
fn turn(
    pictures: &Pictures,
    preset: &Preset,
    exact: &mut Vec<Filter>,
    notes: &mut Vec<String>,
) -> Orientation {
    let orientation = pictures.orientation;
    if orientation.is_upright() {
        return orientation;
    }
    let is_cropped = matches!(preset.options.crop, Some(Crop::To { .. }));
    if preset.container == Container::Mp4 && !is_cropped {
        return orientation;
    }
    let quarter = orientation.quarter_turns % 2 == 1;
    let target = exact_format(pictures.pix_fmt.name()).and_then(PixFmt::new);
    let format = target.unwrap_or_else(|| pictures.pix_fmt.clone());
    if quarter && format.has_uneven_chroma() && preset.is_lossless() {
        notes.push(
            "the pictures stay lying: turning this pixel format is not exact, \
             and ffmpeg writes no rotation into MKV"
                .to_owned(),
        );
        return orientation;
    }
    turn_upright(orientation, exact);
    Orientation::default()
}

/// Adds the filters that turn pictures upright; whether width and height change places.
pub(crate) fn turn_upright(orientation: Orientation, filters: &mut Vec<Filter>) -> bool {
    if orientation.mirror {
        filters.push(Filter::MirrorHorizontal);
    }
    match orientation.quarter_turns {
        1 => filters.push(Filter::TurnRight),
        2 => filters.extend([Filter::MirrorHorizontal, Filter::MirrorVertical]),
        3 => filters.push(Filter::TurnLeft),
        _ => {}
    }
    orientation.quarter_turns % 2 == 1
}

/// Chroma at half density needs even sizes; a stretch by one pixel keeps every part of the picture.
fn make_even(
    pix_fmt: &PixFmt,
    (width, height): (u32, u32),
    filters: &mut Vec<Filter>,
    notes: &mut Vec<String>,
) -> (u32, u32) {
    let name = pix_fmt.name();
    let halved = name.contains("420") || matches!(name, "nv12" | "p010le");
    let (across, down) = (halved || name.contains("422"), halved);
    let round = |size: u32, halved: bool| if halved { size.div_ceil(2) * 2 } else { size };
    let size = (round(width, across).max(2), round(height, down).max(2));
    if size != (width, height) {
        notes.push(format!("{width}×{height} becomes {}×{}: sizes must be even", size.0, size.1));
        filters.retain(|filter| !matches!(filter, Filter::Scale { .. }));
        filters.insert(0, Filter::Scale { width: size.0, height: size.1 });
    }
    size
}

fn say_lost_hdr(pictures: &Pictures, preset: &Preset, notes: &mut Vec<String>) {
    if pictures.dolby_vision {
        notes.push("Dolby Vision data is lost; the base picture is kept".to_owned());
    }
    if pictures.hdr10_plus {
        notes.push("HDR10+ data for each scene is lost; HDR10 is kept".to_owned());
    }
    if pictures.captions {
        let how = if preset.encoder == Encoder::Libx264 || preset.encoder == Encoder::Libx265 {
            "closed captions inside the pictures are kept where the encoder can"
        } else {
            "closed captions inside the pictures are lost"
        };
        notes.push(how.to_owned());
    }
}

/// The PNG pixel format that holds the source's.
pub(crate) fn png_format(source: &PixFmt) -> &'static str {
    let deep = source.depth() > 8;
    match (source.has_alpha(), source.is_grey(), deep) {
        (false, true, false) if source.name() == "monob" => "monob",
        (false, true, false) => "gray",
        (false, true, true) => "gray16be",
        (true, true, false) => "ya8",
        (true, true, true) => "ya16be",
        (true, false, false) if source.name() == "pal8" => "pal8",
        (true, false, false) => "rgba",
        (true, false, true) => "rgba64be",
        (false, false, false) => "rgb24",
        (false, false, true) => "rgb48be",
    }
}
