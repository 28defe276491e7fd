//! Any valid value of the types that travel and are kept.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;

use dmc_protocol::condition::{Condition, Yields};
use dmc_protocol::config::SLOTS_MAX;
use dmc_protocol::handover::{
    CustodyRecord, CustodyReport, CustodyState, HandedEnd, HandedJob, HandedRecord, HandedState,
};
use dmc_protocol::id::{AgentId, AttemptId, BlobId, BlobRef, JobId, TaskId};
use dmc_protocol::join::{Join, Party, Refusal, Standing};
use dmc_protocol::media::{
    AudioTask, Capabilities, Colour, ContentLight, Encoder, EncoderSpeed, Feed, FieldOrder, Filter,
    ImageTask, InputFormat, MasteringDisplay, MediaKind, PixFmt, Preset, PtsDigest, Quality,
    Rational, ResolutionBand, SegmentTask, TaskInput, TaskSpec, VideoSettings, VideoWork,
    WholeTask, WorkClass,
};
use dmc_protocol::message::{
    AgentInfo, Failure, FailureKind, HeldAttempt, HeldState, Message, OfferedWork, Progress,
    TaskResult, Verdict,
};
use dmc_protocol::record::{
    Commit, FailedTry, JobRecord, JobState, Record, TaskRecord, WorkRecord, WorkState,
};
use dmc_protocol::roster::{Claim, Fact, MeshId, Seal, Via};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

pub fn job() -> impl Strategy<Value = JobId> {
    any::<u128>().prop_map(|bits| JobId(Uuid::from_u128(bits)))
}

pub fn task() -> impl Strategy<Value = TaskId> {
    (job(), any::<u32>()).prop_map(|(job, index)| TaskId { job, index })
}

pub fn attempt() -> impl Strategy<Value = AttemptId> {
    any::<u128>().prop_map(AttemptId)
}

pub fn agent() -> impl Strategy<Value = AgentId> {
    any::<[u8; 32]>().prop_map(AgentId)
}

pub fn blob() -> impl Strategy<Value = BlobRef> {
    (any::<[u8; 32]>(), any::<u64>()).prop_map(|(id, bytes)| BlobRef { id: BlobId(id), bytes })
}

pub fn result() -> impl Strategy<Value = TaskResult> {
    (blob(), blob(), any::<u64>(), any::<u64>()).prop_map(|(media, proof, frames, encode_ms)| {
        TaskResult { media, proof, frames, encode_ms }
    })
}

pub fn progress() -> impl Strategy<Value = Progress> {
    (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>()).prop_map(
        |(frames, media_ms, bytes, fps_x100)| Progress { frames, media_ms, bytes, fps_x100 },
    )
}

pub fn failure() -> impl Strategy<Value = Failure> {
    let kinds = [FailureKind::DiskFull, FailureKind::Busy, FailureKind::Input];
    let more = [FailureKind::Encode, FailureKind::Verify, FailureKind::Internal];
    (select([kinds, more].concat()), ".{0,200}").prop_map(|(kind, text)| Failure::new(kind, text))
}

pub fn rational() -> impl Strategy<Value = Rational> {
    (1..1_000_000u32, 1..1_000_000u32).prop_map(|(num, den)| Rational::new(num, den))
}

pub fn filter() -> impl Strategy<Value = Filter> {
    let scale =
        (1..4_000u32, 1..4_000u32).prop_map(|(width, height)| Filter::Scale { width, height });
    prop_oneof![Just(Filter::TurnRight), Just(Filter::MirrorVertical), scale]
}

pub fn colour() -> impl Strategy<Value = Colour> {
    let part = || option::of(any::<u8>());
    (option::of(any::<bool>()), part(), part(), part(), option::of(0..=6u8)).prop_map(
        |(full_range, primaries, transfer, matrix, chroma_location)| Colour {
            full_range,
            primaries,
            transfer,
            matrix,
            chroma_location,
        },
    )
}

