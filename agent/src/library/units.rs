//! Sizes, times and rates as people write them in rules: `50 MB`, `7 days`, `2 Mbit/s`.

use std::fmt;

use serde::Deserialize;

/// What a rule may say: a bare number, or a number with its unit.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Written {
    Whole(u64),
    Text(String),
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Written")]
pub struct Size(pub u64);

/// A length of time, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Written")]
pub struct Span(pub u64);

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Written")]
pub struct Rate(pub u64);

/// A number and the unit behind it, in lower case and without its plural.
fn split(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim().to_lowercase()))
}

fn scaled(text: &str, factor: impl Fn(&str) -> Option<f64>) -> Option<u64> {
    let (number, unit) = split(text)?;
    let value = number * factor(&unit)?;
    // Floats beyond this are no whole numbers any more.
    (value.is_finite() && (0.0..9e15).contains(&value)).then_some(value.round() as u64)
}

impl TryFrom<Written> for Size {
    type Error = String;

    fn try_from(written: Written) -> Result<Size, String> {
        let factor = |unit: &str| {
            Some(match unit {
                "b" | "bytes" | "byte" => 1.0,
                "kb" => 1e3,
                "mb" => 1e6,
                "gb" => 1e9,
                "tb" => 1e12,
                "kib" => 1_024.0,
                "mib" => 1_048_576.0,
                "gib" => 1_073_741_824.0,
                "tib" => 1_099_511_627_776.0,
                _ => return None,
            })
        };
        match written {
            Written::Whole(bytes) => Ok(Size(bytes)),
            Written::Text(text) => scaled(&text, factor)
                .map(Size)
                .ok_or_else(|| format!("\"{text}\" is no size: write it as \"50 MB\"")),
        }
    }
}

impl TryFrom<Written> for Span {
    type Error = String;

    fn try_from(written: Written) -> Result<Span, String> {
        let factor = |unit: &str| {
            Some(match unit {
                "s" | "second" | "seconds" => 1.0,
                "min" | "minute" | "minutes" => 60.0,
                "h" | "hour" | "hours" => 3_600.0,
                "d" | "day" | "days" => 86_400.0,
                "w" | "week" | "weeks" => 604_800.0,
                "y" | "year" | "years" => 31_557_600.0,
                _ => return None,
            })
        };
        let wrong =
            |text: &str| format!("\"{text}\" is no time: write it as \"90 s\" or \"7 days\"");
        match written {
            Written::Whole(number) => Err(wrong(&number.to_string())),
            Written::Text(text) => scaled(&text, factor).map(Span).ok_or_else(|| wrong(&text)),
        }
    }
}

impl TryFrom<Written> for Rate {
    type Error = String;

    fn try_from(written: Written) -> Result<Rate, String> {
        let factor = |unit: &str| {
            Some(match unit {
                "bit/s" | "bps" => 1.0,
                "kbit/s" | "kbps" => 1e3,
                "mbit/s" | "mbps" => 1e6,
                "gbit/s" | "gbps" => 1e9,
                _ => return None,
            })
        };
        match written {
            Written::Whole(bits) => Ok(Rate(bits)),
            Written::Text(text) => scaled(&text, factor)
                .map(Rate)
                .ok_or_else(|| format!("\"{text}\" is no bit rate: write it as \"2 Mbit/s\"")),
        }
    }
}

/// At most three digits and their unit, without zeros that say nothing.
fn short(value: f64, units: &[(&str, f64)]) -> String {
    let unit = units.iter().rev().find(|(_, size)| value >= *size).or(units.first());
    let Some((unit, size)) = unit else { return value.to_string() };
    let value = value / size;
    let digits = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12)];
        f.write_str(&short(self.0 as f64, &units))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("bit/s", 1.0), ("kbit/s", 1e3), ("Mbit/s", 1e6), ("Gbit/s", 1e9)];
        f.write_str(&short(self.0 as f64, &units))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("s", 1.0), ("min", 60.0), ("h", 3_600.0), ("days", 86_400.0)];
        f.write_str(&short(self.0 as f64, &units))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Written {
        Written::Text(text.to_owned())
    }

    #[test]
    fn what_people_write_is_read() {
        for (written, bytes) in
            [("50 MB", 50_000_000), ("1.5GB", 1_500_000_000), ("1 KiB", 1_024), ("0 b", 0)]
        {
            assert_eq!(Size::try_from(text(written)), Ok(Size(bytes)), "{written}");
        }
        assert_eq!(Size::try_from(Written::Whole(7)), Ok(Size(7)));
        for (written, seconds) in
            [("90s", 90), ("2 min", 120), ("1 hour", 3_600), ("7 days", 604_800), ("1 W", 604_800)]
        {
            assert_eq!(Span::try_from(text(written)), Ok(Span(seconds)), "{written}");
        }
        assert_eq!(Rate::try_from(text("2.5 Mbit/s")), Ok(Rate(2_500_000)));
    }

    #[test]
    fn what_is_none_is_refused_with_an_example() {
        for wrong in ["", "MB", "5 parsecs", "-3 MB", "1e9 MB", "1.2.3 MB", "99999999999 TB"] {
            assert!(Size::try_from(text(wrong)).unwrap_err().contains("50 MB"), "{wrong}");
        }
        assert!(Span::try_from(Written::Whole(7)).unwrap_err().contains("7 days"));
        assert!(Rate::try_from(text("fast")).unwrap_err().contains("2 Mbit/s"));
    }

    #[test]
    fn they_are_told_with_few_digits() {
        assert_eq!(Size(50_000_000).to_string(), "50 MB");
        assert_eq!(Size(1_234_567).to_string(), "1.23 MB");
        assert_eq!(Size(999).to_string(), "999 B");
        assert_eq!(Span(90).to_string(), "1.5 min");
        assert_eq!(Rate(2_500_000).to_string(), "2.5 Mbit/s");
    }
}
