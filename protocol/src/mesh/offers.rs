//! Who hears of a job, and what they bid.
//!
//! An offer goes to a sample of the capable peers, never to everybody: in a mesh of a thousand a
//! job needs a few of them. While there is more work than those take, others are asked, soon at
//! first and then less and less often. Offers are level-triggered: now and then those that take
//! part hear again what is left, so that a lost message heals.

use std::collections::BTreeSet;

use crate::id::{AgentId, JobId};
use crate::message::{Message, OfferedWork};
use crate::time::Time;

use super::jobs::{Job, TaskState};
use super::{Mesh, Output};

/// How soon the next sample is drawn while the last one brought somebody, and at the latest.
const RESAMPLE_MS: u64 = 1_000;
const RESAMPLE_MS_MAX: u64 = 60_000;
/// Of those that have heard of a job, so many hear of it again at a time.
const REPEAT_PEERS: usize = 8;

/// A worker's standing bid.
#[derive(Debug, Clone, Default)]
pub(super) struct Bid {
    /// Attempts that it wants to hold for this owner, those that it holds included.
    pub(super) want: u32,
    /// The same as it last said so, where nothing was left to grant: it was told not to wait, and
    /// may be busy by now.
    pub(super) wanted: u32,
    /// The jobs that it takes part in.
    pub(super) jobs: BTreeSet<JobId>,
}

/// Who has heard of a job.
#[derive(Debug)]
pub(super) struct Asked {
    peers: BTreeSet<AgentId>,
    repeated: Time,
    /// No sample is drawn before then.
    next: Time,
    pause_ms: u64,
    /// Seats that were bid for when the last sample was drawn.
    seats: u64,
    /// Somebody was told that nothing is left.
    exhausted: bool,
}

/// A number for the pair that looks random, so that every job asks other peers.
fn shuffle(job: JobId, agent: AgentId, sample: u64) -> u64 {
    let words = job.0.as_bytes().chunks(8).chain(agent.0.chunks(8));
    words.fold(sample.wrapping_mul(0x9e37_79b9_7f4a_7c15), |mixed, word| {
        let word = word.iter().fold(0, |all, byte| (all << 8) | u64::from(*byte));
        // The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
        let mixed = (mixed ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) ^ (mixed >> 31)
    })
}

/// Tells a peer what is left of the job, if anything is.
fn offer_to(to: AgentId, job: &Job, out: &mut Vec<Output>) {
    let work = job.work_left();
    if job.is_active() && !work.is_empty() {
        out.push(Output::Send { to, message: Message::Offer { job: job.record.id, work } });
    }
}

impl Mesh {
    /// A peer is new here, or has changed: it hears of jobs that it knew, and of those that still
    /// look for workers.
    pub(super) fn offer_all_to(&mut self, to: AgentId, out: &mut Vec<Output>) {
        let max = self.config.offer_peers_max;
        for (id, asked) in &mut self.jobs.asked {
            if to == self.me || asked.peers.len() < max || asked.peers.contains(&to) {
                asked.peers.insert(to);
                if let Some(job) = self.jobs.all.get(id) {
                    offer_to(to, job, out);
                }
            }
        }
    }

    /// There is new work in the job: a fresh sample hears of it.
    pub(super) fn offer(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        if !self.jobs.get(id).is_some_and(Job::is_active) {
            return;
        }
        let (next, seats) = (now + RESAMPLE_MS, self.seats_bid(id));
        let peers = BTreeSet::new();
        let (pause_ms, exhausted) = (RESAMPLE_MS, false);
        let asked = Asked { peers, repeated: now, next, pause_ms, seats, exhausted };
        self.jobs.asked.insert(id, asked);
        self.ask_more(id, out);
    }

    /// Some of those that have heard of the job hear again what is left of it.
    fn repeat(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        self.jobs.samples = self.jobs.samples.wrapping_add(1);
        let (me, sample) = (self.me, self.jobs.samples);
        let connected: BTreeSet<AgentId> = self.peers.connected().into_iter().collect();
        let Some(asked) = self.jobs.asked.get_mut(&id) else { return };
        asked.repeated = now;
        // Whoever went away hears of it anew.
        asked.peers.retain(|of| connected.contains(of));
        let order = |of: &AgentId| if *of == me { 0 } else { shuffle(id, *of, sample) };
        let mut again: Vec<AgentId> = asked.peers.iter().copied().collect();
        again.sort_by_cached_key(order);
        let Some(job) = self.jobs.get(id) else { return };
        again.into_iter().take(REPEAT_PEERS).for_each(|to| offer_to(to, job, out));
    }

