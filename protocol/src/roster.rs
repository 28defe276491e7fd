//! Who belongs to the mesh: signed facts, and what follows from them.
//!
//! Membership is a pure function of an unordered set of facts and of who asks; no clock is
//! involved. Agents that have seen the same facts agree, whatever the order in which they came.
//!
//! Agents are the points of a graph. Each [`Claim::Add`] and [`Claim::Link`] is an edge that both
//! its ends have signed, so nobody is drawn into a mesh without a word of their own. A
//! [`Claim::Evict`] takes a point away for ever, and with it the edges at that point; whom the
//! evictor keeps is held by an edge to the evictor instead. The members are those that the asking
//! agent still reaches. That makes the rules short: removal wins over every sponsorship, an
//! evicted key never returns, and whoever an evicted agent brought in falls with it unless somebody
//! else vouches for them. See docs/adr/0010.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::id::AgentId;

/// Claims of each of two groups that a roster keeps: who came, and who was evicted.
pub const CLAIMS_MAX: usize = 4_096;
/// Agents that one eviction can keep.
pub const KEEP_MAX: usize = 256;
/// Facts in one message: even the largest fit into a frame.
pub const FACTS_PER_MESSAGE: usize = 64;

/// Signatures are over this and the claim, so that none of them means anything elsewhere.
const DOMAIN: &[u8] = b"dmc roster fact 1\0";

/// The random name that an agent gives its own mesh of one at its first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MeshId(pub [u8; 16]);

/// How two agents came to trust each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Via {
    /// The doors of both were open.
    Door,
    /// A person carried a one-time code from one to the other.
    Code,
}

/// What a fact says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Claim {
    /// An agent began, as a mesh of one. Signed by it.
    Genesis {
        /// The mesh.
        mesh: MeshId,
        /// The agent.
        peer: AgentId,
    },
    /// A member took an agent into its mesh. Signed by both.
    Add {
        /// The member.
        sponsor: AgentId,
        /// The agent that joined.
        peer: AgentId,
        /// From both, so that no signature can be used twice.
        nonce: [u8; 16],
        /// How.
        via: Via,
    },
    /// Two meshes became one through these two agents. Signed by both.
    Link {
        /// A member of the one.
        a: AgentId,
        /// A member of the other.
        b: AgentId,
        /// From both.
        nonce: [u8; 16],
        /// How.
        via: Via,
    },
    /// A member removed an agent for ever. Signed by the member.
    Evict {
        /// The agent.
        peer: AgentId,
        /// The member.
        by: AgentId,
        /// Agents that stay, although they came through the evicted one.
        keep: BTreeSet<AgentId>,
    },
}

impl Claim {
    /// Who has to sign it, in the order of the signatures.
    pub fn signers(&self) -> Vec<AgentId> {
        match self {
            Claim::Genesis { peer, .. } => vec![*peer],
            Claim::Add { sponsor, peer, .. } => vec![*sponsor, *peer],
            Claim::Link { a, b, .. } => vec![*a, *b],
            Claim::Evict { by, .. } => vec![*by],
        }
    }

    /// The bytes that are signed.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = DOMAIN.to_vec();
        // A claim of these types always encodes.
        bytes.extend(codec::to_bytes(self).unwrap_or_default());
        bytes
    }

    /// The edge that both its ends signed.
    fn consent(&self) -> Option<(AgentId, AgentId)> {
        match self {
            Claim::Add { sponsor, peer, .. } => Some((*sponsor, *peer)),
            Claim::Link { a, b, .. } => Some((*a, *b)),
            Claim::Genesis { .. } | Claim::Evict { .. } => None,
        }
    }

    /// The edges by which an evictor holds whom it keeps.
    fn kept(&self) -> impl Iterator<Item = (AgentId, AgentId)> {
        let kept = match self {
            Claim::Evict { by, keep, .. } => Some((*by, keep)),
            _ => None,
        };
        kept.into_iter().flat_map(|(by, keep)| keep.iter().map(move |kept| (by, *kept)))
    }

    fn is_sound(&self) -> bool {
        match self {
            Claim::Genesis { .. } => true,
            Claim::Add { sponsor, peer, .. } => sponsor != peer,
            Claim::Link { a, b, .. } => a != b,
            Claim::Evict { peer, by, keep } => {
                peer != by && keep.len() <= KEEP_MAX && !keep.contains(peer)
            }
        }
    }
}

