//! Reads the documents of a schema: the first ones, and all that they include, import and redefine (XSD 1.0 Part 1, §4.2); of
//! a WSDL, the schemas within it, and the documents that it imports (WSDL 1.1 §2.1.1).

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use super::context::Builder;
use super::syntax;
use super::work::{At, Document};
use crate::budget::Exhausted;
use crate::xsd::document::decode::decode;
use crate::xsd::document::malformed::position;
use crate::xsd::document::tree::{NodeId, Tree};
use crate::xsd::names::{QName, Sym, WSDL};
use crate::xsd::problem::Place;
use crate::xsd::room::TOO_LARGE;

/// Most documents of a schema.
const MAX_DOCUMENTS: usize = 4096;
/// Most bytes of all of them, with their entities.
const MAX_SIZE: usize = 64 << 20;
/// Steps to find what a reference leads to.
const REFERENCE: u64 = 200;
/// The name of the schema of the namespace `xml:`, which no file has.
const XML_FILE: &str = "http://www.w3.org/2001/xml.xsd";

/// A document that another one refers to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reference<'a> {
    /// The file of the document that refers to it.
    pub(crate) from: &'a str,
    /// `schemaLocation`, if there is one.
    pub(crate) location: Option<&'a str>,
    /// The namespace of an import; `None` for `include`, `redefine`, and the import of a WSDL.
    pub(crate) import: Option<&'a str>,
}

/// A document that was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Its name, which is the same whenever it is the same file.
    pub(crate) file: Arc<str>,
    pub(crate) bytes: Arc<[u8]>,
}

/// Finds documents. `Ok(None)` if there is none, which is an error only where one is needed.
pub(crate) type Resolver<'a> = dyn FnMut(Reference<'_>) -> Result<Option<Found>, String> + 'a;

/// A document to read: who refers to it, and how.
struct Pending {
    found: Found,
    from: Option<At>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    First,
    Include,
    /// By a WSDL: another one, or a schema.
    Wsdl,
    /// Of this namespace.
    Import(Sym),
}

/// The declarations of the namespace `xml:` (<http://www.w3.org/2001/xml.xsd>), which schemas import from the web.
const XML_XSD: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="http://www.w3.org/XML/1998/namespace">
<xs:attribute name="lang"><xs:simpleType><xs:union memberTypes="xs:language"><xs:simpleType><xs:restriction base="xs:string"><xs:enumeration value=""/></xs:restriction></xs:simpleType></xs:union></xs:simpleType></xs:attribute>
<xs:attribute name="space"><xs:simpleType><xs:restriction base="xs:NCName"><xs:enumeration value="default"/><xs:enumeration value="preserve"/></xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="base" type="xs:anyURI"/>
<xs:attribute name="id" type="xs:ID"/>
<xs:attributeGroup name="specialAttrs"><xs:attribute ref="xml:base"/><xs:attribute ref="xml:lang"/><xs:attribute ref="xml:space"/><xs:attribute ref="xml:id"/></xs:attributeGroup>
</xs:schema>"#;

impl Builder {
    /// Reads documents until all that are referred to are read.
    pub(crate) fn load(&mut self, first: Vec<Found>, resolve: &mut Resolver<'_>) {
        let mut left: Vec<Pending> = Vec::new();
        let mut size = 0_usize;
        let mut xml_needed: Vec<At> = Vec::new();
        for found in first.into_iter().rev() {
            left.push(Pending { found, from: None, kind: Kind::First });
        }
        loop {
            if self.room.is_short() {
                return self.check_room();
            }
            let Some(pending) = left.pop() else {
                if xml_needed.is_empty() || self.documents.iter().any(|document| document.target == Sym::XML) {
                    return;
                }
                let found = Found { file: XML_FILE.into(), bytes: XML_XSD.as_bytes().into() };
                left.push(Pending { found, from: xml_needed.pop(), kind: Kind::Import(Sym::XML) });
                continue;
            };
            let Ok(document) = self.read(&pending, &mut size) else { return };
            let Some(document) = document else { continue };
            let mut referred = Vec::new();
            let inner = self.schemas_within(document);
            for document in std::iter::once(document).chain(inner) {
                if self.references(document, resolve, &mut referred, &mut xml_needed).is_err() {
                    let message = "the files of the schema have too many references to others, all together";
                    return self.problems.add(Place { document, line: 1, column: 1 }, "schema_reference", message);
                }
            }
            left.extend(referred.into_iter().rev());
        }
    }

