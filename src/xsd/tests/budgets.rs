//! What documents cost is taken from their budgets, and no more; what schemas cost that judge them is in `schema_budgets`.

use std::collections::HashSet;

use super::{BOUNDS, schema};
use crate::budget::Steps;
use crate::xsd::compile::compile_within;
use crate::xsd::components::documents::Found;
use crate::xsd::instance::{Rejection, judge};
use crate::xsd::room::Room;
use crate::xsd::schema::Schema;
use crate::xsd::validate::Limits;

/// Whether a document is valid; `None` if it takes more than so many steps, or so much memory.
pub(super) fn judged(schema: &Schema, text: &str, steps: u64, memory: usize) -> Option<bool> {
    let limits = Limits { steps: Steps::new(steps), memory, violations: 20 };
    match judge(schema, text, (), (BOUNDS, limits), HashSet::new()) {
        Err(Rejection::TooComplex) => None,
        judged => Some(judged.is_ok()),
    }
}

/// What is wrong with a schema that may take so many steps.
pub(super) fn problems(content: &str, steps: u64) -> String {
    let text = format!(r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{content}</xs:schema>"#);
    let main = Found { file: "main.xsd".into(), bytes: text.into_bytes().into() };
    let compiled = compile_within((Steps::new(steps), Room::default()), vec![main], &mut |_| Ok(None));
    let problems = compiled.err().unwrap_or_default();
    problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")
}

const EVERYTHING: &str =
    r#"<xs:complexType><xs:sequence><xs:any processContents="lax" minOccurs="0" maxOccurs="unbounded"/></xs:sequence>"#;

#[test]
fn constraints_at_the_root_cost_nothing_for_those_of_other_elements() {
    let key =
        |n: u32| format!(r#"<xs:unique name="k{n}"><xs:selector xpath=".//a{n}"/><xs:field xpath="@i"/></xs:unique>"#);
    let keys: String = (0..1000).map(key).collect();
    let own = r#"<xs:element name="e"><xs:complexType/><xs:key name="own"><xs:selector xpath="."/><xs:field xpath="@i"/></xs:key></xs:element>"#;
    let own = own.replace("<xs:complexType/>", r#"<xs:complexType><xs:attribute name="i"/></xs:complexType>"#);
    let schema = schema(&format!(r#"<xs:element name="r">{EVERYTHING}</xs:complexType>{keys}</xs:element>{own}"#));
    let text = format!("<r>{}</r>", "<e i='1'/>".repeat(2000));
    assert_eq!(judged(&schema, &text, 100_000, 1 << 20), Some(true));
}

#[test]
fn constraints_of_elements_within_each_other_take_memory() {
    let own = r#"<xs:key name="k"><xs:selector xpath="none"/><xs:field xpath="@i"/></xs:key>"#;
    let schema = schema(&format!(r#"<xs:element name="r">{EVERYTHING}</xs:complexType>{own}</xs:element>"#));
    let nested = |depth: usize| format!("{}{}", "<r>".repeat(depth), "</r>".repeat(depth));
    assert_eq!(judged(&schema, &nested(2000), 100_000_000, 64 << 10), None);
    // One after the other they take as much as one.
    let text = format!("<r>{}</r>", "<r/>".repeat(2000));
    assert_eq!(judged(&schema, &text, 1_000_000, 64 << 10), Some(true));
}

#[test]
fn elements_are_paid_for_with_each_field_of_what_is_selected() {
    let fields: String = (0..500).map(|n| format!(r#"<xs:field xpath=".//a{n}/b"/>"#)).collect();
    let own = format!(r#"<xs:unique name="k"><xs:selector xpath="."/>{fields}</xs:unique>"#);
    let schema = schema(&format!(r#"<xs:element name="r">{EVERYTHING}</xs:complexType>{own}</xs:element>"#));
    let text = format!("<r>{}</r>", "<e/>".repeat(100));
    assert_eq!(judged(&schema, &text, 10_000, 1 << 20), None);
    assert_eq!(judged(&schema, &text, 100_000, 1 << 20), Some(true));
}

#[test]
fn attributes_that_are_looked_through_are_paid_for() {
    let attribute = |n: u32| format!(r#"<xs:attribute name="a{n}" use="required"/>"#);
    let attributes: String = (0..1000).map(attribute).collect();
    let schema = schema(&format!(
        r#"<xs:element name="r">{EVERYTHING}</xs:complexType></xs:element><xs:element name="e"><xs:complexType>{attributes}</xs:complexType></xs:element>"#
    ));
    let text = |count: usize| format!("<r>{}</r>", "<e/>".repeat(count));
    assert_eq!(judged(&schema, &text(1), 200, 1 << 20), None);
    // Past those that are reported, nothing is looked for.
    assert_eq!(judged(&schema, &text(1000), 10_000, 1 << 20), Some(false));
}

#[test]
fn messages_are_short_whatever_the_schema_says() {
    let long = "x".repeat(5000);
    let schema = schema(&format!(
        r#"<xs:element name="r"><xs:simpleType><xs:restriction base="xs:string"><xs:pattern value="{long}"/></xs:restriction></xs:simpleType></xs:element>"#
    ));
    let found = super::violations(&schema, "<r>é</r>");
    assert!(found.len() == 1 && found[0].message.len() < 1010, "{found:?}");
}

#[test]
fn keys_within_elements_are_found_by_references_around_them() {
    let key = r#"<xs:key name="k"><xs:selector xpath="k"/><xs:field xpath="@i"/></xs:key>"#;
    let references = r#"<xs:keyref name="f" refer="k"><xs:selector xpath=".//f"/><xs:field xpath="@i"/></xs:keyref>"#;
    let with_id = |name: &str| {
        format!(r#"<xs:element name="{name}"><xs:complexType><xs:attribute name="i"/></xs:complexType></xs:element>"#)
    };
    let schema = schema(&format!(
        r#"<xs:element name="r">{EVERYTHING}</xs:complexType>{references}</xs:element><xs:element name="e">{EVERYTHING}</xs:complexType>{key}</xs:element>{}{}"#,
        with_id("k"),
        with_id("f")
    ));
    for (text, valid) in [
        ("<r><e><k i='1'/></e><f i='1'/></r>", true),
        ("<r><e><k i='1'/></e><f i='2'/></r>", false),
        ("<r><e><k i='1'/></e><e><k i='2'/></e><f i='1'/><f i='2'/></r>", true),
        // Of two elements, so that it is none of theirs.
        ("<r><e><k i='1'/></e><e><k i='1'/></e><f i='1'/></r>", false),
        ("<r><e><k i='1'/></e><e><k i='1'/></e><e><k i='1'/></e><f i='1'/></r>", false),
        ("<r><e><k i='1'/></e><e><k i='1'/></e><f i='2'/></r>", false),
        // That of the element itself hides those within.
        ("<r><e><k i='1'/><e><k i='1'/></e></e><f i='1'/></r>", true),
        ("<r><e><e><k i='1'/></e><k i='1'/></e><f i='1'/></r>", true),
        ("<r><e><e><k i='1'/></e><e><k i='1'/></e></e><f i='1'/></r>", false),
        ("<r><e><e><k i='1'/></e><e><k i='1'/></e><k i='1'/></e><f i='1'/></r>", true),
        // Which of several had it is forgotten further out.
        ("<r><x><e><k i='1'/></e><e><k i='1'/></e></x><e><k i='1'/></e><f i='1'/></r>", true),
        ("<r><e><k i='1'/></e><x><e><k i='1'/></e><e><k i='1'/></e></x><f i='1'/></r>", true),
        ("<r><x><e><k i='1'/></e></x><x><e><k i='2'/></e></x><f i='1'/><f i='2'/></r>", true),
        ("<r><x><e><k i='1'/></e></x><x><e><k i='1'/></e></x><f i='1'/></r>", false),
    ] {
        assert_eq!(judged(&schema, text, 100_000, 1 << 20), Some(valid), "{text}");
    }
}

/// Groups within each other, each with some elements of its own.
fn nested_groups(depth: usize, elements: usize) -> String {
    let group = |level: usize| {
        let own: String = (0..elements).map(|n| format!(r#"<xs:element name="e{level}-{n}"/>"#)).collect();
        let inner = format!(r#"<xs:group ref="g{}" minOccurs="0" maxOccurs="7"/>"#, level + 1);
        let inner = if level + 1 < depth { inner } else { String::new() };
        format!(r#"<xs:group name="g{level}"><xs:sequence>{inner}{own}</xs:sequence></xs:group>"#)
    };
    let groups: String = (0..depth).map(group).collect();
    format!(r#"{groups}<xs:element name="r"><xs:complexType><xs:group ref="g0"/></xs:complexType></xs:element>"#)
}

#[test]
fn groups_are_not_within_each_other_without_end() {
    assert_eq!(problems(&nested_groups(200, 1), 100_000_000), "");
    let said = problems(&nested_groups(300, 1), 100_000_000);
    assert!(said.contains("too deeply"), "{said}");
    let said = problems(&nested_groups(100, 50), 2_000_000);
    assert!(said.contains("too complex"), "{said}");
}

#[test]
fn ways_to_count_an_element_cost_what_is_open_of_the_content() {
    let schema = schema(&nested_groups(100, 1));
    assert_eq!(judged(&schema, "<r><e99-0/></r>", 100, 1 << 20), None);
    assert_eq!(judged(&schema, "<r><e99-0/></r>", 100_000, 1 << 20), Some(false));
}

#[test]
fn types_are_not_derived_from_each_other_without_end() {
    let chain = |length: u32| {
        let derived =
            |n: u32| format!(r#"<xs:simpleType name="t{n}"><xs:restriction base="t{}"/></xs:simpleType>"#, n - 1);
        (1..=length).map(derived).collect::<String>()
            + r#"<xs:simpleType name="t0"><xs:restriction base="xs:int"/></xs:simpleType>"#
    };
    assert_eq!(problems(&chain(400), 100_000_000), "");
    assert_eq!(problems(&chain(600), 100_000_000), "more than 500 types are derived from each other");
}

#[test]
fn a_type_of_a_union_with_many_members_costs_its_members() {
    let member = |n: u32| format!(r#"<xs:simpleType name="m{n}"><xs:restriction base="xs:int"/></xs:simpleType>"#);
    let members: String = (0..1000).map(member).collect();
    let names: Vec<String> = (0..1000).map(|n| format!("m{n}")).collect();
    let schema = schema(&format!(
        r#"{members}<xs:simpleType name="u"><xs:union memberTypes="{}"/></xs:simpleType><xs:element name="r" type="u"/>"#,
        names.join(" ")
    ));
    let text = "<r xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' xsi:type='m999'>1</r>";
    assert_eq!(judged(&schema, text, 1000, 1 << 20), None);
    assert_eq!(judged(&schema, text, 100_000, 1 << 20), Some(true));
}

#[test]
fn elements_that_stand_for_many_cost_them() {
    let head = |n: u32| format!(r#"<xs:element name="h{n}" type="xs:string" substitutionGroup="h{}"/>"#, n - 1);
    let heads: String = (1..1000).map(head).collect();
    let schema = schema(&format!(
        r#"{heads}<xs:element name="h0" type="xs:string"/><xs:element name="r"><xs:complexType><xs:sequence><xs:element ref="h0" maxOccurs="unbounded"/></xs:sequence></xs:complexType></xs:element>"#
    ));
    let text = format!("<r>{}</r>", "<h999/>".repeat(10));
    assert_eq!(judged(&schema, &text, 1000, 1 << 20), None);
    assert_eq!(judged(&schema, &text, 10_000, 1 << 20), Some(true));
}

#[test]
fn all_elements_of_an_all_are_looked_for_at_once() {
    let child = |n: u32| format!(r#"<xs:element name="e{n}" minOccurs="{}"/>"#, n % 2);
    let children: String = (0..2000).map(child).collect();
    let schema = schema(&format!(
        r#"<xs:element name="r"><xs:complexType><xs:all>{children}</xs:all></xs:complexType></xs:element>"#
    ));
    let all = |least: u32| (least..2000).rev().filter(|n| n % 2 == 1).map(|n| format!("<e{n}/>")).collect::<String>();
    assert_eq!(judged(&schema, &format!("<r>{}</r>", all(0)), 200_000, 1 << 20), Some(true));
    assert_eq!(judged(&schema, &format!("<r>{}<e2/></r>", all(0)), 200_000, 1 << 20), Some(true));
    assert_eq!(judged(&schema, &format!("<r>{}</r>", all(2)), 200_000, 1 << 20), Some(false));
    assert_eq!(judged(&schema, &format!("<r>{0}{0}</r>", all(0)), 200_000, 1 << 20), Some(false));
}

#[test]
fn elements_far_apart_in_a_sequence_are_found() {
    let child = |n: u32| format!(r#"<xs:element name="e{n}" minOccurs="0"/>"#);
    let children: String = (0..500).map(child).collect();
    let schema = schema(&format!(
        r#"<xs:element name="r"><xs:complexType><xs:sequence maxOccurs="unbounded">{children}</xs:sequence></xs:complexType></xs:element>"#
    ));
    let text = format!("<r>{}<e3/></r>", "<e7/><e499/>".repeat(50));
    assert_eq!(judged(&schema, &text, 10_000, 1 << 20), Some(true));
    assert_eq!(judged(&schema, "<r><e499/><x/></r>", 10_000, 1 << 20), Some(false));
}

#[test]
fn classes_of_patterns_take_steps_and_memory() {
    let pattern = |text: &str| {
        format!(
            r#"<xs:simpleType name="t"><xs:restriction base="xs:string"><xs:pattern value="{text}"/></xs:restriction></xs:simpleType>"#
        )
    };
    assert_eq!(problems(&pattern(r"[\w\d]{1,40}"), 20_000_000), "");
    let said = problems(&pattern(&format!("[{}]", r"\w".repeat(5000))), 200_000_000);
    assert!(said.contains("too large"), "{said}");
    let said = problems(&pattern(&format!("[{}]", r"\p{L}".repeat(100))), 300_000);
    assert!(said.contains("too large"), "{said}");
}

#[test]
fn what_is_wrong_with_patterns_is_said_of_each() {
    let wrong = r#"<xs:pattern value="("/>"#.repeat(60);
    let said = problems(
        &format!(
            r#"<xs:simpleType name="t"><xs:restriction base="xs:string">{wrong}</xs:restriction></xs:simpleType>"#
        ),
        200_000_000,
    );
    assert_eq!(said.matches("is not closed").count(), 60, "{said}");
}

const PREFIXED: &str = r#"<xs:element name="r" type="t"/>"#;

/// A type whose values are judged by so many members of a union that have these facets, one of which takes none.
fn of_union(base: &str, facets: &str, members: usize) -> Schema {
    let member =
        format!(r#"<xs:simpleType><xs:restriction base="xs:{base}">{facets}</xs:restriction></xs:simpleType>"#);
    schema(&format!(
        r#"{PREFIXED}<xs:simpleType name="t"><xs:union>{}</xs:union></xs:simpleType>"#,
        member.repeat(members)
    ))
}

#[test]
fn values_are_paid_for_by_what_it_takes_to_compare_them() {
    let fraction = format!(r#"<xs:maxInclusive value="PT0.1{}1S"/>"#, "0".repeat(10_000));
    let exact = "2.225073858507201136057409796e-308";
    let listed = r#"<xs:enumeration value="r"/>"#;
    for (base, facets, text, steps) in [
        ("duration", fraction.as_str(), "PT0.2S".to_owned(), 10_000),
        ("duration", r#"<xs:maxInclusive value="PT0.1S"/>"#, "PT0.2S".to_owned(), 1_000),
        ("double", r#"<xs:minInclusive value="2"/>"#, exact.to_owned(), 3_000),
        ("decimal", r#"<xs:minInclusive value="3"/>"#, format!("{}2", "0".repeat(8_000)), 100_000),
        ("QName", listed, "p:a".to_owned(), 5_000),
    ] {
        let schema = of_union(base, facets, 100);
        let text = format!("<r xmlns:p='urn:{}'>{text}</r>", "n".repeat(2_000));
        assert_eq!(judged(&schema, &text, steps, 1 << 20), None, "{base}");
        assert_eq!(judged(&schema, &text, 1_000_000, 1 << 20), Some(false), "{base}");
    }
}

#[test]
fn lists_keep_no_values_that_nobody_asks_for() {
    for base in ["double", "boolean", "int", "date"] {
        let text = if base == "date" { "2026-01-01 " } else { "0 1 " };
        let schema =
            schema(&format!(r#"{PREFIXED}<xs:simpleType name="t"><xs:list itemType="xs:{base}"/></xs:simpleType>"#));
        let text = format!("<r>{}</r>", text.repeat(10_000));
        assert_eq!(judged(&schema, &text, 1_000_000, 512 << 10), Some(true), "{base}");
    }
}

#[test]
fn numbers_as_programs_print_them_are_cheap() {
    let schema =
        schema(&format!(r#"{PREFIXED}<xs:simpleType name="t"><xs:list itemType="xs:double"/></xs:simpleType>"#));
    for value in ["12.345678901234567890 ", "0.00000000000000000000 ", "0.000012345678901234567 "] {
        let text = format!("<r>{}</r>", value.repeat(10_000));
        assert_eq!(judged(&schema, &text, 4 * text.len() as u64, 512 << 10), Some(true), "{value}");
    }
}

#[test]
fn what_may_come_instead_is_paid_for() {
    let child = |n: u32| format!(r#"<xs:element name="e{n}" minOccurs="0"/>"#);
    let children: String = (0..2000).map(child).collect();
    let schema = schema(&format!(
        r#"<xs:element name="r"><xs:complexType><xs:choice maxOccurs="unbounded">{children}</xs:choice></xs:complexType></xs:element>"#
    ));
    assert_eq!(judged(&schema, "<r><x/></r>", 1_000, 1 << 20), None);
    assert_eq!(judged(&schema, "<r><x/></r>", 100_000, 1 << 20), Some(false));
}

#[test]
fn defaults_are_paid_for_with_the_fields_that_they_may_be_of() {
    let attribute = |n: u32| format!(r#"<xs:attribute name="a{n}" default="1"/>"#);
    let attributes: String = (0..200).map(attribute).collect();
    let fields: Vec<String> = (0..200).map(|n| format!("@a{n}")).collect();
    let own = format!(
        r#"<xs:unique name="k"><xs:selector xpath="."/><xs:field xpath="{}"/></xs:unique>"#,
        fields.join("|").replace("@a1|", "")
    );
    let schema =
        schema(&format!(r#"<xs:element name="r"><xs:complexType>{attributes}</xs:complexType>{own}</xs:element>"#));
    assert_eq!(judged(&schema, "<r/>", 1_000, 1 << 20), None);
    assert_eq!(judged(&schema, "<r/>", 100_000, 1 << 20), Some(false));
}

#[test]
fn a_pattern_on_a_union_of_unions_is_for_the_text_as_its_type_has_it() {
    let schema = schema(&format!(
        r#"{PREFIXED}<xs:simpleType name="t"><xs:restriction><xs:simpleType><xs:union memberTypes="u xs:date"/></xs:simpleType><xs:pattern value="[0-9]+"/></xs:restriction></xs:simpleType><xs:simpleType name="u"><xs:union memberTypes="xs:int xs:boolean"/></xs:simpleType>"#
    ));
    for (text, valid) in [(" 5 ", true), ("5", true), ("true", false), ("x", false)] {
        assert_eq!(judged(&schema, &format!("<r>{text}</r>"), 10_000, 1 << 20), Some(valid), "{text}");
    }
}

#[test]
fn attributes_are_the_same_by_their_namespaces_and_not_their_prefixes() {
    let schema = schema(&format!(
        r#"<xs:element name="r">{EVERYTHING}<xs:anyAttribute processContents="skip"/></xs:complexType></xs:element>"#
    ));
    for (attributes, good) in [
        ("xmlns:p='urn:a' xmlns:q='urn:b' p:a='' q:a='' a=''", true),
        ("xmlns:p='urn:a' xmlns:q='urn:a' p:a='' q:b=''", true),
        ("xmlns:p='urn:a' xmlns:q='urn:a' p:a='' q:a=''", false),
        ("xml:a='' xmlns:q='urn:a' q:a=''", true),
        ("xml:a='' xml:a=''", false),
        ("a='' a='' xmlns:q='urn:a'", false),
    ] {
        let judged = judge(&schema, &format!("<r {attributes}/>"), (), (BOUNDS, super::limits(1000).1), HashSet::new());
        assert_eq!(judged.is_ok(), good, "{attributes}: {judged:?}");
    }
    // A declaration further out has the same number.
    for (inner, good) in
        [("xmlns:q='urn:a'", false), ("xmlns:q='urn:b'", true), ("xmlns:q='urn:b' xmlns:p='urn:c'", true)]
    {
        let text = format!("<r xmlns:p='urn:a'><r {inner} p:a='' q:a=''/></r>");
        let judged = judge(&schema, &text, (), (BOUNDS, super::limits(1000).1), HashSet::new());
        assert_eq!(judged.is_ok(), good, "{text}: {judged:?}");
    }
}

#[test]
fn ways_to_count_an_element_are_compared_by_all_that_is_open() {
    let nested = |depth: usize, min: usize| {
        let counted = format!(
            r#"<xs:sequence minOccurs="{min}" maxOccurs="1000"><xs:sequence maxOccurs="3"><xs:element name="a" maxOccurs="2"/></xs:sequence></xs:sequence>"#
        );
        let (open, close) = ("<xs:sequence>".repeat(depth), "</xs:sequence>".repeat(depth));
        schema(&format!(r#"<xs:element name="r"><xs:complexType>{open}{counted}{close}</xs:complexType></xs:element>"#))
    };
    let text = |count: usize| format!("<r>{}</r>", "<a/>".repeat(count));
    assert_eq!(judged(&nested(1, 50), &text(60), 100_000, 1 << 20), Some(true));
    assert_eq!(judged(&nested(100, 50), &text(60), 500_000, 1 << 20), None);
    assert_eq!(judged(&nested(100, 50), &text(60), 1_000_000, 1 << 20), Some(true));
    // Until all of them have counted enough, none can stand for another one.
    assert_eq!(judged(&nested(1, 190), &text(200), 2_000_000, 1 << 20), Some(true));
}

#[test]
fn an_element_may_be_counted_in_any_way_that_fits() {
    /// Which numbers are sums of so many of these.
    fn sums(parts: &[usize], (min, max): (usize, usize)) -> Vec<usize> {
        let mut of = vec![vec![0]];
        for count in 0..max {
            let mut next: Vec<usize> =
                of[count].iter().flat_map(|sum| parts.iter().map(move |part| sum + part)).collect();
            next.sort_unstable();
            next.dedup();
            of.push(next);
        }
        of.drain(..).skip(min).flatten().collect()
    }
    for bounds in [
        [(1, 2), (1, 3), (5, 9)],
        [(2, 3), (2, 3), (2, 3)],
        [(2, 2), (0, 3), (4, 6)],
        [(0, 2), (3, 4), (2, 5)],
        [(3, 4), (2, 5), (0, 3)],
    ] {
        let [element, inner, outer] = bounds.map(|(min, max)| format!(r#"minOccurs="{min}" maxOccurs="{max}""#));
        let schema = schema(&format!(
            r#"<xs:element name="r"><xs:complexType><xs:sequence {outer}><xs:sequence {inner}><xs:element name="a" {element}/></xs:sequence></xs:sequence></xs:complexType></xs:element>"#
        ));
        let fitting = bounds.into_iter().fold(vec![1], |parts, bounds| sums(&parts, bounds));
        for count in 0..70 {
            let text = format!("<r>{}</r>", "<a/>".repeat(count));
            let valid = judged(&schema, &text, 1_000_000, 1 << 20);
            assert_eq!(valid, Some(fitting.contains(&count)), "{bounds:?} {count}");
        }
    }
}
