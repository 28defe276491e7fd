//! What goes wrong: scenarios as data.

/// A span of virtual milliseconds; the seed picks a moment in it.
pub type Span = (u64, u64);

/// One thing that happens to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The agent loses all that is not on its disk and starts again after this long.
    Reboot(usize, Span),
    /// The same in the middle of the outputs of a step.
    RebootInStep(usize, Span),
    /// The agent never comes back.
    Die(usize),
    /// The agent stops by `Goodbye` and exits a second later.
    Leave(usize),
    /// A connection breaks and is made again.
    Break(usize, usize),
    /// Nobody reaches the agent for this long.
    Isolate(usize, Span),
    /// A person pauses the agent for this long.
    Pause(usize, Span),
    /// A person cancels the owner's job.
    Cancel(usize),
    /// A person tries the owner's job again.
    Retry(usize),
    /// The owner makes a new plan: one whole-file task.
    Replan(usize),
    /// The agent's ffmpeg works from now on.
    Mend(usize),
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
    /// It has no room for any input.
    DiskFull,
    /// It lends no slots.
    NoSlots,
    /// As a worker it finds that pieces of some segments prove nothing.
    Unproves,
    /// As an owner it finds that some segments need another rung, before and after the join.
    Redoes,
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
    /// Messages that are lost, until the last job is over.
    pub loss_percent: u64,
    /// What happens, and when.
    pub faults: &'static [(Span, Fault)],
    /// Who differs.
    pub habits: &'static [(usize, Habit)],
    /// How it must end.
    pub expect: Expect,
    /// How long after the last fault the last job may be over. Tight where a stall would hide.
    pub within_ms: u64,
    /// Whether every agent must have made a part: nobody is forgotten.
    pub all_work: bool,
}

/// A scenario in which nothing goes wrong; rows of the table change a part of it.
pub const CALM: Scenario = Scenario {
    name: "calm",
    agents: 3,
    owners: 1,
    tasks: 30,
    loss_percent: 0,
    faults: &[],
    habits: &[],
    expect: Expect::Done,
    // Back-offs last up to an hour.
    within_ms: 3 * 3_600_000,
    all_work: false,
};
