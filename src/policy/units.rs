//! Durations, sizes and rates as the policy writes them: always with their unit.
//!
//! Grammar only: the compiler checks which values make sense for a key. Every message for a mistake is here, with
//! a suggestion.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};

use super::source::quote;

/// Units of a [`Period`], longest first, in milliseconds.
pub(super) const PERIOD_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
/// Units of a [`Size`], largest first, in bytes.
pub(super) const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
/// Units of a [`Rate`], longest first, in seconds.
pub(super) const RATE_UNITS: [(&str, u64); 4] = [("day", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
/// Longest period: ten years. A longer one was meant as `never` or is mistyped.
const LONGEST_MS: u64 = 3650 * 86_400_000;

/// A duration such as `250ms`, `10s`, `1h30m`, `7d`. Zero must be written `0s`; at most ten years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Period(pub(crate) Duration);

/// A number of bytes such as `512B`, `64KiB`, `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Size(pub(crate) u64);

/// A number per time: `10/s`, `600/min`, `5000/h`, `100000/day`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Rate {
    pub(crate) count: NonZeroU32,
    /// A second, a minute, an hour or a day.
    pub(crate) per: Duration,
}

/// Units of a [`CalendarCount`].
pub(super) const CALENDAR_UNITS: [&str; 3] = ["hour", "day", "month"];

/// A number in each hour, day or month of the calendar: `100/hour`, `10000/day`, `5000000/month`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CalendarCount {
    pub(crate) count: NonZeroU32,
    /// One of [`CALENDAR_UNITS`].
    pub(crate) unit: &'static str,
}

/// The error for a text that is not a valid quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InvalidQuantity {
    /// What is wrong; quotes the text.
    pub(crate) message: String,
    /// How to fix it.
    pub(crate) help: String,
}

impl fmt::Display for InvalidQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InvalidQuantity {}

fn invalid(message: String, help: impl Into<String>) -> InvalidQuantity {
    InvalidQuantity { message, help: help.into() }
}

/// Checks for mistakes that all quantities share: no text, a sign, a fraction, separators, spaces.
fn check_form(text: &str, example: &str) -> Result<(), InvalidQuantity> {
    let quoted = quote(text);
    let mut chars = text.chars();
    match chars.next() {
        None => {
            Err(invalid("the value is empty".to_owned(), format!("write a number and its unit, such as `{example}`")))
        }
        Some('-') => Err(invalid(format!("{quoted} is negative"), format!("write a value such as `{example}`"))),
        _ if text.contains(char::is_whitespace) => {
            let together: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            Err(invalid(format!("{quoted} contains a space"), format!("write {}", quote(&together))))
        }
        _ if text.contains(['.', ',', '_']) => Err(invalid(
            format!("{quoted} is not a whole number"),
            format!("write whole numbers without separators, such as `{example}`; for fractions, use a smaller unit"),
        )),
        Some(first) if !first.is_ascii_digit() => Err(invalid(
            format!("{quoted} does not begin with a number"),
            format!("write a number and its unit, such as `{example}`"),
        )),
        Some(_) => Ok(()),
    }
}

/// Splits off the leading digits, which may be none.
fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn list_units(number: &str, units: &[&str]) -> String {
    let (first, rest) = units.split_first().unwrap_or((&"", &[]));
    let number = if number.len() > 20 { "1" } else { number };
    let rest = rest.iter().map(|unit| format!("`{number}{unit}`")).collect::<Vec<_>>().join(", ");
    format!("write `{number}{first}`, or {rest}")
}

impl FromStr for Period {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        if text == "0s" {
            return Ok(Self(Duration::ZERO));
        }
        check_form(text, "30s")?;
        let too_long = || invalid(format!("{} is longer than ten years", quote(text)), "write at most `3650d`");
        let (mut rest, mut total, mut previous) = (text, 0_u64, usize::MAX);
        while !rest.is_empty() {
            let (number, tail) = split_number(rest);
            let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
            if unit.is_empty() {
                let message = if number == text { "has no unit" } else { "has a number without a unit at its end" };
                return Err(invalid(
                    format!("{} {message}", quote(text)),
                    list_units(number, &["s", "ms", "m", "h", "d"]),
                ));
            }
            let Some(position) = PERIOD_UNITS.iter().position(|(name, _)| *name == unit) else {
                return Err(invalid(
                    format!("{} is not a unit of time", quote(unit)),
                    match period_unit_meant(unit) {
                        Some(meant) if number.len() <= 20 => format!("write `{number}{meant}`"),
                        _ => "the units are `ms`, `s`, `m`, `h` and `d`".to_owned(),
                    },
                ));
            };
            if previous != usize::MAX && position <= previous {
                return Err(invalid(
                    format!("the units in {} are out of order", quote(text)),
                    "write the longest unit first and each at most once, such as `1h30m`",
                ));
            }
            previous = position;
            let factor = PERIOD_UNITS.get(position).map_or(1, |(_, factor)| *factor);
            let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(too_long)?;
            total = total.checked_add(part).ok_or_else(too_long)?;
            rest = tail;
        }
        match total {
            0 => Err(invalid(format!("{} is a duration of zero", quote(text)), "write `0s` if zero is meant")),
            1..=LONGEST_MS => Ok(Self(Duration::from_millis(total))),
            _ => Err(too_long()),
        }
    }
}

