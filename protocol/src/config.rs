//! All limits and time-outs of the core, units in the names.

use serde::{Deserialize, Serialize};

/// Limits and time-outs. Every agent may use its own; none is agreed on with peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How often an agent tells each peer that it lives, and what it holds for it.
    pub heartbeat_ms: u64,
    /// How often an agent tells an owner how far its attempts are while there are any.
    pub heartbeat_busy_ms: u64,
    /// How long a granted attempt may be missing in its worker's heartbeats: those that were on
    /// their way when the grant left cannot list it.
    pub grant_grace_ms: u64,
    /// Silence after which a peer is shown as suspect and gets no new grants.
    pub suspect_ms: u64,
    /// Silence after which a lease ends and its task is granted again.
    pub lease_ms: u64,
    /// A gap between two ticks longer than this is this agent's own sleep: it is not counted as
    /// the silence of others.
    pub sleep_gap_ms: u64,
    /// A lease whose attempt makes no progress for this long ends, however often it is listed.
    pub stall_ms: u64,
    /// Attempts that a worker may hold for an owner before it has delivered anything; doubles with
    /// what it delivers, so that a liar cannot hoard the queue.
    pub unproven_grants_max: u32,
    /// Fetches of one result that a worker does not serve, although it is connected, before that
    /// counts as its failure.
    pub fetch_tries_max: u32,
    /// How long a worker may keep an attempt stopped, because its machine is needed, before that counts
    /// as no progress.
    pub paused_max_ms: u64,
    /// After its disk was full a worker bids again when more is free, and at the latest after this.
    pub disk_full_pause_ms: u64,
    /// How often an offer with work left is said again.
    pub offer_repeat_ms: u64,
    /// Grants that a worker may hold beyond its slots, so that the next input arrives while the
    /// current one encodes.
    pub grants_ahead: u32,
    /// Pieces that are cut and not yet granted, beyond what the workers want.
    pub pieces_ahead: u32,
    /// Workers that hear an offer at a time; more of them do while there is more work than these
    /// take.
    pub offer_peers_max: usize,
    /// Slots of the mesh that second attempts at stragglers may take, in per cent; one at least.
    /// 0: no second attempts.
    pub hedge_slots_percent: u32,
    /// A second attempt must be done within this part of what the first one still takes, in per
    /// cent.
    pub hedge_gain_percent: u32,
    /// What is done sooner than this is no straggler.
    pub hedge_left_ms: u64,
    /// Different workers that must fail a task before its job fails.
    pub task_workers_failed_max: usize,
    /// Failures of a task on the only workers that can do it before its job fails.
    pub task_failures_max: usize,
    /// Failures in a row of one worker at one class after which it is left alone for a while.
    pub backoff_after_failures: u32,
    /// First back-off of a failing worker; doubles with each further failure.
    pub backoff_first_ms: u64,
    /// Longest back-off of a failing worker.
    pub backoff_max_ms: u64,
    /// How long a worker keeps a finished result for an owner that is away.
    pub result_kept_ms: u64,
    /// How long a custodian is looked for before this agent does the job itself.
    pub custody_seek_ms: u64,
    /// How long a custodian, or a submitter, may be silent while the source is on its way.
    pub custody_offer_ms: u64,
    /// A custodian whose work gets no further for this long is given up, however often it speaks.
    pub custody_stall_ms: u64,
    /// Silence of a custodian after which the submitter takes the job back.
    pub custody_silence_ms: u64,
    /// How long a result that could not be brought home for a reason here waits for the next try.
    pub custody_retry_ms: u64,
    /// Jobs of others that this agent keeps at the same time.
    pub custody_max: usize,
    /// Of these, jobs of one submitter.
    pub custody_per_submitter_max: usize,
    /// Jobs of one owner that a worker remembers offers of.
    pub offers_per_owner_max: usize,
    /// Attempts that a worker holds for all owners, finished ones included.
    pub held_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            heartbeat_ms: 10_000,
            heartbeat_busy_ms: 1_000,
            grant_grace_ms: 5_000,
            suspect_ms: 30_000,
            lease_ms: 60_000,
            sleep_gap_ms: 5_000,
            stall_ms: 600_000,
            unproven_grants_max: 8,
            fetch_tries_max: 3,
            paused_max_ms: 2 * 3_600_000,
            disk_full_pause_ms: 60_000,
            offer_repeat_ms: 10_000,
            grants_ahead: 1,
            pieces_ahead: 2,
            offer_peers_max: 32,
            hedge_slots_percent: 10,
            hedge_gain_percent: 70,
            hedge_left_ms: 5_000,
            task_workers_failed_max: 3,
            task_failures_max: 3,
            backoff_after_failures: 2,
            backoff_first_ms: 60_000,
            backoff_max_ms: 3_600_000,
            result_kept_ms: 7 * 24 * 3_600_000,
            custody_seek_ms: 60_000,
            custody_offer_ms: 60_000,
            custody_stall_ms: 3_600_000,
            custody_silence_ms: 600_000,
            custody_retry_ms: 60_000,
            custody_max: 64,
            custody_per_submitter_max: 16,
            offers_per_owner_max: 256,
            held_max: 4_096,
        }
    }
}

/// A link that was never measured: half of gigabit Ethernet, in bytes a second.
pub const UNKNOWN_LINK_BYTES_S: u64 = 60_000_000;

/// Largest control message in bytes, checked before a byte of it is decoded.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Largest stored record in bytes.
pub const RECORD_BYTES_MAX: usize = 4 << 20;
/// Longest agent name in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest failure text that a peer may send, in bytes.
pub const REASON_BYTES_MAX: usize = 4_096;
/// Attempts in one heartbeat.
pub const HEARTBEAT_ATTEMPTS_MAX: usize = 4_096;
/// Jobs in one message of a custodian.
pub const CUSTODY_REPORTS_MAX: usize = 256;
/// Classes of work in one offer or one speed table.
pub const CLASSES_MAX: usize = 256;
/// Slots that a peer may claim.
pub const SLOTS_MAX: u32 = 1_024;