    /// Reads a document, unless it has been read with the same target namespace. Returns its number if it is new, and adds
    /// its bytes and what its DTD adds to the size.
    fn read(&mut self, pending: &Pending, size: &mut usize) -> Result<Option<u32>, Exhausted> {
        let Found { file, bytes } = &pending.found;
        // By its name first: a file may be referred to often, and its bytes are many.
        let declared = match self.declared_in_files.get(file).copied() {
            // It is not well-formed.
            Some(None) => return Ok(None),
            Some(own) => own,
            None => self.declared_targets.get(bytes).copied(),
        };
        if let Some(own) = declared {
            let (target, _) = self.target_for(pending, own);
            if let Some(read) = self.seen_documents.get(&(Arc::clone(file), target)).copied() {
                self.check_target(pending, own, target);
                self.include(pending, read);
                return Ok(None);
            }
        }
        *size = size.saturating_add(bytes.len());
        if self.documents.len() >= MAX_DOCUMENTS || *size > MAX_SIZE {
            let place = pending.from.map_or_else(Place::default, |at| self.place(at));
            let message =
                format!("a schema can have at most {MAX_DOCUMENTS} files, of {} MiB together", MAX_SIZE >> 20);
            self.problems.add(place, "schema_reference", message);
            return Err(Exhausted);
        }
        if let Some(own) = declared {
            let (target, _) = self.target_for(pending, own);
            if let Some(first) = self.seen_contents.get(&(Arc::clone(bytes), target)).copied() {
                self.check_target(pending, own, target);
                let copy = self.add_copy(first, Arc::clone(file), size);
                copy.iter().for_each(|copy| self.keep_read(pending, own, target, *copy));
                return Ok(copy);
            }
        }
        Ok(self.read_new(pending, size))
    }

    fn keep_read(&mut self, pending: &Pending, own: Sym, target: Sym, number: u32) {
        let file = &pending.found.file;
        self.declared_in_files.insert(Arc::clone(file), Some(own));
        self.seen_documents.insert((Arc::clone(file), target), number);
        self.include(pending, number);
    }

    /// Keeps that a document includes or redefines this one.
    fn include(&mut self, pending: &Pending, number: u32) {
        if let (Some(from), Kind::Include) = (pending.from, pending.kind) {
            self.included.push((from.document, number));
        }
    }

    /// Adds a document that has the bytes of another one. Its components are those of the other one, but its references lead
    /// to files beside itself. What its DTD adds counts again: references are looked for in all of it.
    fn add_copy(&mut self, first: u32, file: Arc<str>, size: &mut usize) -> Option<u32> {
        let number = u32::try_from(self.documents.len()).ok()?;
        let original = self.documents.get(first as usize)?;
        *size = size.saturating_add(original.tree.added());
        let (tree, imports) = (Rc::clone(&original.tree), Vec::new());
        let copy = Document { file: Arc::clone(&file), tree, copy_of: Some(first), imports, ..**original };
        self.files.push(file);
        self.documents.push(Rc::new(copy));
        Some(number)
    }

