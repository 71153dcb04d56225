//! `xs:float` and `xs:double`.

/// Whether a text has the form of a number with an optional exponent; `INF`, `-INF` and `NaN` have their own.
fn is_scientific(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (text.get(..at).unwrap_or(""), text.get(at.saturating_add(1)..)),
        None => (text, None),
    };
    super::decimal::Decimal::parse(mantissa).is_some() && exponent.is_none_or(super::decimal::is_integer)
}

/// Reads an `xs:double`.
pub(crate) fn parse_double(text: &str) -> Option<f64> {
    match text {
        "INF" => Some(f64::INFINITY),
        "-INF" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ if is_scientific(text) => text.parse().ok(),
        _ => None,
    }
}

/// Reads an `xs:float`.
pub(crate) fn parse_float(text: &str) -> Option<f32> {
    match text {
        "INF" => Some(f32::INFINITY),
        "-INF" => Some(f32::NEG_INFINITY),
        "NaN" => Some(f32::NAN),
        _ if is_scientific(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_others() {
        for (text, expected) in
            [("1", Some(1.0)), ("-1.5E3", Some(-1500.0)), (".5e-1", Some(0.05)), ("INF", Some(f64::INFINITY))]
        {
            assert_eq!(parse_double(text), expected, "{text}");
        }
        for text in ["", "inf", "+INF", "nan", "1e", "e1", "1e1.5", "0x1", "1_0", "infinity", "1f"] {
            assert_eq!(parse_double(text), None, "{text}");
            assert_eq!(parse_float(text), None, "{text}");
        }
        assert!(parse_float("NaN").is_some_and(f32::is_nan));
        assert_eq!(parse_float("1e39"), Some(f32::INFINITY));
    }
}
