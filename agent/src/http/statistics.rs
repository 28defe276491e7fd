//! Sums over finished jobs, and what can be chosen for new ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use dmc_protocol::media::Preset;
use dmc_store::StoreError;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Problem, Refused};
use crate::jobs::{JobBook, Request, Status};
use crate::presets;
use crate::runtime::Shared;

/// Finished jobs that are looked at, the newest first.
pub(super) const JOBS_MAX: usize = 10_000;
/// Jobs that are read at a time.
const PAGE: usize = 500;
/// How long a sum is shown.
const FRESH: Duration = Duration::from_secs(60);

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new().routes(routes!(statistics)).routes(routes!(presets))
}

/// A named set of target settings, as it is told.
#[derive(Serialize, ToSchema)]
struct PresetView {
    /// What people call it, and what `preset` and `conversion_type` name.
    name: String,
    /// What it makes: `video`, `audio` or `image`.
    kind: String,
    /// One line for people.
    description: String,
    /// The codec of the pictures.
    codec: String,
    /// The encoder that makes them.
    encoder: String,
    /// The file format of the result.
    container: String,
    /// Whether it is a file of this agent's person; otherwise it is built in.
    own: bool,
    /// All of it, as a preset file says it.
    text: String,
}

#[utoipa::path(
    get,
    path = "/api/v1/presets",
    tag = "jobs",
    responses((status = 200, description = "What can be chosen", body = Vec<PresetView>), Refused),
)]
async fn presets(State(shared): State<Arc<Shared>>) -> Json<Vec<PresetView>> {
    let builtin: Vec<String> = Preset::all().into_iter().map(|preset| preset.name).collect();
    let view = |preset: Preset| {
        let copies = preset.copies_pictures();
        let copy = || "copy".to_owned();
        PresetView {
            kind: preset.kind().to_string(),
            own: !builtin.contains(&preset.name),
            codec: if copies { copy() } else { preset.encoder.codec().to_string() },
            encoder: if copies { copy() } else { preset.encoder.name().to_owned() },
            container: preset.container.to_string(),
            text: presets::write_text(&preset),
            name: preset.name,
            description: preset.description,
        }
    };
    let dir = shared.settings.presets.clone();
    let found = tokio::task::spawn_blocking(move || presets::usable(dir.as_deref())).await;
    Json(found.unwrap_or_else(|_| Preset::all()).into_iter().map(view).collect())
}

#[utoipa::path(
    get,
    path = "/api/v1/statistics",
    tag = "jobs",
    responses((status = 200, description = "What finished jobs saved", body = Sum), Refused),
)]
async fn statistics(
    State(shared): State<Arc<Shared>>,
    Extension(cache): Extension<Arc<Cache>>,
) -> Result<Json<Sum>, Problem> {
    Ok(Json(Sum::clone(&*of(&shared, &cache).await?)))
}

/// The last sum, and when it was made.
#[derive(Default)]
pub(super) struct Cache(Mutex<Option<(Instant, Arc<Sum>)>>);

/// Bytes of some jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct Bytes {
    /// Jobs.
    pub jobs: u64,
    /// Bytes of their sources.
    pub before: u64,
    /// Bytes of their results.
    pub after: u64,
}

impl Bytes {
    pub fn add(&mut self, other: Bytes) {
        self.jobs += other.jobs;
        self.before = self.before.saturating_add(other.before);
        self.after = self.after.saturating_add(other.after);
    }
}

/// What finished jobs made of their files.
#[derive(Clone, Default, Serialize, ToSchema)]
#[schema(as = Statistics)]
pub(super) struct Sum {
    /// All together.
    pub all: Bytes,
    /// By codec of the result.
    pub codecs: BTreeMap<String, Bytes>,
    /// By the day on which they ended, in local time.
    #[schema(value_type = BTreeMap<String, Bytes>)]
    pub days: BTreeMap<Date, Bytes>,
    /// Whether there are older jobs that were not looked at.
    pub cut: bool,
}

impl Sum {
    /// Of finished jobs of this agent's own persons; those that it kept for others are told there.
    fn note(&mut self, request: &Request) {
        let Some(proof) = request.proof.as_ref().filter(|_| request.custody.is_none()) else {
            return;
        };
        let bytes = Bytes { jobs: 1, before: request.stamp.bytes, after: proof.bytes };
        let ended = Timestamp::from_millisecond(request.updated_ms).unwrap_or_default();
        let day = ended.to_zoned(TimeZone::system()).date();
        self.all.add(bytes);
        self.codecs.entry(request.preset.made_of()).or_default().add(bytes);
        self.days.entry(day).or_default().add(bytes);
    }
}

fn sum_up(jobs: &JobBook) -> Result<Sum, StoreError> {
    let (mut sum, mut before, mut seen) = (Sum::default(), None, 0);
    loop {
        let page = jobs.page(Some(Status::FinishedSuccessful), before, PAGE)?;
        page.iter().for_each(|request| sum.note(request));
        seen += page.len();
        before = page.last().map(|last| last.id);
        if page.len() < PAGE {
            return Ok(sum);
        }
        if seen >= JOBS_MAX {
            sum.cut = true;
            return Ok(sum);
        }
    }
}

/// The sum, at most a minute old.
pub(super) async fn of(shared: &Arc<Shared>, cache: &Cache) -> Result<Arc<Sum>, Problem> {
    // Held while it is made: who comes meanwhile waits for the same one.
    let mut kept = cache.0.lock().await;
    if let Some((_, sum)) = kept.as_ref().filter(|(made, _)| made.elapsed() < FRESH) {
        return Ok(Arc::clone(sum));
    }
    let shared = Arc::clone(shared);
    let made = tokio::task::spawn_blocking(move || sum_up(&shared.jobs)).await;
    let failed = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the sum was not made");
    let sum = Arc::new(made.map_err(failed)??);
    *kept = Some((Instant::now(), Arc::clone(&sum)));
    Ok(sum)
}
