//! Who may call the API, and what for: the token of this start, named tokens, browsers that have
//! signed in.
//!
//! Tokens are 256 random bits; only their hashes are kept. Hashes are looked up, not tokens, so time
//! tells nothing about a token.

mod sessions;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blake3::Hash;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::{Deserialize, Serialize};

use crate::identity::write_private;
pub(super) use sessions::LIFE_S as SESSION_LIFE_S;
use sessions::Sessions;

const FILE: &str = "tokens.json";
const SESSIONS_FILE: &str = "sessions.json";
/// How they begin, so that scanners for leaked secrets know them.
const PREFIX: &str = "dmc_";
/// Name of the token that changes at each start.
const LOCAL: &str = "local";
const NAMED_MAX: usize = 256;
const NAME_CHARS_MAX: usize = 64;
/// A link that signs a browser in must be followed within this time.
const LINK_LIFE: Duration = Duration::from_secs(120);
const LINKS_MAX: usize = 32;
/// So many seconds' calls may come at once.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// What a token may be used for; each may do what those before it may.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look at everything, fetch results.
    Read,
    /// Send files to convert, cancel and remove.
    Submit,
    /// Everything: name any file of the machine, change the mesh, the agent and the tokens.
    Admin,
}

impl Scope {
    /// The word for people and scripts.
    pub fn word(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Submit => "submit",
            Scope::Admin => "admin",
        }
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Name of the token.
    pub name: String,
    /// What it may be used for.
    pub scope: Scope,
}

/// A named token, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Named {
    /// What people call it.
    pub name: String,
    /// What it may be used for.
    pub scope: Scope,
    /// BLAKE3 of the token, in hexadecimal digits.
    pub hash: String,
    /// RFC 3339.
    pub created_at: String,
}

/// Why a token is not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Names are for people and lists.
    #[error("`{0}` is no name of a token: up to {NAME_CHARS_MAX} letters, digits and - _ . are")]
    Name(String),
    /// There is one of this name.
    #[error("there is a token `{0}` already; revoke it first, or choose another name")]
    Taken(String),
    /// There is none of this name.
    #[error("there is no token `{0}`; `dmc token list` names them")]
    Unknown(String),
    /// Too many.
    #[error("there are {NAMED_MAX} tokens already; revoke some")]
    TooMany,
    /// The file cannot be written.
    #[error("cannot keep the tokens in {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Why the tokens of an earlier run cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the tokens in {path}: {reason}; remove the file to begin with none")]
pub struct TokensUnreadable {
    path: PathBuf,
    reason: String,
}

#[derive(Default)]
struct Inner {
    named: Vec<Named>,
    /// Browsers that have signed in.
    sessions: Sessions,
    /// How often each token is used.
    paces: BTreeMap<String, DefaultDirectRateLimiter>,
    /// Links that sign in once.
    links: BTreeMap<[u8; 32], (Access, Instant)>,
}

/// All that opens the API.
pub(super) struct Tokens {
    local: Hash,
    path: PathBuf,
    pace: Quota,
    inner: Mutex<Inner>,
}

/// 256 random bits as text.
pub(super) fn secret() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}

fn hash(text: &str) -> Hash {
    blake3::hash(text.as_bytes())
}

