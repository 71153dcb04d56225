//! `multipleOf` (JSON Schema 2020-12 validation, §6.2.1) of decimals as they are written: binary64 cannot divide by 0.1.

use serde_json::Number;

/// From here on, binary64 does not keep every integer.
const ROUNDED: f64 = 9_007_199_254_740_992.0;

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
        let Some((digits, exponent)) = decimal(number) else { return false };
        if !self.divides(digits, exponent) {
            return false;
        }
        // A large number that was rounded when it was read may have had other digits: it must be a multiple in any case.
        match number.as_f64().filter(|value| number.is_f64() && value.abs() >= ROUNDED) {
            Some(value) => self.divides_binary(value),
            None => true,
        }
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

    /// Whether an integer that binary64 has rounded is a multiple: 53 bits, times a power of two.
    fn divides_binary(self, value: f64) -> bool {
        const FRACTION: u32 = 52;
        const BIAS: u32 = 1023 + FRACTION;
        let bits = value.to_bits();
        let digits = bits & ((1 << FRACTION) - 1) | 1 << FRACTION;
        let Some(twos) = u32::try_from(bits >> FRACTION & 0x7ff).ok().and_then(|power| power.checked_sub(BIAS)) else {
            return false;
        };
        let tens = self.exponent.unsigned_abs();
        if self.exponent > 0 {
            // A divisor that does not fit in 64 bits is no use to anybody who cares for the last digit.
            let divisor = 10_u64.checked_pow(tens).and_then(|ten| ten.checked_mul(self.digits));
            return divisor.is_some_and(|divisor| is_zero(digits, (2, twos), divisor));
        }
        let digits = modulo(digits, (10, tens), self.digits);
        is_zero(digits, (2, twos), self.digits)
    }
}

fn is_zero(digits: u64, power: (u128, u32), modulus: u64) -> bool {
    modulo(digits, power, modulus) == 0
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
            // What binary64 makes of it is no multiple, and what was written is not known any more.
            ("1e23", "10", false),
            ("-9223372036854775809", "10", false),
            ("-9223372036854775809", "8", true),
            ("18446744073709551616", "4", true),
            ("18446744073709551616", "0.5", true),
            ("18446744073709551616", "10", false),
            ("18446744073709551616", "1e300", false),
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
            assert_eq!(divisor.allows(&number(value)), expected, "{value} {divisor:?}");
        }
        for text in ["0", "-1", "0.0", "-0.5"] {
            assert_eq!(Multiple::new(&number(text)), None, "{text}");
        }
    }
}
