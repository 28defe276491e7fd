//! Runs the simulator: `sim --seeds 0..10000 --scenario all`.

use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use dmc_tests::faults::Scenario;
use dmc_tests::race::{Race, median};
use dmc_tests::runner::{all_cores, run_all, table};
use dmc_tests::scenarios::SCENARIOS;
use dmc_tests::world::World;

/// Plays scenarios of a whole mesh under virtual time, one for each seed, and says which rules were
/// broken. The same scenario and seed give the same run on every machine.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Args {
    /// Seeds, the last one not included.
    #[arg(long, default_value = "0..100", value_name = "FROM..TO", value_parser = seeds)]
    seeds: Range<u64>,
    /// A scenario by name, several with commas between them, or `all`.
    #[arg(long, default_value = "all", value_name = "NAME")]
    scenario: String,
    /// Threads; as many as there are cores, if not said.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Tell on standard error what happens in the run; for one scenario and seed.
    #[arg(long)]
    tell: bool,
    /// Only say what scenarios there are.
    #[arg(long)]
    list: bool,
    /// How well so many unequal agents share the work, instead of what goes wrong.
    #[arg(long, value_name = "AGENTS")]
    race: Option<usize>,
    /// Race: each agent has a film of its own of so many seconds; without it, one has a film of two
    /// hours.
    #[arg(long, value_name = "SECONDS", requires = "race")]
    films: Option<u64>,
}

/// Races under each seed, as a table for people.
fn race(agents: usize, films: Option<u64>, seeds: Range<u64>, tell: bool) -> String {
    let mut lines = vec![
        "seed  makespan s  ideal s  of ideal  tasks  grants  messages a task  a second".to_owned(),
    ];
    let mut reached = Vec::new();
    for seed in seeds {
        let outcome = match films {
            Some(film_s) => Race::films(agents, film_s, seed),
            None => Race::film(agents, seed),
        }
        .run();
        reached.push(outcome.efficiency());
        lines.push(format!(
            "{seed:>4}  {:>10.1}  {:>7.1}  {:>7.1}%  {:>5}  {:>6}  {:>15.1}  {:>8.1}",
            outcome.makespan_ms as f64 / 1_000.0,
            outcome.ideal_ms as f64 / 1_000.0,
            100.0 * outcome.efficiency(),
            outcome.tasks,
            outcome.grants,
            outcome.work_messages_per_task(),
            outcome.messages_per_agent_second(agents),
        ));
        if tell {
            lines.push(format!("{:?}", outcome.messages));
        }
    }
    lines.push(format!("median: {:.1} % of ideal", 100.0 * median(reached)));
    lines.join("\n")
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let form = || format!("`{text}` is not of the form FROM..TO, for example 0..100");
    let (from, to) = text.split_once("..").ok_or_else(form)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| form());
    let seeds = number(from)?..number(to)?;
    if seeds.is_empty() { Err(format!("no seed is in {text}")) } else { Ok(seeds) }
}

fn chosen(names: &str) -> Result<Vec<&'static Scenario>, String> {
    if names == "all" {
        return Ok(SCENARIOS.iter().collect());
    }
    let find = |name: &str| {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| format!("no scenario is called `{name}`; `sim --list` names them"))
    };
    names.split(',').map(find).collect()
}

#[expect(clippy::print_stdout, reason = "a command line program")]
fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        SCENARIOS.iter().for_each(|scenario| println!("{}", scenario.name));
        return ExitCode::SUCCESS;
    }
    if let Some(agents) = args.race {
        println!("{}", race(agents, args.films, args.seeds, args.tell));
        return ExitCode::SUCCESS;
    }
    let scenarios = match chosen(&args.scenario) {
        Ok(scenarios) => scenarios,
        Err(error) => {
            eprintln!("sim: {error}");
            return ExitCode::from(2);
        }
    };
    if args.tell {
        let reports = scenarios.iter().map(|of| World::tell(of, args.seeds.start));
        reports.for_each(|report| println!("{report:#?}"));
        return ExitCode::SUCCESS;
    }
    // A panic is told with the line that replays it.
    std::panic::set_hook(Box::new(|_| {}));
    let started = Instant::now();
    let rows = run_all(&scenarios, &args.seeds, args.threads.unwrap_or_else(all_cores));
    println!("{}", table(&rows));
    let complaints: Vec<String> = rows.iter().flat_map(|row| row.complaints()).collect();
    complaints.iter().for_each(|complaint| println!("\n{complaint}"));
    let runs: u64 = rows.iter().map(|row| row.runs).sum();
    let violations: u64 = rows.iter().map(|row| row.violations).sum();
    let seconds = started.elapsed().as_secs_f64();
    println!("\n{runs} runs in {seconds:.1} s, {violations} with violations");
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
