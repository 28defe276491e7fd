//! One step of one agent: inputs, one commit, and then what was decided.

use std::collections::VecDeque;

use dmc_protocol::codec;
use dmc_protocol::id::{AgentId, AttemptId};
use dmc_protocol::mesh::{IDS_BATCH, Input, Mesh, Output};
use dmc_protocol::message::Message;
use dmc_protocol::record::{Record, TaskRecord};

use super::{Event, RUMOURS, World};
use crate::fixture::{self, index_of};
use crate::liar::Rumour;

/// The largest record that the store takes.
const RECORD_BYTES_MAX: usize = 64 << 10;
/// Inputs whose records are made durable together.
const INPUTS_PER_COMMIT: usize = 256;
/// A full disk is looked at again so often.
const FULL_AGAIN_MS: u64 = 1_000;

impl World {
    pub(super) fn start_mesh(&mut self, at: usize, slots: u32) {
        let agent = &mut self.agents[at];
        agent.mesh = Some(Mesh::new(fixture::agent_id(at), self.config.clone()));
        let mut info = fixture::info(at, agent.boot, slots, agent.build());
        info.custodian = !agent.has(crate::faults::Habit::NoCustody);
        agent.said_full = self.now < agent.full_until;
        if agent.said_full {
            info.free_disk_bytes = 0;
        }
        let records = agent.disk.values().cloned().collect();
        self.give(at, Input::Restore(records));
        self.give(at, Input::Local(info));
    }

    /// Something for the agent to handle; at once, or when its commit is through.
    pub(super) fn give(&mut self, at: usize, input: Input) {
        let agent = &mut self.agents[at];
        if agent.mesh.is_some() && !agent.deaf {
            agent.inbox.push_back(input);
            if agent.sleep.is_none() {
                self.turn(at);
            }
        }
    }

    pub(super) fn turn(&mut self, at: usize) {
        while self.agents[at].group.is_none() && !self.agents[at].inbox.is_empty() {
            if self.one_by_one {
                let Some(input) = self.agents[at].inbox.pop_front() else { return };
                let outputs = self.decide(at, input);
                self.carry_out(at, outputs.into());
            } else {
                let mut outputs = Vec::new();
                for _ in 0..INPUTS_PER_COMMIT {
                    let Some(input) = self.agents[at].inbox.pop_front() else { break };
                    outputs.extend(self.decide(at, input));
                }
                self.begin_commit(at, outputs);
            }
        }
    }

