//! Decimals of any length, compared as written: no conversion, no rounding.

use std::cmp::Ordering;

/// A decimal, as slices of its text: no leading zeros before the point, no trailing zeros after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decimal<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    /// Reads a decimal: `[+-]?(digits(.digits?)?|.digits)`.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, text.get(1..)?),
            b'+' => (false, text.get(1..)?),
            _ => (false, text),
        };
        let point = digits.bytes().position(|byte| byte == b'.').unwrap_or(digits.len());
        let (whole, fraction) = (digits.get(..point)?, digits.get(point.saturating_add(1)..).unwrap_or(""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        if !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let zero = whole.is_empty() && fraction.is_empty();
        Some(Self { negative: negative && !zero, whole, fraction })
    }

    /// How many digits the value has, without leading and trailing zeros; zero has one.
    pub(crate) fn total_digits(self) -> usize {
        let fraction = if self.whole.is_empty() { self.fraction.trim_start_matches('0') } else { self.fraction };
        (self.whole.len().saturating_add(fraction.len())).max(1)
    }

    /// How many digits the value has after the point, without trailing zeros.
    pub(crate) fn fraction_digits(self) -> usize {
        self.fraction.len()
    }

    /// Returns the value with its own digits.
    pub(crate) fn to_owned(self) -> OwnedDecimal {
        OwnedDecimal { negative: self.negative, whole: self.whole.into(), fraction: self.fraction.into() }
    }

    fn compare_size(&self, other: &Self) -> Ordering {
        let by_length = self.whole.len().cmp(&other.whole.len());
        by_length.then_with(|| self.whole.cmp(other.whole)).then_with(|| self.fraction.cmp(other.fraction))
    }
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.compare_size(other),
            (true, true) => other.compare_size(self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A decimal that keeps its digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct OwnedDecimal {
    negative: bool,
    whole: Box<str>,
    fraction: Box<str>,
}

impl OwnedDecimal {
    /// Returns the value without its digits.
    pub(crate) fn borrow(&self) -> Decimal<'_> {
        Decimal { negative: self.negative, whole: &self.whole, fraction: &self.fraction }
    }

    /// How many bytes it takes beside itself.
    pub(crate) fn size(&self) -> usize {
        self.whole.len().saturating_add(self.fraction.len())
    }
}

/// Whether a text is an integer: `[+-]?digits`.
pub(crate) fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    !digits.is_empty() && all_digits(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_compared_exactly() {
        let order =
            ["-10", "-9.99", "-1", "-0.001", "0", "0.0001", "0.1", "1", "1.5", "9", "10", "10000000000000000000000000"];
        for (i, a) in order.iter().enumerate() {
            for (j, b) in order.iter().enumerate() {
                assert_eq!(Decimal::parse(a).unwrap().cmp(&Decimal::parse(b).unwrap()), i.cmp(&j), "{a} {b}");
            }
        }
        for (a, b) in [("+1.0", "1"), ("-0", "0.00"), (".5", "0.5"), ("007.", "7")] {
            assert_eq!(Decimal::parse(a), Decimal::parse(b), "{a} {b}");
        }
    }

    #[test]
    fn digits_are_counted_in_the_value() {
        for (text, total, fraction) in [("0", 1, 0), ("0.00", 1, 0), ("100.50", 4, 1), ("0.05", 1, 2), ("-12", 2, 0)] {
            let decimal = Decimal::parse(text).unwrap();
            assert_eq!((decimal.total_digits(), decimal.fraction_digits()), (total, fraction), "{text}");
        }
    }

    #[test]
    fn what_is_no_decimal() {
        for text in ["", "-", ".", "+.", "1e3", "1.2.3", " 1", "--1", "1-", "INF", "١"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        assert!(is_integer("-12") && !is_integer("1.0") && !is_integer("+"));
    }
}
