//! The list of frames that a worker decoded: timestamps and checksums.

use std::path::Path;

use dmc_protocol::media::{PtsDigest, Rational};

use super::error::MediaError;
use super::segments;

/// Bytes of one line, generously.
const LINE_BYTES_MAX: u64 = 160;
const HEAD_BYTES_MAX: u64 = 16 * 1024;

/// How ffmpeg hashes frames, and packets: MurmurHash3 (x64, 128 bits) costs a third of what its CRC-32
/// costs, which was 4 % of a whole conversion. It guards against accidents; what others sent was hashed
/// by BLAKE3 before.
pub(crate) const HASH: &str = "murmur3";
const HASH_DIGITS: usize = 32;

/// One decoded frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// When it is shown, in ticks.
    pub pts: i64,
    /// The hash of its pixels.
    pub hash: u128,
}

/// Decoded frames, in the order of the decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The time base of the timestamps.
    pub time_base: Rational,
    /// The frames.
    pub frames: Vec<Frame>,
}

impl Proof {
    /// Reads a proof that an untrusted worker wrote.
    ///
    /// # Errors
    /// When it is longer than `frames_max` frames need, or is not a list of frames.
    pub async fn read(path: &Path, frames_max: u64) -> Result<Proof, MediaError> {
        let bytes_max = frames_max.saturating_mul(LINE_BYTES_MAX).saturating_add(HEAD_BYTES_MAX);
        let metadata =
            tokio::fs::metadata(path).await.map_err(|e| MediaError::io("read", path, e))?;
        if metadata.len() > bytes_max {
            return Err(MediaError::wrong("the list of frames", "it is too long"));
        }
        let bytes = tokio::fs::read(path).await.map_err(|e| MediaError::io("read", path, e))?;
        Proof::parse(&String::from_utf8_lossy(&bytes))
    }

    /// Reads ffmpeg's `framehash` text.
    pub fn parse(text: &str) -> Result<Proof, MediaError> {
        let bad = |why: String| MediaError::wrong("the list of frames", why);
        let mut time_base = None;
        let mut frames = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if let Some(base) = line.strip_prefix("#tb 0:") {
                time_base = super::ffprobe::ratio(Some(base.trim()));
            }
            if line.starts_with('#') {
                continue;
            }
            let frame = frame(line).ok_or_else(|| {
                let start: String = line.chars().take(60).collect();
                bad(format!("a line makes no sense: {start}"))
            })?;
            frames.push(frame);
        }
        let time_base = time_base.ok_or_else(|| bad("it names no time base".to_owned()))?;
        Ok(Proof { time_base, frames })
    }

    /// The frames of [a, b), sorted by time.
    pub fn between(&self, a: i64, b: i64) -> Vec<Frame> {
        let mut frames: Vec<Frame> =
            self.frames.iter().filter(|frame| (a..b).contains(&frame.pts)).copied().collect();
        frames.sort_unstable_by_key(|frame| frame.pts);
        frames
    }

    /// The frames before `a`, sorted by time: the pre-roll.
    pub fn before(&self, a: i64) -> Vec<Frame> {
        self.between(i64::MIN, a)
    }

    /// All frames, sorted by time.
    pub fn sorted(&self) -> Vec<Frame> {
        self.between(i64::MIN, i64::MAX)
    }
}

/// The digest of frames' timestamps.
pub(crate) fn digest(frames: &[Frame]) -> PtsDigest {
    let pts: Vec<i64> = frames.iter().map(|frame| frame.pts).collect();
    segments::digest(&pts)
}

/// `stream, dts, pts, duration, size, hash`
fn frame(line: &str) -> Option<Frame> {
    let mut fields = line.split(',').map(str::trim);
    let stream = fields.next()?;
    let pts = fields.nth(1)?.parse().ok()?;
    let hash = fields.nth(2)?;
    if stream != "0" || hash.len() != HASH_DIGITS {
        return None;
    }
    Some(Frame { pts, hash: u128::from_str_radix(hash, 16).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "#format: frame checksums\n#tb 0: 1/12288\n#media_type 0: video\n\
        0,          0,          0,        1,   614400, 1c5eb05f00000000000000000000abcd\n\
        0,        512,        512,        1,   614400, 00000000000000000000000000000001\n";

    #[test]
    fn framehash_is_read() {
        let proof = Proof::parse(TEXT).unwrap();
        assert_eq!(proof.time_base, Rational::new(1, 12_288));
        assert_eq!(
            proof.frames[0],
            Frame { pts: 0, hash: 0x1c5e_b05f_0000_0000_0000_0000_0000_abcd }
        );
        assert_eq!(proof.between(1, 600), [Frame { pts: 512, hash: 1 }]);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "#tb 0: 1/0\n",
            "#tb 0: 1/2\nhello\n",
            "#tb 0: 1/2\n0,1,2,3,4,xyz\n",
            "#tb 0: 1/2\n0,1,2,3,4,1c5eb05f\n",
        ] {
            assert!(Proof::parse(text).is_err(), "{text}");
        }
    }
}
