//! Names with brackets in a query or a form: `a[b][c]=1`, `a[]=1`, `a[0]=1`, as Rails, PHP and Stripe's API write nested
//! values.
//!
//! What these would read in different ways is refused, so that an upstream never sees a value that was not validated.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::draft::Draft;
use super::text_encoding::Decoding;
use super::value_type::ValueType;

/// Most brackets in one name.
const MAX_DEPTH: usize = 16;

const TWICE: &str = "occurs more than once; send it once";
const BRACKETS: &str = "has a name whose brackets are not read alike everywhere; write `name[key]`";
const NUMBER: &str = "has lists of objects whose items must be numbered, such as `name[0][key]`";

/// The values of one field, by their names.
#[derive(Default)]
enum Tree<'t> {
    #[default]
    Nothing,
    Text(&'t str),
    Branch {
        named: BTreeMap<Cow<'t, str>, Tree<'t>>,
        /// Of `[]`.
        pushed: Vec<Tree<'t>>,
    },
}

/// Decodes the value of a field from what follows its name, such as `[b][c]`, and texts. The error completes a sentence
/// that begins with "it".
pub(super) fn value<'t>(
    value_type: &ValueType,
    pairs: impl Iterator<Item = (&'t str, &'t str)>,
    decoding: Decoding<'_>,
) -> Result<Draft, &'static str> {
    let mut tree = Tree::default();
    for (brackets, text) in pairs {
        tree.insert(&steps(brackets)?, text)?;
    }
    tree.value(value_type, decoding)
}

/// The keys in `[a][b][]`.
fn steps(brackets: &str) -> Result<Vec<&str>, &'static str> {
    let mut steps = Vec::new();
    let mut rest = brackets;
    while !rest.is_empty() {
        let (step, after) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).ok_or(BRACKETS)?;
        if step.contains('[') || steps.len() == MAX_DEPTH {
            return Err(BRACKETS);
        }
        steps.push(step);
        rest = after;
    }
    Ok(steps)
}

