//! Writes into Matroska what ffmpeg 5.1 leaves out: mastering display and content light.

use std::path::Path;

use dmc_protocol::media::{Container, ContentLight, MasteringDisplay};
use tokio_util::sync::CancellationToken;

use super::error::MediaError;
use super::plan::Plan;
use super::run::{self, Args, Call, Tools};

/// Marks a joined Matroska file, where there is something to write and a program to write it.
pub(crate) async fn write_marks(
    tools: &Tools,
    plan: &Plan,
    out: &Path,
    cancel: &CancellationToken,
) -> Result<(), MediaError> {
    let Some(video) = plan.tasks.iter().find_map(|task| task.video()) else { return Ok(()) };
    let (mastering, light) = (video.settings.mastering, video.settings.light);
    let Some(program) = &tools.mkvpropedit else { return Ok(()) };
    if plan.join.container != Container::Mkv || (mastering.is_none() && light.is_none()) {
        return Ok(());
    }
    let mut args = Args::default();
    // A leading dash would be taken for an option.
    let path = std::path::absolute(out).map_err(|error| MediaError::io("read", out, error))?;
    args.arg("--quiet").arg(path).words("--edit track:v1");
    for (name, value) in marks(mastering.as_ref(), light.as_ref()) {
        args.arg("--set").arg(format!("{name}={value}"));
    }
    let call = Call::new("writing HDR data", program, args);
    // The data is also in the coded pictures (H.264, HEVC, AV1); a failure loses nothing else.
    match run::capture(call, cancel).await {
        Err(MediaError::Cancelled) => Err(MediaError::Cancelled),
        Err(error) => {
            tracing::warn!(%error, "HDR data is not in the file's header");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

fn marks(
    mastering: Option<&MasteringDisplay>,
    light: Option<&ContentLight>,
) -> Vec<(&'static str, String)> {
    let mut marks = Vec::new();
    if let Some(display) = mastering {
        let [red, green, blue] = display.primaries;
        let names = [
            ("chromaticity-coordinates-red-x", red.0),
            ("chromaticity-coordinates-red-y", red.1),
            ("chromaticity-coordinates-green-x", green.0),
            ("chromaticity-coordinates-green-y", green.1),
            ("chromaticity-coordinates-blue-x", blue.0),
            ("chromaticity-coordinates-blue-y", blue.1),
            ("white-coordinates-x", display.white.0),
            ("white-coordinates-y", display.white.1),
        ];
        marks.extend(names.map(|(name, n)| (name, format!("{:.5}", f64::from(n) / 50_000.0))));
        let luminance = |n: u32| format!("{:.4}", f64::from(n) / 10_000.0);
        marks.push(("max-luminance", luminance(display.luminance_max)));
        marks.push(("min-luminance", luminance(display.luminance_min)));
    }
    if let Some(light) = light {
        marks.push(("max-content-light", light.max_cll.to_string()));
        marks.push(("max-frame-light", light.max_fall.to_string()));
    }
    marks
}
