//! Words that people write for one of a few choices.

use std::fmt;

/// A word that names none of the choices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not a {what}; choose one of: {choices}")]
pub struct UnknownWord {
    /// The word as given.
    pub word: String,
    /// What it should have been.
    pub what: &'static str,
    /// The words that would do.
    pub choices: String,
}

/// The choice that the word names, in whatever case; `what` is to be chosen, in words for people.
pub(super) fn pick<T: Copy + fmt::Display>(
    word: &str,
    what: &'static str,
    all: &[T],
) -> Result<T, UnknownWord> {
    all.iter().copied().find(|choice| choice.to_string().eq_ignore_ascii_case(word)).ok_or_else(
        || {
            let choices: Vec<String> = all.iter().map(ToString::to_string).collect();
            let word = word.chars().take(40).collect();
            UnknownWord { word, what, choices: choices.join(", ") }
        },
    )
}
