//! What the keys of documents cost is taken from their budgets, and no more.

use super::budgets::judged;
use super::schema;

/// Steps and bytes that a body may take; see `stages::schema::xml`.
fn allowed(text: &str) -> (u64, usize) {
    (500_000 + 4 * text.len() as u64, (512 << 10) + 18 * text.len())
}

/// Elements `e` with these attributes, within one that has these constraints.
fn rows(attributes: &str, constraints: &str) -> crate::xsd::schema::Schema {
    schema(&format!(
        r#"<xs:element name="r"><xs:complexType><xs:sequence><xs:element name="e" maxOccurs="unbounded"><xs:complexType>{attributes}</xs:complexType></xs:element></xs:sequence></xs:complexType>{constraints}</xs:element>"#
    ))
}

/// A constraint on the elements `e`, with a field for each of these paths.
fn unique(name: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!(r#"<xs:field xpath="{field}"/>"#)).collect();
    format!(r#"<xs:unique name="{name}"><xs:selector xpath="e"/>{fields}</xs:unique>"#)
}

#[test]
fn a_default_that_is_a_field_of_many_elements_is_kept_once() {
    let default = "x".repeat(10_000);
    let attributes = format!(r#"<xs:attribute name="a" default="{default}"/><xs:attribute name="b" type="xs:int"/>"#);
    let schema = rows(&attributes, &unique("k", &["@a", "@b"]));
    let text: String = (0..2000).map(|n| format!("<e b='{n}'/>")).collect();
    let text = format!("<r>{text}</r>");
    let (steps, memory) = allowed(&text);
    assert_eq!(judged(&schema, &text, steps, memory), Some(true));
    // It is the same as one that is written.
    for (written, valid) in [(default.as_str(), false), ("y", true)] {
        let text = text.replace("</r>", &format!("<e a='{written}' b='1'/></r>"));
        assert_eq!(judged(&schema, &text, steps, memory), Some(valid));
    }
}

#[test]
fn a_default_of_many_elements_is_judged_once() {
    let list = "1 ".repeat(5_000);
    let of = |ty: &str| {
        schema(&format!(
            r#"<xs:simpleType name="l"><xs:list itemType="{ty}"/></xs:simpleType><xs:element name="r"><xs:complexType><xs:sequence><xs:element name="e" type="l" default="{list}" maxOccurs="unbounded"/></xs:sequence></xs:complexType></xs:element>"#
        ))
    };
    let text = format!("<r>{}</r>", "<e/>".repeat(8_000));
    let (steps, memory) = allowed(&text);
    assert_eq!(judged(&of("xs:int"), &text, steps, memory), Some(true));
    // What refers to identifiers refers to those of the document.
    let reference = |default: &str| {
        schema(&format!(
            r#"<xs:element name="r"><xs:complexType><xs:sequence><xs:element name="e" type="xs:IDREF" default="{default}"/></xs:sequence><xs:attribute name="i" type="xs:ID"/></xs:complexType></xs:element>"#
        ))
    };
    for (default, valid) in [("x", true), ("y", false)] {
        assert_eq!(judged(&reference(default), "<r i='x'><e/></r>", 1_000, memory), Some(valid), "{default}");
    }
}

#[test]
fn another_type_judges_a_default_itself() {
    let schema = schema(
        r#"<xs:simpleType name="small"><xs:restriction base="xs:int"><xs:maxInclusive value="9"/></xs:restriction></xs:simpleType><xs:element name="r" type="xs:int" default="10"/>"#,
    );
    for (ty, valid) in [("xs:int", true), ("xs:short", true), ("small", false)] {
        let text = format!(
            "<r xmlns:xs='http://www.w3.org/2001/XMLSchema' xmlns:i='http://www.w3.org/2001/XMLSchema-instance' i:type='{ty}'/>"
        );
        assert_eq!(judged(&schema, &text, 1_000, 1 << 10), Some(valid), "{ty}");
    }
}

#[test]
fn several_constraints_keep_the_values_of_many_rows_once() {
    let constraints: String = ["k", "l", "m"].iter().map(|name| unique(name, &["@a"])).collect();
    for ty in ["xs:int", "xs:string"] {
        let schema = rows(&format!(r#"<xs:attribute name="a" type="{ty}"/>"#), &constraints);
        let text: String = (0..100_000).map(|n| format!("<e a='{n}'/>")).collect();
        let text = format!("<r>{text}</r>");
        let (steps, memory) = allowed(&text);
        assert_eq!(judged(&schema, &text, steps, memory), Some(true), "{ty}");
    }
}

#[test]
fn keys_of_several_fields_are_the_same_if_all_their_values_are() {
    let attributes: String =
        ["a", "b", "c"].iter().map(|name| format!(r#"<xs:attribute name="{name}" type="xs:decimal"/>"#)).collect();
    let schema = rows(&attributes, &unique("k", &["@a", "@b", "@c"]));
    for (rows, valid) in [
        ("<e a='1' b='2' c='3'/><e a='1' b='2' c='4'/>", true),
        ("<e a='1' b='2' c='3'/><e a='3' b='2' c='1'/>", true),
        ("<e a='1' b='2' c='3'/><e a='1.0' b='02' c='3'/>", false),
        ("<e a='1' b='2'/><e a='1' b='2'/>", true),
        ("<e a='1' b='1' c='1'/><e a='1' b='1' c='1'/>", false),
    ] {
        assert_eq!(judged(&schema, &format!("<r>{rows}</r>"), 1_000, 1 << 12), Some(valid), "{rows}");
    }
}

#[test]
fn an_element_that_is_selected_is_paid_for_with_each_path_of_its_fields() {
    let paths: Vec<String> = (0..1000).map(|n| format!("@a{n}")).collect();
    let schema = rows("", &unique("k", &[&paths.join("|")]));
    let text = format!("<r>{}</r>", "<e/>".repeat(20));
    assert_eq!(judged(&schema, &text, 15_000, 1 << 20), None);
    assert_eq!(judged(&schema, &text, 50_000, 1 << 20), Some(true));
}

#[test]
fn tables_that_are_handed_from_element_to_element_are_paid_for() {
    let constraint = |kind: &str, name: String, selector: &str, more: String| {
        format!(r#"<xs:{kind} name="{name}"{more}><xs:selector xpath="{selector}"/><xs:field xpath="@a"/></xs:{kind}>"#)
    };
    let keys: String = (0..100).map(|n| constraint("key", format!("k{n}"), ".", String::new())).collect();
    let references: String =
        (0..100).map(|n| constraint("keyref", format!("f{n}"), "z", format!(r#" refer="k{n}""#))).collect();
    let schema = schema(&format!(
        r#"<xs:element name="r"><xs:complexType><xs:sequence><xs:element ref="e"/></xs:sequence></xs:complexType>{references}</xs:element><xs:element name="e"><xs:complexType><xs:sequence><xs:element ref="e" minOccurs="0"/><xs:element ref="l" minOccurs="0"/></xs:sequence></xs:complexType></xs:element><xs:element name="l"><xs:complexType><xs:attribute name="a"/></xs:complexType>{keys}</xs:element>"#
    ));
    let text = format!("<r>{}<l a='1'/>{}</r>", "<e>".repeat(200), "</e>".repeat(200));
    assert_eq!(judged(&schema, &text, 70_000, 1 << 20), None);
    assert_eq!(judged(&schema, &text, 150_000, 1 << 20), Some(true));
}
