//! `multipleOf` (JSON Schema 2020-12 validation, §6.2.1) of decimals, exactly as they are written: binary64 cannot divide
//! by 0.1.

use serde_json::Number;

/// A divisor: `digits` and a power of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Multiple {
    digits: u128,
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
        let difference = exponent.saturating_sub(self.exponent);
        match u32::try_from(difference) {
            Ok(more) => product(digits % self.digits, power_of_ten(more, self.digits), self.digits) == 0,
            Err(_) => {
                let scaled =
                    10_u128.checked_pow(difference.unsigned_abs()).and_then(|ten| ten.checked_mul(self.digits));
                // What is more than any number of so many digits divides only 0.
                scaled.map_or(digits == 0, |divisor| digits % divisor == 0)
            }
        }
    }
}

/// The digits of a number without its sign, and a power of ten. They are at most 20, because a number is kept in 64 bits.
fn decimal(number: &Number) -> Option<(u128, i32)> {
    if let Some(whole) = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs)) {
        return Some((whole.into(), 0));
    }
    let text = number.to_string();
    let text = text.trim_start_matches('-');
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}").parse().ok()?;
    let fraction = i32::try_from(fraction.len()).ok()?;
    Some((digits, exponent.trim_start_matches('+').parse::<i32>().ok()?.checked_sub(fraction)?))
}

/// 10 to a power, modulo `modulus`, by squaring.
fn power_of_ten(mut power: u32, modulus: u128) -> u128 {
    let (mut result, mut base) = (1 % modulus, 10 % modulus);
    while power > 0 {
        if power & 1 == 1 {
            result = product(result, base, modulus);
        }
        base = product(base, base, modulus);
        power >>= 1;
    }
    result
}

/// A product modulo `modulus`, of factors less than it. By doubling where 128 bits do not suffice.
fn product(mut factor: u128, mut times: u128, modulus: u128) -> u128 {
    if let Some(product) = factor.checked_mul(times) {
        return product % modulus;
    }
    let sum = |a: u128, b: u128| {
        a.checked_add(b).map_or_else(|| a.wrapping_add(b).wrapping_sub(modulus), |sum| sum % modulus)
    };
    let mut result = 0;
    while times > 0 {
        if times & 1 == 1 {
            result = sum(result, factor);
        }
        factor = sum(factor, factor);
        times >>= 1;
    }
    result
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
            ("3e300", "0.3", true),
            ("1e-300", "1e300", false),
            ("1e300", "1e-300", true),
            ("18446744073709551615", "0.3", true),
            ("18446744073709551615", "18446744073709551615", true),
            ("9007199254740993", "2", false),
            ("9007199254740992", "2", true),
            ("1e308", "18446744073709551614", false),
            ("5e-324", "5e-324", true),
            ("1.7976931348623157e308", "5e-324", true),
            ("1.5", "1e-7", true),
        ] {
            let divisor = Multiple::new(&number(divisor)).unwrap();
            assert_eq!(divisor.allows(&number(value)), expected, "{value} {divisor:?}");
        }
        for text in ["0", "-1", "0.0", "-0.5"] {
            assert_eq!(Multiple::new(&number(text)), None, "{text}");
        }
    }
}