    /// What the state machine makes of an input.
    fn decide(&mut self, at: usize, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let agent = &mut self.agents[at];
            let now = agent.clock.time(self.now);
            let Some(mesh) = &mut agent.mesh else { return outputs };
            if self.tells && !matches!(input, Input::Tick | Input::Ids(_)) {
                eprintln!("{:>9}  agent{at} < {input:?}", self.now);
            }
            let mut more = mesh.handle(now, input);
            let asked = more.contains(&Output::NeedIds);
            if asked {
                more.retain(|output| *output != Output::NeedIds);
                let ids = (0..IDS_BATCH).map(|_| self.attempt_id()).collect();
                inputs.push_back(Input::Ids(ids));
            }
            outputs.append(&mut more);
            let slots = self.slots(at);
            let agent = &self.agents[at];
            let Some(mesh) = &agent.mesh else { return outputs };
            self.oracle.after_step(mesh, &agent.io, slots, self.agents.len(), &self.config);
        }
        outputs
    }

    fn attempt_id(&mut self) -> AttemptId {
        AttemptId(u128::from(self.rng.bits()) << 64 | u128::from(self.rng.bits()))
    }

    // ---- as the runtime does it: all records, then all the rest ----

    fn begin_commit(&mut self, at: usize, outputs: Vec<Output>) {
        let records = outputs.iter().any(Output::is_record);
        let agent = &mut self.agents[at];
        let (span, boot) = (agent.commit_ms(), agent.boot);
        let delay = if records { self.rng.within(span) } else { 0 };
        self.agents[at].group = Some(outputs);
        match records && (delay > 0 || self.now < self.agents[at].state_full_until) {
            true => self.after(delay, Event::Committed { at, boot }),
            false => self.finish_commit(at),
        }
    }

    /// The disk has taken the records, unless it is full.
    pub(super) fn committed(&mut self, at: usize) {
        if self.now < self.agents[at].state_full_until {
            let boot = self.agents[at].boot;
            return self.after(FULL_AGAIN_MS, Event::Committed { at, boot });
        }
        if self.one_by_one {
            let rest = self.agents[at].group.take().unwrap_or_default();
            self.carry_out(at, rest.into());
        } else {
            self.finish_commit(at);
        }
        self.turn(at);
    }

    fn finish_commit(&mut self, at: usize) {
        let Some(outputs) = self.agents[at].group.take() else { return };
        if self.dies_now(at) {
            return; // nothing of it was durable
        }
        let (records, rest): (Vec<Output>, Vec<Output>) =
            outputs.into_iter().partition(Output::is_record);
        for output in records {
            self.write(at, output);
        }
        for output in rest {
            if self.dies_now(at) {
                return;
            }
            self.act(at, output);
        }
    }

    // ---- as the contract allows it: one after another, only neighbouring records together ----

    fn carry_out(&mut self, at: usize, mut outputs: VecDeque<Output>) {
        let mut in_batch = false;
        while let Some(output) = outputs.pop_front() {
            let record = output.is_record() || matches!(output, Output::Changed(_));
            // Neighbouring records become durable together: no crash in between.
            if !(record && in_batch) && self.dies_now(at) {
                return;
            }
            if output.is_record() && self.now < self.agents[at].state_full_until {
                outputs.push_front(output);
                let boot = self.agents[at].boot;
                self.agents[at].group = Some(outputs.into());
                return self.after(FULL_AGAIN_MS, Event::Committed { at, boot });
            }
            in_batch = record;
            match output.is_record() {
                true => self.write(at, output),
                false => self.act(at, output),
            }
        }
    }

    fn dies_now(&mut self, at: usize) -> bool {
        let Some((left, down)) = self.agents[at].dies_after else { return false };
        if left > 0 {
            self.agents[at].dies_after = Some((left - 1, down));
            return false;
        }
        self.reboot(at, down);
        true
    }

    fn write(&mut self, at: usize, output: Output) {
        let me = fixture::agent_id(at);
        self.say(|| format!("agent{at} = {output:?}"));
        match output {
            Output::Save(record) => self.save(at, record),
            Output::Erase(key) => {
                let old = self.agents[at].disk.remove(&key);
                self.oracle.on_erase(me, old.as_ref());
                self.note(b"erase");
            }
            Output::Shelve(record) => {
                let old = self.agents[at].disk.remove(&record.key());
                if old.as_ref() != Some(&record) {
                    self.oracle.fail(format!("{:?} goes to the shelf changed", record.key()));
                }
                self.agents[at].shelf.insert(record.key(), record);
                self.note(b"shelve");
            }
            Output::Unshelve(record) => {
                let old = self.agents[at].shelf.remove(&record.key());
                if old.as_ref() != Some(&record) {
                    self.oracle.fail(format!("{:?} was not so on the shelf", record.key()));
                }
                self.agents[at].disk.insert(record.key(), record);
                self.note(b"unshelve");
            }
            _ => {}
        }
    }

    fn save(&mut self, at: usize, record: Record) {
        let me = fixture::agent_id(at);
        let key = record.key();
        let old = self.agents[at].disk.get(&key);
        self.oracle.on_save(me, old, &record);
        if let Record::Task(new) = &record {
            let old = match old {
                Some(Record::Task(old)) => Some(old.clone()),
                _ => None,
            };
            self.on_task_record(at, old.as_ref(), new);
        }
        match codec::to_bytes(&record) {
            Ok(bytes) => {
                self.note(&bytes);
                self.read_back(&bytes, &record);
            }
            Err(error) => self.oracle.fail(format!("a record does not encode: {error}")),
        }
        self.agents[at].disk.insert(key, record);
    }

    fn read_back(&mut self, bytes: &[u8], record: &Record) {
        let fits = bytes.len() <= RECORD_BYTES_MAX;
        if !fits {
            self.oracle.fail(format!("a record of {} bytes", bytes.len()));
        }
        if !self.thorough {
            return;
        }
        match codec::from_bytes::<Record>(bytes, RECORD_BYTES_MAX) {
            Ok(read) if read == *record => {}
            other => self.oracle.fail(format!("a record reads back as {other:?}")),
        }
    }

    /// What changed about a task, for the ledger, for liars, and for the rule that an owner never
    /// blames its own sleep on its workers.
    fn on_task_record(&mut self, at: usize, old: Option<&TaskRecord>, new: &TaskRecord) {
        let before = old.and_then(|old| old.commit);
        if let Some(commit) = new.commit.filter(|commit| before.is_none_or(|of| of != *commit)) {
            self.ledger.commits(commit.attempt);
        }
        let known = |attempt: &AttemptId| old.is_some_and(|old| old.leases.contains_key(attempt));
        for (attempt, worker) in new.leases.iter().filter(|(attempt, _)| !known(attempt)) {
            let owner = fixture::agent_id(at);
            let rumour = Rumour { attempt: *attempt, task: new.id, owner, worker: *worker };
            self.rumours.push_back(rumour);
            if self.rumours.len() > RUMOURS {
                self.rumours.pop_front();
            }
            let adopted = old.is_some_and(|old| old.expired.contains_key(attempt));
            if self.story.nobody_to_blame && !adopted {
                self.require_no_other_at_work(new, *attempt);
            }
        }
    }

    fn require_no_other_at_work(&mut self, task: &TaskRecord, fresh: AttemptId) {
        let others = task.leases.iter().chain(&task.expired).filter(|(of, _)| **of != fresh);
        let at_work: Vec<(AttemptId, AgentId)> = others
            .filter(|(attempt, worker)| {
                let key = dmc_protocol::record::RecordKey::Work(**attempt);
                self.agents[index_of(**worker)].disk.contains_key(&key)
            })
            .map(|(attempt, worker)| (*attempt, *worker))
            .collect();
        for (attempt, worker) in at_work {
            let who = index_of(worker);
            self.oracle.fail(format!(
                "{} is granted again while agent{who} works at {attempt:?}",
                task.id
            ));
        }
    }

    // ---- what an agent says and does ----

    fn act(&mut self, at: usize, output: Output) {
        self.say(|| format!("agent{at} > {output:?}"));
        match output {
            Output::Send { to, message } => {
                let from = fixture::agent_id(at);
                // A liar that asks again and again is answered as often.
                if self.agents[index_of(to)].lie().is_none() {
                    self.oracle.count_message(self.now, from, &message);
                }
                // The runtime's commit may be ahead of what is said after it.
                if self.one_by_one {
                    self.oracle.on_send(to, &message, &self.agents[at].disk);
                }
                self.send(at, to, message);
            }
            Output::Changed(_) => {}
            other => self.effect(at, other),
        }
    }

    /// What a liar says needs no record.
    pub(super) fn speak(&mut self, at: usize, said: Vec<(AgentId, Message)>) {
        for (to, message) in said {
            if index_of(to) != at {
                self.send(at, to, message);
            }
        }
    }

    fn send(&mut self, at: usize, to: AgentId, message: Message) {
        let to = index_of(to);
        if to == at || to >= self.agents.len() {
            return self.oracle.fail(format!("agent{at} sends {} to agent{to}", message.name()));
        }
        let frame = match codec::encode(&message) {
            Ok(frame) => frame,
            Err(e) => return self.oracle.fail(format!("{} does not encode: {e}", message.name())),
        };
        self.note(&frame);
        let Some(arrival) = self.network.send(self.now, at, to, &mut self.rng) else { return };
        let message = match self.thorough.then(|| codec::decode(&frame)) {
            None => message,
            Some(Ok(read)) if read == message => read,
            Some(other) => {
                let name = message.name();
                return self.oracle.fail(format!("{name} is read as {other:?}"));
            }
        };
        let message = Box::new(message);
        let [first, twice] = arrival.at;
        let epoch = arrival.epoch;
        if let Some(when) = twice {
            let message = message.clone();
            self.at(when, Event::Deliver { from: at, to, epoch, message });
        }
        if let Some(when) = first {
            self.at(when, Event::Deliver { from: at, to, epoch, message });
        }
    }

    fn at(&mut self, when: u64, event: Event) {
        self.after(when.saturating_sub(self.now), event);
    }

    /// A message reaches an agent that is awake.
    pub(super) fn deliver(&mut self, from: usize, to: usize, message: Message) {
        let sender = fixture::agent_id(from);
        let agent = &mut self.agents[to];
        if let Some(liar) = &mut agent.liar {
            let said = liar.hears(self.now, sender, &message);
            return self.speak(to, said);
        }
        let me = fixture::agent_id(to);
        self.oracle.on_receive(self.now, me, sender, &message, &agent.disk);
        self.give(to, Input::Received { from: sender, message });
    }
}
