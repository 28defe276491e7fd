//! Who gets what: the owner's choice of task and worker, and how far ahead pieces are cut.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{AgentId, JobId, TaskId};
use crate::media::{Encoder, MediaKind, TaskInput};
use crate::message::Message;
use crate::record::Fingerprint;
use crate::time::Time;

use super::jobs::{Job, Lease, Task, TaskState};
use super::peers::Peer;
use super::{Mesh, Output};

/// Pieces that are cut at the same time: ffmpeg spends its time starting, not computing.
const CUTS_AT_ONCE: usize = 2;

/// A worker as the choice sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seat {
    worker: AgentId,
    slots: u32,
    want: u32,
    leases: u32,
    speed: Option<u64>,
}

impl Seat {
    /// Whether a slot of it is idle; otherwise a grant only waits there.
    fn idle(&self) -> bool {
        self.leases < self.slots.min(self.want)
    }

    /// Smaller is better: idle slots first, then the least loaded, then the fastest.
    fn rank(&self) -> (bool, u64, u64, AgentId) {
        let load = u64::from(self.leases) * 1_000 / u64::from(self.slots.max(1));
        (!self.idle(), load, u64::MAX - self.speed.unwrap_or(0), self.worker)
    }
}

/// Picks the worker for one ready task, or nobody for now.
///
/// A grant beyond a worker's slots lets the next input travel while the current one encodes, but
/// it also ties the task to that worker. So there are grants ahead only while more tasks are ready
/// than `seats` could start by themselves: the last ones go to whoever is free first.
fn choose(seats: &[Seat], ready_left: usize) -> Option<AgentId> {
    let open = seats.iter().filter(|seat| seat.leases < seat.want);
    let best = open.min_by_key(|seat| seat.rank())?;
    let slots: u32 = seats.iter().map(|seat| seat.slots).sum();
    let enough_left = ready_left > slots as usize;
    (best.idle() || enough_left).then_some(best.worker)
}

impl Mesh {
    /// Grants what can be granted, and asks for pieces ahead of the grants.
    pub(super) fn place(&mut self, now: Time, out: &mut Vec<Output>) {
        let mut active: Vec<(i32, JobId)> = self
            .jobs
            .iter()
            .filter(|job| job.is_active())
            .map(|job| (-job.record.priority, job.record.id))
            .collect();
        active.sort_unstable();
        for (_, id) in active {
            self.pin_encoders(now, id, out);
            self.grant_ready(now, id, out);
            self.cut_ahead(id, out);
        }
    }

    fn grant_ready(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        let mut leases = self.jobs.lease_counts();
        while !self.ids.is_empty() {
            let Some((task, worker)) = self.next_grant(now, id, &leases) else { return };
            self.grant(now, task, worker, out);
            *leases.entry(worker).or_default() += 1;
        }
    }

    fn next_grant(
        &self,
        now: Time,
        id: JobId,
        leases: &BTreeMap<AgentId, u32>,
    ) -> Option<(TaskId, AgentId)> {
        let job = self.jobs.get(id)?;
        let held = |worker| leases.get(worker).copied().unwrap_or(0);
        let mut bids = self.jobs.bids.iter().filter(|(_, bid)| bid.jobs.contains(&id));
        if !bids.any(|(worker, bid)| held(worker) < bid.want) {
            return None; // the usual case, and the tasks are many
        }
        let source = job.record.source.is_some();
        let left = job.tasks.iter().filter(|task| {
            use TaskState::{Cutting, Ready, Waiting};
            matches!(task.state(source), Waiting | Cutting | Ready)
        });
        let left = left.count();
        // Work that cannot be split takes longest: it starts first.
        let mut ready: Vec<&Task> =
            job.tasks.iter().filter(|task| task.state(source) == TaskState::Ready).collect();
        ready.sort_by_key(|task| (task.record.spec.input() == TaskInput::Piece, task.record.id));
        ready.into_iter().find_map(|task| {
            let seats = self.seats(now, job, task, leases);
            choose(&seats, left).map(|worker| (task.record.id, worker))
        })
    }

    /// Workers that bid for the job and may do the task. One that failed it before is asked only
    /// when nobody else takes part: an able agent that never has room must not keep it waiting.
    fn seats(
        &self,
        now: Time,
        job: &Job,
        task: &Task,
        leases: &BTreeMap<AgentId, u32>,
    ) -> Vec<Seat> {
        let class = task.record.spec.class();
        let failed: BTreeSet<AgentId> =
            task.record.failures.iter().map(|failed| failed.worker).collect();
        let seats = self.candidates(now, job, task).into_iter().filter_map(|worker| {
            let bid = self.jobs.bids.get(&worker)?;
            let peer = self.peers.get(worker).filter(|_| self.has_room_for(job, task, worker))?;
            bid.jobs.contains(&job.record.id).then(|| Seat {
                worker,
                slots: peer.slots(),
                want: bid.want.min(self.trusted_grants(worker)),
                leases: leases.get(&worker).copied().unwrap_or(0),
                speed: peer.speed(class),
            })
        });
        let mut seats: Vec<Seat> = seats.collect();
        let fresh = |seat: &Seat| !failed.contains(&seat.worker);
        if seats.iter().any(|seat| fresh(seat) && seat.want > 0) {
            seats.retain(fresh);
        }
        seats
    }