/// The unit that was probably meant.
fn period_unit_meant(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "sec" | "secs" | "second" | "seconds" | "s" => Some("s"),
        "min" | "mins" | "minute" | "minutes" => Some("m"),
        "hr" | "hrs" | "hour" | "hours" | "h" => Some("h"),
        "day" | "days" | "d" => Some("d"),
        "msec" | "millis" | "milliseconds" | "ms" => Some("ms"),
        _ => None,
    }
}

impl FromStr for Size {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        check_form(text, "64KiB")?;
        let (number, unit) = split_number(text);
        if unit.is_empty() {
            let help = list_units(number, &["B", "KiB", "MiB", "GiB"]);
            return Err(invalid(format!("{} has no unit", quote(text)), help));
        }
        let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(invalid(
                format!("{} is not a unit of size", quote(unit)),
                match size_unit_meant(unit) {
                    Some(meant) if number.len() <= 20 => {
                        format!("write `{number}{meant}`; units are multiples of 1024")
                    }
                    _ => "the units are `B`, `KiB`, `MiB` and `GiB`".to_owned(),
                },
            ));
        };
        let size = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor));
        size.map(Self)
            .ok_or_else(|| invalid(format!("{} is too large", quote(text)), "write a smaller size, such as `1GiB`"))
    }
}

fn size_unit_meant(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "k" | "kb" | "ki" | "kib" => Some("KiB"),
        "m" | "mb" | "mi" | "mib" => Some("MiB"),
        "g" | "gb" | "gi" | "gib" => Some("GiB"),
        "b" | "byte" | "bytes" => Some("B"),
        _ => None,
    }
}

impl FromStr for Rate {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        check_form(text, "10/s")?;
        let (number, tail) = split_number(text);
        if tail.is_empty() || tail == "/" {
            let help = list_units(number, &["/s", "/min", "/h", "/day"]);
            return Err(invalid(format!("{} has no unit of time", quote(text)), help));
        }
        let Some(unit) = tail.strip_prefix('/') else {
            return Err(invalid(
                format!("{} is not a rate", quote(text)),
                "write a number, a slash and a unit, such as `10/s`, `600/min`, `5000/h` or `100000/day`",
            ));
        };
        let Some((_, seconds)) = RATE_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(invalid(
                format!("{} is not a unit of a rate", quote(unit)),
                match rate_unit_meant(unit) {
                    Some(meant) if number.len() <= 20 => format!("write `{number}/{meant}`"),
                    _ => "the units are `s`, `min`, `h` and `day`, without a number before them".to_owned(),
                },
            ));
        };
        let count = count_of(text, number, "rate", unit)?;
        Ok(Self { count, per: Duration::from_secs(*seconds) })
    }
}

/// Reads how many requests a rate or a quota allows.
fn count_of(text: &str, number: &str, what: &str, unit: &str) -> Result<NonZeroU32, InvalidQuantity> {
    let Ok(count) = number.parse::<u32>() else {
        let help = format!("a {what} is at most `{}/{unit}`", u32::MAX);
        return Err(invalid(format!("{} is too large", quote(text)), help));
    };
    NonZeroU32::new(count).ok_or_else(|| {
        let help = format!("a {what} is at least 1, such as `1/{unit}`");
        invalid(format!("{} allows no requests", quote(text)), help)
    })
}