impl Tokens {
    /// `local` is the token of this start; the named ones are in a file of the data directory.
    pub(super) fn open(
        data_dir: &Path,
        local: &str,
        calls_per_s: NonZeroU32,
    ) -> Result<Tokens, TokensUnreadable> {
        let path = data_dir.join(FILE);
        let unreadable = |reason: String| TokensUnreadable { path: path.clone(), reason };
        let named: Vec<Named> = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| unreadable(e.to_string()))?,
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(unreadable(e.to_string())),
        };
        let sessions = Sessions::open(data_dir.join(SESSIONS_FILE), &named);
        let inner = Mutex::new(Inner { named, sessions, ..Inner::default() });
        let pace = Quota::per_second(calls_per_s).allow_burst(calls_per_s.saturating_mul(BURST));
        Ok(Tokens { local: hash(local), path, pace, inner })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose token it is.
    pub(super) fn of_token(&self, token: &str) -> Option<Access> {
        let hash = hash(token);
        if hash == self.local {
            return Some(Access { name: LOCAL.to_owned(), scope: Scope::Admin });
        }
        let hash = hash.to_hex();
        let inner = self.lock();
        let named = inner.named.iter().find(|named| *named.hash == *hash)?;
        Some(Access { name: named.name.clone(), scope: named.scope })
    }

    /// Whether a token may be used once more just now.
    pub(super) fn may_call(&self, access: &Access) -> bool {
        if access.name == LOCAL {
            return true;
        }
        let mut inner = self.lock();
        let pace = inner.paces.entry(access.name.clone());
        pace.or_insert_with(|| RateLimiter::direct(self.pace)).check().is_ok()
    }

    /// Which browser it is.
    pub(super) fn of_session(&self, cookie: &str) -> Option<Access> {
        self.lock().sessions.of(cookie)
    }

    /// Signs a browser in, over TLS (`durable`) for longer than this agent runs; returns what its cookie
    /// says. Writes a file: blocking.
    pub(super) fn sign_in(&self, access: Access, durable: bool) -> String {
        let cookie = secret();
        self.lock().sessions.add(&cookie, access, durable);
        cookie
    }

    /// Signs a browser out. Blocking.
    pub(super) fn sign_out(&self, cookie: &str) {
        self.lock().sessions.remove(cookie);
    }

    /// A code that signs a browser in, once.
    pub(super) fn link(&self, access: Access) -> String {
        let code = secret();
        keep(&mut self.lock().links, LINKS_MAX, &code, access);
        code
    }

    /// Whom a code signs in. It is worth nothing after that.
    pub(super) fn follow(&self, code: &str) -> Option<Access> {
        let (access, made) = self.lock().links.remove(hash(code).as_bytes())?;
        (made.elapsed() <= LINK_LIFE).then_some(access)
    }

    pub(super) fn list(&self) -> Vec<Named> {
        self.lock().named.clone()
    }

    /// Makes a token, durable when this returns; it is told this once. Writes a file: blocking.
    pub(super) fn add(&self, name: &str, scope: Scope) -> Result<(Named, String), AccessError> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !(1..=NAME_CHARS_MAX).contains(&name.len()) || !name.chars().all(good) {
            return Err(AccessError::Name(name.chars().take(NAME_CHARS_MAX).collect()));
        }
        let mut inner = self.lock();
        if name == LOCAL || inner.named.iter().any(|named| named.name == name) {
            return Err(AccessError::Taken(name.to_owned()));
        }
        if inner.named.len() >= NAMED_MAX {
            return Err(AccessError::TooMany);
        }
        let token = format!("{PREFIX}{}", secret());
        let created_at = jiff::Timestamp::now().to_string();
        let hash = hash(&token).to_hex().to_string();
        let named = Named { name: name.to_owned(), scope, hash, created_at };
        let all = inner.named.iter().cloned().chain([named.clone()]).collect();
        self.save(&mut inner, all)?;
        Ok((named, token))
    }

    /// A token and the browsers that signed in with it open nothing from now on. Blocking.
    pub(super) fn revoke(&self, name: &str) -> Result<(), AccessError> {
        let mut inner = self.lock();
        if name == LOCAL {
            // The token itself changes at each start.
            inner.sessions.revoke(LOCAL);
            inner.links.retain(|_, (access, _)| access.name != LOCAL);
            return Ok(());
        }
        let left: Vec<Named> = inner.named.iter().filter(|of| of.name != name).cloned().collect();
        if left.len() == inner.named.len() {
            return Err(AccessError::Unknown(name.chars().take(NAME_CHARS_MAX).collect()));
        }
        self.save(&mut inner, left)?;
        inner.sessions.revoke(name);
        inner.links.retain(|_, (access, _)| access.name != name);
        inner.paces.remove(name);
        Ok(())
    }

    fn save(&self, inner: &mut Inner, named: Vec<Named>) -> Result<(), AccessError> {
        let failed = |source| AccessError::Write { path: self.path.clone(), source };
        let bytes = serde_json::to_vec_pretty(&named).map_err(|e| failed(e.into()))?;
        write_private(&self.path, &bytes).map_err(failed)?;
        inner.named = named;
        Ok(())
    }
}

