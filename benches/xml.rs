//! XML bodies: what it costs to judge them, in time, memory and instructions.
//!
//! `cargo bench --bench xml` measures time and memory. `cargo bench --bench xml -- --instructions` counts instructions, by
//! `valgrind`: their number is the same however busy the machine is. Documents and schemas are made here, in the shape of those
//! that are sent: orders, invoices with prefixes and attributes, files of payments. Every document passes route and schema as it
//! does in `run`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that cannot be set up ends")]

use std::fmt::Write as _;
use std::process::Command;

use bartizan::rehearsal::Rehearsal;
use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher};
use http::{HeaderMap, HeaderValue, Method};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const POLICY: &str = "version: 1
listen: [{ address: '127.0.0.1:8080' }]
apis:
  all:
    upstream: http://127.0.0.1:9000
    routes:
      POST /order: { public: true, request: { xml: order.xsd } }
      POST /invoice: { public: true, request: { xml: invoice.xsd } }
      POST /payments: { public: true, request: { xml: payments.xsd, max_size: 64MiB } }
limits: { memory: 128MiB }
audit: none
";

const ORDER: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
  <xs:element name="order"><xs:complexType><xs:sequence>
    <xs:element name="customer"><xs:complexType><xs:sequence>
      <xs:element name="name" type="text"/>
      <xs:element name="street" type="text"/>
      <xs:element name="city" type="text"/>
      <xs:element name="country" type="code"/>
    </xs:sequence></xs:complexType></xs:element>
    <xs:element name="line" maxOccurs="unbounded"><xs:complexType><xs:sequence>
      <xs:element name="item" type="text"/>
      <xs:element name="quantity" type="xs:positiveInteger"/>
      <xs:element name="price" type="price"/>
      <xs:element name="by" type="xs:date" minOccurs="0"/>
    </xs:sequence><xs:attribute name="id" type="xs:NMTOKEN" use="required"/></xs:complexType></xs:element>
  </xs:sequence><xs:attribute name="date" type="xs:date" use="required"/></xs:complexType></xs:element>
  <xs:simpleType name="text"><xs:restriction base="xs:token"><xs:minLength value="1"/><xs:maxLength value="70"/></xs:restriction></xs:simpleType>
  <xs:simpleType name="code"><xs:restriction base="xs:string"><xs:pattern value="[A-Z]{2,2}"/></xs:restriction></xs:simpleType>
  <xs:simpleType name="price"><xs:restriction base="xs:decimal"><xs:minInclusive value="0"/><xs:fractionDigits value="2"/></xs:restriction></xs:simpleType>
</xs:schema>"#;

const INVOICE: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns="urn:invoice" targetNamespace="urn:invoice" elementFormDefault="qualified">
  <xs:element name="Invoice"><xs:complexType><xs:sequence>
    <xs:element ref="ID"/><xs:element name="IssueDate" type="xs:date"/><xs:element name="Note" type="text" minOccurs="0"/>
    <xs:element name="Party" type="party" maxOccurs="2"/><xs:element name="Line" type="line" maxOccurs="unbounded"/>
    <xs:element name="Total" type="amount"/>
  </xs:sequence></xs:complexType></xs:element>
  <xs:element name="ID" type="identifier"/>
  <xs:complexType name="party"><xs:sequence>
    <xs:element ref="ID" minOccurs="0"/><xs:element name="Name" type="text"/><xs:element name="Country" type="code"/>
  </xs:sequence></xs:complexType>
  <xs:complexType name="line"><xs:sequence>
    <xs:element ref="ID"/><xs:element name="Note" type="text" minOccurs="0"/><xs:element name="Quantity" type="quantity"/>
    <xs:element name="Amount" type="amount"/><xs:element name="Charge" type="amount" minOccurs="0" maxOccurs="unbounded"/>
    <xs:element name="Item"><xs:complexType><xs:sequence>
      <xs:element name="Name" type="text"/><xs:choice minOccurs="0" maxOccurs="unbounded"><xs:element name="Code" type="code"/><xs:element ref="ID"/></xs:choice>
    </xs:sequence></xs:complexType></xs:element>
  </xs:sequence></xs:complexType>
  <xs:complexType name="identifier"><xs:simpleContent><xs:extension base="xs:normalizedString">
    <xs:attribute name="schemeID" type="xs:normalizedString"/><xs:attribute name="schemeAgencyID" type="xs:normalizedString"/>
  </xs:extension></xs:simpleContent></xs:complexType>
  <xs:complexType name="code"><xs:simpleContent><xs:extension base="xs:normalizedString">
    <xs:attribute name="listID" type="xs:normalizedString"/><xs:attribute name="listURI" type="xs:anyURI"/>
  </xs:extension></xs:simpleContent></xs:complexType>
  <xs:complexType name="text"><xs:simpleContent><xs:extension base="xs:string"><xs:attribute name="languageID" type="xs:language"/></xs:extension></xs:simpleContent></xs:complexType>
  <xs:complexType name="quantity"><xs:simpleContent><xs:extension base="xs:decimal"><xs:attribute name="unitCode" type="xs:normalizedString"/></xs:extension></xs:simpleContent></xs:complexType>
  <xs:complexType name="amount"><xs:simpleContent><xs:extension base="xs:decimal"><xs:attribute name="currencyID" type="xs:normalizedString" use="required"/></xs:extension></xs:simpleContent></xs:complexType>