    /// Parses a document. Returns its number, unless it is not well-formed.
    fn read_new(&mut self, pending: &Pending, size: &mut usize) -> Option<u32> {
        let Found { file, bytes } = &pending.found;
        let number = u32::try_from(self.documents.len()).ok()?;
        let whole = Place { document: number, line: 1, column: 1 };
        self.files.push(Arc::clone(file));
        let tree = match self.parse(bytes) {
            Ok(tree) => tree,
            Err(((line, column), message)) => {
                let message = match self.room.is_short() {
                    true => TOO_LARGE.to_owned(),
                    false => format!("the file is not acceptable XML: {message}"),
                };
                self.problems.add(Place { line, column, ..whole }, "schema_reference", message);
                self.declared_in_files.insert(Arc::clone(file), None);
                self.documents.push(Rc::new(Document { file: Arc::clone(file), ..Document::default() }));
                return None;
            }
        };
        *size = size.saturating_add(tree.added());
        let declared = tree.attribute(NodeId::ROOT, self.names.find("targetNamespace")).map(str::to_owned);
        let own = declared.as_deref().map_or(Sym::NONE, |target| self.names.intern(target.trim()));
        let (target, chameleon) = self.target_for(pending, own);
        self.check_target(pending, own, target);
        self.keep_read(pending, own, target, number);
        self.declared_targets.insert(Arc::clone(bytes), own);
        self.seen_contents.insert((Arc::clone(bytes), target), number);
        let wsdl = matches!(pending.kind, Kind::First | Kind::Wsdl) && self.is_wsdl(&tree);
        if tree.node(NodeId::ROOT).is_some() && !wsdl {
            syntax::check(&tree, number, &self.names, &mut self.problems);
        }
        if declared.is_some_and(|target| target.is_empty()) {
            self.problems.add(
                whole,
                "s4s-att-invalid-value",
                "`targetNamespace` is empty; leave it out for no namespace",
            );
        }
        let document =
            Document { file: Arc::clone(file), tree: Rc::new(tree), target, chameleon, wsdl, ..Document::default() };
        self.documents.push(Rc::new(document));
        Some(number)
    }

    /// Parses the bytes of a document. The error has its line and column.
    fn parse(&mut self, bytes: &[u8]) -> Result<Tree, ((u32, u32), Cow<'static, str>)> {
        match decode(bytes) {
            Ok(text) => Tree::parse(&text, &mut self.names, &mut self.room, &mut self.entities)
                .map_err(|(malformed, place)| (place, malformed.message)),
            Err(malformed) => Err((position(&String::from_utf8_lossy(bytes), malformed.offset), malformed.message)),
        }
    }

    /// The target namespace of a document that declares this one, and whether it has that of the document that includes it.
    fn target_for(&self, pending: &Pending, own: Sym) -> (Sym, bool) {
        let includer = pending.from.map_or(Sym::NONE, |at| self.target(at));
        let chameleon = pending.kind == Kind::Include && own == Sym::NONE && includer != Sym::NONE;
        (if chameleon { includer } else { own }, chameleon)
    }

    /// Checks that a document has the namespace that who refers to it expects.
    fn check_target(&mut self, pending: &Pending, own: Sym, target: Sym) {
        let Some(from) = pending.from else { return };
        let shown = self.names.text(own).to_owned();
        match pending.kind {
            Kind::Include if target != self.target(from) => {
                let message = format!("the included document has the target namespace `{shown}`, not this one's");
                self.problem(from, "src-include.2.1", message);
            }
            Kind::Import(expected) if own != expected => {
                let message =
                    format!("the imported document has the target namespace `{shown}`, not the one that is imported");
                self.problem(from, "src-import.3.1", message);
            }
            _ => {}
        }
    }

    /// Finds what a document refers to.
    fn references(
        &mut self,
        number: u32,
        resolve: &mut Resolver<'_>,
        left: &mut Vec<Pending>,
        xml: &mut Vec<At>,
    ) -> Result<(), Exhausted> {
        let root = At { document: number, node: NodeId::ROOT };
        let Some(document) = self.document(root) else { return Ok(()) };
        let mut imports = Vec::new();
        if document.wsdl {
            return self.wsdl_references(root, &document.file, resolve, left);
        }
        for (at, kind) in self.children(root) {
            let location = self.attribute(at, "schemaLocation");
            let mut reference = Reference { from: &document.file, location: location.as_deref(), import: None };
            let namespace = self.attribute(at, "namespace");
            let how = match &*kind {
                "include" | "redefine" => Kind::Include,
                "import" => {
                    let sym = namespace.as_deref().map_or(Sym::NONE, |namespace| self.intern(namespace));
                    if document.copy_of.is_none() {
                        self.check_import(at, namespace.as_deref(), sym, document.target);
                    }
                    imports.push(sym);
                    reference.import = Some(namespace.as_deref().unwrap_or(""));
                    Kind::Import(sym)
                }
                _ => continue,
            };
            self.steps.take(REFERENCE)?;
            match resolve(reference) {
                Ok(Some(found)) => left.push(Pending { found, from: Some(at), kind: how }),
                Ok(None) if how == Kind::Import(Sym::XML) => xml.push(at),
                Ok(None) if how == Kind::Include && (&*kind == "redefine" && !self.children(at).is_empty()) => {
                    let message = format!("there is no document `{}`", location.unwrap_or_default());
                    self.problem(at, "src-redefine.2", message);
                }
                Ok(None) => {}
                Err(message) => self.problem(at, "schema_reference", message),
            }
        }
        drop(document);
        imports.sort_unstable();
        imports.dedup();
        // Nothing else holds the document now.
        if let Some(document) = self.documents.get_mut(number as usize).and_then(Rc::get_mut) {
            document.imports = imports;
        }
        Ok(())
    }

