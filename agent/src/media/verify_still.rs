//! Checks pictures against their source: both are decoded and compared.
//!
//! A lossless one must show the same pixels. Of a lossy one the brightness must have the same
//! structure, and small areas the same colours: that passes every honest encoder, and none whose
//! picture is another, turned, cut off, grey, or of swapped colours.

use std::path::{Path, PathBuf};

use dmc_protocol::media::{Encoder, InputFormat, Quality, StillTask};
use tokio_util::sync::CancellationToken;

use super::animation;
use super::args_single::{alpha_chain, still_chain};
use super::avif::{self, Avif};
use super::error::MediaError;
use super::jxl;
use super::metadata::Metadata;
use super::obu;
use super::proof::HASH;
use super::run::{self, Args, Call, Tools};
use super::verify::{Checked, Look, Verdict};
use super::webp;
use super::work::TaskOutput;

/// Results larger than this are not read into memory.
const RESULT_BYTES_MAX: u64 = 1 << 30;
/// Pictures with a shorter side have no structure to compare.
const STRUCTURE_SIDE_MIN: u32 = 16;
/// Side of the small picture in which colours are compared.
const SMALL: u32 = 64;
/// Least likeness of colours and of transparency, in decibels.
const COLOURS_DB_MIN: f64 = 20.0;
/// Makes whatever is under full transparency black: it is never seen, and encoders drop it.
const VISIBLE: &str = "format=gbrap,split=3[p{n}][q{n}][r{n}];[p{n}]format=gbrp[s{n}];\
                       [q{n}]alphaextract,lut=y='if(val,255,0)',format=gbrp[t{n}];\
                       [s{n}][t{n}]blend=all_mode=and[u{n}];[r{n}]alphaextract,format=gray[v{n}]";

/// The coded pictures of a file, whatever metadata is around them.
pub(crate) fn coded(encoder: Encoder, file: &[u8]) -> Option<Vec<u8>> {
    let join = |chunks: Vec<webp::Chunk<'_>>| {
        let parts = chunks.into_iter().flat_map(|(name, data)| [&name[..], data].concat());
        Some(parts.collect::<Vec<u8>>()).filter(|all| !all.is_empty())
    };
    match encoder {
        Encoder::Libwebp | Encoder::LibwebpAnim => join(webp::coded(file)),
        Encoder::LibaomAv1 => {
            let Avif { colour, alpha } = avif::read(file)?;
            Some([colour, alpha.unwrap_or_default()].concat())
        }
        _ => Some(jxl::coded(file)),
    }
}

/// The file with that metadata; `None` when it is none of that encoder.
pub(crate) fn with_metadata(encoder: Encoder, file: &[u8], metadata: &Metadata) -> Option<Vec<u8>> {
    match encoder {
        Encoder::Libwebp | Encoder::LibwebpAnim => webp::with_metadata(file, metadata),
        Encoder::LibaomAv1 => avif::write(&avif::read(file)?, metadata),
        _ => jxl::with_metadata(file, metadata),
    }
}

/// Puts what ffmpeg wrote into the file of its format, where ffmpeg did not do so itself.
pub(crate) async fn wrap(task: &StillTask, media: &Path, alpha: &Path) -> Result<(), MediaError> {
    if task.encoder != Encoder::LibaomAv1 {
        return Ok(());
    }
    let picture = async |path: &Path| {
        obu::undelimited(&read(path).await?)
            .ok_or_else(|| MediaError::wrong("the encoded picture", "it is no AV1"))
    };
    let colour = picture(media).await?;
    let alpha = if task.alpha { Some(picture(alpha).await?) } else { None };
    let file = avif::write(&Avif { colour, alpha }, &Metadata::default())
        .ok_or_else(|| MediaError::wrong("the encoded picture", "its header makes no sense"))?;
    tokio::fs::write(media, file).await.map_err(|e| MediaError::io("write", media, e))
}