/// One ed25519 signature (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seal(pub [u8; 32], pub [u8; 32]);

impl Seal {
    /// From the 64 bytes of a signature; `None` when there are not 64.
    pub fn from_bytes(bytes: &[u8]) -> Option<Seal> {
        let (first, second) = bytes.split_at_checked(32)?;
        Some(Seal(first.try_into().ok()?, second.try_into().ok()?))
    }

    fn signature(&self) -> Signature {
        Signature::from_components(self.0, self.1)
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seal({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// A claim and the signatures under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What is said.
    pub claim: Claim,
    /// Signatures, in the order of [`Claim::signers`].
    pub seals: Vec<Seal>,
}

/// Why a fact is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// A claim that cannot mean anything.
    #[error("the claim contradicts itself")]
    Unsound,
    /// A signature is missing, or is not that of its signer.
    #[error("a signature is missing or wrong")]
    Signature,
    /// No room for more.
    #[error("the roster is full: {CLAIMS_MAX} claims; `dmc mesh reset` begins a new mesh")]
    Full,
}

impl Fact {
    /// Checks the claim and every signature.
    ///
    /// # Errors
    /// [`FactError::Unsound`], [`FactError::Signature`].
    pub fn verify(&self) -> Result<(), FactError> {
        if !self.claim.is_sound() {
            return Err(FactError::Unsound);
        }
        let signers = self.claim.signers();
        if signers.len() != self.seals.len() {
            return Err(FactError::Signature);
        }
        let bytes = self.claim.bytes();
        let mut all = signers.iter().zip(&self.seals);
        let right = all.all(|(signer, seal)| is_signed(*signer, &bytes, *seal));
        if right { Ok(()) } else { Err(FactError::Signature) }
    }
}

/// Whether a seal under these bytes is the signer's.
pub fn is_signed(signer: AgentId, bytes: &[u8], seal: Seal) -> bool {
    let key = VerifyingKey::from_bytes(&signer.0);
    // Strict: no weak keys, one valid form of each signature.
    key.is_ok_and(|key| key.verify_strict(bytes, &seal.signature()).is_ok())
}

/// A set of facts whose signatures are right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    claims: BTreeMap<Claim, Vec<Seal>>,
    evictions: usize,
}

impl Roster {
    /// Adds a fact after checking it. `true`: it is new.
    ///
    /// # Errors
    /// [`FactError`]; the roster is as it was.
    pub fn insert(&mut self, fact: Fact) -> Result<bool, FactError> {
        if let Some(known) = self.claims.get(&fact.claim)
            && known <= &fact.seals
        {
            return Ok(false);
        }
        fact.verify()?;
        let is_eviction = matches!(fact.claim, Claim::Evict { .. });
        let is_new = !self.claims.contains_key(&fact.claim);
        let of_group =
            if is_eviction { self.evictions } else { self.claims.len() - self.evictions };
        if is_new && of_group >= CLAIMS_MAX {
            return Err(FactError::Full);
        }
        // Of two right signatures under one claim the smaller one stays, in whatever order they came.
        self.claims.insert(fact.claim, fact.seals);
        self.evictions += usize::from(is_new && is_eviction);
        Ok(is_new)
    }

    /// Adds all facts of another roster. Both were checked.
    pub fn merge(&mut self, other: &Roster) {
        for fact in other.facts() {
            // What does not fit is left out.
            let _full = self.insert(fact);
        }
    }

    /// Whether a claim is known.
    pub fn contains(&self, claim: &Claim) -> bool {
        self.claims.contains_key(claim)
    }

    /// All facts, in the order of their claims.
    pub fn facts(&self) -> impl Iterator<Item = Fact> {
        let facts = self.claims.iter();
        facts.map(|(claim, seals)| Fact { claim: claim.clone(), seals: seals.clone() })
    }

