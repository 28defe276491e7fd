//! What two agents say to become members of one mesh. Nothing else may be said before that.
//!
//! The one that made the connection (the *asker*) speaks first:
//!
//! ```text
//! asker   ── Ask ─────▶   who I am, how I come, the first half of the password exchange
//!         ◀── Go ──────   who I am, the second half; or Refused
//!         ── Sign ────▶   the proof that I know the code, my signature under the claim
//!         ◀── Signed ──   the proof that I know it too, my signature; or Refused
//! ```
//!
//! The answerer keeps the fact before it says `Signed`, the asker as soon as it hears it. What the
//! two sign names both keys, so nobody in the middle can join in their stead.

use serde::{Deserialize, Serialize};

use crate::config::{NAME_BYTES_MAX, REASON_BYTES_MAX};
use crate::id::AgentId;
use crate::roster::{Claim, Seal, Via};

/// Largest message in bytes.
pub const JOIN_BYTES_MAX: usize = 8 << 10;
const PAKE_BYTES_MAX: usize = 64;

/// How an agent stands before it joins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whether its door is open.
    pub open: bool,
    /// Whether that is the door of its very first start, which makes one mesh of all that are new.
    pub first: bool,
    /// Whether it has other members with it already.
    pub established: bool,
}

/// Who somebody is who wants to join or is joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Its name, for people.
    pub name: String,
    /// How it stands.
    pub standing: Standing,
    /// Random: half of the claim's nonce.
    pub nonce: [u8; 16],
    /// Its half of the password exchange, when it comes by a code.
    pub pake: Option<Vec<u8>>,
}

/// Everything that is said on a join stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Join {
    /// The asker wants to join.
    Ask(Party),
    /// The answerer lets it go on.
    Go(Party),
    /// The asker's proof that it knows the code, and its signature.
    Sign {
        /// Keyed hash of the exchange; `None` when the door is open.
        proof: Option<[u8; 32]>,
        /// Its signature under the claim.
        seal: Seal,
    },
    /// The answerer's.
    Signed {
        /// Keyed hash of the exchange; `None` when the door is open.
        proof: Option<[u8; 32]>,
        /// Its signature under the claim.
        seal: Seal,
    },
    /// No, and why.
    Refused(Refusal),
}

/// Why an agent is not joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// One of the doors is closed.
    #[error(
        "its door is closed; run `dmc mesh invite` on a member of that mesh, and here `dmc mesh join CODE`"
    )]
    Closed,
    /// Two meshes that exist become one only by a code.
    #[error(
        "both agents belong to a mesh already; run `dmc mesh invite` on one and `dmc mesh join CODE` on the other"
    )]
    Established,
    /// There is no such code, or not any more.
    #[error(
        "no code is valid there: it was used, it is too old, or it was guessed at too often; run `dmc mesh invite` again"
    )]
    NoCode,
    /// The code is wrong.
    #[error("the code is wrong")]
    WrongCode,
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl Join {
    /// Whether all lists and texts are within their limits.
    pub fn is_bounded(&self) -> bool {
        match self {
            Join::Ask(party) | Join::Go(party) => {
                party.name.len() <= NAME_BYTES_MAX
                    && party.pake.as_ref().is_none_or(|pake| pake.len() <= PAKE_BYTES_MAX)
            }
            Join::Refused(Refusal::Other(why)) => why.len() <= REASON_BYTES_MAX,
            Join::Sign { .. } | Join::Signed { .. } | Join::Refused(_) => true,
        }
    }
}

/// Whether two agents may join through their doors.
///
/// # Errors
/// Why not.
pub fn may_join_by_door(one: Standing, other: Standing) -> Result<(), Refusal> {
    if !(one.open && other.open) {
        return Err(Refusal::Closed);
    }
    let all_new = one.first && other.first;
    if one.established && other.established && !all_new {
        return Err(Refusal::Established);
    }
    Ok(())
}

/// The claim that both sign.
pub fn claim_of(asker: (AgentId, &Party), answerer: (AgentId, &Party), via: Via) -> Claim {
    let mut hash = blake3::Hasher::new();
    hash.update(&asker.1.nonce).update(&answerer.1.nonce);
    let mut nonce = [0; 16];
    nonce.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    match (asker.1.standing.established, answerer.1.standing.established) {
        (true, false) => Claim::Add { sponsor: asker.0, peer: answerer.0, nonce, via },
        (false, true) => Claim::Add { sponsor: answerer.0, peer: asker.0, nonce, via },
        _ => Claim::Link { a: asker.0, b: answerer.0, nonce, via },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(open: bool, first: bool, established: bool) -> Standing {
        Standing { open, first, established }
    }

    #[test]
    fn doors_decide_who_may_join() {
        let new = standing(true, true, false);
        let new_mesh = standing(true, true, true);
        let closed = standing(false, false, false);
        let opened_mesh = standing(true, false, true);
        assert_eq!(may_join_by_door(new, new), Ok(()));
        assert_eq!(may_join_by_door(new_mesh, new_mesh), Ok(()), "pairs that formed at once");
        assert_eq!(may_join_by_door(new, opened_mesh), Ok(()));
        assert_eq!(may_join_by_door(new_mesh, opened_mesh), Err(Refusal::Established));
        assert_eq!(may_join_by_door(opened_mesh, opened_mesh), Err(Refusal::Established));
        for other in [new, new_mesh, closed, opened_mesh] {
            assert_eq!(may_join_by_door(closed, other), Err(Refusal::Closed));
            assert_eq!(may_join_by_door(other, closed), Err(Refusal::Closed));
        }
    }

    #[test]
    fn the_mesh_that_was_there_first_is_the_sponsor() {
        let (a, b) = (AgentId([1; 32]), AgentId([2; 32]));
        let party = |established| Party {
            name: String::new(),
            standing: standing(true, false, established),
            nonce: [7; 16],
            pake: None,
        };
        let claim = |x, y| claim_of((a, &party(x)), (b, &party(y)), Via::Code);
        assert!(
            matches!(claim(false, true), Claim::Add { sponsor, peer, .. } if (sponsor, peer) == (b, a))
        );
        assert!(
            matches!(claim(true, false), Claim::Add { sponsor, peer, .. } if (sponsor, peer) == (a, b))
        );
        assert!(matches!(claim(true, true), Claim::Link { .. }));
        assert!(matches!(claim(false, false), Claim::Link { .. }));
    }
}