impl<'t> Tree<'t> {
    fn insert(&mut self, steps: &[&str], text: &'t str) -> Result<(), &'static str> {
        let Some((step, after)) = steps.split_first() else {
            return match self {
                Self::Nothing => {
                    *self = Self::Text(text);
                    Ok(())
                }
                _ => Err(TWICE),
            };
        };
        if matches!(self, Self::Nothing) {
            *self = Self::Branch { named: BTreeMap::new(), pushed: Vec::new() };
        }
        let Self::Branch { named, pushed } = self else { return Err(TWICE) };
        if !step.is_empty() {
            return named.entry(Cow::Owned((*step).to_owned())).or_default().insert(after, text);
        }
        // Rails adds to the last item until a key occurs again; PHP begins a new item each time.
        if let (Some(next), Some(Self::Branch { named, .. })) = (after.first(), pushed.last())
            && !named.contains_key(*next)
        {
            return Err(NUMBER);
        }
        pushed.push_mut(Self::Nothing).insert(after, text)
    }

    fn value(&self, value_type: &ValueType, decoding: Decoding<'_>) -> Result<Draft, &'static str> {
        let (named, pushed) = match self {
            Self::Nothing => return Err(BRACKETS),
            Self::Text(text) => return value_type.scalar(text, decoding),
            Self::Branch { named, pushed } => (named, pushed),
        };
        if !named.is_empty() && !pushed.is_empty() {
            return Err(BRACKETS);
        }
        let item_type = value_type.list.as_deref();
        let items = |items: Vec<&Self>| {
            let text = ValueType::default();
            let values = items.into_iter().map(|item| item.value(item_type.unwrap_or(&text), decoding));
            values.collect::<Result<_, _>>().map(Draft::List)
        };
        if !pushed.is_empty() {
            return items(pushed.iter().collect());
        }
        let members = || {
            let members = named.iter().map(|(name, tree)| {
                let value = tree.value(value_type.member(name), decoding)?;
                Ok((name.to_string(), value))
            });
            members.collect::<Result<_, _>>().map(Draft::Object)
        };
        let numbered = item_type.is_some() && named.keys().all(|key| key.bytes().all(|byte| byte.is_ascii_digit()));
        if !numbered {
            return members();
        }
        let list = in_order(named).and_then(items);
        match value_type.object {
            None => list,
            Some(_) => Ok(Draft::one_of(list.into_iter().chain([members()?]).collect())),
        }
    }
}

/// Items by their numbers, which count from 0 without gaps: readers differ in what a gap means.
fn in_order<'a, 't>(named: &'a BTreeMap<Cow<'t, str>, Tree<'t>>) -> Result<Vec<&'a Tree<'t>>, &'static str> {
    let mut items = BTreeMap::new();
    for (key, tree) in named {
        let number = key.parse::<usize>().ok().filter(|number| number.to_string() == **key).ok_or(BRACKETS)?;
        items.insert(number, tree);
    }
    match items.keys().enumerate().all(|(position, number)| position == *number) {
        true => Ok(items.into_values().collect()),
        false => Err("has items whose numbers do not count from 0 without gaps"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::budget::Steps;
    use crate::stages::schema::text_encoding::TextEncoding;
    use crate::stages::strict_json::Intake;

    /// F15
    #[test]
    fn nested_names_are_read_as_rails_php_and_stripe_write_them() {
        let item = json!({"type": "object", "properties": {"n": {"type": "integer"}, "on": {"type": "boolean"}}});
        let schema = json!({"type": "object", "properties": {
            "text": {"type": "string"},
            "deep": {"type": "object", "properties": {"count": {"type": "integer"}, "ids": {"items": {"type": "integer"}}}},
            "tags": {"type": "array", "items": {"type": "string"}},
            "items": {"type": "array", "items": item},
            "created": {"anyOf": [{"type": "integer"}, {"properties": {"gt": {"type": "integer"}}}]},
            "any": {},
        }});
        let value_type = ValueType::nested(&schema, &schema);
        for (pairs, expected) in [
            (&["[text]=a"] as &[&str], Ok(json!({"text": "a"}))),
            (
                &["[deep][count]=5", "[deep][ids][]=1", "[deep][ids][]=2"],
                Ok(json!({"deep": {"count": 5, "ids": [1, 2]}})),
            ),
            (&["[tags][]=a", "[tags][]=5"], Ok(json!({"tags": ["a", "5"]}))),
            (&["[tags][1]=b", "[tags][0]=a"], Ok(json!({"tags": ["a", "b"]}))),
            (
                &["[items][0][n]=1", "[items][0][on]=true", "[items][1][n]=2"],
                Ok(json!({"items": [{"n": 1, "on": true}, {"n": 2}]})),
            ),
            (&["[items][][n]=1", "[items][][n]=2"], Ok(json!({"items": [{"n": 1}, {"n": 2}]}))),
            (&["[created]=5"], Ok(json!({"created": 5}))),
            (&["[created][gt]=5"], Ok(json!({"created": {"gt": 5}}))),
            (&["[text][x]=a"], Ok(json!({"text": {"x": "a"}}))),
            (&["[text][]=a"], Ok(json!({"text": ["a"]}))),
            (&["[any][a][b]=5"], Ok(json!({"any": {"a": {"b": "5"}}}))),
            (&["[deep]="], Ok(json!({"deep": ""}))),
            // Readers differ.
            (&["[items][][n]=1", "[items][][on]=true"], Err(NUMBER)),
            (&["[tags][0]=a", "[tags][2]=b"], Err("has items whose numbers do not count from 0 without gaps")),
            (&["[tags][0]=a", "[tags][]=b"], Err(BRACKETS)),
            (&["[tags][00]=a"], Err(BRACKETS)),
            (&["[text]=a", "[text]=b"], Err(TWICE)),
            (&["[text]=a", "[text][b]=c"], Err(TWICE)),
            (&["[text=a"], Err(BRACKETS)),
            (&["[text]x=a"], Err(BRACKETS)),
            (&["[a[b]]=a"], Err(BRACKETS)),
        ] {
            let pairs = pairs.iter().map(|pair| pair.split_once('=').unwrap());
            assert_eq!(
                value(
                    &value_type,
                    pairs.clone(),
                    Decoding { encoding: TextEncoding::Form, intake: &Intake::new(1 << 20, Steps::new(1000)) }
                )
                .map(|draft| draft.value()),
                expected,
                "{:?}",
                pairs.collect::<Vec<_>>()
            );
        }
        let deep = "[a]".repeat(17);
        assert_eq!(
            value(
                &value_type,
                [(deep.as_str(), "")].into_iter(),
                Decoding { encoding: TextEncoding::Form, intake: &Intake::new(1 << 20, Steps::new(1000)) }
            ),
            Err(BRACKETS)
        );
    }
}
