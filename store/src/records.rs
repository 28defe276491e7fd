//! Typed records: a schema version (two bytes, little endian), then the encoded value.

use dmc_protocol::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::batch::{Batch, Table, VALUE_BYTES_MAX};
use crate::error::StoreError;
use crate::kv::Kv;

const SCHEMA_BYTES: usize = 2;

/// A type that is kept in a table.
pub trait Record: Serialize + DeserializeOwned {
    /// Where it is kept.
    const TABLE: Table;
    /// Version of its encoding; raise it with every change of the type.
    const SCHEMA: u16;

    /// Reads a record of the older version `found`; [`decode`] with that version and the old type.
    fn from_older(found: u16, _bytes: &[u8]) -> Result<Self, StoreError> {
        Err(StoreError::RecordSchema { found, known: Self::SCHEMA })
    }
}

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

fn decode_record<R: Record>(bytes: &[u8]) -> Result<R, StoreError> {
    let found = schema_of(bytes)?;
    if found < R::SCHEMA { R::from_older(found, bytes) } else { decode(R::SCHEMA, bytes) }
}

impl Batch {
    /// Sets the record at `key`.
    pub fn put_record<R: Record>(&mut self, key: &[u8], record: &R) -> Result<(), StoreError> {
        self.put(R::TABLE, key, encode(R::SCHEMA, record)?);
        Ok(())
    }

    /// Removes the record at `key`; no error when it is not there.
    pub fn delete_record<R: Record>(&mut self, key: &[u8]) {
        self.delete(R::TABLE, key);
    }
}

impl Kv {
    /// The record at `key`.
    pub fn get_record<R: Record>(&self, key: &[u8]) -> Result<Option<R>, StoreError> {
        self.get(R::TABLE, key)?.map(|bytes| decode_record(&bytes)).transpose()
    }

    /// Records in key order, as [`Kv::scan`].
    pub fn scan_records<R: Record>(
        &self,
        prefix: &[u8],
        from_exclusive: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, R)>, StoreError> {
        let entries = self.scan(R::TABLE, prefix, from_exclusive, limit)?;
        entries.into_iter().map(|(key, value)| Ok((key, decode_record(&value)?))).collect()
    }
}
