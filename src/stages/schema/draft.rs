//! The values that a text may stand for. `5` in a query is a number, or a text, or a list of one number, and only its schema
//! knows which; where it allows several, each is tried, and one that is valid is valid.

use serde_json::{Map, Value};

use super::json::{self, JsonSchema};
use crate::budget::Steps;
use crate::refusal::Violation;
use crate::stages::decimal::Written;

/// Most values of one message that are judged. Each but the first may take only this part of the steps of a decision, so
/// all together take twice as many at most.
const MAX_READINGS: u64 = 32;
/// Most bytes of text in all these values together.
const MAX_BYTES: usize = 32 << 20;

/// A value, or what it may be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Draft {
    Value(Value),
    List(Vec<Draft>),
    /// Each name occurs once.
    Object(Vec<(String, Draft)>),
    /// The one that is most likely comes first.
    Several {
        readings: Vec<Draft>,
        chosen: usize,
    },
}

impl Draft {
    /// One of these; at least one is given.
    pub(super) fn one_of(mut readings: Vec<Draft>) -> Self {
        match (readings.pop(), readings.is_empty()) {
            (Some(only), true) => only,
            (Some(last), false) => {
                readings.push(last);
                Self::Several { readings, chosen: 0 }
            }
            (None, _) => Self::Value(Value::Null),
        }
    }

    /// Whether there is only one value that it may be.
    fn is_settled(&self) -> bool {
        match self {
            Self::Value(_) => true,
            Self::List(items) => items.iter().all(Self::is_settled),
            Self::Object(members) => members.iter().all(|(_, member)| member.is_settled()),
            Self::Several { .. } => false,
        }
    }

    /// The value as it is chosen.
    pub(super) fn value(&self) -> Value {
        match self {
            Self::Value(value) => value.clone(),
            Self::List(items) => items.iter().map(Self::value).collect(),
            Self::Object(members) => Value::Object(
                members.iter().map(|(name, member)| (name.clone(), member.value())).collect::<Map<_, _>>(),
            ),
            Self::Several { readings, chosen } => readings.get(*chosen).map(Self::value).unwrap_or_default(),
        }
    }

    /// The bytes of text in it, and its values.
    fn size(&self) -> usize {
        match self {
            Self::Value(Value::String(text)) => 1 + text.len(),
            Self::Value(_) => 1,
            Self::List(items) => items.iter().map(Self::size).sum(),
            Self::Object(members) => members.iter().map(|(name, member)| name.len() + member.size()).sum(),
            Self::Several { readings, .. } => readings.iter().map(Self::size).max().unwrap_or_default(),
        }
    }

    /// The value as it is chosen, without a copy.
    fn into_value(self) -> Value {
        match self {
            Self::Value(value) => value,
            Self::List(items) => items.into_iter().map(Self::into_value).collect(),
            Self::Object(members) => {
                Value::Object(members.into_iter().map(|(name, member)| (name, member.into_value())).collect())
            }
            Self::Several { .. } => self.value(),
        }
    }

    /// Chooses the next reading of what is at this place, or nearest above it. Returns false if there is none.
    fn next_at(&mut self, place: &[String]) -> bool {
        match self {
            Self::Value(_) => false,
            Self::List(items) => place.split_first().is_some_and(|(token, rest)| {
                token.parse().ok().and_then(|at: usize| items.get_mut(at)).is_some_and(|item| item.next_at(rest))
            }),
            Self::Object(members) => place.split_first().is_some_and(|(token, rest)| {
                members.iter_mut().find(|(name, _)| name == token).is_some_and(|(_, member)| member.next_at(rest))
            }),
            Self::Several { readings, chosen } => {
                if readings.get_mut(*chosen).is_some_and(|reading| reading.next_at(place)) {
                    return true;
                }
                let more = *chosen + 1 < readings.len();
                *chosen += usize::from(more);
                more
            }
        }
    }

    /// Chooses the next of all combinations. Returns false if that is the first again.
    fn next(&mut self) -> bool {
        match self {
            Self::Value(_) => false,
            Self::List(items) => items.iter_mut().any(Self::next),
            Self::Object(members) => members.iter_mut().any(|(_, member)| member.next()),
            Self::Several { readings, chosen } => {
                if readings.get_mut(*chosen).is_some_and(Self::next) {
                    return true;
                }
                *chosen = if *chosen + 1 < readings.len() { *chosen + 1 } else { 0 };
                *chosen != 0
            }
        }
    }

