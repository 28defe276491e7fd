//! When this agent works: spans of local time in which it takes new work.

use std::fmt;

use jiff::civil::Time;
use serde::{Deserialize, Serialize};

/// Spans of a day, in local time; none means always.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Hours(Vec<(Time, Time)>);

impl Hours {
    /// Whether work may begin at this time of the day. A span that ends before it begins goes on
    /// into the next day; its end does not belong to it.
    pub fn contain(&self, now: Time) -> bool {
        let within = |&(from, to): &(Time, Time)| match from < to {
            true => from <= now && now < to,
            false => from <= now || now < to,
        };
        self.0.is_empty() || self.0.iter().any(within)
    }

    /// Whether work may begin now, by the clock and the time zone of this machine.
    pub fn are_now(&self) -> bool {
        self.0.is_empty() || self.contain(jiff::Zoned::now().time())
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Vec::from(self.clone()).join(", "))
    }
}

impl From<Hours> for Vec<String> {
    fn from(hours: Hours) -> Vec<String> {
        let text = |(from, to): (Time, Time)| {
            format!("{:02}:{:02}-{:02}:{:02}", from.hour(), from.minute(), to.hour(), to.minute())
        };
        hours.0.into_iter().map(text).collect()
    }
}

impl TryFrom<Vec<String>> for Hours {
    type Error = String;

    fn try_from(spans: Vec<String>) -> Result<Hours, String> {
        let read = |span: String| {
            let ends = span.split_once('-').and_then(|(from, to)| Some((time(from)?, time(to)?)));
            match ends {
                Some((from, to)) if from != to => Ok((from, to)),
                _ => Err(format!("\"{span}\" are no hours: say them as \"22:00-07:00\"")),
            }
        };
        spans.into_iter().map(read).collect::<Result<Vec<_>, _>>().map(Hours)
    }
}

/// `HH:MM`; 24:00 is the end of the day, which is the start of the next one.
fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute): (i8, i8) = (hour.parse().ok()?, minute.parse().ok()?);
    if (hour, minute) == (24, 0) {
        return Some(Time::midnight());
    }
    Time::new(hour, minute, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(spans: &[&str]) -> Result<Hours, String> {
        Hours::try_from(spans.iter().map(|span| (*span).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn hours_may_go_over_midnight_and_none_are_always() {
        let at = |text: &str| time(text).unwrap();
        let night = hours(&["22:00-07:00", "12:30 - 13:00"]).unwrap();
        for (text, works) in
            [("21:59", false), ("22:00", true), ("23:59", true), ("0:00", true), ("6:59", true)]
                .into_iter()
                .chain([("7:00", false), ("12:29", false), ("12:30", true), ("13:00", false)])
        {
            assert_eq!(night.contain(at(text)), works, "{text}");
        }
        assert!(hours(&["8:00-24:00"]).unwrap().contain(at("23:59")));
        assert!(!hours(&["8:00-24:00"]).unwrap().contain(at("0:00")));
        assert!(Hours::default().contain(at("3:00")));
        assert_eq!(night.to_string(), "22:00-07:00, 12:30-13:00");
    }

    #[test]
    fn what_is_no_time_is_refused_with_an_example() {
        for bad in ["", "22", "22:00", "22:00-", "25:00-07:00", "22:60-7:00", "7:00-7:00", "a-b"] {
            assert!(hours(&[bad]).unwrap_err().contains("22:00-07:00"), "{bad}");
        }
    }
}