    /// Whether a document is a WSDL.
    fn is_wsdl(&self, tree: &Tree) -> bool {
        let name = QName::new(self.names.find(WSDL), self.names.find("definitions"));
        name.is_known() && tree.node(NodeId::ROOT).is_some_and(|root| root.name == name)
    }

    /// The children of an element that have this name in the namespace of WSDL.
    pub(crate) fn wsdl_children(&self, at: At, local: &str) -> Vec<At> {
        self.children_named(at, QName::new(self.names.find(WSDL), self.names.find(local)))
    }

    /// The children of an element that have this name.
    pub(crate) fn children_named(&self, at: At, name: QName) -> Vec<At> {
        let Some(document) = self.documents.get(at.document as usize) else { return Vec::new() };
        let named = |node: &NodeId| document.tree.node(*node).is_some_and(|node| node.name == name);
        document.tree.children(at.node).filter(named).map(|node| At { node, ..at }).collect()
    }

    /// Adds the schemas within a WSDL, and returns their numbers.
    fn schemas_within(&mut self, number: u32) -> Vec<u32> {
        let root = At { document: number, node: NodeId::ROOT };
        let Some(outer) = self.document(root).filter(|document| document.wsdl) else { return Vec::new() };
        let types = self.wsdl_children(root, "types");
        let schemas = types.into_iter().flat_map(|types| self.children(types)).filter(|(_, kind)| &**kind == "schema");
        let mut added = Vec::new();
        for ((at, _), position) in schemas.collect::<Vec<_>>().into_iter().zip(1_u32..) {
            let Ok(number) = u32::try_from(self.documents.len()) else { break };
            if self.documents.len() >= MAX_DOCUMENTS {
                self.problem(at, "schema_reference", format!("a schema can have at most {MAX_DOCUMENTS} documents"));
                break;
            }
            // They come right after the WSDL.
            let first = outer.copy_of.map(|first| first.saturating_add(position));
            if let Some(first) = first {
                added.extend(self.add_copy(first, Arc::clone(&outer.file), &mut 0));
                continue;
            }
            let tree = outer.tree.within(at.node);
            let target = tree.attribute(NodeId::ROOT, self.names.find("targetNamespace")).map(str::to_owned);
            let target = target.map_or(Sym::NONE, |target| self.names.intern(target.trim()));
            self.files.push(Arc::clone(&outer.file));
            syntax::check(&tree, number, &self.names, &mut self.problems);
            let file = Arc::clone(&outer.file);
            let document = Document { file, tree: Rc::new(tree), target, ..Document::default() };
            self.documents.push(Rc::new(document));
            added.push(number);
        }
        added
    }

    /// Finds what a WSDL imports.
    fn wsdl_references(
        &mut self,
        root: At,
        file: &str,
        resolve: &mut Resolver<'_>,
        left: &mut Vec<Pending>,
    ) -> Result<(), Exhausted> {
        for at in self.wsdl_children(root, "import") {
            let location = self.attribute(at, "location");
            self.steps.take(REFERENCE)?;
            match resolve(Reference { from: file, location: location.as_deref(), import: None }) {
                Ok(Some(found)) => left.push(Pending { found, from: Some(at), kind: Kind::Wsdl }),
                Ok(None) => self.problem(at, "WSDL 1.1 §2.1.1", "an import of a WSDL needs a `location`"),
                Err(message) => self.problem(at, "schema_reference", message),
            }
        }
        Ok(())
    }

