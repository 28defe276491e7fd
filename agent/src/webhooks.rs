//! Tells other programs that a job is over: a signed POST to each address of the settings, as
//! [Standard Webhooks](https://www.standardwebhooks.com/) has it.
//!
//! What is to be told is on disk in the commit that ends the job, and stays there until it was told
//! or nobody answered for three days: a restart loses none. An answer that gets lost makes it told
//! twice, with the same `webhook-id`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use dmc_protocol::id::JobId;
use dmc_store::{Batch, StoreError, Table, decode, encode};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::Sha256;
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::http::gather;
use crate::http::views::JobView;
use crate::jobs::{Status, now_ms};
use crate::runtime::Shared;
use crate::tls::{self, Trust};
use crate::worker::chain;

const SCHEMA: u16 = 1;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Pauses between tries grow from the first to the last of these.
const PAUSE_MIN_MS: i64 = 5_000;
const PAUSE_MAX_MS: i64 = 3_600_000;
/// After so long nobody is told any more.
const GIVE_UP_MS: i64 = 3 * 24 * 3_600_000;
/// Jobs that are told in one turn.
const TURN_MAX: usize = 64;
/// How often the disk is looked at when nothing is said.
const LOOK: Duration = Duration::from_secs(5);
/// How secrets begin that are written in Base64.
const SECRET_PREFIX: &str = "whsec_";

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// The result is published.
    Finished,
    /// It cannot be done.
    Failed,
    /// A person ended it.
    Cancelled,
}

impl Event {
    fn of(status: Status) -> Option<Event> {
        match status {
            Status::FinishedSuccessful => Some(Event::Finished),
            Status::FinishedWithErrors => Some(Event::Failed),
            Status::Cancelled => Some(Event::Cancelled),
            Status::ToDo | Status::InProgress => None,
        }
    }

    /// Its name in what is told.
    fn word(self) -> &'static str {
        match self {
            Event::Finished => "job.finished",
            Event::Failed => "job.failed",
            Event::Cancelled => "job.cancelled",
        }
    }
}

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where to: `http` or `https`.
    pub url: String,
    /// What signs it: text, or `whsec_` and Base64. Empty: it is not signed.
    #[serde(default)]
    pub secret: String,
    /// What is told; empty: everything.
    #[serde(default)]
    pub on: BTreeSet<Event>,
}

/// A job that is over, and who does not know it yet.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    /// Who; `None`: it was never tried, so all of the settings.
    urls: Option<Vec<String>>,
    /// Since when, in milliseconds since 1970.
    since_ms: i64,
    /// When to try next.
    due_ms: i64,
    tries: u32,
}

/// Adds to the batch that ends a job that this is to be told.
///
/// # Errors
/// It cannot be encoded.
pub fn note(batch: &mut Batch, job: JobId) -> Result<(), StoreError> {
    let now = now_ms();
    let waiting = Waiting { urls: None, since_ms: now, due_ms: now, tries: 0 };
    batch.put(Table::Outbox, job.0.as_bytes(), encode(SCHEMA, &waiting)?);
    Ok(())
}

