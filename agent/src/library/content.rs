//! What names a file by its content, so that it is known again under another name.
//!
//! Reading all of a film only to see that it was moved would take minutes. So the first look reads
//! sixteen samples that are spread over the file, and its length; small files are read whole. Where
//! that says that a content is known, and the file is larger than its samples, all of it is compared.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use dmc_protocol::id::BlobId;

use super::records::ContentId;

/// How much is read at each place.
const SAMPLE_BYTES: u64 = 64 << 10;
const SAMPLES: u64 = 16;
/// Files up to this size are read whole.
pub const WHOLE_BYTES_MAX: u64 = SAMPLE_BYTES * SAMPLES;

/// Reads the samples of a file.
///
/// # Errors
/// It cannot be read, or became shorter.
pub fn name(path: &Path) -> io::Result<ContentId> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes.to_le_bytes());
    let mut sample = vec![0; usize::try_from(SAMPLE_BYTES).unwrap_or_default()];
    if bytes <= WHOLE_BYTES_MAX {
        hasher.update_reader(file)?;
        return Ok(*hasher.finalize().as_bytes());
    }
    for n in 0..SAMPLES {
        // The first is at the start, the last at the end.
        let at = (bytes - SAMPLE_BYTES) / (SAMPLES - 1) * n;
        let at = if n + 1 == SAMPLES { bytes - SAMPLE_BYTES } else { at };
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut sample)?;
        hasher.update(&sample);
    }
    Ok(*hasher.finalize().as_bytes())
}

/// The hash of all of a file, which also names it as a blob.
///
/// # Errors
/// It cannot be read.
pub fn whole(path: &Path) -> io::Result<BlobId> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(BlobId(*hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_has_the_same_name_anywhere_and_another_after_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("-two \u{1f3ac}"));
        for bytes in [0, 1, WHOLE_BYTES_MAX, WHOLE_BYTES_MAX + 1, 5 * WHOLE_BYTES_MAX] {
            let mut content: Vec<u8> = (0..bytes).map(|n| (n % 251).to_le_bytes()[0]).collect();
            std::fs::write(&one, &content).unwrap();
            std::fs::write(&two, &content).unwrap();
            assert_eq!(name(&one).unwrap(), name(&two).unwrap());
            assert_eq!(whole(&one).unwrap(), whole(&two).unwrap());
            if let Some(last) = content.last_mut() {
                *last ^= 1;
                std::fs::write(&two, &content).unwrap();
                assert_ne!(name(&one).unwrap(), name(&two).unwrap(), "{bytes}: the last byte");
            }
            content.push(0);
            std::fs::write(&two, &content).unwrap();
            assert_ne!(name(&one).unwrap(), name(&two).unwrap(), "{bytes}: the length");
        }
    }
}
