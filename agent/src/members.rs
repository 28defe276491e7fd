//! This agent's place in the mesh: the roster on disk, the door, and codes that let one agent in.
//!
//! Everything that decides is in [`dmc_protocol::roster`] and [`dmc_protocol::join`]; here it is
//! kept, timed and told to the gate of the network.

mod code;
mod door;
mod reset;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dmc_protocol::id::AgentId;
use dmc_protocol::join::{Party, Refusal, Standing, may_join_by_door};
use dmc_protocol::roster::{Claim, Fact, FactError, MeshId, Roster, Seal, Via};
use dmc_store::{Batch, Kv, StoreError, Table, decode, encode};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::config;
use crate::identity::Keypair;
use crate::net::Gate;

pub use code::{Code, CodeError};
pub use door::DoorView;
pub use reset::reset;

use code::Invite;
use door::Door;

const SCHEMA: u16 = 1;
/// Changes that the loop has not heard of yet.
const CHANGES: usize = 64;
/// Agents on the link that are remembered although they are no members.
const SEEN_MAX: usize = 256;

/// What changed in the mesh.
#[derive(Debug, Clone)]
pub struct Change {
    /// Agents that are members from now on.
    pub joined: Vec<AgentId>,
    /// Agents that are members no longer.
    pub left: Vec<AgentId>,
    /// New facts, for the other members.
    pub facts: Vec<Fact>,
}

