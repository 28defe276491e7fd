//! Items: files that clients send or name, and what becomes of them.
//!
//! | | |
//! |---|---|
//! | `POST /api/v1/item` | a new item: multipart with the file, or JSON that names one |
//! | `GET /api/v1/item/{client_id}` | a client's items, the newest first |
//! | `GET /api/v1/item/{client_id}/{item_id}` | one |
//! | `DELETE /api/v1/item/{client_id}/{item_id}` | ends and forgets it, with what was sent |
//! | `GET /api/v1/item/{client_id}/{item_id}/file` | the result; parts by `Range` |

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::multipart::MultipartError;
use axum::extract::{FromRequest, Multipart, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dmc_protocol::id::JobId;
use dmc_protocol::media::PresetOverrides;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::api::{is_multipart, stopping, take_away};
use super::gather;
use super::guard::prefix;
use super::page::Page;
use super::problem::{Problem, Refused};
use super::views::JobView;
use crate::intake::{self, Wish};
use crate::items::{CLIENT_BYTES_MAX, Item, Once, Receipt, Turn, Upload, UploadError, is_client};
use crate::jobs::Status;
use crate::paths::AnyPath;
use crate::runtime::Shared;

type Agent = State<Arc<Shared>>;

/// Items that are looked at for one page of a status.
const LOOKED_AT_MAX: usize = 10_000;
/// Longest text of a form's field.
const TEXT_BYTES_MAX: usize = 1_024;
/// Longest pause of a client that sends.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long what a refused client still sends is read.
const POUR_MAX: Duration = Duration::from_secs(5);
/// How long an item's running work gets to end before it is forgotten.
const END_TRIES: u32 = 100;
const END_PAUSE: Duration = Duration::from_millis(50);
const KEY_BYTES_MAX: usize = 255;

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(list))
        .routes(routes!(show, remove))
        .routes(routes!(file))
}

/// An item as clients see it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ItemView {
    /// The item, a UUID.
    pub item_id: String,
    /// Whose it is.
    pub client_id: String,
    /// The name that the client gave the file.
    pub file_name: String,
    /// Where the file is on this agent.
    #[schema(value_type = String)]
    pub file_path: AnyPath,
    /// Bytes of the file.
    pub file_size: u64,
    /// BLAKE3 of the file, hexadecimal; of a large file that was here before a moment later.
    pub checksum: Option<String>,
    /// SHA-512 of the file, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512_checksum: Option<String>,
    /// BLAKE3 of the result, hexadecimal; a moment after the item was first asked for with one.
    #[serde(default)]
    pub result_checksum: Option<String>,
    /// Name of the preset.
    pub conversion_type: String,
    /// `to_do`, `in_progress`, `finished_successful`, `finished_with_errors` or `cancelled`.
    pub status: String,
    /// 0 to 1.
    pub progress: f64,
    /// What went wrong.
    pub errors: Vec<String>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
}

impl ItemView {
    fn of(item: Item, job: JobView) -> ItemView {
        let (blake3, sha512) = item.checksums.map(|sums| (sums.blake3, sums.sha512)).unzip();
        ItemView {
            item_id: item.id.to_string(),
            client_id: item.client,
            file_name: item.file_name,
            file_path: job.input,
            file_size: item.bytes,
            checksum: blake3,
            sha512_checksum: sha512.flatten(),
            result_checksum: None,
            conversion_type: job.preset,
            status: job.status,
            progress: job.progress,
            errors: job.errors,
            created_at: job.created_at,
            updated_at: job.updated_at,
        }
    }
}

/// What a new item is, beside its file.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ItemWish {
    /// Whose it is.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    client_id: String,
    /// Name of the preset.
    #[schema(min_length = 1)]
    conversion_type: String,
    /// A file on this agent, absolute.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    file_path: Option<AnyPath>,
    /// The BLAKE3 that the file must have.
    #[serde(default)]
    checksum: Option<String>,
    /// Whether SHA-512 is wanted, too.
    #[serde(default)]
    sha512: bool,
    /// Changes to the preset.
    #[serde(default)]
    #[schema(value_type = Object)]
    overrides: PresetOverrides,
}

