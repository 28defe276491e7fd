//! The map of a film: a mark for each part, as wide as the part is long, in the colour of the agent
//! that makes it.
//!
//! Colour is not the only sign: each agent has a letter, and each state its own outline.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::super::views::{JobView, TaskView};

/// Colours that are told apart.
const COLOURS: usize = 8;
/// Width of a row in per cent: rows are as wide as the page, and as high on a telephone as elsewhere.
const WIDTH: f64 = 100.0;
/// Height of a row and the room below it, in pixels.
const ROW: f64 = 26.0;
const GAP: f64 = 6.0;
/// Parts of a row while there are few rows.
const ROW_PARTS: usize = 24;
const ROWS_MAX: usize = 16;
/// The least width of a mark that holds a letter, in per cent: on a telephone and on other screens.
const LETTER_WIDTH: f64 = 3.4;
const FINE_WIDTH: f64 = 1.3;
/// More parts than these are shown together where neighbours are alike.
const MARKS_MAX: usize = 1_500;
/// A part of unknown length is as long as this part of all.
const UNKNOWN: f64 = 0.04;

/// The agents that work for a job, in the order of their ids: it is the same at every look.
pub(super) struct Agents(BTreeMap<String, String>);

impl Agents {
    pub(super) fn of(job: &JobView) -> Agents {
        let workers = job.workers.iter().map(|worker| (worker.id.clone(), worker.name.clone()));
        let makers = job.tasks.iter().filter_map(|task| {
            Some((task.worker.clone()?, task.worker_name.clone().unwrap_or_default()))
        });
        Agents(makers.chain(workers).collect())
    }

    fn place(&self, id: &str) -> Option<usize> {
        self.0.keys().position(|known| known == id)
    }

    /// The letter of an agent: A, B, … then A again.
    fn letter(place: usize) -> char {
        char::from(b'A' + u8::try_from(place % 26).unwrap_or(0))
    }

    /// The sign of an agent: its letter on its colour.
    pub(super) fn key(&self, id: &str) -> Markup {
        html! {
            @if let Some(place) = self.place(id) {
                span class={ "key agent-" (place % COLOURS) } aria-hidden="true" {
                    (Agents::letter(place))
                }
            }
        }
    }
}

/// The state of a part in words.
pub(super) fn state_word(state: &str) -> &str {
    match state {
        "waiting" => "waiting",
        "cutting" => "being cut out",
        "ready" => "ready to be encoded",
        "leased" => "being encoded",
        "fetching" => "encoded, on its way back",
        "committed" => "done",
        other => other,
    }
}

/// The state of a part in words; of one that is with an agent, whether that has begun.
fn told_state<'a>(task: &'a TaskView, queued: &BTreeSet<u32>) -> &'a str {
    match task.state.as_str() {
        "leased" if queued.contains(&task.index) => "waiting for its turn",
        state => state_word(state),
    }
}

/// Parts that wait at every agent that has them.
fn queued(job: &JobView) -> BTreeSet<u32> {
    let holds = || job.workers.iter().flat_map(|worker| &worker.holds);
    let begun: BTreeSet<u32> =
        holds().filter(|hold| hold.state != "queued").map(|hold| hold.task).collect();
    holds().map(|hold| hold.task).filter(|task| !begun.contains(task)).collect()
}

/// A part, or neighbours that are alike.
#[derive(Debug, Clone, PartialEq)]
struct Mark {
    title: String,
    state: String,
    agent: Option<usize>,
    /// The wanted width, in frames.
    weight: f64,
}

/// Where a mark lies.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spot {
    x: f64,
    y: f64,
    width: f64,
}

/// Who makes or made it.
fn maker(task: &TaskView) -> Option<(&str, &str)> {
    let leased = || {
        let attempt = task.attempts.iter().find(|attempt| attempt.state == "leased")?;
        Some((attempt.worker.as_str(), attempt.worker_name.as_str()))
    };
    match (&task.worker, &task.worker_name) {
        (Some(id), name) => Some((id, name.as_deref().unwrap_or_default())),
        (None, _) => leased(),
    }
}