    /// How many attempts a worker may hold: anybody can claim any number of slots.
    fn trusted_grants(&self, worker: AgentId) -> u32 {
        let delivered = self.peers.get(worker).map_or(0, |peer| peer.delivered);
        self.config.unproven_grants_max.max(delivered.saturating_mul(2))
    }

    /// Agents that could do the task now: there, not paused, able, of the pinned build, and not
    /// backing off unless all of them do.
    pub(super) fn candidates(&self, now: Time, job: &Job, task: &Task) -> Vec<AgentId> {
        self.able(now, &job.record.pins, task)
    }

    /// [`Mesh::candidates`] under these pins.
    pub(super) fn able(
        &self,
        now: Time,
        pins: &BTreeMap<Encoder, Fingerprint>,
        task: &Task,
    ) -> Vec<AgentId> {
        let (class, requires) = (task.record.spec.class(), task.record.spec.requires());
        let can = |peer: &Peer| peer.is_usable() && peer.slots() > 0 && peer.has_all(&requires);
        let pinned = |peer: &Peer| {
            requires.iter().all(|encoder| {
                let pin = pins.get(encoder);
                pin.is_none() || pin == peer.fingerprint(*encoder)
            })
        };
        let rests = |peer: &Peer| peer.backs_off(now, class);
        let all: Vec<(AgentId, &Peer)> = self.peers.iter().filter(|(_, peer)| can(peer)).collect();
        // A back-off keeps a broken machine from eating the queue of the others, and leaves a
        // moment without leases in which another build can be pinned. Where there are no others it
        // would only put off the end.
        let all_rest = all.iter().all(|(_, peer)| rests(peer));
        let chosen = all.iter().filter(|(_, peer)| pinned(peer) && (all_rest || !rests(peer)));
        chosen.map(|(id, _)| *id).collect()
    }

    fn grant(&mut self, now: Time, id: TaskId, worker: AgentId, out: &mut Vec<Output>) {
        let Some(source) = self.jobs.get(id.job).map(|job| job.record.source) else { return };
        let Some(attempt) = self.ids.pop_front() else { return };
        let Some(task) = self.jobs.task_mut(id) else { return };
        let Some(blob) = task.input_blob(source) else { return };
        task.record.leases.insert(attempt, worker);
        task.leases.insert(attempt, Lease::new(now));
        task.save(out);
        let (spec, input) = (task.record.spec.clone(), task.record.spec.input());
        let message = Message::Grant { attempt, task: id, spec, input, blob };
        out.push(Output::Send { to: worker, message });
        out.push(Output::Changed(id.job));
    }

    /// Cuts a bounded window of pieces ahead of what the workers want.
    fn cut_ahead(&mut self, id: JobId, out: &mut Vec<Output>) {
        let bids = self.jobs.bids.iter().filter(|(_, bid)| bid.jobs.contains(&id));
        let want: u32 = bids.map(|(of, bid)| bid.want.min(self.trusted_grants(*of))).sum();
        let ahead = self.config.pieces_ahead;
        let Some(job) = self.jobs.all.get_mut(&id) else { return };
        if want == 0 {
            return; // nobody takes part: pieces would only fill the disk
        }
        let window = want.saturating_add(ahead) as usize;
        let open = job.tasks.iter().filter(|task| task.record.commit.is_none());
        let mut cut =
            open.clone().filter(|task| task.record.piece.is_some() || task.cutting).count();
        let mut cutting = open.filter(|task| task.cutting).count();
        for task in &mut job.tasks {
            if cut >= window || cutting >= CUTS_AT_ONCE {
                return;
            }
            let needs_cut = task.record.spec.input() == TaskInput::Piece
                && task.record.piece.is_none()
                && task.record.commit.is_none()
                && task.fetching.is_none()
                && !task.lowering
                && !task.cutting;
            if needs_cut {
                task.cutting = true;
                cut += 1;
                cutting += 1;
                out.push(Output::Cut(task.record.id));
            }
        }
    }