/// Tells until the agent stops.
pub async fn run(shared: Arc<Shared>) {
    let build = |trust| {
        let client = tls::client(trust, Vec::new());
        let client = client.connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT);
        client.redirect(reqwest::redirect::Policy::none()).build()
    };
    let tls = shared.settings.webhooks.iter().any(|hook| hook.url.starts_with("https:"));
    // Without a store of certificates on this machine, addresses without TLS are told all the same.
    let client = match tls {
        true => build(Trust::Machine).or_else(|_| build(Trust::Nobody)),
        false => build(Trust::Nobody),
    };
    let client = match client {
        Ok(client) => client,
        Err(e) => return error!("webhooks are not told: {}", chain(&e)),
    };
    loop {
        if let Err(e) = turn(&shared, &client).await {
            warn!("webhooks cannot be told now: {}", chain(&e));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.ended.notified() => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

/// Tells what is due.
async fn turn(shared: &Arc<Shared>, client: &reqwest::Client) -> Result<(), StoreError> {
    let kv = &shared.store.kv;
    let due = kv.each(Table::Outbox, &[]).filter_map(|entry| match entry {
        Ok((key, value)) => {
            let waiting: Waiting = decode(SCHEMA, &value).ok()?;
            let job = JobId(Uuid::from_slice(&key).ok()?);
            (waiting.due_ms <= now_ms()).then_some(Ok((job, waiting)))
        }
        Err(e) => Some(Err(e)),
    });
    for entry in due.take(TURN_MAX).collect::<Vec<_>>() {
        let (job, waiting) = entry?;
        let mut batch = Batch::new();
        match tell(shared, client, job, waiting).await {
            Some(left) => batch.put(Table::Outbox, job.0.as_bytes(), encode(SCHEMA, &left)?),
            None => batch.delete(Table::Outbox, job.0.as_bytes()),
        }
        kv.commit(batch).await?;
        if shared.stop.is_cancelled() {
            return Ok(());
        }
    }
    Ok(())
}

/// What is left to tell of a job.
async fn tell(
    shared: &Arc<Shared>,
    client: &reqwest::Client,
    job: JobId,
    waiting: Waiting,
) -> Option<Waiting> {
    let view = gather::job(shared, job).await;
    if view.is_none() && shared.stop.is_cancelled() {
        return Some(waiting);
    }
    // A job that was removed, or that a person tries again, is told no more.
    let view = view?;
    let event = Event::of(view.status.parse().ok()?)?;
    let mut left = Vec::new();
    for hook in &shared.settings.webhooks {
        let wanted = hook.on.is_empty() || hook.on.contains(&event);
        let untold = waiting.urls.as_ref().is_none_or(|urls| urls.contains(&hook.url));
        if wanted
            && untold
            && let Err(why) = post(client, hook, job, event, &view).await
        {
            debug!(%job, "{} was not told: {why}", hook.url);
            left.push((hook.url.clone(), why));
        }
    }
    let Waiting { since_ms, tries, .. } = waiting;
    let (url, why) = left.first()?;
    if now_ms() - since_ms > GIVE_UP_MS {
        warn!(%job, "{url} was not told that the job is over, and will not be: {why}");
        return None;
    }
    if tries == 0 {
        warn!(%job, "{url} was not told that the job is over, and is tried again: {why}");
    }
    let urls = Some(left.into_iter().map(|(url, _)| url).collect());
    Some(Waiting { urls, since_ms, due_ms: now_ms() + pause_ms(tries), tries: tries + 1 })
}

/// Five seconds, then three times as long each time, up to an hour.
fn pause_ms(tries: u32) -> i64 {
    PAUSE_MIN_MS.saturating_mul(3_i64.saturating_pow(tries)).min(PAUSE_MAX_MS)
}

async fn post(
    client: &reqwest::Client,
    hook: &Webhook,
    job: JobId,
    event: Event,
    view: &JobView,
) -> Result<(), String> {
    let body = json!({ "type": event.word(), "timestamp": view.updated_at, "data": view });
    let (id, body) = (format!("{job}-{}", view.updated_at), body.to_string());
    let seconds = (now_ms() / 1_000).to_string();
    let mut request = client
        .post(&hook.url)
        .header("content-type", "application/json")
        .header("webhook-id", &id)
        .header("webhook-timestamp", &seconds);
    if !hook.secret.is_empty() {
        request = request.header("webhook-signature", sign(&hook.secret, &id, &seconds, &body)?);
    }
    let answer = request.body(body).send().await.map_err(|e| chain(&e))?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("it answers {status}")) }
}

/// The signature as Standard Webhooks has it: HMAC-SHA-256 of id, time and body.
fn sign(secret: &str, id: &str, seconds: &str, body: &str) -> Result<String, String> {
    let key = match secret.strip_prefix(SECRET_PREFIX) {
        Some(text) => BASE64.decode(text).map_err(|e| format!("the secret is no Base64: {e}"))?,
        None => secret.as_bytes().to_vec(),
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|e| e.to_string())?;
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    Ok(format!("v1,{}", BASE64.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let signature = sign(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            r#"{"test": 2432232314}"#,
        );
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signature.as_deref(), Ok(expected));
        assert!(sign("whsec_%", "a", "1", "{}").is_err());
    }

    #[test]
    fn pauses_grow_to_an_hour() {
        let pauses: Vec<i64> = (0..8).map(pause_ms).collect();
        assert_eq!(pauses[..3], [5_000, 15_000, 45_000]);
        assert_eq!(pauses[7], PAUSE_MAX_MS);
        assert_eq!(pause_ms(u32::MAX), PAUSE_MAX_MS);
    }
}
