//! Membership follows from the facts alone: whoever knows the same agrees.

use std::collections::BTreeSet;

use dmc_protocol::id::AgentId;
use dmc_protocol::roster::{
    CLAIMS_MAX, Claim, Fact, FactError, KEEP_MAX, MeshId, Roster, Seal, Via,
};
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;

const AGENTS: u8 = 7;

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n + 1; 32])
}

fn id(n: u8) -> AgentId {
    AgentId(key(n).verifying_key().to_bytes())
}

/// The claim, signed by whoever has to.
fn signed(claim: Claim) -> Fact {
    let bytes = claim.bytes();
    let keys = || (0..=u8::MAX - 1).map(key);
    let of = |signer: AgentId| {
        keys().find(|k| k.verifying_key().to_bytes() == signer.0).expect("one of the test")
    };
    let seal = |signer| Seal::from_bytes(&of(signer).sign(&bytes).to_bytes()).expect("64 bytes");
    Fact { seals: claim.signers().into_iter().map(seal).collect(), claim }
}

fn genesis(n: u8) -> Fact {
    signed(Claim::Genesis { mesh: MeshId([n; 16]), peer: id(n) })
}

fn add(sponsor: u8, peer: u8) -> Fact {
    signed(Claim::Add { sponsor: id(sponsor), peer: id(peer), nonce: [0; 16], via: Via::Code })
}

fn link(a: u8, b: u8) -> Fact {
    signed(Claim::Link { a: id(a), b: id(b), nonce: [0; 16], via: Via::Door })
}

fn evict(peer: u8, by: u8, keep: &[u8]) -> Fact {
    let keep = keep.iter().map(|n| id(*n)).collect();
    signed(Claim::Evict { peer: id(peer), by: id(by), keep })
}

fn roster(facts: &[Fact]) -> Roster {
    let mut roster = Roster::default();
    for fact in facts {
        roster.insert(fact.clone()).expect("a right fact");
    }
    roster
}

fn ids(agents: &[u8]) -> BTreeSet<AgentId> {
    agents.iter().map(|n| id(*n)).collect()
}

#[test]
fn whoever_is_linked_or_added_is_a_member_and_all_agree() {
    let roster = roster(&[genesis(0), genesis(1), link(0, 1), add(1, 2), link(3, 4)]);
    for n in [0, 1, 2] {
        assert_eq!(roster.members(id(n)), ids(&[0, 1, 2]), "as {n} sees it");
        assert_eq!(roster.mesh(id(n)), Some(MeshId([0; 16])), "the smaller name");
    }
    assert_eq!(roster.members(id(3)), ids(&[3, 4]), "another mesh");
    assert_eq!(roster.members(id(5)), ids(&[5]), "nobody else");
}

#[test]
fn removal_wins_and_an_evicted_key_never_returns() {
    let mut roster = roster(&[link(0, 1), add(1, 2), add(0, 2), evict(2, 0, &[])]);
    assert_eq!(roster.members(id(0)), ids(&[0, 1]));
    assert_eq!(roster.members(id(2)), ids(&[2]), "it knows that it is alone");
    roster
        .insert(signed(Claim::Add { sponsor: id(1), peer: id(2), nonce: [9; 16], via: Via::Code }))
        .unwrap();
    roster.insert(evict(0, 2, &[])).unwrap();
    assert!(!roster.members(id(1)).contains(&id(2)));
    assert!(roster.evicted(id(1)).contains(&id(2)));
}

#[test]
fn whom_the_evicted_brought_in_falls_unless_kept_or_vouched_for() {
    let base = [link(0, 1), add(1, 2), add(1, 3), add(2, 4), add(0, 5), add(1, 5)];
    let with = |last| {
        let mut facts = base.to_vec();
        facts.push(last);
        roster(&facts).members(id(0))
    };
    assert_eq!(with(evict(1, 0, &[])), ids(&[0, 5]), "5 has another sponsor");
    assert_eq!(with(evict(1, 0, &[2])), ids(&[0, 2, 4, 5]), "2 is kept, and whom it brought");
    assert_eq!(with(evict(1, 5, &[3])), ids(&[0, 3, 5]), "kept by another member");
    assert_eq!(with(evict(1, 0, &[6])), ids(&[0, 5]), "nobody is kept who was never here");
}

#[test]
fn strangers_cannot_evict_and_their_facts_are_forgotten() {
    let mut roster = roster(&[link(0, 1), genesis(6), evict(0, 6, &[]), add(6, 5)]);
    assert_eq!(roster.members(id(0)), ids(&[0, 1]));
    assert_eq!(roster.keep_connected(id(0)).len(), 3);
    assert_eq!(roster, self::roster(&[link(0, 1)]));
}

