//! Who is there: connections, what peers say of themselves, and when they were last heard.

use std::collections::BTreeMap;

use crate::condition::Condition;
use crate::id::AgentId;
use crate::media::{Encoder, MediaKind, WorkClass};
use crate::message::{AgentInfo, Message};
use crate::record::{Fingerprint, Record};
use crate::time::Time;

use super::{Mesh, Output};

/// How a peer stands, as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// A control stream is open and the peer was heard lately.
    Connected,
    /// A control stream is open, but the peer has been silent.
    Suspect,
    /// No control stream.
    Gone,
}

/// What this agent knows of another one, or of itself.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What it last said of itself.
    pub info: Option<AgentInfo>,
    /// Connected, suspect or gone.
    pub state: PeerState,
    /// When it was last heard.
    pub heard: Time,
    /// Failures per class of work, for the back-off.
    pub health: BTreeMap<WorkClass, Health>,
    /// Results of it that this owner committed since this agent started.
    pub delivered: u32,
    /// Leases that it let end since this agent started: by silence, or without getting on.
    pub(super) broken: u32,
    /// Bytes a second that came from it lately.
    pub link_bytes_s: Option<u64>,
    /// Times in a row that it did not list what it was granted.
    pub(super) forgot: u32,
    /// What it said or sent that was refused since this agent started: results of attempts that
    /// were never granted, results that did not pass, work that it sat on.
    pub refused: u64,
}

/// How a worker did at one class of work lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// Failures in a row.
    pub failures: u32,
    /// Not granted work of this class before then.
    pub until: Time,
}

impl Peer {
    fn new(now: Time) -> Peer {
        Peer {
            info: None,
            state: PeerState::Gone,
            heard: now,
            health: BTreeMap::new(),
            delivered: 0,
            broken: 0,
            link_bytes_s: None,
            forgot: 0,
            refused: 0,
        }
    }

    /// Whether it may be granted work now.
    pub fn is_usable(&self) -> bool {
        self.state == PeerState::Connected && self.info.as_ref().is_some_and(|info| !info.paused)
    }

    /// The build of this encoder, when the peer has proven it.
    pub fn fingerprint(&self, encoder: Encoder) -> Option<&Fingerprint> {
        self.info.as_ref()?.capabilities.encoders.get(&encoder)
    }

    /// Whether it has all of these encoders, and takes such work.
    pub fn has_all<'a>(&self, encoders: impl IntoIterator<Item = &'a Encoder>) -> bool {
        let info = self.info.as_ref();
        let takes = |kind| info.is_some_and(|info| info.capabilities.kinds.contains(&kind));
        encoders
            .into_iter()
            .all(|encoder| self.fingerprint(*encoder).is_some() && takes(encoder.kind()))
    }

    /// Slots that it claims.
    pub fn slots(&self) -> u32 {
        self.info.as_ref().map_or(0, |info| info.slots)
    }

    /// Attempts of one kind that it runs at the same time.
    pub(super) fn slots_for(&self, kind: MediaKind) -> u32 {
        self.info.as_ref().map_or(0, |info| info.wishes.slots_for(kind, info.slots))
    }

    /// Whether its person would rather have it do something else.
    pub(super) fn is_reluctant(&self, encoder: Encoder) -> bool {
        self.info.as_ref().is_some_and(|info| info.wishes.is_reluctant(encoder))
    }

    /// Whether this much fits on its disk.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.info.as_ref().is_some_and(|info| info.free_disk_bytes >= bytes)
    }

    /// Measured speed at this class in work units a second.
    pub fn speed(&self, class: WorkClass) -> Option<u64> {
        let info = self.info.as_ref()?;
        info.speeds.iter().find(|(of, _)| *of == class).map(|(_, speed)| *speed)
    }

    /// Whether failures keep it from this class of work for now.
    pub fn backs_off(&self, now: Time, class: WorkClass) -> bool {
        self.health.get(&class).is_some_and(|health| now < health.until)
    }
}

/// All agents that this one has met since it started, itself included.
#[derive(Debug, Default)]
pub struct Peers {
    all: BTreeMap<AgentId, Peer>,
    said_heartbeat: Time,
    said_progress: Time,
    /// The last tick, by which this agent notices that it slept.
    pub(super) ticked: Option<Time>,
}

impl Peers {
    /// Tasks that the agent runs at the same time; 0 while that is not known.
    pub(super) fn slots_of(&self, id: AgentId) -> u32 {
        self.get(id).map_or(0, Peer::slots)
    }

    /// One agent, this one included.
    pub fn get(&self, id: AgentId) -> Option<&Peer> {
        self.all.get(&id)
    }

    /// All agents in the order of their ids, this one included.
    pub fn iter(&self) -> impl Iterator<Item = (AgentId, &Peer)> {
        self.all.iter().map(|(id, peer)| (*id, peer))
    }

    /// Agents that can be spoken to, this one included once it knows itself.
    pub fn connected(&self) -> Vec<AgentId> {
        self.iter().filter(|(_, peer)| peer.state != PeerState::Gone).map(|(id, _)| id).collect()
    }

