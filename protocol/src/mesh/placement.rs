//! Who gets what: the owner's choice of task and worker, and how far ahead pieces are cut.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::id::{AgentId, JobId, TaskId};
use crate::media::{Encoder, MediaKind, TaskInput, WorkClass};
use crate::message::Message;
use crate::record::Fingerprint;
use crate::time::Time;

use super::forecast::{Seat, choose};
use super::jobs::{Job, Lease, Task, TaskState};
use super::peers::Peer;
use super::{Input, Mesh, Output};

/// Pieces that are cut at the same time: ffmpeg spends its time starting, not computing.
const CUTS_AT_ONCE: usize = 2;

/// What the workers hold for this owner.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Leases, and how long all of them will take in a row.
    all: BTreeMap<AgentId, (u32, u64)>,
    of_kind: BTreeMap<(AgentId, MediaKind), u32>,
}

impl Load {
    /// Leases that the worker holds.
    pub(super) fn held(&self, worker: AgentId) -> u32 {
        self.all.get(&worker).map_or(0, |(leases, _)| *leases)
    }

    fn held_of(&self, worker: AgentId, kind: MediaKind) -> u32 {
        self.of_kind.get(&(worker, kind)).copied().unwrap_or(0)
    }

    fn busy_ms(&self, worker: AgentId) -> u64 {
        self.all.get(&worker).map_or(0, |(_, busy_ms)| *busy_ms)
    }
}

/// The build of each encoder that a job would be pinned to now. Finding it takes a look at every
/// peer, and nearly all that an agent hears changes nothing about it.
#[derive(Debug, Default)]
pub(super) struct Builds(BTreeMap<Encoder, Option<Fingerprint>>);

impl Builds {
    /// Forgets what the input may change. What signs of life and bids change counts at the next tick.
    pub(super) fn note(&mut self, input: &Input) {
        match input {
            Input::Received { message, .. } => self.heard(message),
            Input::Transferred { .. } => {}
            _ => self.0.clear(),
        }
    }

    /// [`Builds::note`] for a message.
    pub(super) fn heard(&mut self, message: &Message) {
        use Message::{Accept, Decline, Heartbeat, Offer};
        if !matches!(message, Heartbeat { .. } | Offer { .. } | Accept { .. } | Decline { .. }) {
            self.0.clear();
        }
    }
}

/// Whether an input may let something be granted or cut. Most of what an agent hears are signs of
/// life of all others, and placing takes a look at everybody; what these do change counts at the
/// next tick.
pub(super) fn may_move_work(input: &Input) -> bool {
    use Message::{Decline, Heartbeat, Info, Offer};
    !matches!(
        input,
        Input::Received { message: Heartbeat { .. } | Info(_) | Offer { .. } | Decline { .. }, .. }
    )
}

impl Mesh {
    /// Grants what can be granted, and asks for pieces ahead of the grants.
    pub(super) fn place(&mut self, now: Time, out: &mut Vec<Output>) {
        let mut active: Vec<(Reverse<i32>, JobId)> = self
            .jobs
            .iter()
            .filter(|job| job.is_active())
            .map(|job| (Reverse(job.record.priority), job.record.id))
            .collect();
        active.sort_unstable();
        for (_, id) in active {
            self.pin_encoders(now, id, out);
            self.grant_ready(now, id, out);
            self.cut_ahead(id, out);
        }
    }

    fn grant_ready(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        let mut load = None;
        while !self.ids.is_empty() {
            let Some((task, worker)) = self.next_grant(now, id, &mut load) else { return };
            self.grant(now, task, worker, out);
            load = None;
        }
    }

