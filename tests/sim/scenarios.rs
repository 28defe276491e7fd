//! The table of scenarios.

use crate::faults::{BAD_ROAD, CALM, Expect, Fault, GOOD_ROAD, Habit, Lie, Road, Scenario, lossy};

use Fault::{
    Break, Cancel, ClockJump, Die, DiskFull, Freeze, Isolate, Leave, Mend, Part, Pause, Reboot,
    RebootInStep, Replan, Retry, StateFull, StopAndStart, TakeBack, Yield,
};
use Habit::Lies;

/// All of them. The names are what a replay asks for.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "happy", within_ms: 70_000, ..CALM },
    Scenario { name: "alone", within_ms: 80_000, agents: 1, tasks: 8, ..CALM },
    Scenario { name: "many_agents", within_ms: 70_000, agents: 7, tasks: 60, ..CALM },
    Scenario { name: "loss_5", within_ms: 100_000, road: lossy(5), ..CALM },
    Scenario { name: "loss_30", within_ms: 200_000, road: lossy(30), ..CALM },
    Scenario {
        name: "nobody_is_forgotten",
        within_ms: 300_000,
        tasks: 80,
        road: lossy(30),
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
    Scenario {
        name: "worker_dies",
        within_ms: 150_000,
        faults: &[((1_000, 40_000), Die(1))],
        ..CALM
    },
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
        road: lossy(5),
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
        road: lossy(5),
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
        road: lossy(5),
        faults: &[
            ((1_000, 30_000), Pause(0, (1_000, 200_000))),
            ((1_000, 30_000), Pause(1, (1_000, 200_000))),
            ((1_000, 30_000), Pause(2, (1_000, 200_000))),
        ],
        ..CALM
    },
    Scenario {
        name: "machines_are_needed",
        within_ms: 300_000,
        road: lossy(5),
        faults: &[
            ((1_000, 30_000), Yield(0, (1_000, 200_000))),
            ((1_000, 30_000), Yield(1, (1_000, 200_000))),
            ((1_000, 30_000), Yield(2, (1_000, 200_000))),
            ((10_000, 60_000), Reboot(1, (1_000, 10_000))),
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
    Scenario { name: "two_owners", within_ms: 130_000, owners: 2, road: lossy(5), ..CALM },
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
        road: lossy(5),
        ..CALM
    },
    Scenario {
        name: "unproven",
        within_ms: 180_000,
        habits: &[(0, Habit::Unproves), (1, Habit::Unproves), (2, Habit::Unproves)],
        faults: &[((1_000, 60_000), RebootInStep(0, (500, 5_000)))],
        road: lossy(5),
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
        road: lossy(5),
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
        road: lossy(10),
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
    // ---- messages ----
    Scenario {
        name: "doubled_and_overtaken",
        within_ms: 200_000,
        road: Road { twice_percent: 20, late_percent: 30, ..GOOD_ROAD },
        ..CALM
    },
    Scenario { name: "bad_road", within_ms: 400_000, owners: 2, road: BAD_ROAD, ..CALM },
    Scenario {
        name: "two_halves",
        agents: 5,
        owners: 2,
        faults: &[
            ((3_000, 30_000), Part(0b00101, (1_000, 150_000))),
            ((20_000, 60_000), Part(0b01100, (1_000, 150_000))),
        ],
        ..CALM
    },
    Scenario {
        name: "parted_again_and_again",
        agents: 4,
        faults: &[
            ((1_000, 60_000), Part(0b0011, (500, 40_000))),
            ((1_000, 60_000), Part(0b0110, (500, 40_000))),
            ((1_000, 60_000), Part(0b1001, (500, 40_000))),
            ((1_000, 60_000), Part(0b0001, (500, 40_000))),
            ((1_000, 60_000), Part(0b1110, (500, 40_000))),
        ],
        ..CALM
    },
    // ---- sleep ----
    Scenario {
        name: "owner_sleeps",
        nobody_to_blame: true,
        faults: &[
            ((2_000, 40_000), Freeze(0, (20_000, 600_000))),
            ((2_000, 200_000), Freeze(0, (20_000, 120_000))),
        ],
        ..CALM
    },
    Scenario {
        name: "owner_without_slots_sleeps",
        nobody_to_blame: true,
        habits: &[(0, Habit::NoSlots), (1, Habit::Slow(10)), (2, Habit::Slow(6))],
        tasks: 12,
        faults: &[
            ((2_000, 40_000), Freeze(0, (20_000, 600_000))),
            ((2_000, 200_000), Freeze(0, (20_000, 600_000))),
        ],
        ..CALM
    },
    Scenario {
        name: "owner_clock_jumps",
        nobody_to_blame: true,
        habits: &[(0, Habit::Clock(110)), (1, Habit::Clock(90)), (2, Habit::Clock(120))],
        faults: &[
            ((2_000, 40_000), ClockJump(0, (20_000, 600_000))),
            ((2_000, 60_000), ClockJump(0, (20_000, 40_000_000))),
        ],
        ..CALM
    },
    Scenario {
        name: "worker_sleeps",
        habits: &[(1, Habit::Slow(4))],
        faults: &[
            ((2_000, 40_000), Freeze(1, (20_000, 600_000))),
            ((2_000, 40_000), Freeze(2, (20_000, 120_000))),
            ((2_000, 60_000), ClockJump(1, (1_000, 10_000_000))),
        ],
        ..CALM
    },
    Scenario {
        name: "all_sleep",
        owners: 2,
        road: lossy(5),
        faults: &[
            ((2_000, 60_000), Freeze(0, (20_000, 600_000))),
            ((2_000, 60_000), Freeze(1, (20_000, 600_000))),
            ((2_000, 60_000), Freeze(2, (20_000, 600_000))),
            ((2_000, 60_000), Freeze(0, (1_000, 30_000))),
            ((2_000, 60_000), Reboot(1, (500, 5_000))),
        ],
        ..CALM
    },
    // ---- full disks ----
    Scenario {
        name: "worker_disk_fills",
        faults: &[
            ((1_000, 40_000), DiskFull(1, (5_000, 100_000))),
            ((1_000, 40_000), DiskFull(2, (5_000, 100_000))),
        ],
        ..CALM
    },
    Scenario {
        name: "owner_disk_fills",
        faults: &[
            ((500, 60_000), DiskFull(0, (5_000, 100_000))),
            ((500, 60_000), DiskFull(0, (5_000, 100_000))),
        ],
        ..CALM
    },
    Scenario {
        name: "alone_and_disk_fills",
        agents: 1,
        tasks: 8,
        faults: &[((500, 40_000), DiskFull(0, (5_000, 200_000)))],
        ..CALM
    },
    Scenario {
        name: "no_room_for_state",
        owners: 2,
        faults: &[
            ((500, 60_000), StateFull(0, (2_000, 100_000))),
            ((500, 60_000), StateFull(1, (2_000, 100_000))),
            ((500, 60_000), StateFull(2, (2_000, 100_000))),
            ((500, 60_000), RebootInStep(0, (500, 20_000))),
        ],
        ..CALM
    },
    Scenario {
        name: "slow_disks",
        habits: &[(0, Habit::SlowDisk(1_500)), (1, Habit::SlowDisk(400)), (2, Habit::SlowDisk(80))],
        faults: &[
            ((500, 90_000), RebootInStep(0, (500, 5_000))),
            ((500, 90_000), RebootInStep(1, (500, 5_000))),
        ],
        ..CALM
    },
    // ---- stopping ----
    Scenario {
        name: "stop_and_start",
        faults: &[
            ((1_000, 60_000), StopAndStart(0, (1_000, 30_000))),
            ((1_000, 60_000), StopAndStart(1, (1_000, 30_000))),
            ((1_000, 60_000), StopAndStart(2, (1_000, 90_000))),
        ],
        ..CALM
    },
    Scenario {
        name: "owner_is_away_for_the_whole_encode",
        tasks: 4,
        habits: &[(0, Habit::NoSlots), (1, Habit::Slow(5)), (2, Habit::Slow(5))],
        faults: &[((8_000, 9_000), StopAndStart(0, (120_000, 200_000)))],
        ..CALM
    },
    // ---- liars ----
    Scenario { name: "liar_hoards", agents: 4, habits: &[(3, Lies(Lie::Hoards))], ..CALM },
    Scenario { name: "liar_dances", agents: 4, habits: &[(3, Lies(Lie::Dances))], ..CALM },
    Scenario { name: "liar_invents", agents: 4, habits: &[(3, Lies(Lie::Invents))], ..CALM },
    Scenario { name: "liar_drips", agents: 4, habits: &[(3, Lies(Lie::Drips))], ..CALM },
    Scenario { name: "liar_steals", agents: 4, habits: &[(3, Lies(Lie::Steals))], ..CALM },
    Scenario {
        name: "liar_starves",
        agents: 4,
        within_ms: 110_000,
        habits: &[(3, Lies(Lie::Starves))],
        ..CALM
    },
    Scenario {
        name: "liar_forgets",
        agents: 4,
        tasks: 12,
        habits: &[(3, Lies(Lie::Drips))],
        faults: &[
            ((1_000, 20_000), Reboot(3, (500, 5_000))),
            ((1_000, 30_000), Reboot(0, (500, 5_000))),
            ((20_000, 40_000), Reboot(0, (500, 5_000))),
        ],
        ..CALM
    },
    Scenario {
        name: "liar_keeps",
        agents: 4,
        hands_over: true,
        habits: &[(3, Lies(Lie::Keeps))],
        ..CALM
    },
    Scenario {
        name: "two_liars_and_restarts",
        agents: 5,
        road: lossy(5),
        habits: &[(3, Lies(Lie::Hoards)), (4, Lies(Lie::Invents))],
        faults: &[
            ((500, 90_000), RebootInStep(0, (500, 20_000))),
            ((500, 90_000), RebootInStep(1, (500, 20_000))),
            ((500, 90_000), Reboot(3, (500, 20_000))),
        ],
        ..CALM
    },
    // ---- whole jobs change hands ----
    Scenario { name: "hand_over", hands_over: true, within_ms: 150_000, ..CALM },
    Scenario {
        name: "hand_over_and_leave",
        hands_over: true,
        faults: &[((8_000, 40_000), StopAndStart(0, (30_000, 400_000)))],
        ..CALM
    },
    Scenario {
        name: "hand_over_and_crash",
        hands_over: true,
        owners: 2,
        agents: 4,
        road: lossy(5),
        faults: &[
            ((500, 90_000), RebootInStep(0, (500, 90_000))),
            ((500, 90_000), RebootInStep(1, (500, 90_000))),
            ((500, 90_000), RebootInStep(2, (500, 90_000))),
            ((500, 90_000), RebootInStep(3, (500, 90_000))),
            ((500, 120_000), Reboot(0, (500, 20_000))),
            ((500, 120_000), Reboot(2, (500, 20_000))),
        ],
        ..CALM
    },
    Scenario {
        name: "custodian_dies",
        hands_over: true,
        agents: 4,
        faults: &[((2_000, 60_000), Die(3))],
        ..CALM
    },
    Scenario {
        name: "custodian_comes_back_late",
        hands_over: true,
        agents: 4,
        faults: &[((5_000, 40_000), Part(0b1000, (500_000, 900_000)))],
        ..CALM
    },
    Scenario {
        name: "handed_over_and_taken_back",
        hands_over: true,
        road: lossy(5),
        faults: &[((1_000, 60_000), TakeBack(0)), ((1_000, 60_000), Isolate(0, (1_000, 60_000)))],
        ..CALM
    },
    Scenario {
        name: "handed_over_and_cancelled",
        hands_over: true,
        road: lossy(5),
        faults: &[
            ((1_000, 60_000), Cancel(0)),
            ((1_000, 60_000), RebootInStep(2, (500, 20_000))),
            ((1_000, 60_000), Isolate(0, (1_000, 60_000))),
        ],
        expect: Expect::CancelledOrDone,
        ..CALM
    },
    Scenario {
        name: "nobody_takes_it",
        hands_over: true,
        habits: &[(1, Habit::NoCustody), (2, Habit::NoCustody)],
        ..CALM
    },
    // ---- everything at once ----
    Scenario { name: "chaos", chaos: true, ..CALM },
];