    /// Nobody backs off any more.
    pub(super) fn forgive(&mut self) {
        self.all.values_mut().for_each(|peer| peer.health.clear());
    }

    pub(super) fn entry(&mut self, now: Time, id: AgentId) -> &mut Peer {
        self.all.entry(id).or_insert_with(|| Peer::new(now))
    }
}

/// Whether peers should hear at once of what an agent says of itself now.
fn matters(said: &AgentInfo, now: &AgentInfo) -> bool {
    let (speeds, uptime_s) = (said.speeds.clone(), said.uptime_s);
    let free = (said.free_disk_bytes, now.free_disk_bytes);
    let room = free.0 / 2 > free.1 || free.1 / 2 > free.0;
    let free_disk_bytes = free.0;
    // Whether it yields matters; how warm it is may wait.
    let Condition { yields, stopped, .. } = now.condition;
    let condition = Condition { yields, stopped, ..said.condition };
    room || AgentInfo { speeds, uptime_s, free_disk_bytes, condition, ..now.clone() } != *said
}

/// How far one sample may move a measured rate: to so many times, or this part of, what it was.
const STEP_MAX: u64 = 2;

/// A measured rate after one more sample: a moving mean whose steps are bounded, so that one odd
/// sample does not rule.
pub fn smoothed(before: Option<u64>, sample: u64) -> u64 {
    let Some(before) = before.filter(|before| *before > 0) else { return sample.max(1) };
    let mean = before.saturating_mul(3).saturating_add(sample) / 4;
    mean.clamp((before / STEP_MAX).max(1), before.saturating_mul(STEP_MAX))
}

/// A transfer that is smaller says more of the delay than of the link.
const LINK_SAMPLE_BYTES_MIN: u64 = 256 << 10;

impl Mesh {
    /// So many bytes came from the peer in that time.
    pub(super) fn on_transferred(&mut self, now: Time, from: AgentId, bytes: u64, ms: u64) {
        if bytes >= LINK_SAMPLE_BYTES_MIN && from != self.me {
            let peer = self.peers.entry(now, from);
            let rate = bytes.saturating_mul(1_000) / ms.max(1);
            peer.link_bytes_s = Some(smoothed(peer.link_bytes_s, rate));
        }
    }

    /// A gap in the ticks is this agent's own sleep (a stopped process, a laptop with its lid
    /// closed, a machine under heavy load). What others said meanwhile waits unread, so their
    /// silence began only with the end of the gap. It is noticed at the first input after it, which
    /// may be one of these.
    pub(super) fn notice_sleep(&mut self, now: Time, ticks: bool) {
        let gap_ms = self.peers.ticked.map_or(0, |ticked| now.since_ms(ticked));
        let slept = gap_ms > self.config.sleep_gap_ms;
        if ticks || slept {
            self.peers.ticked = Some(now);
        }
        if !slept {
            return;
        }
        // Less than the grace of a grant is left: what waited unread may be older than the grant.
        let lost_ms = gap_ms - self.config.sleep_gap_ms / 2;
        let later = |time: Time| (time + lost_ms).min(now);
        for peer in self.peers.all.values_mut() {
            peer.heard = later(peer.heard);
        }
        let tasks = self.jobs.all.values_mut().flat_map(|job| &mut job.tasks);
        for lease in tasks.flat_map(|task| task.leases.values_mut()) {
            lease.granted = later(lease.granted);
            lease.moved = later(lease.moved);
        }
        self.handovers.shift(later);
        self.custody.shift(later);
    }

    pub(super) fn heard(&mut self, now: Time, from: AgentId) {
        let peer = self.peers.entry(now, from);
        peer.heard = now;
        if peer.state == PeerState::Suspect {
            peer.state = PeerState::Connected;
        }
    }

    /// The connection is new: both sides say who they are, what they hold for each other and what
    /// they offer, because anything said on an earlier connection may be lost.
    pub(super) fn on_peer_up(&mut self, now: Time, id: AgentId, out: &mut Vec<Output>) {
        let peer = self.peers.entry(now, id);
        peer.state = PeerState::Connected;
        peer.heard = now;
        if let Some(info) = self.peers.get(self.me).and_then(|me| me.info.clone()) {
            out.push(Output::Send { to: id, message: Message::Info(info) });
        }
        self.reconcile_with(id, out);
        self.report_custody_to(id, out);
        self.hand_over_again_to(id, out);
        self.offer_all_to(id, out);
    }

    pub(super) fn on_peer_down(&mut self, now: Time, id: AgentId) {
        self.peers.entry(now, id).state = PeerState::Gone;
        self.forget_bids(id);
        self.work.forget_offers(id);
    }

    /// The peer stops on purpose: it has returned what it could, so waiting for its leases to
    /// expire would only lose time.
    pub(super) fn on_goodbye(&mut self, now: Time, id: AgentId, out: &mut Vec<Output>) {
        self.end_leases_of(id, out);
        self.on_peer_down(now, id);
    }

