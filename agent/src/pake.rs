//! Two agents prove to each other that they know the same short code, and nobody who listens or
//! stands between them learns it (SPAKE2 as python-spake2 has it, which is older than RFC 9382 and not
//! the same on the wire). The only file that names the `spake2` crate.
//!
//! Whoever does not know the code gets one guess an exchange. The names of both agents are part of
//! the exchange: a code that is carried to the wrong agent opens nothing.

use dmc_protocol::id::AgentId;
use spake2::{Ed25519Group, Identity, Password, Spake2};

/// The two sides of an exchange.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sides {
    /// Who made the connection.
    pub asker: AgentId,
    /// Who was reached.
    pub answerer: AgentId,
}

impl Sides {
    fn names(self) -> (Identity, Identity) {
        let name =
            |role: &str, id: AgentId| Identity::new(format!("dmc join {role} {id}").as_bytes());
        (name("asker", self.asker), name("answerer", self.answerer))
    }
}

/// One side of an exchange that has begun.
pub(crate) struct Exchange(Spake2<Ed25519Group>);

impl Exchange {
    /// The asker's side, and what it says first.
    pub fn ask(code: &str, sides: Sides) -> (Exchange, Vec<u8>) {
        let (asker, answerer) = sides.names();
        let (state, said) =
            Spake2::<Ed25519Group>::start_a(&Password::new(code.as_bytes()), &asker, &answerer);
        (Exchange(state), said)
    }

    /// The answerer's side, and what it says.
    pub fn answer(code: &str, sides: Sides) -> (Exchange, Vec<u8>) {
        let (asker, answerer) = sides.names();
        let (state, said) =
            Spake2::<Ed25519Group>::start_b(&Password::new(code.as_bytes()), &asker, &answerer);
        (Exchange(state), said)
    }

    /// What both share when the code was the same. `None`: the other side sent what is no part of
    /// an exchange.
    pub fn finish(self, heard: &[u8]) -> Option<Shared> {
        let key = self.0.finish(heard).ok()?;
        // The library's key, under a name of its own for this use.
        Some(Shared(blake3::derive_key("dmc 2026 join proof", &key)))
    }
}

/// The secret of one exchange.
pub(crate) struct Shared([u8; 32]);

impl Shared {
    /// The asker's proof over what both are about to sign.
    pub fn askers_proof(&self, claim: &[u8]) -> blake3::Hash {
        self.proof(b"asker", claim)
    }

    /// The answerer's.
    pub fn answerers_proof(&self, claim: &[u8]) -> blake3::Hash {
        self.proof(b"answerer", claim)
    }

    fn proof(&self, role: &[u8], claim: &[u8]) -> blake3::Hash {
        let mut hash = blake3::Hasher::new_keyed(&self.0);
        hash.update(&(role.len() as u64).to_le_bytes()).update(role).update(claim);
        hash.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(asker: u8, answerer: u8) -> Sides {
        Sides { asker: AgentId([asker; 32]), answerer: AgentId([answerer; 32]) }
    }

    fn exchange(asked: (&str, Sides), answered: (&str, Sides)) -> (Shared, Shared) {
        let (asker, first) = Exchange::ask(asked.0, asked.1);
        let (answerer, second) = Exchange::answer(answered.0, answered.1);
        (asker.finish(&second).unwrap(), answerer.finish(&first).unwrap())
    }

    #[test]
    fn only_the_same_code_between_the_same_agents_is_proven() {
        let (here, other) = (sides(1, 2), sides(1, 3));
        let (a, b) = exchange(("AB1-CDE", here), ("AB1-CDE", here));
        assert_eq!(a.askers_proof(b"claim"), b.askers_proof(b"claim"));
        assert_eq!(a.answerers_proof(b"claim"), b.answerers_proof(b"claim"));
        assert_ne!(a.askers_proof(b"claim"), a.answerers_proof(b"claim"), "not to be reflected");
        assert_ne!(a.askers_proof(b"claim"), b.askers_proof(b"other"));
        let (a, b) = exchange(("AB1-CDE", here), ("AB1-CDF", here));
        assert_ne!(a.askers_proof(b"claim"), b.askers_proof(b"claim"), "another code");
        let (a, b) = exchange(("AB1-CDE", here), ("AB1-CDE", other));
        assert_ne!(a.askers_proof(b"claim"), b.askers_proof(b"claim"), "somebody in the middle");
        let (asker, said) = Exchange::ask("AB1-CDE", here);
        assert!(asker.finish(&said).is_none(), "its own words come back");
    }
}
