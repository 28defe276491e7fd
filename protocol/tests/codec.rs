//! The wire and disk format: what is written reads back, and no bytes do harm.

mod values;

use std::collections::{BTreeMap, BTreeSet};

use dmc_protocol::codec::{CodecError, WIRE_VERSION, decode, encode, from_bytes, to_bytes};
use dmc_protocol::config::{
    CLASSES_MAX, FRAME_BYTES_MAX, HEARTBEAT_ATTEMPTS_MAX, NAME_BYTES_MAX, REASON_BYTES_MAX,
    RECORD_BYTES_MAX, SLOTS_MAX,
};
use dmc_protocol::id::{AttemptId, BlobId, BlobRef, JobId, TaskId};
use dmc_protocol::join::{JOIN_BYTES_MAX, Join};
use dmc_protocol::media::{
    AudioTask, Capabilities, Encoder, EncoderSpeed, InputFormat, ResolutionBand, TaskInput,
    TaskSpec, WorkClass,
};
use dmc_protocol::message::{
    AgentInfo, Failure, FailureKind, HeldAttempt, HeldState, Message, OfferedWork, TaskResult,
};
use dmc_protocol::record::Record;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;
use values::{join, message, record};

// ---- properties ----

proptest! {
    #[test]
    fn messages_read_back(message in message()) {
        let frame = encode(&message).unwrap();
        prop_assert_eq!(decode(&frame).unwrap(), message);
    }

    #[test]
    fn what_is_said_to_join_reads_back(said in join()) {
        let bytes = to_bytes(&said).unwrap();
        prop_assert!(said.is_bounded() || bytes.len() > 64);
        prop_assert_eq!(from_bytes::<Join>(&bytes, JOIN_BYTES_MAX).unwrap(), said);
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
        wishes: Default::default(),
        free_disk_bytes: 0,
        paused: false,
        capabilities: Capabilities {
            ffmpeg_version: String::new(),
            encoders: BTreeMap::new(),
            kinds: BTreeSet::new(),
        },
        speeds: Vec::new(),
        uptime_s: 0,
        custodian: true,
        inbox: false,
        on_battery: false,
        condition: Default::default(),
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
        mix_to: None,
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