    pub(super) fn on_info(
        &mut self,
        now: Time,
        id: AgentId,
        info: AgentInfo,
        out: &mut Vec<Output>,
    ) {
        let peer = self.peers.entry(now, id);
        let before = peer.info.replace(info);
        // A new start: old failures say nothing about it.
        let restarted = match (&before, &peer.info) {
            (Some(old), Some(new)) => old.instance != new.instance,
            _ => false,
        };
        if restarted {
            peer.health.clear();
        }
        let changed = before.map(|old| (old.capabilities, old.paused))
            != peer.info.as_ref().map(|new| (new.capabilities.clone(), new.paused));
        if changed || restarted {
            self.offer_all_to(id, out);
        }
    }

    pub(super) fn on_local(&mut self, now: Time, info: AgentInfo, out: &mut Vec<Output>) {
        let info = AgentInfo { paused: self.work.rests(), ..info };
        let me = self.peers.entry(now, self.me);
        me.state = PeerState::Connected;
        me.heard = now;
        self.say_info(now, info, out);
        self.bid_if_room_changed(now);
    }

    pub(super) fn on_set_paused(&mut self, paused: bool, out: &mut Vec<Output>) {
        self.work.paused = paused;
        out.push(Output::Save(Record::Paused(paused)));
        self.say_whether_it_rests(out);
    }

    pub(super) fn on_set_off_hours(&mut self, off_hours: bool, out: &mut Vec<Output>) {
        self.work.off_hours = off_hours;
        self.say_whether_it_rests(out);
    }

    /// Its person needs the machine, or not any more. `stopped`: what runs is stopped meanwhile.
    pub(super) fn on_set_yielding(&mut self, yields: bool, stopped: bool, out: &mut Vec<Output>) {
        (self.work.yields, self.work.stopped) = (yields, stopped);
        self.say_whether_it_rests(out);
        for owner in self.work.owners() {
            self.reconcile_with(owner, out);
        }
    }

    fn say_whether_it_rests(&mut self, out: &mut Vec<Output>) {
        let paused = self.work.rests();
        let Some(me) = self.peers.get(self.me) else { return };
        let (heard, info) = (me.heard, me.info.clone());
        if let Some(info) = info {
            self.say_info(heard, AgentInfo { paused, ..info }, out);
        }
    }

    fn say_info(&mut self, now: Time, info: AgentInfo, out: &mut Vec<Output>) {
        let said = self.peers.get(self.me).and_then(|me| me.info.as_ref());
        if said == Some(&info) {
            return;
        }
        // Speeds change with every task, and everybody hears of them with the next heartbeat.
        if said.is_none_or(|said| matters(said, &info)) {
            for to in self.peers.connected() {
                if to != self.me {
                    out.push(Output::Send { to, message: Message::Info(info.clone()) });
                }
            }
        }
        self.on_info(now, self.me, info, out);
    }

    /// Marks silent peers, and says a heartbeat when it is time: to everybody now and then, to
    /// owners of unfinished attempts more often, so that people see progress.
    pub(super) fn tick_peers(&mut self, now: Time, out: &mut Vec<Output>) {
        let (me, suspect_ms) = (self.me, self.config.suspect_ms);
        for (id, peer) in &mut self.peers.all {
            if *id == me {
                peer.heard = now;
            } else if peer.state == PeerState::Connected && now.since_ms(peer.heard) > suspect_ms {
                peer.state = PeerState::Suspect;
            }
        }
        let everybody = now.since_ms(self.peers.said_heartbeat) >= self.config.heartbeat_ms;
        let busy = now.since_ms(self.peers.said_progress) >= self.config.heartbeat_busy_ms;
        if everybody {
            self.peers.said_heartbeat = now;
        }
        if busy {
            self.peers.said_progress = now;
        }
        let info = self.peers.get(me).and_then(|me| me.info.clone());
        for to in self.peers.connected() {
            // Said again with each heartbeat: one that was lost would keep this agent without work.
            if let Some(info) = info.clone().filter(|_| everybody && to != me) {
                out.push(Output::Send { to, message: Message::Info(info) });
            }
            if everybody && to != me {
                self.report_custody_to(to, out);
            }
            if everybody || (busy && self.work.unfinished_for(to) > 0) {
                self.reconcile_with(to, out);
            }
        }
    }

    /// A success ends the back-off; a failure starts or doubles it.
    pub(super) fn judge(&mut self, now: Time, worker: AgentId, class: WorkClass, success: bool) {
        let config = &self.config;
        let (after, first, max) =
            (config.backoff_after_failures, config.backoff_first_ms, config.backoff_max_ms);
        let health = self.peers.entry(now, worker).health.entry(class).or_default();
        if success {
            *health = Health::default();
            return;
        }
        health.failures = health.failures.saturating_add(1);
        if health.failures >= after {
            let doublings = (health.failures - after).min(16);
            health.until = now + (first << doublings).min(max);
        }
    }
}
