//! Joining over a stream of its own: all that a stranger may say. What is said, and when, is in
//! [`dmc_protocol::join`].

use std::sync::Arc;
use std::time::Duration;

use dmc_protocol::codec;
use dmc_protocol::id::AgentId;
use dmc_protocol::join::{JOIN_BYTES_MAX, Join, Party, Refusal, claim_of};
use dmc_protocol::roster::{Claim, Fact, Seal, Via};
use libp2p::swarm::Stream;
use libp2p::{PeerId, StreamProtocol};
use tokio::time::timeout;

use super::control::{read_frame_up_to, write_frame};
use crate::members::{Code, Members};
use crate::pake::{Exchange, Shared, Sides};

/// The protocol's name in libp2p's negotiation.
pub(super) const JOIN: StreamProtocol = StreamProtocol::new("/dmc/join/1");
/// How long the whole of it may take.
const LIMIT: Duration = Duration::from_secs(15);
/// How long one try to open a stream may take, and how many there are.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
const OPEN_TRIES: u32 = 3;

/// Why two agents did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The other side says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It did not know the code either.
    #[error("the other agent did not prove that it made this code")]
    Impostor,
    /// It said what is not part of joining.
    #[error("the other agent does not join as this version does: {0}")]
    Protocol(&'static str),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(String),
    /// This agent could not keep it.
    #[error(transparent)]
    Members(#[from] crate::members::MembersError),
}

impl JoinError {
    /// Whether asking again may end otherwise.
    pub fn is_passing(&self) -> bool {
        matches!(self, JoinError::Io(_))
    }
}

/// Asks a stranger to join; by a code when there is one.
pub(super) async fn ask(
    streams: libp2p_stream::Control,
    peer: PeerId,
    id: AgentId,
    members: &Arc<Members>,
    code: Option<Code>,
) -> Result<(), JoinError> {
    let asked = async {
        let mut stream = open(streams, peer).await?;
        asked(&mut stream, id, members, code.as_ref()).await
    };
    timeout(LIMIT, asked).await.unwrap_or_else(|_| Err(JoinError::Io("no answer".to_owned())))
}

async fn open(mut streams: libp2p_stream::Control, peer: PeerId) -> Result<Stream, JoinError> {
    let mut last = "no answer in time".to_owned();
    for attempt in 0..OPEN_TRIES {
        tokio::time::sleep(Duration::from_millis(200) * attempt).await;
        match timeout(OPEN_TIMEOUT, streams.open_stream(peer, JOIN)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => last = e.to_string(),
            Err(_) => {}
        }
    }
    Err(JoinError::Io(last))
}

async fn asked(
    stream: &mut Stream,
    peer: AgentId,
    members: &Arc<Members>,
    code: Option<&Code>,
) -> Result<(), JoinError> {
    let me = members.me();
    let sides = Sides { asker: me, answerer: peer };
    let (exchange, said) = code.map(|code| Exchange::ask(&code.secret(), sides)).unzip();
    let mine = members.party(said);
    say(stream, &Join::Ask(mine.clone())).await?;
    let theirs = match hear(stream).await? {
        Join::Go(theirs) => theirs,
        Join::Refused(refusal) => return Err(refusal.into()),
        _ => return Err(JoinError::Protocol("an answer was expected")),
    };
    let secret = secret_of(exchange, theirs.pake.as_deref())?;
    if secret.is_none() {
        members.may_join(theirs.standing)?;
    }
    let via = if secret.is_some() { Via::Code } else { Via::Door };
    let claim = claim_of((me, &mine), (peer, &theirs), via);
    let (bytes, seal) = (claim.bytes(), members.sign(&claim)?);
    let proof = secret.as_ref().map(|secret| secret.askers_proof(&bytes).into());
    say(stream, &Join::Sign { proof, seal }).await?;
    let (proof, theirs_seal) = match hear(stream).await? {
        Join::Signed { proof, seal } => (proof, seal),
        Join::Refused(refusal) => return Err(refusal.into()),
        _ => return Err(JoinError::Protocol("a signature was expected")),
    };
    if let Some(secret) = &secret {
        // Compared in constant time.
        let right =
            proof.is_some_and(|proof| secret.answerers_proof(&bytes) == blake3::Hash::from(proof));
        if !right {
            return Err(JoinError::Impostor);
        }
    }
    members.join(sealed(claim, (me, seal), (peer, theirs_seal)), &shown(&theirs, peer)).await?;
    Ok(())
}

/// Answers a stranger that wants to join, or a member that does not know yet that it is one.
pub(super) async fn answer(
    mut stream: Stream,
    peer: AgentId,
    members: &Arc<Members>,
) -> Result<(), JoinError> {
    let answered = answered(&mut stream, peer, members);
    match timeout(LIMIT, answered).await {
        Ok(Err(JoinError::Refused(refusal))) => {
            let _ = timeout(OPEN_TIMEOUT, say(&mut stream, &Join::Refused(refusal.clone()))).await;
            Err(refusal.into())
        }
        Ok(ended) => ended,
        Err(_) => Err(JoinError::Io("it took too long".to_owned())),
    }
}

async fn answered(
    stream: &mut Stream,
    peer: AgentId,
    members: &Arc<Members>,
) -> Result<(), JoinError> {
    let Join::Ask(theirs) = hear(stream).await? else {
        return Err(JoinError::Protocol("a question was expected"));
    };
    let me = members.me();
    let sides = Sides { asker: peer, answerer: me };
    let code = match (&theirs.pake, members.invitation()) {
        (Some(_), Some(code)) => Some(code),
        (Some(_), None) => return Err(Refusal::NoCode.into()),
        (None, _) => None,
    };
    // One that is a member here already lost our last word: it comes through any door.
    if code.is_none() && !members.gate().admits(peer) {
        members.may_join(theirs.standing)?;
    }
    let (exchange, said) =
        code.as_ref().map(|code| Exchange::answer(&code.secret(), sides)).unzip();
    let mine = members.party(said);
    say(stream, &Join::Go(mine.clone())).await?;
    let secret = secret_of(exchange, theirs.pake.as_deref())?;
    let Join::Sign { proof, seal } = hear(stream).await? else {
        return Err(JoinError::Protocol("a signature was expected"));
    };
    let via = if secret.is_some() { Via::Code } else { Via::Door };
    let claim = claim_of((peer, &theirs), (me, &mine), via);
    let bytes = claim.bytes();
    if let (Some(secret), Some(code)) = (&secret, &code) {
        // Compared in constant time; the answer to a wrong one proves nothing to whoever guesses.
        let right =
            proof.is_some_and(|proof| secret.askers_proof(&bytes) == blake3::Hash::from(proof));
        if !members.try_code(code, right) {
            return Err(Refusal::WrongCode.into());
        }
    }
    let own_seal = members.sign(&claim)?;
    members.join(sealed(claim, (me, own_seal), (peer, seal)), &shown(&theirs, peer)).await?;
    let proof = secret.as_ref().map(|secret| secret.answerers_proof(&bytes).into());
    say(stream, &Join::Signed { proof, seal: own_seal }).await
}

fn secret_of(
    exchange: Option<Exchange>,
    heard: Option<&[u8]>,
) -> Result<Option<Shared>, JoinError> {
    match (exchange, heard) {
        (None, None) => Ok(None),
        (Some(exchange), Some(heard)) => {
            let secret = exchange.finish(heard);
            Ok(Some(secret.ok_or(JoinError::Protocol("the exchange is none"))?))
        }
        _ => Err(JoinError::Protocol("one side came with a code, the other without")),
    }
}

/// The fact, with the seals in the order of the claim's signers.
fn sealed(claim: Claim, one: (AgentId, Seal), other: (AgentId, Seal)) -> Fact {
    let signers = claim.signers();
    let of = |signer: &AgentId| if *signer == one.0 { one.1 } else { other.1 };
    Fact { seals: signers.iter().map(of).collect(), claim }
}

/// What a stranger calls itself, fit for a log.
fn shown(party: &Party, id: AgentId) -> String {
    let name: String = party.name.chars().filter(|c| !c.is_control()).collect();
    format!("{name} ({})", id.short())
}

async fn say(stream: &mut Stream, message: &Join) -> Result<(), JoinError> {
    let bytes = codec::to_bytes(message).map_err(|e| JoinError::Io(e.to_string()))?;
    write_frame(stream, &bytes).await.map_err(|e| JoinError::Io(e.to_string()))
}

async fn hear(stream: &mut Stream) -> Result<Join, JoinError> {
    let frame = read_frame_up_to(stream, JOIN_BYTES_MAX).await;
    let frame = frame.map_err(|e| JoinError::Io(e.to_string()))?;
    let message: Join = codec::from_bytes(&frame, JOIN_BYTES_MAX)
        .map_err(|_| JoinError::Protocol("it cannot be read"))?;
    match message.is_bounded() {
        true => Ok(message),
        false => Err(JoinError::Protocol("a text is over its limit")),
    }
}
