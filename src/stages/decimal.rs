//! Numbers as they are written.
//!
//! serde_json keeps integers of 64 bits and binary64 for everything else, so what it makes of `0.30000000000000000001` is 0.3. A
//! [`Decimal`] is the number that the text says, and [`Written`] what is known of one that was rounded when it was read.
//!
//! Almost no message has such numbers, so values do not make room for them: in a value, a rounded number is replaced by a
//! subnormal binary64, whose bits are its place in a list ([`find`]). A number that is itself subnormal is listed as well, so that
//! there is no other. Costs are linear in the text.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use serde_json::{Number, Value};

/// From here on, binary64 does not keep every integer.
const ROUNDED: f64 = 9_007_199_254_740_992.0;
/// Longest token that has no more than the 15 digits that binary64 always keeps: they, a sign, a point and a zero before it.
const KEPT: usize = 15;
/// Least exponent; one that is less is taken for it.
const LEAST: i64 = -(1 << 40);

/// The integer that is read as binary64, and so as if it were written with a fraction.
const MINUS_ZERO: &str = "-0";

/// Digits and a power of ten. No zero begins or ends the digits, so equal numbers have equal fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Decimal {
    negative: bool,
    /// None for zero.
    digits: Box<str>,
    exponent: i64,
}

impl Decimal {
    /// Reads a number of JSON.
    pub(crate) fn parse(text: &str) -> Self {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        let kept = all.trim_end_matches('0');
        let dropped = (all.len() - kept.len()) as i64 - fraction.len() as i64;
        let digits = kept.trim_start_matches('0');
        if digits.is_empty() {
            return Self { negative: false, digits: "".into(), exponent: 0 };
        }
        let otherwise = if exponent.starts_with('-') { LEAST } else { i64::MAX };
        // Trailing zeros lift no exponent above the least one that is too long to be known.
        let exponent = exponent.parse::<i64>().map_or(otherwise, |known| known.saturating_add(dropped).max(LEAST));
        Self { negative, digits: digits.into(), exponent }
    }

    /// Returns the decimal that a number prints as.
    pub(crate) fn of(number: &Number) -> Self {
        Self::parse(&number.to_string())
    }

    /// The digits without a sign, and the power of ten to multiply them by.
    pub(crate) fn parts(&self) -> (&str, i64) {
        (&self.digits, self.exponent)
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.exponent >= 0
    }

    /// Whether it may be less than it says, so that nobody knows whether it is equal to another such one.
    pub(crate) fn is_beyond(&self) -> bool {
        self.exponent == LEAST
    }

    /// The integer that it is, if that fits in 64 bits or a little more.
    pub(crate) fn integer(&self) -> Option<i128> {
        /// No number of so many digits overflows.
        const DIGITS: i64 = 30;
        let power = u32::try_from(self.exponent).ok().filter(|_| self.magnitude() <= DIGITS)?;
        let digits: i128 = if self.digits.is_empty() { 0 } else { self.digits.parse().ok()? };
        Some(if self.negative { -digits } else { digits } * 10_i128.pow(power))
    }

    /// Where the digits begin, as a power of ten.
    fn magnitude(&self) -> i64 {
        self.exponent.saturating_add(self.digits.len() as i64)
    }
}

