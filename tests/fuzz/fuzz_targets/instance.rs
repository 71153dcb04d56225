//! Bodies, judged by a schema that has everything which costs something: keys within keys, identifiers, patterns, dates and
//! numbers of any length, unions of lists, substitution groups, derived types, wildcards, content that is ambiguous by counts. In
//! whatever pieces they come, the verdict is the same.
#![no_main]

use std::sync::LazyLock;

use bartizan::rehearsal::parsers::Xml;
use http::Method;
use libfuzzer_sys::fuzz_target;
use world::oracle::{Bounds, bounded};
use world::{World, assert_decided};

const POLICY: &str = "version: 1
listen: [{ address: '127.0.0.1:0' }]
apis:
  all:
    upstream: http://127.0.0.1:9
    routes: { POST /: { public: true, request: { xml: all.xsd } } }
audit: none
";

const SCHEMA: &str = r##"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
<xs:element name="r" type="t">
  <xs:unique name="k"><xs:selector xpath=".//e|.//h1"/><xs:field xpath="@i"/></xs:unique>
  <xs:keyref name="kr" refer="k"><xs:selector xpath=".//e"/><xs:field xpath="@q"/></xs:keyref>
  <xs:key name="u"><xs:selector xpath="n/b"/><xs:field xpath="."/></xs:key>
</xs:element>
<xs:complexType name="t" mixed="true"><xs:choice minOccurs="0" maxOccurs="unbounded">
  <xs:element name="e" type="t" nillable="true"/><xs:element ref="h"/><xs:element name="v" type="v"/>
  <xs:element name="d" type="xs:decimal" default="1.0"/><xs:element name="w" type="when"/><xs:element name="n" type="counted"/>
  <xs:any namespace='##other' processContents="lax"/>
</xs:choice><xs:attribute name="i" type="xs:ID"/><xs:attribute name="o" type="xs:IDREFS"/><xs:attribute name="q" type="xs:NCName"/><xs:anyAttribute processContents="lax"/></xs:complexType>
<xs:complexType name="more" mixed="true"><xs:complexContent><xs:extension base="t"><xs:sequence><xs:element name="x" type="xs:QName" maxOccurs="7"/></xs:sequence></xs:extension></xs:complexContent></xs:complexType>
<xs:complexType name="counted"><xs:sequence><xs:sequence minOccurs="0" maxOccurs="3"><xs:element name="a" minOccurs="2" maxOccurs="100000"/></xs:sequence><xs:element name="b" type="xs:int" minOccurs="0"/></xs:sequence></xs:complexType>
<xs:element name="h" type="t" abstract="true"/><xs:element name="h1" type="t" substitutionGroup="h"/><xs:element name="h2" type="more" substitutionGroup="h"/>
<xs:simpleType name="p"><xs:restriction base="xs:token"><xs:pattern value="(\i\c*|[\p{L}-[aeiou]]{1,50}|.+@.+)(;\s*.+=.+)*"/><xs:maxLength value="500"/></xs:restriction></xs:simpleType>
<xs:simpleType name="list"><xs:list itemType="xs:float"/></xs:simpleType>
<xs:simpleType name="v"><xs:union memberTypes="xs:base64Binary list xs:hexBinary p"/></xs:simpleType>
<xs:simpleType name="when"><xs:union><xs:simpleType><xs:restriction base="xs:dateTime"><xs:minInclusive value="1999-12-31T23:59:59.999-14:00"/></xs:restriction></xs:simpleType>
<xs:simpleType><xs:restriction base="xs:duration"><xs:maxExclusive value="P1Y2M3DT4H5M6.7S"/></xs:restriction></xs:simpleType><xs:simpleType><xs:restriction base="xs:gMonthDay"><xs:enumeration value="--02-29Z"/></xs:restriction></xs:simpleType></xs:union></xs:simpleType>
</xs:schema>"##;

static XML: LazyLock<Xml> = LazyLock::new(|| Xml::new(SCHEMA).expect("a good schema"));
thread_local!(static WORLD: LazyLock<World> = LazyLock::new(|| World::with(POLICY, &[("all.xsd", SCHEMA)])));

fuzz_target!(|body: &[u8]| {
    let request = || WORLD.with(|world| world.request(&Method::POST, "/", "text/xml", body));
    assert_decided(bounded(Bounds::BODY, 0, || bounded(Bounds::USUAL, body.len(), request)));
    let Ok(text) = std::str::from_utf8(body) else { return };
    let whole = XML.judge_in_pieces(text, usize::MAX);
    for size in [1, 7] {
        assert_eq!(XML.judge_in_pieces(text, size), whole, "in pieces of {size}");
    }
});
