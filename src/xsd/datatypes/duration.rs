//! `xs:duration`, ordered as XSD 1.0 says (Part 2, §3.2.6.2): by what four dates become with it.

use std::cell::OnceCell;
use std::cmp::Ordering;

use super::date_time::days;

/// Most digits of a number in a duration.
const MAX_DIGITS: usize = 17;
/// The dates that durations are added to, as years and months.
const REFERENCES: [(i128, i128); 4] = [(1696, 9), (1697, 2), (1903, 3), (1903, 7)];

/// A duration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Duration {
    /// Negative for a negative duration.
    months: i128,
    /// Negative for a negative duration.
    seconds: i128,
    /// Digits of the fraction of a second, without trailing zeros.
    fraction: Box<str>,
    /// Whether the fraction is subtracted.
    negative: bool,
}

impl Duration {
    /// Reads a duration: `-?P(nY)?(nM)?(nD)?(T(nH)?(nM)?(n(.n)?S)?)?`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let text = text.strip_prefix('P')?;
        let (date, time) = match text.split_once('T') {
            Some((_, "")) => return None,
            Some((date, time)) => (date, time),
            None if text.is_empty() => return None,
            None => (text, ""),
        };
        let ([years, months, days], _) = fields(date, ['Y', 'M', 'D'], false)?;
        let ([hours, minutes, seconds], fraction) = fields(time, ['H', 'M', 'S'], true)?;
        let sign = if negative { -1 } else { 1 };
        let fraction = fraction.trim_end_matches('0');
        Some(Self {
            months: sign * (years * 12 + months),
            seconds: sign * (days * 86_400 + hours * 3600 + minutes * 60 + seconds),
            fraction: fraction.into(),
            negative: negative && !fraction.is_empty(),
        })
    }

    /// Compares two durations; `None` if it depends on the date that they are added to.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        let fractions = OnceCell::new();
        let fractions = || *fractions.get_or_init(|| self.fraction().cmp(&other.fraction()));
        let whole = |reference: &(i128, i128)| self.from(*reference).cmp(&other.from(*reference));
        let mut orders = REFERENCES.iter().map(|reference| whole(reference).then_with(fractions));
        let first = orders.next()?;
        orders.all(|order| order == first).then_some(first)
    }

    fn fraction(&self) -> Fraction<'_> {
        Fraction { digits: &self.fraction, complement: self.negative }
    }

    /// Where a date is with the duration added: whole seconds, rounded down.
    fn from(&self, (year, month): (i128, i128)) -> i128 {
        let months = year * 12 + (month - 1) + self.months;
        let month = u32::try_from(months.rem_euclid(12)).unwrap_or(0) + 1;
        let whole = days(months.div_euclid(12), month, 1) * 86_400 + self.seconds;
        whole - i128::from(self.negative)
    }

    /// How many bytes it takes beside itself.
    pub(crate) fn size(&self) -> usize {
        self.fraction.len()
    }
}

/// A fraction of a second: its digits, or one less them.
#[derive(Debug, PartialEq, Eq)]
struct Fraction<'a> {
    digits: &'a str,
    complement: bool,
}

impl Fraction<'_> {
    /// The digit at a position. The complement's last digit is counted from ten, those before it from nine.
    fn digit(&self, position: usize) -> u8 {
        let digit = self.digits.as_bytes().get(position).map_or(0, |digit| digit.saturating_sub(b'0'));
        match position.saturating_add(1).cmp(&self.digits.len()) {
            _ if !self.complement => digit,
            Ordering::Less => 9_u8.saturating_sub(digit),
            Ordering::Equal => 10_u8.saturating_sub(digit),
            Ordering::Greater => 0,
        }
    }
}

impl Ord for Fraction<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // They have no zeros at their ends.
        match (self.complement, other.complement) {
            (false, false) => return self.digits.cmp(other.digits),
            (true, true) => return other.digits.cmp(self.digits),
            _ => {}
        }
        let length = self.digits.len().max(other.digits.len());
        (0..length)
            .map(|at| self.digit(at).cmp(&other.digit(at)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Fraction<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Reads numbers with these designators, in this order; only the last may have a fraction, whose digits are returned.
fn fields(mut text: &str, designators: [char; 3], fractional: bool) -> Option<([i128; 3], &str)> {
    let mut numbers = [0; 3];
    let mut fraction = "";
    for (index, (number, designator)) in numbers.iter_mut().zip(designators).enumerate() {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, mut rest) = text.split_at_checked(digits)?;
        let mut digits_after = "";
        if let Some(after) = rest.strip_prefix('.').filter(|_| fractional && index == 2) {
            let length = after.bytes().take_while(u8::is_ascii_digit).count();
            (digits_after, rest) = after.split_at_checked(length)?;
            if length == 0 {
                return None;
            }
        }
        let Some(after) = rest.strip_prefix(designator) else { continue };
        if whole.is_empty() || whole.trim_start_matches('0').len() > MAX_DIGITS {
            return None;
        }
        *number = whole.parse().ok()?;
        fraction = digits_after;
        text = after;
    }
    text.is_empty().then_some((numbers, fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_duration() {
        for text in ["P1Y", "-P1Y2M3DT4H5M6.7S", "PT0S", "P0D", "PT1M", "P400D", "PT0.5S"] {
            assert!(Duration::parse(text).is_some(), "{text}");
        }
        for text in [
            "", "P", "PT", "P1", "1Y", "P1YT", "P1S", "PT1Y", "P1M1Y", "PT.5S", "PT1.S", "P-1Y", "+P1Y", "P1.5Y",
            "P1Y1Y",
        ] {
            assert!(Duration::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_order_is_partial() {
        use Ordering::{Equal, Greater, Less};
        for (one, other, order) in [
            ("P1Y", "P364D", Some(Greater)),
            ("P1Y", "P365D", None),
            ("P1Y", "P367D", Some(Less)),
            ("P1M", "P27D", Some(Greater)),
            ("P1M", "P30D", None),
            ("P1M", "P32D", Some(Less)),
            ("P12M", "P1Y", Some(Equal)),
            ("PT24H", "P1D", Some(Equal)),
            ("-P1D", "PT0S", Some(Less)),
            ("-PT0.5S", "-PT0.25S", Some(Less)),
            ("-PT0.5S", "PT0S", Some(Less)),
            ("-PT1S", "-PT0.5S", Some(Less)),
            ("-PT0S", "PT0.0S", Some(Equal)),
        ] {
            let duration = |text| Duration::parse(text).unwrap();
            assert_eq!(duration(one).compare(&duration(other)), order, "{one} {other}");
        }
    }
}
