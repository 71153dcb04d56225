//! Whether the items of an array are unique (JSON Schema 2020-12 validation, §6.4.3), in time linear in their size.
//!
//! Items are compared by a keyed hash, so that nobody can choose items that have the same one, and only those with the same
//! hash are compared whole.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::LazyLock;

use serde_json::{Number, Value};

use super::exact::equal;
use crate::budget::{Exhausted, Steps};
use crate::stages::decimal::{self, Written};

/// Bytes of a text that are hashed in a step.
const BYTES: u64 = 32;

static KEY: LazyLock<ahash::RandomState> = LazyLock::new(ahash::RandomState::new);

/// Whether no two items are equal, with the numbers in them that were rounded.
pub(super) fn are_unique(items: &[Value], numbers: &[Written], steps: &mut Steps) -> Result<bool, Exhausted> {
    let mut hashes = Vec::new();
    for item in items {
        hashes.push((hash(item, numbers, steps)?, item));
    }
    hashes.sort_unstable_by_key(|(hash, _)| *hash);
    for two in hashes.windows(2) {
        let [(one, item), (other, next)] = two else { continue };
        if one == other && equal((item, numbers), (next, numbers), steps)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The hash of a value; that of equal values is equal. Lengths are part of it, so that brackets are.
fn hash(value: &Value, numbers: &[Written], steps: &mut Steps) -> Result<u64, Exhausted> {
    steps.take(1)?;
    let mut hasher = KEY.build_hasher();
    match value {
        Value::Null => hasher.write_u8(0),
        Value::Bool(value) => {
            hasher.write_u8(1);
            hasher.write_u8((*value).into());
        }
        Value::Number(number) => {
            hasher.write_u8(2);
            write_number(number, numbers, &mut hasher, steps)?;
        }
        Value::String(text) => {
            hasher.write_u8(3);
            write_text(text, &mut hasher, steps)?;
        }
        Value::Array(items) => {
            hasher.write_u8(4);
            hasher.write_usize(items.len());
            for item in items {
                hasher.write_u64(hash(item, numbers, steps)?);
            }
        }
        Value::Object(members) => {
            hasher.write_u8(5);
            hasher.write_usize(members.len());
            // The order of members does not matter, so neither may that of their hashes.
            let mut sum = 0_u64;
            for (name, member) in members {
                let mut pair = KEY.build_hasher();
                write_text(name, &mut pair, steps)?;
                pair.write_u64(hash(member, numbers, steps)?);
                sum = sum.wrapping_add(pair.finish());
            }
            hasher.write_u64(sum);
        }
    }
    Ok(hasher.finish())
}

fn write_text(text: &str, hasher: &mut impl Hasher, steps: &mut Steps) -> Result<(), Exhausted> {
    steps.take(text.len() as u64 / BYTES)?;
    hasher.write_usize(text.len());
    hasher.write(text.as_bytes());
    Ok(())
}

/// Numbers are equal by value: `1`, `1.0` and `1e0` are.
fn write_number(
    number: &Number,
    numbers: &[Written],
    hasher: &mut impl Hasher,
    steps: &mut Steps,
) -> Result<(), Exhausted> {
    let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    if let Some(integer) = integer {
        hasher.write_i128(integer);
    } else if let Some(written) = decimal::as_written(numbers, number) {
        steps.take(written.steps())?;
        match written.decimal.integer() {
            Some(integer) => hasher.write_i128(integer),
            None => written.decimal.hash(hasher),
        }
    } else {
        // No decimal that was rounded is equal to one that was kept.
        match number.as_f64().unwrap_or_default() {
            float if float.fract() == 0.0 => hasher.write_i128(float as i128),
            float => hasher.write_u64(float.to_bits()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_are_equal_by_value() {
        for (items, unique) in [
            (json!([]), true),
            (json!([1, 1.0]), false),
            (json!([0, -0.0]), false),
            (json!([1e300, 1e300]), false),
            (json!([u64::MAX, i64::MAX, 1.5, "1", true, null, false]), true),
            (json!([{"a": 1, "b": 2}, {"b": 2.0, "a": 1}]), false),
            (json!([{"a": 1, "b": 2}, {"a": 2, "b": 1}]), true),
            (json!([[], [[]], [[], []], [[[]]], {}, [{}], ""]), true),
            (json!([["a", "b"], ["ab", ""], ["a", "b"]]), false),
            (json!([["a", "b"], ["ab", ""]]), true),
        ] {
            assert_eq!(are_unique(items.as_array().unwrap(), &[], &mut Steps::new(1000)), Ok(unique), "{items}");
        }
    }

    /// F40, and items that are large and kept take a step each, as others do.
    #[test]
    fn large_numbers_are_equal_as_they_are_written() {
        let large: Vec<Value> = (0..1000).map(|item: u64| (u64::MAX - item).into()).collect();
        assert_eq!(are_unique(&large, &[], &mut Steps::new(1000)), Ok(true));
        for (items, unique) in [
            (json!([9_223_372_036_854_776_000_u64, 9.223372036854776e18]), false),
            (json!([9_223_372_036_854_775_808_u64, 9.223372036854776e18]), true),
            (json!([1e300, 1e299]), true),
        ] {
            assert_eq!(are_unique(items.as_array().unwrap(), &[], &mut Steps::new(1000)), Ok(unique), "{items}");
        }
    }

    /// Lists that differ only in their brackets are the worst for a hash that ignores them.
    #[test]
    fn it_takes_a_step_for_each_value() {
        let nested = |bits: u32| {
            (0..12).fold(json!([]), |inner, bit| if bits >> bit & 1 == 0 { json!([inner]) } else { json!([[], inner]) })
        };
        let items: Vec<Value> = (0..4096).map(nested).collect();
        assert_eq!(are_unique(&items, &[], &mut Steps::new(30 * 4096)), Ok(true));
        assert_eq!(are_unique(&items, &[], &mut Steps::new(4096)), Err(Exhausted));
    }
}
