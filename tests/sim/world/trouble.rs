//! What goes wrong: crashes, broken connections, walls, sleep, full disks.

use dmc_protocol::mesh::Input;

use super::{Event, World};
use crate::agent::Sleep;
use crate::faults::{Fault, Span};
use crate::fixture;

/// A connection that carries nothing is given up after so long: pings are not answered.
const PING_MS: Span = (15_000, 26_000);
const NOTICE_MS: Span = (0, 3_000);
const CONNECT_MS: Span = (50, 1_500);

impl World {
    pub(super) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Reboot(at, down) => self.reboot(at, down),
            Fault::RebootInStep(at, down) => {
                let outputs = self.rng.within((0, 12));
                self.agents[at].dies_after = Some((outputs, down));
            }
            Fault::Die(at) => {
                self.crash(at);
                self.agents[at].dead = true;
            }
            Fault::Break(a, b) => {
                self.cut(a, b);
                let delay = self.rng.within((500, 5_000));
                self.after(delay, Event::Connect(a, b));
            }
            Fault::Isolate(at, span) => self.build_wall(1 << at, span),
            Fault::Part(set, span) => self.build_wall(set, span),
            Fault::Freeze(at, span) => self.freeze(at, span),
            Fault::ClockJump(at, span) => {
                let ahead = self.rng.within(span);
                self.agents[at].clock.jump(ahead);
            }
            Fault::DiskFull(at, span) => {
                let until = self.now + self.rng.within(span);
                self.agents[at].full_until = until;
                self.trouble_until = self.trouble_until.max(until);
            }
            Fault::StateFull(at, span) => {
                let until = self.now + self.rng.within(span);
                self.agents[at].state_full_until = until;
                self.trouble_until = self.trouble_until.max(until);
            }
            other => self.person(other),
        }
    }

    pub(super) fn reboot(&mut self, at: usize, down: Span) {
        self.crash(at);
        let delay = self.rng.within(down);
        self.relief(delay, Event::Start(at));
    }

    pub(super) fn crash(&mut self, at: usize) {
        let agent = &mut self.agents[at];
        if !agent.is_up() {
            return;
        }
        agent.mesh = None;
        agent.liar = None;
        agent.dies_after = None;
        agent.inbox.clear();
        agent.group = None; // what was not durable is lost
        agent.sleep = None;
        let records = agent.records();
        agent.io.crash(&records);
        for peer in 0..self.agents.len() {
            self.cut(at, peer);
            self.network.tell(at, peer, false);
        }
    }

    // ---- connections ----

    pub(super) fn cut(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        let Some(epoch) = self.network.cut(a, b) else { return };
        for (at, peer) in [(a, b), (b, a)] {
            let delay = self.rng.within(NOTICE_MS);
            self.after(delay, Event::NoticeDown { at, peer, epoch });
        }
    }

    pub(super) fn notice_down(&mut self, at: usize, peer: usize) {
        if !self.network.tell(at, peer, false) {
            return;
        }
        let id = fixture::agent_id(peer);
        match &mut self.agents[at].liar {
            Some(liar) => liar.loses(id),
            None => self.give(at, Input::PeerDown(id)),
        }
    }

    pub(super) fn connect_all(&mut self, at: usize) {
        for peer in (0..self.agents.len()).filter(|peer| *peer != at) {
            let delay = self.rng.within(CONNECT_MS);
            self.after(delay, Event::Connect(at, peer));
        }
    }

    pub(super) fn connect(&mut self, a: usize, b: usize) {
        let able = |at: usize| self.agents[at].is_up() && !self.agents[at].deaf && !self.sleeps(at);
        if !able(a) || !able(b) || !self.network.connect(a, b) {
            return;
        }
        for (at, peer) in [(a, b), (b, a)] {
            // The old connection is noticed to be gone no later than the new one is there.
            self.notice_down(at, peer);
            self.network.tell(at, peer, true);
            let id = fixture::agent_id(peer);
            match &mut self.agents[at].liar {
                Some(liar) => {
                    let said = liar.meets(id);
                    self.speak(at, said);
                }
                None => self.give(at, Input::PeerUp(id)),
            }
        }
    }

    /// Some walls let connections die at once, behind others they die of silence.
    fn build_wall(&mut self, set: u32, span: Span) {
        self.next += 1;
        let (number, silent) = (self.next, self.rng.chance(50));
        self.network.build_wall(number, set);
        let agents = self.agents.len();
        let apart = |a: usize, b: usize| (set >> a) & 1 != (set >> b) & 1;
        for a in 0..agents {
            for b in (a + 1..agents).filter(|b| apart(a, *b)) {
                match silent {
                    true => self.dies_of_silence(a, b),
                    false => self.cut(a, b),
                }
            }
        }
        let delay = self.rng.within(span);
        self.relief(delay, Event::WallFalls { number, set });
    }

    fn dies_of_silence(&mut self, a: usize, b: usize) {
        if self.network.is_up(a, b) {
            let (delay, epoch) = (self.rng.within(PING_MS), self.network.epoch(a, b));
            self.after(delay, Event::LinkDies { a, b, epoch });
        }
    }

    pub(super) fn wall_falls(&mut self, number: u64, set: u32) {
        self.network.tear_down_wall(number);
        for at in (0..self.agents.len()).filter(|at| (set >> at) & 1 == 1) {
            self.connect_all(at);
        }
    }

    // ---- sleep ----

    pub(super) fn sleeps(&self, at: usize) -> bool {
        self.agents[at].sleep.is_some()
    }

    fn freeze(&mut self, at: usize, span: Span) {
        if self.agents[at].mesh.is_none() || self.sleeps(at) {
            return;
        }
        // A stopped process, or a machine that sleeps: then its tools sleep, too, and on most
        // systems its monotonic clock.
        let tools = self.rng.chance(60);
        let clock = tools && self.rng.chance(60);
        let keeps = self.rng.chance(20);
        self.agents[at].sleep = Some(Sleep { since: self.now, tools, clock, backlog: Vec::new() });
        for peer in (0..self.agents.len()).filter(|peer| *peer != at) {
            if !keeps {
                self.dies_of_silence(at, peer);
            }
        }
        let delay = self.rng.within(span);
        self.relief(delay, Event::Wake(at));
    }

    /// What reaches an agent that sleeps waits; of its ticks only one is made up for.
    pub(super) fn postpone(&mut self, at: usize, event: Event) {
        if let Event::Deliver { from, to, epoch, .. } = &event
            && !self.network.carries(*from, *to, *epoch)
        {
            return;
        }
        if let Some(sleep) = &mut self.agents[at].sleep {
            sleep.backlog.push(event);
        }
    }

    pub(super) fn wake(&mut self, at: usize) {
        let Some(sleep) = self.agents[at].sleep.take() else { return };
        let slept_ms = self.now - sleep.since;
        if sleep.clock {
            self.agents[at].clock.stood(slept_ms);
        }
        let tick_first = self.rng.chance(50);
        let (ticks, others): (Vec<Event>, Vec<Event>) =
            sleep.backlog.into_iter().partition(|event| matches!(event, Event::Tick { .. }));
        let ticks = ticks.into_iter().take(1);
        let (before, after) = match tick_first {
            true => (Some(ticks), None),
            false => (None, Some(ticks)),
        };
        before.into_iter().flatten().for_each(|event| self.step(event));
        self.turn(at);
        for event in others {
            let work = matches!(event, Event::WorkEnds { .. } | Event::Progress { .. });
            match event {
                // It was sent while the connection was there, so it is read.
                Event::Deliver { from, to, message, .. } if self.agents[to].is_up() => {
                    self.deliver(from, to, *message);
                }
                // Its tools go on where they stopped.
                event if work && sleep.tools => {
                    let left = self.rng.within((0, slept_ms.min(5_000)));
                    self.after(left, event);
                }
                event => self.step(event),
            }
        }
        after.into_iter().flatten().for_each(|event| self.step(event));
        self.connect_all(at);
    }

    // ---- room ----

    /// The agent looks at its disk and says what it sees.
    pub(super) fn say_room(&mut self, at: usize) {
        let full = self.is_full(at);
        if self.agents[at].said_full == full {
            return;
        }
        let Some(mesh) = &self.agents[at].mesh else { return };
        let info = mesh.peers().get(mesh.me()).and_then(|me| me.info.clone());
        let Some(mut info) = info else { return };
        self.agents[at].said_full = full;
        info.free_disk_bytes = if full { 0 } else { fixture::FREE_BYTES };
        self.give(at, Input::Local(info));
    }

    /// Whether files find no room at the agent.
    pub(super) fn is_full(&self, at: usize) -> bool {
        self.now < self.agents[at].full_until
    }
}