    /// Decides which build of each video encoder a job's parts come from: the build with the most
    /// slots now. Decided anew while nothing depends on it.
    fn pin_encoders(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        let Some(job) = self.jobs.get(id) else { return };
        // Whether a part of this encoder is made or being made.
        let mut encoders: BTreeMap<Encoder, bool> = BTreeMap::new();
        for task in &job.tasks {
            let encoder = task.record.spec.encoder();
            if encoder.kind() == MediaKind::Video {
                *encoders.entry(encoder).or_default() |= task.record.commit.is_some()
                    || !task.record.leases.is_empty()
                    || task.fetching.is_some();
            }
        }
        let mut pins = job.record.pins.clone();
        for (encoder, depends) in encoders {
            if depends && pins.contains_key(&encoder) {
                continue;
            }
            if let Some(build) = self.commonest_build(now, encoder) {
                pins.insert(encoder, build);
            }
        }
        if let Some(job) = self.jobs.all.get_mut(&id)
            && job.record.pins != pins
        {
            job.record.pins = pins;
            job.save(out);
        }
    }

    /// The build with the most slots among agents that do not fail with it, or else among all.
    fn commonest_build(&self, now: Time, encoder: Encoder) -> Option<Fingerprint> {
        let mut slots: BTreeMap<&Fingerprint, (u64, u64)> = BTreeMap::new();
        for (_, peer) in self.peers.iter().filter(|(_, peer)| peer.is_usable() && peer.slots() > 0)
        {
            let Some(build) = peer.fingerprint(encoder) else { continue };
            let fails = peer
                .health
                .iter()
                .any(|(class, health)| class.encoder == encoder && now < health.until);
            let (healthy, all) = slots.entry(build).or_default();
            *healthy += if fails { 0 } else { u64::from(peer.slots()) };
            *all += u64::from(peer.slots());
        }
        slots.into_iter().max_by_key(|(_, slots)| *slots).map(|(build, _)| *build)
    }

    /// Whether agents that are there, able and willing lack nothing but room on their disks.
    pub(super) fn lacks_only_room(&self, now: Time, job: &Job, task: &Task) -> bool {
        let able = self.candidates(now, job, task);
        !able.is_empty() && !able.iter().any(|id| self.has_room_for(job, task, *id))
    }

    /// Whether input and result fit on the worker's disk. This agent's own input is here already.
    pub(super) fn has_room_for(&self, job: &Job, task: &Task, worker: AgentId) -> bool {
        let input_bytes = task.input_blob(job.record.source).map_or(0, |blob| blob.bytes);
        let fetched = if worker == self.me { input_bytes } else { 0 };
        let needed = task.record.spec.disk_bytes(input_bytes).saturating_sub(fetched);
        self.peers.get(worker).is_some_and(|peer| peer.has_room(needed))
    }

    pub(super) fn say_who_is_missing(&self, now: Time, job: &Job, task: &Task) -> String {
        let requires = task.record.spec.requires();
        let names: Vec<&str> = requires.iter().map(|encoder| encoder.name()).collect();
        let names = names.join(" and ");
        let there: Vec<&Peer> = self.peers.iter().map(|(_, peer)| peer).collect();
        let able = |peer: &&&Peer| peer.has_all(&requires);
        if self.lacks_only_room(now, job, task) {
            let input_bytes = task.input_blob(job.record.source).map_or(0, |blob| blob.bytes);
            let mib = task.record.spec.disk_bytes(input_bytes) >> 20;
            return format!(
                "waiting for room: no agent with {names} has {mib} MiB free beside its reserve; \
                 it goes on by itself once there is room"
            );
        }
        let connected = there.iter().filter(|peer| peer.is_usable()).count();
        if !there.iter().any(|peer| able(&peer) && peer.is_usable()) {
            if there.iter().any(|peer| able(&peer) && peer.info.as_ref().is_some_and(|i| i.paused))
            {
                return format!(
                    "waiting for a paused agent with {names}; `dmc resume` lets it work"
                );
            }
            return format!(
                "waiting for an agent with a working {names}: none of the {connected} connected \
                 agents has it; install an ffmpeg with {names} on one of them"
            );
        }
        if !job.record.pins.is_empty() {
            return format!(
                "waiting for an agent with the same build of {names} that began this job; \
                 `dmc jobs cancel {0}` and a new start uses the builds that are here",
                job.record.id
            );
        }
        format!("waiting for an agent with {names}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(n: u8, slots: u32, want: u32, leases: u32) -> Seat {
        Seat { worker: AgentId([n; 32]), slots, want, leases, speed: None }
    }

    #[test]
    fn idle_slots_come_first_and_the_tail_is_not_queued() {
        let busy = seat(1, 1, 2, 1);
        let idle = seat(2, 1, 2, 0);
        assert_eq!(choose(&[busy, idle], 5), Some(idle.worker));
        assert_eq!(choose(&[busy], 5), Some(busy.worker), "one grant ahead");
        assert_eq!(choose(&[busy, seat(2, 1, 2, 1)], 2), None, "the tail waits for a free slot");
        assert_eq!(choose(&[seat(1, 1, 2, 2)], 5), None, "never more than it wants");
        assert_eq!(choose(&[], 5), None);
    }
}