    fn next_grant(
        &self,
        now: Time,
        id: JobId,
        load: &mut Option<Load>,
    ) -> Option<(TaskId, AgentId)> {
        let job = self.jobs.get(id)?;
        let source = job.record.source.is_some();
        let state = |task: &Task| task.state(source);
        if !job.tasks.iter().any(|task| state(task) == TaskState::Ready) {
            return None;
        }
        let mut bids =
            self.jobs.bids.iter().filter(|(_, bid)| bid.want > 0 && bid.jobs.contains(&id));
        bids.clone().next()?;
        let load = load.get_or_insert_with(|| self.load(now));
        if !bids.any(|(worker, bid)| load.held(*worker) < bid.want) {
            return None; // the usual case, and the tasks are many
        }
        // Tasks of each kind that are left, and their work.
        let mut left: BTreeMap<WorkClass, (u64, u64)> = BTreeMap::new();
        for task in job.tasks.iter().filter(|task| state(task).is_left()) {
            let (tasks, units) = left.entry(task.record.spec.class()).or_default();
            *tasks += 1;
            *units = units.saturating_add(task.record.spec.work_units());
        }
        // Work that cannot be split takes longest: it starts first.
        let mut ready: Vec<&Task> =
            job.tasks.iter().filter(|task| state(task) == TaskState::Ready).collect();
        ready.sort_by_key(|task| (task.record.spec.input() == TaskInput::Piece, task.record.id));
        // Less urgent jobs would take the seat that this one waits for: it lines up behind what runs.
        let overtakes = self
            .jobs
            .iter()
            .any(|other| other.is_active() && other.record.priority < job.record.priority);
        let mut waited_for = BTreeSet::new();
        ready.into_iter().find_map(|task| {
            // Nobody takes the one: nobody takes another of its kind.
            let class = task.record.spec.class();
            let kind = (class, task.record.spec.input(), task.record.failures.is_empty());
            if waited_for.contains(&kind) {
                return None;
            }
            let (tasks, units) = left.get(&class).copied().unwrap_or((1, 1));
            let seats = self.seats(now, job, task, load);
            let chosen = choose(&seats, tasks, (units / tasks.max(1)).max(1), overtakes);
            if chosen.is_none() && task.record.failures.is_empty() {
                waited_for.insert(kind);
            }
            chosen.map(|worker| (task.record.id, worker))
        })
    }

    /// What the workers hold for this owner.
    pub(super) fn load(&self, now: Time) -> Load {
        let mut load = Load::default();
        for job in self.jobs.all.values().filter(|job| !job.record.state.is_over()) {
            for task in job.tasks.iter().filter(|task| !task.record.leases.is_empty()) {
                let kind = task.record.spec.encoder().kind();
                for (worker, left_ms) in self.task_left_ms(now, task) {
                    *load.of_kind.entry((worker, kind)).or_default() += 1;
                    let (leases, busy_ms) = load.all.entry(worker).or_default();
                    *leases += 1;
                    *busy_ms = busy_ms.saturating_add(left_ms);
                }
            }
        }
        load
    }

    /// Workers that bid for the job and may do the task. One that failed it before is asked only
    /// when nobody else takes part: an able agent that never has room must not keep it waiting.
    pub(super) fn seats(&self, now: Time, job: &Job, task: &Task, load: &Load) -> Vec<Seat> {
        let failed: BTreeSet<AgentId> =
            task.record.failures.iter().map(|failed| failed.worker).collect();
        let able = self.candidates(now, job, task);
        let class = task.record.spec.class();
        let mut usual = BTreeMap::new();
        let seats = able.iter().filter_map(|worker| {
            let worker = *worker;
            let bid = self.jobs.bids.get(&worker)?;
            let takes_part = bid.jobs.contains(&job.record.id);
            (takes_part && self.has_room_for(job, task, worker)).then(|| {
                let rate = self.rate_or_guess(worker, class, &able, &mut usual);
                self.seat(worker, job, task, load, rate)
            })?
        });
        let mut seats: Vec<Seat> = seats.collect();
        let fresh = |seat: &Seat| !failed.contains(&seat.worker);
        if seats.iter().any(|seat| fresh(seat) && seat.want > 0) {
            seats.retain(fresh);
        }
        seats
    }

