//! Who belongs to the mesh, over the API: the door, codes, evictions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use dmc_protocol::id::AgentId;
use dmc_protocol::mesh::peers::PeerState;
use dmc_protocol::roster::{Claim, MeshId, Via};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::stopping;
use super::problem::{Problem, Refused};
use crate::members::{Code, MembersError};
use crate::net;
use crate::runtime::{Shared, version_text};
use crate::worker::chain;

/// How long an agent that may have made a code is looked for.
const SEEK: Duration = Duration::from_secs(30);
const SEEK_AGAIN: Duration = Duration::from_secs(3);
/// Longest time that a person may open the door for.
const OPEN_MAX_S: u64 = 24 * 3_600;

/// The mesh as this agent sees it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MeshView {
    /// `open` or `closed`.
    pub door: String,
    /// Why: `first_start`, `opened`, `always`, `closed`.
    pub door_state: String,
    /// Seconds until it closes by itself.
    pub door_closes_in_s: Option<u64>,
    /// Whether a code is valid here now.
    pub invited: bool,
    /// Three words that all members share.
    pub fingerprint: String,
    /// All members, this agent first.
    pub members: Vec<MemberView>,
    /// Agents that were evicted, and those that fell with them.
    pub former: Vec<FormerView>,
    /// Agents on the link that are no members.
    pub strangers: Vec<StrangerView>,
    /// Agents that tried to connect and were refused.
    pub refused: Vec<RefusedView>,
    /// What is wrong with this agent's own place: evicted, or its identity was copied.
    pub trouble: Vec<String>,
}

/// A member.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// Its id.
    pub id: String,
    /// Its name; the end of its id while that is not known.
    pub name: String,
    /// Whether it is this agent.
    pub me: bool,
    /// Whether it is connected.
    pub connected: bool,
    /// Who vouches for it, and how they met (`door` or `code`).
    pub vouched_by: Vec<VouchView>,
}

/// Two agents signed that they belong together.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct VouchView {
    /// The other one's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `door`, `code`, or `kept` when it stayed after an eviction.
    pub via: String,
}

/// An agent that was a member.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FormerView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Who evicted it; empty: it fell with the one that brought it in.
    pub evicted_by: Vec<String>,
}

/// An agent on the link that is no member.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StrangerView {
    /// Its id.
    pub id: String,
    /// Whether it says that its door is open.
    pub open: bool,
    /// Where it is.
    pub addresses: Vec<String>,
}

/// An agent that was refused.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RefusedView {
    /// Its id.
    pub id: String,
    /// Where it came from last.
    pub address: Option<String>,
    /// How often.
    pub times: u64,
}

/// A code that lets one agent in.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct InviteView {
    /// The code.
    pub code: String,
    /// Seconds that it is valid.
    pub expires_in_s: u64,
}

/// How the door is to be opened.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OpenWish {
    /// For how many seconds.
    #[schema(minimum = 1, maximum = 86_400)]
    pub seconds: u64,
    /// Whether more than one agent may join.
    pub many: bool,
}

/// A code that a person brought.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JoinWish {
    /// The code.
    pub code: String,
    /// Where the agent that made it can be reached, when it is not found by itself.
    #[serde(default)]
    pub peer: Option<String>,
}

/// Who is to be evicted.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EvictWish {
    /// Name or id.
    pub peer: String,
    /// Whether those go as well that only it vouches for.
    #[serde(default)]
    pub with_joined: bool,
}

type Agent = State<Arc<Shared>>;

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(open))
        .routes(routes!(close))
        .routes(routes!(invite))
        .routes(routes!(join))
        .routes(routes!(evict))
}

fn refused(status: StatusCode, error: &MembersError) -> Problem {
    Problem::new(status, chain(error))
}

#[utoipa::path(
    operation_id = "show_mesh",
    get,
    path = "/api/v1/mesh",
    tag = "mesh",
    responses((status = 200, description = "The mesh as this agent sees it", body = MeshView), Refused),
)]
async fn show(State(shared): Agent) -> Result<Json<MeshView>, Problem> {
    Ok(Json(view(&shared).await.ok_or_else(stopping)?))
}

#[utoipa::path(
    operation_id = "open_door",
    post,
    path = "/api/v1/mesh/open",
    tag = "mesh",
    request_body = OpenWish,
    responses((status = 200, description = "The mesh", body = MeshView), Refused),
)]
pub(super) async fn open(
    State(shared): Agent,
    Json(wish): Json<OpenWish>,
) -> Result<Json<MeshView>, Problem> {
    if !(1..=OPEN_MAX_S).contains(&wish.seconds) {
        let detail = "the door opens for 1 second to 24 hours, as in `dmc mesh open --for 2m`";
        return Err(Problem::usage(detail));
    }
    shared.members.open_door(Duration::from_secs(wish.seconds), wish.many);
    shared.dial_seen().await;
    show(State(shared)).await
}