/// Reads a result of ours.
pub(crate) async fn read(path: &Path) -> Result<Vec<u8>, MediaError> {
    let io = |error| MediaError::io("read", path, error);
    if tokio::fs::metadata(path).await.map_err(io)?.len() > RESULT_BYTES_MAX {
        return Err(MediaError::wrong("the picture", "it is larger than any honest one"));
    }
    tokio::fs::read(path).await.map_err(io)
}

/// Checks a picture. `desk` is a directory of its own for small files.
pub(crate) async fn check(
    tools: &Tools,
    task: &StillTask,
    output: &TaskOutput,
    (source, desk, look): (&Path, &Path, Look),
    cancel: &CancellationToken,
) -> Result<Verdict, MediaError> {
    let file = read(&output.media).await?;
    let Some((width, height)) = size(task.encoder, &file) else {
        return Ok(Verdict::Damaged("it is no picture of its format".to_owned()));
    };
    if let Some((width, height)) = Some((width, height)).filter(|size| size.0 > 0)
        && (width, height) != (task.width, task.height)
    {
        return Ok(Verdict::Damaged(format!("the picture is {width}×{height}")));
    }
    let frames = if task.loops.is_some() {
        match animation::check(tools, task, &file, output, (source, desk), cancel).await? {
            Ok(frames) => frames,
            Err(why) => return Ok(Verdict::Damaged(why)),
        }
    } else {
        if look == Look::Frames
            && let Some(why) = compare(tools, task, &file, output, (source, desk), cancel).await?
        {
            return Ok(Verdict::Damaged(why));
        }
        1
    };
    Ok(Verdict::Good(Checked { frames, extradata: String::new() }))
}

/// The size of a picture, where its file says it in a place that is read here; else zeros.
fn size(encoder: Encoder, file: &[u8]) -> Option<(u32, u32)> {
    match encoder {
        Encoder::Libwebp | Encoder::LibwebpAnim => webp::canvas(file).map(|(w, h, _)| (w, h)),
        Encoder::LibaomAv1 => {
            let header = obu::header(&avif::read(file)?.colour)?;
            Some((header.width, header.height))
        }
        // Its decoder says the size; comparing fails for another one.
        _ => Some((0, 0)),
    }
}

/// The inputs of a comparison: the source, the picture, its transparency where that is apart.
async fn inputs(
    task: &StillTask,
    file: &[u8],
    output: &TaskOutput,
    (source, desk): (&Path, &Path),
) -> Result<Args, MediaError> {
    let mut args = Args::ffmpeg();
    args.words("-noautorotate").input(Some(&task.format), source);
    let named = |name: &str| InputFormat::new(name);
    let format = match task.encoder {
        Encoder::LibaomAv1 => None,
        Encoder::Libjxl => named("jpegxl_pipe"),
        _ => named("webp_pipe"),
    };
    if let Some(format) = format {
        args.words("-xerror -noautorotate").input(Some(&format), &output.media);
        return Ok(args);
    }
    let pictures = avif::read(file).unwrap_or(Avif { colour: Vec::new(), alpha: None });
    let obu = named("obu");
    for (name, picture) in [("colour.obu", Some(pictures.colour)), ("alpha.obu", pictures.alpha)] {
        let Some(picture) = picture else { continue };
        let path = write(desk, name, &obu::delimited(&picture)).await?;
        args.words("-xerror").input(obu.as_ref(), &path);
    }
    Ok(args)
}

/// Writes a small file to the desk, which is made where it is missing.
pub(super) async fn write(desk: &Path, name: &str, data: &[u8]) -> Result<PathBuf, MediaError> {
    tokio::fs::create_dir_all(desk).await.map_err(|e| MediaError::io("write", desk, e))?;
    let path = desk.join(name);
    tokio::fs::write(&path, data).await.map_err(|e| MediaError::io("write", &path, e))?;
    Ok(path)
}