    /// What those of these workers do at this class that were measured at it: the median.
    fn usual_rate(&self, able: &[AgentId], class: WorkClass) -> u64 {
        let of = |id: &AgentId| self.peers.get(*id)?.rate(class);
        let mut rates: Vec<u64> = able.iter().filter_map(of).collect();
        rates.sort_unstable();
        rates.get(rates.len() / 2).copied().unwrap_or(1)
    }

    /// The rate of one of these workers. One that was never measured at the class is as far from what
    /// is `usual` there as it is at the work that it was measured at; one that was never measured at
    /// all is taken for an average one. `usual` keeps what was found, for the next of them.
    pub(super) fn rate_or_guess(
        &self,
        worker: AgentId,
        class: WorkClass,
        able: &[AgentId],
        usual: &mut BTreeMap<WorkClass, u64>,
    ) -> u64 {
        let peer = self.peers.get(worker);
        if let Some(rate) = peer.and_then(|peer| peer.rate(class)) {
            return rate;
        }
        let mut usual = |of| *usual.entry(of).or_insert_with(|| self.usual_rate(able, of));
        let here = usual(class);
        let other = peer.and_then(|peer| peer.info.as_ref()?.speeds.first());
        let Some((other, own)) = other else { return here };
        let guess = u128::from(here) * u128::from(*own) / u128::from(usual(*other).max(1));
        u64::try_from(guess).unwrap_or(u64::MAX)
    }

    fn seat(
        &self,
        worker: AgentId,
        job: &Job,
        task: &Task,
        load: &Load,
        rate: u64,
    ) -> Option<Seat> {
        let peer = self.peers.get(worker)?;
        let encoder = task.record.spec.encoder();
        let slots = peer.slots_for(encoder.kind());
        if load.held_of(worker, encoder.kind()) >= slots && slots < peer.slots() {
            return None; // it has all of this kind that its person lets it have
        }
        let leases = load.held(worker);
        let trusted = self.trusted_grants(worker);
        Some(Seat {
            worker,
            slots,
            want: self.jobs.bids.get(&worker)?.want.min(trusted),
            leases,
            credit: trusted.saturating_sub(leases),
            rate: rate.max(1),
            busy_ms: load.busy_ms(worker) / u64::from(slots.max(1)),
            travel_ms: self.travel_ms(worker, job, task),
            reluctant: peer.is_reluctant(encoder),
            doubt: peer.doubt(),
        })
    }

    /// How long the task's input is on its way to the worker; one that has it already has none.
    fn travel_ms(&self, worker: AgentId, job: &Job, task: &Task) -> u64 {
        let Some(input) = task.input_blob(job.record.source) else { return 0 };
        let has_it = |other: &&Task| {
            let by = other.record.leases.values().any(|of| *of == worker)
                || other.record.commit.is_some_and(|commit| commit.worker == worker);
            by && other.record.spec.input() == TaskInput::Source
        };
        let whole = task.record.spec.input() == TaskInput::Source;
        if worker == self.me || (whole && job.tasks.iter().any(|other| has_it(&other))) {
            return 0;
        }
        self.peers.get(worker).map_or(0, |peer| peer.travel_ms(input.bytes))
    }

    /// How many attempts a worker may hold: anybody can claim any number of slots.
    pub(super) fn trusted_grants(&self, worker: AgentId) -> u32 {
        if worker == self.me {
            return u32::MAX;
        }
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

    pub(super) fn grant(&mut self, now: Time, id: TaskId, worker: AgentId, out: &mut Vec<Output>) {
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
            let known = self.builds.0.get(&encoder).copied();
            let build = known.unwrap_or_else(|| self.commonest_build(now, encoder));
            self.builds.0.insert(encoder, build);
            pins.extend(build.map(|build| (encoder, build)));
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
                    "waiting for an agent with {names} that is paused or outside its hours; \
                     `dmc resume` there lets a paused one work"
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