    fn check_import(&mut self, at: At, namespace: Option<&str>, sym: Sym, target: Sym) {
        if namespace == Some("") {
            self.problem(at, "src-import.1.1", "an empty `namespace` imports nothing; leave it out for no namespace");
        } else if sym == target && target != Sym::NONE {
            self.problem(at, "src-import.1.1", "a document cannot import its own target namespace");
        } else if sym == Sym::NONE && target == Sym::NONE {
            let message = "a document without a target namespace cannot import components without a namespace";
            self.problem(at, "src-import.1.2", message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Steps;
    use crate::xsd::compile::{compile, compile_within};
    use crate::xsd::room::Room;

    #[test]
    fn the_size_of_a_document_is_that_with_its_entities() {
        let xs = r#"xmlns:xs="http://www.w3.org/2001/XMLSchema""#;
        let text = format!(r#"<!DOCTYPE a [<!ENTITY e "{}">]><xs:schema {xs}>&e;&e;&e;</xs:schema>"#, " ".repeat(1000));
        let found = Found { file: "main.xsd".into(), bytes: text.into_bytes().into() };
        let (mut builder, mut size) = (Builder::new(Steps::new(1000), Room::default()), 0);
        assert_eq!(builder.read(&Pending { found, from: None, kind: Kind::First }, &mut size), Ok(Some(0)));
        assert!((4000..4200).contains(&size), "{size}");
    }

    const XS: &str = r#"xmlns:xs="http://www.w3.org/2001/XMLSchema""#;

    fn including(attributes: &str, files: &[&str]) -> String {
        let includes: String = files.iter().map(|file| format!(r#"<xs:include schemaLocation="{file}"/>"#)).collect();
        format!("<xs:schema {XS} {attributes}>{includes}</xs:schema>")
    }

    /// The problems of a schema in these files, the first of which refers to the others.
    fn problems(files: &[(&str, String)]) -> Vec<(String, String)> {
        problems_within(200_000_000, files)
    }

    /// The same, of a schema that may take so many steps.
    fn problems_within(steps: u64, files: &[(&str, String)]) -> Vec<(String, String)> {
        let files: Vec<Found> =
            files.iter().map(|(file, text)| Found { file: (*file).into(), bytes: text.as_bytes().into() }).collect();
        let mut resolve = |reference: Reference<'_>| {
            let folder = reference.from.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
            let path = reference.location.map(|location| format!("{folder}{location}"));
            Ok(files.iter().find(|found| Some(&*found.file) == path.as_deref()).cloned())
        };
        let compiled = compile_within((Steps::new(steps), Room::default()), vec![files[0].clone()], &mut resolve);
        let problems = compiled.err().unwrap_or_default();
        problems.into_iter().map(|problem| (problem.file.to_string(), problem.message)).collect()
    }

    fn declaring(element: &str) -> String {
        format!(r#"<xs:schema {XS}><xs:element name="{element}"/></xs:schema>"#)
    }

    #[test]
    fn equal_files_in_two_folders_refer_to_files_of_their_own() {
        let element = r#"<xs:element name="r"><xs:complexType><xs:sequence><xs:element ref="a"/><xs:element ref="b"/></xs:sequence></xs:complexType></xs:element>"#;
        let main = including("", &["a/m.xsd", "b/m.xsd"]).replace("</xs:schema>", &format!("{element}</xs:schema>"));
        let middle = || including("", &["t.xsd", "m.xsd"]);
        let files = [
            ("main.xsd", main),
            ("a/m.xsd", middle()),
            ("b/m.xsd", middle()),
            ("a/t.xsd", declaring("a")),
            ("b/t.xsd", declaring("b")),
        ];
        assert_eq!(problems(&files), []);
        // What is wrong with a reference is said of the file that has it.
        let wrong = format!(r#"<xs:schema {XS} targetNamespace="urn:t"/>"#);
        let [main, a, b, t, _] = files;
        let found = problems(&[main, a, b, t, ("b/t.xsd", wrong)]);
        assert!(found.len() == 1 && found[0].0 == "b/m.xsd" && found[0].1.contains("urn:t"), "{found:?}");
    }

    #[test]
    fn what_is_redefined_twice_has_the_inner_redefinition_first() {
        let redefining = |file: &str, element: &str| {
            format!(
                r#"<xs:schema {XS}><xs:redefine schemaLocation="{file}"><xs:complexType name="T"><xs:complexContent><xs:extension base="T">
                <xs:sequence><xs:element name="{element}"/></xs:sequence></xs:extension></xs:complexContent></xs:complexType></xs:redefine></xs:schema>"#
            )
        };
        let elements =
            |names: &[&str]| -> String { names.iter().map(|name| format!(r#"<xs:element name="{name}"/>"#)).collect() };
        let inner = format!(
            r#"<xs:schema {XS}><xs:complexType name="T"><xs:sequence>{}</xs:sequence></xs:complexType></xs:schema>"#,
            elements(&["c"])
        );
        for order in [&["a.xsd", "b.xsd", "c.xsd"], &["c.xsd", "b.xsd", "a.xsd"], &["b.xsd", "c.xsd", "a.xsd"]] {
            let is_it = |names: &[&str]| {
                let restriction = format!(
                    r#"<xs:complexType name="R"><xs:complexContent><xs:restriction base="T"><xs:sequence>{}</xs:sequence></xs:restriction></xs:complexContent></xs:complexType></xs:schema>"#,
                    elements(names)
                );
                let main = including("", order).replace("</xs:schema>", &restriction);
                let files = [
                    ("main.xsd", main),
                    ("a.xsd", redefining("b.xsd", "a")),
                    ("b.xsd", redefining("c.xsd", "b")),
                    ("c.xsd", inner.clone()),
                ];
                problems(&files).is_empty()
            };
            assert!(is_it(&["c", "b", "a"]) && !is_it(&["c", "a", "b"]), "{order:?}");
        }
    }

    #[test]
    fn what_the_dtd_of_an_equal_file_adds_counts_again() {
        let dots = "./".repeat(100_000);
        let copy = format!(
            r#"<!DOCTYPE a [<!ENTITY e "{dots}">]><xs:schema {XS}><xs:include schemaLocation="&e;t.xsd"/></xs:schema>"#
        );
        let target = format!("{dots}t.xsd");
        let names: Vec<String> = (0..400).map(|n| format!("{n}.xsd")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut files = vec![("main.xsd", including("", &names)), (&*target, declaring("t"))];
        files.extend(names.iter().map(|name| (*name, copy.clone())));
        let found = problems(&files);
        assert!(found.len() == 1 && found[0].1.contains("of 64 MiB together"), "{}", found.len());
    }

    #[test]
    fn equal_wsdls_in_two_folders_contain_references_of_their_own() {
        let definitions = |content: &str| {
            format!(
                r#"<definitions xmlns="{WSDL}" xmlns:xs="http://www.w3.org/2001/XMLSchema">{content}</definitions>"#
            )
        };
        let import = |folder: &str| format!(r#"<import namespace="" location="{folder}/m.wsdl"/>"#);
        let middle =
            || definitions(&format!("<types>{}{}</types>", including("", &["t.xsd"]), including("", &["u.xsd"])));
        let found = problems(&[
            ("main.wsdl", definitions(&(import("a") + &import("b")))),
            ("a/m.wsdl", middle()),
            ("b/m.wsdl", middle()),
            ("a/t.xsd", declaring("a")),
            ("a/u.xsd", declaring("u")),
            ("b/t.xsd", declaring("b")),
            ("b/u.xsd", "<a>".to_owned()),
        ]);
        assert!(found.len() == 1 && found[0].0 == "b/u.xsd", "{found:?}");
    }

    #[test]
    fn equal_files_without_end_are_too_many() {
        let bytes: Arc<[u8]> = including("", &["x/m.xsd"]).into_bytes().into();
        let main = Found { file: "m.xsd".into(), bytes: Arc::clone(&bytes) };
        let mut deeper = 0;
        let problems = compile(vec![main], &mut |_| {
            deeper += 1;
            Ok(Some(Found { file: format!("{deeper}/m.xsd").into(), bytes: Arc::clone(&bytes) }))
        });
        let problems = problems.err().unwrap_or_default();
        assert!(problems.len() == 1 && problems[0].message.contains("at most 4096 files"), "{problems:?}");
    }

    #[test]
    fn a_file_counts_once_however_often_it_is_referred_to() {
        let large = format!("<!--{}-->{}", " ".repeat(1 << 20), declaring("a"));
        assert_eq!(problems(&[("main.xsd", including("", &["a.xsd"; 70])), ("a.xsd", large.clone())]), []);
        let names: Vec<String> = (0..70).map(|n| format!("{n}.xsd")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut files = vec![("main.xsd", including("", &names))];
        files.extend(names.iter().map(|name| (*name, large.clone())));
        let found = problems(&files);
        assert!(found.len() == 1 && found[0].1.contains("64 MiB together"), "{found:?}");
    }

    #[test]
    fn references_are_paid_for() {
        let files = [("main.xsd", including("", &["a.xsd"; 1000])), ("a.xsd", declaring("a"))];
        assert_eq!(problems_within(300_000, &files), []);
        let found = problems_within(100_000, &files);
        assert!(found.len() == 1 && found[0].1.contains("too many references"), "{found:?}");
    }

    #[test]
    fn a_file_that_is_no_xml_has_one_problem() {
        let import = r#"<xs:import namespace="urn:t" schemaLocation="a.xsd"/>"#;
        let main = format!("<xs:schema {XS}>{import}{import}</xs:schema>");
        let found = problems(&[("main.xsd", main), ("a.xsd", "<xs:schema".to_owned())]);
        assert!(found.len() == 1 && found[0].0 == "a.xsd", "{found:?}");
    }

    #[test]
    fn a_file_with_the_name_of_what_is_built_in_does_not_hide_it() {
        let import = r#"<xs:import namespace="http://www.w3.org/XML/1998/namespace"/>"#;
        let used =
            r#"<xs:element name="r"><xs:complexType><xs:attribute ref="xml:lang"/></xs:complexType></xs:element>"#;
        let main = including("", &["xml.xsd"]).replace("</xs:schema>", &format!("{used}</xs:schema>"));
        let main = main.replacen("<xs:include", &format!("{import}<xs:include"), 1);
        assert_eq!(problems(&[("main.xsd", main), ("xml.xsd", declaring("a"))]), []);
    }

    /// Its entities add some 600 KiB to it.
    fn inflated(comment: &str) -> String {
        let entity = format!(r#"<!ENTITY e "{}">"#, " ".repeat(1000));
        format!("<!DOCTYPE xs:schema [{entity}]><!--{comment}--><xs:schema {XS}>{}</xs:schema>", "&e;".repeat(600))
    }

    #[test]
    fn a_file_that_is_known_is_not_parsed_again() {
        let files = [("main.xsd", including("", &["a.xsd"; 100])), ("a.xsd", inflated(""))];
        assert_eq!(problems(&files), []);
        let copies =
            [("main.xsd", including("", &["a.xsd", "b.xsd"])), ("a.xsd", inflated("")), ("b.xsd", inflated(""))];
        assert_eq!(problems(&copies), []);
        let broken = [("main.xsd", including("", &["a.xsd"; 3])), ("a.xsd", "<a>".to_owned())];
        let found = problems(&broken);
        assert!(found.len() == 1 && found[0].0 == "a.xsd", "{found:?}");
    }

    #[test]
    fn what_entities_add_is_bounded_for_all_files_together() {
        let two =
            [("main.xsd", including("", &["a.xsd", "b.xsd"])), ("a.xsd", inflated("a")), ("b.xsd", inflated("b"))];
        let found = problems(&two);
        assert!(found.len() == 1 && found[0].0 == "b.xsd" && found[0].1.contains("too much"), "{found:?}");
        // A file without a target namespace has that of each file that includes it, and is read for each.
        let import = |n: u32| format!(r#"<xs:import namespace="urn:{n}" schemaLocation="{n}.xsd"/>"#);
        let of = |n: u32| including(&format!(r#"targetNamespace="urn:{n}""#), &["a.xsd"]);
        let main = format!("<xs:schema {XS}>{}{}</xs:schema>", import(1), import(2));
        let found = problems(&[("main.xsd", main), ("1.xsd", of(1)), ("2.xsd", of(2)), ("a.xsd", inflated(""))]);
        assert!(found.len() == 1 && found[0].0 == "a.xsd" && found[0].1.contains("too much"), "{found:?}");
    }
}
