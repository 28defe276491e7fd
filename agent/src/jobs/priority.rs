//! Which jobs of an owner go first.
//!
//! A number: larger goes first, 0 is usual. People write `low`, `normal` and `high`. It orders the jobs of
//! one owner; between owners a worker is fair.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{OneOfBuilder, Schema};
use utoipa::openapi::{ObjectBuilder, RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

/// The words that people write, with what they mean.
const WORDS: [(&str, i8); 3] = [("low", -50), ("normal", 0), ("high", 50)];

/// How urgent a job is, from [`Priority::MIN`] to [`Priority::MAX`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(i8);

impl Priority {
    /// What goes last.
    pub const MIN: Priority = Priority(-100);
    /// As all that nobody said anything of.
    pub const NORMAL: Priority = Priority(0);
    /// What goes first.
    pub const MAX: Priority = Priority(100);

    /// As the state machine counts it.
    pub fn number(self) -> i32 {
        self.0.into()
    }

    /// A byte that sorts what goes first to the front.
    pub(super) fn rank(self) -> u8 {
        self.0.cast_unsigned() ^ 0x7f
    }
}

/// What is no priority.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no priority; write low, normal, high or a number from -100 to 100")]
pub struct NoPriority(String);

impl TryFrom<i64> for Priority {
    type Error = NoPriority;
    fn try_from(number: i64) -> Result<Priority, NoPriority> {
        let found = i8::try_from(number).map(Priority).ok();
        let fits = found.filter(|of| (Priority::MIN..=Priority::MAX).contains(of));
        fits.ok_or_else(|| NoPriority(number.to_string()))
    }
}

impl FromStr for Priority {
    type Err = NoPriority;
    fn from_str(text: &str) -> Result<Priority, NoPriority> {
        if let Some((_, number)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(Priority(*number));
        }
        let number = text.parse::<i64>().map_err(|_| NoPriority(text.to_owned()))?;
        Priority::try_from(number)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match WORDS.iter().find(|(_, number)| *number == self.0) {
            Some((word, _)) => f.write_str(word),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Priority {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i8(self.0)
    }
}

/// A number or a word in JSON; a number in records, which do not describe themselves.
impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Priority, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(i64),
            Word(String),
        }
        let read = match deserializer.is_human_readable() {
            false => Priority::try_from(i64::from(i8::deserialize(deserializer)?)),
            true => match Written::deserialize(deserializer)? {
                Written::Number(number) => Priority::try_from(number),
                Written::Word(word) => word.parse(),
            },
        };
        read.map_err(serde::de::Error::custom)
    }
}

impl PartialSchema for Priority {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(Priority::MIN.number()))
            .maximum(Some(Priority::MAX.number()));
        let word = ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(WORDS.map(|(word, _)| word)));
        OneOfBuilder::new().item(number).item(word).into()
    }
}

impl ToSchema for Priority {}

#[cfg(test)]
mod tests {
    use super::*;
    use dmc_protocol::codec;

    #[test]
    fn words_and_numbers_are_read_and_told_again() {
        let cases = [("low", -50), ("normal", 0), ("high", 50), ("7", 7), ("-100", -100)];
        for (text, number) in cases {
            let priority: Priority = text.parse().unwrap();
            assert_eq!((priority.number(), priority.to_string()), (number, text.to_owned()));
            let json = serde_json::to_string(&priority).unwrap();
            assert_eq!(serde_json::from_str::<Priority>(&json).unwrap(), priority);
            let word = serde_json::to_string(text).unwrap();
            assert_eq!(serde_json::from_str::<Priority>(&word).unwrap(), priority);
            let record = codec::to_bytes(&priority).unwrap();
            assert_eq!(codec::from_bytes::<Priority>(&record, 1).unwrap(), priority);
        }
        for bad in ["", "101", "-101", "urgent", "1.5", "99999999999999999999"] {
            assert!(bad.parse::<Priority>().is_err(), "{bad}");
            assert!(serde_json::from_str::<Priority>(bad).is_err(), "{bad}");
        }
        assert!(codec::from_bytes::<Priority>(&[0x7f], 1).is_err());
    }

    #[test]
    fn what_goes_first_sorts_to_the_front() {
        let mut all: Vec<Priority> = (-100..=100).map(Priority).collect();
        all.sort_by_key(|priority| priority.rank());
        assert!(all.windows(2).all(|pair| pair[0] > pair[1]));
        assert_eq!(all[0], Priority::MAX);
    }
}
