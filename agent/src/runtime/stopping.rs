//! How the loop ends: work that is nearly done gets a grace period, the rest goes back, peers hear a
//! goodbye, everything is flushed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dmc_protocol::mesh::{Input, Output};
use dmc_protocol::message::Message;
use dmc_store::StoreError;
use tracing::{error, info};

use super::effects::effect;
use super::{Runtime, Stop};

/// Programs are killed at the end and files removed; more than a moment is never needed.
const TASKS_END: Duration = Duration::from_secs(10);

/// A stop under way.
pub(super) struct Stopping {
    done: Stop,
    until: Instant,
}

impl Runtime {
    /// Begins to stop when that was asked for. True when nothing is left to wait for. `said`: what
    /// was decided is durable and done; when it is not, the disk is full, and waiting makes no
    /// sense.
    pub(super) async fn is_over(&mut self, said: bool) -> Result<bool, StoreError> {
        let mut said = said;
        if let Some(done) = self.stop_asked.take() {
            let grace = Duration::from_secs(self.shared.settings.stop_grace_s);
            if self.stopping.is_none() {
                self.stopping = Some(Stopping { done, until: Instant::now() + grace });
            }
            if said {
                let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                let outputs = self.mesh.handle(self.shared.now(), Input::Stop { grace_ms });
                said = self.perform(outputs).await?.is_empty();
            }
            if said && self.mesh.waits_to_stop() {
                info!("work that ends within {} s is finished first", grace.as_secs());
            }
        }
        let Some(stopping) = &self.stopping else { return Ok(false) };
        Ok(!said || Instant::now() >= stopping.until || !self.mesh.waits_to_stop())
    }

    /// Says goodbye, ends running work, flushes, withdraws.
    pub(super) async fn end(mut self) -> Result<(), StoreError> {
        let outputs = self.mesh.handle(self.shared.now(), Input::StopNow);
        let result = match self.perform(outputs).await {
            Ok(left) => {
                // Nothing of what is not durable is said, but leaving is true in any case.
                for output in left {
                    if matches!(&output, Output::Send { message: Message::Goodbye, .. }) {
                        effect(Arc::clone(&self.shared), output).await;
                    }
                }
                Ok(())
            }
            Err(e) => Err(e),
        };
        self.shared.stop.cancel();
        self.shared.tasks.close();
        // Tasks may still report; nobody listens, and they must not wait for us.
        self.inbox.close();
        while self.inbox.try_recv().is_ok() {}
        if tokio::time::timeout(TASKS_END, self.shared.tasks.wait()).await.is_err() {
            error!("some work did not end in {TASKS_END:?}");
        }
        if let Some(discovery) = self.discovery.take() {
            discovery.stop().await;
        }
        self.shared.net.close().await;
        if let Some(stopping) = self.stopping.take() {
            let _ = stopping.done.send(());
        }
        result
    }
}