/// Why the picture is not the source's; `None` when it is.
async fn compare(
    tools: &Tools,
    task: &StillTask,
    file: &[u8],
    output: &TaskOutput,
    places: (&Path, &Path),
    cancel: &CancellationToken,
) -> Result<Option<String>, MediaError> {
    let apart = task.encoder == Encoder::LibaomAv1;
    if apart && task.alpha != avif::read(file).is_some_and(|avif| avif.alpha.is_some()) {
        return Ok(Some("its transparency is missing".to_owned()));
    }
    let mut args = inputs(task, file, output, places).await?;
    let graph = if task.is_lossless() { same_graph(task) } else { like_graph(task) };
    args.arg("-filter_complex").arg(graph.text);
    for output in &graph.outputs {
        args.words(&format!("-map [{output}]"));
        if !task.is_lossless() {
            args.words("-frames:v 1 -f null -");
        }
    }
    if task.is_lossless() {
        args.words(&format!("-frames:v 1 -f framehash -hash {HASH} pipe:1"));
    }
    let call = Call::new("comparing the picture with its source", &tools.ffmpeg, args);
    let captured = run::capture(call, cancel).await?;
    let said = String::from_utf8_lossy(&captured.stdout);
    Ok(if task.is_lossless() { differs(&said, graph.outputs.len()) } else { unlike(task, &said) })
}

struct Graph {
    text: String,
    outputs: Vec<&'static str>,
}

/// The pixels that are seen, and the transparency, of both.
fn same_graph(task: &StillTask) -> Graph {
    let chain = still_chain(task);
    if !task.alpha {
        let text = format!("[0:v:0]{chain},format=gbrp[a];[1:v:0]format=gbrp[b]");
        return Graph { text, outputs: vec!["a", "b"] };
    }
    let (first, second) = (VISIBLE.replace("{n}", "0"), VISIBLE.replace("{n}", "1"));
    let text = format!("[0:v:0]{chain},{first};[1:v:0]{second}");
    Graph { text, outputs: vec!["u0", "u1", "v0", "v1"] }
}

/// Streams in pairs must have the same size and checksum: `stream, dts, pts, duration, size, hash`.
fn differs(said: &str, streams: usize) -> Option<String> {
    let rows = said.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let mut found = vec![None; streams];
    for row in rows {
        let fields: Vec<&str> = row.split(',').map(str::trim).collect();
        let [stream, _, _, _, size, hash] = fields[..] else { continue };
        let place = stream.parse::<usize>().ok().and_then(|stream| found.get_mut(stream));
        if let Some(place) = place {
            *place = Some((size.to_owned(), hash.to_owned()));
        }
    }
    let same = |pair: &[Option<(String, String)>]| pair[0].is_some() && pair[0] == pair[1];
    let all_same = found.chunks_exact(2).all(same);
    (!all_same).then(|| "the picture has other pixels".to_owned())
}

fn has_structure(task: &StillTask) -> bool {
    task.width.min(task.height) >= STRUCTURE_SIDE_MIN
}

/// Brightness in full size, colours in small, transparency.
fn like_graph(task: &StillTask) -> Graph {
    let chain = still_chain(task);
    let apart = task.encoder == Encoder::LibaomAv1;
    let seen = if task.alpha && !apart {
        "format=gbrap,premultiply=inplace=1,format=gbrp"
    } else {
        "format=gbrp"
    };
    let mut text = format!("[0:v:0]{chain}");
    let mut outputs = vec!["colours"];
    let small = format!("{seen},scale={SMALL}:{SMALL}:flags=area,format=gbrp");
    let grey = format!("{seen},format=gray");
    let alpha = task.alpha;
    let copies = 1 + usize::from(has_structure(task)) + usize::from(alpha && !apart);
    let names = |side: &str| {
        let all = ["c", "g", "t"].iter().zip([true, has_structure(task), alpha && !apart]);
        let used = all.filter(|(_, used)| *used).map(|(name, _)| format!("[{name}{side}]"));
        used.collect::<String>()
    };
    text.push_str(&format!(",split={copies}{};[1:v:0]split={copies}{}", names("0"), names("1")));
    text.push_str(&format!(";[c0]{small}[d0];[c1]{small}[d1];[d1][d0]psnr=stats_file=-[colours]"));
    if has_structure(task) {
        text.push_str(&format!(";[g0]{grey}[h0];[g1]{grey}[h1];[h1][h0]ssim=stats_file=-[grey]"));
        outputs.push("grey");
    }
    if alpha {
        let (first, second) = if apart {
            (format!("[0:v:0]{}", alpha_chain(task)), "[2:v:0]format=gray".to_owned())
        } else {
            let take = "format=rgba,alphaextract,format=gray";
            (format!("[t0]{take}"), format!("[t1]{take}"))
        };
        text.push_str(&format!(";{first}[e0];{second}[e1];[e1][e0]psnr=stats_file=-[alpha]"));
        outputs.push("alpha");
    }
    Graph { text, outputs }
}