/// A new item as a form: the fields first, the file last.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
struct ItemForm {
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
    /// The file, with its name.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::usage(detail)
}

fn check_client(client: &str) -> Result<(), Problem> {
    if is_client(client) {
        return Ok(());
    }
    Err(bad(format!(
        "client_id must be 1 to {CLIENT_BYTES_MAX} of the characters a–z, A–Z, 0–9, `.`, `_`, `-`"
    )))
}

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

fn once_word(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(word) if (1..=KEY_BYTES_MAX).contains(&word.len()) => Ok(Some(word)),
        _ => Err(bad(format!("Idempotency-Key must be 1 to {KEY_BYTES_MAX} plain characters"))),
    }
}

#[utoipa::path(
    operation_id = "create_item",
    post,
    path = "/api/v1/item",
    tag = "items",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key makes no second item")),
    request_body(content((ItemForm = "multipart/form-data"), (ItemWish = "application/json"))),
    responses((status = 201, description = "The new item", body = ItemView), (status = 200, description = "The item of an earlier request with this Idempotency-Key", body = ItemView), Refused),
)]
async fn create(State(shared): Agent, request: Request) -> Result<Response, Problem> {
    let key = once_word(request.headers())?.map(str::to_owned);
    let prefix = prefix(request.headers());
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0);
    let id = JobId(Uuid::now_v7());
    let (wish, receipt) = if is_multipart(request.headers()) {
        let form = Multipart::from_request(request, &()).await;
        let mut form = form.map_err(|e| bad(e.body_text()))?;
        match receive(&shared, id, &mut form, length).await {
            Ok(received) => received,
            Err(problem) => {
                shared.tasks.spawn(pour_away(form));
                return Err(problem);
            }
        }
    } else {
        let wish = Json::<ItemWish>::from_request(request, &()).await;
        (wish.map_err(|e| bad(e.body_text()))?.0, None)
    };
    check_client(&wish.client_id)?;
    let turn = match key.as_deref().map(|key| shared.items.once(&wish.client_id, key)) {
        None => None,
        Some(once) => match once? {
            Once::New(turn) => Some(turn),
            Once::Known(known) => {
                return known_item(&shared, &wish.client_id, known, &prefix).await;
            }
            Once::Busy => {
                let why = "a request with this Idempotency-Key is being answered; ask again later";
                return Err(Problem::new(StatusCode::CONFLICT, why));
            }
        },
    };
    let item = match receipt {
        Some(receipt) => add_uploaded(&shared, id, &wish, receipt, turn.as_ref()).await?,
        None => add_named(&shared, id, &wish, turn.as_ref()).await?,
    };
    answer(&shared, item, StatusCode::CREATED, &prefix).await
}

async fn answer(
    shared: &Arc<Shared>,
    item: Item,
    status: StatusCode,
    prefix: &str,
) -> Result<Response, Problem> {
    let place = format!("{prefix}/api/v1/item/{}/{}", item.client, item.id);
    let view = view_of(shared, item).await?;
    Ok((status, [(header::LOCATION, place)], Json(view)).into_response())
}

async fn known_item(
    shared: &Arc<Shared>,
    client: &str,
    id: JobId,
    prefix: &str,
) -> Result<Response, Problem> {
    let item = find(shared, client, &id.to_string()).map_err(|_| {
        let why =
            "the item that this Idempotency-Key made was deleted; a new one needs another key";
        Problem::new(StatusCode::GONE, why)
    })?;
    answer(shared, item, StatusCode::OK, prefix).await
}

/// What comes next of a form.
async fn in_time<T>(next: impl Future<Output = Result<T, MultipartError>>) -> Result<T, Problem> {
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the form did not arrive in time");
    let came = tokio::time::timeout(PAUSE_MAX, next).await.map_err(late)?;
    came.map_err(|e| bad(e.body_text()))
}