    /// All claims, in their order.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.claims.keys()
    }

    /// What two agents compare to see whether they know the same facts.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new();
        for claim in self.claims.keys() {
            let bytes = claim.bytes();
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(&bytes);
        }
        *hash.finalize().as_bytes()
    }

    /// Forgets facts about agents that have nothing to do with this one: a stranger's facts must not
    /// fill the roster. Returns the claims that went.
    pub fn keep_connected(&mut self, me: AgentId) -> Vec<Claim> {
        let all = self.ever(me);
        let foreign = |claim: &Claim| !claim.signers().iter().all(|signer| all.contains(signer));
        let foreign: Vec<Claim> = self.claims().filter(|claim| foreign(claim)).cloned().collect();
        for claim in &foreign {
            self.claims.remove(claim);
            self.evictions -= usize::from(matches!(claim, Claim::Evict { .. }));
        }
        foreign
    }

    /// Everybody who ever belonged to the mesh of an agent, evicted ones included.
    pub fn ever(&self, me: AgentId) -> BTreeSet<AgentId> {
        reach(me, self.claims().filter_map(Claim::consent))
    }

    /// Everybody who was evicted from the mesh of an agent. Only those who ever belonged to it can
    /// evict.
    pub fn evicted(&self, me: AgentId) -> BTreeSet<AgentId> {
        self.evicted_of(&self.ever(me))
    }

    fn evicted_of(&self, ever: &BTreeSet<AgentId>) -> BTreeSet<AgentId> {
        let evictions = self.claims().filter_map(|claim| match claim {
            Claim::Evict { peer, by, .. } if ever.contains(by) => Some(*peer),
            _ => None,
        });
        evictions.collect()
    }

    /// The mesh as this agent sees it: itself, and whom it reaches without passing through anybody
    /// who was evicted. Only itself when it was evicted.
    pub fn members(&self, me: AgentId) -> BTreeSet<AgentId> {
        let ever = self.ever(me);
        let evicted = self.evicted_of(&ever);
        self.connected(me, &ever, &evicted)
    }

    fn connected(
        &self,
        me: AgentId,
        ever: &BTreeSet<AgentId>,
        evicted: &BTreeSet<AgentId>,
    ) -> BTreeSet<AgentId> {
        // Nobody is kept who never belonged here.
        let is_here = |agent: &AgentId| ever.contains(agent) && !evicted.contains(agent);
        let edges = self.claims().flat_map(|claim| claim.consent().into_iter().chain(claim.kept()));
        reach(me, edges.filter(|(a, b)| is_here(a) && is_here(b)))
    }

    /// The mesh as this agent would see it if somebody were evicted without keeping anybody.
    pub fn members_without(&self, me: AgentId, peer: AgentId) -> BTreeSet<AgentId> {
        let mut evicted = self.evicted(me);
        evicted.insert(peer);
        self.connected(me, &self.ever(me), &evicted)
    }

    /// The mesh's name: the smallest of the names that its agents gave their meshes of one. It stays
    /// when that agent is evicted.
    pub fn mesh(&self, me: AgentId) -> Option<MeshId> {
        let ever = self.ever(me);
        let names = self.claims().filter_map(|claim| match claim {
            Claim::Genesis { mesh, peer } if ever.contains(peer) => Some(*mesh),
            _ => None,
        });
        names.min()
    }
}

/// Whoever is connected to an agent by these edges, the agent included.
fn reach(from: AgentId, edges: impl Iterator<Item = (AgentId, AgentId)>) -> BTreeSet<AgentId> {
    let mut next: BTreeMap<AgentId, Vec<AgentId>> = BTreeMap::new();
    for (a, b) in edges {
        next.entry(a).or_default().push(b);
        next.entry(b).or_default().push(a);
    }
    let (mut found, mut open) = (BTreeSet::from([from]), vec![from]);
    while let Some(agent) = open.pop() {
        let neighbours = next.get(&agent).into_iter().flatten();
        open.extend(neighbours.filter(|neighbour| found.insert(**neighbour)));
    }
    found
}
