//! Whether all is over, and whether it ended as it must.

use std::collections::BTreeSet;

use dmc_protocol::handover::{HandedEnd, HandedState};
use dmc_protocol::id::AgentId;
use dmc_protocol::record::{JobState, Record, RecordKey};

use super::World;
use crate::faults::Expect;
use crate::fixture::{self, index_of};
use crate::oracle::Oracle;

impl World {
    pub(super) fn judge(&mut self) {
        for (owner, state) in self.outcomes() {
            let ok = match (self.story.expect, &state) {
                (Expect::Done | Expect::Over, Some(JobState::Done)) => true,
                (Expect::Failed | Expect::Over, Some(JobState::Failed(errors))) => {
                    !errors.is_empty()
                }
                (Expect::CancelledOrDone, Some(JobState::Cancelled | JobState::Done)) => true,
                (Expect::Over, Some(JobState::Cancelled)) => true,
                _ => false,
            };
            if !ok {
                self.oracle.fail(format!("the job of agent{owner} ended as {state:?}"));
            }
        }
        let left = self.what_is_left();
        left.into_iter().for_each(|left| self.oracle.fail(left));
        self.judge_films();
        self.judge_builds();
        self.judge_shares();
    }

    /// Everything that should be gone from agents that live.
    fn what_is_left(&self) -> Vec<String> {
        let agents = &self.agents;
        let excused =
            (0..agents.len()).filter(|at| agents[*at].dead || agents[*at].lie().is_some());
        let excused: BTreeSet<AgentId> = excused.map(fixture::agent_id).collect();
        let mut oracle = Oracle::default();
        for agent in agents {
            if let Some(mesh) = &agent.mesh {
                oracle.after_all(mesh, &agent.io, &agent.records(), &excused);
            }
        }
        oracle.broken
    }

    pub(super) fn is_tidy(&self) -> bool {
        self.what_is_left().is_empty()
    }

    /// A job that is done has its film, where it was asked for.
    fn judge_films(&mut self) {
        for (owner, state) in self.outcomes() {
            let job = fixture::job_id(owner);
            let published = self.agents[owner].io.published.contains_key(&job);
            if state == Some(JobState::Done) && !published {
                self.oracle.fail(format!("the job of agent{owner} is done, and there is no film"));
            }
        }
    }

    /// Who made parts, where everybody must.
    fn judge_shares(&mut self) {
        let records = self.agents.iter().flat_map(|agent| agent.records_ever().into_values());
        let commits = records.filter_map(|record| match record {
            Record::Task(task) => task.commit.map(|commit| index_of(commit.worker)),
            _ => None,
        });
        let makers: BTreeSet<usize> = commits.collect();
        if self.story.all_work && makers.len() < self.agents.len() {
            self.oracle.fail(format!("only {makers:?} made parts"));
        }
    }

    /// Parts of different encoder builds do not join.
    fn judge_builds(&mut self) {
        for owner in 0..self.agents.len() {
            for job in (0..self.story.owners).map(fixture::job_id) {
                let records = self.agents[owner].records_ever();
                let records = records.values().filter_map(|record| match record {
                    Record::Task(task) if task.id.job == job => Some(task),
                    _ => None,
                });
                let commits = records.filter(|task| task.spec.video().is_some());
                let commits = commits.filter_map(|task| task.commit);
                let builds = commits.map(|of| self.agents[index_of(of.worker)].build());
                let builds: BTreeSet<u8> = builds.collect();
                if builds.len() > 1 {
                    self.oracle.fail(format!("parts of the builds {builds:?} in one film"));
                }
            }
        }
    }

    /// How the jobs of living owners stand; `None`: no record is there yet.
    pub(super) fn outcomes(&self) -> Vec<(usize, Option<JobState>)> {
        let alive = (0..self.story.owners).filter(|at| !self.agents[*at].dead);
        alive.map(|at| (at, self.outcome(at))).collect()
    }

    pub(super) fn outcome(&self, at: usize) -> Option<JobState> {
        let (job, agent) = (fixture::job_id(at), &self.agents[at]);
        let find = |key| agent.disk.get(&key).or_else(|| agent.shelf.get(&key));
        let (own, handed) = (find(RecordKey::Job(job)), find(RecordKey::Handed(job)));
        if own.is_none() && handed.is_none() {
            return agent.past.get(&job).map(|past| past.state.clone());
        }
        let own = match own {
            Some(Record::Job(record)) => Some(record.state.clone()),
            _ => None,
        };
        match handed {
            Some(Record::Handed(handed)) => match &handed.state {
                HandedState::Over(HandedEnd::Published) => Some(JobState::Done),
                HandedState::Over(HandedEnd::Failed(error)) => {
                    Some(JobState::Failed(vec![error.clone()]))
                }
                HandedState::Over(HandedEnd::Cancelled) => Some(JobState::Cancelled),
                HandedState::Own | HandedState::Over(HandedEnd::Own) => own,
                // Nobody asked for a delivery.
                HandedState::Over(HandedEnd::Delivered) => None,
                HandedState::Offered | HandedState::Away | HandedState::Returning(_) => {
                    Some(JobState::Active)
                }
            },
            _ => own,
        }
    }

    pub(super) fn all_over(&self) -> bool {
        let alive = (0..self.story.owners).filter(|at| !self.agents[*at].dead);
        alive.into_iter().all(|at| self.is_over(at))
    }

    fn is_over(&self, at: usize) -> bool {
        self.outcome(at).is_some_and(|state| state.is_over())
    }
}