</xs:schema>"#;

const PAYMENTS: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns="urn:payments" targetNamespace="urn:payments" elementFormDefault="qualified">
  <xs:element name="Document"><xs:complexType><xs:sequence><xs:element name="Transfers" type="transfers"/></xs:sequence></xs:complexType></xs:element>
  <xs:complexType name="transfers"><xs:sequence>
    <xs:element name="Head"><xs:complexType><xs:sequence>
      <xs:element name="MsgId" type="text35"/><xs:element name="Created" type="xs:dateTime"/>
      <xs:element name="Count"><xs:simpleType><xs:restriction base="xs:string"><xs:pattern value="[0-9]{1,15}"/></xs:restriction></xs:simpleType></xs:element>
      <xs:element name="Sum" type="number" minOccurs="0"/><xs:element name="From" type="party"/>
    </xs:sequence></xs:complexType></xs:element>
    <xs:element name="Order" maxOccurs="unbounded"><xs:complexType><xs:sequence>
      <xs:element name="OrderId" type="text35"/><xs:element name="Method"><xs:simpleType><xs:restriction base="xs:string"><xs:enumeration value="CHK"/><xs:enumeration value="TRF"/></xs:restriction></xs:simpleType></xs:element>
      <xs:element name="Batch" type="xs:boolean" minOccurs="0"/><xs:element name="On" type="xs:date"/>
      <xs:element name="Debtor" type="party"/><xs:element name="DebtorAccount" type="account"/>
      <xs:element name="Payment" type="payment" maxOccurs="unbounded"/>
    </xs:sequence></xs:complexType></xs:element>
  </xs:sequence></xs:complexType>
  <xs:complexType name="payment"><xs:sequence>
    <xs:element name="Ids"><xs:complexType><xs:sequence><xs:element name="Own" type="text35" minOccurs="0"/><xs:element name="EndToEnd" type="text35"/></xs:sequence></xs:complexType></xs:element>
    <xs:element name="Amount"><xs:complexType><xs:choice><xs:element name="Instructed" type="amount"/><xs:element name="Equivalent" type="amount"/></xs:choice></xs:complexType></xs:element>
    <xs:element name="Bearer" minOccurs="0"><xs:simpleType><xs:restriction base="xs:string"><xs:enumeration value="DEBT"/><xs:enumeration value="CRED"/><xs:enumeration value="SHAR"/><xs:enumeration value="SLEV"/></xs:restriction></xs:simpleType></xs:element>
    <xs:element name="Agent" minOccurs="0"><xs:complexType><xs:sequence><xs:element name="Bank" type="bank"/></xs:sequence></xs:complexType></xs:element>
    <xs:element name="Creditor" type="party"/><xs:element name="CreditorAccount" type="account"/>
    <xs:element name="Purpose" type="text35" minOccurs="0"/>
    <xs:element name="Remittance" minOccurs="0"><xs:complexType><xs:sequence><xs:element name="Text" type="text140" minOccurs="0" maxOccurs="unbounded"/></xs:sequence></xs:complexType></xs:element>
  </xs:sequence></xs:complexType>
  <xs:complexType name="party"><xs:sequence>
    <xs:element name="Name" type="text140" minOccurs="0"/>
    <xs:element name="Address" minOccurs="0"><xs:complexType><xs:sequence>
      <xs:element name="Town" type="text35" minOccurs="0"/><xs:element name="Country" type="country" minOccurs="0"/><xs:element name="Line" type="text70" minOccurs="0" maxOccurs="7"/>
    </xs:sequence></xs:complexType></xs:element>
  </xs:sequence></xs:complexType>
  <xs:complexType name="account"><xs:sequence><xs:element name="Id"><xs:complexType><xs:choice><xs:element name="IBAN" type="iban"/><xs:element name="Other" type="text35"/></xs:choice></xs:complexType></xs:element></xs:sequence></xs:complexType>
  <xs:complexType name="amount"><xs:simpleContent><xs:extension base="number"><xs:attribute name="Currency" type="currency" use="required"/></xs:extension></xs:simpleContent></xs:complexType>
  <xs:simpleType name="number"><xs:restriction base="xs:decimal"><xs:minInclusive value="0"/><xs:totalDigits value="18"/><xs:fractionDigits value="5"/></xs:restriction></xs:simpleType>
  <xs:simpleType name="currency"><xs:restriction base="xs:string"><xs:pattern value="[A-Z]{3,3}"/></xs:restriction></xs:simpleType>
  <xs:simpleType name="country"><xs:restriction base="xs:string"><xs:pattern value="[A-Z]{2,2}"/></xs:restriction></xs:simpleType>
  <xs:simpleType name="iban"><xs:restriction base="xs:string"><xs:pattern value="[A-Z]{2,2}[0-9]{2,2}[a-zA-Z0-9]{1,30}"/></xs:restriction></xs:simpleType>
  <xs:simpleType name="bank"><xs:restriction base="xs:string"><xs:pattern value="[A-Z0-9]{4,4}[A-Z]{2,2}[A-Z0-9]{2,2}([A-Z0-9]{3,3}){0,1}"/></xs:restriction></xs:simpleType>
  <xs:simpleType name="text35"><xs:restriction base="xs:string"><xs:minLength value="1"/><xs:maxLength value="35"/></xs:restriction></xs:simpleType>
  <xs:simpleType name="text70"><xs:restriction base="xs:string"><xs:minLength value="1"/><xs:maxLength value="70"/></xs:restriction></xs:simpleType>
  <xs:simpleType name="text140"><xs:restriction base="xs:string"><xs:minLength value="1"/><xs:maxLength value="140"/></xs:restriction></xs:simpleType>
