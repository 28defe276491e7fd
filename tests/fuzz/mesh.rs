//! What makes an agent a member.

use std::collections::{BTreeMap, BTreeSet};

use dmc_protocol::codec;
use dmc_protocol::id::AgentId;
use dmc_protocol::join::{JOIN_BYTES_MAX, Join, may_join_by_door};
use dmc_protocol::roster::{Claim, FACTS_PER_MESSAGE, Fact, Roster, Seal};
use ed25519_dalek::{Signer, SigningKey};

/// Agents of the fuzzed mesh.
const AGENTS: u8 = 8;

/// What is said on a join stream.
pub fn join(data: &[u8]) -> bool {
    let Ok(message) = codec::from_bytes::<Join>(data, JOIN_BYTES_MAX) else { return false };
    let again = codec::to_bytes(&message).expect("what is accepted can be said again");
    assert_eq!(codec::from_bytes::<Join>(&again, JOIN_BYTES_MAX).ok(), Some(message.clone()));
    if let Join::Ask(party) | Join::Go(party) = &message {
        let (theirs, closed) = (party.standing, Default::default());
        assert!(may_join_by_door(theirs, closed).is_err(), "a closed door lets nobody in");
    }
    message.is_bounded()
}

/// Facts of a stranger: as they are, nobody signed them; signed by a few agents, they make a mesh on
/// which all its members agree.
pub fn roster(data: &[u8]) -> bool {
    let Ok(facts) = codec::from_bytes::<Vec<Fact>>(data, 1 << 20) else { return false };
    let keys = keys();
    let (mut unsigned, mut signed) = (Roster::default(), Roster::default());
    for fact in facts.into_iter().take(FACTS_PER_MESSAGE) {
        let _ = unsigned.insert(fact.clone());
        let claim = about_ours(fact.claim, &keys);
        let _ = signed.insert(sealed(claim, &keys));
    }
    assert_eq!(unsigned, Roster::default(), "nobody guesses a signature");
    for me in keys.keys() {
        let (members, evicted) = (signed.members(*me), signed.evicted(*me));
        assert!(members.contains(me) && members.is_subset(&signed.ever(*me)));
        for member in &members {
            assert_eq!(signed.members(*member), members, "members agree");
            assert!(member == me || !evicted.contains(member), "the evicted never return");
        }
    }
    true
}

fn keys() -> BTreeMap<AgentId, SigningKey> {
    let key = |n: u8| SigningKey::from_bytes(&[n + 1; 32]);
    (0..AGENTS).map(key).map(|key| (AgentId(key.verifying_key().to_bytes()), key)).collect()
}

/// The same claim about the agents whose keys are known.
fn about_ours(claim: Claim, keys: &BTreeMap<AgentId, SigningKey>) -> Claim {
    let ours: Vec<AgentId> = keys.keys().copied().collect();
    let of = |id: AgentId| ours[usize::from(id.0[0] % AGENTS)];
    match claim {
        Claim::Genesis { mesh, peer } => Claim::Genesis { mesh, peer: of(peer) },
        Claim::Add { sponsor, peer, nonce, via } => {
            Claim::Add { sponsor: of(sponsor), peer: of(peer), nonce, via }
        }
        Claim::Link { a, b, nonce, via } => Claim::Link { a: of(a), b: of(b), nonce, via },
        Claim::Evict { peer, by, keep } => {
            let keep: BTreeSet<AgentId> = keep.into_iter().map(of).collect();
            Claim::Evict { peer: of(peer), by: of(by), keep }
        }
    }
}

fn sealed(claim: Claim, keys: &BTreeMap<AgentId, SigningKey>) -> Fact {
    let bytes = claim.bytes();
    let seal = |signer: AgentId| Seal::from_bytes(&keys[&signer].sign(&bytes).to_bytes());
    Fact { seals: claim.signers().into_iter().filter_map(seal).collect(), claim }
}