#[test]
fn signatures_are_checked_and_bound_to_the_claim() {
    let mut roster = Roster::default();
    let good = add(0, 1);
    let mut swapped = good.clone();
    swapped.seals.swap(0, 1);
    let mut moved = good.clone();
    moved.claim = Claim::Add { sponsor: id(0), peer: id(1), nonce: [1; 16], via: Via::Code };
    let mut half = good.clone();
    half.seals.truncate(1);
    let mut flipped = good.clone();
    flipped.seals[0].0[3] ^= 1;
    for bad in [swapped, moved, half, flipped] {
        assert_eq!(roster.insert(bad), Err(FactError::Signature));
    }
    let itself = Claim::Link { a: id(0), b: id(0), nonce: [0; 16], via: Via::Door };
    assert_eq!(roster.insert(signed(itself)), Err(FactError::Unsound));
    assert_eq!(roster, Roster::default());
    assert_eq!(roster.insert(good.clone()), Ok(true));
    assert_eq!(roster.insert(good), Ok(false));
}

#[test]
fn a_roster_is_bounded_and_a_full_one_still_evicts() {
    let mut roster = roster(&[link(0, 1)]);
    let nonce = |n: usize| {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&(n as u64).to_le_bytes());
        nonce
    };
    for n in 1..CLAIMS_MAX {
        let claim = Claim::Add { sponsor: id(0), peer: id(1), nonce: nonce(n), via: Via::Code };
        roster.insert(signed(claim)).unwrap();
    }
    assert_eq!(roster.insert(add(0, 2)), Err(FactError::Full));
    assert_eq!(roster.insert(evict(1, 0, &[])), Ok(true));
    let mut keep = BTreeSet::new();
    for n in 0..=KEEP_MAX {
        let mut agent = [0; 32];
        agent[..8].copy_from_slice(&(n as u64).to_le_bytes());
        keep.insert(AgentId(agent));
    }
    let wide = Claim::Evict { peer: id(2), by: id(0), keep };
    assert_eq!(roster.insert(signed(wide)), Err(FactError::Unsound));
}

/// Any fact about a few agents.
fn any_fact() -> impl Strategy<Value = Fact> {
    let agent = || 0..AGENTS;
    let keep = proptest::collection::vec(0..AGENTS, 0..3);
    prop_oneof![
        agent().prop_map(genesis),
        (agent(), agent(), any::<bool>())
            .prop_filter("two agents", |(a, b, _)| a != b)
            .prop_map(|(a, b, code)| if code { add(a, b) } else { link(a, b) }),
        (agent(), agent(), keep)
            .prop_filter("somebody else", |(peer, by, keep)| peer != by && !keep.contains(peer))
            .prop_map(|(peer, by, keep)| evict(peer, by, &keep)),
    ]
}

fn any_facts() -> impl Strategy<Value = Vec<Fact>> {
    proptest::collection::vec(any_fact(), 0..12)
}

fn merged(one: &Roster, other: &Roster) -> Roster {
    let mut all = one.clone();
    all.merge(other);
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        a in any_facts(), b in any_facts(), c in any_facts()
    ) {
        let (a, b, c) = (roster(&a), roster(&b), roster(&c));
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(&merged(&a, &a), &a);
        prop_assert_eq!(merged(&a, &b).digest(), merged(&b, &a).digest());
    }

    #[test]
    fn the_order_of_facts_does_not_matter(facts in any_facts(), seed in any::<u64>()) {
        let mut other = facts.clone();
        // A permutation by a small generator: the order is all that differs.
        let mut state = seed | 1;
        for n in (1..other.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            other.swap(n, (state >> 33) as usize % (n + 1));
        }
        prop_assert_eq!(roster(&facts), roster(&other));
    }

    #[test]
    fn members_agree_and_the_evicted_never_return(facts in any_facts(), more in any_facts()) {
        let before = roster(&facts);
        let after = merged(&before, &roster(&more));
        for n in 0..AGENTS {
            let (me, members) = (id(n), after.members(id(n)));
            prop_assert!(members.contains(&me));
            for member in &members {
                prop_assert_eq!(&after.members(*member), &members, "as each of them sees it");
            }
            let evicted = after.evicted(me);
            prop_assert!(before.evicted(me).is_subset(&evicted), "evictions only grow");
            prop_assert!(members.iter().all(|m| *m == me || !evicted.contains(m)));
            prop_assert!(members.is_subset(&after.ever(me)));
        }
    }

    #[test]
    fn what_does_not_concern_an_agent_changes_nothing_for_it(facts in any_facts()) {
        let all = roster(&facts);
        for n in 0..AGENTS {
            let mut mine = all.clone();
            mine.keep_connected(id(n));
            prop_assert_eq!(mine.members(id(n)), all.members(id(n)));
            prop_assert_eq!(mine.evicted(id(n)), all.evicted(id(n)));
            prop_assert_eq!(mine.mesh(id(n)), all.mesh(id(n)));
        }
    }
}
