//! What checking a schema costs is taken from its budget, and what its types have in common is kept once.

use std::collections::HashSet;

use super::budgets::problems;
use super::schema;
use crate::budget::Steps;
use crate::xsd::components::context::Builder;
use crate::xsd::components::documents::Found;
use crate::xsd::components::model::Namespaces;
use crate::xsd::components::work::At;
use crate::xsd::datatypes::simple_type::Variety;
use crate::xsd::document::tree::NodeId;

#[test]
fn restrictions_of_a_union_share_its_members() {
    let restriction =
        |n: u32| format!(r#"<xs:simpleType name="t{n}"><xs:restriction base="t{}"/></xs:simpleType>"#, n - 1);
    let restrictions: String = (1..9).map(restriction).collect();
    let schema = schema(&format!(
        r#"<xs:simpleType name="t0"><xs:union memberTypes="xs:int xs:date"/></xs:simpleType>{restrictions}"#
    ));
    let members = schema.simple.iter().filter_map(|ty| match &ty.variety {
        Variety::Union(members) => Some(members.as_ptr()),
        _ => None,
    });
    assert_eq!(members.collect::<HashSet<_>>().len(), 1);
}

#[test]
fn lists_of_a_union_with_many_members_cost_its_members() {
    let member = |n: u32| format!(r#"<xs:simpleType name="m{n}"><xs:restriction base="xs:int"/></xs:simpleType>"#);
    let members: String = (0..1000).map(member).collect();
    let names: Vec<String> = (0..1000).map(|n| format!("m{n}")).collect();
    let list = |n: u32| format!(r#"<xs:simpleType name="l{n}"><xs:list itemType="u"/></xs:simpleType>"#);
    let lists: String = (0..100).map(list).collect();
    let text = format!(
        r#"{members}<xs:simpleType name="u"><xs:union memberTypes="{}"/></xs:simpleType>{lists}"#,
        names.join(" ")
    );
    assert_eq!(problems(&text, 1_000_000), "");
    let said = problems(&text, 10_000);
    assert!(said.contains("too many members"), "{said}");
}

/// Some namespaces, and one more.
fn namespaces(count: u32, more: &str) -> String {
    (0..count).map(|n| format!("urn:{n} ")).collect::<String>() + more
}

#[test]
fn types_share_the_attributes_and_namespaces_of_their_base() {
    let extension = |n: u32| {
        format!(
            r#"<xs:complexType name="t{n}"><xs:complexContent><xs:extension base="t{}"/></xs:complexContent></xs:complexType>"#,
            n - 1
        )
    };
    let extensions: String = (1..9).map(extension).collect();
    let schema = schema(&format!(
        r#"<xs:complexType name="t0"><xs:attribute name="a" type="xs:int" default="1"/><xs:anyAttribute namespace="{}"/></xs:complexType>{extensions}"#,
        namespaces(9, "")
    ));
    let lists = schema.rules.iter().filter_map(|rule| match rule.wildcard.as_ref()?.namespaces {
        Namespaces::These(ref these) => Some(these.as_ptr()),
        _ => None,
    });
    assert_eq!(lists.collect::<HashSet<_>>().len(), 1);
    let presets = schema.rules.iter().flat_map(|rule| &rule.attributes).filter_map(|rule| rule.preset.as_ref());
    assert_eq!(presets.map(|preset| preset.text.as_ptr()).collect::<HashSet<_>>().len(), 1);
}

#[test]
fn wildcards_of_types_cost_their_namespaces() {
    let any = |more: &str| format!(r#"<xs:anyAttribute namespace="{}"/>"#, namespaces(1000, more));
    let extension = |n: u32| {
        format!(
            r#"<xs:complexType name="t{n}"><xs:complexContent><xs:extension base="t"><xs:anyAttribute namespace="urn:t{n}"/></xs:extension></xs:complexContent></xs:complexType>"#
        )
    };
    let extensions: String = (0..100).map(extension).collect();
    let extended = format!(r#"<xs:complexType name="t">{}</xs:complexType>{extensions}"#, any(""));
    let group = |name: &str| format!(r#"<xs:attributeGroup name="{name}">{}</xs:attributeGroup>"#, any(name));
    let references = r#"<xs:attributeGroup ref="a"/><xs:attributeGroup ref="b"/>"#.repeat(100);
    let referred = format!(r#"{}{}<xs:complexType name="t">{references}</xs:complexType>"#, group("a"), group("b"));
    let restriction = |n: u32| {
        format!(
            r#"<xs:complexType name="t{n}"><xs:complexContent><xs:restriction base="t"><xs:attributeGroup ref="b"/></xs:restriction></xs:complexContent></xs:complexType>"#
        )
    };
    let restrictions: String = (0..100).map(restriction).collect();
    let restricted = format!(r#"{}<xs:complexType name="t">{}</xs:complexType>{restrictions}"#, group("b"), any("b c"));
    for text in [extended, referred, restricted] {
        assert_eq!(problems(&text, 2_000_000), "");
        let said = problems(&text, 100_000);
        assert!(said.contains("too many namespaces"), "{said}");
    }
}

#[test]
fn wildcards_of_contents_cost_their_namespaces() {
    let list = |n: u32| (0..500).map(|m| format!("urn:{n}:{m} ")).collect::<String>();
    let any: String = (0..20).map(|n| format!(r#"<xs:any namespace="{}"/>"#, list(n))).collect();
    let text = format!(r#"<xs:complexType name="t"><xs:choice>{any}</xs:choice></xs:complexType>"#);
    assert_eq!(problems(&text, 1_000_000), "");
    let said = problems(&text, 20_000);
    assert!(said.contains("too complex"), "{said}");
}

#[test]
fn wildcards_of_restrictions_cost_their_namespaces() {
    let any = format!(r#"<xs:any namespace="{}"/>"#, namespaces(1000, ""));
    let restriction = |n: u32| {
        format!(
            r#"<xs:complexType name="t{n}"><xs:complexContent><xs:restriction base="t"><xs:group ref="g"/></xs:restriction></xs:complexContent></xs:complexType>"#
        )
    };
    let restrictions: String = (0..100).map(restriction).collect();
    let text = format!(
        r#"<xs:group name="g"><xs:sequence>{any}</xs:sequence></xs:group><xs:complexType name="t"><xs:sequence>{}</xs:sequence></xs:complexType>{restrictions}"#,
        any.replace("urn:0 ", "urn:0 urn:more ")
    );
    assert_eq!(problems(&text, 2_000_000), "");
    let said = problems(&text, 90_000);
    assert!(said.contains("too complex"), "{said}");
}

#[test]
fn ways_to_the_types_of_heads_are_paid_for() {
    let ty = |n: u32| {
        format!(
            r#"<xs:complexType name="t{n}"><xs:complexContent><xs:extension base="t{}"/></xs:complexContent></xs:complexType>"#,
            n - 1
        )
    };
    let types: String = (1..400).map(ty).collect();
    let member = |n: u32| format!(r#"<xs:element name="m{n}" type="t399" substitutionGroup="h"/>"#);
    let members: String = (0..100).map(member).collect();
    let text = format!(r#"<xs:complexType name="t0"/>{types}<xs:element name="h" type="t0"/>{members}"#);
    assert_eq!(problems(&text, 100_000), "");
    let said = problems(&text, 5000);
    assert!(said.contains("substitution groups"), "{said}");
}

#[test]
fn defaults_of_a_document_are_read_once() {
    let text = r##"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" blockDefault="#all"/>"##;
    let main = Found { file: "main.xsd".into(), bytes: text.as_bytes().into() };
    let mut builder = Builder::new(Steps::new(1000));
    builder.load(vec![main], &mut |_| Ok(None));
    let at = At { document: 0, node: NodeId::ROOT };
    let (one, two) = (builder.of_schema(at, "blockDefault").unwrap(), builder.of_schema(at, "blockDefault").unwrap());
    assert_eq!((&*one, one.as_ptr()), ("#all", two.as_ptr()));
}

#[test]
fn all_prefixes_of_a_value_count_and_are_paid_for() {
    let declared: String = (0..100).map(|n| format!(r#" xmlns:p{n}="urn:{n}""#)).collect();
    let value: String = (0..100).map(|n| format!("p{n}:a ")).collect();
    let list = r#"<xs:simpleType name="l"><xs:list itemType="xs:QName"/></xs:simpleType>"#;
    for content in [
        format!(r#"<xs:element name="r" type="l" default="{value}"{declared}/>"#),
        format!(
            r#"<xs:simpleType name="t"><xs:restriction base="l"><xs:enumeration value="{value}"{declared}/></xs:restriction></xs:simpleType>"#
        ),
    ] {
        assert_eq!(problems(&format!("{list}{content}"), 10_000), "");
        let said = problems(&format!("{list}{content}"), 1000);
        assert!(said.contains("too many prefixes"), "{said}");
    }
}

#[test]
fn problems_are_short_whatever_the_schema_says() {
    let long = "é".repeat(5000);
    let said = problems(&format!(r#"<xs:element name="r" type="{long}"/>"#), 1000);
    assert!(said.starts_with("there is no type `é") && said.ends_with('…') && said.len() < 1050, "{said}");
}
