//! Whole scenarios that the seed makes up: who is there, how they differ, and what goes wrong.

use crate::faults::{Expect, Fault, Habit, Lie, Road, Story};
use crate::rng::Rng;

/// Agents of which one is chosen.
const AGENTS_MAX: u64 = 7;
const TASKS: (u64, u64) = (3, 40);
const FAULTS_MAX: u64 = 14;
/// Bad workers that a job survives: a task that fails on three of them fails its job.
const BAD_MAX: usize = 2;
/// Faults begin no later than this.
const FAULTS_END_MS: u64 = 150_000;

/// One agent is honest, able and never gone for good; all jobs of agents that live must end.
pub fn story(rng: &mut Rng) -> Story {
    let agents = usize::try_from(rng.within((1, AGENTS_MAX))).unwrap_or(1);
    let owners = 1 + rng.place(agents.min(3));
    let hero = rng.place(agents);
    let tasks = u32::try_from(rng.within(TASKS)).unwrap_or(1);
    let road = road(rng);
    let mut habits = Vec::new();
    let mut bad = 0;
    for at in 0..agents {
        let is_bad = at != hero && bad < BAD_MAX && rng.chance(15);
        bad += usize::from(is_bad);
        match is_bad {
            true => habits.push((at, bad_habit(at < owners, rng))),
            false => habits.extend(good_habits(at == hero, rng).map(|habit| (at, habit))),
        }
    }
    let count = rng.within((0, FAULTS_MAX));
    let faults: Vec<(u64, Fault)> = (0..count)
        .map(|_| (rng.within((300, FAULTS_END_MS)), fault(agents, owners, hero, rng)))
        .collect();
    let gives_up = |fault: &Fault| matches!(fault, Fault::Cancel(_));
    let unsure = bad > 0 || faults.iter().any(|(_, fault)| gives_up(fault));
    Story {
        agents,
        owners,
        tasks,
        road,
        habits,
        hands_over: (0..owners).filter(|_| rng.chance(25)).collect(),
        expect: if unsure { Expect::Over } else { Expect::Done },
        within_ms: 4 * 3_600_000,
        faults_end: FAULTS_END_MS,
        faults,
        all_work: false,
        nobody_to_blame: false,
    }
}

fn road(rng: &mut Rng) -> Road {
    let mut some = |percent_max: u64| if rng.chance(50) { rng.within((0, percent_max)) } else { 0 };
    let (loss_percent, twice_percent, late_percent) = (some(25), some(15), some(25));
    let latency_ms = if some(1) > 0 { (20, 900) } else { (1, 60) };
    Road { loss_percent, twice_percent, late_percent, latency_ms }
}

/// A liar owns nothing that must end.
fn bad_habit(owner: bool, rng: &mut Rng) -> Habit {
    const LIES: [Lie; 7] =
        [Lie::Hoards, Lie::Dances, Lie::Invents, Lie::Drips, Lie::Steals, Lie::Starves, Lie::Keeps];
    match rng.place(if owner { 3 } else { 8 }) {
        0 => Habit::Fails,
        1 => Habit::Corrupts,
        2 => Habit::DiskFull,
        _ => Habit::Lies(LIES[rng.place(LIES.len())]),
    }
}

fn good_habits(hero: bool, rng: &mut Rng) -> impl Iterator<Item = Habit> + use<> {
    let slow = rng.within((2, 12));
    let clock = rng.within((90, 110));
    let disk = rng.within((20, 900));
    let all = [
        (20, Habit::Slow(slow)),
        (20, Habit::Clock(clock)),
        (15, Habit::SlowDisk(disk)),
        (10, Habit::Unproves),
        (10, Habit::Redoes),
        (10, Habit::NoCustody),
        (if hero { 0 } else { 10 }, Habit::NoSlots),
    ];
    let chosen: Vec<Habit> =
        all.iter().filter(|(percent, _)| rng.chance(*percent)).map(|(_, habit)| *habit).collect();
    chosen.into_iter()
}

fn fault(agents: usize, owners: usize, hero: usize, rng: &mut Rng) -> Fault {
    let (at, peer, owner) = (rng.place(agents), rng.place(agents), rng.place(owners));
    let down = (300, rng.within((500, 120_000)));
    let long = (1_000, rng.within((2_000, 600_000)));
    let set = u32::try_from(rng.within((1, (1 << agents) - 1))).unwrap_or(1);
    match rng.place(24) {
        0..=2 => Fault::Reboot(at, down),
        3..=7 => Fault::RebootInStep(at, down),
        8 if at != hero => Fault::Die(at),
        9 if at != hero => Fault::Leave(at),
        8..=10 => Fault::StopAndStart(at, down),
        11 if at != peer => Fault::Break(at, peer),
        11..=12 => Fault::Isolate(at, long),
        13..=15 => Fault::Part(set, long),
        16..=17 => Fault::Freeze(at, (20_000, 600_000)),
        18 => Fault::ClockJump(at, (1_000, 20_000_000)),
        19 => Fault::DiskFull(at, long),
        20 => Fault::StateFull(at, down),
        21 => Fault::Pause(at, long),
        22 => match rng.place(4) {
            0 => Fault::Cancel(owner),
            1 => Fault::Retry(owner),
            2 => Fault::TakeBack(owner),
            _ => Fault::Replan(owner),
        },
        _ => Fault::Freeze(at, (500, 30_000)),
    }
}
