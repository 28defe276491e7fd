//! Figures for Prometheus (OpenMetrics text), and whether the agent lives.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gather;
use super::problem::{Problem, Refused};
use super::views::{PeerView, StatusView};
use crate::runtime::Shared;

/// An agent that does not answer itself for so long is stuck.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new().routes(routes!(metrics)).routes(routes!(healthz))
}

/// Whether the state machine answers. Says nothing else: anybody may ask.
#[utoipa::path(
    get,
    path = "/healthz",
    security(()),
    tag = "agent",
    responses((status = 200, description = "The agent lives", content_type = "application/json"), Refused),
)]
async fn healthz(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let answer = tokio::time::timeout(ALIVE_TIMEOUT, shared.ask(|_, _| ())).await;
    match answer {
        Ok(Some(())) => Ok(Json(json!({ "status": "ok" })).into_response()),
        Ok(None) => Err(super::api::stopping()),
        Err(_) => {
            let why = format!("the agent did not answer itself within {ALIVE_TIMEOUT:?}");
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why))
        }
    }
}

#[utoipa::path(
    get,
    path = "/metrics",
    tag = "agent",
    responses((status = 200, description = "Figures for Prometheus", content_type = "application/openmetrics-text"), Refused),
)]
async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let status = gather::status(&shared).await.ok_or_else(super::api::stopping)?;
    let peers = gather::peers(&shared).await.ok_or_else(super::api::stopping)?;
    let bytes_stored = shared.store.blobs.usage();
    let failed = |e| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("no figures: {e}"));
    let text = encode(&status, &peers, bytes_stored).map_err(failed)?;
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response())
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPeer {
    peer: String,
    name: String,
    class: String,
}

type Float = Gauge<f64, AtomicU64>;

fn signed(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

fn encode(
    status: &StatusView,
    peers: &[PeerView],
    bytes_stored: u64,
) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("dmc");
    let info = vec![("version", status.version.clone()), ("name", status.name.clone())];
    registry.register("agent", "This agent", Info::new(info));
    let mut gauge = |name: &str, help: &str, value: i64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    gauge("slots", "Encodes at the same time", i64::from(status.slots));
    gauge("encodes_running", "Encodes that run here now, for any owner", signed(status.running));
    gauge("jobs_open", "Jobs that are not over", signed(status.jobs_active));
    gauge("paused", "Whether this agent takes no new work", i64::from(status.paused));
    gauge("results_kept", "Results kept for owners", signed(status.kept.len()));
    bytes(&mut registry, "free_disk", "Bytes that work may still take", status.free_disk_bytes);
    bytes(&mut registry, "stored", "Pieces and results on this disk", bytes_stored);
    by_label(&mut registry, status, peers);
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

fn bytes(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(signed(value));
    registry.register_with_unit(name, help, Unit::Bytes, gauge);
}

fn by_label(registry: &mut Registry, status: &StatusView, peers: &[PeerView]) {
    let jobs = Family::<ByStatus, Gauge>::default();
    for (word, count) in &status.jobs {
        jobs.get_or_create(&ByStatus { status: word.clone() }).set(signed(*count));
    }
    registry.register("jobs", "Jobs that persons asked this agent for", jobs);
    let states = Family::<ByState, Gauge>::default();
    for state in ["connected", "suspect", "gone"] {
        let count = peers.iter().filter(|peer| peer.state == state).count();
        states.get_or_create(&ByState { state: state.to_owned() }).set(signed(count));
    }
    registry.register("peers", "Agents that this one knows", states);
    let speeds = Family::<ByPeer, Float>::default();
    for peer in peers {
        for (class, speed) in &peer.speed {
            let (peer, name) = (peer.id.clone(), peer.name.clone());
            speeds.get_or_create(&ByPeer { peer, name, class: class.clone() }).set(*speed);
        }
    }
    let help = "Measured speed, million pixels or samples a second";
    registry.register("peer_speed", help, speeds);
}