pub fn settings() -> impl Strategy<Value = VideoSettings> {
    let encoder = select(vec![
        (Encoder::Libx264, Quality::Crf(51)),
        (Encoder::Libx265, Quality::Crf(0)),
        (Encoder::Libsvtav1, Quality::Crf(63)),
        (Encoder::Ffv1, Quality::Lossless),
    ]);
    let mastering = any::<([(u16, u16); 3], (u16, u16), u32, u32)>().prop_map(
        |(primaries, white, luminance_max, luminance_min)| MasteringDisplay {
            primaries,
            white,
            luminance_max,
            luminance_min,
        },
    );
    let light =
        any::<(u16, u16)>().prop_map(|(max_cll, max_fall)| ContentLight { max_cll, max_fall });
    let shape = (option::of(rational()), option::of(rational()));
    (
        encoder,
        select(EncoderSpeed::ALL.to_vec()),
        colour(),
        option::of(mastering),
        option::of(light),
        shape,
    )
        .prop_map(|((encoder, quality), speed, colour, mastering, light, (aspect, rate))| {
            VideoSettings {
                encoder,
                quality,
                speed,
                pix_fmt: PixFmt::new("yuv420p10le").expect("a known format"),
                colour,
                mastering,
                light,
                sample_aspect: aspect,
                field_order: FieldOrder::TopFirst,
                frame_rate: rate,
            }
        })
}

pub fn video() -> impl Strategy<Value = VideoWork> {
    let side = || 1..8_000u32;
    (
        rational(),
        (side(), side(), side(), side()),
        vec(filter(), 0..8),
        vec(filter(), 0..8),
        settings(),
    )
        .prop_map(|(time_base, sides, exact_filters, filters, settings)| VideoWork {
            time_base,
            source_width: sides.0,
            source_height: sides.1,
            width: sides.2,
            height: sides.3,
            exact_filters,
            filters,
            settings,
        })
}

pub fn format() -> impl Strategy<Value = InputFormat> {
    select(vec!["matroska", "mov", "mpegts"]).prop_filter_map("a known format", InputFormat::new)
}

pub fn segment() -> impl Strategy<Value = TaskSpec> {
    let piece = (0..1_000u32, 0..16u8)
        .prop_map(|(shift_s, preroll_keyframes)| Feed::Piece { shift_s, preroll_keyframes });
    let seek = (format(), 0..9u32, option::of(-1_000_000..1_000_000_000i64))
        .prop_map(|(format, stream, from_us)| Feed::Seek { format, stream, from_us });
    let span = (-1_000_000_000..1_000_000_000i64, 1..1_000_000i64);
    let expected =
        (1..1_000_000u32, any::<[u8; 32]>()).prop_map(|(count, hash)| PtsDigest { count, hash });
    (0..500u32, span, expected, prop_oneof![piece, seek], video()).prop_map(
        |(number, (a_pts, ticks), expected, feed, video)| {
            let b_pts = a_pts + ticks;
            TaskSpec::Segment(SegmentTask {
                number,
                segments: 500,
                a_pts,
                b_pts,
                expected,
                feed,
                video,
            })
        },
    )
}

pub fn spec() -> impl Strategy<Value = TaskSpec> {
    let whole = (format(), 0..9u32, option::of(0..1_000_000u64), video()).prop_map(
        |(format, stream, frames, video)| {
            let (expected, frames_estimate) = (None, frames);
            TaskSpec::Whole(WholeTask {
                format,
                stream,
                expected,
                continuous: false,
                frames_estimate,
                video,
            })
        },
    );
    let sound = select(vec![Encoder::Aac, Encoder::Libopus, Encoder::Flac]);
    let audio = (format(), 0..9u32, sound, 0..10_000_000u32, 1..=64u16, any::<u32>()).prop_map(
        |(format, stream, encoder, bps, channels, length)| {
            TaskSpec::Audio(AudioTask {
                format,
                stream,
                encoder,
                bps,
                channels,
                mix_to: None,
                sample_rate: 48_000,
                sample_bits: 24,
                duration_us: u64::from(length),
            })
        },
    );
    let image = (format(), 1..8_000u32, 1..8_000u32, vec(filter(), 0..8)).prop_map(
        |(format, width, height, exact_filters)| {
            let encoder = Encoder::Png;
            TaskSpec::Image(ImageTask { format, encoder, width, height, exact_filters })
        },
    );
    prop_oneof![4 => segment(), 1 => whole, 1 => audio, 1 => image]
}

