//! When work would be done: what placement and hedging predict from measured speeds.
//!
//! A rest of tasks is done soonest by list scheduling: each goes to whoever finishes it first,
//! which may be somebody who is busy now. The moment at which that schedule ends is the *horizon*;
//! a slow worker that could not finish a task by then would only hold the job up, and gets none.

use std::collections::BTreeMap;

use crate::config::UNKNOWN_LINK_BYTES_S;
use crate::id::AgentId;
use crate::media::lengths::Pace;
use crate::media::{TaskSpec, WorkClass};
use crate::time::Time;

use super::Mesh;
use super::jobs::{Lease, Task};
use super::peers::{Peer, PeerState};

/// What an attempt that is stopped at its worker is thought to take at least.
const PAUSED_MS: u64 = 600_000;
/// How long a task is thought to take where nothing of its kind was ever measured.
const UNKNOWN_TASK_MS: u64 = 20_000;
/// Predictions beyond this are "never": about 12 days.
const NEVER_MS: u64 = 1 << 30;
/// How much of a task must be done before its own pace counts, in parts of 1,000.
const PACE_FROM: u64 = 50;
/// How much faster than a usual machine one is believed to be before it has shown it.
const CLAIM_MAX: u64 = 16;
/// Silence of a lease that is no sign of anything: progress is told about once a second.
const QUIET_MS: u64 = 5_000;

/// A worker as the choice sees it. Times are milliseconds from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    /// Whose it is.
    pub worker: AgentId,
    /// Tasks that it runs at the same time.
    pub slots: u32,
    /// Tasks that it wants to hold, those that it holds included.
    pub want: u32,
    /// Tasks that it holds.
    pub leases: u32,
    /// Tasks that it may be given in addition before it has delivered some: anybody can claim any
    /// speed.
    pub credit: u32,
    /// Work units that one slot does in a second; never 0.
    pub rate: u64,
    /// Until what it holds is done, on average over its slots.
    pub busy_ms: u64,
    /// Until the input of the next task would be there.
    pub travel_ms: u64,
    /// Its person would rather have it do something else.
    pub reluctant: bool,
    /// How dear its promises are: 1 for one that keeps them, more for each broken one.
    pub doubt: u64,
}

impl Seat {
    /// Whether a slot of it is idle; otherwise a grant only waits there.
    pub fn idle(&self) -> bool {
        self.leases < self.slots.min(self.want)
    }

    fn task_ms(&self, units: u64) -> u64 {
        let ms = units.saturating_mul(1_000) / self.rate.max(1);
        ms.max(1).saturating_mul(self.doubt.max(1)).min(NEVER_MS)
    }

    /// When a task that is granted to it now would be done.
    pub fn finish_ms(&self, units: u64) -> u64 {
        let waits_ms = if self.idle() { 0 } else { self.busy_ms };
        waits_ms.max(self.travel_ms).saturating_add(self.task_ms(units))
    }

    /// Tasks of this size that it would finish by then.
    fn capacity(&self, by_ms: u64, units: u64) -> u64 {
        if self.want == 0 && self.leases == 0 {
            return 0; // it takes no part
        }
        let each = |slots: u32, from_ms: u64| {
            u64::from(slots)
                * (by_ms.saturating_sub(from_ms.max(self.travel_ms)) / self.task_ms(units))
        };
        let busy = self.leases.min(self.slots);
        let all = each(self.slots - busy, 0) + each(busy, self.busy_ms);
        all.min(u64::from(self.credit))
    }
}

/// When a rest of `left` tasks of this size could be done by these workers; `None` when they may
/// not be given all of it, so that nothing is to be held back.
fn horizon(seats: &[Seat], left: u64, units: u64) -> Option<u64> {
    let done = |by_ms| seats.iter().map(|seat| seat.capacity(by_ms, units)).sum::<u64>() >= left;
    if !done(NEVER_MS) {
        return None;
    }
    let (mut too_soon, mut enough) = (0, NEVER_MS);
    while enough - too_soon > 1 + enough / 256 {
        // Most horizons are near: halve the exponent first, then the distance.
        let middle = match enough / 4 > too_soon + 1 {
            true => too_soon.max(1) * 2,
            false => too_soon + (enough - too_soon) / 2,
        };
        match done(middle) {
            true => enough = middle,
            false => too_soon = middle,
        }
    }
    Some(enough)
}

