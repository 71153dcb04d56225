//! A policy for the fuzz targets, the chain that bytes are sent through, and what an input may cost ([`oracle`]).

pub mod oracle;

use std::path::Path;

use bartizan::rehearsal::{Rehearsal, Verdict};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The time of all connections, in seconds since 1970, so that what was found is found again.
pub const NOW: i64 = 1_800_000_000;

/// A schema of objects with an integer, a short text and a choice, for targets of their own.
pub const ORDER_SCHEMA: &str = ORDER;

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
        Self::with(POLICY, &[("order.json", ORDER), ("order.xsd", XSD), ("path.json", PATH)])
    }

    /// This policy, which is good, and its files.
    pub fn with(policy: &str, files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a folder");
        for (name, text) in [("policy.yaml", policy)].iter().chain(files) {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
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
        self.encoded_request(method, target, media_type, "", body)
    }

    /// The same with a content coding.
    pub fn encoded_request(
        &self,
        method: &Method,
        target: &str,
        media_type: &'static str,
        coding: &'static str,
        body: &[u8],
    ) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in [(CONTENT_TYPE, media_type), (CONTENT_ENCODING, coding)] {
            if !value.is_empty() {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        self.runtime.block_on(self.rehearsal.request(method, target, &headers, Bytes::copy_from_slice(body)))
    }

    /// Sends the bytes of a connection, which arrive in pieces.
    pub fn connection(&self, sent: &[u8], piece: usize) -> Vec<Verdict> {
        self.runtime.block_on(self.rehearsal.connection(sent, piece, NOW))
    }

    /// Decides about the answer of an upstream.
    pub fn response(&self, path: &str, status: StatusCode, media_type: &'static str, body: &[u8]) -> Verdict {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]);
        let body = Bytes::copy_from_slice(body);
        self.runtime.block_on(self.rehearsal.response(&Method::GET, path, status, &headers, body))
    }

    /// Takes an operator's request.
    pub fn operate(&self, method: &Method, target: &str, body: &[u8]) -> StatusCode {
        self.runtime.block_on(self.rehearsal.operate(method, target, body))
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// Fails unless the message is valid, or refused as the caller's fault.
pub fn assert_decided(verdict: Verdict) {
    assert!(matches!(verdict, None | Some((400 | 413 | 415 | 422, _))), "{verdict:?}");
}

/// A schema whose root element `v` has a restriction of this built-in type.
pub fn element(ty: &str, facets: &str) -> String {
    format!(
        "<xs:schema xmlns:xs='http://www.w3.org/2001/XMLSchema'><xs:element name='v'><xs:simpleType><xs:restriction \
         base='xs:{ty}'>{facets}</xs:restriction></xs:simpleType></xs:element></xs:schema>"
    )
}

/// A text as it is written in XML, so that no white space of it is normalised.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '<' | '>' | '"' | '\t' | '\n' | '\r' => escaped.push_str(&format!("&#{};", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}
