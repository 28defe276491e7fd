//! Mark and sweep of what nobody needs any more.
//!
//! Age is counted from when a sweep first saw a thing unneeded, on the caller's monotonic clock:
//! file times would let one jump of the wall clock remove a result that was stored a second ago.

use std::collections::BTreeMap;

use dmc_protocol::id::BlobId;
use dmc_protocol::time::Time;

use crate::blobs::{Blobs, Inner, State};
use crate::error::StoreError;
use crate::files::{self, lock};
use crate::import::TEMP_PREFIX;
use crate::partial::PartialEntry;

/// Something that could be swept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Candidate {
    Blob(BlobId),
    Partial(BlobId),
    Temp(String),
}

/// Since when candidates are unneeded.
#[derive(Default)]
pub(crate) struct Idle(BTreeMap<Candidate, Time>);

impl Idle {
    /// Starts the grace of a blob and its transfer anew.
    pub(crate) fn touch(&mut self, id: BlobId) {
        self.0.remove(&Candidate::Blob(id));
        self.0.remove(&Candidate::Partial(id));
    }
}

/// What a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Complete blobs.
    pub blobs: usize,
    /// Partial transfers.
    pub partials: usize,
    /// Temporary files.
    pub temps: usize,
    /// Bytes that blobs and partial transfers took.
    pub bytes: u64,
}

impl Blobs {
    /// Removes blobs and partial transfers that have no pin (and no open handle), and leaked
    /// temporary files, once they have been so for the grace of [`crate::BlobLimits`]. Call it
    /// every few minutes.
    pub fn sweep(&self, now: Time) -> Result<Swept, StoreError> {
        let inner = &*self.0;
        let temps = files::list(&self.temp_dir())?;
        let mut swept = Swept::default();
        let mut state = lock(&inner.state);
        let before = state.usage();
        let candidates = mark(&state, temps.into_iter().map(|(name, _)| name));
        let mut idle = BTreeMap::new();
        for candidate in candidates {
            let since = state.idle.0.get(&candidate).copied().unwrap_or(now);
            if now.since_ms(since) < inner.limits.grace_ms {
                idle.insert(candidate, since);
                continue;
            }
            match &candidate {
                Candidate::Blob(_) => swept.blobs += 1,
                Candidate::Partial(_) => swept.partials += 1,
                Candidate::Temp(_) => swept.temps += 1,
            }
            inner.remove_candidate(&mut state, candidate)?;
        }
        // What was not a candidate this time starts anew when it becomes one.
        state.idle = Idle(idle);
        swept.bytes = before - state.usage();
        Ok(swept)
    }
}

fn mark(state: &State, temps: impl Iterator<Item = String>) -> Vec<Candidate> {
    let unpinned = |id: &&BlobId| !state.pins.contains_key(id);
    let blobs = state.blobs.keys().filter(unpinned).map(|id| Candidate::Blob(*id));
    let partials = state.partials.iter().filter(|(_, partial)| !partial.is_open());
    let partials = partials.map(|(id, _)| id).filter(unpinned).map(|id| Candidate::Partial(*id));
    let leaked = |name: &String| name.starts_with(TEMP_PREFIX) && !state.temps.contains(name);
    blobs.chain(partials).chain(temps.filter(leaked).map(Candidate::Temp)).collect()
}

impl Inner {
    fn remove_candidate(&self, state: &mut State, what: Candidate) -> Result<(), StoreError> {
        match what {
            Candidate::Blob(id) => self.remove_blob(state, id),
            Candidate::Partial(id) => self.remove_partial(state, id),
            Candidate::Temp(name) => files::remove_all(&self.root.join("tmp").join(name)),
        }
    }

    pub(crate) fn remove_partial(&self, state: &mut State, id: BlobId) -> Result<(), StoreError> {
        if state.partials.get(&id).is_some_and(|partial| !PartialEntry::is_open(partial)) {
            files::remove_all(&self.root.join("partial").join(id.to_string()))?;
            state.partials.remove(&id);
        }
        Ok(())
    }
}