pub fn class() -> impl Strategy<Value = WorkClass> {
    let bands = vec![ResolutionBand::None, ResolutionBand::FullHd, ResolutionBand::Huge];
    (select(Encoder::ALL.to_vec()), select(EncoderSpeed::ALL.to_vec()), select(bands))
        .prop_map(|(encoder, speed, band)| WorkClass { encoder, speed, band })
}

pub fn info() -> impl Strategy<Value = AgentInfo> {
    let encoders = btree_map(select(Encoder::ALL.to_vec()), any::<[u8; 8]>(), 0..8);
    let facts = (any::<u64>(), 0..=SLOTS_MAX, any::<u64>(), any::<bool>());
    ("[a-z]{0,64}", facts, encoders, vec((class(), any::<u64>()), 0..9)).prop_map(
        |(name, (instance, slots, free_disk_bytes, paused), encoders, speeds)| AgentInfo {
            name,
            version: "0.1.0".to_owned(),
            instance,
            slots,
            wishes: Default::default(),
            free_disk_bytes,
            paused,
            capabilities: Capabilities {
                ffmpeg_version: "7.1".to_owned(),
                encoders,
                kinds: BTreeSet::from([MediaKind::Video]),
            },
            speeds,
            uptime_s: instance / 3,
            custodian: paused,
            inbox: paused,
            on_battery: !paused,
            condition: Condition {
                load_x100: u32::try_from(instance).ok(),
                stopped: paused,
                yields: paused.then_some(Yields::Load),
                ..Condition::default()
            },
        },
    )
}

pub fn held() -> impl Strategy<Value = HeldAttempt> {
    let state = prop_oneof![
        Just(HeldState::Queued),
        progress().prop_map(HeldState::Running),
        progress().prop_map(HeldState::Paused),
        result().prop_map(HeldState::Done)
    ];
    (attempt(), task(), state).prop_map(|(attempt, task, state)| HeldAttempt {
        attempt,
        task,
        state,
    })
}

pub fn offered() -> impl Strategy<Value = OfferedWork> {
    (class(), any::<u32>(), any::<u64>()).prop_map(|(class, tasks, units)| OfferedWork {
        class,
        requires: BTreeSet::from([class.encoder]),
        tasks,
        units,
    })
}

pub fn handed() -> impl Strategy<Value = HandedJob> {
    let preset = select(Preset::all());
    let deliver = option::of((agent(), "[a-z]{1,9}/[a-z ]{1,9}"));
    ("[^/\\\\\0.]{1,60}", blob(), preset, option::of(1..=600u32), deliver).prop_map(
        |(name, source, preset, segment_s, deliver)| HandedJob {
            name,
            source: BlobRef { bytes: source.bytes.max(1), ..source },
            preset,
            segment_s,
            deliver_to: deliver.as_ref().map(|(agent, _)| *agent),
            deliver_as: deliver.map(|(_, path)| path),
        },
    )
}

pub fn report() -> impl Strategy<Value = CustodyReport> {
    prop_oneof![
        ".{0,99}".prop_map(CustodyReport::Refused),
        Just(CustodyReport::Fetching),
        any::<u16>().prop_map(|done| CustodyReport::Working { done }),
        blob().prop_map(CustodyReport::Done),
        Just(CustodyReport::Delivered),
        ".{0,99}".prop_map(CustodyReport::Failed),
    ]
}