#[utoipa::path(
    operation_id = "close_door",
    post,
    path = "/api/v1/mesh/close",
    tag = "mesh",
    responses((status = 200, description = "The mesh", body = MeshView), Refused),
)]
pub(super) async fn close(State(shared): Agent) -> Result<Json<MeshView>, Problem> {
    let closed = shared.members.close_door().await;
    closed.map_err(|e| refused(StatusCode::INSUFFICIENT_STORAGE, &e))?;
    show(State(shared)).await
}

#[utoipa::path(
    post,
    path = "/api/v1/mesh/invite",
    tag = "mesh",
    responses((status = 200, description = "The code", body = InviteView), Refused),
)]
pub(super) async fn invite(State(shared): Agent) -> Json<InviteView> {
    let (code, life) = shared.members.invite();
    Json(InviteView { code: code.to_string(), expires_in_s: life.as_secs() })
}

#[utoipa::path(
    operation_id = "join_mesh",
    post,
    path = "/api/v1/mesh/join",
    tag = "mesh",
    request_body = JoinWish,
    responses((status = 200, description = "The mesh", body = MeshView), Refused),
)]
pub(super) async fn join(
    State(shared): Agent,
    Json(wish): Json<JoinWish>,
) -> Result<Json<MeshView>, Problem> {
    let code: Code = wish.code.parse().map_err(|e| Problem::usage(format!("{e}")))?;
    let addresses = match &wish.peer {
        Some(text) => net::resolve(text).await.map_err(|e| Problem::usage(chain(&e)))?,
        None => Vec::new(),
    };
    shared.members.seek(Some(code.clone()));
    let joined = seek(&shared, &code, addresses).await;
    shared.members.seek(None);
    joined.map_err(|why| Problem::new(StatusCode::CONFLICT, why))?;
    show(State(shared)).await
}

/// Dials whoever may have made the code until one of them has answered.
async fn seek(
    shared: &Arc<Shared>,
    code: &Code,
    addresses: Vec<std::net::SocketAddr>,
) -> Result<(), String> {
    let mut answers = shared.asked.subscribe();
    let (mut trouble, end) = (None, Instant::now() + SEEK);
    while Instant::now() < end {
        shared.dial_seen().await;
        if !addresses.is_empty() {
            shared.net.know(None, addresses.clone()).await;
        }
        let again = (Instant::now() + SEEK_AGAIN).min(end);
        while let Ok(Ok(asked)) = timeout_at(again, answers.recv()).await {
            match asked.outcome {
                _ if asked.code != *code => {}
                Ok(()) => return Ok(()),
                Err((why, true)) => trouble = Some(why),
                Err((why, false)) => return Err(why),
            }
        }
    }
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    let seen = shared.members.seen().keys().filter(|peer| code.is_of(**peer)).count();
    Err(match seen {
        0 => "the agent that made this code is not found on this link; is it running, and is the code \
              typed right? Another network: `dmc mesh join CODE --peer HOST:PORT`"
            .to_owned(),
        _ => "the agent that made this code is there, but cannot be reached; does a firewall block \
              its port?"
            .to_owned(),
    })
}

