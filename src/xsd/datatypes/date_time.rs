//! Dates and times, ordered as XSD 1.0 says (Part 2, §3.2.7.4): a value without a time zone may be anywhere within 14 hours
//! of where it would be in UTC.

use std::cmp::Ordering;

/// Which parts a value has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum MomentKind {
    /// `xs:dateTime`
    DateTime,
    /// `xs:time`
    Time,
    /// `xs:date`
    Date,
    /// `xs:gYearMonth`
    YearMonth,
    /// `xs:gYear`
    Year,
    /// `xs:gMonthDay`
    MonthDay,
    /// `xs:gDay`
    Day,
    /// `xs:gMonth`
    Month,
}

/// Most digits of a year.
const MAX_YEAR_DIGITS: usize = 17;
/// Seconds of 14 hours: the furthest a time zone can be from UTC.
const FURTHEST: i128 = 14 * 3600;

/// A date, a time, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Moment {
    kind: MomentKind,
    /// Seconds of the proleptic Gregorian calendar, in UTC if it has a time zone.
    seconds: i128,
    /// Digits of the fraction of a second, without trailing zeros.
    fraction: Box<str>,
    zoned: bool,
}

/// Reads the text from the front.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn eat(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        (*first == byte).then(|| self.rest = rest)
    }

    fn digits(&mut self) -> &'a [u8] {
        let length = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at_checked(length).unwrap_or((&[], self.rest));
        self.rest = rest;
        digits
    }

    /// Two digits, within these bounds.
    fn two(&mut self, least: u32, most: u32) -> Option<u32> {
        let ([tens, ones], rest) = self.rest.split_first_chunk::<2>()?;
        if !tens.is_ascii_digit() || !ones.is_ascii_digit() {
            return None;
        }
        self.rest = rest;
        let number = u32::from(tens - b'0') * 10 + u32::from(ones - b'0');
        (least..=most).contains(&number).then_some(number)
    }

    /// A year, in astronomical numbering: the year before 1 is 0 here, and -0001 as written.
    fn year(&mut self) -> Option<i64> {
        let negative = self.eat(b'-').is_some();
        let digits = self.digits();
        if digits.len() < 4 || digits.len() > MAX_YEAR_DIGITS || (digits.len() > 4 && digits.first() == Some(&b'0')) {
            return None;
        }
        let year = digits.iter().fold(0_i64, |year, digit| year * 10 + i64::from(digit - b'0'));
        match (year, negative) {
            (0, _) => None,
            (year, true) => Some(1 - year),
            (year, false) => Some(year),
        }
    }

    /// Seconds of the day, and the fraction's digits.
    fn time(&mut self) -> Option<(u32, &'a str)> {
        let hour = self.two(0, 24)?;
        self.eat(b':')?;
        let minute = self.two(0, 59)?;
        self.eat(b':')?;
        let second = self.two(0, 59)?;
        let mut fraction = "";
        if self.eat(b'.').is_some() {
            let digits = self.digits();
            if digits.is_empty() {
                return None;
            }
            fraction = std::str::from_utf8(digits).ok()?.trim_end_matches('0');
        }
        if hour == 24 && (minute, second, fraction) != (0, 0, "") {
            return None;
        }
        Some((hour * 3600 + minute * 60 + second, fraction))
    }

    /// The time zone in seconds, and the end of the text.
    fn zone(&mut self) -> Option<Option<i32>> {
        if self.rest.is_empty() {
            return Some(None);
        }
        let sign = match self.rest.split_first() {
            Some((b'Z', [])) => return Some(Some(0)),
            Some((b'+', rest)) => {
                self.rest = rest;
                1
            }
            Some((b'-', rest)) => {
                self.rest = rest;
                -1
            }
            _ => return None,
        };
        let hours = self.two(0, 14)?;
        self.eat(b':')?;
        let minutes = self.two(0, 59)?;
        if !self.rest.is_empty() || (hours == 14 && minutes > 0) {
            return None;
        }
        Some(Some(sign * i32::try_from(hours * 3600 + minutes * 60).unwrap_or(0)))
    }
}

/// Days before this date in the proleptic Gregorian calendar, from an arbitrary one.
pub(super) fn days(year: i128, month: u32, day: u32) -> i128 {
    let year = year - i128::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let month = i128::from((month + 9) % 12);
    let of_year = (153 * month + 2) / 5 + i128::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year
}

