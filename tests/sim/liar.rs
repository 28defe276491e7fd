//! Agents that do what no honest one does. What they say is well-formed: the codec refuses the rest.

use std::collections::{BTreeMap, BTreeSet};

use dmc_protocol::handover::CustodyReport;
use dmc_protocol::id::{AgentId, AttemptId, JobId, TaskId};
use dmc_protocol::media::{Feed, TaskInput};
use dmc_protocol::message::{
    AgentInfo, Failure, FailureKind, HeldAttempt, HeldState, Message, OfferedWork, Progress,
    TaskResult, Verdict,
};

use crate::faults::Lie;
use crate::fixture;
use crate::rng::Rng;

/// How long a liar that does anything takes for it.
const DONE_AFTER_MS: u64 = 5_000;

/// Something true that a liar heard of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rumour {
    /// An attempt.
    pub attempt: AttemptId,
    /// Its task.
    pub task: TaskId,
    /// Who owns it.
    pub owner: AgentId,
    /// Who works at it.
    pub worker: AgentId,
}

/// One liar. It keeps nothing on disk.
#[derive(Debug)]
pub struct Liar {
    /// What it does.
    pub lie: Lie,
    info: AgentInfo,
    job: JobId,
    peers: BTreeSet<AgentId>,
    held: BTreeMap<AttemptId, (AgentId, TaskId, u64)>,
    kept: BTreeMap<JobId, (AgentId, u32)>,
    made: u64,
    ticks: u64,
}

/// What it wants to say, and to whom.
type Said = Vec<(AgentId, Message)>;

impl Liar {
    /// The liar at this position.
    pub fn new(at: usize, boot: u64, lie: Lie) -> Liar {
        let slots = match lie {
            Lie::Hoards | Lie::Dances => dmc_protocol::config::SLOTS_MAX,
            _ => 2,
        };
        let mut info = fixture::info(at, boot, slots, 0);
        info.uptime_s = 1_000_000;
        info.speeds.clear();
        Liar {
            lie,
            info,
            job: fixture::job_id(at),
            peers: BTreeSet::new(),
            held: BTreeMap::new(),
            kept: BTreeMap::new(),
            made: (at as u64 + 1) << 40,
            ticks: 0,
        }
    }

    /// A connection is there.
    pub fn meets(&mut self, peer: AgentId) -> Said {
        self.peers.insert(peer);
        vec![(peer, Message::Info(self.info.clone()))]
    }

    /// A connection is gone.
    pub fn loses(&mut self, peer: AgentId) {
        self.peers.remove(&peer);
    }

