//! Where libxml2 or xmlschema judge otherwise (`tests/fuzz/differential.py`), and what the specification says.

use super::{Found, compile, schema, violations};

/// The constraint that a schema violates first.
fn wrong(content: &str) -> Option<&'static str> {
    let text = format!(r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{content}</xs:schema>"#);
    let main = Found { file: "main.xsd".into(), bytes: text.into_bytes().into() };
    let problems = compile(vec![main], &mut |_| Ok(None)).err().unwrap_or_default();
    problems.first().map(|problem| problem.constraint)
}

#[test]
fn schemas_that_others_judge_otherwise() {
    for (content, expected) in [
        // Part 2, §4.3.1.4: `NMTOKENS` has a `minLength` of 1, which is no more than a `length` beside it. Both accept it.
        (
            r#"<xs:simpleType name="s"><xs:restriction base="xs:NMTOKENS"><xs:length value="0"/></xs:restriction></xs:simpleType>"#,
            Some("length-minLength-maxLength"),
        ),
        // Part 2, §3.2.5: NaN is greater than no other value. Both accept it.
        (
            r#"<xs:element name="r" default="NaN"><xs:simpleType><xs:restriction base="xs:double"><xs:minExclusive value="-1"/></xs:restriction></xs:simpleType></xs:element>"#,
            Some("e-props-correct.2"),
        ),
        // Nor is it greater than or equal to another one (§4.3.10.4). libxml2 refuses it.
        (
            r#"<xs:simpleType name="s"><xs:restriction base="xs:double"><xs:minInclusive value="NaN"/><xs:maxExclusive value="INF"/></xs:restriction></xs:simpleType>"#,
            None,
        ),
        // Part 1, §3.8.6: the second `c` may be that of the wildcard. Both accept it.
        (
            r#"<xs:element name="r"><xs:complexType><xs:sequence minOccurs="2" maxOccurs="2"><xs:element name="c"/><xs:any processContents="skip" maxOccurs="3"/></xs:sequence></xs:complexType></xs:element>"#,
            Some("cos-nonambig"),
        ),
        // Part 2, §3.2.8: both are midnight. libxml2 refuses it.
        (
            r#"<xs:element name="r" default="00:00:00"><xs:simpleType><xs:restriction base="xs:time"><xs:enumeration value="24:00:00"/></xs:restriction></xs:simpleType></xs:element>"#,
            None,
        ),
        // libxml2 has an internal error.
        (
            r#"<xs:simpleType name="u"><xs:union memberTypes="xs:NMTOKENS xs:normalizedString"/></xs:simpleType><xs:simpleType name="s"><xs:restriction base="u"><xs:enumeration value=""/></xs:restriction></xs:simpleType>"#,
            None,
        ),
        // Part 1, §3.4.6. xmlschema accepts it.
        (
            r#"<xs:complexType name="b"><xs:attribute name="a"/></xs:complexType><xs:complexType name="t"><xs:complexContent><xs:extension base="b"><xs:attribute name="a"/></xs:extension></xs:complexContent></xs:complexType>"#,
            Some("ct-props-correct.4"),
        ),
        // Part 2, §4.3.12.4. libxml2 accepts it.
        (
            r#"<xs:simpleType name="s"><xs:restriction base="xs:integer"><xs:fractionDigits value="2"/></xs:restriction></xs:simpleType>"#,
            Some("fractionDigits-valid-restriction"),
        ),
        // Part 1, §3.3.6. libxml2 accepts it.
        (r#"<xs:element name="r" type="xs:ID" fixed="i"/>"#, Some("e-props-correct.5")),
        // Part 1, §3.4.6: a list of identifiers is not derived from `ID`, so there may be two. Both refuse it.
        (
            r#"<xs:simpleType name="s"><xs:list itemType="xs:ID"/></xs:simpleType><xs:complexType name="t"><xs:attribute name="a" type="s"/><xs:attribute name="b" type="s"/></xs:complexType>"#,
            None,
        ),
        // Part 1, §3.9.6. libxml2 accepts it.
        (
            r#"<xs:complexType name="b"><xs:sequence><xs:element name="d" type="xs:gDay" maxOccurs="3"/></xs:sequence></xs:complexType><xs:complexType name="t"><xs:complexContent><xs:restriction base="b"><xs:sequence><xs:element name="d" type="xs:gDay" maxOccurs="unbounded"/></xs:sequence></xs:restriction></xs:complexContent></xs:complexType>"#,
            Some("rcase-NameAndTypeOK.3"),
        ),
        // Part 1, §3.9.2: a particle that never occurs is no component, so the types of `c` are those of one. xmlschema refuses it.
        (
            r#"<xs:element name="r"><xs:complexType><xs:choice><xs:element name="c" type="xs:int" minOccurs="0" maxOccurs="0"/><xs:element name="c" type="xs:date"/></xs:choice></xs:complexType></xs:element>"#,
            None,
        ),
    ] {
        assert_eq!(wrong(content), expected, "{content}");
    }
}

#[test]
fn instances_that_others_judge_otherwise() {
    for (content, instance, valid) in [
        // Part 1, §3.9.2: the branch that never occurs is no component, and so not one that may be empty. Both accept it.
        (
            r#"<xs:element name="r"><xs:complexType><xs:choice><xs:element name="d"/><xs:element name="f" minOccurs="0" maxOccurs="0"/></xs:choice></xs:complexType></xs:element>"#,
            "<r/>",
            false,
        ),
        // Part 2, §3.3.5: at least one token. libxml2 accepts both.
        (
            r#"<xs:element name="r"><xs:simpleType><xs:union memberTypes="xs:NMTOKENS"/></xs:simpleType></xs:element>"#,
            "<r/>",
            false,
        ),
        (
            r#"<xs:element name="r"><xs:simpleType><xs:restriction base="xs:NMTOKENS"/></xs:simpleType></xs:element>"#,
            "<r> </r>",
            false,
        ),
        // Part 1, §3.3.4 (cvc-id). libxml2 accepts it.
        (r#"<xs:element name="r" type="xs:IDREF"/>"#, "<r>nobody</r>", false),
        // One repetition is empty. xmlschema refuses it.
        (
            r#"<xs:element name="r"><xs:complexType><xs:choice minOccurs="0" maxOccurs="2"><xs:choice minOccurs="2" maxOccurs="2"><xs:choice minOccurs="0" maxOccurs="2"><xs:element name="e" minOccurs="0" maxOccurs="unbounded"/></xs:choice></xs:choice></xs:choice></xs:complexType></xs:element>"#,
            "<r><e/></r>",
            true,
        ),
        // Part 2, §3.3.20: zero may have either sign, and derived types restrict values only. libxml2 refuses it.
        (r#"<xs:element name="r" type="xs:unsignedInt"/>"#, "<r>-0</r>", true),
        // Part 1, §3.11.4: what a selector selects is in the document, whether it is judged or not. Both accept it.
        (
            r#"<xs:element name="r"><xs:complexType><xs:sequence><xs:any processContents="skip"/></xs:sequence></xs:complexType><xs:key name="k"><xs:selector xpath="*"/><xs:field xpath="."/></xs:key></xs:element>"#,
            "<r><a>1</a></r>",
            false,
        ),
        // Part 2, §3.2.7.4: a time of a zone is not comparable with one of none that is less than 14 hours away. Both accept it.
        (
            r#"<xs:element name="r"><xs:simpleType><xs:restriction base="xs:time"><xs:minInclusive value="00:00:00"/></xs:restriction></xs:simpleType></xs:element>"#,
            "<r>12:30:15.25Z</r>",
            false,
        ),
        // Part 2, §4.3.6: white space is replaced before values are compared. libxml2 compares the text.
        (r#"<xs:element name="r" type="xs:normalizedString" fixed="a b"/>"#, "<r>a&#9;b</r>", true),
        // An empty list is a value. libxml2 takes it for none.
        (
            r#"<xs:element name="r"><xs:complexType><xs:sequence><xs:element name="b" minOccurs="2" maxOccurs="2"><xs:simpleType><xs:list itemType="xs:duration"/></xs:simpleType></xs:element></xs:sequence></xs:complexType><xs:unique name="k"><xs:selector xpath="b"/><xs:field xpath="."/></xs:unique></xs:element>"#,
            "<r><b/><b>P1D P1D</b></r>",
            true,
        ),
        // The prefix `xml` is always bound. xmlschema refuses it.
        (r#"<xs:element name="r" type="xs:QName"/>"#, "<r>xml:lang</r>", true),
        // Part 2, §3.2.17: XLink escapes no `%`. xmlschema accepts it.
        (r#"<xs:element name="r" type="xs:anyURI"/>"#, "<r>%zz</r>", false),
    ] {
        assert_eq!(violations(&schema(content), instance).is_empty(), valid, "{content} {instance}");
    }
}
