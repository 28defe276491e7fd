//! The state machine of one agent, as owner and as worker.
//!
//! **Contract of [`Mesh::handle`]:** outputs are in order; what changes records ([`Output::Save`],
//! [`Output::Erase`], [`Output::Shelve`], [`Output::Unshelve`]) is durable before a later output of
//! another kind is acted on, and neighbours of that kind ([`Output::Changed`] may stand between)
//! become durable together. Time, attempt ids and everything random arrive inside inputs; all maps
//! are ordered; the same inputs give the same outputs. The core never waits: long work (cut, fetch,
//! encode, verify, join) is an output that the runtime starts and whose end comes back as an input.
//!
//! One subject a file: [`peers`] who is there, [`jobs`] what this owner wants done, [`leases`] who
//! may do it, [`work`] what this worker does for others, [`placement`] who gets what, `forecast`
//! when it would be done, `hedge` second attempts at stragglers, `offers` who hears of work,
//! `fairness` whose turn it is at a worker, [`reconcile`] what two agents tell each other when
//! they meet again, [`handover`] whole jobs that this agent gave away, [`custody`] those that it
//! keeps for others, [`shelf`] those that are over and leave the memory, `evict` who is no member
//! any more.

pub mod custody;
mod evict;
mod fairness;
mod forecast;
pub mod handover;
mod hedge;
mod input;
pub mod jobs;
pub mod leases;
mod offers;
mod output;
pub mod peers;
pub mod placement;
pub mod reconcile;
pub mod shelf;
pub mod work;

use std::collections::VecDeque;

use crate::config::Config;
use crate::id::{AgentId, AttemptId};
use crate::message::Message;
use crate::record::{JobState, Record};
use crate::time::Time;

use custody::Custody;
use handover::Handovers;
use jobs::Jobs;
use peers::Peers;
use placement::Builds;
use work::Work;

pub use input::Input;
pub use output::Output;

/// Attempt ids that are asked for at a time; a new batch is asked for at half of it.
pub const IDS_BATCH: usize = 64;

/// The whole state of one agent. See the [module documentation](self) for the contract.
#[derive(Debug)]
pub struct Mesh {
    me: AgentId,
    config: Config,
    ids: VecDeque<AttemptId>,
    ids_asked: bool,
    peers: Peers,
    jobs: Jobs,
    work: Work,
    handovers: Handovers,
    custody: Custody,
    builds: Builds,
}

impl Mesh {
    /// An agent that knows nothing yet.
    pub fn new(me: AgentId, config: Config) -> Mesh {
        Mesh {
            me,
            config,
            ids: VecDeque::new(),
            ids_asked: false,
            peers: Peers::default(),
            jobs: Jobs::default(),
            work: Work::default(),
            handovers: Handovers::default(),
            custody: Custody::default(),
            builds: Builds::default(),
        }
    }

    /// This agent.
    pub fn me(&self) -> AgentId {
        self.me
    }

    /// Who is there.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// What this owner wants done.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// What this worker does.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// Whole jobs that this agent handed over.
    pub fn handovers(&self) -> &Handovers {
        &self.handovers
    }

    /// Whole jobs that this agent keeps for others.
    pub fn custody(&self) -> &Custody {
        &self.custody
    }

