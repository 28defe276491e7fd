//! What a client says of a new item: a form with the file, or JSON that names one.

use std::time::Duration;

use axum::extract::Multipart;
use axum::extract::multipart::{Field, MultipartError};
use axum::http::StatusCode;
use dmc_protocol::id::JobId;
use dmc_protocol::media::PresetOverrides;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::http::problem::Problem;
use crate::items::{Receipt, Upload};
use crate::jobs::{NoPriority, Priority};
use crate::paths::AnyPath;
use crate::runtime::Shared;

/// Longest text of a form's field.
const TEXT_BYTES_MAX: usize = 1_024;
/// Longest pause of a client that sends.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long what a refused client still sends is read.
const POUR_MAX: Duration = Duration::from_secs(5);

/// What a new item is, beside its file.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemWish {
    /// Whose it is.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    pub client_id: String,
    /// Name of the preset.
    #[schema(min_length = 1)]
    pub conversion_type: String,
    /// A file on this agent, absolute.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub file_path: Option<AnyPath>,
    /// The BLAKE3 that the file must have.
    #[serde(default)]
    pub checksum: Option<String>,
    /// Whether SHA-512 is wanted, too.
    #[serde(default)]
    pub sha512: bool,
    /// Changes to the preset.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub overrides: PresetOverrides,
    /// Which of the agent's jobs go first: `low`, `normal`, `high`, or a number from -100 to 100.
    #[serde(default)]
    pub priority: Priority,
}

/// A new item as a form: the fields first, the file last.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub(super) struct ItemForm {
    /// Whose it is.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    client_id: String,
    /// Name of the preset.
    #[schema(min_length = 1)]
    conversion_type: String,
    /// The BLAKE3 that the file must have, hexadecimal.
    checksum: Option<String>,
    /// `true` where SHA-512 is wanted, too.
    sha512: Option<String>,
    /// Changes to the preset, as JSON: `{"crf": 30, "container": "mp4"}`.
    overrides: Option<String>,
    /// Which of the agent's jobs go first: `low`, `normal`, `high`, or a number from -100 to 100.
    priority: Option<String>,
    /// The file, with its name.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::usage(detail)
}

/// What comes next of a form.
async fn in_time<T>(next: impl Future<Output = Result<T, MultipartError>>) -> Result<T, Problem> {
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the form did not arrive in time");
    let came = tokio::time::timeout(PAUSE_MAX, next).await.map_err(late)?;
    came.map_err(|e| bad(e.body_text()))
}

/// Reads on for a moment after a refusal: a connection that is closed while its client sends is
/// reset, and then the client never sees the answer.
pub(super) async fn pour_away(mut form: Multipart) {
    let rest = async { while let Ok(Some(_field)) = form.next_field().await {} };
    let _ = tokio::time::timeout(POUR_MAX, rest).await;
}

/// Reads the form. The file goes to the disk as it comes.
pub(super) async fn receive(
    shared: &Shared,
    id: JobId,
    form: &mut Multipart,
    length: u64,
) -> Result<(ItemWish, Option<Receipt>), Problem> {
    let (mut wish, mut receipt) = (ItemWish::default(), None);
    loop {
        let Some(mut field) = in_time(form.next_field()).await? else { break };
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            if receipt.is_some() {
                return Err(bad("one file makes one item; send the others one by one"));
            }
            let file_name = field.file_name().unwrap_or_default().to_owned();
            // SHA-512 costs as much as all the rest, so it is computed when that is known to be wanted.
            let mut upload = Upload::begin(&shared.items, id, &file_name, wish.sha512).await?;
            upload.room(length)?;
            while let Some(bytes) = in_time(field.chunk()).await? {
                upload.write(&bytes).await?;
            }
            receipt = Some(upload.finish().await?);
            continue;
        }
        let text = text_of(&mut field).await?;
        set(&mut wish, &name, text, receipt.is_some())?;
    }
    if receipt.is_none() {
        return Err(bad("the form has no file: send one as the field `file`, with its name"));
    }
    Ok((wish, receipt))
}

async fn text_of(field: &mut Field<'_>) -> Result<String, Problem> {
    let mut text = Vec::new();
    while let Some(bytes) = in_time(field.chunk()).await? {
        text.extend_from_slice(&bytes);
        if text.len() > TEXT_BYTES_MAX {
            return Err(bad(format!("the field has more than {TEXT_BYTES_MAX} bytes")));
        }
    }
    String::from_utf8(text).map_err(|_| bad("a field of the form is no text"))
}

/// Takes a field over. `has_file`: the file came before it.
fn set(wish: &mut ItemWish, name: &str, text: String, has_file: bool) -> Result<(), Problem> {
    match name {
        "client_id" => wish.client_id = text,
        "conversion_type" => wish.conversion_type = text,
        "checksum" => wish.checksum = Some(text),
        "sha512" if has_file => return Err(bad("the field sha512 must come before the file")),
        "sha512" => wish.sha512 = text == "true",
        "overrides" => {
            wish.overrides = serde_json::from_str(&text)
                .map_err(|e| bad(format!("the field overrides cannot be read: {e}")))?;
        }
        "priority" => {
            wish.priority = text.parse().map_err(|e: NoPriority| bad(e.to_string()))?;
        }
        _ => {
            return Err(bad("the form has a field that means nothing here; there are client_id, \
                 conversion_type, checksum, sha512, overrides, priority and file"));
        }
    }
    Ok(())
}
