//! Scenarios × seeds through the simulator.
//!
//! `DMC_SIM_SEEDS=N` runs more seeds of each scenario; a failure prints the line that replays it.

use dmc_tests::faults::{CALM, Expect, Fault, Habit, Scenario};
use dmc_tests::world::World;

use Fault::{Break, Cancel, Die, Isolate, Leave, Mend, Pause, Reboot, RebootInStep, Replan, Retry};

/// Seeds of each scenario unless `DMC_SIM_SEEDS` says more.
const SEEDS: u64 = 15;

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "happy", within_ms: 70_000, ..CALM },
    Scenario { name: "alone", within_ms: 80_000, agents: 1, tasks: 8, ..CALM },
    Scenario { name: "many_agents", within_ms: 70_000, agents: 7, tasks: 60, ..CALM },
    Scenario { name: "loss_5", within_ms: 100_000, loss_percent: 5, ..CALM },
    Scenario { name: "loss_30", within_ms: 200_000, loss_percent: 30, ..CALM },
    Scenario {
        name: "nobody_is_forgotten",
        within_ms: 300_000,
        tasks: 80,
        loss_percent: 30,
        all_work: true,
        ..CALM
    },
    Scenario {
        name: "worker_restarts",
        faults: &[
            ((1_000, 60_000), Reboot(1, (500, 5_000))),
            ((1_000, 60_000), RebootInStep(2, (500, 90_000))),
        ],
        ..CALM
    },
    Scenario { name: "worker_dies", faults: &[((1_000, 40_000), Die(1))], ..CALM },
    Scenario {
        name: "owner_restarts",
        faults: &[
            ((200, 90_000), Reboot(0, (500, 5_000))),
            ((200, 90_000), RebootInStep(0, (500, 5_000))),
            ((200, 90_000), RebootInStep(0, (500, 90_000))),
        ],
        ..CALM
    },
    Scenario {
        name: "owner_restarts_often",
        tasks: 12,
        loss_percent: 5,
        faults: &[
            ((200, 30_000), RebootInStep(0, (100, 3_000))),
            ((10_000, 40_000), RebootInStep(0, (100, 3_000))),
            ((20_000, 50_000), RebootInStep(0, (100, 3_000))),
            ((30_000, 60_000), RebootInStep(0, (100, 3_000))),
            ((200, 60_000), RebootInStep(1, (100, 3_000))),
            ((200, 60_000), RebootInStep(2, (100, 3_000))),
        ],
        habits: &[(0, Habit::Redoes)],
        ..CALM
    },
    Scenario {
        name: "owner_only_lends_nothing",
        habits: &[(0, Habit::NoSlots)],
        faults: &[((200, 40_000), RebootInStep(0, (500, 90_000)))],
        ..CALM
    },
    Scenario {
        name: "partition",
        faults: &[
            ((3_000, 20_000), Isolate(0, (1_000, 120_000))),
            ((20_000, 60_000), Isolate(2, (1_000, 120_000))),
        ],
        ..CALM
    },
    Scenario {
        name: "broken_links",
        within_ms: 60_000,
        loss_percent: 5,
        faults: &[
            ((1_000, 60_000), Break(0, 1)),
            ((1_000, 60_000), Break(0, 1)),
            ((1_000, 60_000), Break(0, 2)),
            ((1_000, 60_000), Break(0, 2)),
        ],
        ..CALM
    },
    Scenario {
        name: "pause_and_resume",
        within_ms: 260_000,
        loss_percent: 5,
        faults: &[
            ((1_000, 30_000), Pause(0, (1_000, 200_000))),
            ((1_000, 30_000), Pause(1, (1_000, 200_000))),
            ((1_000, 30_000), Pause(2, (1_000, 200_000))),
        ],
        ..CALM
    },
    Scenario { name: "one_always_fails", within_ms: 140_000, habits: &[(1, Habit::Fails)], ..CALM },
    Scenario {
        name: "two_always_fail",
        habits: &[(0, Habit::Fails), (1, Habit::Corrupts)],
        ..CALM
    },
    Scenario {
        name: "all_fail",
        habits: &[(0, Habit::Fails), (1, Habit::Corrupts), (2, Habit::Fails)],
        expect: Expect::Failed,
        ..CALM
    },
    Scenario {
        name: "alone_and_failing",
        agents: 1,
        tasks: 4,
        habits: &[(0, Habit::Fails)],
        expect: Expect::Failed,
        ..CALM
    },
    Scenario {
        name: "failed_then_mended",
        agents: 2,
        habits: &[(0, Habit::Fails), (1, Habit::Fails)],
        faults: &[
            ((300_000, 300_000), Mend(0)),
            ((300_000, 300_000), Mend(1)),
            ((301_000, 310_000), Retry(0)),
        ],
        ..CALM
    },
    Scenario { name: "disks_full", habits: &[(1, Habit::DiskFull), (2, Habit::DiskFull)], ..CALM },
    Scenario {
        name: "failing_and_disk_full",
        habits: &[(0, Habit::Fails), (1, Habit::DiskFull)],
        faults: &[((60_000, 90_000), Mend(0))],
        agents: 2,
        tasks: 6,
        ..CALM
    },
    Scenario { name: "two_owners", within_ms: 130_000, owners: 2, loss_percent: 5, ..CALM },
    Scenario {
        name: "two_owners_one_dies",
        owners: 2,
        faults: &[((2_000, 60_000), Die(0))],
        ..CALM
    },
    Scenario {
        name: "three_owners_restart",
        owners: 3,
        agents: 4,
        tasks: 15,
        faults: &[
            ((200, 90_000), RebootInStep(0, (500, 20_000))),
            ((200, 90_000), RebootInStep(1, (500, 20_000))),
            ((200, 90_000), RebootInStep(2, (500, 20_000))),
        ],
        ..CALM
    },
    Scenario {
        name: "builds_differ",
        within_ms: 80_000,
        agents: 4,
        habits: &[(1, Habit::Build(2)), (3, Habit::Build(2))],
        faults: &[((1_000, 60_000), Break(0, 1))],
        ..CALM
    },
    Scenario {
        name: "the_common_build_fails",
        habits: &[(0, Habit::Build(2)), (1, Habit::Build(2)), (0, Habit::Fails), (1, Habit::Fails)],
        tasks: 6,
        ..CALM
    },
    Scenario {
        name: "late_result",
        agents: 2,
        tasks: 2,
        habits: &[(1, Habit::Slow(25)), (0, Habit::NoSlots)],
        faults: &[((6_000, 20_000), Isolate(1, (75_000, 90_000)))],
        ..CALM
    },
    Scenario {
        name: "redo",
        within_ms: 120_000,
        habits: &[(0, Habit::Redoes)],
        loss_percent: 5,
        ..CALM
    },
    Scenario {
        name: "unproven",
        within_ms: 180_000,
        habits: &[(0, Habit::Unproves), (1, Habit::Unproves), (2, Habit::Unproves)],
        faults: &[((1_000, 60_000), RebootInStep(0, (500, 5_000)))],
        loss_percent: 5,
        ..CALM
    },
    Scenario {
        name: "replan",
        within_ms: 60_000,
        faults: &[((1_000, 60_000), Replan(0)), ((1_000, 60_000), RebootInStep(0, (500, 5_000)))],
        ..CALM
    },
    Scenario {
        name: "cancel",
        loss_percent: 5,
        faults: &[
            ((500, 80_000), Cancel(0)),
            ((500, 80_000), RebootInStep(0, (500, 5_000))),
            ((500, 80_000), Isolate(1, (1_000, 90_000))),
        ],
        // A crash may take the person's word with it.
        expect: Expect::CancelledOrDone,
        ..CALM
    },
    Scenario {
        name: "cancel_then_retry",
        within_ms: 90_000,
        faults: &[((500, 60_000), Cancel(0)), ((60_000, 90_000), Retry(0))],
        ..CALM
    },
    Scenario { name: "goodbye", within_ms: 50_000, faults: &[((1_000, 40_000), Leave(2))], ..CALM },
    Scenario {
        name: "slow_worker",
        habits: &[(1, Habit::Slow(8))],
        faults: &[((1_000, 60_000), Reboot(1, (500, 5_000)))],
        ..CALM
    },
    Scenario {
        name: "everything",
        agents: 5,
        owners: 2,
        loss_percent: 10,
        habits: &[(0, Habit::Redoes), (3, Habit::Fails), (4, Habit::Slow(4))],
        faults: &[
            ((500, 90_000), RebootInStep(0, (500, 20_000))),
            ((500, 90_000), RebootInStep(1, (500, 90_000))),
            ((500, 90_000), Isolate(2, (500, 90_000))),
            ((500, 90_000), Break(0, 4)),
            ((500, 90_000), Break(1, 2)),
            ((500, 90_000), Pause(4, (500, 60_000))),
            ((500, 90_000), Replan(1)),
            ((500, 90_000), Leave(3)),
        ],
        ..CALM
    },
];

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one scenario under its seeds; returns how many late results were used, and the longest
/// virtual time until all was over.
fn run(scenario: &Scenario) -> (u32, u64) {
    let seeds = match asked("DMC_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..asked("DMC_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let (mut late, mut longest_ms) = (0, 0);
    for seed in seeds {
        let report = World::run(*scenario, seed);
        assert!(
            report.broken.is_empty(),
            "{} under seed {seed}:\n  {}\nreplay: DMC_SIM_SCENARIO={} DMC_SIM_SEED={seed} cargo \
             test -p dmc-tests --test simulation scenarios",
            scenario.name,
            report.broken.join("\n  "),
            scenario.name,
        );
        late += report.late_commits;
        longest_ms = report.over_ms.max(longest_ms);
    }
    (late, longest_ms)
}

#[expect(clippy::print_stdout, reason = "shown when a test fails or with --nocapture")]
fn run_and_tell(scenario: &Scenario) {
    let started = std::time::Instant::now();
    let (late, longest_ms) = run(scenario);
    let took_ms = started.elapsed().as_millis();
    println!("{:28} {took_ms:5} ms; virtual {longest_ms:8} ms; {late} late", scenario.name);
    if scenario.name == "late_result" && asked("DMC_SIM_SEED").is_none() {
        assert!(late > 0, "a result of an ended lease is used");
    }
}

#[test]
fn scenarios_end_as_they_must() {
    let only = std::env::var("DMC_SIM_SCENARIO").ok();
    let wanted = |scenario: &&Scenario| only.as_ref().is_none_or(|name| name == scenario.name);
    let wanted: Vec<&Scenario> = SCENARIOS.iter().filter(wanted).collect();
    assert!(!wanted.is_empty(), "no scenario is called {only:?}");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for lane in 0..threads {
            let mine = wanted.iter().skip(lane).step_by(threads);
            scope.spawn(move || mine.for_each(|scenario| run_and_tell(scenario)));
        }
    });
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.owners > 1) {
        let (once, twice) = (World::run(*scenario, 7), World::run(*scenario, 7));
        assert_eq!(once, twice, "{}", scenario.name);
        assert_ne!(once.trace, World::run(*scenario, 8).trace, "the seed matters");
    }
}
