//! The wire and disk format: what is written reads back, and no bytes do harm.

use std::collections::{BTreeMap, BTreeSet};

use dmc_protocol::codec::{CodecError, WIRE_VERSION, decode, encode, from_bytes, to_bytes};
use dmc_protocol::config::{
    CLASSES_MAX, FRAME_BYTES_MAX, HEARTBEAT_ATTEMPTS_MAX, NAME_BYTES_MAX, REASON_BYTES_MAX,
    RECORD_BYTES_MAX, SLOTS_MAX,
};
use dmc_protocol::id::{AgentId, AttemptId, BlobId, BlobRef, JobId, TaskId};
use dmc_protocol::media::{
    AudioTask, Capabilities, Colour, ContentLight, Encoder, EncoderSpeed, Feed, FieldOrder, Filter,
    ImageTask, InputFormat, MasteringDisplay, MediaKind, PixFmt, PtsDigest, Quality, Rational,
    ResolutionBand, SegmentTask, TaskInput, TaskSpec, VideoSettings, VideoWork, WholeTask,
    WorkClass,
};
use dmc_protocol::message::{
    AgentInfo, Failure, FailureKind, HeldAttempt, HeldState, Message, OfferedWork, Progress,
    TaskResult, Verdict,
};
use dmc_protocol::record::{
    Commit, FailedTry, JobRecord, JobState, Record, TaskRecord, WorkRecord, WorkState,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

// ---- values ----

fn job() -> impl Strategy<Value = JobId> {
    any::<u128>().prop_map(|bits| JobId(Uuid::from_u128(bits)))
}

fn task() -> impl Strategy<Value = TaskId> {
    (job(), any::<u32>()).prop_map(|(job, index)| TaskId { job, index })
}

fn attempt() -> impl Strategy<Value = AttemptId> {
    any::<u128>().prop_map(AttemptId)
}

fn agent() -> impl Strategy<Value = AgentId> {
    any::<[u8; 32]>().prop_map(AgentId)
}

fn blob() -> impl Strategy<Value = BlobRef> {
    (any::<[u8; 32]>(), any::<u64>()).prop_map(|(id, bytes)| BlobRef { id: BlobId(id), bytes })
}

fn result() -> impl Strategy<Value = TaskResult> {
    (blob(), blob(), any::<u64>(), any::<u64>()).prop_map(|(media, proof, frames, encode_ms)| {
        TaskResult { media, proof, frames, encode_ms }
    })
}

fn progress() -> impl Strategy<Value = Progress> {
    (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>()).prop_map(
        |(frames, media_ms, bytes, fps_x100)| Progress { frames, media_ms, bytes, fps_x100 },
    )
}

fn failure() -> impl Strategy<Value = Failure> {
    let kinds = [FailureKind::DiskFull, FailureKind::Busy, FailureKind::Input];
    let more = [FailureKind::Encode, FailureKind::Verify, FailureKind::Internal];
    (select([kinds, more].concat()), ".{0,200}").prop_map(|(kind, text)| Failure::new(kind, text))
}

fn rational() -> impl Strategy<Value = Rational> {
    (1..1_000_000u32, 1..1_000_000u32).prop_map(|(num, den)| Rational::new(num, den))
}

fn filter() -> impl Strategy<Value = Filter> {
    let scale =
        (1..4_000u32, 1..4_000u32).prop_map(|(width, height)| Filter::Scale { width, height });
    prop_oneof![Just(Filter::TurnRight), Just(Filter::MirrorVertical), scale]
}

fn colour() -> impl Strategy<Value = Colour> {
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

fn settings() -> impl Strategy<Value = VideoSettings> {
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

fn video() -> impl Strategy<Value = VideoWork> {
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

fn format() -> impl Strategy<Value = InputFormat> {
    select(vec!["matroska", "mov", "mpegts"]).prop_filter_map("a known format", InputFormat::new)
}

fn segment() -> impl Strategy<Value = TaskSpec> {
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

fn spec() -> impl Strategy<Value = TaskSpec> {
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

fn class() -> impl Strategy<Value = WorkClass> {
    let bands = vec![ResolutionBand::None, ResolutionBand::FullHd, ResolutionBand::Huge];
    (select(Encoder::ALL.to_vec()), select(EncoderSpeed::ALL.to_vec()), select(bands))
        .prop_map(|(encoder, speed, band)| WorkClass { encoder, speed, band })
}

fn info() -> impl Strategy<Value = AgentInfo> {
    let encoders = btree_map(select(Encoder::ALL.to_vec()), any::<[u8; 8]>(), 0..8);
    let facts = (any::<u64>(), 0..=SLOTS_MAX, any::<u64>(), any::<bool>());
    ("[a-z]{0,64}", facts, encoders, vec((class(), any::<u64>()), 0..9)).prop_map(
        |(name, (instance, slots, free_disk_bytes, paused), encoders, speeds)| AgentInfo {
            name,
            version: "0.1.0".to_owned(),
            instance,
            slots,
            free_disk_bytes,
            paused,
            capabilities: Capabilities {
                ffmpeg_version: "7.1".to_owned(),
                encoders,
                kinds: BTreeSet::from([MediaKind::Video]),
            },
            speeds,
        },
    )
}

fn held() -> impl Strategy<Value = HeldAttempt> {
    let state = prop_oneof![
        Just(HeldState::Queued),
        progress().prop_map(HeldState::Running),
        result().prop_map(HeldState::Done)
    ];
    (attempt(), task(), state).prop_map(|(attempt, task, state)| HeldAttempt {
        attempt,
        task,
        state,
    })
}

fn offered() -> impl Strategy<Value = OfferedWork> {
    (class(), any::<u32>(), any::<u64>()).prop_map(|(class, tasks, units)| OfferedWork {
        class,
        requires: BTreeSet::from([class.encoder]),
        tasks,
        units,
    })
}

fn message() -> impl Strategy<Value = Message> {
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
    ]
}

fn job_record() -> impl Strategy<Value = JobRecord> {
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

fn task_record() -> impl Strategy<Value = TaskRecord> {
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

fn record() -> impl Strategy<Value = Record> {
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
        any::<bool>().prop_map(Record::Paused)
    ]
}

// ---- properties ----

proptest! {
    #[test]
    fn messages_read_back(message in message()) {
        let frame = encode(&message).unwrap();
        prop_assert_eq!(decode(&frame).unwrap(), message);
    }

    #[test]
    fn records_read_back(record in record()) {
        let bytes = to_bytes(&record).unwrap();
        prop_assert_eq!(from_bytes::<Record>(&bytes, RECORD_BYTES_MAX).unwrap(), record);
    }

    #[test]
    fn random_bytes_are_refused_or_harmless(mut bytes in vec(any::<u8>(), 0..600)) {
        let _ = from_bytes::<Record>(&bytes, RECORD_BYTES_MAX);
        let _ = decode(&bytes);
        bytes.insert(0, WIRE_VERSION);
        if let Ok(message) = decode(&bytes) {
            prop_assert!(message.check().is_ok());
        }
    }

    #[test]
    fn damaged_frames_are_refused_or_harmless(
        message in message(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
    ) {
        let mut frame = encode(&message).unwrap();
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if let Ok(message) = decode(&frame) {
            prop_assert!(message.check().is_ok());
            prop_assert!(encode(&message).is_ok(), "what is accepted can be said again");
        }
        prop_assert!(decode(&encode(&message).unwrap()[..end.index(frame.len())]).is_err());
    }

    #[test]
    fn a_frame_has_nothing_behind_it(message in message(), extra in 0u8..) {
        let mut frame = encode(&message).unwrap();
        frame.push(extra);
        prop_assert!(decode(&frame).is_err());
    }
}

/// A length that promises far more than follows must fail at once instead of reserving memory.
#[test]
fn a_false_length_reserves_nothing() {
    // Heartbeat (variant 1), then lengths of 2^32 - 1 and 2^64 - 1 as bincode's varints.
    for length in [&[0xfc, 0xff, 0xff, 0xff, 0xff][..], &[0xfd; 1][..], &[0xff; 9][..]] {
        let mut frame = vec![WIRE_VERSION, 1];
        frame.extend(length);
        assert!(decode(&frame).is_err(), "{length:?}");
    }
}

#[test]
fn frames_of_other_versions_and_sizes_are_refused() {
    assert!(matches!(decode(&[]), Err(CodecError::Invalid(_))));
    let mut frame = encode(&Message::Goodbye).unwrap();
    frame[0] = WIRE_VERSION + 1;
    assert!(matches!(decode(&frame), Err(CodecError::Version { .. })));
    let long = vec![WIRE_VERSION; FRAME_BYTES_MAX + 1];
    assert!(matches!(decode(&long), Err(CodecError::TooLong { .. })));
}

// ---- limits inside messages ----

fn an_info() -> AgentInfo {
    AgentInfo {
        name: "n".repeat(NAME_BYTES_MAX),
        version: "v".repeat(NAME_BYTES_MAX),
        instance: 0,
        slots: SLOTS_MAX,
        free_disk_bytes: 0,
        paused: false,
        capabilities: Capabilities {
            ffmpeg_version: String::new(),
            encoders: BTreeMap::new(),
            kinds: BTreeSet::new(),
        },
        speeds: Vec::new(),
    }
}

fn a_held() -> HeldAttempt {
    let largest = BlobRef { id: BlobId([255; 32]), bytes: u64::MAX };
    let result =
        TaskResult { media: largest, proof: largest, frames: u64::MAX, encode_ms: u64::MAX };
    let task = TaskId { job: JobId(Uuid::from_u128(u128::MAX)), index: u32::MAX };
    HeldAttempt { attempt: AttemptId(u128::MAX), task, state: HeldState::Done(result) }
}

fn an_offer(classes: usize) -> Message {
    let class = WorkClass {
        encoder: Encoder::Libx265,
        speed: EncoderSpeed::Medium,
        band: ResolutionBand::Hd,
    };
    let work = OfferedWork { class, requires: BTreeSet::new(), tasks: 1, units: 1 };
    Message::Offer { job: JobId(Uuid::nil()), work: vec![work; classes] }
}

#[test]
fn each_limit_holds_at_its_edge() {
    let (task, job) = (a_held().task, JobId(Uuid::nil()));
    let failed = |bytes: usize| {
        let failure = Failure { kind: FailureKind::Encode, reason: "x".repeat(bytes) };
        Message::Failed { attempt: AttemptId(1), task, failure }
    };
    let heartbeat = |count| Message::Heartbeat { held: vec![a_held(); count] };
    let named = |bytes| Message::Info(AgentInfo { name: "n".repeat(bytes), ..an_info() });
    let slots = |slots| Message::Info(AgentInfo { slots, ..an_info() });
    let accept = |want| Message::Accept { job, want };
    let rows = [
        ("reason", failed(REASON_BYTES_MAX), failed(REASON_BYTES_MAX + 1)),
        ("held", heartbeat(HEARTBEAT_ATTEMPTS_MAX), heartbeat(HEARTBEAT_ATTEMPTS_MAX + 1)),
        ("name", named(NAME_BYTES_MAX), named(NAME_BYTES_MAX + 1)),
        ("slots", slots(SLOTS_MAX), slots(SLOTS_MAX + 1)),
        ("classes", an_offer(CLASSES_MAX), an_offer(CLASSES_MAX + 1)),
        ("want", accept(2 * SLOTS_MAX), accept(2 * SLOTS_MAX + 1)),
    ];
    for (what, most, more) in rows {
        let frame = encode(&most).unwrap();
        assert!(decode(&frame).is_ok(), "{what}: the largest allowed fits into a frame");
        assert!(more.check().is_err(), "{what}");
        assert!(encode(&more).and_then(|frame| decode(&frame)).is_err(), "{what}");
    }
}

#[test]
fn a_failure_text_is_cut_at_a_character() {
    let failure = Failure::new(FailureKind::Encode, "é".repeat(REASON_BYTES_MAX));
    assert!(failure.reason.len() <= REASON_BYTES_MAX);
    assert!(failure.reason.chars().all(|c| c == 'é'));
}

#[test]
fn a_grant_with_an_unacceptable_task_is_refused() {
    let audio = AudioTask {
        format: InputFormat::new("mov").unwrap(),
        stream: 0,
        encoder: Encoder::Libx264,
        bps: 0,
        channels: 2,
        sample_rate: 48_000,
        sample_bits: 16,
        duration_us: 1,
    };
    let message = Message::Grant {
        attempt: AttemptId(1),
        task: a_held().task,
        spec: TaskSpec::Audio(audio),
        input: TaskInput::Source,
        blob: BlobRef { id: BlobId([0; 32]), bytes: 1 },
    };
    assert!(matches!(decode(&encode(&message).unwrap()), Err(CodecError::Invalid(_))));
}