pub fn handed_record() -> impl Strategy<Value = HandedRecord> {
    let end = prop_oneof![
        Just(HandedEnd::Published),
        Just(HandedEnd::Delivered),
        ".{0,99}".prop_map(HandedEnd::Failed),
        Just(HandedEnd::Cancelled),
        Just(HandedEnd::Own),
    ];
    let state = prop_oneof![
        Just(HandedState::Offered),
        Just(HandedState::Away),
        blob().prop_map(HandedState::Returning),
        Just(HandedState::Own),
        end.prop_map(HandedState::Over),
    ];
    let former = btree_map(agent(), any::<u32>(), 0..4);
    (job(), handed(), any::<u32>(), option::of(agent()), former, state).prop_map(
        |(id, handed, epoch, to, former, state)| HandedRecord {
            id,
            handed,
            epoch,
            to,
            former,
            state,
        },
    )
}

pub fn custody_record() -> impl Strategy<Value = CustodyRecord> {
    let state = prop_oneof![
        Just(CustodyState::Fetching),
        Just(CustodyState::Working),
        blob().prop_map(CustodyState::Done),
        Just(CustodyState::Delivered),
        ".{0,99}".prop_map(CustodyState::Failed),
        ".{0,99}".prop_map(CustodyState::GivenUp),
    ];
    (job(), agent(), any::<u32>(), handed(), state, any::<u64>()).prop_map(
        |(id, from, epoch, handed, state, kept_ms)| CustodyRecord {
            id,
            from,
            epoch,
            handed,
            state,
            kept_ms,
        },
    )
}

pub fn message() -> impl Strategy<Value = Message> {
    let input = select(vec![TaskInput::Piece, TaskInput::Source]);
    let verdict = select(vec![Verdict::Keep, Verdict::Drop, Verdict::Unknown]);
    prop_oneof![
        info().prop_map(Message::Info),
        vec(held(), 0..30).prop_map(|held| Message::Heartbeat { held }),
        (job(), vec(offered(), 0..9)).prop_map(|(job, work)| Message::Offer { job, work }),
        (job(), 0..=2 * SLOTS_MAX).prop_map(|(job, want)| Message::Accept { job, want }),
        job().prop_map(|job| Message::Decline { job }),
        (attempt(), task(), spec(), input, blob()).prop_map(
            |(attempt, task, spec, input, blob)| {
                Message::Grant { attempt, task, spec, input, blob }
            }
        ),
        (attempt(), task(), result()).prop_map(|(attempt, task, result)| Message::Done {
            attempt,
            task,
            result
        }),
        (attempt(), task(), failure()).prop_map(|(attempt, task, failure)| Message::Failed {
            attempt,
            task,
            failure
        }),
        (attempt(), verdict).prop_map(|(attempt, verdict)| Message::Verdict { attempt, verdict }),
        Just(Message::Goodbye),
        (job(), any::<u32>(), handed()).prop_map(|(job, epoch, handed)| Message::HandOver {
            job,
            epoch,
            handed
        }),
        vec((job(), any::<u32>(), report()), 0..9).prop_map(|held| Message::Custody { held }),
        (job(), any::<u32>()).prop_map(|(job, epoch)| Message::Release { job, epoch }),
        (any::<[u8; 32]>(), vec(fact(), 0..6))
            .prop_map(|(digest, facts)| Message::Roster { digest, facts }),
    ]
}

fn seal() -> impl Strategy<Value = Seal> {
    any::<([u8; 32], [u8; 32])>().prop_map(|(first, second)| Seal(first, second))
}