    /// Somebody says something.
    pub fn hears(&mut self, now: u64, from: AgentId, message: &Message) -> Said {
        match message {
            Message::Offer { job, work } if !work.is_empty() => {
                let want = match self.lie {
                    Lie::Hoards | Lie::Dances => 2 * dmc_protocol::config::SLOTS_MAX,
                    Lie::Invents | Lie::Drips => 3,
                    Lie::Steals | Lie::Starves | Lie::Keeps => 0,
                };
                vec![(from, Message::Accept { job: *job, want })]
            }
            Message::Grant { attempt, task, .. } => {
                self.held.insert(*attempt, (from, *task, now));
                Vec::new()
            }
            Message::Verdict { attempt, verdict: Verdict::Drop | Verdict::Unknown } => {
                // A hoarder does not care.
                if !matches!(self.lie, Lie::Hoards | Lie::Dances) {
                    self.held.remove(attempt);
                }
                Vec::new()
            }
            Message::Accept { want, .. } if self.lie == Lie::Starves => self.starve(from, *want),
            Message::Failed { attempt, .. } => {
                self.held.remove(attempt);
                Vec::new()
            }
            Message::HandOver { job, epoch, .. } if self.lie == Lie::Keeps => {
                self.kept.insert(*job, (from, *epoch));
                Vec::new()
            }
            Message::Release { job, .. } => {
                self.kept.remove(job);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// A second has passed.
    pub fn ticks(&mut self, now: u64, rumours: &[Rumour], rng: &mut Rng) -> Said {
        self.ticks += 1;
        let mut said = Said::new();
        if self.ticks % 10 == 1 {
            let peers = self.peers.iter();
            said.extend(peers.map(|to| (*to, Message::Info(self.info.clone()))));
            self.offer(&mut said);
        }
        match self.lie {
            Lie::Hoards | Lie::Dances => self.list_for_ever(&mut said),
            Lie::Invents => self.invent(rumours, rng, &mut said),
            Lie::Drips => self.report(now, &mut said),
            Lie::Steals => self.steal(rumours, rng, &mut said),
            Lie::Starves => {}
            Lie::Keeps if self.ticks % 10 == 1 => self.keep(&mut said),
            Lie::Keeps => {}
        }
        said
    }

    fn fresh_result(&mut self) -> TaskResult {
        self.made += 2;
        let (media, proof) = (fixture::blob(self.made), fixture::blob(self.made + 1));
        TaskResult { media, proof, frames: 250, encode_ms: 1_000 }
    }

    fn list_for_ever(&self, said: &mut Said) {
        let running = |frames| HeldState::Running(Progress { frames, ..Progress::default() });
        let state = match (self.lie, self.ticks % 7) {
            (Lie::Dances, 0) => HeldState::Queued,
            (Lie::Dances, number) => running(1 + number % 2),
            _ => running(1),
        };
        for to in &self.peers {
            let mine = self.held.iter().filter(|(_, (owner, ..))| owner == to);
            let held = mine.map(|(attempt, (_, task, _))| HeldAttempt {
                attempt: *attempt,
                task: *task,
                state,
            });
            said.push((*to, Message::Heartbeat { held: held.collect() }));
        }
    }

    fn invent(&mut self, rumours: &[Rumour], rng: &mut Rng, said: &mut Said) {
        let mine: Vec<_> =
            self.held.iter().map(|(a, (owner, task, _))| (*a, *owner, *task)).collect();
        for (attempt, owner, task) in mine {
            let result = self.fresh_result();
            said.push((owner, Message::Done { attempt, task, result }));
        }
        let Some(rumour) = rumours.get(rng.place(rumours.len())).copied() else { return };
        let attempt = match rng.chance(50) {
            true => rumour.attempt,
            false => AttemptId(u128::from(rng.bits())),
        };
        let result = self.fresh_result();
        said.push((rumour.owner, Message::Done { attempt, task: rumour.task, result }));
    }

    fn report(&mut self, now: u64, said: &mut Said) {
        let owners: BTreeSet<AgentId> = self.held.values().map(|(owner, ..)| *owner).collect();
        for owner in owners {
            let mine = self.held.iter().filter(|(_, (of, ..))| *of == owner);
            let held = mine.map(|(attempt, (_, task, since))| {
                // The same attempt always has the same result.
                let number = attempt.0 as u64 | 1 << 63;
                let (media, proof) = (fixture::blob(number), fixture::blob(number ^ 1));
                let result = TaskResult { media, proof, frames: 250, encode_ms: 1_000 };
                let done = now > since + DONE_AFTER_MS;
                let state = if done { HeldState::Done(result) } else { HeldState::Queued };
                HeldAttempt { attempt: *attempt, task: *task, state }
            });
            said.push((owner, Message::Heartbeat { held: held.collect() }));
        }
    }

    fn steal(&mut self, rumours: &[Rumour], rng: &mut Rng, said: &mut Said) {
        let Some(of) = rumours.get(rng.place(rumours.len())).copied() else { return };
        let (attempt, task) = (of.attempt, of.task);
        let result = self.fresh_result();
        let state = match rng.place(3) {
            0 => HeldState::Queued,
            1 => HeldState::Running(Progress::default()),
            _ => HeldState::Done(result),
        };
        let held = vec![HeldAttempt { attempt, task, state }];
        said.push((of.owner, Message::Heartbeat { held }));
        let failure = Failure::new(FailureKind::Encode, "so says a liar");
        said.push((of.owner, Message::Failed { attempt, task, failure }));
        for verdict in [Verdict::Drop, Verdict::Unknown] {
            said.push((of.worker, Message::Verdict { attempt, verdict }));
        }
        let held = vec![(task.job, u32::MAX, CustodyReport::Failed("so says a liar".to_owned()))];
        said.push((of.owner, Message::Custody { held }));
        said.push((of.owner, Message::Release { job: task.job, epoch: u32::MAX }));
    }

    fn offer(&self, said: &mut Said) {
        let piece = Feed::Piece { shift_s: 0, preroll_keyframes: 1 };
        let Some(spec) = fixture::segment(0, 1, piece) else { return };
        if self.lie == Lie::Starves {
            let (class, requires) = (spec.class(), spec.requires());
            let work = vec![OfferedWork { class, requires, tasks: 100, units: spec.work_units() }];
            let offer = Message::Offer { job: self.job, work };
            said.extend(self.peers.iter().map(|to| (*to, offer.clone())));
        }
    }

    fn starve(&mut self, worker: AgentId, want: u32) -> Said {
        let piece = Feed::Piece { shift_s: 0, preroll_keyframes: 1 };
        let Some(spec) = fixture::segment(0, 1, piece) else { return Vec::new() };
        let granted = (0..want.min(4)).map(|_| {
            self.made += 1;
            let attempt = AttemptId(u128::from(self.made) << 64 | 0xbad);
            let task = TaskId { job: self.job, index: 0 };
            let mut blob = fixture::blob(self.made & 0xffff_ffff);
            if !self.made.is_multiple_of(4) {
                blob.bytes = u64::MAX / 4; // no disk has room for this
            }
            let input = TaskInput::Piece;
            (worker, Message::Grant { attempt, task, spec: spec.clone(), input, blob })
        });
        granted.collect()
    }

    fn keep(&self, said: &mut Said) {
        for (job, (from, epoch)) in &self.kept {
            let held = vec![(*job, *epoch, CustodyReport::Working { done: 0 })];
            said.push((*from, Message::Custody { held }));
        }
    }
}
