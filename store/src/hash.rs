//! Hashing of files, on several threads where that pays.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::error::StoreError;
use crate::files::lock;
use crate::manifest::{BLOB_BYTES_MAX, CHUNK_BYTES, Manifest, chunk_count, chunk_hash};

/// BLAKE3 is faster than most disks on one core; more threads than this only seek.
const THREADS_MAX: usize = 4;
/// Below this, starting threads costs more than it gains.
const PARALLEL_BYTES_MIN: u64 = 32 << 20;

/// What tells a changed file from an unchanged one without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) bytes: u64,
    pub(crate) mtime_ns: i128,
}

impl Stamp {
    pub(crate) fn of(meta: &Metadata) -> Stamp {
        let seconds = i128::from(meta.mtime());
        Stamp {
            bytes: meta.len(),
            mtime_ns: seconds * 1_000_000_000 + i128::from(meta.mtime_nsec()),
        }
    }

    pub(crate) fn of_file(file: &File, path: &Path) -> Result<Stamp, StoreError> {
        let meta = file.metadata().map_err(|e| StoreError::io("read the size of", path, e))?;
        Ok(Stamp::of(&meta))
    }
}

/// Hashes a file where it is. Fails with [`StoreError::SourceChanged`] when it changes meanwhile.
pub fn hash_file(path: &Path) -> Result<Manifest, StoreError> {
    let file = File::open(path).map_err(|e| StoreError::io("open", path, e))?;
    hash_open_file(&file, path)
}

pub(crate) fn hash_open_file(file: &File, path: &Path) -> Result<Manifest, StoreError> {
    let before = Stamp::of_file(file, path)?;
    if before.bytes > BLOB_BYTES_MAX {
        let source = std::io::Error::from(std::io::ErrorKind::FileTooLarge);
        return Err(StoreError::Io { action: "hash", path: path.to_owned(), source });
    }
    let chunks = hash_chunks(file, path, before.bytes)?;
    if Stamp::of_file(file, path)? != before {
        let why = "its size or time differs after hashing";
        return Err(StoreError::SourceChanged { path: path.to_owned(), why });
    }
    Ok(Manifest::from_chunks(before.bytes, chunks))
}

fn hash_chunks(file: &File, path: &Path, bytes: u64) -> Result<Vec<[u8; 32]>, StoreError> {
    let count = chunk_count(bytes);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let threads = if bytes < PARALLEL_BYTES_MIN { 1 } else { threads };
    let next = AtomicU64::new(0);
    let chunks = Mutex::new(vec![[0; 32]; count as usize]);
    let work = || {
        let mut buffer = vec![0; CHUNK_BYTES.min(bytes) as usize];
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(());
            }
            let hash = hash_chunk(file, path, index, bytes, &mut buffer)?;
            if let Some(slot) = lock(&chunks).get_mut(index as usize) {
                *slot = hash;
            }
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mine = work();
        others.into_iter().filter_map(|other| other.join().ok()).fold(mine, Result::and)
    })?;
    Ok(chunks.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn hash_chunk(
    file: &File,
    path: &Path,
    index: u64,
    bytes: u64,
    buffer: &mut [u8],
) -> Result<[u8; 32], StoreError> {
    let start = index * CHUNK_BYTES;
    let data = &mut buffer[..CHUNK_BYTES.min(bytes - start) as usize];
    read_range(file, path, start, data)?;
    Ok(chunk_hash(index as u32, data, bytes <= CHUNK_BYTES))
}

/// Fills `data` from `start`. A file that ends early was cut short since its size was read.
pub(crate) fn read_range(
    file: &File,
    path: &Path,
    start: u64,
    data: &mut [u8],
) -> Result<(), StoreError> {
    file.read_exact_at(data, start).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            StoreError::SourceChanged { path: path.to_owned(), why: "it became shorter" }
        }
        _ => StoreError::io("read", path, e),
    })
}