/// Reads on for a moment after a refusal: a connection that is closed while its client sends is
/// reset, and then the client never sees the answer.
async fn pour_away(mut form: Multipart) {
    let rest = async { while let Ok(Some(_field)) = form.next_field().await {} };
    let _ = tokio::time::timeout(POUR_MAX, rest).await;
}

/// Reads the form. The file goes to the disk as it comes.
async fn receive(
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
        let mut text = Vec::new();
        while let Some(bytes) = in_time(field.chunk()).await? {
            text.extend_from_slice(&bytes);
            if text.len() > TEXT_BYTES_MAX {
                return Err(bad(format!("the field has more than {TEXT_BYTES_MAX} bytes")));
            }
        }
        let text = String::from_utf8(text).map_err(|_| bad("a field of the form is no text"))?;
        match name.as_str() {
            "client_id" => wish.client_id = text,
            "conversion_type" => wish.conversion_type = text,
            "checksum" => wish.checksum = Some(text),
            "sha512" if receipt.is_some() => {
                return Err(bad("the field sha512 must come before the file"));
            }
            "sha512" => wish.sha512 = text == "true",
            "overrides" => {
                wish.overrides = serde_json::from_str(&text)
                    .map_err(|e| bad(format!("the field overrides cannot be read: {e}")))?;
            }
            _ => {
                return Err(bad(
                    "the form has a field that means nothing here; there are client_id, \
                     conversion_type, checksum, sha512, overrides and file",
                ));
            }
        }
    }
    if receipt.is_none() {
        return Err(bad("the form has no file: send one as the field `file`, with its name"));
    }
    Ok((wish, receipt))
}

fn same_checksum(wanted: Option<&String>, found: &str) -> Result<(), Problem> {
    match wanted {
        Some(wanted) if !wanted.eq_ignore_ascii_case(found) => Err(bad(format!(
            "the file did not arrive whole: its BLAKE3 is {found}, not the checksum that was sent"
        ))),
        _ => Ok(()),
    }
}

async fn add_uploaded(
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

async fn add_named(
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

fn begin_checksum(shared: &Arc<Shared>, item: &Item, file: &FilePath) {
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
        input: AnyPath(input),
        output: None,
        output_dir: output_dir.map(AnyPath),
        preset: wish.conversion_type.clone(),
        overrides: wish.overrides.clone(),
        overwrite: false,
        strip_gps: false,
        segment_seconds: None,
        hand_over: false,
        deliver_to: None,
        deliver_as: None,
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

fn no_item() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "this client has no such item on this agent")
}

fn find(shared: &Shared, client: &str, id: &str) -> Result<Item, Problem> {
    check_client(client)?;
    let id = id.parse().map_err(|_| no_item())?;
    let item = shared.items.get(id)?;
    item.filter(|item| item.client == client).ok_or_else(no_item)
}

async fn view_of(shared: &Arc<Shared>, item: Item) -> Result<ItemView, Problem> {
    let job = job_of(shared, item.id).await?;
    Ok(ItemView::of(item, job))
}

async fn job_of(shared: &Arc<Shared>, id: JobId) -> Result<JobView, Problem> {
    let job = gather::job(shared, id).await;
    job.ok_or_else(|| if shared.stop.is_cancelled() { stopping() } else { no_item() })
}

/// Which items are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Those of one status.
    #[param(inline, value_type = Option<Status>)]
    status: Option<String>,
    /// Those before this one: the last id of the page before.
    #[param(format = "uuid")]
    cursor: Option<String>,
    /// At most so many.
    #[param(format = Int64, maximum = 4_294_967_295_u32)]
    limit: Option<u32>,
}

