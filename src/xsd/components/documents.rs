//! Reads the documents of a schema: the first ones, and all that they include, import and redefine (XSD 1.0 Part 1, §4.2); of
//! a WSDL, the schemas within it, and the documents that it imports (WSDL 1.1 §2.1.1).

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use super::context::Builder;
use super::syntax;
use super::work::{At, Document};
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
                let found = Found { file: "xml.xsd".into(), bytes: XML_XSD.as_bytes().into() };
                left.push(Pending { found, from: xml_needed.pop(), kind: Kind::Import(Sym::XML) });
                continue;
            };
            size = size.saturating_add(pending.found.bytes.len());
            if self.documents.len() >= MAX_DOCUMENTS || size > MAX_SIZE {
                let place = pending.from.map_or_else(Place::default, |at| self.place(at));
                let message =
                    format!("a schema can have at most {MAX_DOCUMENTS} files, of {} MiB together", MAX_SIZE >> 20);
                return self.problems.add(place, "schema_reference", message);
            }
            let Some(document) = self.read(&pending, &mut size) else { continue };
            let mut referred = Vec::new();
            self.references(document, resolve, &mut referred, &mut xml_needed);
            for inner in self.schemas_within(document) {
                self.references(inner, resolve, &mut referred, &mut xml_needed);
            }
            left.extend(referred.into_iter().rev());
        }
    }

    /// Parses a document, unless it has been read with the same target namespace. Returns its number if it is new, and adds
    /// what its DTD adds to the size.
    fn read(&mut self, pending: &Pending, size: &mut usize) -> Option<u32> {
        let Found { file, bytes } = &pending.found;
        let number = u32::try_from(self.documents.len()).ok()?;
        if let Some(own) = self.declared_targets.get(bytes).copied() {
            let (target, _) = self.target_for(pending, own);
            // Two equal copies of one file are one.
            if self.seen_contents.contains_key(&(Arc::clone(bytes), target)) {
                self.check_target(pending, own, target);
                return None;
            }
        }
        let room = self.room;
        let (tree, problem) = match self.parse(bytes) {
            Ok(tree) => (tree, None),
            Err(problem) => (Tree::default(), Some(problem)),
        };
        *size = size.saturating_add(tree.added());
        let declared = tree.attribute(NodeId::ROOT, self.names.find("targetNamespace")).map(str::to_owned);
        let own = declared.as_deref().map_or(Sym::NONE, |target| self.names.intern(target.trim()));
        let (target, chameleon) = self.target_for(pending, own);
        self.check_target(pending, own, target);
        self.declared_targets.insert(Arc::clone(bytes), own);
        self.seen_contents.insert((Arc::clone(bytes), target), number);
        let is_known = self.seen_documents.insert((Arc::clone(file), target), number).is_some();
        if is_known && !self.room.is_short() {
            // Its tree is not kept.
            self.room = room;
            return None;
        }
        self.files.push(Arc::clone(file));
        let whole = Place { document: number, line: 1, column: 1 };
        if let Some(((line, column), message)) = problem {
            let message = match self.room.is_short() {
                true => TOO_LARGE.to_owned(),
                false => format!("the file is not acceptable XML: {message}"),
            };
            self.problems.add(Place { line, column, ..whole }, "schema_reference", message);
        }
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
        let document = Document { file: Arc::clone(file), tree, target, chameleon, wsdl, imports: Vec::new() };
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
    fn references(&mut self, number: u32, resolve: &mut Resolver<'_>, left: &mut Vec<Pending>, xml: &mut Vec<At>) {
        let root = At { document: number, node: NodeId::ROOT };
        let Some(document) = self.document(root) else { return };
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
                    self.check_import(at, namespace.as_deref(), sym, document.target);
                    imports.push(sym);
                    reference.import = Some(namespace.as_deref().unwrap_or(""));
                    Kind::Import(sym)
                }
                _ => continue,
            };
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
        for (at, _) in schemas.collect::<Vec<_>>() {
            let Ok(number) = u32::try_from(self.documents.len()) else { break };
            if self.documents.len() >= MAX_DOCUMENTS {
                self.problem(at, "schema_reference", format!("a schema can have at most {MAX_DOCUMENTS} documents"));
                break;
            }
            let tree = outer.tree.within(at.node);
            let target = tree.attribute(NodeId::ROOT, self.names.find("targetNamespace")).map(str::to_owned);
            let target = target.map_or(Sym::NONE, |target| self.names.intern(target.trim()));
            self.files.push(Arc::clone(&outer.file));
            syntax::check(&tree, number, &self.names, &mut self.problems);
            let file = Arc::clone(&outer.file);
            let document = Document { file, tree, target, chameleon: false, wsdl: false, imports: Vec::new() };
            self.documents.push(Rc::new(document));
            added.push(number);
        }
        added
    }

    /// Finds what a WSDL imports.
    fn wsdl_references(&mut self, root: At, file: &str, resolve: &mut Resolver<'_>, left: &mut Vec<Pending>) {
        for at in self.wsdl_children(root, "import") {
            let location = self.attribute(at, "location");
            match resolve(Reference { from: file, location: location.as_deref(), import: None }) {
                Ok(Some(found)) => left.push(Pending { found, from: Some(at), kind: Kind::Wsdl }),
                Ok(None) => self.problem(at, "WSDL 1.1 §2.1.1", "an import of a WSDL needs a `location`"),
                Err(message) => self.problem(at, "schema_reference", message),
            }
        }
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
    use crate::xsd::compile::compile;
    use crate::xsd::room::Room;

    #[test]
    fn the_size_of_a_document_is_that_with_its_entities() {
        let xs = r#"xmlns:xs="http://www.w3.org/2001/XMLSchema""#;
        let text = format!(r#"<!DOCTYPE a [<!ENTITY e "{}">]><xs:schema {xs}>&e;&e;&e;</xs:schema>"#, " ".repeat(1000));
        let found = Found { file: "main.xsd".into(), bytes: text.into_bytes().into() };
        let (mut builder, mut size) = (Builder::new(Steps::new(1000), Room::default()), 0);
        assert_eq!(builder.read(&Pending { found, from: None, kind: Kind::First }, &mut size), Some(0));
        assert!((2900..3100).contains(&size), "{size}");
    }

    const XS: &str = r#"xmlns:xs="http://www.w3.org/2001/XMLSchema""#;

    fn including(attributes: &str, files: &[&str]) -> String {
        let includes: String = files.iter().map(|file| format!(r#"<xs:include schemaLocation="{file}"/>"#)).collect();
        format!("<xs:schema {XS} {attributes}>{includes}</xs:schema>")
    }

    /// The problems of a schema in these files, the first of which refers to the others.
    fn problems(files: &[(&str, String)]) -> Vec<(String, String)> {
        let found = |name: &str| {
            let (file, text) = files.iter().find(|(file, _)| *file == name)?;
            Some(Found { file: (*file).into(), bytes: text.as_bytes().into() })
        };
        let mut resolve = |reference: Reference<'_>| Ok(reference.location.and_then(found));
        let problems = compile(found(files[0].0).into_iter().collect(), &mut resolve).err().unwrap_or_default();
        problems.into_iter().map(|problem| (problem.file.to_string(), problem.message)).collect()
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
