//! Browsers that have signed in, for a month each; those that did so over TLS also over restarts of the
//! agent. Without TLS a browser could be made to tell its cookie to a program that took the port of an
//! agent that died, so each start signs those out.
//!
//! What a cookie says is random and only its hash is kept, so the file opens nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{Access, LOCAL, Named, Scope, hash};
use crate::identity::write_private;
use crate::jobs::now_ms;

const SESSIONS_MAX: usize = 256;
/// How long a browser stays signed in. Its cookie lives no longer.
pub(in crate::http) const LIFE_S: u32 = 30 * 24 * 3_600;

/// A browser, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    /// BLAKE3 of what its cookie says, in hexadecimal digits.
    hash: String,
    /// The token that it signed in with.
    name: String,
    /// What that may be used for.
    scope: Scope,
    /// When, in milliseconds since 1970.
    at_ms: i64,
    /// Whether it outlives the agent.
    #[serde(skip)]
    durable: bool,
}

impl Session {
    /// A clock that was set back makes it neither older nor younger than it may be.
    fn lives(&self, now_ms: i64) -> bool {
        let age_ms = now_ms.saturating_sub(self.at_ms);
        (0..=i64::from(LIFE_S) * 1_000).contains(&age_ms)
    }
}

/// All browsers that have signed in.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    path: PathBuf,
    all: BTreeMap<String, Session>,
}

impl Sessions {
    /// Those of an earlier run whose token still is what it was. A file that cannot be read signs all
    /// out.
    pub fn open(path: PathBuf, named: &[Named]) -> Sessions {
        let read = fs::read(&path).ok().map(|bytes| serde_json::from_slice::<Vec<Session>>(&bytes));
        let kept = match read {
            None => Vec::new(),
            Some(Ok(kept)) => kept,
            Some(Err(e)) => {
                warn!("browsers must sign in again: {} cannot be read: {e}", path.display());
                Vec::new()
            }
        };
        let valid = |of: &Session| {
            let token = named.iter().any(|named| named.name == of.name && named.scope == of.scope);
            of.lives(now_ms()) && (token || of.name == LOCAL)
        };
        let all = kept.into_iter().filter(valid);
        let all = all.map(|of| (of.hash.clone(), Session { durable: true, ..of })).collect();
        Sessions { path, all }
    }

    /// Whose browser it is.
    pub fn of(&self, cookie: &str) -> Option<Access> {
        let found = self.all.get(hash(cookie).to_hex().as_str())?;
        let access = || Access { name: found.name.clone(), scope: found.scope };
        found.lives(now_ms()).then(access)
    }

    /// One more; the oldest goes when there are too many. Blocking.
    pub fn add(&mut self, cookie: &str, access: Access, durable: bool) {
        let now_ms = now_ms();
        self.all.retain(|_, of| of.lives(now_ms));
        while self.all.len() >= SESSIONS_MAX {
            let oldest = self.all.values().min_by_key(|of| of.at_ms).map(|of| of.hash.clone());
            let Some(oldest) = oldest else { break };
            self.all.remove(&oldest);
        }
        let hash = hash(cookie).to_hex().to_string();
        let Access { name, scope } = access;
        self.all.insert(hash.clone(), Session { hash, name, scope, at_ms: now_ms, durable });
        self.save();
    }

    /// It signs out. Blocking.
    pub fn remove(&mut self, cookie: &str) {
        if self.all.remove(hash(cookie).to_hex().as_str()).is_some() {
            self.save();
        }
    }

    /// All that signed in with this token are signed out; how many they were. Blocking.
    pub fn revoke(&mut self, name: &str) -> usize {
        let before = self.all.len();
        self.all.retain(|_, of| of.name != name);
        if self.all.len() < before {
            self.save();
        }
        before - self.all.len()
    }

    /// What is not kept is forgotten at the next start, and never the other way: a file that still names
    /// what was removed must not stay.
    fn save(&self) {
        let all: Vec<&Session> = self.all.values().filter(|of| of.durable).collect();
        let bytes = serde_json::to_vec_pretty(&all).unwrap_or_default();
        if let Err(e) = write_private(&self.path, &bytes) {
            let gone = fs::remove_file(&self.path);
            warn!("browsers must sign in again after the next start: {e}; removed: {gone:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin(name: &str) -> Access {
        Access { name: name.to_owned(), scope: Scope::Admin }
    }

    fn named(name: &str, scope: Scope) -> Named {
        Named { name: name.to_owned(), scope, hash: String::new(), created_at: String::new() }
    }

    #[test]
    fn over_tls_a_browser_stays_signed_in_over_a_restart_and_what_is_kept_opens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.json");
        let mut first = Sessions::open(path.clone(), &[]);
        first.add("own", admin(LOCAL), true);
        first.add("other", admin("sonarr"), true);
        first.add("gone", admin(LOCAL), true);
        first.add("plain", admin(LOCAL), false);
        assert_eq!(first.of("plain"), Some(admin(LOCAL)));
        first.remove("gone");
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("own") && !text.contains("other"), "{text}");
        let again = Sessions::open(path.clone(), &[named("sonarr", Scope::Admin)]);
        assert_eq!(again.of("own"), Some(admin(LOCAL)));
        assert_eq!(again.of("other"), Some(admin("sonarr")));
        assert_eq!((again.of("gone"), again.of("plain")), (None, None));
        // Its token was revoked, or is another one now, while the agent did not run.
        let less = Sessions::open(path.clone(), &[named("sonarr", Scope::Read)]);
        assert_eq!(less.of("other"), None);
        let mut revoked = Sessions::open(path.clone(), &[named("sonarr", Scope::Admin)]);
        assert_eq!((revoked.revoke("sonarr"), revoked.revoke("sonarr")), (1, 0));
        assert_eq!(Sessions::open(path, &[named("sonarr", Scope::Admin)]).of("other"), None);
    }

    #[test]
    fn a_browser_is_signed_out_after_a_month_and_by_a_clock_that_is_wrong() {
        let at = |at_ms| Session {
            hash: String::new(),
            name: LOCAL.to_owned(),
            scope: Scope::Read,
            at_ms,
            durable: true,
        };
        let month_ms = i64::from(LIFE_S) * 1_000;
        assert!(at(1_000).lives(1_000) && at(1_000).lives(1_000 + month_ms));
        assert!(!at(1_000).lives(1_001 + month_ms) && !at(1_000).lives(999));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.json");
        fs::write(&path, "no json").unwrap();
        assert_eq!(Sessions::open(path, &[]).of(""), None);
    }
}