impl From<i128> for Decimal {
    fn from(value: i128) -> Self {
        Self::parse(&value.to_string())
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |decimal: &Self| match decimal.digits.is_empty() {
            true => 0,
            false if decimal.negative => -1,
            false => 1,
        };
        let absolute = || (self.magnitude(), &self.digits).cmp(&(other.magnitude(), &other.digits));
        sign(self).cmp(&sign(other)).then_with(|| match sign(self) {
            0 => Ordering::Equal,
            -1 => absolute().reverse(),
            _ => absolute(),
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A number that was rounded when it was read.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) decimal: Decimal,
    /// What it was rounded to.
    pub(crate) value: f64,
    /// Whether it has neither fraction nor exponent.
    pub(crate) is_plain: bool,
}

impl Written {
    /// What is written in a token that was read as this number. `None` if nothing of it was lost.
    pub(crate) fn lost(token: &str, number: &Number) -> Option<Self> {
        let value = number.as_f64().filter(|_| number.is_f64())?;
        if token == MINUS_ZERO {
            return Some(Self { decimal: Decimal::parse(token), value, is_plain: true });
        }
        let is_zero =
            || token.bytes().take_while(|byte| !matches!(byte, b'e' | b'E')).all(|byte| b"-0.".contains(&byte));
        if (token.len() <= KEPT && value.is_normal()) || (value == 0.0 && is_zero()) {
            return None;
        }
        // Most long numbers were printed by a machine that keeps no more than binary64 does.
        let printed = number.to_string();
        if printed == token && value.is_normal() {
            return None;
        }
        let decimal = Decimal::parse(token);
        let is_plain = token.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
        let kept = value.is_normal() || value == 0.0;
        // Draft 4 asks whether a number has neither fraction nor exponent, which its value does not say.
        let known = kept && !(is_plain && value != 0.0) && decimal == Decimal::parse(&printed);
        (!known).then_some(Self { decimal, value, is_plain })
    }

    /// A number that is not in a list.
    fn of(number: &Number) -> Self {
        let value = number.as_f64().unwrap_or_default();
        Self { decimal: Decimal::of(number), value, is_plain: !number.is_f64() }
    }

    /// What a number was rounded to, if that prints as another one.
    pub(crate) fn rounded(&self) -> Option<Number> {
        Number::from_f64(self.value).filter(|rounded| Decimal::of(rounded) != self.decimal)
    }

    /// Whether it is `-0`: no other zero is listed.
    pub(crate) fn is_zero(&self) -> bool {
        self.decimal.digits.is_empty()
    }

    /// Steps that it takes to look at all of its digits.
    pub(crate) fn steps(&self) -> u64 {
        if self.is_zero() { 1 } else { 12 + self.decimal.digits.len() as u64 / 32 }
    }
}

/// Adds what is written to a list, and returns the number to put in its place; `None` if there is no room.
pub(crate) fn list(list: &mut Vec<Written>, written: Written) -> Option<Number> {
    list.push(written);
    Number::from_f64(f64::from_bits(list.len() as u64)).filter(|number| number.as_f64().is_some_and(f64::is_subnormal))
}

/// Makes what most readers make of a value: they keep binary64 alone. A number that has another text then stays in the list.
pub(crate) fn round(list: &[Written], value: &mut Value) {
    match value {
        Value::Number(number) => {
            let rounded = find(list, number).map(|written| (written.value, written.is_plain));
            if let Some((rounded, false)) = rounded.filter(|(value, _)| value.abs() < ROUNDED && !value.is_subnormal())
                && let Some(rounded) = Number::from_f64(rounded)
            {
                *number = rounded;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| round(list, item)),
        Value::Object(members) => members.values_mut().for_each(|member| round(list, member)),
        _ => {}
    }
}

/// Makes what is listed what it was rounded to; an integer to its last digit.
pub(crate) fn round_list(list: &mut [Written]) {
    for written in list {
        let value = written.value;
        let text = if value.abs() >= ROUNDED { format!("{value:.0}") } else { format!("{value:e}") };
        written.decimal = Decimal::parse(&text);
    }
}

/// What is written in the place of a number, if that is in the list.
pub(crate) fn find<'l>(list: &'l [Written], number: &Number) -> Option<&'l Written> {
    let value = number.as_f64().filter(|value| number.is_f64() && value.is_subnormal())?;
    list.get(usize::try_from(value.to_bits()).ok()?.checked_sub(1)?)
}

/// A number as it is written, where binary64 may not be compared with 64 bits, or is not what is written. `None` if the number is
/// neither listed nor large, and can be compared as it is.
pub(crate) fn as_written<'l>(list: &'l [Written], number: &Number) -> Option<Cow<'l, Written>> {
    match find(list, number) {
        Some(written) => Some(Cow::Borrowed(written)),
        None => is_large(number).then(|| Cow::Owned(Written::of(number))),
    }
}

/// The same, whatever the number.
pub(crate) fn written<'l>(list: &'l [Written], number: &Number) -> Cow<'l, Written> {
    find(list, number).map_or_else(|| Cow::Owned(Written::of(number)), Cow::Borrowed)
}

