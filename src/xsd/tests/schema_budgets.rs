//! What checking a schema costs is taken from its budget, and what its types have in common is kept once.

use std::collections::HashSet;

use super::budgets::problems;
use super::schema;
use crate::budget::Steps;
use crate::xsd::compile::{compile, compile_within};
use crate::xsd::components::context::Builder;
use crate::xsd::components::documents::Found;
use crate::xsd::components::model::Namespaces;
use crate::xsd::components::work::At;
use crate::xsd::datatypes::simple_type::Variety;
use crate::xsd::document::tree::NodeId;
use crate::xsd::room::Room;

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
    let said = problems(&text, 30_000);
    assert!(said.contains("substitution groups"), "{said}");
}

/// Types that are each derived from the one before.
fn derived(count: u32, kind: &str, derivation: &str) -> String {
    let of = |n: u32| {
        format!(r#"<xs:{kind} name="t{n}">{}</xs:{kind}>"#, derivation.replace("BASE", &format!("t{}", n - 1)))
    };
    (1..count).map(of).collect()
}

#[test]
fn ways_to_the_types_of_a_restriction_are_paid_for() {
    let simple = r#"<xs:restriction base="BASE"/>"#;
    let complex = r#"<xs:complexContent><xs:restriction base="BASE"/></xs:complexContent>"#;
    let first = r#"<xs:simpleType name="t0"><xs:restriction base="xs:string"/></xs:simpleType>"#;
    let element = |n: u32, ty: &str| format!(r#"<xs:element name="e{n}" type="{ty}"/>"#);
    let group = |name: &str, ty: &str| {
        let elements: String = (0..40).map(|n| element(n, ty)).collect();
        format!(r#"<xs:group name="{name}"><xs:sequence>{elements}</xs:sequence></xs:group>"#)
    };
    let restrictions = |own: &str| {
        let of = |n: u32| {
            format!(
                r#"<xs:complexType name="d{n}"><xs:complexContent><xs:restriction base="b">{own}</xs:restriction></xs:complexContent></xs:complexType>"#
            )
        };
        (0..40).map(of).collect::<String>()
    };
    for (first, kind, derivation) in
        [(first, "simpleType", simple), (r#"<xs:complexType name="t0"/>"#, "complexType", complex)]
    {
        let text = |length: u32| {
            let groups = group("g", "t0") + &group("h", &format!("t{}", length - 1));
            let base = r#"<xs:complexType name="b"><xs:group ref="g"/></xs:complexType>"#;
            format!(
                "{first}{}{groups}{base}{}",
                derived(length, kind, derivation),
                restrictions(r#"<xs:group ref="h"/>"#)
            )
        };
        assert_eq!(problems(&text(2), 150_000), "", "{kind}");
        let said = problems(&text(400), 150_000);
        assert!(said.contains("too complex to be checked"), "{kind}: {said}");
    }
    let text = |length: u32| {
        let base = r#"<xs:complexType name="b"><xs:simpleContent><xs:extension base="t0"/></xs:simpleContent></xs:complexType>"#;
        let inner = format!(r#"<xs:simpleType><xs:restriction base="t{}"/></xs:simpleType>"#, length - 1);
        let restrictions = restrictions(&inner).replace("complexContent", "simpleContent");
        format!("{first}{base}{}{restrictions}", derived(length, "simpleType", simple))
    };
    assert_eq!(problems(&text(2), 3000), "");
    let said = problems(&text(400), 3000);
    assert!(said.contains("derived through too many others"), "{said}");
}

#[test]
fn defaults_of_a_document_are_read_once() {
    let text = r##"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" blockDefault="#all"/>"##;
    let main = Found { file: "main.xsd".into(), bytes: text.as_bytes().into() };
    let mut builder = Builder::new(Steps::new(1000), Room::default());
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

#[test]
fn many_patterns_cost_what_it_takes_to_make_them() {
    let pattern = |n: u32| {
        format!(
            r#"<xs:simpleType name="t{n}"><xs:restriction base="xs:string"><xs:pattern value="\w+(y{n})?"/></xs:restriction></xs:simpleType>"#
        )
    };
    let patterns: String = (0..20).map(pattern).collect();
    assert_eq!(problems(&patterns, 1_000_000), "");
    let said = problems(&patterns, 100_000);
    assert!(said.contains("too large"), "{said}");
}

#[test]
fn heads_of_elements_are_paid_for() {
    let head = |n: u32| format!(r#"<xs:element name="h{n}" type="xs:string" substitutionGroup="h{}"/>"#, n - 1);
    let heads: String = (1..400).map(head).collect();
    let member = |n: u32| format!(r#"<xs:element name="m{n}" substitutionGroup="h399"/>"#);
    let members: String = (0..100).map(member).collect();
    let text = format!(r#"<xs:element name="h0" type="xs:string"/>{heads}{members}"#);
    assert_eq!(problems(&text, 1_000_000), "");
    let said = problems(&text, 20_000);
    assert!(said.contains("too many heads"), "{said}");
}

/// A restriction of a type, each with a sequence of these elements in a namespace of theirs.
fn restriction(base: &str, own: &str) -> String {
    format!(
        r#"<xs:complexType name="b"><xs:sequence>{base}</xs:sequence></xs:complexType><xs:complexType name="r"><xs:complexContent><xs:restriction base="b"><xs:sequence>{own}</xs:sequence></xs:restriction></xs:complexContent></xs:complexType>"#
    )
}

#[test]
fn declarations_of_one_name_are_paid_for_by_what_is_compared() {
    let element = |fixed: &str| format!(r#"<xs:element name="e" type="xs:string" fixed="{fixed}" minOccurs="0"/>"#);
    let text = |fixed: &str| restriction(&element(fixed).repeat(2), &element(fixed));
    let wrong = |said: String| said.contains("too complex");
    let long = "x".repeat(64_000);
    assert!(!wrong(problems(&text("x"), 3_000)) && wrong(problems(&text(&long), 3_000)));
    assert!(!wrong(problems(&text(&long), 10_000)));
}

#[test]
fn what_restrictions_leave_out_is_paid_for() {
    let child = |n: u32| format!(r#"<xs:element name="e{n}" minOccurs="0"/>"#);
    let children: String = (0..10_000).map(child).collect();
    let own = |n: usize| {
        format!(
            r#"<xs:complexType name="t{n}"><xs:complexContent><xs:restriction base="b"><xs:sequence>{}</xs:sequence></xs:restriction></xs:complexContent></xs:complexType>"#,
            child(0)
        )
    };
    let text = |count: usize| restriction(&children, &child(0)) + &(0..count).map(own).collect::<String>();
    let complex = |said: String| said.contains("too complex to be checked");
    // All that is in the base once, and what is left out of it each time.
    assert!(!complex(problems(&text(1), 6_000_000)));
    assert!(complex(problems(&text(500), 6_000_000)));
    assert!(!complex(problems(&text(500), 20_000_000)));
}

#[test]
fn many_optional_elements_are_no_complex_content() {
    let child = |n: u32| format!(r#"<xs:element name="e{n}" minOccurs="0"/>"#);
    let children: String = (0..10_000).map(child).collect();
    let text = format!(r#"<xs:complexType name="t"><xs:sequence>{children}</xs:sequence></xs:complexType>"#);
    assert_eq!(problems(&text, 1_000_000), "");
    let any = r###"<xs:any namespace="##other" processContents="lax" minOccurs="0"/>"###.repeat(300);
    let said = problems(&text.replace("</xs:sequence>", &format!("{any}</xs:sequence>")), 1_000_000);
    assert!(said.contains("too complex to be checked"), "{said}");
}

/// Problems of a schema that has so much room.
fn problems_in(room: usize, content: &str) -> String {
    let text = format!(r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{content}</xs:schema>"#);
    let main = Found { file: "main.xsd".into(), bytes: text.into_bytes().into() };
    let compiled = compile_within((Steps::new(200_000_000), Room::new(room)), vec![main], &mut |_| Ok(None));
    compiled.err().unwrap_or_default().into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")
}

#[test]
fn all_that_a_schema_keeps_is_bounded_together() {
    let pattern = |n: u32| {
        format!(
            r#"<xs:simpleType name="p{n}"><xs:restriction base="xs:string"><xs:pattern value="\w+{n}"/></xs:restriction></xs:simpleType>"#
        )
    };
    let child = |n: u32| format!(r#"<xs:element name="e{n}" minOccurs="0"/>"#);
    let children: String = (0..100).map(child).collect();
    let group = |n: u32| match n {
        0 => format!(r#"<xs:group name="g0"><xs:choice>{children}</xs:choice></xs:group>"#),
        n => format!(r#"<xs:group name="g{n}"><xs:sequence><xs:group ref="g{}"/></xs:sequence></xs:group>"#, n - 1),
    };
    let groups: String = (0..200).map(group).collect();
    let paths = ".|".repeat(4000) + ".";
    for (kind, content) in [
        ("documents", (0..3_000).map(|n| format!(r#"<xs:element name="e{n}" type="xs:int"/>"#)).collect()),
        (
            "namespaces",
            format!(
                r#"<xs:attributeGroup name="a"><xs:anyAttribute namespace="{}"/></xs:attributeGroup>"#,
                namespaces(9_000, "")
            ),
        ),
        ("patterns", (0..40).map(pattern).collect()),
        (
            "paths",
            format!(
                r#"<xs:element name="e"><xs:complexType/><xs:unique name="u"><xs:selector xpath="{paths}"/><xs:field xpath="@a"/></xs:unique></xs:element>"#
            ),
        ),
        ("contents", format!(r#"{groups}<xs:complexType name="t"><xs:group ref="g199"/></xs:complexType>"#)),
    ] {
        let said = problems_in(500_000, &content);
        assert!(said.starts_with("the schema takes more than 256 MiB"), "{kind}: {said}");
        let said = problems_in(64 << 20, &content);
        assert!(!said.contains("the schema takes more"), "{kind}: {said}");
    }
}

#[test]
fn operations_of_a_wsdl_that_share_large_messages_are_bounded() {
    let part = r#"<part name="p" element="e"/>"#;
    let declared = |n: u32| format!(r#"<operation name="o{n}"><input message="t:m"/></operation>"#);
    let bound =
        |n: u32| format!(r#"<operation name="o{n}"><input><soap:body use="literal" parts=""/></input></operation>"#);
    let text = |operations: u32| {
        format!(
            r#"<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" targetNamespace="urn:t" xmlns:t="urn:t" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/"><message name="m">{}</message><portType name="t">{}</portType><binding name="b" type="t:t"><soap:binding transport="http://schemas.xmlsoap.org/soap/http"/>{}</binding></definitions>"#,
            part.repeat(40_000),
            (0..operations).map(declared).collect::<String>(),
            (0..operations).map(bound).collect::<String>()
        )
    };
    let said = |operations: u32| {
        let main = Found { file: "main.wsdl".into(), bytes: text(operations).into_bytes().into() };
        let compiled = compile(vec![main], &mut |_| Ok(None));
        compiled.err().unwrap_or_default().into_iter().any(|problem| problem.message.contains("the WSDL is too large"))
    };
    assert_eq!((said(2), said(200)), (false, true));
}

#[test]
fn types_share_the_patterns_of_their_base() {
    let restriction = |n: u32| {
        let pattern = if n == 5 { r#"<xs:pattern value="b*"/>"# } else { "" };
        format!(
            r#"<xs:simpleType name="t{n}"><xs:restriction base="t{}">{pattern}</xs:restriction></xs:simpleType>"#,
            n - 1
        )
    };
    let restrictions: String = (1..9).map(restriction).collect();
    let schema = schema(&format!(
        r#"<xs:simpleType name="t0"><xs:restriction base="xs:string"><xs:pattern value="a*"/></xs:restriction></xs:simpleType>{restrictions}"#
    ));
    let patterned =
        schema.simple.iter().filter(|ty| ty.name.is_some_and(|name| schema.names.show(name).starts_with('t')));
    let lists: Vec<(usize, *const _)> =
        patterned.map(|ty| (ty.facets.patterns.len(), ty.facets.patterns.as_ptr())).collect();
    assert_eq!(lists.iter().map(|(count, _)| *count).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 2, 2, 2, 2]);
    assert_eq!(lists.into_iter().collect::<HashSet<_>>().len(), 2);
}
