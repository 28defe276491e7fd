//! Numbers and states in words.

use std::path::Path;

use jiff::Timestamp;
use maud::{Markup, html};

use super::super::views::JobView;

/// Bytes with a decimal unit: `1.23 GB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1_000 {
        return format!("{count} B");
    }
    let (mut value, mut unit) = (count as f64 / 1e3, 0);
    // What would round to four digits is told in the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1e3, unit + 1);
    }
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A count with thousands set apart: `12,345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `one part`, `3 parts`.
pub(super) fn many(number: u64, one: &str, more: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { more })
}

/// A time in its two largest units: `2 h 5 min`.
pub(super) fn duration(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let at = UNITS.iter().position(|(_, length)| seconds >= *length).unwrap_or(3);
    let (unit, length) = UNITS[at];
    let (whole, rest) = (seconds / length, seconds % length);
    match UNITS.get(at + 1) {
        Some((smaller, length)) if rest / length > 0 => {
            format!("{whole} {unit} {} {smaller}", rest / length)
        }
        _ => format!("{whole} {unit}"),
    }
}

/// How long the frames that are left take; `None` while nothing is encoded.
pub(super) fn eta(frames: u64, frames_total: u64, fps: f64) -> Option<String> {
    let left = frames_total.checked_sub(frames).filter(|left| *left > 0)?;
    (fps > 0.05).then(|| duration((left as f64 / fps).ceil() as u64))
}

/// How long ago: `3 min ago`.
pub(super) fn age(now: Timestamp, then: &str) -> String {
    let Ok(then) = then.parse::<Timestamp>() else { return String::new() };
    match now.as_second() - then.as_second() {
        ..5 => "just now".to_owned(),
        seconds => {
            let text = duration(seconds.unsigned_abs());
            let largest = text.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ");
            format!("{largest} ago")
        }
    }
}

/// A moment for people, with its age.
pub(super) fn moment(then: &str) -> Markup {
    let text = age(Timestamp::now(), then);
    html! { time datetime=(then) title=(then) { (text) } }
}

/// What a conversion changed in size: `62 % smaller`.
pub(super) fn saved(before: u64, after: u64) -> Option<String> {
    if before == 0 {
        return None;
    }
    let percent = (1.0 - after as f64 / before as f64) * 100.0;
    Some(match percent.round() {
        0.0 => "same size".to_owned(),
        percent if percent > 0.0 => format!("{percent:.0} % smaller"),
        percent => format!("{:.0} % larger", -percent),
    })
}

/// The same for tables: `−62 %`.
pub(super) fn change(before: u64, after: u64) -> String {
    if before == 0 {
        return "–".to_owned();
    }
    match ((after as f64 / before as f64 - 1.0) * 100.0).round() {
        0.0 => "0 %".to_owned(),
        percent if percent < 0.0 => format!("−{:.0} %", -percent),
        percent => format!("+{percent:.0} %"),
    }
}

/// A part of the whole in per cent; all of it only when nothing is left.
pub(super) fn percent(part: f64) -> String {
    format!("{:.0} %", (part.clamp(0.0, 1.0) * 100.0).floor())
}

/// Frames a second.
pub(super) fn fps(fps: f64) -> String {
    if fps < 9.95 { format!("{fps:.1} fps") } else { format!("{fps:.0} fps") }
}

/// The name of a file. It may hold any characters, also such as turn the direction of what follows.
pub(super) fn file_name(path: &Path) -> Markup {
    html! { bdi { (plain_name(path)) } }
}

/// The name of a file as text.
pub(super) fn plain_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Where a job stands.
pub(super) fn status(job: &JobView) -> &'static str {
    match (job.status.as_str(), job.phase.as_str()) {
        ("finished_successful", _) => "Done",
        ("finished_with_errors", _) => "Failed",
        ("cancelled", _) => "Cancelled",
        (_, "waiting") => "Waiting",
        (_, "planning") => "Reading the source",
        (_, "encoding") => "Encoding",
        (_, "joining") => "Joining the parts",
        (_, "verifying") => "Checking the result",
        (_, "publishing") => "Putting the result in place",
        (_, "handing_over") => "Handing over",
        (_, "handed_over") => "With another agent",
        (_, "returning") => "Coming back",
        ("to_do", _) => "Waiting",
        _ => "Running",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (12_345, "12.3 kB"),
            (999_499, "999 kB"),
            (999_600, "1.00 MB"),
            (4_000_000_000, "4.00 GB"),
            (u64::MAX, "18447 PB"),
        ];
        for (given, expected) in cases {
            assert_eq!(bytes(given), expected);
        }
    }

    #[test]
    fn counts_are_set_apart() {
        for (given, expected) in
            [(7, "7"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(count(given), expected);
        }
        assert_eq!(
            (many(1, "job", "jobs"), many(2, "job", "jobs")),
            ("1 job".into(), "2 jobs".into())
        );
    }

    #[test]
    fn times_have_two_units() {
        let cases = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (125, "2 min 5 s"),
            (3_600, "1 h"),
            (7_510, "2 h 5 min"),
            (90_000, "1 d 1 h"),
        ];
        for (given, expected) in cases {
            assert_eq!(duration(given), expected);
        }
    }

    #[test]
    fn what_is_left_is_told_only_while_something_runs() {
        assert_eq!(eta(100, 400, 10.0).as_deref(), Some("30 s"));
        for (frames, total, fps) in [(100, 400, 0.0), (400, 400, 10.0), (5, 0, 10.0)] {
            assert_eq!(eta(frames, total, fps), None);
        }
    }

    #[test]
    fn ages_have_one_unit() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let cases = [
            ("2026-01-01T11:59:58Z", "just now"),
            ("2026-01-01T12:00:30Z", "just now"),
            ("2026-01-01T11:56:40Z", "3 min ago"),
            ("2025-12-30T10:00:00Z", "2 d ago"),
            ("never", ""),
        ];
        for (then, expected) in cases {
            assert_eq!(age(now, then), expected);
        }
    }

    #[test]
    fn savings_are_told_either_way() {
        let cases = [
            (100, 38, Some("62 % smaller")),
            (100, 104, Some("4 % larger")),
            (1_000, 1_001, Some("same size")),
            (0, 5, None),
        ];
        for (before, after, expected) in cases {
            assert_eq!(saved(before, after).as_deref(), expected);
        }
        assert_eq!([change(100, 38), change(100, 104), change(0, 1)], ["−62 %", "+4 %", "–"]);
        assert_eq!((percent(0.999), percent(1.0)), ("99 %".into(), "100 %".into()));
    }
}