impl FromStr for CalendarCount {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        check_form(text, "10000/day")?;
        let (number, tail) = split_number(text);
        let Some(written) = tail.strip_prefix('/').filter(|unit| !unit.is_empty()) else {
            return Err(invalid(
                format!("{} is not a quota", quote(text)),
                list_units(number, &["/day", "/month", "/hour"]),
            ));
        };
        let Some(unit) = CALENDAR_UNITS.into_iter().find(|unit| *unit == written) else {
            return Err(invalid(
                format!("{} is not a unit of a quota", quote(written)),
                match calendar_unit_meant(written) {
                    Some(meant) if number.len() <= 20 => format!("write `{number}/{meant}`"),
                    _ => "the units are `hour`, `day` and `month` of the calendar; shorter limits are a `rate`"
                        .to_owned(),
                },
            ));
        };
        Ok(Self { count: count_of(text, number, "quota", unit)?, unit })
    }
}

fn calendar_unit_meant(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "h" | "hr" | "hours" | "1h" | "hour" => Some("hour"),
        "d" | "days" | "1d" | "day" => Some("day"),
        "mon" | "months" | "mo" | "30d" | "month" => Some("month"),
        _ => None,
    }
}

impl fmt::Display for CalendarCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit)
    }
}

fn rate_unit_meant(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "sec" | "second" | "1s" | "s" => Some("s"),
        "m" | "mins" | "minute" | "1m" | "min" => Some("min"),
        "hr" | "hour" | "1h" | "h" => Some("h"),
        "d" | "days" | "1d" | "day" => Some("day"),
        _ => None,
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in PERIOD_UNITS {
            if rest >= factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = SIZE_UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        let (unit, factor) = exact.unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match RATE_UNITS.iter().find(|(_, seconds)| Duration::from_secs(*seconds) == self.per) {
            Some((unit, _)) => write!(f, "{}/{unit}", self.count),
            None => write!(f, "{}/{:?}", self.count, self.per),
        }
    }
}

/// Reads any of the quantities; the decoder splits message and help at the line break (the quoted text has none, see
/// [`quote`]).
struct Quantity<T>(&'static str, std::marker::PhantomData<T>);

impl<T: FromStr<Err = InvalidQuantity>> Visitor<'_> for Quantity<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|InvalidQuantity { message, help }| E::custom(format_args!("{message}\n{help}")))
    }
}

macro_rules! deserialize_quantity {
    ($type:ty, $expected:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Quantity($expected, std::marker::PhantomData))
            }
        }
    };
}

