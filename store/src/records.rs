//! Records: a schema version (two bytes, little endian), then the encoded value.

use dmc_protocol::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::batch::VALUE_BYTES_MAX;
use crate::error::StoreError;

const SCHEMA_BYTES: usize = 2;

/// Encodes `value` as a record of version `schema`.
pub fn encode<T: Serialize>(schema: u16, value: &T) -> Result<Vec<u8>, StoreError> {
    let body = codec::to_bytes(value).map_err(|source| StoreError::Record {
        action: "encode",
        schema,
        source,
    })?;
    let mut bytes = schema.to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Decodes a record of exactly version `schema`.
pub fn decode<T: DeserializeOwned>(schema: u16, bytes: &[u8]) -> Result<T, StoreError> {
    decode_up_to(schema, bytes, VALUE_BYTES_MAX)
}

/// [`decode`] with another limit than that of database values, for files.
pub(crate) fn decode_up_to<T: DeserializeOwned>(
    schema: u16,
    bytes: &[u8],
    bytes_max: usize,
) -> Result<T, StoreError> {
    let found = schema_of(bytes)?;
    if found != schema {
        return Err(StoreError::RecordSchema { found, known: schema });
    }
    codec::from_bytes(&bytes[SCHEMA_BYTES..], bytes_max).map_err(|source| StoreError::Record {
        action: "decode",
        schema,
        source,
    })
}

/// The schema version of a record.
pub fn schema_of(bytes: &[u8]) -> Result<u16, StoreError> {
    match bytes.first_chunk::<SCHEMA_BYTES>() {
        Some(version) => Ok(u16::from_le_bytes(*version)),
        None => Err(StoreError::ShortRecord { bytes: bytes.len() }),
    }
}