/// Keeps one more; the one that was not used for longest goes when there are too many.
fn keep(
    all: &mut BTreeMap<[u8; 32], (Access, Instant)>,
    most: usize,
    secret: &str,
    access: Access,
) {
    if all.len() >= most
        && let Some(oldest) = all.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key)
    {
        all.remove(&oldest);
    }
    all.insert(*hash(secret).as_bytes(), (access, Instant::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: NonZeroU32 = NonZeroU32::MAX;

    #[test]
    fn named_tokens_are_known_after_a_restart_until_they_are_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path(), "local", PACE).unwrap();
        let (_, token) = tokens.add("sonarr", Scope::Submit).unwrap();
        assert!(matches!(tokens.add("sonarr", Scope::Read), Err(AccessError::Taken(_))));
        assert!(!fs::read_to_string(dir.path().join(FILE)).unwrap().contains(&token));
        let tokens = Tokens::open(dir.path(), "other", PACE).unwrap();
        let access = tokens.of_token(&token).unwrap();
        assert_eq!((access.name.as_str(), access.scope), ("sonarr", Scope::Submit));
        assert_eq!(tokens.of_token("local"), None);
        assert_eq!(tokens.of_token("other").unwrap().scope, Scope::Admin);
        let cookie = tokens.sign_in(access, true);
        assert!(tokens.of_session(&cookie).is_some());
        tokens.revoke("sonarr").unwrap();
        assert_eq!(tokens.of_token(&token), None);
        assert_eq!(tokens.of_session(&cookie), None, "its browsers are signed out");
        assert!(Tokens::open(dir.path(), "x", PACE).unwrap().of_token(&token).is_none());
        assert!(matches!(tokens.revoke("sonarr"), Err(AccessError::Unknown(_))));
    }

    #[test]
    fn a_token_is_used_so_often_and_that_of_this_machine_always() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path(), "local", NonZeroU32::MIN).unwrap();
        let may = |name: &str, calls: usize| {
            let access = Access { name: name.to_owned(), scope: Scope::Read };
            (0..calls).filter(|_| tokens.may_call(&access)).count()
        };
        assert_eq!(may(LOCAL, 1_000), 1_000);
        let used = may("a", 1_000);
        assert!((10..20).contains(&used), "{used}");
        assert!(may("b", 1) == 1, "each has its own");
    }

    #[test]
    fn names_are_plain() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path(), "local", PACE).unwrap();
        for bad in ["", "a b", "a/b", "\n", "local", &"x".repeat(65)] {
            assert!(tokens.add(bad, Scope::Read).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_link_signs_in_once() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path(), "local", PACE).unwrap();
        let access = Access { name: "local".to_owned(), scope: Scope::Admin };
        let code = tokens.link(access.clone());
        assert_eq!(tokens.follow("other"), None);
        assert_eq!(tokens.follow(&code), Some(access));
        assert_eq!(tokens.follow(&code), None);
    }

    #[test]
    fn browsers_are_few_and_can_sign_out() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path(), "local", PACE).unwrap();
        let access = Access { name: "local".to_owned(), scope: Scope::Read };
        let first = tokens.sign_in(access.clone(), false);
        std::thread::sleep(Duration::from_millis(2));
        let more: Vec<_> = (0..256).map(|_| tokens.sign_in(access.clone(), false)).collect();
        assert_eq!(tokens.of_session(&first), None, "the oldest is signed out");
        tokens.sign_out(&more[255]);
        assert_eq!(tokens.of_session(&more[255]), None);
        assert!(tokens.of_session(&more[254]).is_some());
        tokens.revoke(LOCAL).unwrap();
        assert_eq!(tokens.of_session(&more[254]), None, "all of this machine's own");
    }
}
