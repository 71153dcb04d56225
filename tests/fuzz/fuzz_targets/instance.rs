//! Bodies, judged by a schema that has everything which costs something: keys within keys, identifiers, patterns, dates and
//! numbers of any length, unions of lists, substitution groups, derived types, wildcards, content that is ambiguous by counts. In
//! whatever pieces they come, the verdict is the same.
#![no_main]

use std::sync::LazyLock;

use bartizan::rehearsal::parsers::Xml;
use http::Method;
use libfuzzer_sys::fuzz_target;
use world::oracle::{self, Bounds, bounded};
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
  <xs:unique name="f"><xs:selector xpath=".//e"/><xs:field xpath=".//d"/></xs:unique>
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
<xs:simpleType name="wide"><xs:restriction base="xs:string"><xs:pattern value=".*[0-9].{0,1000}"/><xs:maxLength value="40000"/></xs:restriction></xs:simpleType>
<xs:simpleType name="years"><xs:list><xs:simpleType><xs:restriction base="xs:gYear"><xs:enumeration value="1999"/><xs:enumeration value="2000Z"/></xs:restriction></xs:simpleType></xs:list></xs:simpleType>
<xs:simpleType name="v"><xs:union memberTypes="xs:base64Binary list years xs:hexBinary p wide"/></xs:simpleType>
<xs:simpleType name="when"><xs:union><xs:simpleType><xs:restriction base="xs:dateTime"><xs:minInclusive value="1999-12-31T23:59:59.999-14:00"/></xs:restriction></xs:simpleType>
<xs:simpleType><xs:restriction base="xs:duration"><xs:maxExclusive value="P1Y2M3DT4H5M6.7S"/></xs:restriction></xs:simpleType><xs:simpleType><xs:restriction base="xs:gMonthDay"><xs:enumeration value="--02-29Z"/></xs:restriction></xs:simpleType></xs:union></xs:simpleType>
</xs:schema>"##;

/// Bytes that are held of a body that is judged while it comes, beside those that are counted: scratch memory, and states of patterns.
const UNCOUNTED: u64 = 3 << 20;
const REQUEST: Bounds = Bounds { memory: Bounds::USUAL.memory + UNCOUNTED as usize, ..Bounds::USUAL };

static XML: LazyLock<Xml> = LazyLock::new(|| Xml::new(SCHEMA).expect("a good schema"));
thread_local!(static WORLD: LazyLock<World> = LazyLock::new(|| World::with(POLICY, &[("all.xsd", SCHEMA)])));

fuzz_target!(|body: &[u8]| {
    let request = || WORLD.with(|world| world.request(&Method::POST, "/", "text/xml", body));
    assert_decided(bounded(Bounds::BODY, 0, || bounded(REQUEST, body.len(), request)));
    let Ok(text) = std::str::from_utf8(body) else { return };
    let whole = XML.judge_in_pieces(text, usize::MAX);
    for size in [1, 7] {
        assert_eq!(XML.judge_in_pieces(text, size), whole, "in pieces of {size}");
    }
    // Only a large body is judged while it comes; most of one is the same.
    if body.len() % 64 == 0 && text.starts_with("<r>") {
        let long = ["<r>", &FILLING, text.get(3..).unwrap_or_default()].concat();
        as_it_comes(long.as_bytes());
    }
});

static FILLING: LazyLock<String> = LazyLock::new(|| "<v>a</v>".repeat((64 << 10) / 8));

fn as_it_comes(body: &[u8]) {
    let before = oracle::held();
    let size = body.len() / 5;
    let valid = XML.judge_as_it_comes(body, size, |counted| {
        let held = oracle::held().saturating_sub(before) as u64;
        assert!(held <= counted + UNCOUNTED, "{held} bytes are held, and {counted} counted");
    });
    // What is found valid is valid; the other way round, it may only take too much to tell in parts.
    assert!(!valid || XML.judge(body) == Some(true), "only in parts it is valid");
}
