//! ffmpeg's words for what is done to the pictures. Pure.

use dmc_protocol::media::{
    Colour, FieldOrder, Filter, PixFmt, RateCap, Rational, VideoSettings, VideoWork,
};

/// What is done to the frames before they are hashed.
pub(super) fn exact(work: &VideoWork, begins: bool) -> Vec<String> {
    let one = |filter: &Filter| match filter {
        Filter::RateCap(cap) => select(*cap, work.time_base, begins),
        other => self::filter(other),
    };
    work.exact_filters.iter().map(one).collect()
}

/// What is done to them afterwards.
pub(super) fn lossy(work: &VideoWork) -> Vec<String> {
    let mut filters: Vec<String> = work.filters.iter().map(filter).collect();
    if work.remembers() {
        // Deinterlacers count in half ticks.
        filters.push(format!("settb={}", work.time_base));
    }
    filters
}

/// All that is done to the pictures, in one chain: for samples, and for comparing.
pub(super) fn chain(work: &VideoWork, head: &str) -> String {
    let mut all = vec![head.to_owned()];
    all.extend(exact(work, true));
    all.extend(field_filter(work.settings.field_order));
    all.extend(lossy(work));
    all.extend(frame_marks(&work.settings));
    all.join(",")
}

pub(super) fn filter(filter: &Filter) -> String {
    match filter {
        Filter::Scale { width, height } => format!("scale={width}:{height}:flags=bicubic"),
        Filter::Format { pix_fmt, full_range } => {
            let range = if *full_range { "full" } else { "limited" };
            format!("scale=in_range={range}:out_range={range},format={pix_fmt}")
        }
        Filter::RgbToYuv { pix_fmt } => format!(
            "scale=out_color_matrix=bt709:out_range=limited\
             :flags=bicubic+accurate_rnd+full_chroma_int,format={pix_fmt}"
        ),
        Filter::RgbToFullYuv { pix_fmt } => format!(
            "scale=out_color_matrix=smpte170m:out_range=full\
             :flags=bicubic+accurate_rnd+full_chroma_int,format={pix_fmt}"
        ),
        Filter::TurnRight => "transpose=clock".to_owned(),
        Filter::TurnLeft => "transpose=cclock".to_owned(),
        Filter::MirrorHorizontal => "hflip".to_owned(),
        Filter::MirrorVertical => "vflip".to_owned(),
        Filter::Crop { width, height, x, y } => format!("crop={width}:{height}:{x}:{y}:exact=1"),
        // It needs the time base: see `select`.
        Filter::RateCap(_) => "null".to_owned(),
        Filter::Deinterlace { bwdif, top_first } => format!(
            "{}=mode=send_frame:parity={}:deint=all",
            if *bwdif { "bwdif" } else { "yadif" },
            if *top_first { "tff" } else { "bff" }
        ),
        Filter::ToneMap { transfer, full_range, pix_fmt } => {
            tone_map(*transfer, *full_range, pix_fmt)
        }
    }
}

/// Keeps the frames that [`RateCap`] keeps.
fn select(cap: RateCap, base: Rational, begins: bool) -> String {
    let (now, before) = (cap.expression(base, "pts"), cap.expression(base, "prev_pts"));
    let first = u8::from(begins);
    format!("select='if(isnan(prev_pts),{first},gt({now},{before}))'")
}

/// Light as it is, then as ordinary displays show it.
pub(super) fn tone_map(transfer: u8, full_range: bool, pix_fmt: &PixFmt) -> String {
    let transfer = if transfer == 18 { "arib-std-b67" } else { "smpte2084" };
    let range = if full_range { "full" } else { "limited" };
    format!(
        "setparams=range={range}:color_primaries=bt2020:color_trc={transfer}:colorspace=bt2020nc,\
         zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=tonemap=hable:desat=0,\
         zscale=t=bt709:m=bt709:p=bt709:r=limited,format={pix_fmt}"
    )
}

/// Marks every frame alike, so that all segments get the same headers.
pub(super) fn field_filter(order: FieldOrder) -> Option<String> {
    match order {
        FieldOrder::Progressive => None,
        FieldOrder::TopFirst => Some("setfield=tff".to_owned()),
        FieldOrder::BottomFirst => Some("setfield=bff".to_owned()),
    }
}

/// ffmpeg takes colour from the frames, whatever its own options say, and a piece does not carry
/// what only the source's container said.
pub(super) fn frame_marks(settings: &VideoSettings) -> Vec<String> {
    let mut marks = Vec::new();
    if let Some(Rational { num, den }) = settings.sample_aspect {
        marks.push(format!("setsar={num}/{den}:max=1000000"));
    }
    let Colour { full_range, primaries, transfer, matrix, .. } = settings.colour;
    let mut parts = Vec::new();
    if let Some(full) = full_range {
        parts.push(format!("range={}", if full { "full" } else { "limited" }));
    }
    let codes = [("color_primaries", primaries), ("color_trc", transfer), ("colorspace", matrix)];
    parts.extend(codes.iter().filter_map(|(key, code)| code.map(|code| format!("{key}={code}"))));
    if !parts.is_empty() {
        marks.push(format!("setparams={}", parts.join(":")));
    }
    marks
}