    /// The one door: takes an input, changes the state, and returns what is to be done, in order.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.notice_sleep(now, matches!(input, Input::Tick));
        let moves = placement::may_move_work(&input);
        self.dispatch(now, input, &mut out);
        if moves {
            self.place(now, &mut out);
        }
        self.schedule_work(&mut out);
        self.loop_back(now, &mut out);
        // Bids come last: what this agent grants itself meanwhile is no seat for others.
        while self.say_bids(&mut out) {
            self.loop_back(now, &mut out);
        }
        self.ask_for_ids(&mut out);
        out
    }

    fn dispatch(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        self.builds.note(&input);
        match input {
            Input::Tick => self.on_tick(now, out),
            Input::Ids(ids) => self.on_ids(ids),
            Input::Restore(records) => self.on_restore(now, records, out),
            Input::Local(info) => self.on_local(now, info, out),
            Input::SetPaused(paused) => self.on_set_paused(paused, out),
            Input::SetOffHours(off) => self.on_set_off_hours(off, out),
            Input::SetYielding { yields, stopped } => self.on_set_yielding(yields, stopped, out),
            Input::GiveBack => self.give_back(out),
            Input::Stop { grace_ms } => self.on_stop(grace_ms, out),
            Input::StopNow => self.on_stop_now(out),
            Input::PeerUp(peer) => self.on_peer_up(now, peer, out),
            Input::PeerDown(peer) => self.on_peer_down(now, peer),
            Input::Evicted(peer) => self.on_evicted(now, peer, out),
            Input::Received { from, message } => self.on_message(now, from, message, out),
            Input::Transferred { from, bytes, ms } => self.on_transferred(now, from, bytes, ms),
            Input::AddJob { job, priority, source, tasks } => {
                self.on_add_job(now, job, priority, source, tasks, out);
            }
            Input::SetPriority { job, priority } => self.on_set_priority(job, priority, out),
            Input::Replan { job, tasks } => self.on_replan(now, job, tasks, out),
            Input::SourceReady { job, blob } => self.on_source_ready(job, blob, out),
            Input::CancelJob(job) => self.on_cancel_job(job, out),
            Input::FailJob { job, errors } => self.on_fail_job(job, errors, out),
            Input::RetryJob(job) => self.on_retry_job(now, job, out),
            Input::RemoveJob(job) => self.on_remove_job(job, out),
            Input::ShelveJob(job) => self.on_shelve_job(job, out),
            Input::UnshelveJob(records) => self.on_unshelve_job(now, records, out),
            Input::PieceReady { task, blob } => self.on_piece_ready(task, blob, out),
            Input::ResultGood { attempt, task } => self.on_result_good(now, attempt, task, out),
            Input::ResultBad { attempt, task, failure } => {
                self.on_result_bad(now, attempt, task, failure, out);
            }
            Input::Redo { task, spec } => self.on_redo(now, task, spec, out),
            Input::Joined(job) => self.on_joined(job, out),
            Input::HandOver { job, handed } => self.on_hand_over(now, job, handed, out),
            Input::TakeBack(job) => self.take_back(now, job, out),
            Input::HandedPublished(job) => self.on_handed_published(job, out),
            Input::HandedBad { job, failure } => self.on_handed_bad(now, job, failure, out),
            Input::HandedFailed { job, error } => self.on_handed_failed(job, error, out),
            Input::CustodySource(job) => self.on_custody_source(job, out),
            Input::AddCustodyJob { job, source, tasks } => {
                self.on_add_custody_job(now, job, source, tasks, out);
            }
            Input::CustodyFailed { job, why } => self.on_custody_failed(job, why, out),
            Input::CustodyGivenUp { job, why } => self.on_custody_given_up(job, why, out),
            Input::CustodyResult { job, result } => self.on_custody_result(job, result, out),
            Input::InputReady(attempt) => self.on_input_ready(attempt),
            Input::Worked { attempt, progress } => self.on_worked(attempt, progress),
            Input::WorkDone { attempt, result } => self.on_work_done(now, attempt, result, out),
            Input::WorkFailed { attempt, failure } => {
                self.on_work_failed(now, attempt, failure, out);
            }
        }
    }

    fn on_message(&mut self, now: Time, from: AgentId, message: Message, out: &mut Vec<Output>) {
        self.heard(now, from);
        match message {
            Message::Info(info) => self.on_info(now, from, info, out),
            Message::Heartbeat { held } => self.on_heartbeat(now, from, held, out),
            Message::Offer { job, work } => self.on_offer(from, job, &work, out),
            Message::Accept { job, want } => self.on_accept(from, job, want, out),
            Message::Decline { job } => self.on_decline(from, job),
            Message::Grant { attempt, task, spec, input, blob } => {
                let grant = work::Grant { attempt, owner: from, task, spec, input, blob };
                self.on_grant(now, grant, out);
            }
            Message::Done { attempt, task, result } => {
                self.on_done(now, from, attempt, task, result, out);
            }
            Message::Failed { attempt, task, failure } => {
                self.on_failed(now, from, attempt, task, failure, out);
            }
            Message::Verdict { attempt, verdict } => self.on_verdict(from, attempt, verdict, out),
            Message::Goodbye => self.on_goodbye(now, from, out),
            Message::HandOver { job, epoch, handed } => {
                self.on_asked_to_keep(now, from, job, epoch, handed, out);
            }
            Message::Custody { held } => self.on_custody(now, from, held, out),
            Message::Release { job, epoch } => self.on_release(from, job, epoch, out),
            // Who belongs to the mesh is decided before the core hears anything.
            Message::Roster { .. } => {}
        }
    }

    /// What this agent says to itself never leaves it: the owner's own machine works through the
    /// same path as any other. Terminates because each message asks for strictly less than the
    /// one before it: offer → accept → grant → (work) → done → verdict.
    fn loop_back(&mut self, now: Time, out: &mut Vec<Output>) {
        let mut at = 0;
        while at < out.len() {
            let to_me = matches!(&out[at], Output::Send { to, .. } if *to == self.me);
            if !to_me {
                at += 1;
                continue;
            }
            let Output::Send { message, .. } = out.remove(at) else { continue };
            self.builds.heard(&message);
            let mut more = Vec::new();
            self.on_message(now, self.me, message, &mut more);
            self.place(now, &mut more);
            self.schedule_work(&mut more);
            out.append(&mut more);
        }
    }

    fn on_ids(&mut self, ids: Vec<AttemptId>) {
        self.ids.extend(ids);
        self.ids_asked = false;
    }

    fn ask_for_ids(&mut self, out: &mut Vec<Output>) {
        if self.ids.len() < IDS_BATCH / 2 && !self.ids_asked {
            self.ids_asked = true;
            out.push(Output::NeedIds);
        }
    }

    fn on_tick(&mut self, now: Time, out: &mut Vec<Output>) {
        self.tick_peers(now, out);
        self.tick_leases(now, out);
        self.tick_hedges(now, out);
        self.tick_offers(now, out);
        self.tick_work(now, out);
        self.tick_handovers(now, out);
        self.tick_custody(now, out);
    }

    fn on_restore(&mut self, now: Time, records: Vec<Record>, out: &mut Vec<Output>) {
        for record in records {
            match record {
                Record::Job(job) => self.restore_job(job),
                Record::Task(task) => self.restore_task(now, task, out),
                Record::Work(work) => self.restore_work(now, work),
                Record::Handed(handed) => self.restore_handed(now, handed),
                Record::Custody(custody) => self.restore_custody(now, custody),
                Record::Paused(paused) => self.work.paused = paused,
            }
        }
        self.resume_jobs(out);
        self.resume_work(out);
        self.resume_custody(out);
        self.resume_handovers(out);
    }

    fn on_stop(&mut self, grace_ms: u64, out: &mut Vec<Output>) {
        self.work.stopping = true;
        self.work.grace_ms = grace_ms;
        self.return_work(grace_ms, out);
        self.bid_again();
    }

    /// Whether something will soon be over that a stop would lose or put off: attempts that end
    /// within the grace, results that a connected owner is about to fetch, a film being joined.
    pub fn waits_to_stop(&self) -> bool {
        let joins = self.jobs.iter().any(|job| job.record.state == JobState::Joining);
        let there = |owner| {
            self.peers.get(owner).is_some_and(|peer| peer.state == peers::PeerState::Connected)
        };
        joins
            || self.work.held().any(|held| match held.stage {
                work::Stage::Running(_) => held.ends_within(self.work.grace_ms),
                work::Stage::Done { .. } => there(held.record.owner),
                work::Stage::Fetching | work::Stage::Ready => false,
            })
    }

    fn on_stop_now(&mut self, out: &mut Vec<Output>) {
        self.work.stopping = true;
        self.return_work(0, out);
        for to in self.peers.connected() {
            out.push(Output::Send { to, message: Message::Goodbye });
        }
    }
}
