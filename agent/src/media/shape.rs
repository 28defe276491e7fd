//! Decides what options of a preset mean for these pictures: size, borders, rate, fields. Pure.

use std::path::Path;

use dmc_protocol::media::options::{Crop, Deinterlace};
use dmc_protocol::media::{Encoder, FieldOrder, Filter, Preset, RateCap, Rational, VideoWork};

use super::error::MediaError;
use super::index::Index;
use super::streams::Pictures;

/// The transfer characteristics that are mapped to those of ordinary pictures.
pub(super) fn tone_mapping(pictures: &Pictures, preset: &Preset) -> Option<u8> {
    let wanted = preset.options.tone_map && !preset.is_lossless();
    pictures.colour.transfer.filter(|transfer| wanted && matches!(transfer, 16 | 18))
}

pub(super) fn codes_fields(encoder: Encoder) -> bool {
    matches!(encoder, Encoder::Libx264 | Encoder::Libx265 | Encoder::Ffv1)
}

/// Cuts the rectangle out of the upright pictures, at places where no colour is shared with what
/// goes; returns their size.
pub(super) fn crop(
    pictures: &Pictures,
    preset: &Preset,
    (have_width, have_height): (u32, u32),
    exact: &mut Vec<Filter>,
    notes: &mut Vec<String>,
) -> Result<(u32, u32), MediaError> {
    let Some(Crop::To { width, height, x, y }) = preset.options.crop else {
        return Ok((have_width, have_height));
    };
    let inside = |from: u32, length: u32, have: u32| from.saturating_add(length) <= have;
    if !inside(x, width, have_width) || !inside(y, height, have_height) {
        let why = format!("it is {have_width}×{have_height}, and --crop asks for more");
        let next = "Choose a rectangle (width:height:x:y) inside it, or --crop auto";
        return Err(MediaError::refused(Path::new(""), why, next));
    }
    let whole = preset.encoder == Encoder::Ffv1 && pictures.pix_fmt.is_rgb();
    let even = |n: u32| if whole { n } else { n / 2 * 2 };
    let (width, height) = (even(width).max(2), even(height).max(2));
    let (x, y) = (even(x), even(y));
    if (width, height) == (have_width, have_height) {
        return Ok((width, height));
    }
    exact.push(Filter::Crop { width, height, x, y });
    notes.push(format!(
        "{have_width}×{have_height} is cropped to {width}×{height} at {x}, {y} from the top left"
    ));
    Ok((width, height))
}

/// Makes whole frames of fields, where that is wanted and there are any.
pub(super) fn deinterlace(
    pictures: &Pictures,
    preset: &Preset,
    filters: &mut Vec<Filter>,
    notes: &mut Vec<String>,
) -> FieldOrder {
    let Some(way) = preset.options.deinterlace else { return pictures.field_order };
    if pictures.field_order == FieldOrder::Progressive {
        notes.push("its pictures are whole frames already: nothing is deinterlaced".to_owned());
        return FieldOrder::Progressive;
    }
    let top_first = pictures.field_order == FieldOrder::TopFirst;
    filters.insert(0, Filter::Deinterlace { bwdif: way == Deinterlace::Bwdif, top_first });
    FieldOrder::Progressive
}

/// Leaves out frames where they come faster than wanted. The second value is a reason to take the
/// frames as one decoder gives them: numbers too large to count with.
pub(super) fn cap_rate(
    work: &mut VideoWork,
    index: &Index,
    preset: &Preset,
    notes: &mut Vec<String>,
) -> Option<String> {
    let most = preset.options.max_fps?.0;
    let shown = index.shown_pts();
    let base = work.time_base;
    let as_f64 = |rate: Rational| f64::from(rate.num) / f64::from(rate.den.max(1));
    let have = match (shown.first(), shown.last()) {
        (Some(first), Some(last)) if last > first => {
            (shown.len() - 1) as f64 / base.ticks_to_s(last.saturating_sub(*first))
        }
        _ => work.settings.frame_rate.map_or(0.0, as_f64),
    };
    // 30000/1001 is 30 enough, and so are timestamps that are rounded to milliseconds.
    if have <= as_f64(most) * 1.01 {
        return None;
    }
    let cap = RateCap { rate: most, origin: shown.first().copied().unwrap_or(0) };
    work.exact_filters.push(Filter::RateCap(cap));
    work.settings.frame_rate = Some(most);
    if let Some(kept) = (!shown.is_empty()).then(|| cap.keep(base, &shown).len()) {
        notes.push(format!(
            "{have:.2} frames a second are capped to {}: {kept} of {} frames are kept",
            preset.options.max_fps.map(|fps| fps.to_string()).unwrap_or_default(),
            shown.len()
        ));
    }
    let exact = cap.is_exact(base, &shown);
    (!exact).then(|| "its timestamps are too large to count frames with".to_owned())
}

/// A smaller size with the same shape, even in both directions.
pub(super) fn shrink(
    (width, height): (u32, u32),
    (max_width, max_height): (Option<u32>, Option<u32>),
) -> Option<(u32, u32)> {
    let even = |n: u64| u32::try_from(n.div_ceil(2) * 2).unwrap_or(u32::MAX).max(2);
    let part = |side: u32, max: u32, of: u32| {
        even(u64::from(side) * u64::from(max) / u64::from(of.max(1)))
    };
    let too_wide = max_width.filter(|max| *max < width);
    let too_high = max_height.filter(|max| *max < height);
    match (too_wide, too_high) {
        (None, None) => None,
        // The one that leaves less of the picture decides.
        (Some(max), high)
            if high.is_none_or(|high| {
                u64::from(max) * u64::from(height) <= u64::from(high) * u64::from(width)
            }) =>
        {
            Some((even(u64::from(max)), part(height, max, width)))
        }
        (_, Some(max)) => Some((part(width, max, height), even(u64::from(max)))),
        (Some(_), None) => None,
    }
}
