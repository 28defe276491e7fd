//! What runs on this very machine, and how busy and warm a machine is.

use maud::{Markup, html};

use super::super::running::RunningView;
use super::words;

/// How busy and how warm a machine is, as far as it tells.
pub(super) fn machine(
    load: Option<f64>,
    threads: Option<u32>,
    degrees: Option<u8>,
    share_percent: Option<u8>,
) -> Markup {
    html! {
        @if let Some(load) = load {
            li.load { "load " (format!("{load:.2}"))
                @if let Some(threads) = threads {
                    " on " (words::many(u64::from(threads), "thread", "threads"))
                } }
        }
        @if let Some(degrees) = degrees { li.temperature { (degrees) " °C" } }
        @if let Some(share) = share_percent { li { "encoders run " (share) " % of the time" } }
    }
}

/// The programs that run on this very machine, for whomever.
pub(super) fn conversions(running: &[RunningView]) -> Markup {
    html! {
        @if !running.is_empty() {
            details #conversions {
                summary { (words::many(running.len() as u64, "conversion", "conversions")) " here" }
                div.scroll { table {
                    thead { tr {
                        th scope="col" { "What" }
                        th scope="col" { "For" }
                        th scope="col" { "Encoder" }
                        th.number scope="col" { "Done" }
                        th.number scope="col" { "Speed" }
                        th scope="col" { "Since" }
                        th.number scope="col" { "Process" }
                    } }
                    tbody { @for one in running { (conversion(one)) } }
                } }
            }
        }
    }
}

fn conversion(one: &RunningView) -> Markup {
    html! {
        tr {
            th scope="row" {
                @if one.own {
                    a href={ "jobs/" (one.job) } {
                        @match &one.item {
                            Some(item) => (words::file_name(item)),
                            None => "a job",
                        }
                    } ", "
                }
                (one.label)
                @if one.paused { " " span.badge data-state="paused" { "stopped" } }
            }
            td { @if one.own { "this agent" } @else { (one.owner_name) } }
            td { (one.encoder) }
            td.number { (one.progress.map_or_else(|| "–".to_owned(), words::percent)) }
            td.number { @if one.fps > 0.0 { (words::fps(one.fps)) } @else { "–" } }
            td { @match &one.started_at { Some(at) => (words::moment(at)), None => "–" } }
            td.number { (one.pid.map_or_else(|| "–".to_owned(), |pid| pid.to_string())) }
        }
    }
}