/// Picks the worker for one ready task of this size, or nobody for now. `left`: tasks of its kind
/// that nobody has been given yet, this one included. `overtakes`: less urgent work would take the next
/// free slot.
///
/// A grant beyond a worker's slots lets the next input travel while the current one encodes, but
/// it also ties the task to that worker. So there are grants ahead only while more tasks are left
/// than all slots could start by themselves: the last ones go to whoever is free first.
pub(super) fn choose(seats: &[Seat], left: u64, units: u64, overtakes: bool) -> Option<AgentId> {
    let open = || seats.iter().filter(|seat| seat.leases < seat.want && seat.credit > 0);
    open().next()?;
    let by_ms = horizon(seats, left, units).unwrap_or(u64::MAX);
    let in_time = |seat: &&Seat| seat.finish_ms(units) <= by_ms;
    let idle = open().filter(|seat| seat.idle()).filter(in_time);
    if let Some(best) = idle.min_by_key(|s| (s.reluctant, s.finish_ms(units), s.worker)) {
        return Some(best.worker);
    }
    let slots: u64 = seats.iter().map(|seat| u64::from(seat.slots)).sum();
    let ahead = open().filter(|seat| !seat.idle() && (overtakes || left > slots)).filter(in_time);
    let best = ahead.min_by_key(|seat| (seat.leases / seat.slots.max(1), seat.finish_ms(units)))?;
    Some(best.worker)
}

impl Peer {
    /// Work units a second that one slot of it does at this class, as far as anything is measured
    /// of it: at this class, or else at the class of the same encoder that is most like it.
    pub(super) fn rate(&self, class: WorkClass) -> Option<u64> {
        let info = self.info.as_ref()?;
        let alike = info.speeds.iter().filter(|(of, _)| of.encoder == class.encoder);
        let distance = |of: &WorkClass| (of.speed != class.speed, of.band != class.band);
        alike.min_by_key(|(of, _)| distance(of)).map(|(_, rate)| (*rate).max(1))
    }

    /// How long so many bytes take to it or from it.
    pub(super) fn travel_ms(&self, bytes: u64) -> u64 {
        let rate = self.link_bytes_s.unwrap_or(UNKNOWN_LINK_BYTES_S).max(1);
        (bytes.saturating_mul(1_000) / rate).min(NEVER_MS)
    }

    /// One, and more for leases that it let end beyond what it has delivered.
    pub(super) fn doubt(&self) -> u64 {
        1 + u64::from(self.broken / (1 + self.delivered))
    }
}

