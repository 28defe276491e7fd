//! Names of things: agents, jobs, tasks, attempts, blobs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct BadId {
    /// The text as it was given.
    pub text: String,
    /// What was expected, with its article.
    pub expected: &'static str,
}

/// The multihash and protobuf prefix of an ed25519 key in a libp2p peer id
/// (libp2p specs, `peer-ids/peer-ids.md`): identity hash, 36 bytes, key type 1, 32 bytes of key.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
/// Longer than any peer id of 38 bytes.
const PEER_ID_CHARS_MAX: usize = 64;

/// An agent: its ed25519 public key. Shown and parsed as the libp2p peer id (`12D3KooW…`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(pub [u8; 32]);

impl AgentId {
    /// The binary libp2p peer id, 38 bytes.
    pub fn peer_id_bytes(&self) -> Vec<u8> {
        let mut bytes = PEER_ID_PREFIX.to_vec();
        bytes.extend_from_slice(&self.0);
        bytes
    }

    /// From a binary libp2p peer id; `None` when it is not that of an ed25519 key.
    pub fn from_peer_id_bytes(bytes: &[u8]) -> Option<AgentId> {
        let key = bytes.strip_prefix(&PEER_ID_PREFIX)?;
        Some(AgentId(key.try_into().ok()?))
    }

    /// The last eight characters of the peer id: enough for a person to tell agents apart.
    pub fn short(&self) -> String {
        let text = self.to_string();
        text[text.len() - 8..].to_owned()
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.peer_id_bytes()).into_string())
    }
}

impl fmt::Debug for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentId({})", self.short())
    }
}

impl FromStr for AgentId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId { text: text.to_owned(), expected: "a peer id" };
        // The time that base58 takes grows with the square of the length.
        if text.len() > PEER_ID_CHARS_MAX {
            return Err(bad());
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| bad())?;
        AgentId::from_peer_id_bytes(&bytes).ok_or_else(bad)
    }
}

/// A job, made by its owner: a random or time-ordered UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub Uuid);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({})", self.0)
    }
}

impl FromStr for JobId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        Uuid::parse_str(text)
            .map(JobId)
            .map_err(|_| BadId { text: text.to_owned(), expected: "a job id" })
    }
}

/// One task of a job: its position in the plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The job that the task belongs to.
    pub job: JobId,
    /// Position in the job's plan, from 0.
    pub index: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.index)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({self})")
    }
}

/// One try at a task by one worker: 128 random bits, the fencing token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u128);

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttemptId({:08x}…)", self.0 >> 96)
    }
}

impl FromStr for AttemptId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        u128::from_str_radix(text, 16)
            .map(AttemptId)
            .map_err(|_| BadId { text: text.to_owned(), expected: "an attempt id" })
    }
}

/// The BLAKE3 hash of a blob's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub [u8; 32]);

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({:02x}{:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

impl FromStr for BlobId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId { text: text.to_owned(), expected: "a BLAKE3 hash (64 hex digits)" };
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| bad())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
        }
        Ok(BlobId(bytes))
    }
}

/// Text for people and JSON, raw bytes for the wire and the store.
macro_rules! serde_text_or_bytes {
    ($name:ident, $raw:ty) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    let text = String::deserialize(d)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    <$raw>::deserialize(d).map($name)
                }
            }
        }
    };
}
serde_text_or_bytes!(AgentId, [u8; 32]);
serde_text_or_bytes!(AttemptId, u128);
serde_text_or_bytes!(BlobId, [u8; 32]);

/// A blob as messages and records name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    /// Hash of the bytes.
    pub id: BlobId,
    /// Length in bytes.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_id_reads_back_from_its_text() {
        let id = AgentId([7; 32]);
        assert!(id.to_string().starts_with("12D3KooW"));
        assert_eq!(id.to_string().parse::<AgentId>().unwrap(), id);
    }

    #[test]
    fn ids_refuse_foreign_text() {
        assert!("x".parse::<AgentId>().is_err());
        assert!("zz".repeat(32).parse::<BlobId>().is_err());
        assert!("é".repeat(32).parse::<BlobId>().is_err());
        assert!("1-2".parse::<JobId>().is_err());
    }
}