</xs:schema>"#;

/// The documents: route, and how many lines or payments.
const DOCUMENTS: [(&str, usize); 4] = [("order", 16), ("invoice", 40), ("payments", 1_000), ("payments", 100_000)];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match *arguments {
        ["--instructions", ..] => count_instructions(),
        ["--send", route, count, times] => {
            let (world, body) = (World::new(), document(route, count.parse().unwrap()));
            (0..times.parse().unwrap()).for_each(|_| world.send(route, &body));
        }
        _ => divan::main(),
    }
}

/// Prints how many instructions each document takes: what further ones take that the first does not. What a start takes varies
/// by some 100,000 instructions, so that small documents are sent oftener.
fn count_instructions() {
    for (route, count) in DOCUMENTS.iter().filter(|(_, count)| *count < 10_000) {
        let of = |times: u64| {
            let mut command = Command::new("valgrind");
            command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe().unwrap());
            command.args(["--send", route, &count.to_string(), &times.to_string()]);
            let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
            let collected = said.split("Collected :").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
            collected.parse::<u64>().unwrap()
        };
        let size = document(route, *count).len() as u64;
        let further = 5_000_000 / size;
        let each = of(1 + further).saturating_sub(of(1)) / further;
        println!("{route} of {size} bytes: {each} instructions, {:.1} a byte", each as f64 / size as f64);
    }
}

struct World {
    rehearsal: Rehearsal,
    runtime: Runtime,
    headers: HeaderMap,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files =
            [("policy.yaml", POLICY), ("order.xsd", ORDER), ("invoice.xsd", INVOICE), ("payments.xsd", PAYMENTS)];
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self {
            rehearsal: Rehearsal::new(&folder.path().join("policy.yaml")).unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap(),
            headers: HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/xml"))]),
        }
    }

    /// Sends a body, which is valid.
    fn send(&self, route: &str, body: &Bytes) {
        let path = format!("/{route}");
        let request = self.rehearsal.request(&Method::POST, &path, &self.headers, body.clone());
        assert_eq!(self.runtime.block_on(request), None);
    }
}