/// Whether a number is of a size at which binary64 prints as another integer than it is.
pub(crate) fn is_large(number: &Number) -> bool {
    number.as_f64().is_some_and(|value| value.abs() >= ROUNDED)
}

/// Whether a number is binary64 of that size.
pub(crate) fn is_large_binary(number: &Number) -> bool {
    number.is_f64() && is_large(number)
}

/// Whether one of the numbers in a value is.
pub(crate) fn has_large_binary(value: &Value) -> bool {
    any_number(value, &is_large_binary)
}

/// Whether one of the numbers in a value is such a one.
pub(crate) fn any_number(value: &Value, is: &impl Fn(&Number) -> bool) -> bool {
    match value {
        Value::Number(number) => is(number),
        Value::Array(items) => items.iter().any(|item| any_number(item, is)),
        Value::Object(members) => members.values().any(|member| any_number(member, is)),
        _ => false,
    }
}

/// A number of a JSON text that is rounded when it is read.
pub(crate) struct Lost {
    /// Its position among all numbers.
    pub(crate) position: usize,
    pub(crate) place: Range<usize>,
    pub(crate) written: Written,
}

/// The numbers of a JSON text that are rounded when they are read.
pub(crate) fn lost(text: &[u8]) -> impl Iterator<Item = Lost> {
    tokens(text).enumerate().filter_map(|(position, place)| {
        let token = std::str::from_utf8(text.get(place.clone())?).ok()?;
        Some(Lost { position, place, written: Written::lost(token, &token.parse().ok()?)? })
    })
}

/// Where the numbers of a JSON text are. Each begins outside strings with a digit or a minus.
fn tokens(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            match *text.get(at)? {
                b'"' => at = end_of_string(text, at + 1),
                b'-' | b'0'..=b'9' => {
                    let of_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                    let start = at;
                    at += text.get(start..)?.iter().take_while(|byte| of_number(byte)).count();
                    return Some(start..at);
                }
                _ => at += 1,
            }
        }
    })
}

/// The place behind the string that begins before `at`.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        match text.get(at + found) {
            Some(b'\\') => at += found + 2,
            _ => return at + found + 1,
        }
    }
    text.len()
}

/// Whether as many digits and points follow each other as in a number that binary64 may not keep. Looks at one of 16 bytes.
pub(crate) fn has_long_run(text: &[u8]) -> bool {
    const RUN: usize = KEPT + 1;
    let of_run = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let is_of_run = |at: usize| text.get(at).is_some_and(of_run);
    let mut places = (RUN - 1..text.len()).step_by(RUN);
    // Half of a run is on one side of each place in it.
    let near = |at: usize| is_of_run(at) && (is_of_run(at - RUN / 2) || is_of_run(at + RUN / 2));
    places.any(|at| {
        near(at) && {
            let (before, after) = text.split_at(at);
            let before = before.iter().rev().take(RUN).take_while(|byte| of_run(byte)).count();
            before + after.iter().take(RUN).take_while(|byte| of_run(byte)).count() >= RUN
        }
    })
}

/// Whether a JSON text has numbers that are rounded when they are read. `near_zero`: whether one of its numbers is zero with a
/// point or an exponent, or subnormal, which a short text may be.
pub(crate) fn has_lost(text: &[u8], near_zero: bool) -> bool {
    let is_small = |at: usize| matches!(before(text, at), Some(b'e' | b'E')) || is_minus_zero(text, at);
    let small = || near_zero && memchr::memchr_iter(b'-', text).any(is_small);
    (has_long_run(text) || small()) && lost(text).next().is_some()
}

fn is_minus_zero(text: &[u8], at: usize) -> bool {
    let rest = text.get(at..).and_then(|rest| rest.strip_prefix(MINUS_ZERO.as_bytes()));
    rest.is_some_and(|rest| !matches!(rest.first(), Some(b'.' | b'e' | b'E')))
}