fn marks(tasks: &[TaskView], agents: &Agents, queued: &BTreeSet<u32>) -> Vec<Mark> {
    let known: u64 = tasks.iter().filter_map(|task| task.frames).sum();
    let unknown = (known as f64 * UNKNOWN).max(1.0);
    let mark = |task: &TaskView| {
        let maker = maker(task);
        let by = maker.map(|(_, name)| format!(", {name}")).unwrap_or_default();
        Mark {
            title: format!("{}: {}{by}", task.label, told_state(task, queued)),
            state: task.state.clone(),
            agent: maker.and_then(|(id, _)| agents.place(id)),
            weight: task.frames.filter(|n| *n > 0).map_or(unknown, |n| n as f64),
        }
    };
    let mut marks: Vec<Mark> = Vec::new();
    for task in tasks {
        let next = mark(task);
        match marks.last_mut() {
            Some(last)
                if tasks.len() > MARKS_MAX
                    && (&last.state, last.agent) == (&next.state, next.agent) =>
            {
                last.weight += next.weight;
                let begin = last.title.split(" … ").next().unwrap_or_default().to_owned();
                last.title = format!("{begin} … {}", next.title);
            }
            _ => marks.push(next),
        }
    }
    marks
}

/// Lays marks out in rows like words of a text: each row takes about the same length of film, and
/// is filled to its end.
fn layout(weights: &[f64]) -> Vec<Spot> {
    let rows = weights.len().div_ceil(ROW_PARTS).clamp(1, ROWS_MAX);
    let total: f64 = weights.iter().sum();
    let share = total / rows as f64;
    let (mut lines, mut before): (Vec<Vec<f64>>, f64) = (Vec::new(), 0.0);
    for weight in weights {
        // By its middle, so that a long part does not leave a row half empty.
        let row = (((before + weight / 2.0) / share) as usize).min(rows - 1);
        if lines.is_empty() || row >= lines.len() {
            lines.push(Vec::new());
        }
        lines.last_mut().into_iter().for_each(|line| line.push(*weight));
        before += weight;
    }
    let mut spots = Vec::with_capacity(weights.len());
    for (number, line) in lines.iter().enumerate() {
        let scale = WIDTH / line.iter().sum::<f64>();
        let mut x = 0.0;
        for weight in line {
            spots.push(Spot { x, y: number as f64 * (ROW + GAP), width: weight * scale });
            x += weight * scale;
        }
    }
    spots
}

/// The map and what its signs mean.
pub(super) fn figure(job: &JobView, agents: &Agents) -> Markup {
    if job.tasks.is_empty() {
        return html! {};
    }
    let marks = marks(&job.tasks, agents, &queued(job));
    let weights: Vec<f64> = marks.iter().map(|mark| mark.weight).collect();
    let spots = layout(&weights);
    let height = spots.last().map_or(ROW, |last| last.y + ROW);
    let label = format!("Map of the film: {} of {} parts done", job.tasks_done, job.tasks_total);
    html! {
        figure.map {
            svg width="100%" height=(height) role="group" aria-label=(label) {
                @for (mark, spot) in marks.iter().zip(&spots) { (drawn(mark, *spot)) }
            }
            figcaption { (legend(job, agents)) }
        }
    }
}

fn drawn(mark: &Mark, spot: Spot) -> Markup {
    // The outline lies inside, and neighbours do not touch.
    let inset = (spot.width / 8.0).min(0.12);
    let percent = |value: f64| format!("{value:.3}%");
    let agent = mark.agent.filter(|_| ["leased", "fetching", "committed"].contains(&&*mark.state));
    let class = agent.map(|place| format!("segment mark agent-{}", place % COLOURS));
    html! {
        g class=(class.as_deref().unwrap_or("segment mark")) data-state=(mark.state) role="img"
            aria-label=(mark.title) {
            title { (mark.title) }
            rect x=(percent(spot.x + inset)) y=(spot.y + 1.0) rx="2"
                width=(percent(spot.width - 2.0 * inset)) height=(ROW - 2.0) {}
            @if let Some(place) = agent.filter(|_| spot.width >= FINE_WIDTH) {
                text class=(if spot.width < LETTER_WIDTH { "fine" } else { "" })
                    x=(percent(spot.x + spot.width / 2.0)) y=(spot.y + ROW / 2.0) {
                    (Agents::letter(place))
                }
            }
        }
    }
}

