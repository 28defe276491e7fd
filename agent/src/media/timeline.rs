//! The frames of a film as its proofs list them, on one clock.

use dmc_protocol::media::{Rational, TaskSpec};

use super::error::MediaError;
use super::plan::Plan;
use super::proof::{Frame, Proof};
use super::work::TaskOutput;

/// All frames that the result must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timeline {
    pub time_base: Rational,
    /// Sorted by time, in ticks of the clock of the proofs.
    pub frames: Vec<Frame>,
    /// When the first frame is shown, in microseconds after the source's start.
    pub first_us: i64,
}

impl Timeline {
    /// When a frame is shown, in microseconds after the first.
    pub fn since_first_us(&self, frame: &Frame) -> i64 {
        let first = self.frames.first().map_or(0, |frame| frame.pts);
        self.time_base.ticks_to_us(frame.pts.saturating_sub(first))
    }
}

/// Reads the proofs of all video tasks; `None` for a plan without any.
///
/// # Errors
/// When a proof cannot be read or holds no frame.
pub(crate) async fn read(
    plan: &Plan,
    results: &[TaskOutput],
) -> Result<Option<Timeline>, MediaError> {
    let mut timeline: Option<Timeline> = None;
    for task in plan.video_tasks() {
        let at = task as usize;
        let (Some(spec), Some(result)) = (plan.tasks.get(at), results.get(at)) else {
            return Err(MediaError::wrong(
                "the results",
                format!("that of task {task} is missing"),
            ));
        };
        let Some(video) = spec.video() else { continue };
        let frames_max = spec.frames().unwrap_or(0).saturating_mul(4).saturating_add(1_000_000);
        let proof = Proof::read(&result.proof, frames_max).await?;
        let (frames, from_start) = match spec {
            TaskSpec::Segment(segment) => (proof.between(segment.a_pts, segment.b_pts), false),
            TaskSpec::Whole(whole) => (proof.sorted(), whole.continuous),
            _ => continue,
        };
        let Some(first) = frames.first() else {
            return Err(MediaError::wrong("a proof", format!("task {task} has no frame")));
        };
        match &mut timeline {
            Some(timeline) => timeline.frames.extend(frames),
            None => {
                let us = video.time_base.ticks_to_us(first.pts);
                let first_us = if from_start { us } else { us.saturating_sub(plan.start_us) };
                let time_base = video.time_base;
                timeline = Some(Timeline { time_base, frames, first_us });
            }
        }
    }
    Ok(timeline)
}
