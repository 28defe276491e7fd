//! Every scenario of the simulator under a few seeds. `cargo run -p tests --bin sim` runs more.

use dmc_tests::faults::Scenario;
use dmc_tests::race::{Race, median};
use dmc_tests::runner::{all_cores, run_all, table};
use dmc_tests::scenarios::SCENARIOS;
use dmc_tests::world::World;

/// Seeds of each scenario.
const SEEDS: u64 = 8;

/// Seeds under which a rule was broken once, and what was wrong.
const FOUND: &[(&str, u64, &str)] = &[
    ("liar_dances", 0, "progress that goes up and down counted as progress, so leases never ended"),
    ("chaos", 120, "a worker that lists nothing kept its leases when nobody else had bid"),
    ("chaos", 311, "a custodian that said `working` for ever kept the job for ever"),
    ("chaos", 100_757, "the same, when others had bid for nothing"),
    (
        "owner_clock_jumps",
        20_855,
        "what waited while the owner slept ended a lease before its tick",
    ),
    ("liar_starves", 9, "an input that no disk holds made a worker bid to nobody for a minute"),
];

#[test]
fn scenarios_end_as_they_must() {
    let scenarios: Vec<&Scenario> = SCENARIOS.iter().collect();
    let rows = run_all(&scenarios, &(0..SEEDS), all_cores());
    println!("{}", table(&rows));
    let complaints: Vec<String> = rows.iter().flat_map(|row| row.complaints()).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
    let late = rows.iter().find(|row| row.scenario == "late_result").map_or(0, |row| row.late);
    assert!(late > 0, "a result of an ended lease is used");
}

#[test]
fn what_was_found_once_stays_mended() {
    for (name, seed, what) in FOUND {
        let scenario = SCENARIOS.iter().find(|scenario| scenario.name == *name);
        let scenario = scenario.expect("a scenario of this name");
        let broken = World::run(scenario, *seed).broken;
        assert!(broken.is_empty(), "{name} under seed {seed}, where {what}: {broken:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.owners > 1 || scenario.chaos) {
        let (once, twice) = (World::run(scenario, 7), World::run(scenario, 7));
        assert_eq!(once, twice, "{}", scenario.name);
        assert_ne!(once.trace, World::run(scenario, 8).trace, "the seed matters");
    }
}

/// Shares of the ideal speed that a mesh of unequal machines must reach with a film of two hours:
/// what only the mesh itself can lose, so this is no matter of the machine that tests.
#[test]
fn unequal_machines_share_a_film_well() {
    for (agents, share, seeds) in [(2, 0.97, 0..3), (16, 0.95, 0..5), (64, 0.89, 0..1)] {
        let reached = seeds.map(|seed| Race::film(agents, seed).run().efficiency());
        let reached = median(reached.collect());
        assert!(reached >= share, "{agents} agents reach {reached:.3} of the ideal");
    }
}

#[test]
fn a_machine_that_slows_down_unnoticed_holds_nobody_up() {
    let calm = Race { film_s: 1_200, ..Race::film(8, 3) };
    let hurt = Race { straggler: Some(5), ..calm };
    let (calm, hurt) = (calm.run(), hurt.run());
    // At worst its segment is done once more by somebody else.
    let limit = calm.makespan_ms * 13 / 10;
    assert!(hurt.makespan_ms <= limit, "{} instead of {} ms", hurt.makespan_ms, calm.makespan_ms);
}

#[test]
fn owners_get_the_same_share_and_nobody_tells_everybody_of_every_task() {
    let outcome = Race { speed_percent: (50, 50), ..Race::films(12, 240, 5) }.run();
    let (first, last) = (outcome.ends_ms.iter().min(), outcome.ends_ms.iter().max());
    let (first, last) = (first.copied().unwrap_or(0), last.copied().unwrap_or(u64::MAX));
    assert!(first * 2 >= last, "one film is done after {first} ms, another after {last}");
    let messages = outcome.work_messages_per_task();
    assert!(messages < 40.0, "{messages:.1} messages a task");
}
