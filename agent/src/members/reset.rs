//! Leaving the mesh for good.

use std::path::Path;

use dmc_protocol::record::{Record, RecordKey};
use dmc_store::{Batch, BlobLimits, Store, Table};

use super::{MembersError, door};
use crate::{jobs, state};

/// Makes the state in a data directory that of an agent which nobody knows: no roster, nothing of
/// other agents. The jobs of persons here stay. No agent may run on it.
///
/// # Errors
/// The state cannot be read or written.
pub async fn reset(data_dir: &Path) -> Result<(), MembersError> {
    let store = Store::open(data_dir, BlobLimits::default())?;
    let mut batch = Batch::new();
    batch.delete(Table::Meta, door::KEY);
    for record in state::load(&store.kv)? {
        match record {
            Record::Work(_) | Record::Handed(_) => state::erase(&mut batch, record.key()),
            Record::Custody(custody) => {
                state::erase(&mut batch, RecordKey::Custody(custody.id));
                state::erase(&mut batch, RecordKey::Job(custody.id));
                for (key, _) in
                    store.kv.scan(Table::Tasks, custody.id.0.as_bytes(), None, usize::MAX)?
                {
                    batch.delete(Table::Tasks, &key);
                }
                jobs::forget(&store.kv, custody.id, &mut batch)?;
            }
            Record::Job(_) | Record::Task(_) | Record::Paused(_) => {}
        }
    }
    for entry in store.kv.each(Table::Roster, &[]) {
        batch.delete(Table::Roster, &entry?.0);
    }
    store.kv.commit(batch).await?;
    Ok(())
}
