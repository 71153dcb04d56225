//! XML Schema documents: whatever stands in one, it makes a policy, or problems that can be printed; and a schema that is one
//! judges bodies within bounds, too.
#![no_main]

use std::sync::LazyLock;

use http::Method;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use world::oracle::{Bounds, bounded};
use world::{World, assert_decided};

const POLICY: &str = "version: 1
listen: [{ address: '127.0.0.1:0' }]
apis:
  all:
    upstream: http://127.0.0.1:9
    routes: { POST /: { public: true, request: { xml: main.xsd } } }
audit: none
";

/// What a document can include and redefine.
const PART: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:include schemaLocation="main.xsd"/>
<xs:simpleType name="s"><xs:restriction base="xs:string"/></xs:simpleType>
<xs:complexType name="c"><xs:sequence><xs:element name="e" type="s" minOccurs="0" maxOccurs="9"/></xs:sequence></xs:complexType>
<xs:group name="g"><xs:choice><xs:element name="f"/></xs:choice></xs:group>
<xs:attributeGroup name="a"><xs:attribute name="x" type="s"/></xs:attributeGroup></xs:schema>"#;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = TempDir::new().expect("a folder");
    for (name, text) in [("policy.yaml", POLICY), ("part.xsd", PART)] {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
});

fuzz_target!(|document: &[u8]| {
    std::fs::write(FOLDER.path().join("main.xsd"), document).expect("a file");
    match bounded(Bounds::COMPILED, document.len(), || World::of(&FOLDER.path().join("policy.yaml"))) {
        Ok(world) => {
            for body in ["<r/>", "<r a='1'><e>1</e><f x=''/>x</r>", "<p:r xmlns:p='urn:p'><p:e/><p:e/></p:r>"] {
                let request = || world.request(&Method::POST, "/", "text/xml", body.as_bytes());
                assert_decided(bounded(Bounds::COMPILED, body.len(), request));
            }
        }
        Err(problems) => assert!(problems.contains("error"), "{problems}"),
    }
});