fn claim() -> impl Strategy<Value = Claim> {
    let via = || select(&[Via::Door, Via::Code][..]);
    let nonce = any::<[u8; 16]>;
    prop_oneof![
        (nonce(), agent()).prop_map(|(mesh, peer)| Claim::Genesis { mesh: MeshId(mesh), peer }),
        (agent(), agent(), nonce(), via()).prop_map(|(sponsor, peer, nonce, via)| Claim::Add {
            sponsor,
            peer,
            nonce,
            via
        }),
        (agent(), agent(), nonce(), via()).prop_map(|(a, b, nonce, via)| Claim::Link {
            a,
            b,
            nonce,
            via
        }),
        (agent(), agent(), vec(agent(), 0..3)).prop_map(|(peer, by, keep)| Claim::Evict {
            peer,
            by,
            keep: keep.into_iter().collect()
        }),
    ]
}

/// Facts whose signatures are wrong.
pub fn fact() -> impl Strategy<Value = Fact> {
    (claim(), vec(seal(), 0..3)).prop_map(|(claim, seals)| Fact { claim, seals })
}

/// Everything that is said on a join stream.
pub fn join() -> impl Strategy<Value = Join> {
    let standing = any::<(bool, bool, bool)>().prop_map(|(open, first, established)| Standing {
        open,
        first,
        established,
    });
    let party = ("[a-z ]{0,20}", standing, any::<[u8; 16]>(), option::of(vec(any::<u8>(), 0..40)))
        .prop_map(|(name, standing, nonce, pake)| Party { name, standing, nonce, pake });
    let refusal = prop_oneof![
        Just(Refusal::Closed),
        Just(Refusal::Established),
        Just(Refusal::NoCode),
        Just(Refusal::WrongCode),
        ".{0,30}".prop_map(Refusal::Other),
    ];
    (party, option::of(any::<[u8; 32]>()), seal(), refusal, 0..5_u8).prop_map(
        |(party, proof, seal, refusal, kind)| match kind {
            0 => Join::Ask(party),
            1 => Join::Go(party),
            2 => Join::Sign { proof, seal },
            3 => Join::Signed { proof, seal },
            _ => Join::Refused(refusal),
        },
    )
}

pub fn job_record() -> impl Strategy<Value = JobRecord> {
    let state = prop_oneof![
        Just(JobState::Active),
        Just(JobState::Joining),
        Just(JobState::Done),
        vec(".{0,99}", 0..4).prop_map(JobState::Failed),
        Just(JobState::Cancelled)
    ];
    let pins = btree_map(select(Encoder::ALL.to_vec()), any::<[u8; 8]>(), 0..4);
    (job(), state, any::<u32>(), any::<i32>(), option::of(blob()), pins).prop_map(
        |(id, state, tasks, priority, source, pins)| JobRecord {
            id,
            state,
            tasks,
            priority,
            source,
            pins,
        },
    )
}

pub fn task_record() -> impl Strategy<Value = TaskRecord> {
    let ties = || btree_map(attempt(), agent(), 0..4);
    let failures =
        vec((agent(), failure()).prop_map(|(worker, failure)| FailedTry { worker, failure }), 0..4);
    let commit = (attempt(), agent(), result()).prop_map(|(attempt, worker, result)| Commit {
        attempt,
        worker,
        result,
    });
    (task(), spec(), option::of(blob()), ties(), ties(), failures, option::of(commit)).prop_map(
        |(id, spec, piece, leases, expired, failures, commit)| TaskRecord {
            id,
            spec,
            piece,
            leases,
            expired,
            failures,
            commit,
        },
    )
}

pub fn record() -> impl Strategy<Value = Record> {
    let state = prop_oneof![Just(WorkState::Queued), result().prop_map(WorkState::Done)];
    let work = (attempt(), agent(), task(), spec(), blob(), state).prop_map(
        |(attempt, owner, task, spec, blob, state)| {
            let input = spec.input();
            Record::Work(WorkRecord { attempt, owner, task, spec, input, blob, state, kept_ms: 0 })
        },
    );
    prop_oneof![
        job_record().prop_map(Record::Job),
        task_record().prop_map(Record::Task),
        work,
        handed_record().prop_map(Record::Handed),
        custody_record().prop_map(Record::Custody),
        any::<bool>().prop_map(Record::Paused)
    ]
}
