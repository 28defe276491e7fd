//! What an earlier run left is removed.

use std::collections::BTreeSet;
use std::path::Path;

use dmc_protocol::id::AgentId;
use dmc_protocol::record::{Record, WorkState};
use dmc_store::{Store, StoreError};
use tracing::info;

use crate::jobs::JobBook;
use crate::media::{leftovers, publish};
use crate::{custody, owner, state, worker};

/// Ends the programs that an earlier run left behind. Before their files are removed: what still
/// runs would go on writing.
pub(super) async fn end_leftovers(me: AgentId) {
    match tokio::task::spawn_blocking(move || leftovers::end(me)).await {
        Ok(0) | Err(_) => {}
        Ok(count) => info!(count, "programs that an earlier run left behind were ended"),
    }
}

/// Removes what a run that was cut short left: work directories and half-made results.
pub(super) fn clean(data_dir: &Path, jobs: &JobBook) {
    let _ = std::fs::remove_dir_all(data_dir.join("work"));
    for request in jobs.open_requests() {
        let _ = std::fs::remove_file(publish::temp_path(&request.output, &request.id.to_string()));
        let _ = std::fs::remove_file(owner::handed_temp(&request.output, request.id));
    }
    jobs.clean();
}

/// A crash between a blob and its record leaves a pin that nobody would ever take off.
pub(super) fn unpin_leftovers(store: &Store) -> Result<(), StoreError> {
    let mut holders = BTreeSet::new();
    for record in state::load(&store.kv)? {
        match record {
            Record::Work(work) => {
                holders.insert(worker::input_holder(work.attempt));
                // One that was not yet reported is made anew, and nobody would release the first.
                if matches!(work.state, WorkState::Done(_)) {
                    holders.insert(worker::result_holder(work.attempt));
                }
            }
            Record::Task(task) => {
                holders.extend(task.piece.map(|_| owner::piece_holder(task.id)));
                holders.extend(task.commit.map(|_| owner::part_holder(task.id)));
            }
            Record::Handed(handed) if handed.state.is_over() => {}
            Record::Handed(handed) => {
                holders.insert(owner::handed_holder(handed.id));
            }
            Record::Custody(custody) => {
                holders.insert(custody::source_holder(custody.id));
                holders.insert(custody::result_holder(custody.id));
            }
            Record::Job(_) | Record::Paused(_) => {}
        }
    }
    for (blob, holder) in store.blobs.pins() {
        if !holders.contains(&holder) && !is_on_shelf(store, &holder)? {
            store.blobs.unpin(blob, &holder)?;
        }
    }
    Ok(())
}

/// Whether a job that may be tried again needs this part.
fn is_on_shelf(store: &Store, holder: &str) -> Result<bool, StoreError> {
    let Some(task) = owner::task_of_part(holder) else { return Ok(false) };
    let record = state::shelved_task(&store.kv, task)?;
    Ok(record.is_some_and(|record| record.commit.is_some()))
}
