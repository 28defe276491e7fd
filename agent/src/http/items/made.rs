//! A new item becomes a job, or nothing of it stays.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::http::StatusCode;
use dmc_protocol::id::JobId;

use super::form::{ItemWish, bad};
use crate::http::problem::Problem;
use crate::intake::{self, Wish};
use crate::items::{Item, Receipt, Turn, UploadError};
use crate::paths::AnyPath;
use crate::runtime::Shared;

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Problem {
        let status = match &error {
            UploadError::Name(_) => return bad(error.to_string()),
            UploadError::Quota { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            UploadError::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
            UploadError::Disk { .. } | UploadError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, crate::worker::chain(&error))
    }
}

fn same_checksum(wanted: Option<&String>, found: &str) -> Result<(), Problem> {
    match wanted {
        Some(wanted) if !wanted.eq_ignore_ascii_case(found) => Err(bad(format!(
            "the file did not arrive whole: its BLAKE3 is {found}, not the checksum that was sent"
        ))),
        _ => Ok(()),
    }
}

pub(super) async fn add_uploaded(
    shared: &Arc<Shared>,
    id: JobId,
    wish: &ItemWish,
    receipt: Receipt,
    turn: Option<&Turn<'_>>,
) -> Result<Item, Problem> {
    same_checksum(wish.checksum.as_ref(), &receipt.checksums.blake3)?;
    let item = Item {
        id,
        client: wish.client_id.clone(),
        file_name: receipt.name().to_owned(),
        bytes: receipt.bytes(),
        uploaded: true,
        checksums: Some(receipt.checksums.clone()),
        sha512: wish.sha512,
    };
    shared.items.begin(&item).await?;
    let kept = receipt.keep(&shared.items, id).map_err(Problem::from);
    let made = match kept {
        Ok(file) => {
            let results = shared.items.dir_of(id).join("result");
            let failed = |source| UploadError::Disk { path: results.clone(), source };
            match std::fs::create_dir(&results).map_err(failed) {
                Ok(()) => make_job(shared, id, wish, file, Some(results)).await,
                Err(e) => Err(e.into()),
            }
        }
        Err(problem) => Err(problem),
    };
    settle(shared, item, made, turn).await
}

pub(super) async fn add_named(
    shared: &Arc<Shared>,
    id: JobId,
    wish: &ItemWish,
    turn: Option<&Turn<'_>>,
) -> Result<Item, Problem> {
    let Some(path) = &wish.file_path else {
        return Err(bad(
            "name a file of this agent as file_path, or send one in a form (multipart/form-data)",
        ));
    };
    if wish.checksum.is_some() {
        return Err(bad("checksum is for a file that is sent; one that is named is hashed here"));
    }
    let file = permitted(&shared.settings.api_paths, path)?;
    let bytes = std::fs::metadata(&file)
        .map_err(|e| bad(format!("cannot read {}: {e}", file.display())))?
        .len();
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let item = Item {
        id,
        client: wish.client_id.clone(),
        file_name: name,
        bytes,
        uploaded: false,
        checksums: None,
        sha512: wish.sha512,
    };
    shared.items.begin(&item).await?;
    let made = make_job(shared, id, wish, file, None).await;
    let item = settle(shared, item, made, turn).await?;
    begin_checksum(shared, &item, path);
    Ok(item)
}

/// A file on this agent that clients may name: below a directory of the settings, links followed.
fn permitted(allowed: &[PathBuf], path: &FilePath) -> Result<PathBuf, Problem> {
    let refused = || {
        let why = "clients may not name this file; its directory must be listed as api_paths in \
                   the agent's settings. Or send the file itself";
        Problem::new(StatusCode::FORBIDDEN, why)
    };
    if !path.is_absolute() {
        return Err(bad("file_path must be absolute"));
    }
    // Whether a file outside is there is nobody's business.
    let real = std::fs::canonicalize(path).map_err(|_| refused())?;
    let allowed = allowed.iter().filter_map(|dir| std::fs::canonicalize(dir).ok());
    if allowed.into_iter().any(|dir| real.starts_with(dir)) { Ok(real) } else { Err(refused()) }
}

pub(super) fn begin_checksum(shared: &Arc<Shared>, item: &Item, file: &FilePath) {
    let (of, id, file) = (Arc::clone(shared), item.id, file.to_owned());
    shared.tasks.spawn(async move { of.items.checksum(id, &file).await });
}

async fn make_job(
    shared: &Arc<Shared>,
    id: JobId,
    wish: &ItemWish,
    input: PathBuf,
    output_dir: Option<PathBuf>,
) -> Result<(), Problem> {
    let wish = Wish {
        output_dir: output_dir.map(AnyPath),
        overrides: wish.overrides.clone(),
        priority: wish.priority,
        ..Wish::plain(input, wish.conversion_type.clone())
    };
    Ok(intake::accept_as(shared, id, wish).await?)
}

/// The item has its job, or nothing of it stays.
async fn settle(
    shared: &Arc<Shared>,
    item: Item,
    made: Result<(), Problem>,
    turn: Option<&Turn<'_>>,
) -> Result<Item, Problem> {
    match made {
        Ok(()) => {
            shared.items.settle(&item, turn).await?;
            Ok(item)
        }
        Err(problem) => {
            shared.items.remove(&item).await?;
            Err(problem)
        }
    }
}