    /// Judges it, with the numbers in it that were rounded: returns no violations if one of its readings is valid, and otherwise those of the most likely. Returns `None`
    /// if that takes more steps.
    pub(super) fn violations_within(
        mut self,
        steps: Steps,
        numbers: &[Written],
        schema: &JsonSchema,
        prefix: &str,
    ) -> Option<Vec<Violation>> {
        if self.is_settled() {
            return schema.violations_within(steps, numbers, &mut self.into_value(), prefix);
        }
        let first = schema.violations_within(steps, numbers, &mut self.value(), prefix)?;
        if first.is_empty() {
            return Some(first);
        }
        let mut left = u64::try_from(MAX_BYTES / self.size().max(1)).unwrap_or(u64::MAX).min(MAX_READINGS);
        let mut undecided = false;
        let mut judge = |draft: &Self| {
            left = left.checked_sub(1)?;
            let found = schema.violations_within(steps.part(MAX_READINGS), numbers, &mut draft.value(), prefix);
            undecided |= found.is_none();
            Some(found.unwrap_or_else(|| vec![json::too_complex(prefix)]))
        };
        let valid = self.has_valid_reading(&first, prefix, &mut judge);
        if valid {
            return Some(Vec::new());
        }
        if undecided { None } else { Some(first) }
    }

    /// Tries other readings than the first, whose violations are these, as often as `judge` judges one.
    fn has_valid_reading(
        &mut self,
        first: &[Violation],
        prefix: &str,
        judge: &mut impl FnMut(&Self) -> Option<Vec<Violation>>,
    ) -> bool {
        // Most often each part is right or wrong by itself.
        let mut trial = self.clone();
        let mut places = places(first, prefix);
        while places.iter().filter(|place| trial.next_at(place)).count() > 0 {
            match judge(&trial) {
                Some(violations) if violations.is_empty() => return true,
                Some(violations) => places = self::places(&violations, prefix),
                None => return false,
            }
        }
        while self.next() {
            match judge(self) {
                Some(violations) if violations.is_empty() => return true,
                Some(_) => {}
                None => return false,
            }
        }
        false
    }
}

/// The places of violations below a prefix, each once.
fn places(violations: &[Violation], prefix: &str) -> Vec<Vec<String>> {
    let mut places: Vec<Vec<String>> = Vec::new();
    for violation in violations {
        let pointer = violation.pointer.strip_prefix(prefix).unwrap_or_default();
        let place: Vec<String> =
            pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn violations(draft: Draft, schema: &Value) -> Vec<Violation> {
        draft.violations_within(Steps::new(1_000_000), &[], &JsonSchema::new(schema).unwrap(), "").unwrap()
    }

    fn several(values: &[Value]) -> Draft {
        Draft::one_of(values.iter().cloned().map(Draft::Value).collect())
    }

    /// F38
    #[test]
    fn a_reading_that_is_valid_is_valid() {
        let both = || several(&[json!(1), json!("1")]);
        let object = |members: Vec<(&str, Draft)>| {
            Draft::Object(members.into_iter().map(|(name, draft)| (name.to_owned(), draft)).collect())
        };
        for (schema, draft, pointers) in [
            (json!({"properties": {"a": {"enum": ["1", 3]}}}), object(vec![("a", both())]), vec![]),
            (json!({"properties": {"a": {"enum": ["2", 3]}}}), object(vec![("a", both())]), vec!["/query/a"]),
            (
                json!({"properties": {"a~/": {"items": {"enum": ["1", 3]}}}}),
                object(vec![("a~/", Draft::List(vec![several(&[json!(3), json!("3")]), both()]))]),
                vec![],
            ),
            // Which is right depends on another.
            (
                json!({"oneOf": [{"properties": {"a": {"const": "1"}, "b": {"const": 1}}}]}),
                object(vec![("a", both()), ("b", both())]),
                vec![],
            ),
            (json!({"const": {"a": 1, "b": "1"}}), object(vec![("a", both()), ("b", both())]), vec![]),
            (json!({"required": ["c"]}), object(vec![("a", both())]), vec!["/query"]),
        ] {
            let schema = JsonSchema::new(&schema).unwrap();
            let found = draft.violations_within(Steps::new(1_000_000), &[], &schema, "/query").unwrap();
            let found: Vec<_> = found.iter().map(|violation| &*violation.pointer).collect();
            assert_eq!(found, pointers, "{schema:?}");
        }
    }

    /// F38
    #[test]
    fn readings_are_tried_a_bounded_number_of_times() {
        let many = |count| Draft::List((0..count).map(|_| several(&[json!(1), json!("1")])).collect());
        // All must be texts: found part by part. The last one alone: only by trying all combinations.
        let schema = json!({"items": {"type": "string"}});
        assert_eq!(violations(many(300), &schema), []);
        let schema = json!({"const": [1, 1, 1, "1"]});
        assert_eq!(violations(many(4), &schema), []);
        let schema = json!({"not": {"items": {}}});
        assert_eq!(violations(many(1000), &schema).len(), 1);
        // A large text is not copied as often: neither reading of the other part is tried.
        let large =
            |size: usize| Draft::List(vec![Draft::Value("x".repeat(size).into()), several(&[json!(1), json!("1")])]);
        let schema = json!({"prefixItems": [{}, {"type": "string"}]});
        assert_eq!(violations(large(1 << 20), &schema), []);
        assert_eq!(violations(large(33 << 20), &schema).len(), 1);
    }
}
