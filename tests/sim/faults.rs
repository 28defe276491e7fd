//! What goes wrong: the words in which scenarios are written.

/// A span of virtual milliseconds; the seed picks a moment in it.
pub type Span = (u64, u64);

/// One thing that happens to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The agent loses all that is not on its disk and starts again after this long.
    Reboot(usize, Span),
    /// The same while a step of it is made durable or carried out.
    RebootInStep(usize, Span),
    /// The agent never comes back.
    Die(usize),
    /// The agent is told to stop, does so within its grace, and never comes back.
    Leave(usize),
    /// The same, and it is started again after this long.
    StopAndStart(usize, Span),
    /// A connection breaks and is made again.
    Break(usize, usize),
    /// Nobody reaches the agent for this long.
    Isolate(usize, Span),
    /// The agents of this set (bit n is agent n) and the others do not reach each other.
    Part(u32, Span),
    /// The agent handles nothing for this long. Its connections may break or not, its tools may go
    /// on or not, its clock may go on or not.
    Freeze(usize, Span),
    /// The agent's monotonic clock jumps ahead by this much.
    ClockJump(usize, Span),
    /// There is no room for files at the agent for this long.
    DiskFull(usize, Span),
    /// There is no room for records: a commit waits for so long.
    StateFull(usize, Span),
    /// A person pauses the agent for this long.
    Pause(usize, Span),
    /// Somebody needs the agent's machine for this long.
    Yield(usize, Span),
    /// A person cancels the owner's job.
    Cancel(usize),
    /// A person tries the owner's job again.
    Retry(usize),
    /// A person takes a job back that was handed over.
    TakeBack(usize),
    /// The owner makes a new plan: one whole-file task.
    Replan(usize),
    /// The agent's ffmpeg works from now on.
    Mend(usize),
}

/// What an agent does that no honest one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// Claims every slot there is, hoards grants, and lists them as running for ever.
    Hoards,
    /// The same, and its progress goes up and down and begins anew.
    Dances,
    /// Reports results that it does not have, for attempts that were never granted too.
    Invents,
    /// Reports results that it has, and serves a byte a second.
    Drips,
    /// Lists, fails and drops the attempts of others.
    Steals,
    /// Owns a job whose inputs it never serves, and says of some that they fill any disk.
    Starves,
    /// Takes jobs into custody and does nothing.
    Keeps,
}

/// How an agent differs from a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Its ffmpeg always fails.
    Fails,
    /// Its results never pass verification.
    Corrupts,
    /// It takes so many times longer.
    Slow(u64),
    /// Its encoder is another build.
    Build(u8),
    /// It finds no room for any input, although it says that it has some.
    DiskFull,
    /// It lends no slots.
    NoSlots,
    /// It keeps no jobs of others.
    NoCustody,
    /// As a worker it finds that pieces of some segments prove nothing.
    Unproves,
    /// As an owner it finds that some segments need another rung, before and after the join.
    Redoes,
    /// Its clock is faster or slower: so many per cent of the true time pass.
    Clock(u64),
    /// A commit takes up to so many milliseconds.
    SlowDisk(u64),
    /// It lies.
    Lies(Lie),
}

/// How the jobs must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Every job of a living owner is done.
    Done,
    /// Every job failed, and says why.
    Failed,
    /// Every job is cancelled, or was done before.
    CancelledOrDone,
    /// Every job is over, and one that failed says why.
    Over,
}

/// How messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Road {
    /// Messages that are lost, until the last job is over.
    pub loss_percent: u64,
    /// Messages that arrive twice.
    pub twice_percent: u64,
    /// Messages that later ones overtake.
    pub late_percent: u64,
    /// How long one is on its way.
    pub latency_ms: Span,
}

/// One row of the table of scenarios.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name, which a replay asks for.
    pub name: &'static str,
    /// How many agents there are; all of them work.
    pub agents: usize,
    /// The first so many have a job each.
    pub owners: usize,
    /// Tasks of each job.
    pub tasks: u32,
    /// How messages travel.
    pub road: Road,
    /// What happens, and when.
    pub faults: &'static [(Span, Fault)],
    /// Who differs.
    pub habits: &'static [(usize, Habit)],
    /// Whether the owners hand their jobs over.
    pub hands_over: bool,
    /// How it must end.
    pub expect: Expect,
    /// How long after the last fault the last job may be over. Tight where a stall would hide.
    pub within_ms: u64,
    /// Whether every agent must have made a part: nobody is forgotten.
    pub all_work: bool,
    /// Whether only owners' own sleep can end leases here, so that no task may be granted again
    /// while a worker still has it.
    pub nobody_to_blame: bool,
    /// Everything but the name comes from the seed.
    pub chaos: bool,
}

/// Messages arrive in order, quickly, all of them.
pub const GOOD_ROAD: Road =
    Road { loss_percent: 0, twice_percent: 0, late_percent: 0, latency_ms: (1, 60) };

/// So many messages are lost.
pub const fn lossy(percent: u64) -> Road {
    Road { loss_percent: percent, ..GOOD_ROAD }
}

/// Messages are lost, doubled, overtaken, and slow.
pub const BAD_ROAD: Road =
    Road { loss_percent: 5, twice_percent: 10, late_percent: 20, latency_ms: (20, 800) };

/// A scenario in which nothing goes wrong; rows of the table change a part of it.
pub const CALM: Scenario = Scenario {
    name: "calm",
    agents: 3,
    owners: 1,
    tasks: 30,
    road: GOOD_ROAD,
    faults: &[],
    habits: &[],
    hands_over: false,
    expect: Expect::Done,
    // Back-offs last up to an hour.
    within_ms: 3 * 3_600_000,
    all_work: false,
    nobody_to_blame: false,
    chaos: false,
};

/// One run: a scenario whose moments the seed has chosen.
#[derive(Debug, Clone)]
pub struct Story {
    /// How many agents there are.
    pub agents: usize,
    /// The first so many have a job each.
    pub owners: usize,
    /// Tasks of each job.
    pub tasks: u32,
    /// How messages travel.
    pub road: Road,
    /// What happens, and at which moment.
    pub faults: Vec<(u64, Fault)>,
    /// Who differs.
    pub habits: Vec<(usize, Habit)>,
    /// Owners that hand their jobs over.
    pub hands_over: Vec<usize>,
    /// How it must end.
    pub expect: Expect,
    /// How long after the last fault the last job may be over.
    pub within_ms: u64,
    /// After this moment nothing goes wrong any more.
    pub faults_end: u64,
    /// Whether every agent must have made a part.
    pub all_work: bool,
    /// See [`Scenario::nobody_to_blame`].
    pub nobody_to_blame: bool,
}

impl Scenario {
    /// What happens under this seed.
    pub fn story(&self, rng: &mut crate::rng::Rng) -> Story {
        if self.chaos {
            return crate::chaos::story(rng);
        }
        let faults = self.faults.iter().map(|(span, fault)| (rng.within(*span), *fault)).collect();
        Story {
            agents: self.agents,
            owners: self.owners,
            tasks: self.tasks,
            road: self.road,
            faults,
            habits: self.habits.to_vec(),
            hands_over: (0..self.owners).filter(|_| self.hands_over).collect(),
            expect: self.expect,
            within_ms: self.within_ms,
            faults_end: self.faults.iter().map(|((_, to), _)| *to).max().unwrap_or(0),
            all_work: self.all_work,
            nobody_to_blame: self.nobody_to_blame,
        }
    }
}