/// How many days a month has.
fn month_days(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

impl Moment {
    /// Reads a value of this kind.
    pub(crate) fn parse(kind: MomentKind, text: &str) -> Option<Self> {
        use MomentKind::{Date, DateTime, Day, Month, MonthDay, Time, Year, YearMonth};
        let mut at = Cursor { rest: text.as_bytes() };
        // Parts that a value does not have are those of a leap year's last day but the month's first: 1972-12-31.
        let (mut year, mut month, mut day, mut time) = (1972, 12, 31, (0, ""));
        if matches!(kind, DateTime | Date | YearMonth | Year) {
            year = at.year()?;
        } else if kind != Time {
            at.eat(b'-')?;
        }
        match kind {
            DateTime | Date | YearMonth => {
                at.eat(b'-')?;
                month = at.two(1, 12)?;
            }
            MonthDay | Month => {
                at.eat(b'-')?;
                month = at.two(1, 12)?;
            }
            Day => at.eat(b'-')?,
            Time | Year => {}
        }
        if matches!(kind, DateTime | Date | MonthDay | Day) {
            at.eat(b'-')?;
            day = at.two(1, month_days(year, month))?;
        }
        if matches!(kind, Year | YearMonth | Month) {
            (month, day) = (if kind == Year { 1 } else { month }, 1);
        }
        if kind == DateTime {
            at.eat(b'T')?;
        }
        if matches!(kind, DateTime | Time) {
            time = at.time()?;
        }
        let zone = at.zone()?;
        let mut seconds = days(i128::from(year), month, day) * 86_400 + i128::from(time.0);
        seconds -= i128::from(zone.unwrap_or(0));
        if kind == Time && time.0 == 86_400 {
            // 24:00:00 is 00:00:00.
            seconds -= 86_400;
        }
        Some(Self { kind, seconds, fraction: time.1.into(), zoned: zone.is_some() })
    }

    /// Compares two values of one kind; `None` if it depends on the time zone that one of them does not have.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        let order = |ours: i128, theirs: i128| ours.cmp(&theirs).then_with(|| self.fraction.cmp(&other.fraction));
        let early = order(self.seconds - FURTHEST, other.seconds);
        let late = order(self.seconds + FURTHEST, other.seconds);
        match (self.zoned, other.zoned) {
            (true, true) | (false, false) => Some(order(self.seconds, other.seconds)),
            _ if late == Ordering::Less => Some(Ordering::Less),
            _ if early == Ordering::Greater => Some(Ordering::Greater),
            _ => None,
        }
    }

    /// How many bytes it takes beside itself.
    pub(crate) fn size(&self) -> usize {
        self.fraction.len()
    }
}

#[cfg(test)]
mod tests {
    use super::MomentKind::{Date, DateTime, Day, Month, MonthDay, Time, Year, YearMonth};
    use super::*;

    #[test]
    fn what_is_a_date_or_a_time() {
        for (kind, text) in [
            (DateTime, "2024-02-29T24:00:00"),
            (DateTime, "-0001-01-01T00:00:00.123Z"),
            (DateTime, "12024-01-01T00:00:00+14:00"),
            (Time, "23:59:59.9-05:30"),
            (Date, "2000-02-29"),
            (YearMonth, "1999-12Z"),
            (Year, "-1999+01:00"),
            (MonthDay, "--02-29"),
            (Day, "---31"),
            (Month, "--12Z"),
        ] {
            assert!(Moment::parse(kind, text).is_some(), "{text}");
        }
        for (kind, text) in [
            (DateTime, "2023-02-29T00:00:00"),
            (DateTime, "2023-01-01T24:00:01"),
            (DateTime, "2023-01-01T00:00:60"),
            (DateTime, "2023-01-01T00:00:00."),
            (DateTime, "2023-01-01 00:00:00"),
            (DateTime, "0000-01-01T00:00:00"),
            (DateTime, "02023-01-01T00:00:00"),
            (DateTime, "+2023-01-01T00:00:00"),
            (Date, "2023-1-1"),
            (Date, "2023-13-01"),
            (Date, "2023-01-01+14:01"),
            (Date, "1900-02-29"),
            (Time, "1:00:00"),
            (MonthDay, "--02-30"),
            (Month, "--13"),
            (Year, "99"),
            (Day, "---32"),
            (Year, ""),
        ] {
            assert!(Moment::parse(kind, text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_order_is_partial() {
        use Ordering::{Equal, Greater, Less};
        for (kind, one, other, order) in [
            (DateTime, "2000-01-15T00:00:00", "2000-02-15T00:00:00", Some(Less)),
            (DateTime, "2000-01-15T12:00:00", "2000-01-16T12:00:00Z", Some(Less)),
            (DateTime, "2000-01-01T12:00:00", "1999-12-31T23:00:00Z", None),
            (DateTime, "2000-01-16T12:00:00", "2000-01-16T12:00:00Z", None),
            (DateTime, "2000-01-16T00:00:00", "2000-01-16T12:00:00Z", None),
            (DateTime, "2000-01-01T00:00:00+01:00", "1999-12-31T23:00:00Z", Some(Equal)),
            (DateTime, "2000-01-01T24:00:00", "2000-01-02T00:00:00", Some(Equal)),
            (DateTime, "-0001-12-31T24:00:00", "0001-01-01T00:00:00", Some(Equal)),
            (Time, "10:00:00.5", "10:00:00.45", Some(Greater)),
            (MonthDay, "--02-28", "--03-01", Some(Less)),
        ] {
            let moment = |text| Moment::parse(kind, text).unwrap();
            assert_eq!(moment(one).compare(&moment(other)), order, "{one} {other}");
        }
    }
}
