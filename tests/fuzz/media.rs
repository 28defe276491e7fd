//! What ffmpeg and ffprobe say, and what media files hold.

use dmc_agent::fuzzing;
use dmc_agent::media::index::Index;
use dmc_agent::media::plan::{self, Demotion, Plan, PlanHints};
use dmc_agent::media::proof::Proof;
use dmc_agent::media::streams::{Orientation, Probe};
use dmc_protocol::codec;
use dmc_protocol::id::{AttemptId, BlobId, BlobRef, JobId, TaskId};
use dmc_protocol::media::{Preset, TaskInput, TaskSpec};
use dmc_protocol::message::Message;

/// ffmpeg's progress lines: whatever pieces they arrive in, they tell the same.
pub fn progress(data: &[u8]) -> bool {
    let Some((step, stdout)) = data.split_first() else { return false };
    let told = fuzzing::progress(stdout, usize::from(*step));
    let at_once = fuzzing::progress(stdout, usize::MAX);
    // As text: a speed that is no number equals nothing.
    assert_eq!(format!("{told:?}"), format!("{at_once:?}"));
    !told.is_empty()
}

/// ffprobe's answers: the headers, the first frames, the packets. Whatever they are, what is planned
/// from them may be done and can be sent.
pub fn ffprobe(data: &[u8]) -> bool {
    let parts = super::parts(data);
    let part = |n: usize| parts.get(n).copied().unwrap_or_default();
    let index = fuzzing::packets(part(2));
    let _ = (index.shown_pts(), index.bytes());
    let Some(probe) = fuzzing::probe(part(0), part(1), 1 << 30) else { return false };
    let json = serde_json::to_string(&probe).expect("a probe can be written");
    assert!(serde_json::from_str::<Probe>(&json).is_ok_and(|back| back == probe));
    for name in ["hevc", "h264", "av1", "lossless"] {
        for segment_target_s in [0.5, 10.0] {
            let preset = Preset::builtin(name).expect("it is built in");
            let hints = PlanHints { segment_target_s, ..PlanHints::default() };
            let Ok(plan) = plan::plan(&probe, &index, &preset, &hints) else { continue };
            check(&plan);
            demoted(&probe, &index, &preset, plan);
        }
    }
    true
}

fn check(plan: &Plan) {
    assert_eq!(plan.tasks.len(), plan.cuts.len());
    for spec in &plan.tasks {
        spec.validate().expect("what is planned may be done");
        let _ = (fuzzing::arguments(spec), spec.label(), spec.work_units(), spec.disk_bytes(1));
        let _ = codec::encode(&grant(spec)).expect("what is planned can be sent");
    }
    let segments = plan.tasks.iter().filter_map(|spec| match spec {
        TaskSpec::Segment(segment) => Some((segment.a_pts, segment.b_pts)),
        _ => None,
    });
    let segments: Vec<(i64, i64)> = segments.collect();
    assert!(segments.iter().all(|(a, b)| a < b), "no segment is empty: {segments:?}");
    assert!(segments.windows(2).all(|pair| pair[0].1 == pair[1].0), "no gap: {segments:?}");
}

fn grant(spec: &TaskSpec) -> Message {
    Message::Grant {
        attempt: AttemptId(1),
        task: TaskId { job: JobId(Default::default()), index: 0 },
        spec: spec.clone(),
        input: TaskInput::Source,
        blob: BlobRef { id: BlobId([0; 32]), bytes: 1 },
    }
}

/// The first task fails again and again.
fn demoted(probe: &Probe, index: &Index, preset: &Preset, mut plan: Plan) {
    for _ in 0..8 {
        match plan::demote(probe, index, preset, &plan, 0) {
            Demotion::Retry(replacement) => plan.replace(0, replacement),
            Demotion::WholeFile(whole) => plan = *whole,
            Demotion::GiveUp => return,
        }
        check(&plan);
    }
    unreachable!("there is always a lower rung");
}

/// A list of decoded frames that a worker wrote.
pub fn proof(data: &[u8]) -> bool {
    let Ok(proof) = Proof::parse(&String::from_utf8_lossy(data)) else { return false };
    assert!(proof.time_base.is_positive());
    let sorted = proof.sorted();
    assert!(sorted.is_sorted_by_key(|frame| frame.pts) && sorted.len() <= proof.frames.len());
    if let Some(middle) = sorted.get(sorted.len() / 2) {
        let (before, from) = (proof.before(middle.pts), proof.between(middle.pts, i64::MAX));
        assert_eq!(before.len() + from.len(), sorted.len());
    }
    true
}

/// A picture: what kind it is, and its metadata on the way into a PNG.
pub fn picture(data: &[u8]) -> bool {
    const SMALLEST: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\0IHDR\0\0\0\0\0\0\0\0IEND\0\0\0\0";
    let known = fuzzing::picture_format(data).is_some();
    let _ = fuzzing::png_with_metadata(data, data);
    let Some(png) = fuzzing::png_with_metadata(SMALLEST, data) else { return known };
    assert!(png.starts_with(&SMALLEST[..8]) && png.len() <= 3 * data.len() + 1_024);
    assert_eq!(fuzzing::picture_format(&png), Some("png_pipe"));
    true
}

/// The header of an MP4 file that ffmpeg wrote.
pub fn mp4_header(data: &[u8]) -> bool {
    const BOX: &[u8] = b"\0\0\0\x0cclli\x03\xe8\x01\x90";
    let found = fuzzing::mp4_header(data);
    let at = found.and_then(|(at, _)| usize::try_from(at).ok()).unwrap_or(0);
    let Some(header) = data.get(at..) else { return false };
    let longer = fuzzing::mp4_header_with(header, BOX);
    if let Some(longer) = &longer {
        assert_eq!(longer.len(), header.len() + BOX.len());
    }
    let turn = Orientation { mirror: true, quarter_turns: 1 };
    let turned = fuzzing::mp4_header_turned(header, turn);
    assert!(turned.as_ref().is_none_or(|turned| turned.len() == header.len()));
    longer.is_some() || turned.is_some()
}