impl Mesh {
    /// The machines that may be granted work of this class now, or where there is none those that only
    /// rest; a second of the film has so many units. One that nothing is known of is taken for an
    /// average one, a mesh of such for one that encodes as fast as the film plays, and no claim counts
    /// for more than sixteen times what is usual.
    pub fn paces(&self, class: WorkClass, units_s: u64) -> Vec<Pace> {
        let able: Vec<(AgentId, &Peer)> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.state == PeerState::Connected)
            .filter(|(_, peer)| peer.has_all([&class.encoder]))
            .collect();
        let usable = able.iter().filter(|(_, peer)| peer.is_usable());
        let mut machines: Vec<(AgentId, &Peer)> = usable.copied().collect();
        if machines.is_empty() {
            machines = able;
        }
        let ids: Vec<AgentId> = machines.iter().map(|(id, _)| *id).collect();
        let mut usual = BTreeMap::new();
        if !machines.iter().any(|(_, peer)| peer.rate(class).is_some()) {
            usual.insert(class, units_s);
        }
        let rates: Vec<u64> =
            ids.iter().map(|id| self.rate_or_guess(*id, class, &ids, &mut usual)).collect();
        let mut sorted = rates.clone();
        sorted.sort_unstable();
        let middle = sorted.get(sorted.len().saturating_sub(1) / 2);
        let most = middle.map_or(u64::MAX, |rate| rate.saturating_mul(CLAIM_MAX));
        let pace = |((id, peer), rate): (&(AgentId, &Peer), u64)| Pace {
            slots: peer.slots_for(class.encoder.kind()).min(self.trusted_grants(*id)),
            pace: rate.min(most) as f64 / units_s.max(1) as f64,
        };
        machines.iter().zip(rates).map(pace).collect()
    }

    /// Milliseconds until the attempt is done, as far as its progress and its worker's speed tell.
    /// One that has not moved for a while will not be done sooner than that: a claimed speed holds
    /// nobody up for ever.
    pub(super) fn left_ms(
        &self,
        now: Time,
        spec: &TaskSpec,
        lease: &Lease,
        worker: AgentId,
    ) -> u64 {
        let rate = self.peers.get(worker).and_then(|peer| peer.rate(spec.class()));
        let whole_ms = rate.map_or(UNKNOWN_TASK_MS, |rate| {
            (spec.work_units().saturating_mul(1_000) / rate).min(NEVER_MS)
        });
        let quiet_ms = now.since_ms(lease.moved);
        let left_ms = match (lease.started, lease.part(spec)) {
            (Some(since), part) if part >= PACE_FROM => {
                now.since_ms(since).saturating_mul(1_000 - part) / part
            }
            (Some(since), _) => whole_ms.saturating_sub(now.since_ms(since)),
            (None, _) => whole_ms,
        };
        // Nobody knows when the machine of one that is stopped will be free.
        let left_ms = if lease.is_paused() { left_ms.max(PAUSED_MS) } else { left_ms };
        if quiet_ms > QUIET_MS { left_ms.max(quiet_ms) } else { left_ms }
    }

    /// Milliseconds that all leases of the worker at a task will still take, one after another.
    pub(super) fn task_left_ms(&self, now: Time, task: &Task) -> Vec<(AgentId, u64)> {
        let fetched = task.fetching.map(|(attempt, ..)| attempt);
        let leases = task.record.leases.iter().filter(|(of, _)| Some(**of) != fetched);
        leases
            .map(|(attempt, worker)| {
                let lease = task.leases.get(attempt).copied().unwrap_or(Lease::new(now));
                (*worker, self.left_ms(now, &task.record.spec, &lease, *worker))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNITS: u64 = 10_000;

    /// One slot that takes a second for a task, and wants one ahead.
    fn seat(n: u8) -> Seat {
        Seat {
            worker: AgentId([n; 32]),
            slots: 1,
            want: 2,
            leases: 0,
            credit: 100,
            rate: UNITS,
            busy_ms: 0,
            travel_ms: 0,
            reluctant: false,
            doubt: 1,
        }
    }

    fn busy(n: u8, leases: u32, busy_ms: u64) -> Seat {
        Seat { leases, busy_ms, ..seat(n) }
    }

    #[test]
    fn idle_slots_come_first_and_the_tail_is_not_queued() {
        let (full, idle) = (busy(1, 1, 500), seat(2));
        assert_eq!(choose(&[full, idle], 5, UNITS, false), Some(idle.worker));
        assert_eq!(choose(&[full], 5, UNITS, false), Some(full.worker), "one grant ahead");
        assert_eq!(
            choose(&[full, busy(2, 1, 500)], 2, UNITS, false),
            None,
            "the tail waits for a slot"
        );
        assert!(choose(&[full, busy(2, 1, 500)], 2, UNITS, true).is_some(), "nothing else gets it");
        assert_eq!(choose(&[busy(1, 2, 900)], 5, UNITS, false), None, "never more than it wants");
        assert_eq!(choose(&[], 5, UNITS, false), None);
    }

    #[test]
    fn a_slow_worker_gets_nothing_that_it_would_hold_up() {
        let fast = busy(1, 1, 100);
        let slow = Seat { rate: UNITS / 10, ..seat(2) };
        assert_eq!(choose(&[fast, slow], 3, UNITS, false), Some(fast.worker), "ahead");
        assert_eq!(choose(&[fast, slow], 2, UNITS, false), None, "the fast one does both in 2.1 s");
        assert_eq!(
            choose(&[fast, slow], 30, UNITS, false),
            Some(slow.worker),
            "it can be done meanwhile"
        );
    }

    #[test]
    fn a_claim_that_nothing_proves_holds_back_no_more_than_its_credit() {
        let boast = Seat { rate: u64::MAX, leases: 1, want: 9, credit: 3, ..seat(1) };
        let honest = seat(2);
        assert_eq!(choose(&[boast, honest], 4, UNITS, false), Some(honest.worker));
        let stuck = Seat { busy_ms: 60_000, ..boast };
        assert_eq!(choose(&[stuck, honest], 2, UNITS, false), Some(honest.worker));
    }

    #[test]
    fn a_long_way_and_broken_promises_count() {
        let far = Seat { travel_ms: 5_000, ..seat(1) };
        assert_eq!(choose(&[far, seat(2)], 1, UNITS, false), Some(AgentId([2; 32])));
        let doubtful = Seat { doubt: 3, ..seat(1) };
        assert_eq!(choose(&[doubtful, seat(2)], 1, UNITS, false), Some(AgentId([2; 32])));
    }

    #[test]
    fn work_that_a_person_wants_done_elsewhere_is_done_there_while_anybody_is_idle() {
        let reluctant = Seat { reluctant: true, ..seat(1) };
        let slower = Seat { rate: UNITS * 2 / 3, ..seat(2) };
        assert_eq!(choose(&[reluctant, slower], 9, UNITS, false), Some(slower.worker));
        assert_eq!(choose(&[reluctant, busy(2, 1, 500)], 9, UNITS, false), Some(reluctant.worker));
    }

    #[test]
    fn the_horizon_is_that_of_list_scheduling() {
        let seats = [seat(1), seat(2), Seat { rate: UNITS / 2, ..seat(3) }];
        let by_ms = horizon(&seats, 5, UNITS).unwrap();
        assert!((2_000..=2_010).contains(&by_ms), "{by_ms}");
        assert_eq!(horizon(&[Seat { credit: 2, ..seat(1) }], 3, UNITS), None);
    }
}