    /// Asks a sample of those that have not been asked; this agent itself first.
    fn ask_more(&mut self, id: JobId, out: &mut Vec<Output>) {
        self.jobs.samples = self.jobs.samples.wrapping_add(1);
        let (me, sample) = (self.me, self.jobs.samples);
        let (Some(job), Some(asked)) = (self.jobs.get(id), self.jobs.asked.get(&id)) else {
            return;
        };
        let work = job.work_left();
        if work.is_empty() {
            return;
        }
        let mut able: Vec<(u64, AgentId)> = self
            .peers
            .connected()
            .into_iter()
            .filter(|of| !asked.peers.contains(of) && self.could_do(*of, &work))
            .map(|of| (if of == me { 0 } else { shuffle(id, of, sample) }, of))
            .collect();
        able.sort_unstable();
        able.truncate(self.config.offer_peers_max);
        for (_, to) in &able {
            let message = Message::Offer { job: id, work: work.clone() };
            out.push(Output::Send { to: *to, message });
        }
        if let Some(asked) = self.jobs.asked.get_mut(&id) {
            asked.peers.extend(able.into_iter().map(|(_, of)| of));
        }
    }

    /// Whether the peer is known to be able to do any of this; one that has not said what it can
    /// is asked when it has.
    fn could_do(&self, of: AgentId, work: &[OfferedWork]) -> bool {
        self.peers.get(of).is_some_and(|peer| {
            peer.slots() > 0 && work.iter().any(|offered| peer.has_all(&offered.requires))
        })
    }

    /// Attempts at the job that those that take part want beyond what they hold.
    fn seats_bid(&self, id: JobId) -> u64 {
        let bids = self.jobs.bids.iter().filter(|(_, bid)| bid.jobs.contains(&id));
        bids.map(|(_, bid)| u64::from(bid.want)).sum()
    }

    pub(super) fn tick_offers(&mut self, now: Time, out: &mut Vec<Output>) {
        let all = &self.jobs.all;
        self.jobs.asked.retain(|id, _| all.get(id).is_some_and(|job| !job.record.state.is_over()));
        let active = self.jobs.iter().filter(|job| job.is_active()).map(|job| job.record.id);
        for id in active.collect::<Vec<_>>() {
            let repeat_ms = self.config.offer_repeat_ms;
            match self.jobs.asked.get(&id).map(|asked| now.since_ms(asked.repeated)) {
                None => self.offer(now, id, out),
                Some(ms) if ms >= repeat_ms => self.repeat(now, id, out),
                Some(_) => {}
            }
            self.resample(now, id, out);
        }
    }

    /// Asks others while there is more to do than those that were asked take.
    fn resample(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        let seats = self.seats_bid(id);
        let Some(job) = self.jobs.get(id) else { return };
        let source = job.record.source.is_some();
        let states = job.tasks.iter().map(|task| task.state(source));
        let left = states.filter(|state| state.is_left() || *state == TaskState::Leased);
        let left = left.count() as u64;
        let again = job.has_work_left();
        let Some(asked) = self.jobs.asked.get_mut(&id) else { return };
        if asked.exhausted && again {
            // An attempt came to nothing.
            return self.offer(now, id, out);
        }
        if left <= seats || now < asked.next {
            return;
        }
        let brought = seats > asked.seats;
        asked.pause_ms =
            if brought { RESAMPLE_MS } else { (asked.pause_ms * 2).min(RESAMPLE_MS_MAX) };
        (asked.next, asked.seats) = (now + asked.pause_ms, seats);
        self.ask_more(id, out);
    }

    /// The job is over: nobody who heard of it keeps it in mind.
    pub(super) fn withdraw(&mut self, id: JobId, out: &mut Vec<Output>) {
        for (worker, bid) in &mut self.jobs.bids {
            if bid.jobs.remove(&id) {
                let message = Message::Offer { job: id, work: Vec::new() };
                out.push(Output::Send { to: *worker, message });
            }
        }
        self.jobs.asked.remove(&id);
    }

    pub(super) fn on_accept(
        &mut self,
        from: AgentId,
        job: JobId,
        want: u32,
        out: &mut Vec<Output>,
    ) {
        let active = self.jobs.get(job).filter(|job| job.is_active());
        let (active, left) = (active.is_some(), active.is_some_and(Job::has_work_left));
        if active {
            let bid = self.jobs.bids.entry(from).or_default();
            (bid.want, bid.wanted) = (want, want);
            bid.jobs.insert(job);
        }
        // Nothing is left to grant: it need not keep a seat free for that.
        if !left {
            if let Some(bid) = self.jobs.bids.get_mut(&from) {
                bid.want = 0;
            }
            if let Some(asked) = self.jobs.asked.get_mut(&job) {
                asked.exhausted = true;
            }
            out.push(Output::Send { to: from, message: Message::Offer { job, work: Vec::new() } });
        }
    }

    pub(super) fn on_decline(&mut self, from: AgentId, job: JobId) {
        if let Some(bid) = self.jobs.bids.get_mut(&from) {
            bid.jobs.remove(&job);
        }
    }

    pub(super) fn forget_bids(&mut self, worker: AgentId) {
        self.jobs.bids.remove(&worker);
    }
}