/// A page of a client's items, the newest first. A page that is empty is the end.
#[utoipa::path(
    operation_id = "list_items",
    get,
    path = "/api/v1/item/{client_id}",
    tag = "items",
    params(("client_id" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$", description = "Whose items"), Which),
    responses((status = 200, description = "A page of the items of a client, the newest first", body = Vec<ItemView>), Refused),
)]
async fn list(
    State(shared): Agent,
    Path(client): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<ItemView>>, Problem> {
    check_client(&client)?;
    let Page { status, mut before, limit } = Page::of(which.status, which.cursor, which.limit)?;
    let limit = limit.max(1);
    let (mut views, mut looked_at) = (Vec::new(), 0);
    while views.len() < limit && looked_at < LOOKED_AT_MAX {
        let page = shared.items.page(&client, before, limit)?;
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        looked_at += page.len();
        let requests: Result<Vec<_>, _> =
            page.iter().filter_map(|item| shared.jobs.request(item.id).transpose()).collect();
        let jobs = gather::jobs(&shared, requests?).await.ok_or_else(stopping)?;
        for job in jobs {
            let item = page.iter().find(|item| item.id.to_string() == job.id);
            let fits = status.is_none_or(|status| status.word() == job.status);
            if let (Some(item), true) = (item, fits) {
                views.push(ItemView::of(item.clone(), job));
            }
        }
    }
    views.truncate(limit);
    Ok(Json(views))
}

#[utoipa::path(
    operation_id = "show_item",
    get,
    path = "/api/v1/item/{client_id}/{item_id}",
    tag = "items",
    params(("client_id" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$", description = "Whose it is"), ("item_id" = String, Path, format = "uuid", description = "The item")),
    responses((status = 200, description = "The item", body = ItemView), Refused),
)]
async fn show(
    State(shared): Agent,
    Path((client, id)): Path<(String, String)>,
) -> Result<Json<ItemView>, Problem> {
    let item = find(&shared, &client, &id)?;
    let (known, copy) = (item.checksums.is_some(), item.clone());
    let job = job_of(&shared, item.id).await?;
    let output = job.output.clone();
    let mut view = ItemView::of(item, job);
    if view.status == Status::FinishedSuccessful.word() {
        view.result_checksum = shared.items.result_sum(copy.id)?;
        if view.result_checksum.is_none() {
            let of = Arc::clone(&shared);
            shared.tasks.spawn(async move { of.items.sum_result(copy.id, &output).await });
        }
    }
    if !known {
        // An agent that stopped meanwhile had not computed it.
        begin_checksum(&shared, &copy, &view.file_path);
    }
    Ok(Json(view))
}

#[utoipa::path(
    operation_id = "remove_item",
    delete,
    path = "/api/v1/item/{client_id}/{item_id}",
    tag = "items",
    params(("client_id" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$", description = "Whose it is"), ("item_id" = String, Path, format = "uuid", description = "The item")),
    responses((status = 204, description = "It is forgotten, with what was sent"), Refused),
)]
async fn remove(
    State(shared): Agent,
    Path((client, id)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let item = find(&shared, &client, &id)?;
    let job = item.id.to_string();
    let mut tries = 0;
    while gather::job(&shared, item.id).await.is_some_and(|view| !view.is_over()) {
        if tries == 0 {
            intake::cancel(&shared, item.id).await;
        }
        tries += 1;
        if tries > END_TRIES {
            let why = "its work has not ended yet; delete it again in a moment";
            return Err(Problem::new(StatusCode::CONFLICT, why));
        }
        tokio::time::sleep(END_PAUSE).await;
    }
    match take_away(&shared, &job).await {
        // Its job was removed before.
        Err(problem) if problem.status == StatusCode::NOT_FOUND.as_u16() => {
            shared.items.remove(&item).await?;
        }
        other => other?,
    }
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(
    operation_id = "item_file",
    get,
    path = "/api/v1/item/{client_id}/{item_id}/file",
    tag = "items",
    params(("client_id" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$", description = "Whose it is"), ("item_id" = String, Path, format = "uuid", description = "The item")),
    responses((status = 200, description = "The whole file", content_type = "application/octet-stream"), (status = 206, description = "The part that `Range` asks for", content_type = "application/octet-stream"), Refused),
)]
async fn file(
    State(shared): Agent,
    Path((client, id)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let item = find(&shared, &client, &id)?;
    super::api::result_of(&shared, &item.id.to_string(), request).await
}
