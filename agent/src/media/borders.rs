//! Black borders, found in samples of a film.

use std::path::Path;
use std::time::Duration;

use dmc_protocol::media::options::Crop;
use tokio_util::sync::CancellationToken;

use super::args::seconds;
use super::error::MediaError;
use super::run::{self, Args, Call, Tools};
use super::streams::Probe;

/// Places that are looked at.
const SAMPLES: u64 = 10;
/// Frames of each.
const FRAMES: u32 = 12;
/// Longest time for one of them.
const WALL: Duration = Duration::from_secs(60);

/// The part of the upright pictures that is not black in any sample; `None` when that is all of them.
///
/// # Errors
/// When no sample can be decoded.
pub(crate) async fn find(
    tools: &Tools,
    path: &Path,
    probe: &Probe,
) -> Result<Option<Crop>, MediaError> {
    let Some(pictures) = &probe.pictures else { return Ok(None) };
    let turned = pictures.orientation.quarter_turns % 2 == 1;
    let size = (pictures.width, pictures.height);
    let size = if turned { (size.1, size.0) } else { size };
    let length = probe.duration_us.unwrap_or(0);
    let mut all: Option<Edges> = None;
    let mut failed = None;
    for sample in 0..SAMPLES {
        // In the middle of each tenth: beginnings and ends are often black.
        let at = length / SAMPLES * sample + length / SAMPLES / 2;
        let at = probe.start_us.saturating_add(i64::try_from(at).unwrap_or(0));
        match look(tools, path, probe, at, size).await {
            Ok(Some(edges)) => all = Some(all.map_or(edges, |all| all.with(edges))),
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
    }
    match (all, failed) {
        (None, Some(error)) => Err(error),
        (all, _) => Ok(all.and_then(|edges| edges.crop(size))),
    }
}

/// What is seen, from the left and the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edges {
    left: u32,
    top: u32,
    right: u32,
    bottom: u32,
}

impl Edges {
    fn with(self, other: Edges) -> Edges {
        Edges {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    fn crop(self, (width, height): (u32, u32)) -> Option<Crop> {
        // Outwards to even numbers: nothing that is seen goes.
        let (x, y) = (self.left / 2 * 2, self.top / 2 * 2);
        let right = self.right.div_ceil(2).saturating_mul(2).min(width);
        let bottom = self.bottom.div_ceil(2).saturating_mul(2).min(height);
        let (w, h) = (right.saturating_sub(x), bottom.saturating_sub(y));
        let small = w < 16 || h < 16;
        ((w, h) != (width, height) && !small).then_some(Crop::To { width: w, height: h, x, y })
    }
}

/// What one sample shows; `None` when all of it is black.
async fn look(
    tools: &Tools,
    path: &Path,
    probe: &Probe,
    at_us: i64,
    (width, height): (u32, u32),
) -> Result<Option<Edges>, MediaError> {
    let Some(pictures) = &probe.pictures else { return Ok(None) };
    let mut args = Args::default();
    args.words("-nostdin -hide_banner -nostats -loglevel info -y");
    if probe.duration_us.is_some_and(|length| length > 2_000_000) {
        args.words("-ss").arg(seconds(at_us.max(0)));
    }
    // ffmpeg turns the pictures upright by itself.
    args.input(Some(&probe.format), path);
    args.words(&format!("-map 0:{} -frames:v {FRAMES}", pictures.index));
    args.words("-vf cropdetect=limit=0.094:round=2:reset=0:skip=0 -f null -");
    let mut call = Call::new("looking for black borders", &tools.ffmpeg, args);
    call.wall = WALL;
    let said = run::with_progress(call, |_| {}, &CancellationToken::new()).await?;
    Ok(said.lines().rev().find_map(|line| parse(line, (width, height))).flatten())
}

/// `… x1:0 x2:639 y1:60 y2:419 w:640 …`; ends before beginnings mean that all is black.
fn parse(line: &str, (width, height): (u32, u32)) -> Option<Option<Edges>> {
    let number = |name: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.split(' ').next()?.trim().parse::<i64>().ok()
    };
    let (x1, x2) = (number(" x1:")?, number(" x2:")?);
    let (y1, y2) = (number(" y1:")?, number(" y2:")?);
    let inside = |from: i64, to: i64, most: u32| {
        let (from, to) = (u32::try_from(from).ok()?, u32::try_from(to).ok()?.checked_add(1)?);
        (from < to && to <= most).then_some((from, to))
    };
    Some(
        inside(x1, x2, width)
            .zip(inside(y1, y2, height))
            .map(|((left, right), (top, bottom))| Edges { left, top, right, bottom }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cropdetect_is_read() {
        let line = "[Parsed_cropdetect_0 @ 0x1] x1:0 x2:639 y1:60 y2:419 w:640 h:360 x:0 y:60 \
                    pts:512 t:0.04 crop=640:360:0:60";
        let edges = parse(line, (640, 480)).unwrap().unwrap();
        assert_eq!(edges, Edges { left: 0, top: 60, right: 640, bottom: 420 });
        let expected = Some(Crop::To { width: 640, height: 360, x: 0, y: 60 });
        assert_eq!(edges.crop((640, 480)), expected);
        assert_eq!(edges.crop((640, 420)), Some(Crop::To { width: 640, height: 360, x: 0, y: 60 }));
        let black = "x: x1:639 x2:0 y1:479 y2:0 w:-640";
        assert_eq!(parse(&format!(" {black}"), (640, 480)), Some(None));
        assert_eq!(parse("frame=1", (640, 480)), None);
    }

    #[test]
    fn what_any_sample_shows_stays() {
        let a = Edges { left: 10, top: 60, right: 600, bottom: 420 };
        let b = Edges { left: 0, top: 70, right: 640, bottom: 400 };
        let both = Edges { left: 0, top: 60, right: 640, bottom: 420 };
        assert_eq!(a.with(b), both);
        let all = Edges { left: 1, top: 0, right: 639, bottom: 480 };
        assert_eq!(all.crop((640, 480)), None);
    }
}