deserialize_quantity!(Period, "a duration such as `30s`");
deserialize_quantity!(Size, "a size such as `64KiB`");
deserialize_quantity!(Rate, "a rate such as `10/s`");
deserialize_quantity!(CalendarCount, "a quota such as `10000/day`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_quantities_read_and_print_canonically() {
        for (text, ms, canonical) in [
            ("250ms", 250, "250ms"),
            ("10s", 10_000, "10s"),
            ("90s", 90_000, "1m30s"),
            ("5m", 300_000, "5m"),
            ("1h30m", 5_400_000, "1h30m"),
            ("7d", 604_800_000, "7d"),
            ("0s", 0, "0s"),
            ("0h5m", 300_000, "5m"),
            ("1s500ms", 1500, "1s500ms"),
            ("3650d", LONGEST_MS, "3650d"),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!((period.0, period.to_string().as_str()), (Duration::from_millis(ms), canonical), "{text}");
        }
        for (text, bytes, canonical) in [
            ("512B", 512, "512B"),
            ("0B", 0, "0B"),
            ("64KiB", 65_536, "64KiB"),
            ("1024KiB", 1 << 20, "1MiB"),
            ("1025B", 1025, "1025B"),
            ("1GiB", 1 << 30, "1GiB"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, canonical), "{text}");
        }
        for (text, count, seconds) in
            [("10/s", 10, 1), ("600/min", 600, 60), ("5000/h", 5000, 3600), ("100000/day", 100_000, 86_400)]
        {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.count.get(), rate.per.as_secs(), rate.to_string().as_str()), (count, seconds, text));
        }
    }

    #[test]
    fn wrong_periods_say_what_is_right() {
        for (text, message, help) in [
            ("75", "`75` has no unit", "write `75s`, or `75ms`, `75m`, `75h`, `75d`"),
            ("1h30", "`1h30` has a number without a unit", "`30s`"),
            ("-5s", "`-5s` is negative", "30s"),
            ("1.5h", "not a whole number", "smaller unit"),
            ("1,5h", "not a whole number", "smaller unit"),
            ("1_000s", "not a whole number", "separators"),
            ("10 s", "a space", "`10s`"),
            ("", "empty", "30s"),
            ("ten", "does not begin with a number", "30s"),
            ("10sec", "`sec` is not a unit of time", "write `10s`"),
            ("5min", "`min` is not a unit of time", "write `5m`"),
            ("10S", "`S` is not a unit of time", "write `10s`"),
            ("10us", "`us` is not a unit of time", "`ms`, `s`"),
            ("1w", "`w` is not a unit of time", "`ms`, `s`"),
            ("30m1h", "out of order", "1h30m"),
            ("1s1s", "out of order", "1h30m"),
            ("0m", "a duration of zero", "`0s`"),
            ("00s", "a duration of zero", "`0s`"),
            ("3651d", "ten years", "3650d"),
            ("99999999999999999999999999999s", "ten years", "3650d"),
            ("18446744073709551615ms", "ten years", "3650d"),
            ("٣s", "does not begin with a number", "30s"),
        ] {
            let error = text.parse::<Period>().unwrap_err();
            assert!(error.message.contains(message) && error.help.contains(help), "{text}: {error:?}");
        }
    }

    #[test]
    fn wrong_sizes_and_rates_say_what_is_right() {
        for (text, message, help) in [
            ("64KB", "`KB` is not a unit of size", "write `64KiB`"),
            ("64kb", "`kb` is not", "write `64KiB`"),
            ("10MB", "`MB` is not", "write `10MiB`"),
            ("10M", "`M` is not", "write `10MiB`"),
            ("1TiB", "`TiB` is not", "`GiB`"),
            ("64", "`64` has no unit", "`64B`, or `64KiB`"),
            ("99999999999GiB", "too large", "smaller"),
            ("1.5MiB", "not a whole number", "smaller unit"),
        ] {
            let error = text.parse::<Size>().unwrap_err();
            assert!(error.message.contains(message) && error.help.contains(help), "{text}: {error:?}");
        }
        for (text, message, help) in [
            ("5", "no unit of time", "write `5/s`, or `5/min`, `5/h`, `5/day`"),
            ("5/", "no unit of time", "write `5/s`"),
            ("0/s", "allows no requests", "at least 1"),
            ("-1/s", "negative", "10/s"),
            ("5/m", "`m` is not", "write `5/min`"),
            ("5/d", "`d` is not", "write `5/day`"),
            ("5/10s", "`10s` is not", "without a number"),
            ("5ps", "not a rate", "slash"),
            ("5 / s", "a space", "`5/s`"),
            ("4294967296/s", "too large", "4294967295/s"),
        ] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.message.contains(message) && error.help.contains(help), "{text}: {error:?}");
        }
        for (text, message, help) in [
            ("5", "not a quota", "write `5/day`, or `5/month`, `5/hour`"),
            ("5/", "not a quota", "write `5/day`"),
            ("5 / day", "a space", "`5/day`"),
            ("0/day", "allows no requests", "`1/day`"),
            ("5/d", "`d` is not a unit of a quota", "write `5/day`"),
            ("5/h", "`h` is not", "write `5/hour`"),
            ("5/s", "`s` is not", "a `rate`"),
            ("5/30d", "`30d` is not", "write `5/month`"),
            ("4294967296/day", "too large", "4294967295/day"),
        ] {
            let error = text.parse::<CalendarCount>().unwrap_err();
            assert!(error.message.contains(message) && error.help.contains(help), "{text}: {error:?}");
        }
    }

    #[test]
    fn any_text_is_answered_and_what_is_read_reads_again() {
        // Every text of up to four of these pieces.
        const PIECES: [&str; 15] =
            ["", "0", "1", "90", "18446744073709551615", "-", ".", " ", "é", "/", "s", "ms", "h", "day", "KiB"];
        for number in 0..PIECES.len().pow(4) {
            let pick = |power| PIECES[number / PIECES.len().pow(power) % PIECES.len()];
            let text = [pick(0), pick(1), pick(2), pick(3)].concat();
            if let Ok(period) = text.parse::<Period>() {
                assert_eq!(period.to_string().parse(), Ok(period), "{text}");
            }
            if let Ok(size) = text.parse::<Size>() {
                assert_eq!(size.to_string().parse(), Ok(size), "{text}");
            }
            if let Ok(count) = text.parse::<CalendarCount>() {
                assert_eq!(count.to_string().parse(), Ok(count), "{text}");
            }
            if let Ok(rate) = text.parse::<Rate>() {
                assert_eq!(rate.to_string().parse(), Ok(rate), "{text}");
            }
        }
    }
}
