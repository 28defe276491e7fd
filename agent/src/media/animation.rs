//! Compares pictures that move with those of their source.
//!
//! ffmpeg decodes no animated WebP, so it is given the pictures one by one, and they are laid over
//! one another here, as viewers do.

use std::path::Path;

use dmc_protocol::media::{InputFormat, StillTask};
use tokio_util::sync::CancellationToken;

use super::args_single::still_chain;
use super::error::MediaError;
use super::proof::Proof;
use super::run::{self, Args, Call, Tools};
use super::verify_still::write;
use super::webp::{self, Frame};
use super::work::TaskOutput;

/// Frames of an animation at most: what a list of them may claim.
const FRAMES_MAX: u64 = 1_000_000;
/// All pictures of one animation, decoded, in bytes.
const DECODED_BYTES_MAX: usize = 2 << 30;
/// Mean square difference of a colour, of 255², that a lossy picture may have: 20 dB.
const SQUARE_MAX: f64 = 650.0;
/// Rounding of times to milliseconds.
const MS_OFF_MAX: i64 = 1;

/// How many pictures there are, or what is wrong with them.
pub(crate) async fn check(
    tools: &Tools,
    task: &StillTask,
    file: &[u8],
    output: &TaskOutput,
    (source, desk): (&Path, &Path),
    cancel: &CancellationToken,
) -> Result<Result<u64, String>, MediaError> {
    let Some((frames, loops)) = webp::frames(file) else {
        return Ok(Err("it is no animation".to_owned()));
    };
    if Some(loops) != task.loops {
        return Ok(Err(format!("it is played {loops} times")));
    }
    let proof = Proof::read(&output.proof, FRAMES_MAX).await?;
    let times: Vec<i64> =
        proof.sorted().iter().map(|frame| proof.time_base.ticks_to_us(frame.pts) / 1_000).collect();
    let shown = match shown_at(&frames, &times) {
        Ok(shown) => shown,
        Err(why) => return Ok(Err(why)),
    };
    let alone: Option<Vec<Vec<u8>>> = frames.iter().map(Frame::alone).collect();
    let Some(alone) = alone else { return Ok(Err("one of its pictures is none".to_owned())) };
    let list = write(desk, "pictures.webp", &alone.concat()).await?;
    let mut args = Args::ffmpeg();
    args.arg("-xerror").input(InputFormat::new("webp_pipe").as_ref(), &list);
    // Each keeps its size.
    args.words("-autoscale 0 -map 0:v:0 -fps_mode passthrough -pix_fmt rgba -f rawvideo pipe:1");
    let parts = decode(tools, args, cancel).await?;
    let mut args = Args::ffmpeg();
    args.arg("-noautorotate").input(Some(&task.format), source);
    args.arg("-filter_complex").arg(format!("[0:v:0]{},format=rgba[x]", still_chain(task)));
    args.words("-map [x] -fps_mode passthrough -f rawvideo pipe:1");
    let wanted = decode(tools, args, cancel).await?;
    let size = (task.width as usize, task.height as usize);
    let seen = overlay(&frames, &parts, size);
    let Some(seen) = seen else { return Ok(Err("its pictures have other sizes".to_owned())) };
    let bytes = size.0 * size.1 * 4;
    if wanted.len() != bytes * times.len() {
        return Ok(Err(format!("its source has not {} pictures", times.len())));
    }
    for (number, (want, at)) in wanted.chunks_exact(bytes).zip(&shown).enumerate() {
        if !alike(want, &seen[*at], task.is_lossless()) {
            return Ok(Err(format!("picture {number} is not the source's")));
        }
    }
    Ok(Ok(times.len() as u64))
}

async fn decode(
    tools: &Tools,
    args: Args,
    cancel: &CancellationToken,
) -> Result<Vec<u8>, MediaError> {
    let mut call = Call::new("decoding moving pictures", &tools.ffmpeg, args);
    call.stdout_bytes_max = DECODED_BYTES_MAX;
    Ok(run::capture(call, cancel).await?.stdout)
}