/// The number after a word, as in `All:0.98`.
fn number(line: &str, word: &str) -> Option<f64> {
    let rest = line.split_once(word)?.1;
    let end = rest.find(|c: char| c.is_whitespace()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// How alike the structure must be: the better the quality, the more.
fn structure_min(quality: Quality) -> f64 {
    let percent = if let Quality::Percent(percent) = quality { f64::from(percent) } else { 100.0 };
    0.3 + percent * 0.004
}

fn unlike(task: &StillTask, said: &str) -> Option<String> {
    let line = |word: &str| said.lines().find(|line| line.contains(word));
    let colours = line("mse_r").and_then(|line| number(line, "psnr_avg:"));
    if colours.is_none_or(|db| db < COLOURS_DB_MIN) {
        return Some(format!("its colours are not the source's ({colours:?} dB)"));
    }
    if has_structure(task) {
        let like = line("All:").and_then(|line| number(line, "All:"));
        if like.is_none_or(|like| like < structure_min(task.quality)) {
            return Some(format!("it does not look like its source (SSIM {like:?})"));
        }
    }
    if task.alpha {
        let of_alpha = said.lines().find(|line| line.contains("mse_y"));
        let db = of_alpha.and_then(|line| number(line, "psnr_avg:"));
        if db.is_none_or(|db| db < COLOURS_DB_MIN) {
            return Some(format!("its transparency is not the source's ({db:?} dB)"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use dmc_protocol::media::{EncoderSpeed, PixFmt};

    use super::*;

    fn task(quality: Quality) -> StillTask {
        StillTask {
            format: InputFormat::new("png_pipe").unwrap(),
            encoder: Encoder::Libwebp,
            quality,
            speed: EncoderSpeed::Medium,
            width: 30,
            height: 20,
            pix_fmt: PixFmt::new("bgra").unwrap(),
            alpha: true,
            loops: None,
            filters: Vec::new(),
        }
    }

    #[test]
    fn other_pixels_are_seen() {
        let text = "#tb 0: 1/25\n0, 0, 0, 1, 30, aa\n1, 0, 0, 1, 30, aa\n";
        assert_eq!(differs(text, 2), None);
        assert!(differs(&text.replace("1, 0, 0, 1, 30, aa", "1, 0, 0, 1, 30, ab"), 2).is_some());
        assert!(differs("", 2).is_some(), "nothing was compared");
        assert!(differs(text, 4).is_some(), "the transparency is missing");
    }

    #[test]
    fn what_looks_otherwise_is_refused() {
        let good = "n:1 mse_avg:1 mse_r:1 psnr_avg:40.1 \nn:1 Y:0.98 All:0.98 (17)\n\
                    n:1 mse_avg:0 mse_y:0 psnr_avg:inf \n";
        let webp = task(Quality::Percent(82));
        assert_eq!(unlike(&webp, good), None);
        for (from, to) in [("All:0.98", "All:0.31"), ("40.1", "9.1"), ("inf", "3.0"), ("All", "")] {
            assert!(unlike(&webp, &good.replace(from, to)).is_some(), "{from} to {to}");
        }
        assert!(unlike(&webp, "").is_some());
    }
}
