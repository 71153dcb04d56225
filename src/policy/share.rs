//! A share of a whole as the policy writes it: `1%`, `0.01%`, `100%`.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Visitor};

use super::source::quote;
use super::units::InvalidQuantity;

/// A share, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share(pub(crate) u32);

/// One percent, in millionths.
const PERCENT: u32 = 10_000;

impl FromStr for Share {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let invalid = |message: &str, help: &str| InvalidQuantity {
            message: format!("{} {message}", quote(text)),
            help: help.to_owned(),
        };
        let Some(number) = text.strip_suffix('%') else {
            return Err(invalid("has no percent sign", "write a share such as `1%` or `0.01%`"));
        };
        let (whole, fraction) = number.split_once('.').map_or((number, None), |(whole, rest)| (whole, Some(rest)));
        let digits =
            |part: &str, most| (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole, 3) || !fraction.is_none_or(|fraction| digits(fraction, 4)) {
            return Err(invalid("is not a share", "write percent with up to four decimals, such as `1%` or `0.01%`"));
        }
        // Four digits of a percent are hundredths of a percent's hundredth: millionths.
        let millionths = format!("{whole}{:0<4}", fraction.unwrap_or_default()).parse::<u32>().unwrap_or(u32::MAX);
        if millionths > 100 * PERCENT {
            return Err(invalid("is more than all", "write at most `100%`"));
        }
        Ok(Self(millionths))
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Share;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share such as `1%`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Share, E> {
                // The decoder splits message and help at the line break; the quoted text has none.
                text.parse().map_err(|InvalidQuantity { message, help }| E::custom(format_args!("{message}\n{help}")))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percent_with_up_to_four_decimals() {
        for (text, share) in [
            ("0%", Some(0)),
            ("1%", Some(10_000)),
            ("100%", Some(1_000_000)),
            ("099.9999%", Some(999_999)),
            ("0.0001%", Some(1)),
            ("12.5%", Some(125_000)),
            ("100.0001%", None),
            ("101%", None),
            ("1000%", None),
            ("0.00001%", None),
            ("1", None),
            ("%", None),
            (".5%", None),
            ("1.%", None),
            ("-1%", None),
            ("1 %", None),
            ("1.2.3%", None),
            ("1,5%", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok().map(|Share(share)| share), share, "{text}");
        }
    }
}
