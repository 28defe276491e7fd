//! What the core decided is done.

use std::sync::Arc;

use dmc_protocol::mesh::Output;
use tracing::debug;

use super::Shared;
use crate::{custody, owner, worker};

/// Does one thing; what takes long is begun.
pub(super) async fn effect(shared: Arc<Shared>, output: Output) {
    match output {
        // Done.
        Output::Save(_) | Output::Erase(_) | Output::Shelve(_) | Output::Unshelve(_) => {}
        Output::NeedIds => {}
        Output::Send { to, message } => shared.net.send(to, message).await,
        Output::Changed(job) => {
            debug!(%job, "changed");
            shared.news.job(job);
        }
        Output::Cut(task) => owner::cut(shared, task),
        Output::ReleasePiece { task, blob } => owner::release_piece(shared, task, blob),
        Output::Fetch { attempt, task, from, result } => {
            owner::fetch(shared, attempt, task, from, result);
        }
        Output::DropResult { task, result } => owner::drop_result(shared, task, result),
        Output::Lower { task, reason } => owner::lower(shared, task, reason),
        Output::Join(job) => owner::join(shared, job),
        Output::JobOver(job) => owner::job_over(shared, job),
        Output::TakeBack(job) => owner::take_back(shared, job),
        Output::FetchHanded { job, from, result } => {
            owner::fetch_handed(shared, job, from, result);
        }
        Output::StopHanded(job) => owner::stop_handed(&shared, job),
        Output::HandedEnded(job) => {
            let tasks = shared.tasks.clone();
            tasks.spawn(owner::ended(shared, job));
        }
        Output::FetchSource { job, from, source } => {
            custody::fetch_source(shared, job, from, source);
        }
        Output::BeginCustody(job) => custody::begin(shared, job),
        Output::KeepResult(job) => custody::keep_result(shared, job),
        Output::EndCustody { job, source, result } => {
            custody::end(shared, job, source, result);
        }
        Output::FetchInput { attempt, owner, task: _, blob } => {
            worker::fetch_input(shared, attempt, owner, blob);
        }
        Output::Run { attempt, owner, task, spec, input: _, blob } => {
            shared.news.mesh();
            worker::run(shared, attempt, owner, task, spec, blob);
        }
        Output::Discard { attempt, blob, result } => {
            shared.news.mesh();
            worker::discard(shared, attempt, blob, result);
        }
    }
}