#[utoipa::path(
    post,
    path = "/api/v1/mesh/evict",
    tag = "mesh",
    request_body = EvictWish,
    responses((status = 200, description = "The mesh", body = MeshView), Refused),
)]
pub(super) async fn evict(
    State(shared): Agent,
    Json(wish): Json<EvictWish>,
) -> Result<Json<MeshView>, Problem> {
    let view = view(&shared).await.ok_or_else(stopping)?;
    let named = |m: &&MemberView| m.id == wish.peer || m.name == wish.peer;
    let found: Vec<&MemberView> = view.members.iter().filter(named).collect();
    let [member] = found[..] else {
        let detail = match found.len() {
            0 => format!("no member is called {}; `dmc mesh status` lists them", wish.peer),
            _ => format!("several members are called {}; name one by its id", wish.peer),
        };
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    let peer: AgentId = member.id.parse().map_err(|e| Problem::usage(format!("{e}")))?;
    let evicted = shared.members.evict(peer, !wish.with_joined).await;
    evicted.map_err(|e| refused(StatusCode::CONFLICT, &e))?;
    // Answered after it was carried out.
    shared.ask(|_, _| ()).await;
    show(State(shared)).await
}

/// What the core knows of agents: the name, and whether it is connected.
struct Known(BTreeMap<AgentId, (String, bool)>);

impl Known {
    async fn of(shared: &Shared, ids: Vec<AgentId>) -> Option<Known> {
        let told = shared.ask(move |mesh, _| {
            let of = |id: AgentId| {
                let peer = mesh.peers().get(id);
                (id, (mesh.name_of(id), peer.is_some_and(|p| p.state == PeerState::Connected)))
            };
            ids.into_iter().map(of).collect()
        });
        told.await.map(Known)
    }

    fn name(&self, id: &AgentId) -> String {
        self.0.get(id).map_or_else(|| id.short(), |(name, _)| name.clone())
    }

    fn is_connected(&self, id: &AgentId) -> bool {
        self.0.get(id).is_some_and(|(_, connected)| *connected)
    }
}

pub(super) async fn view(shared: &Arc<Shared>) -> Option<MeshView> {
    let members = &shared.members;
    let (all, former, claims) = (members.all(), members.former(), members.claims());
    let known = Known::of(shared, all.iter().chain(&former).copied().collect()).await?;
    let door = members.door();
    let refused = members.gate().refused().into_iter().map(|(id, stranger)| RefusedView {
        id: id.to_string(),
        address: stranger.address.map(|ip| ip.to_string()),
        times: stranger.times,
    });
    Some(MeshView {
        door: if door.open { "open" } else { "closed" }.to_owned(),
        door_state: door.state,
        door_closes_in_s: door.closes_in_s,
        invited: members.invitation().is_some(),
        fingerprint: members.mesh().map(fingerprint).unwrap_or_default(),
        members: member_views(shared.me, &all, &claims, &known),
        former: former.iter().map(|id| former_view(id, &claims, &known)).collect(),
        strangers: stranger_views(shared),
        refused: refused.collect(),
        trouble: trouble(shared),
    })
}

/// This agent first, then by name.
fn member_views(
    me: AgentId,
    all: &BTreeSet<AgentId>,
    claims: &[Claim],
    known: &Known,
) -> Vec<MemberView> {
    let view = |id: &AgentId| MemberView {
        id: id.to_string(),
        name: known.name(id),
        me: *id == me,
        connected: known.is_connected(id),
        vouched_by: vouchers(claims, *id)
            .filter(|(by, _)| all.contains(by))
            .map(|(by, via)| VouchView {
                id: by.to_string(),
                name: known.name(&by),
                via: via.into(),
            })
            .collect(),
    };
    let mut views: Vec<MemberView> = all.iter().map(view).collect();
    views.sort_by_key(|member| (!member.me, member.name.clone()));
    views
}

fn former_view(id: &AgentId, claims: &[Claim], known: &Known) -> FormerView {
    let by = claims.iter().filter_map(|claim| match claim {
        Claim::Evict { peer, by, .. } if peer == id => Some(known.name(by)),
        _ => None,
    });
    FormerView { id: id.to_string(), name: known.name(id), evicted_by: by.collect() }
}

fn stranger_views(shared: &Shared) -> Vec<StrangerView> {
    let met = shared.met.lock().unwrap_or_else(PoisonError::into_inner);
    let addresses =
        |id: &AgentId| met.get(id).into_iter().flatten().map(ToString::to_string).collect();
    let seen = shared.members.seen();
    let view = |(id, open): (&AgentId, &bool)| StrangerView {
        id: id.to_string(),
        open: *open,
        addresses: addresses(id),
    };
    seen.iter().map(view).collect()
}

/// What is wrong with this agent's own place.
pub(super) fn trouble(shared: &Shared) -> Vec<String> {
    let twin = shared.twin.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let evicted = shared.members.is_evicted().then(|| {
        "this agent was evicted from its mesh; `dmc mesh reset` makes it a new one that can join again"
            .to_owned()
    });
    let versions = shared.versions.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let versions = versions.iter().map(|(peer, theirs)| version_text(*peer, theirs));
    twin.into_iter().chain(evicted).chain(versions).collect()
}

/// Who signed together with an agent, and how they met.
fn vouchers(claims: &[Claim], id: AgentId) -> impl Iterator<Item = (AgentId, &'static str)> {
    let word = |via: &Via| match via {
        Via::Door => "door",
        Via::Code => "code",
    };
    claims.iter().filter_map(move |claim| match claim {
        Claim::Add { sponsor, peer, via, .. } if *peer == id => Some((*sponsor, word(via))),
        Claim::Link { a, b, via, .. } if *a == id => Some((*b, word(via))),
        Claim::Link { a, b, via, .. } if *b == id => Some((*a, word(via))),
        Claim::Evict { by, keep, .. } if keep.contains(&id) => Some((*by, "kept")),
        _ => None,
    })
}

/// Three words (33 bits) of BIP 39's English list, by a hash of the mesh's name.
fn fingerprint(mesh: MeshId) -> String {
    let hash = blake3::derive_key("dmc 2026 mesh fingerprint", &mesh.0);
    let words = bip39::Language::English.word_list();
    let word =
        |n: usize| words[usize::from(u16::from_le_bytes([hash[2 * n], hash[2 * n + 1]])) % 2_048];
    [0, 1, 2].map(word).join("-")
}