/// For each time of the source, from its first on, which picture is shown. Pictures that are alike
/// may have become one, but none may come at another time.
fn shown_at(frames: &[Frame<'_>], times: &[i64]) -> Result<Vec<usize>, String> {
    let first = times.first().copied().unwrap_or(0);
    let (mut at, mut ends, mut shown) = (0, 0_i64, Vec::with_capacity(times.len()));
    let mut began_at = Vec::with_capacity(frames.len());
    for frame in frames {
        began_at.push(ends);
        ends += i64::from(frame.duration_ms);
    }
    for time in times.iter().map(|time| time - first) {
        while began_at.get(at + 1).is_some_and(|next| *next <= time + MS_OFF_MAX) {
            at += 1;
        }
        shown.push(at);
    }
    if frames.is_empty() || at + 1 != frames.len() {
        return Err("its pictures come at other times".to_owned());
    }
    let is_known = |began: &i64| times.iter().any(|t| (t - first - began).abs() <= MS_OFF_MAX);
    match began_at.iter().find(|began| !is_known(began)) {
        Some(began) => Err(format!("a picture comes at {began} ms, where the source has none")),
        None => Ok(shown),
    }
}

/// The whole pictures, as they are seen.
fn overlay(
    frames: &[Frame<'_>],
    mut parts: &[u8],
    (width, height): (usize, usize),
) -> Option<Vec<Vec<u8>>> {
    let mut canvas = vec![0_u8; width * height * 4];
    let mut seen = Vec::with_capacity(frames.len());
    for frame in frames {
        let (across, down) = (frame.width as usize, frame.height as usize);
        let (part, rest) = parts.split_at_checked(across * down * 4)?;
        parts = rest;
        let rows =
            || (0..down).map(|row| ((frame.y as usize + row) * width + frame.x as usize) * 4);
        for (row, new) in rows().zip(part.chunks_exact(across * 4)) {
            lay(canvas.get_mut(row..row + across * 4)?, new, frame.blends);
        }
        seen.push(canvas.clone());
        if frame.is_cleared {
            for row in rows() {
                canvas.get_mut(row..row + across * 4)?.fill(0);
            }
        }
    }
    parts.is_empty().then_some(seen)
}

/// Lays pixels over others.
fn lay(under: &mut [u8], over: &[u8], blends: bool) {
    let pixels = under.as_chunks_mut::<4>().0.iter_mut().zip(over.as_chunks::<4>().0);
    for (under, over) in pixels {
        match over[3] {
            0 if blends => {}
            255 => *under = *over,
            _ if !blends => *under = *over,
            alpha => {
                let (a, b) = (u32::from(alpha), u32::from(under[3]));
                let kept = b * (255 - a) / 255;
                let all = (a + kept).max(1);
                for (under, over) in under.iter_mut().zip(over).take(3) {
                    let mixed = (u32::from(*over) * a + u32::from(*under) * kept) / all;
                    *under = u8::try_from(mixed).unwrap_or(u8::MAX);
                }
                under[3] = u8::try_from(all).unwrap_or(u8::MAX);
            }
        }
    }
}

/// Whether two pictures are the same, or look so. What is fully transparent is never seen.
fn alike(want: &[u8], have: &[u8], exact: bool) -> bool {
    let pairs = want.as_chunks::<4>().0.iter().zip(have.as_chunks::<4>().0);
    if exact {
        return pairs.into_iter().all(|(a, b)| a == b || (a[3] == 0 && b[3] == 0));
    }
    let (mut sum, mut count) = (0.0, 0_u64);
    for (a, b) in pairs {
        count += 4;
        sum += (f64::from(a[3]) - f64::from(b[3])).powi(2);
        for colour in 0..3 {
            let seen = |pixel: &[u8; 4]| f64::from(pixel[colour]) * f64::from(pixel[3]) / 255.0;
            sum += (seen(a) - seen(b)).powi(2);
        }
    }
    sum <= SQUARE_MAX * count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_laid_over_others() {
        let mut under = [10, 20, 30, 255, 1, 2, 3, 255];
        lay(&mut under, &[0, 0, 0, 0, 200, 100, 50, 255], true);
        assert_eq!(under, [10, 20, 30, 255, 200, 100, 50, 255]);
        lay(&mut under, &[0, 0, 0, 0, 255, 255, 255, 128], false);
        assert_eq!(under, [0, 0, 0, 0, 255, 255, 255, 128]);
        let mut under = [0, 0, 0, 255];
        lay(&mut under, &[255, 255, 255, 128], true);
        assert_eq!(under, [128, 128, 128, 255]);
    }

    #[test]
    fn what_is_not_seen_does_not_count() {
        assert!(alike(&[1, 2, 3, 0], &[9, 9, 9, 0], true));
        assert!(!alike(&[1, 2, 3, 255], &[1, 2, 4, 255], true));
        assert!(alike(&[1, 2, 3, 255], &[1, 9, 4, 255], false));
        assert!(!alike(&[0, 0, 0, 255], &[255, 255, 255, 255], false));
    }
}
