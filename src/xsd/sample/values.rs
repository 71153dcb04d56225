//! Values of simple types.

use crate::xsd::datatypes::check::{Checker, Surroundings};
use crate::xsd::datatypes::simple_type::{Role, SimpleId, SimpleType, Variety};
use crate::xsd::datatypes::work::Work;
use crate::xsd::names::XML;
use crate::xsd::schema::Schema;

/// Most characters or items that a length asks for.
const MAX_LENGTH: u64 = 512;

/// What is tried: each type has one of these, unless its facets say more.
const COMMON: [&str; 20] = [
    "text",
    "true",
    "1",
    "0",
    "2026-01-15",
    "2026-01-15T12:00:00Z",
    "12:00:00Z",
    "2026",
    "2026-01",
    "--01-15",
    "--01",
    "---15",
    "P1D",
    "1.5",
    "en",
    "AAAA",
    "00",
    "http://example.com/",
    "A",
    "",
];

/// There are no prefixes but `xml`.
struct Nothing;

impl Surroundings for Nothing {
    fn namespace(&self, prefix: &str) -> Option<&str> {
        match prefix {
            "" => Some(""),
            "xml" => Some(XML),
            _ => None,
        }
    }

    fn has_notation(&self, _: &str, _: &str) -> bool {
        false
    }
}

/// Returns a value of a simple type; `None` if none was found. `number` is another one for each value, so that identifiers differ.
///
/// Recurses on unions and lists, whose nesting the schema's own compilation bounds.
pub(super) fn value(schema: &Schema, id: SimpleId, number: u32) -> Option<String> {
    let ty = schema.simple.get(id.index())?;
    let fits = |text: &str| {
        let work = Work::in_schema();
        let checker = Checker::new(&schema.simple, &Nothing, &work);
        checker.check(id, text, false, &mut Vec::new()).is_ok()
    };
    let mut tried: Vec<String> = Vec::new();
    if ty.role == Role::Id {
        tried.push(format!("id{number}"));
    }
    tried.extend(ty.facets.enumeration.iter().filter_map(|values| values.first()).map(str::to_owned));
    match &ty.variety {
        Variety::List(item) => {
            let count = shortest(ty).unwrap_or(1).max(1);
            let item = value(schema, *item, number)?;
            tried.push(vec![item; usize::try_from(count).ok()?].join(" "));
        }
        Variety::Union(members) => tried.extend(members.iter().filter_map(|member| value(schema, *member, number))),
        Variety::Any | Variety::Atomic(_) => {}
    }
    let patterns = ty.facets.patterns.iter().flat_map(|patterns| patterns.iter());
    tried.extend(patterns.flat_map(|pattern| pattern.samples()));
    tried.extend(of_length(ty));
    let bounds = [&ty.facets.min, &ty.facets.max].into_iter().flatten().flat_map(|bound| near(&bound.text));
    let common = COMMON.into_iter().map(str::to_owned);
    tried.into_iter().chain(common).chain(bounds).find(|text| fits(text))
}

/// The least length that a type asks for, if it asks for one that is not too large.
fn shortest(ty: &SimpleType) -> Option<u64> {
    ty.facets.length.or(ty.facets.min_length).filter(|length| *length <= MAX_LENGTH)
}

/// Texts, digits and bytes of the least length.
fn of_length(ty: &SimpleType) -> Vec<String> {
    let Some(length) = shortest(ty).and_then(|length| usize::try_from(length).ok()) else { return Vec::new() };
    ["x", "1", "00", "http://example.com/"].iter().map(|part| part.repeat(length)).chain([base64(length)]).collect()
}

/// So many bytes, all zero.
fn base64(length: usize) -> String {
    let end = ["", "AA==", "AAA="].get(length % 3).copied().unwrap_or_default();
    "AAAA".repeat(length / 3) + end
}

/// A bound, and the integers beside it.
fn near(bound: &str) -> Vec<String> {
    let mut near = vec![bound.to_owned()];
    if let Ok(number) = bound.parse::<i64>() {
        near.extend([number.saturating_add(1), number.saturating_sub(1)].map(|number| number.to_string()));
    }
    near
}

#[cfg(test)]
mod tests {
    use crate::xsd::tests::{schema, violations};

    #[test]
    fn values_are_of_their_types() {
        for ty in [
            r#"<xs:restriction base="xs:string"><xs:enumeration value="b&amp;c"/><xs:enumeration value="a"/></xs:restriction>"#,
            r#"<xs:restriction base="xs:string"><xs:pattern value="[A-Z]{3}-\d+"/><xs:minLength value="6"/><xs:pattern value="x"/></xs:restriction>"#,
            r#"<xs:restriction base="xs:token"><xs:length value="200"/></xs:restriction>"#,
            r#"<xs:restriction base="xs:base64Binary"><xs:length value="20"/></xs:restriction>"#,
            r#"<xs:restriction base="xs:hexBinary"><xs:minLength value="3"/></xs:restriction>"#,
            r#"<xs:restriction base="xs:integer"><xs:minExclusive value="10"/><xs:maxExclusive value="12"/></xs:restriction>"#,
            r#"<xs:restriction base="xs:decimal"><xs:maxInclusive value="-3"/></xs:restriction>"#,
            r#"<xs:restriction base="xs:date"><xs:minInclusive value="2030-01-01"/></xs:restriction>"#,
            r#"<xs:union memberTypes="xs:gMonthDay xs:duration"/>"#,
            r#"<xs:restriction><xs:simpleType><xs:list itemType="xs:language"/></xs:simpleType><xs:length value="3"/></xs:restriction>"#,
            r#"<xs:restriction base="xs:ID"/>"#,
            r#"<xs:restriction base="xs:QName"/>"#,
            r#"<xs:restriction base="xs:NMTOKENS"/>"#,
            r#"<xs:restriction base="xs:time"/>"#,
            r#"<xs:restriction base="xs:float"/>"#,
        ] {
            let schema = schema(&format!(r#"<xs:element name="r"><xs:simpleType>{ty}</xs:simpleType></xs:element>"#));
            let element = schema.components.globals.elements.values().next().copied().unwrap();
            let sample = crate::xsd::sample::Samples::new(&schema).of(element).expect(ty);
            assert!(violations(&schema, &sample).is_empty(), "{ty}: {sample}");
        }
    }
}
