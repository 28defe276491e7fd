//! One-time codes that a person carries from a member to the agent that is to join.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use dmc_protocol::id::AgentId;

/// How long a code is valid.
pub(super) const LIFE: Duration = Duration::from_secs(600);
/// Wrong guesses that burn it.
const FAILURES_MAX: u32 = 3;
/// Crockford's base 32: no letters that look like others.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Letters that tell who made it: the code is tried with nobody else.
const HINT: usize = 2;
const LENGTH: usize = 9;

/// A text that is no code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no code; `dmc mesh invite` prints one, as in 7KQ-4M2-9XF")]
pub struct CodeError(String);

/// Nine letters: two tell who made it, seven (35 bits) are secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; LENGTH]);

impl Code {
    /// A new one, made by an agent.
    pub(super) fn random(by: AgentId) -> Code {
        let mut letters: [u8; LENGTH] =
            std::array::from_fn(|_| LETTERS[usize::from(rand::random::<u8>() % 32)]);
        letters[..HINT].copy_from_slice(&hint(by));
        Code(letters)
    }

    /// Whether this agent may have made it.
    pub fn is_of(&self, peer: AgentId) -> bool {
        self.0[..HINT] == hint(peer)
    }

    /// What both sides use as the password.
    pub fn secret(&self) -> String {
        self.0.iter().map(|letter| char::from(*letter)).collect()
    }
}

fn hint(by: AgentId) -> [u8; HINT] {
    let hash = blake3::hash(&by.0);
    std::array::from_fn(|n| LETTERS[usize::from(hash.as_bytes()[n] % 32)])
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.secret();
        write!(f, "{}-{}-{}", &text[..3], &text[3..6], &text[6..])
    }
}

/// It is a secret: it stays out of logs.
impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(…)")
    }
}

impl FromStr for Code {
    type Err = CodeError;
    /// As people type: small letters, no hyphens, and O, I, L for the digits that they look like.
    fn from_str(text: &str) -> Result<Code, CodeError> {
        let bad = || CodeError(text.chars().take(40).collect());
        let plain = text.chars().filter(|c| !c.is_whitespace() && *c != '-');
        let letters = plain.map(|c| match c.to_ascii_uppercase() {
            'O' => Some(b'0'),
            'I' | 'L' => Some(b'1'),
            c => LETTERS.iter().copied().find(|letter| char::from(*letter) == c),
        });
        let letters: Option<Vec<u8>> = letters.collect();
        letters.and_then(|letters| letters.try_into().ok()).map(Code).ok_or_else(bad)
    }
}

/// A code that is valid here.
#[derive(Debug)]
pub(super) struct Invite {
    code: Code,
    until: Instant,
    failures: u32,
}

impl Invite {
    pub(super) fn new(code: Code) -> Invite {
        Invite { code, until: Instant::now() + LIFE, failures: 0 }
    }

    pub(super) fn code(&self) -> &Code {
        &self.code
    }

    pub(super) fn is_valid(&self) -> bool {
        Instant::now() < self.until
    }

    /// A wrong guess. `false`: that burned it.
    pub(super) fn failed(&mut self) -> bool {
        self.failures += 1;
        self.failures < FAILURES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let by = AgentId([3; 32]);
        let code = Code::random(by);
        assert_ne!(code, Code::random(by));
        assert!(code.is_of(by));
        let text = code.to_string();
        assert_eq!(text.len(), 11);
        assert_eq!(text.parse(), Ok(code.clone()));
        assert_eq!(text.to_lowercase().replace('-', " ").parse(), Ok(code));
        assert_eq!("oil-oil-oil".parse::<Code>().unwrap().secret(), "011011011");
        for bad in ["", "123-456", "123-456-7890", "ÄÖÜ-ÄÖÜ-ÄÖÜ", "U23-456-789"] {
            assert!(bad.parse::<Code>().is_err(), "{bad}");
        }
    }

    #[test]
    fn three_wrong_guesses_burn_it() {
        let mut invite = Invite::new(Code::random(AgentId([3; 32])));
        assert!(invite.failed() && invite.failed() && !invite.failed());
    }
}
