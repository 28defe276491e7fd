//! File names in JSON and records: any bytes but NUL, as Unix allows them.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A path that survives JSON. UTF-8 names are plain text; others are `\0` and hex digits, which
/// no real name can look like.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnyPath(pub PathBuf);

impl From<&Path> for AnyPath {
    fn from(path: &Path) -> Self {
        AnyPath(path.to_owned())
    }
}

impl std::fmt::Display for AnyPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.display().fmt(f)
    }
}

impl std::ops::Deref for AnyPath {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Serialize for AnyPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => {
                let bytes = self.0.as_os_str().as_bytes();
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                serializer.serialize_str(&format!("\0{hex}"))
            }
        }
    }
}

impl<'de> Deserialize<'de> for AnyPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let Some(hex) = text.strip_prefix('\0') else { return Ok(AnyPath(text.into())) };
        let bad = || serde::de::Error::custom("not a path");
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(bad);
        let pairs = hex.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Ok((digit(*high)? * 16 + digit(*low)?).to_le_bytes()[0]),
            _ => Err(bad()),
        });
        let bytes = pairs.collect::<Result<Vec<u8>, D::Error>>()?;
        Ok(AnyPath(OsString::from_vec(bytes).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_survives_json() {
        for bytes in [&b"/a b/\xf0\x9f\x8e\xac.mkv"[..], b"-x", b"/raw\xff\xfe\n"] {
            let path = AnyPath(OsString::from_vec(bytes.to_vec()).into());
            let json = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<AnyPath>(&json).unwrap(), path);
        }
        assert!(serde_json::from_str::<AnyPath>("\"\\u0000zz\"").is_err());
    }
}