/// Why membership cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// A fact is not taken.
    #[error(transparent)]
    Fact(#[from] FactError),
    /// The facts cannot be kept.
    #[error("the roster cannot be saved")]
    Store(#[from] StoreError),
    /// The key does not sign.
    #[error("this agent's key cannot sign: {0}")]
    Key(String),
    /// There is no such member.
    #[error("{0} is no member of this mesh; `dmc mesh status` lists the members")]
    NoMember(String),
    /// An agent does not evict itself.
    #[error("an agent does not evict itself; `dmc mesh reset` leaves the mesh")]
    Itself,
}

struct State {
    roster: Roster,
    members: BTreeSet<AgentId>,
    door: Door,
    invite: Option<Invite>,
    /// A code that a person gave here, and that an agent on the link may have made.
    seeking: Option<Code>,
    /// Agents on the link that are no members: whether they say that their door is open.
    seen: BTreeMap<AgentId, bool>,
}

/// The place of this agent; cheap to share.
pub struct Members {
    me: AgentId,
    name: String,
    key: Keypair,
    kv: Kv,
    gate: Gate,
    state: Mutex<State>,
    /// One change of the roster at a time, so that the disk is never behind what was said.
    saving: tokio::sync::Mutex<()>,
    changes: mpsc::Sender<Change>,
}

impl Members {
    /// Reads what the disk remembers. The first start makes a mesh of one and opens the door.
    ///
    /// # Errors
    /// The facts cannot be read or kept.
    pub async fn open(
        (me, key): (AgentId, Keypair),
        name: String,
        kv: Kv,
        gate: Gate,
        door: config::Door,
    ) -> Result<(Arc<Members>, mpsc::Receiver<Change>), MembersError> {
        let roster = load(&kv)?;
        let is_first = roster.claims().next().is_none();
        let door = Door::open(&kv, door, is_first).await?;
        let (changes, changed) = mpsc::channel(CHANGES);
        let state = State {
            members: roster.members(me),
            roster,
            door,
            invite: None,
            seeking: None,
            seen: BTreeMap::new(),
        };
        let (state, saving) = (Mutex::new(state), tokio::sync::Mutex::default());
        let members = Arc::new(Members { me, name, key, kv, gate, state, saving, changes });
        if is_first {
            let genesis = Claim::Genesis { mesh: MeshId(rand::random()), peer: me };
            let seal = members.sign(&genesis)?;
            members.learn(vec![Fact { claim: genesis, seals: vec![seal] }]).await?;
        }
        members.tell_gate();
        Ok((members, changed))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves whole values behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This agent.
    pub fn me(&self) -> AgentId {
        self.me
    }

    /// Everybody in the mesh, this agent included.
    pub fn all(&self) -> BTreeSet<AgentId> {
        self.lock().members.clone()
    }

    /// Whoever was a member of the mesh once and is not any more.
    pub fn former(&self) -> BTreeSet<AgentId> {
        let state = self.lock();
        let ever = state.roster.ever(self.me);
        ever.difference(&state.members).copied().collect()
    }

    /// Whether this agent was evicted from its mesh.
    pub fn is_evicted(&self) -> bool {
        self.lock().roster.evicted(self.me).contains(&self.me)
    }

    /// All claims that are known.
    pub fn claims(&self) -> Vec<Claim> {
        self.lock().roster.claims().cloned().collect()
    }

    /// The mesh's name.
    pub fn mesh(&self) -> Option<MeshId> {
        self.lock().roster.mesh(self.me)
    }

    /// What members compare.
    pub fn digest(&self) -> [u8; 32] {
        self.lock().roster.digest()
    }

    /// Everything that is known, for a member that knows something else.
    pub fn facts(&self) -> Vec<Fact> {
        self.lock().roster.facts().collect()
    }

    /// This agent's signature under a claim.
    pub fn sign(&self, claim: &Claim) -> Result<Seal, MembersError> {
        let bytes = self.key.sign(&claim.bytes()).map_err(|e| MembersError::Key(e.to_string()))?;
        Seal::from_bytes(&bytes).ok_or_else(|| MembersError::Key("not ed25519".to_owned()))
    }

    /// Takes facts in: checked, then durable, then in force. `true`: some were new.
    ///
    /// # Errors
    /// The first fact that is not right, or that the disk does not keep them. What was right before
    /// it is taken.
    pub async fn learn(&self, facts: Vec<Fact>) -> Result<bool, MembersError> {
        let _one_at_a_time = self.saving.lock().await;
        let before = self.lock().roster.clone();
        let (mut roster, mut wrong) = (before.clone(), None);
        for fact in facts {
            if let Err(e) = roster.insert(fact) {
                wrong = Some(e);
                break;
            }
        }
        roster.keep_connected(self.me);
        let new: Vec<Fact> = roster.facts().filter(|fact| !before.contains(&fact.claim)).collect();
        let changed = !new.is_empty();
        if changed {
            let mut batch = Batch::new();
            for fact in &new {
                batch.put(Table::Roster, &key_of(&fact.claim), encode(SCHEMA, fact)?);
            }
            self.kv.commit(batch).await?;
            let change = self.become_roster(roster, new);
            // Nobody listens any more: the agent stops.
            let _ = self.changes.send(change).await;
        }
        wrong.map_or(Ok(changed), |e| Err(e.into()))
    }

    fn become_roster(&self, roster: Roster, facts: Vec<Fact>) -> Change {
        let change = {
            let mut state = self.lock();
            let members = roster.members(self.me);
            let joined = members.difference(&state.members).copied().collect();
            let left = state.members.difference(&members).copied().collect();
            state.seen.retain(|peer, _| !members.contains(peer));
            (state.roster, state.members) = (roster, members);
            Change { joined, left, facts }
        };
        self.tell_gate();
        change
    }

    fn tell_gate(&self) {
        let mut state = self.lock();
        self.gate.set_members(state.members.clone(), state.roster.evicted(self.me));
        self.gate.set_joining(state.is_joining());
    }

    /// Removes a member for ever. `keep`: those that it brought in stay.
    ///
    /// # Errors
    /// It is no member, or the disk does not keep it.
    pub async fn evict(&self, peer: AgentId, keep: bool) -> Result<(), MembersError> {
        if peer == self.me {
            return Err(MembersError::Itself);
        }
        if !self.lock().members.contains(&peer) {
            return Err(MembersError::NoMember(peer.to_string()));
        }
        let keep = if keep { self.would_fall_with(peer) } else { BTreeSet::new() };
        let claim = Claim::Evict { peer, by: self.me, keep };
        let seal = self.sign(&claim)?;
        self.learn(vec![Fact { claim, seals: vec![seal] }]).await.map(|_changed| ())
    }

    /// Who would fall with a member that is evicted without keeping those that it brought in.
    fn would_fall_with(&self, peer: AgentId) -> BTreeSet<AgentId> {
        let state = self.lock();
        let mut after = state.members.clone();
        after.remove(&peer);
        let stays = state.roster.members_without(self.me, peer);
        after.difference(&stays).copied().collect()
    }
}

// ---- who may come in ----

impl State {
    fn is_joining(&mut self) -> bool {
        self.invite.take_if(|invite| !invite.is_valid());
        self.seeking.is_some() || self.invite.is_some() || self.door.is_open()
    }

    fn standing(&mut self) -> Standing {
        Standing {
            open: self.door.is_open(),
            first: self.door.is_first(),
            established: self.members.len() > 1,
        }
    }
}

impl Members {
    /// What this agent says of itself before it joins.
    pub fn party(&self, pake: Option<Vec<u8>>) -> Party {
        let standing = self.lock().standing();
        Party { name: self.name.clone(), standing, nonce: rand::random(), pake }
    }

    /// Whether another one may join through the door, as it says it stands.
    pub fn may_join(&self, theirs: Standing) -> Result<(), Refusal> {
        may_join_by_door(self.lock().standing(), theirs)
    }

    /// Two agents signed that they belong together; this one keeps it.
    ///
    /// # Errors
    /// The signatures are wrong, or the disk does not keep the fact.
    pub async fn join(&self, fact: Fact, name: &str) -> Result<(), MembersError> {
        let via = match &fact.claim {
            Claim::Add { via, .. } | Claim::Link { via, .. } => Some(*via),
            _ => None,
        };
        self.learn(vec![fact]).await?;
        let by = if via == Some(Via::Code) { "a code" } else { "open doors" };
        info!("{name} belongs to this mesh now, by {by}; `dmc mesh status` lists all members");
        if via == Some(Via::Door) && self.lock().door.one_came() {
            self.tell_gate();
        }
        Ok(())
    }

    /// Opens the door for some time, for one agent or for many.
    pub fn open_door(&self, time: std::time::Duration, many: bool) {
        self.lock().door.open_for(time, many);
        self.tell_gate();
    }

    /// Closes the door, for good if it was that of the first start.
    ///
    /// # Errors
    /// The disk does not keep it.
    pub async fn close_door(&self) -> Result<(), MembersError> {
        self.lock().door.close();
        self.lock().invite = None;
        self.tell_gate();
        Ok(door::keep_closed(&self.kv).await?)
    }

    /// How the door stands, for people.
    pub fn door(&self) -> DoorView {
        self.lock().door.view()
    }

    /// Makes a code that lets one agent in.
    pub fn invite(&self) -> (Code, std::time::Duration) {
        let code = Code::random(self.me);
        self.lock().invite = Some(Invite::new(code.clone()));
        self.tell_gate();
        (code, code::LIFE)
    }

    /// The code that is valid here now.
    pub fn invitation(&self) -> Option<Code> {
        let mut state = self.lock();
        state.invite.take_if(|invite| !invite.is_valid());
        state.invite.as_ref().map(|invite| invite.code().clone())
    }

    /// Somebody showed whether it knows the code: a right guess uses it up, and so do three wrong
    /// ones. `false`: it may not come in.
    pub fn try_code(&self, code: &Code, right: bool) -> bool {
        let mut state = self.lock();
        let Some(invite) = state.invite.as_mut().filter(|i| i.is_valid() && i.code() == code)
        else {
            return false;
        };
        if right || !invite.failed() {
            state.invite = None;
        }
        if !right {
            warn!("somebody tried to join with a wrong code");
        }
        drop(state);
        self.tell_gate();
        right
    }

    /// A person gave this code here; agents that may have made it are asked. `None`: no more.
    pub fn seek(&self, code: Option<Code>) {
        self.lock().seeking = code;
        self.tell_gate();
    }

    /// The code to try with a stranger, if it may be the one who made it.
    pub fn code_for(&self, peer: AgentId) -> Option<Code> {
        self.lock().seeking.clone().filter(|code| code.is_of(peer))
    }

    /// Somebody on the link is no member: whether to connect to it.
    pub fn may_dial(&self, peer: AgentId) -> bool {
        let mut state = self.lock();
        state.members.contains(&peer)
            || state.door.is_open()
            || state.seeking.as_ref().is_some_and(|code| code.is_of(peer))
    }

    /// Discovery saw an agent, whose door is open or not.
    pub fn saw(&self, peer: AgentId, open: bool) {
        let mut state = self.lock();
        if state.members.contains(&peer) || state.seen.len() >= SEEN_MAX {
            return;
        }
        let is_new = state.seen.insert(peer, open) != Some(open);
        let advise = is_new && !open && state.members.len() == 1;
        drop(state);
        if advise {
            info!(
                "{} is here, and its door is closed: run `dmc mesh invite` on a member of its mesh, \
                 and here `dmc mesh join CODE`",
                peer.short()
            );
        }
    }

    /// Agents on the link that are no members, and whether their doors are open.
    pub fn seen(&self) -> BTreeMap<AgentId, bool> {
        self.lock().seen.clone()
    }

    /// Called now and then: the door and the codes age.
    ///
    /// # Errors
    /// The disk does not keep how long the door is still open; it closes.
    pub async fn tick(&self) -> Result<(), MembersError> {
        let spend = self.lock().door.spends();
        let kept = match spend {
            // Spent before it is used: a restart never gives more.
            Some(left) => door::keep(&self.kv, left).await.map(|()| Some(left)),
            None => Ok(None),
        };
        {
            let mut state = self.lock();
            match &kept {
                Ok(Some(left)) => state.door.spent(*left),
                Ok(None) => {}
                Err(_) => state.door.close(),
            }
            // Under the lock, so that a door that is opened or closed meanwhile has the last word.
            let joining = state.is_joining();
            self.gate.set_joining(joining);
        }
        kept.map(|_left| ()).map_err(MembersError::from)
    }

    /// Strangers that the gate refused.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }
}

fn key_of(claim: &Claim) -> Vec<u8> {
    blake3::hash(&claim.bytes()).as_bytes().to_vec()
}

fn load(kv: &Kv) -> Result<Roster, MembersError> {
    let mut roster = Roster::default();
    for entry in kv.each(Table::Roster, &[]) {
        // Checked again: the disk is not trusted with who may command this machine.
        if let Err(e) = roster.insert(decode(SCHEMA, &entry?.1)?) {
            warn!("a fact of the roster is left out: {e}");
        }
    }
    Ok(roster)
}
