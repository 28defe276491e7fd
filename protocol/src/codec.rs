//! How messages and records become bytes. The only file that names bincode.
//!
//! A frame on the wire is one version byte followed by the bincode 2 standard encoding (little
//! endian, variable-length integers). Sizes are checked before anything is decoded, and bincode is
//! told the same limit, so a length prefix cannot make it allocate more than the frame holds.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::FRAME_BYTES_MAX;
use crate::message::Message;

/// The version of the wire format that this build speaks.
pub const WIRE_VERSION: u8 = 4;

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// More bytes than the limit.
    #[error("{bytes} bytes are more than the limit of {bytes_max}")]
    TooLong {
        /// Bytes that arrived or would be sent.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The other side speaks another version.
    #[error("wire version {theirs} is not ours, {ours}; update the older agent")]
    Version {
        /// Version byte of the frame.
        theirs: u8,
        /// Version that this build speaks.
        ours: u8,
    },
    /// Bytes were left after the value.
    #[error("{extra} bytes follow the value")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// The bytes do not decode.
    #[error("cannot decode")]
    Decode(#[from] bincode::error::DecodeError),
    /// The value does not encode.
    #[error("cannot encode")]
    Encode(#[from] bincode::error::EncodeError),
    /// The value decodes but breaks a rule of the protocol.
    #[error("not a valid message: {0}")]
    Invalid(&'static str),
}

/// Encodes any value without a frame.
pub fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    Ok(bincode::serde::encode_to_vec(value, bincode::config::standard())?)
}

/// Decodes any value without a frame; refuses more than `bytes_max` bytes and trailing ones.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> Result<T, CodecError> {
    if bytes.len() > bytes_max {
        return Err(CodecError::TooLong { bytes: bytes.len(), bytes_max });
    }
    // The type-level limit bounds what length prefixes may claim; the slice bounds the rest.
    let config = bincode::config::standard().with_limit::<{ 64 << 20 }>();
    let (value, read) = bincode::serde::decode_from_slice(bytes, config)?;
    if read != bytes.len() {
        return Err(CodecError::Trailing { extra: bytes.len() - read });
    }
    Ok(value)
}

/// A message as a frame body: version byte, then the message.
pub fn encode(message: &Message) -> Result<Vec<u8>, CodecError> {
    let mut frame = vec![WIRE_VERSION];
    frame.extend(to_bytes(message)?);
    if frame.len() > FRAME_BYTES_MAX {
        return Err(CodecError::TooLong { bytes: frame.len(), bytes_max: FRAME_BYTES_MAX });
    }
    Ok(frame)
}

/// Reads a frame body and checks the limits inside the message.
pub fn decode(frame: &[u8]) -> Result<Message, CodecError> {
    if frame.len() > FRAME_BYTES_MAX {
        return Err(CodecError::TooLong { bytes: frame.len(), bytes_max: FRAME_BYTES_MAX });
    }
    let Some((&version, body)) = frame.split_first() else {
        return Err(CodecError::Invalid("empty frame"));
    };
    if version != WIRE_VERSION {
        return Err(CodecError::Version { theirs: version, ours: WIRE_VERSION });
    }
    let message: Message = from_bytes(body, FRAME_BYTES_MAX)?;
    message.check()?;
    Ok(message)
}