fn legend(job: &JobView, agents: &Agents) -> Markup {
    const STATES: [&str; 6] = ["waiting", "cutting", "ready", "leased", "fetching", "committed"];
    let seen = |state: &&str| job.tasks.iter().any(|task| task.state == *state);
    html! {
        ul.legend aria-label="Agents" {
            @for (id, name) in &agents.0 { li { (agents.key(id)) " " (name) } }
        }
        ul.legend aria-label="States" {
            @for state in STATES.into_iter().filter(seen) {
                li {
                    svg.sample viewBox="0 0 22 14" aria-hidden="true" {
                        g.mark.agent-none data-state=(state) {
                            rect x="1" y="1" width="20" height="12" rx="2" {}
                        }
                    }
                    " " (state_word(state))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(index: u32, state: &str, worker: Option<&str>, frames: Option<u64>) -> TaskView {
        TaskView {
            index,
            label: format!("segment {index}"),
            state: state.to_owned(),
            rung: "pieces".to_owned(),
            worker: worker.map(str::to_owned),
            worker_name: worker.map(|name| name.to_uppercase()),
            frames,
            encode_s: None,
            bytes: None,
            attempts: Vec::new(),
        }
    }

    fn ends(spots: &[Spot], y: f64) -> f64 {
        spots.iter().filter(|spot| spot.y == y).map(|spot| spot.width).sum()
    }

    #[test]
    fn a_short_film_is_one_row_in_proportion() {
        let spots = layout(&[100.0, 200.0, 100.0]);
        assert_eq!(spots[0], Spot { x: 0.0, y: 0.0, width: 25.0 });
        assert_eq!(spots[1], Spot { x: 25.0, y: 0.0, width: 50.0 });
        assert_eq!(spots[2], Spot { x: 75.0, y: 0.0, width: 25.0 });
    }

    #[test]
    fn rows_are_full_and_few() {
        for count in [1, 24, 25, 100, 384, 5_000] {
            let weights: Vec<f64> = (0..count).map(|n| 200.0 + f64::from(n % 7)).collect();
            let spots = layout(&weights);
            assert_eq!(spots.len(), weights.len());
            let rows = weights.len().div_ceil(ROW_PARTS).min(ROWS_MAX);
            for row in 0..rows {
                let end = ends(&spots, row as f64 * (ROW + GAP));
                assert!((end - WIDTH).abs() < 1e-6, "{count} parts, row {row} ends at {end}");
            }
        }
        assert!(layout(&[]).is_empty());
    }

    #[test]
    fn one_part_that_is_nearly_all_leaves_no_row_out() {
        let mut weights = vec![1.0; 60];
        weights[30] = 1_000_000.0;
        let spots = layout(&weights);
        let mut rows: Vec<f64> = spots.iter().map(|spot| spot.y).collect();
        rows.dedup();
        let next = |pair: &[f64]| pair[1] - pair[0] == ROW + GAP;
        assert!(rows.windows(2).all(next), "{rows:?}");
        assert!(spots.iter().all(|spot| spot.width.is_finite() && spot.width > 0.0));
    }

    #[test]
    fn parts_of_unknown_length_are_seen_and_alike_neighbours_of_long_films_meet() {
        let agents = Agents([("a", "A"), ("b", "B")].map(|(a, b)| (a.into(), b.into())).into());
        let tasks = [task(0, "committed", Some("b"), Some(100)), task(1, "waiting", None, None)];
        let found = marks(&tasks, &agents, &BTreeSet::new());
        assert_eq!((found[0].agent, found[0].weight, found[1].weight), (Some(1), 100.0, 4.0));
        assert_eq!(found[0].title, "segment 0: done, B");
        let many: Vec<TaskView> = (0..2_000)
            .map(|n| task(n, "committed", Some(if n < 500 { "a" } else { "b" }), Some(10)))
            .collect();
        let found = marks(&many, &agents, &BTreeSet::new());
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].title, "segment 500: done, B … segment 1999: done, B");
    }
}
