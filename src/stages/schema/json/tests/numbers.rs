//! F40: numbers are judged as they are written, and not as what binary64 or 64 bits make of them.

use serde_json::json;

use super::super::*;

/// The places of violations of a body, each with its keyword; `None` if it is not JSON, or too complex to judge.
fn broken(schema: &Value, body: &str) -> Option<String> {
    let schema = JsonSchema::new(schema).unwrap();
    let refusal = schema.check(body.as_bytes()).err();
    let violations = refusal.as_ref().map_or(&[][..], |refusal| refusal.violations());
    let of = |violation: &Violation| Some(format!("{} {}", violation.pointer, violation.keyword.as_ref()?));
    let found: Option<Vec<String>> = violations.iter().map(of).collect();
    found.map(|found| found.join(", ")).filter(|found| refusal.is_none() || !found.is_empty())
}

#[test]
fn each_keyword_judges_the_number_that_is_written() {
    for (schema, body, expected) in [
        (json!({"type": "integer"}), "1.0000000000000000001", " type"),
        (json!({"type": "integer"}), "1.0000000000000000000", ""),
        (json!({"type": "integer"}), "123456789012345678901234567890.5", " type"),
        (json!({"type": "integer"}), "123456789012345678901234567890", ""),
        (json!({"type": "integer"}), "1000000000000000000000000e-24", ""),
        (json!({"type": "integer"}), "1e-400", " type"),
        (json!({"type": "integer"}), "0e-400", ""),
        (json!({"type": "integer"}), "9e-99999999999999999999", " type"),
        (json!({"type": ["string", "integer"]}), "9007199254740993.5", " type"),
        (json!({"type": "string"}), "0.3000000000000000000001", " type"),
        (json!({"type": "number"}), "0.3000000000000000000001", ""),
        (json!({"maximum": 0.3}), "0.3000000000000000000001", " maximum"),
        (json!({"maximum": 0.3}), "0.2999999999999999999999", ""),
        (json!({"exclusiveMaximum": 0.3}), "0.2999999999999999999999", " exclusiveMaximum"),
        (json!({"exclusiveMaximum": 0.3}), "0.3000000000000000000000", " exclusiveMaximum"),
        (json!({"minimum": 0.3}), "0.2999999999999999999999", " minimum"),
        (json!({"exclusiveMinimum": 0}), "1e-400", " exclusiveMinimum"),
        (json!({"exclusiveMinimum": 0}), "-1e-400", " exclusiveMinimum"),
        (json!({"maximum": 0}), "1e-400", " maximum"),
        (json!({"minimum": i64::MIN}), "-9223372036854775808", ""),
        (json!({"minimum": i64::MIN}), "-9223372036854775809", " minimum"),
        (json!({"maximum": u64::MAX}), "18446744073709551616", " maximum"),
        (json!({"maximum": u64::MAX}), "18446744073709551615.0", " maximum"),
        (json!({"maximum": 9_007_199_254_740_992_u64}), "9007199254740992.5", " maximum"),
        // Binary64 makes 9223372036854775808 of what is written so.
        (json!({"maximum": 9.223372036854776e18}), "9223372036854775900", ""),
        (json!({"maximum": 9_223_372_036_854_775_900_u64}), "9.223372036854776e18", " maximum"),
        (json!({"const": 1}), "1.00000000000000000000000001", " const"),
        (json!({"const": 1}), "1.00000000000000000000000000", ""),
        (json!({"const": 0}), "1e-400", " const"),
        (json!({"const": u64::MAX}), "18446744073709551615.000", " const"),
        (json!({"const": u64::MAX}), "18446744073709551616", " const"),
        (json!({"const": 9.223372036854776e18}), "9223372036854775808", " const"),
        (json!({"const": 9.223372036854776e18}), "9223372036854776000", ""),
        (json!({"const": [{"a": 0.1}, 1]}), r#"[{"a": 0.1}, 1.0]"#, ""),
        (json!({"const": [{"a": 0.1}, 1]}), r#"[{"a": 0.10000000000000000000001}, 1]"#, " const"),
        (json!({"enum": [[0.1], "a", 2]}), "[0.10000000000000000000001]", " enum"),
        (json!({"enum": [[0.1], "a", 2]}), "[0.10000000000000000000000]", ""),
        (json!({"enum": [[0.1], "a", 2]}), "2.00000000000000000", ""),
        (json!({"enum": [[0.1], "a", 2]}), "\"a\"", ""),
        (json!({"enum": [[0.1], "a", 2]}), "\"b\"", " enum"),
        (json!({"enum": [[0.1], "a", 2]}), "3", " enum"),
        (json!({"enum": [["a"], "b"]}), "[\"a\"]", ""),
        (json!({"enum": [["a"], "b"]}), "[0.10000000000000000000001]", " enum"),
        (json!({"multipleOf": 0.1}), "0.3000000000000000000001", " multipleOf"),
        (json!({"multipleOf": 10}), "-9223372036854775809", " multipleOf"),
        (json!({"multipleOf": 7}), "18446744073709551617", " multipleOf"),
        (json!({"multipleOf": 3}), "-9223372036854775809", " multipleOf"),
        (json!({"multipleOf": 8}), "-9223372036854775816", ""),
        (json!({"uniqueItems": true}), "[0.3, 0.3000000000000000000001]", " uniqueItems"),
        (json!({"uniqueItems": true}), "[0.3, 0.3000000000000000000000]", " uniqueItems"),
        (json!({"uniqueItems": true}), "[{\"a\": 1e-400}, {\"a\": 1e-400}]", " uniqueItems"),
        (json!({"uniqueItems": true}), "[1e-400, 1e-401, 0]", " uniqueItems"),
        (json!({"uniqueItems": true}), "[1e-400, 1, 0.3000000000000000000001]", ""),
        (json!({"uniqueItems": true}), "[18446744073709551616, 18446744073709551617]", " uniqueItems"),
        (json!({"uniqueItems": true}), "[18446744073709551615, 18446744073709551615.0]", " uniqueItems"),
        (json!({"format": "int32"}), "2147483647.00000000000001", " format"),
        (json!({"format": "int64"}), "9223372036854775807.0", " format"),
        (json!({"format": "int64"}), "9223372036854775807.1", " format"),
        (json!({"format": "int64"}), "-9223372036854775808.0", ""),
        (json!({"format": "int64"}), "-9223372036854775809", " format"),
        (json!({"format": "int64"}), "9223372036854775808.0", " format"),
        (json!({"format": "uint64"}), "18446744073709551615.0", " format"),
        (json!({"format": "uint64"}), "18446744073709551616", " format"),
        (json!({"format": "uint8"}), "-1e-400", " format"),
        (json!({"format": "float"}), "3.4028234663852886e38", ""),
        (json!({"format": "float"}), "1000000000000000000000000000000000000000.5", " format"),
        (json!({"format": "double"}), "0.3000000000000000000001", ""),
        (
            json!({"properties": {"a": {"maximum": 0.3}, "b": {"maximum": 0.3}}}),
            r#"{"b": 0.3000000000000000000001, "a": 0.3, "c": 0.30000000000000000000001}"#,
            "/b maximum",
        ),
        // A server that rounds what is sent must find it valid, too.
        (json!({"not": {"const": 0.3}}), "0.3000000000000000000001", " not"),
        (json!({"not": {"const": 0.3}}), "0.4000000000000000000001", ""),
        (json!({"not": {"const": 0.3}}), "0.3000000000000000000000", " not"),
        (json!({"oneOf": [{"maximum": 0.3}, {"minimum": 0.3}]}), "0.3000000000000000000001", " oneOf"),
        (json!({"oneOf": [{"maximum": 0.3}, {"minimum": 0.3}]}), "0.3000000000000000000000", " oneOf"),
        (json!({"contains": {"const": 1}}), "[1.00000000000000000001, 2]", " contains"),
        (json!({"additionalProperties": {"type": "integer"}}), r#"{"a": 1.00000000000000000001}"#, "/a type"),
        (json!({"unevaluatedItems": {"type": "integer"}}), "[1.00000000000000000001]", "/0 unevaluatedItems"),
    ] {
        assert_eq!(broken(&schema, body).as_deref(), Some(expected), "{schema} {body}");
    }
}

/// Draft 4 asks whether an integer is written without fraction and exponent.
#[test]
fn draft_4_counts_as_whole_what_is_written_so() {
    let schema = |rest: Value| {
        let mut schema = json!({"$schema": "http://json-schema.org/draft-04/schema#"});
        schema.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        schema
    };
    for (rest, body, expected) in [
        (json!({"type": "integer"}), "12345678910111213141516171819202122232425262728293031", ""),
        (json!({"type": "integer"}), "-100000000000000000000", ""),
        (json!({"type": "integer"}), "100000000000000000000.0", " type"),
        (json!({"type": "integer"}), "-0", ""),
        (json!({"type": "integer"}), "-0.0", " type"),
        (json!({"type": "integer"}), "-0e0", " type"),
        (json!({"type": "integer"}), "0", ""),
        (json!({"items": {"type": "integer"}, "uniqueItems": true}), "[1, -0]", ""),
        (json!({"uniqueItems": true}), "[0, -0]", " uniqueItems"),
        (json!({"uniqueItems": true}), "[-0, 0.0]", " uniqueItems"),
        (json!({"enum": [[0], 0, 1]}), "-0", ""),
        (json!({"enum": [[0], 3]}), "[-0]", ""),
        (json!({"maximum": 0, "minimum": 0, "multipleOf": 3}), "-0", ""),
        (json!({"minimum": 0, "exclusiveMinimum": true}), "-0", " minimum"),
        (json!({"type": "integer"}), "1.0000000000000000000000", " type"),
        (json!({"minimum": 0.3, "exclusiveMinimum": true}), "0.3000000000000000000000", " minimum"),
        (json!({"minimum": 0.3, "exclusiveMinimum": true}), "0.3000000000000000000001", " minimum"),
        (json!({"minimum": u64::MAX, "exclusiveMinimum": true}), "18446744073709551615.0", " minimum"),
        (json!({"minimum": u64::MAX, "exclusiveMinimum": true}), "18446744073709551616", ""),
        (json!({"const": 1}), "1.00000000000000000000000001", ""),
    ] {
        let found = broken(&schema(rest.clone()), body);
        let found = found.map(|found| found.replace("exclusiveMinimum", "minimum"));
        assert_eq!(found.as_deref(), Some(expected), "{rest} {body}");
    }
}

/// The exponents of two numbers are too long to be compared, so nobody knows whether they are equal, and `not` knows it no
/// better.
#[test]
fn what_cannot_be_compared_is_refused() {
    let body = "[9e-99999999999999999999, 9e-99999999999999999998]";
    for schema in [json!({"uniqueItems": true}), json!({"not": {"uniqueItems": true}})] {
        assert_eq!(broken(&schema, body), None, "{schema}");
    }
    assert_eq!(broken(&json!({"items": {"type": "number"}}), body).as_deref(), Some(""));
    let same = "[9e-99999999999999999999, 90e-100000000000000000000]";
    assert_eq!(broken(&json!({"uniqueItems": true}), same), None);
}

/// Numbers that are kept are judged without a tree, whatever is around them.
#[test]
fn only_rounded_numbers_need_a_tree() {
    let schema = json!({"properties": {"n": {"type": "number", "minimum": -1, "maximum": 1}, "f": {"type": "number"}}});
    let fast_path = JsonSchema::new(&schema).unwrap().fast_path.unwrap();
    for (body, accepts) in [
        (r#"{"n": 0.0, "id": "1e-5 12345678901234567890"}"#, true),
        (r#"{"n": 0.30000000000000004}"#, true),
        (r#"{"n": 1e-7}"#, true),
        (r#"{"n": 0.3, "f": 0.3000000000000000000001}"#, false),
        (r#"{"f": 0.3000000000000000000001}"#, true),
        (r#"{"n": 0.3000000000000000000001}"#, false),
        (r#"{"n": 1.0000000000000000000001}"#, false),
        (r#"{"n": 1e-400}"#, false),
        (r#"{"n": 5e-324}"#, false),
    ] {
        assert_eq!(fast_path.accepts(body.as_bytes(), Steps::new(1000)), accepts, "{body}");
    }
}

/// Some encoders write it for each negative number that is nearly nothing.
#[test]
fn many_negative_zeros_are_not_too_complex() {
    let schema = JsonSchema::new(&json!({"items": {"type": "number", "minimum": -1}})).unwrap();
    let body = |count: usize| format!("[{}-0]", "-0,".repeat(count));
    assert!(schema.check(body(60_000).as_bytes()).is_ok());
    assert!(schema.check(format!("[{}1.5, -2.5]", "-0,".repeat(1000)).as_bytes()).is_err());
}

/// A number may be as long as a message.
#[test]
fn long_numbers_take_steps_for_their_digits() {
    let long = "0.".to_owned() + &"1234567890".repeat(20_000);
    let schema =
        json!({"items": {"minimum": 0, "maximum": 1, "type": "number", "multipleOf": 1e-12}, "uniqueItems": true});
    let schema = JsonSchema::new(&schema).unwrap();
    let one = format!("[{long}]");
    let refusal = schema.check(one.as_bytes()).unwrap_err();
    assert_eq!(refusal.violations()[0].keyword.as_deref(), Some("multipleOf"));
    assert!(schema.check_within(Steps::new(10_000), one.as_bytes()).is_none());
    let many = format!("[{}{long}]", format!("{long},").repeat(100));
    let refusal = schema.check(many.as_bytes()).unwrap_err();
    assert!(refusal.violations()[0].detail.contains("too complex to judge"), "{:?}", refusal.violations()[0].detail);
}

/// Each number that was rounded is compared with each that is listed, and that is counted.
#[test]
fn a_long_list_of_numbers_takes_steps_for_each_of_them() {
    let listed: Vec<f64> = (0..1000).map(|number| f64::from(number) / 1000.0).collect();
    let schema = JsonSchema::new(&json!({"items": {"enum": listed}})).unwrap();
    let body = |count: usize| format!("[{}0.5]", "0.999000000000000000000,".repeat(count));
    assert!(schema.check(body(1000).as_bytes()).is_ok());
    let rounded = |count: usize| body(count).replace("000000000000000000", "000000000000000001");
    let detail = |count: usize| schema.check(rounded(count).as_bytes()).unwrap_err().violations()[0].detail.clone();
    assert_eq!(detail(100), "value is none of those of `enum`");
    let not = JsonSchema::new(&json!({"not": {"items": {"not": {"enum": listed}}}})).unwrap();
    let refusal = not.check(rounded(20_000).as_bytes()).unwrap_err();
    assert!(refusal.violations()[0].detail.contains("too complex to judge"), "{:?}", refusal.violations());
}
