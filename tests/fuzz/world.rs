//! A policy for the fuzz targets, and the chain that bytes are sent through.

use std::path::Path;

use bartizan::rehearsal::{Rehearsal, Verdict};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::Method;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const POLICY: &str = "version: 1
listen: [{ address: '127.0.0.1:0' }]
apis:
  all:
    upstream: http://127.0.0.1:9
    routes:
      POST /json: { public: true, request: { json: order.json } }
      POST /xml: { public: true, request: { xml: order.xsd } }
      POST /soap: { public: true, request: { soap: order.xsd } }
      POST /form: { public: true, request: { form: order.json, multipart: order.json } }
      GET /query/{id}: { public: true, request: { path: path.json, query: order.json, strict: true } }
audit: none
";

const ORDER: &str = r##"{
  "type": "object", "required": ["id"],
  "properties": {
    "id": {"type": "integer", "minimum": 1},
    "note": {"type": ["string", "null"], "maxLength": 20, "pattern": "^[a-z ]*$"},
    "tags": {"type": "array", "items": {"enum": ["a", "b", 3]}, "maxItems": 4, "uniqueItems": true},
    "at": {"type": "string", "format": "date-time"},
    "part": {"$ref": "#/$defs/part"},
    "either": {"oneOf": [{"type": "number"}, {"type": "object", "required": ["x"]}]}
  },
  "additionalProperties": false,
  "$defs": {"part": {"type": "object", "properties": {"part": {"$ref": "#/$defs/part"}, "weight": {"multipleOf": 0.01}}}}
}"##;

const PATH: &str = r#"{"properties": {"id": {"type": "integer"}}}"#;

const XSD: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
  <xs:element name="order"><xs:complexType><xs:sequence>
    <xs:element name="id" type="xs:positiveInteger"/>
    <xs:choice minOccurs="0" maxOccurs="unbounded">
      <xs:element name="note" type="xs:token"/>
      <xs:element name="at" type="xs:dateTime" nillable="true"/>
      <xs:any namespace="urn:x" processContents="lax"/>
    </xs:choice>
  </xs:sequence><xs:attribute name="kind" type="xs:NMTOKENS"/></xs:complexType>
  <xs:key name="k"><xs:selector xpath="note"/><xs:field xpath="."/></xs:key></xs:element>
</xs:schema>"#;

/// A policy, and a runtime for requests to it.
pub struct World {
    rehearsal: Rehearsal,
    runtime: Runtime,
}

impl World {
    /// The policy above.
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        write("policy.yaml", POLICY);
        write("order.json", ORDER);
        write("order.xsd", XSD);
        write("path.json", PATH);
        Self::of(&folder.path().join("policy.yaml")).expect("a good policy")
    }

    /// Any policy. The error is what `check` says.
    pub fn of(policy: &Path) -> Result<Self, String> {
        let rehearsal = Rehearsal::new(policy)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        Ok(Self { rehearsal, runtime })
    }

    /// Sends a request through the chain.
    pub fn request(&self, method: &Method, target: &str, media_type: &'static str, body: &[u8]) -> Verdict {
        let mut headers = HeaderMap::new();
        if !media_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        self.runtime.block_on(self.rehearsal.request(method, target, &headers, Bytes::copy_from_slice(body)))
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// Fails unless the message is valid, or refused as the caller's fault.
pub fn assert_decided(verdict: Verdict) {
    assert!(
        matches!(verdict, None | Some((400 | 413 | 415 | 422, _))),
        "{verdict:?}"
    );
}