fn before(text: &[u8], at: usize) -> Option<&u8> {
    text.get(at.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        text.parse().unwrap()
    }

    /// F40
    #[test]
    fn decimals_are_compared_digit_by_digit() {
        for (one, other, expected) in [
            ("0.1", "0.1000000000000000000001", Ordering::Less),
            ("-0.1", "-0.1000000000000000000001", Ordering::Greater),
            ("1e400", "1e399", Ordering::Greater),
            ("100", "1E+2", Ordering::Equal),
            ("0.00", "-0e7", Ordering::Equal),
            ("0", "1e-400", Ordering::Less),
            ("-1", "0", Ordering::Less),
            ("1", "-1", Ordering::Greater),
            ("12", "123", Ordering::Less),
            ("0.12", "0.123", Ordering::Less),
            ("18446744073709551616", "18446744073709551617", Ordering::Less),
            ("1000000000000000000000000e-24", "1", Ordering::Equal),
            ("0.000000000000000000000001e24", "1", Ordering::Equal),
            ("9e-99999999999999999999", "9e-999", Ordering::Less),
        ] {
            let (one, other) = (Decimal::parse(one), Decimal::parse(other));
            assert_eq!((one.cmp(&other), one == other), (expected, expected == Ordering::Equal), "{one:?} {other:?}");
            assert_eq!(other.cmp(&one), expected.reverse(), "{one:?} {other:?}");
        }
        for (text, integer) in [
            ("0e9", Some(0)),
            ("-12.0", Some(-12)),
            ("18446744073709551616", Some(1 << 64)),
            ("1e29", Some(10_i128.pow(29))),
            ("1e30", None),
            ("12345678901234567890123456789012345678901", None),
            ("0.5", None),
            ("1e-400", None),
        ] {
            assert_eq!(Decimal::parse(text).integer(), integer, "{text}");
        }
        assert!(Decimal::parse("9e-99999999999999999999").is_beyond() && !Decimal::parse("1e-999").is_beyond());
    }

    /// F40: each is one of many tokens, some of which are in strings.
    #[test]
    fn numbers_that_reading_rounds_are_found() {
        for (token, lost) in [
            ("0", false),
            ("-0", true),
            ("-0.0", false),
            ("-0e1", false),
            ("0.0", false),
            ("0e-999", false),
            ("123456789012345", false),
            ("1.23456789012345e300", false),
            ("1e23", false),
            ("1e-300", false),
            ("0.1234567890123456", false),
            ("0.30000000000000004", false),
            ("0.300000000000000000000000", false),
            ("1000000000000000000000000e-24", false),
            ("18446744073709551615", false),
            ("-9223372036854775808", false),
            ("9007199254740993", false),
            ("9007199254740993.0", true),
            ("18446744073709551616", true),
            ("100000000000000000000", true),
            ("-9223372036854775809", true),
            ("0.3000000000000000000001", true),
            ("1.0000000000000000000000000000000001", true),
            ("1e-400", true),
            ("-1.5E-330", true),
            ("5e-324", true),
            ("1.23456e-320", true),
            ("9e-99999999999999999999", true),
        ] {
            assert_eq!(Written::lost(token, &number(token)).is_some(), lost, "{token}");
            let near_zero = !number(token).as_f64().unwrap().is_normal();
            for space in 0..40 {
                let text = format!(
                    r#"{{"a\"1e-400 \\": [1, -2.5e3, "{token}"],{}"b": {token}, "3": "\\\"{token}"}}"#,
                    " ".repeat(space)
                );
                let found: Vec<usize> = super::lost(text.as_bytes()).map(|lost| lost.position).collect();
                assert_eq!(found, if lost { vec![2] } else { vec![] }, "{text}");
                assert_eq!(has_lost(text.as_bytes(), near_zero), lost, "{text}");
            }
        }
    }

    #[test]
    fn what_is_listed_is_found_by_the_number_in_its_place() {
        let mut all = Vec::new();
        let tokens = ["0.3000000000000000000001", "0.3000000000000000000002", "5e-324"];
        let places: Vec<Number> =
            tokens.iter().map(|token| list(&mut all, Written::lost(token, &number(token)).unwrap()).unwrap()).collect();
        for (token, place) in tokens.iter().zip(&places) {
            assert_eq!(find(&all, place).unwrap().decimal, Decimal::parse(token));
        }
        for token in ["0.3", "0", "1", "-5e-324", "1e-320"] {
            assert!(find(&all, &number(token)).is_none(), "{token}");
        }
    }
}
