//! Bytes that an earlier build wrote: messages on the wire, and records on the disk. What has the same
//! number must still be read, and written the same way; what has another number is refused in words
//! that help. `tests/fixtures/NAME-N` holds those of version N, each with its length before it.
//!
//! Whoever changes a message or a record raises its number and makes the new file:
//! `cargo test -p tests --test upgrade -- --ignored write_fixtures`. A file of an older number is
//! never changed.
#![cfg(test)]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../protocol/tests/values/mod.rs"]
mod values;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use dmc_protocol::codec::{self, CodecError, WIRE_VERSION};
use dmc_protocol::message::Message;
use dmc_protocol::record::{RECORD_SCHEMA, Record};
use dmc_store::{StoreError, decode, encode};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// Values of each kind that a fixture holds, small ones: a file stays below 20 KiB.
const OF_KIND: usize = 2;
const BYTES_MAX: usize = 600;
const TRIES: usize = 2_000;

fn fixture(name: &str, version: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(format!("{name}-{version}"))
}

/// Some values of every kind, always the same ones.
fn of_each_kind<T>(
    strategy: impl Strategy<Value = T>,
    bytes: fn(&T) -> Vec<u8>,
    kind: fn(&T) -> String,
) -> Vec<Vec<u8>> {
    let mut runner = TestRunner::deterministic();
    let mut taken: Vec<String> = Vec::new();
    let mut all = Vec::new();
    for _ in 0..TRIES {
        let value = strategy.new_tree(&mut runner).unwrap().current();
        let (kind, bytes) = (kind(&value), bytes(&value));
        if bytes.len() <= BYTES_MAX && taken.iter().filter(|k| **k == kind).count() < OF_KIND {
            taken.push(kind);
            all.push(bytes);
        }
    }
    all
}

/// The name of a value's variant.
fn variant(debug: &str) -> String {
    debug.chars().take_while(|c| c.is_alphanumeric()).collect()
}

fn messages() -> Vec<Vec<u8>> {
    of_each_kind(values::message(), |m| codec::encode(m).unwrap(), |m| m.name().to_owned())
}

fn records() -> Vec<Vec<u8>> {
    of_each_kind(
        values::record(),
        |record| encode(RECORD_SCHEMA, record).unwrap(),
        |record| variant(&format!("{record:?}")),
    )
}

fn write(name: &str, version: u16, all: &[Vec<u8>]) {
    let path = fixture(name, version);
    assert!(!path.exists(), "{} is there: it is not to be changed", path.display());
    let mut file = Vec::new();
    for bytes in all {
        file.extend(u16::try_from(bytes.len()).unwrap().to_le_bytes());
        file.extend(bytes);
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, file).unwrap();
}

fn read(path: &Path) -> Vec<Vec<u8>> {
    let mut file = fs::read(path).unwrap().into_iter();
    let mut all = Vec::new();
    while let (Some(low), Some(high)) = (file.next(), file.next()) {
        all.push(file.by_ref().take(usize::from(u16::from_le_bytes([low, high]))).collect());
    }
    all
}

/// The files of all versions, each with its number; that of the present one must be there.
fn all_of(name: &str, present: u16) -> Vec<(u16, Vec<Vec<u8>>)> {
    let (word, dir) = (format!("{name}-"), fixture(name, present));
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix(&word)?.parse::<u16>().ok();
    let files = fs::read_dir(dir.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> = files.filter_map(|path| Some((number(&path)?, read(&path)))).collect();
    assert!(
        found.iter().any(|(version, _)| *version == present),
        "there is no fixture of {name} {present}: see the top of this file"
    );
    found
}

#[test]
#[ignore = "it writes fixtures, when a version was raised"]
fn write_fixtures() {
    for (name, version, all) in
        [("wire", u16::from(WIRE_VERSION), messages()), ("record", RECORD_SCHEMA, records())]
    {
        if !fixture(name, version).exists() {
            write(name, version, &all);
        }
    }
}

#[test]
fn agents_of_one_wire_version_understand_each_other() {
    for (version, frames) in all_of("wire", WIRE_VERSION.into()) {
        let mut kinds = BTreeSet::new();
        for frame in &frames {
            match codec::decode(frame) {
                Ok(message) if version == u16::from(WIRE_VERSION) => {
                    assert_eq!(codec::encode(&message).unwrap(), *frame, "{message:?}");
                    kinds.insert(message.name());
                }
                Err(e @ CodecError::Version { .. }) if version != u16::from(WIRE_VERSION) => {
                    let words = e.to_string();
                    let both = [version.to_string(), WIRE_VERSION.to_string()];
                    assert!(both.iter().all(|number| words.contains(number)), "{words}");
                    assert!(words.contains("update the older agent"), "{words}");
                }
                other => panic!(
                    "a frame of version {version} gives {other:?}: a message has changed, and \
                     WIRE_VERSION has not (or the frame is not refused by its number)"
                ),
            }
        }
        let known: BTreeSet<&str> =
            messages().iter().map(|frame| codec::decode(frame).unwrap().name()).collect();
        assert!(version != u16::from(WIRE_VERSION) || kinds == known, "{kinds:?} of {known:?}");
    }
}

#[test]
fn a_store_is_read_or_refused_by_its_number() {
    for (version, all) in all_of("record", RECORD_SCHEMA) {
        assert!(all.len() > 5);
        for bytes in &all {
            match decode::<Record>(RECORD_SCHEMA, bytes) {
                Ok(record) if version == RECORD_SCHEMA => {
                    assert_eq!(encode(RECORD_SCHEMA, &record).unwrap(), *bytes, "{record:?}");
                }
                Err(e @ StoreError::RecordSchema { .. }) if version != RECORD_SCHEMA => {
                    let words = e.to_string();
                    assert!(words.contains("Install the newer") || words.contains("begin anew"));
                }
                other => panic!(
                    "a record of schema {version} gives {other:?}: a record has changed, and \
                     RECORD_SCHEMA has not"
                ),
            }
        }
    }
}

/// The numbers that a newer build would write.
#[test]
fn what_is_newer_is_refused_by_its_number() {
    let mut frame = codec::encode(&Message::Goodbye).unwrap();
    frame[0] += 1;
    assert!(
        matches!(codec::decode(&frame), Err(CodecError::Version { theirs, .. }) if theirs == WIRE_VERSION + 1)
    );
    let mut record = records().remove(0);
    record[..2].copy_from_slice(&(RECORD_SCHEMA + 1).to_le_bytes());
    let words = decode::<Record>(RECORD_SCHEMA, &record).unwrap_err().to_string();
    assert!(words.contains("Install the newer version"), "{words}");
}
