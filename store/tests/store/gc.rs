use std::fs;

use dmc_protocol::id::BlobId;
use dmc_protocol::time::Time;
use dmc_store::{Blobs, Import, Manifest, Swept};

use crate::{bytes, files_below, temp_blobs};

const GRACE_MS: u64 = 600_000;
const NOTHING: Swept = Swept { blobs: 0, partials: 0, temps: 0, bytes: 0 };

fn import(blobs: &Blobs, seed: u8) -> BlobId {
    let source = blobs.temp_dir().join("a");
    fs::write(&source, bytes(1000, seed)).unwrap();
    blobs.import(&source, Import::Move).unwrap().id
}

#[test]
fn a_sweep_waits_for_the_grace_and_respects_pins() {
    let (dir, blobs) = temp_blobs();
    let (pinned, loose, renewed) = (import(&blobs, 1), import(&blobs, 2), import(&blobs, 3));
    blobs.pin(pinned, "job:1").unwrap();
    let start = Time(5_000_000);
    assert_eq!(blobs.sweep(start).unwrap(), NOTHING);
    assert_eq!(blobs.sweep(start + (GRACE_MS - 1)).unwrap(), NOTHING);
    import(&blobs, 3);
    assert_eq!(blobs.sweep(start + GRACE_MS).unwrap(), Swept { blobs: 1, bytes: 1000, ..NOTHING });
    assert!(blobs.contains(pinned) && !blobs.contains(loose) && blobs.contains(renewed));

    // The grace of a blob begins when its last pin goes.
    blobs.unpin(pinned, "job:1").unwrap();
    let later = start + 3 * GRACE_MS;
    assert_eq!(blobs.sweep(later).unwrap(), Swept { blobs: 1, bytes: 1000, ..NOTHING });
    assert!(blobs.contains(pinned));
    assert_eq!(blobs.sweep(later + GRACE_MS).unwrap(), Swept { blobs: 1, bytes: 1000, ..NOTHING });
    assert_eq!(files_below(dir.path()), [""; 0]);
    // A clock that goes back is no reason to remove anything.
    import(&blobs, 4);
    blobs.sweep(later).unwrap();
    assert_eq!(blobs.sweep(Time(0)).unwrap(), NOTHING);
}

#[test]
fn transfers_that_nobody_continues_are_swept() {
    let (_dir, blobs) = temp_blobs();
    let open = blobs.begin_partial(&Manifest::of_bytes(b"open")).unwrap();
    let pinned = Manifest::of_bytes(b"pinned");
    blobs.pin(pinned.id, "job:1").unwrap();
    blobs.begin_partial(&pinned).unwrap();
    blobs.begin_partial(&Manifest::of_bytes(b"left")).unwrap();
    blobs.sweep(Time(0)).unwrap();
    let swept = blobs.sweep(Time(GRACE_MS)).unwrap();
    assert_eq!(swept, Swept { partials: 1, bytes: 4, ..NOTHING });
    open.write_chunk(0, b"open").unwrap();
    open.finish().unwrap();
    assert_eq!(blobs.usage(), 10);
}

#[test]
fn leaked_temporary_files_are_swept_but_not_those_of_others() {
    let (_dir, blobs) = temp_blobs();
    fs::write(blobs.temp_dir().join("store-99"), "leaked").unwrap();
    fs::write(blobs.temp_dir().join("segment.part.mp4"), "being encoded").unwrap();
    blobs.sweep(Time(0)).unwrap();
    assert_eq!(blobs.sweep(Time(GRACE_MS)).unwrap(), Swept { temps: 1, ..NOTHING });
    assert_eq!(files_below(&blobs.temp_dir()).len(), 1);
}