/// The document for a route, of so many lines or payments.
fn document(route: &str, count: usize) -> Bytes {
    let mut text = String::new();
    match route {
        "order" => {
            text.push_str("<order date=\"2027-02-01\"><customer><name>Acme Lanterns</name><street>Elm Street 1</street><city>Berlin</city><country>DE</country></customer>");
            for line in 0..count {
                let _ = write!(
                    text,
                    "<line id=\"l-{line}\"><item>a lantern with a spare wick</item><quantity>2</quantity><price>19.90</price><by>2027-02-28</by></line>"
                );
            }
            text.push_str("</order>");
        }
        "invoice" => {
            text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<i:Invoice xmlns:i=\"urn:invoice\">\n  <i:ID>TOSL108</i:ID>\n  <i:IssueDate>2027-02-15</i:IssueDate>\n  <i:Note languageID=\"en\">Ordered through our website</i:Note>\n");
            text.push_str("  <i:Party>\n    <i:ID schemeID=\"GLN\" schemeAgencyID=\"9\">1234567890123</i:ID>\n    <i:Name>Salescompany Ltd.</i:Name>\n    <i:Country listID=\"ISO3166-1\">DK</i:Country>\n  </i:Party>\n");
            for line in 0..count {
                let _ = write!(
                    text,
                    "  <i:Line>\n    <i:ID>{line}</i:ID>\n    <i:Quantity unitCode=\"C62\">{}</i:Quantity>\n    <i:Amount currencyID=\"EUR\">1273.50</i:Amount>\n    <i:Charge currencyID=\"EUR\">-12.00</i:Charge>\n    <i:Item>\n      <i:Name languageID=\"en\">Laptop computer {line}</i:Name>\n      <i:ID schemeID=\"GTIN\">JB007</i:ID>\n      <i:Code listID=\"UNSPSC\">12344321</i:Code>\n    </i:Item>\n  </i:Line>\n",
                    line + 1
                );
            }
            text.push_str("  <i:Total currencyID=\"EUR\">1436.50</i:Total>\n</i:Invoice>\n");
        }
        _ => {
            text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Document xmlns=\"urn:payments\">\n<Transfers>\n<Head><MsgId>M-1</MsgId><Created>2027-02-01T09:00:00Z</Created><Count>1</Count><Sum>1.00</Sum><From><Name>Acme</Name></From></Head>\n");
            text.push_str("<Order><OrderId>O-1</OrderId><Method>TRF</Method><On>2027-02-02</On><Debtor><Name>Acme</Name></Debtor><DebtorAccount><Id><IBAN>DE02120300000000202051</IBAN></Id></DebtorAccount>\n");
            for payment in 0..count {
                let _ = write!(
                    text,
                    "<Payment>\n<Ids><Own>I-{payment}</Own><EndToEnd>E-{payment}</EndToEnd></Ids>\n<Amount><Instructed Currency=\"EUR\">{}.50</Instructed></Amount>\n<Bearer>SLEV</Bearer>\n<Agent><Bank>COBADEFFXXX</Bank></Agent>\n<Creditor><Name>Supplier {payment} GmbH</Name><Address><Country>DE</Country><Line>Elm Street {payment}</Line><Line>10115 Berlin</Line></Address></Creditor>\n<CreditorAccount><Id><IBAN>DE89370400440532013000</IBAN></Id></CreditorAccount>\n<Remittance><Text>Invoice {payment} of 2027-01-02</Text></Remittance>\n</Payment>\n",
                    payment % 5_000
                );
            }
            text.push_str("</Order>\n</Transfers>\n</Document>\n");
        }
    }
    Bytes::from(text)
}

/// Memory is beside the body.
#[divan::bench(args = DOCUMENTS)]
fn judge(bencher: Bencher<'_, '_>, (route, count): (&str, usize)) {
    let (world, body) = (World::new(), document(route, count));
    bencher.counter(BytesCount::new(body.len())).bench_local(|| world.send(route, &body));
}
