//! What changed here, for those who watch: pages, scripts, webhooks. Whoever changes something says
//! only that; what it is now is asked when somebody wants to know.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use dmc_protocol::id::JobId;
use tokio::sync::Notify;

/// Jobs that are told one by one; more at a time are told as "look at everything again".
const JOBS_MAX: usize = 1_000;

/// What changed since it was last asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Jobs that are other than they were, or that are gone.
    pub jobs: BTreeSet<JobId>,
    /// So many jobs that they are not named.
    pub many: bool,
    /// Who is here, who belongs to the mesh, or what this agent does for others.
    pub mesh: bool,
    /// What is watched, or what is known of its files.
    pub library: bool,
}

/// Collects changes until they are taken.
#[derive(Debug, Default)]
pub struct News {
    changed: Mutex<Changed>,
    wake: Notify,
}

impl News {
    /// A job changed, came or went.
    pub fn job(&self, id: JobId) {
        self.note(|changed| {
            changed.jobs.insert(id);
            if changed.jobs.len() > JOBS_MAX {
                changed.jobs.clear();
                changed.many = true;
            }
        });
    }

    /// A peer came or went, the mesh's members or this agent changed.
    pub fn mesh(&self) {
        self.note(|changed| changed.mesh = true);
    }

    /// A watched folder came or went, or something is known of its files that was not.
    pub fn library(&self) {
        self.note(|changed| changed.library = true);
    }

    fn note(&self, change: impl FnOnce(&mut Changed)) {
        change(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    /// Waits until something changed. For one waiter.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }

    /// What changed since the last time.
    pub fn take(&self) -> Changed {
        std::mem::take(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(n: u128) -> JobId {
        JobId(uuid::Uuid::from_u128(n))
    }

    #[tokio::test]
    async fn what_changed_is_told_once() {
        let news = News::default();
        news.job(job(1));
        news.job(job(1));
        news.mesh();
        news.library();
        news.wait().await;
        let jobs = BTreeSet::from([job(1)]);
        let changed = Changed { jobs, many: false, mesh: true, library: true };
        assert_eq!(news.take(), changed);
        assert_eq!(news.take(), Changed::default());
    }

    #[test]
    fn thousands_of_jobs_are_not_named() {
        let news = News::default();
        (0..=JOBS_MAX as u128).for_each(|n| news.job(job(n)));
        let changed = news.take();
        assert!(changed.many && changed.jobs.len() <= JOBS_MAX, "{changed:?}");
    }
}
