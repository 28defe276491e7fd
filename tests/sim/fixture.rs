//! Small valid values: ids, task specifications, what an agent says of itself.

use std::collections::{BTreeMap, BTreeSet};

use dmc_protocol::handover::HandedJob;
use dmc_protocol::id::{AgentId, BlobId, BlobRef, JobId};
use dmc_protocol::media::{
    AudioTask, Capabilities, Colour, Encoder, EncoderSpeed, Feed, FieldOrder, InputFormat,
    MediaKind, PixFmt, Preset, PtsDigest, Quality, Rational, SegmentTask, TaskSpec, VideoSettings,
    VideoWork, WholeTask,
};
use dmc_protocol::message::AgentInfo;
use uuid::Uuid;

/// Free bytes of a disk that is not full.
pub const FREE_BYTES: u64 = 1 << 40;

/// The id of the agent at this position.
pub fn agent_id(at: usize) -> AgentId {
    let mut bytes = [0; 32];
    bytes[0] = 1;
    bytes[28..].copy_from_slice(&u32::try_from(at).unwrap_or(u32::MAX).to_be_bytes());
    AgentId(bytes)
}

/// The job of the owner at this position.
pub fn job_id(owner: usize) -> JobId {
    JobId(Uuid::from_u128(0x1000 + owner as u128))
}

/// Whose job it is, by position.
pub fn submitter(job: JobId) -> usize {
    usize::try_from(job.0.as_u128().saturating_sub(0x1000)).unwrap_or(usize::MAX)
}

/// Whose job it is.
pub fn submitter_id(job: JobId) -> AgentId {
    agent_id(submitter(job))
}

/// The position of an agent.
pub fn index_of(id: AgentId) -> usize {
    let [.., a, b, c, d] = id.0;
    u32::from_be_bytes([a, b, c, d]) as usize
}

/// The source film of the owner at this position.
pub fn source(owner: usize) -> BlobRef {
    blob(owner as u64)
}

/// The owner's job as it is handed over.
pub fn handed(owner: usize) -> Option<HandedJob> {
    Some(HandedJob {
        name: format!("film{owner}.mkv"),
        source: source(owner),
        preset: Preset::builtin("hevc").ok()?,
        segment_s: None,
        deliver_to: None,
        deliver_as: None,
    })
}

/// A blob of its own for each number.
pub fn blob(number: u64) -> BlobRef {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    BlobRef { id: BlobId(id), bytes: 1_000 + number }
}

/// The pictures of every task here.
pub fn video() -> Option<VideoWork> {
    Some(VideoWork {
        time_base: Rational::new(1, 1_000),
        source_width: 640,
        source_height: 360,
        width: 640,
        height: 360,
        exact_filters: Vec::new(),
        filters: Vec::new(),
        settings: VideoSettings {
            encoder: Encoder::Libx265,
            quality: Quality::Crf(24),
            speed: EncoderSpeed::Medium,
            pix_fmt: PixFmt::new("yuv420p")?,
            colour: Colour::default(),
            mastering: None,
            light: None,
            sample_aspect: None,
            field_order: FieldOrder::Progressive,
            frame_rate: Some(Rational::new(25, 1)),
        },
    })
}

/// The pieces of a film and its sound: the last task is the audio.
pub fn plan(tasks: u32) -> Vec<TaskSpec> {
    let segments = tasks.saturating_sub(1);
    let piece = Feed::Piece { shift_s: 0, preroll_keyframes: 1 };
    let mut plan: Vec<TaskSpec> =
        (0..segments).filter_map(|number| segment(number, segments, piece.clone())).collect();
    plan.extend(audio());
    plan
}

/// What a plan becomes when pieces do not work: one task for all pictures, and the sound.
pub fn whole_plan() -> Vec<TaskSpec> {
    let whole = video().and_then(|video| {
        Some(TaskSpec::Whole(WholeTask {
            format: format()?,
            stream: 0,
            expected: None,
            continuous: false,
            frames_estimate: Some(3_000),
            video,
        }))
    });
    whole.into_iter().chain(audio()).collect()
}

/// One segment of ten seconds.
pub fn segment(number: u32, segments: u32, feed: Feed) -> Option<TaskSpec> {
    Some(TaskSpec::Segment(SegmentTask {
        number,
        segments,
        a_pts: i64::from(number) * 10_000,
        b_pts: i64::from(number + 1) * 10_000,
        expected: PtsDigest { count: 250, hash: [7; 32] },
        feed,
        video: video()?,
    }))
}

/// The same segment one rung lower, if there is one.
pub fn lower_rung(spec: &TaskSpec) -> Option<TaskSpec> {
    match spec {
        TaskSpec::Segment(task) => {
            let feed = Feed::Seek { format: format()?, stream: 0, from_us: Some(0) };
            segment(task.number, task.segments, feed)
        }
        _ => None,
    }
}

fn format() -> Option<InputFormat> {
    InputFormat::new("matroska")
}

fn audio() -> Option<TaskSpec> {
    Some(TaskSpec::Audio(AudioTask {
        format: format()?,
        stream: 0,
        encoder: Encoder::Libopus,
        bps: 128_000,
        channels: 2,
        mix_to: None,
        sample_rate: 48_000,
        sample_bits: 16,
        duration_us: 300_000_000,
    }))
}

/// What the agent at this position says of itself after its `boot`-th start.
pub fn info(at: usize, boot: u64, slots: u32, build: u8) -> AgentInfo {
    let encoders = [(Encoder::Libx265, [build; 8]), (Encoder::Libopus, [1; 8])];
    AgentInfo {
        name: format!("agent{at}"),
        version: "0.1.0".to_owned(),
        instance: boot,
        slots,
        wishes: Default::default(),
        free_disk_bytes: FREE_BYTES,
        paused: false,
        capabilities: Capabilities {
            ffmpeg_version: "ffmpeg version 7.1".to_owned(),
            encoders: BTreeMap::from(encoders),
            kinds: BTreeSet::from([MediaKind::Video, MediaKind::Audio]),
        },
        speeds: Vec::new(),
        uptime_s: 0,
        custodian: true,
        inbox: false,
        on_battery: false,
        condition: Default::default(),
    }
}
