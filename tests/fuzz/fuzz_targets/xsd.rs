//! XML Schema documents: whatever stands in one, it makes a schema, or problems that can be printed; and a schema that is one
//! judges bodies within bounds, too.
#![no_main]

use bartizan::rehearsal::parsers::XmlSchema;
use libfuzzer_sys::fuzz_target;
use world::oracle::{Bounds, bounded};

/// What a document can include and redefine.
const PART: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:include schemaLocation="main.xsd"/>
<xs:simpleType name="s"><xs:restriction base="xs:string"/></xs:simpleType>
<xs:complexType name="c"><xs:sequence><xs:element name="e" type="s" minOccurs="0" maxOccurs="9"/></xs:sequence></xs:complexType>
<xs:group name="g"><xs:choice><xs:element name="f"/></xs:choice></xs:group>
<xs:attributeGroup name="a"><xs:attribute name="x" type="s"/></xs:attributeGroup></xs:schema>"#;

fuzz_target!(|document: &[u8]| {
    let documents = [("main.xsd", document), ("part.xsd", PART.as_bytes())];
    match bounded(Bounds::COMPILED, document.len(), || XmlSchema::new(&documents)) {
        Ok(schema) => {
            for body in ["<r/>", "<r a='1'><e>1</e><f x=''/>x</r>", "<p:r xmlns:p='urn:p'><p:e/><p:e/></p:r>"] {
                bounded(Bounds::BODY, 0, || schema.judge(body));
            }
        }
        Err(problem) => assert!(problem.len() > 2, "a problem without words"),
    }
});
