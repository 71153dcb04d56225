//! `multipleOf` (JSON Schema 2020-12 validation, §6.2.1) of decimals as they are written: binary64 cannot divide by 0.1.

use serde_json::Number;

use crate::budget::{Exhausted, Steps};
use crate::stages::decimal::Decimal;

/// Digits that are divided at a time.
const DIGITS: usize = 18;

/// A divisor: `digits` and a power of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Multiple {
    digits: u64,
    exponent: i32,
}

impl Multiple {
    /// What a division takes of the budget.
    pub(super) const STEPS: u64 = 8;

    /// `None` unless the number is more than 0.
    pub(super) fn new(divisor: &Number) -> Option<Self> {
        let (digits, exponent) = decimal(divisor)?;
        (digits > 0 && divisor.as_f64().is_some_and(|divisor| divisor > 0.0)).then_some(Self { digits, exponent })
    }

    /// Whether a number is a multiple. Takes time that grows with the logarithm of the exponents, and no memory.
    pub(super) fn allows(self, number: &Number) -> bool {
        decimal(number).is_some_and(|(digits, exponent)| self.divides(digits, exponent))
    }

    /// Whether a number of any length is a multiple. Takes time that grows with its length, and no memory.
    pub(super) fn allows_decimal(self, decimal: &Decimal, steps: &mut Steps) -> Result<bool, Exhausted> {
        let (digits, exponent) = decimal.parts();
        steps.take(digits.len() as u64 / DIGITS as u64)?;
        let power = exponent.saturating_sub(self.exponent.into());
        Ok(match u32::try_from(power) {
            Ok(power) => is_zero(remainder(digits, self.digits), (10, power), self.digits),
            // A multiple would end in a zero, and the digits of a decimal do not.
            Err(_) => digits.is_empty(),
        })
    }

    /// Whether `digits` times a power of ten is a multiple.
    fn divides(self, digits: u64, exponent: i32) -> bool {
        let difference = exponent.saturating_sub(self.exponent);
        match u32::try_from(difference) {
            Ok(more) => is_zero(digits, (10, more), self.digits),
            Err(_) => {
                let scaled = 10_u64.checked_pow(difference.unsigned_abs()).and_then(|ten| ten.checked_mul(self.digits));
                // What is more than any number of so many digits divides only 0.
                scaled.map_or(digits == 0, |divisor| digits.is_multiple_of(divisor))
            }
        }
    }
}

fn is_zero(digits: u64, power: (u128, u32), modulus: u64) -> bool {
    modulo(digits, power, modulus) == 0
}

/// Digits modulo `modulus`.
fn remainder(digits: &str, modulus: u64) -> u64 {
    let mut left = 0;
    for chunk in digits.as_bytes().chunks(DIGITS) {
        let value = chunk.iter().fold(0, |value, digit| value * 10 + u128::from(digit.wrapping_sub(b'0')));
        // No power of ten with so few digits overflows in 128 bits, times a remainder of 64.
        left = (left * 10_u128.pow(chunk.len() as u32) + value) % u128::from(modulus);
    }
    u64::try_from(left).unwrap_or(u64::MAX)
}

/// `digits` times a power, modulo `modulus`, by squaring. No product of two remainders overflows.
fn modulo(digits: u64, (base, mut power): (u128, u32), modulus: u64) -> u64 {
    let modulus = u128::from(modulus);
    let (mut result, mut base) = (u128::from(digits) % modulus, base % modulus);
    while power > 0 {
        if power & 1 == 1 {
            result = result * base % modulus;
        }
        base = base * base % modulus;
        power >>= 1;
    }
    u64::try_from(result).unwrap_or(u64::MAX)
}

/// The digits of a number without its sign, and a power of ten. They fit in 64 bits: an integer does, and the shortest text
/// of a binary64 has at most 17 digits.
fn decimal(number: &Number) -> Option<(u64, i32)> {
    if let Some(whole) = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs)) {
        return Some((whole, 0));
    }
    let text = number.to_string();
    let text = text.trim_start_matches('-');
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}").parse().ok()?;
    let fraction = i32::try_from(fraction.len()).ok()?;
    Some((digits, exponent.trim_start_matches('+').parse::<i32>().ok()?.checked_sub(fraction)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::decimal::Written;

    /// F40: numbers are divided as they are written.
    #[test]
    fn decimals_are_divided_as_they_are_written() {
        let number = |text: &str| serde_json::from_str::<Number>(text).unwrap();
        for (value, divisor, expected) in [
            ("0.3", "0.1", true),
            ("0.30000000000000004", "0.1", false),
            ("1.1", "0.1", true),
            ("4.35", "0.01", true),
            ("19.99", "0.01", true),
            ("19.999", "0.01", false),
            ("-0.3", "0.1", true),
            ("0", "0.7", true),
            ("0.0", "7", true),
            ("7.0", "7", true),
            ("1e2", "20", true),
            ("1e300", "0.3", false),
            ("1e22", "10", true),
            ("1e22", "0.1", true),
            ("1e23", "10", true),
            ("1e23", "3", false),
            ("-9223372036854775809", "3", true),
            ("-9223372036854775809", "8", false),
            ("18446744073709551616", "65536", true),
            ("18446744073709551616", "0.5", true),
            ("18446744073709551616", "10", false),
            ("18446744073709551616", "1e300", false),
            ("0.30000000000000000000000000000000000001", "0.1", false),
            ("0.30000000000000000000000000000000000001", "1e-38", true),
            ("-123456789012345678901234567890123456789.5", "0.5", true),
            ("-123456789012345678901234567890123456789.5", "1", false),
            ("123456789012345678901234567890123456789", "9", true),
            ("123456789012345678901234567890123456788", "4", true),
            ("1e-400", "1e-300", false),
            ("1e-400", "5e-324", false),
            ("9e-99999999999999999999", "3", false),
            ("100000000000000000000000000000000000000", "18446744073709551615", false),
            ("18446744073709551615000000000000000000000", "18446744073709551615", true),
            ("184467440737095516150.0", "1e1", true),
            ("1e-300", "1e300", false),
            ("18446744073709551615", "0.3", true),
            ("18446744073709551615", "18446744073709551615", true),
            ("9007199254740993", "2", false),
            ("9007199254740992", "2", true),
            ("1e308", "18446744073709551614", false),
            ("1e15", "1e-300", true),
            ("5e-324", "5e-324", true),
            ("1.5", "1e-7", true),
            ("9999999999999998.0", "9999999999999998", true),
            ("1234567890123456.8", "0.1", true),
        ] {
            let divisor = Multiple::new(&number(divisor)).unwrap();
            let found = divisor.allows_decimal(&Decimal::parse(value), &mut Steps::new(100));
            assert_eq!(found, Ok(expected), "{value} {divisor:?}");
            if Written::lost(value, &number(value)).is_none() {
                assert_eq!(divisor.allows(&number(value)), expected, "{value} {divisor:?}");
            }
        }
        for text in ["0", "-1", "0.0", "-0.5"] {
            assert_eq!(Multiple::new(&number(text)), None, "{text}");
        }
    }

    /// F40: a number may be as long as a message.
    #[test]
    fn a_long_number_takes_steps_for_its_digits() {
        let long = Decimal::parse(&"123456789".repeat(100_000));
        let nine = Multiple::new(&Number::from(9)).unwrap();
        assert_eq!(nine.allows_decimal(&long, &mut Steps::new(60_000)), Ok(true));
        assert_eq!(nine.allows_decimal(&long, &mut Steps::new(40_000)), Err(Exhausted));
    }
}
