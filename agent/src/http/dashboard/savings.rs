//! How much smaller the finished jobs made their files.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use jiff::civil::Date;
use maud::{Markup, html};

use super::super::statistics::{self, Bytes, Cache, Sum};
use super::{Frame, View, words};
use crate::runtime::Shared;

type Agent = State<Arc<Shared>>;

/// More days than these are shown as months.
const DAYS_MAX: i64 = 60;
/// Columns of the chart, the newest.
const COLUMNS_MAX: usize = 60;
/// Width of the chart in per cent: it is as wide as the page.
const WIDTH: f64 = 100.0;
/// Height of the highest column, and the room above and below for words, in pixels.
const HEIGHT: f64 = 180.0;
const ABOVE: f64 = 18.0;
const BELOW: f64 = 22.0;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/savings", get(show))
}

async fn show(
    State(shared): Agent,
    Extension(cache): Extension<Arc<Cache>>,
    frame: Frame,
) -> Response {
    let sum = statistics::of(&shared, &cache).await;
    frame.answer(View::Savings, "Savings", sum.map(|sum| content(&sum)))
}

fn content(sum: &Sum) -> Markup {
    html! {
        h1 { "Savings" }
        @if sum.all.jobs == 0 {
            div.empty {
                p { "No job is finished yet." }
                p { "What finished jobs saved is summed up here. " a href="jobs" { "Add a job" } "." }
            }
        } @else {
            (headline(sum))
            (over_time(sum))
            (by_codec(sum))
        }
    }
}

fn headline(sum: &Sum) -> Markup {
    let all = sum.all;
    html! {
        dl.numbers {
            div { dt { "Before" } dd { (words::bytes(all.before)) } }
            div { dt { "After" } dd { (words::bytes(all.after)) } }
            div {
                dt { @if all.after <= all.before { "Saved" } @else { "Grown by" } }
                dd { (words::bytes(all.before.abs_diff(all.after))) }
            }
            @if let Some(saved) = words::saved(all.before, all.after) {
                div { dt { "Change" } dd { (saved) } }
            }
            div { dt { "Jobs" } dd { (words::count(all.jobs)) } }
        }
        @if sum.cut {
            p.hint { "Only the newest " (words::count(statistics::JOBS_MAX as u64)) " finished jobs are counted." }
        }
    }
}

/// The columns of the chart: days, or months when there are too many days.
fn columns(days: &BTreeMap<Date, Bytes>) -> Vec<(String, Bytes)> {
    let (Some((first, _)), Some((last, _))) = (days.first_key_value(), days.last_key_value())
    else {
        return Vec::new();
    };
    let span = last.since(*first).map_or(i64::MAX, |span| i64::from(span.get_days()));
    let mut columns: BTreeMap<String, Bytes> = BTreeMap::new();
    for (day, bytes) in days {
        let name = if span <= DAYS_MAX {
            day.to_string()
        } else {
            format!("{:04}-{:02}", day.year(), day.month())
        };
        columns.entry(name).or_default().add(*bytes);
    }
    let surplus = columns.len().saturating_sub(COLUMNS_MAX);
    columns.into_iter().skip(surplus).collect()
}

fn over_time(sum: &Sum) -> Markup {
    let columns = columns(&sum.days);
    html! {
        section.panel aria-labelledby="time-title" {
            h2 #time-title { "Over time" }
            (chart(&columns))
            ul.legend {
                li { span.swatch.before {} " before" }
                li { span.swatch.after {} " after" }
            }
            details #time-table {
                summary { "The same as a table" }
                (table("When", columns.iter().rev().map(|(name, bytes)| (name.as_str(), *bytes))))
            }
        }
    }
}

fn chart(columns: &[(String, Bytes)]) -> Markup {
    let most = columns.iter().map(|(_, of)| of.before.max(of.after)).max().unwrap_or(0);
    let width = WIDTH / columns.len().max(12) as f64;
    let height = |bytes: u64| HEIGHT * bytes as f64 / most.max(1) as f64;
    let percent = |value: f64| format!("{value:.2}%");
    let bar = |class: &str, x: f64, width: f64, bytes: u64| {
        let tall = height(bytes).max(1.0);
        html! {
            rect class=(class) x=(percent(x)) y=(format!("{:.1}", ABOVE + HEIGHT - tall))
                width=(percent(width)) height=(format!("{tall:.1}")) {}
        }
    };
    html! {
        svg.chart width="100%" height=(ABOVE + HEIGHT + BELOW) role="img"
            aria-label="Bytes before and after, over time; the table below has the numbers" {
            line x1="0" x2="100%" y1=(ABOVE) y2=(ABOVE) {}
            line x1="0" x2="100%" y1=(ABOVE + HEIGHT) y2=(ABOVE + HEIGHT) {}
            text x="0" y=(ABOVE - 5.0) { (words::bytes(most)) }
            @for (number, (name, of)) in columns.iter().enumerate() {
                @let x = number as f64 * width;
                g {
                    title { (name) ": " (words::bytes(of.before)) " before, "
                        (words::bytes(of.after)) " after" }
                    (bar("before", x + width * 0.1, width * 0.38, of.before))
                    (bar("after", x + width * 0.52, width * 0.38, of.after))
                }
            }
            @if let Some((first, _)) = columns.first() {
                text x="0" y=(ABOVE + HEIGHT + 16.0) { (first) }
            }
            @if let Some((last, _)) = columns.last().filter(|_| columns.len() > 4) {
                text.end x=(percent(width * columns.len() as f64)) y=(ABOVE + HEIGHT + 16.0) { (last) }
            }
        }
    }
}

fn by_codec(sum: &Sum) -> Markup {
    html! {
        section.panel aria-labelledby="codec-title" {
            h2 #codec-title { "By codec" }
            (table("Codec", sum.codecs.iter().map(|(name, bytes)| (name.as_str(), *bytes))))
        }
    }
}

fn table<'a>(of: &str, rows: impl Iterator<Item = (&'a str, Bytes)>) -> Markup {
    html! {
        div.scroll {
            table {
                thead { tr {
                    th scope="col" { (of) }
                    th.number scope="col" { "Jobs" }
                    th.number scope="col" { "Before" }
                    th.number scope="col" { "After" }
                    th.number scope="col" { "Change" }
                } }
                tbody {
                    @for (name, bytes) in rows {
                        tr {
                            th scope="row" { (name) }
                            td.number { (words::count(bytes.jobs)) }
                            td.number { (words::bytes(bytes.before)) }
                            td.number { (words::bytes(bytes.after)) }
                            td.number { (words::change(bytes.before, bytes.after)) }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(all: &[&str]) -> Vec<String> {
        let bytes = Bytes { jobs: 1, before: 10, after: 5 };
        let days = all.iter().map(|day| (day.parse().unwrap(), bytes)).collect();
        columns(&days).into_iter().map(|(name, of)| format!("{name}: {}", of.jobs)).collect()
    }

    #[test]
    fn many_days_are_told_as_months() {
        assert_eq!(days(&["2026-01-02", "2026-01-05"]), ["2026-01-02: 1", "2026-01-05: 1"]);
        let far = days(&["2025-10-01", "2026-01-02", "2026-01-05"]);
        assert_eq!(far, ["2025-10: 1", "2026-01: 2"]);
        assert!(days(&[]).is_empty());
    }
}
