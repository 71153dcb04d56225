//! The tree of a schema document: elements, attributes, namespaces, and where they are.

use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;

use super::bindings::{self, Bindings, Outer};
use super::entities::Work;
use super::expand::expand;
use super::malformed::{Lines, Malformed, position};
use super::namespaces::{check_declaration, declared_prefix, is_declaration, split};
use super::references::{attribute_value, line_ends};
use super::tokens::{Accepts, RawAttribute, Token, Tokens};
use crate::xsd::chars::{is_space, is_xml_char};
use crate::xsd::names::{Names, QName, Sym};
use crate::xsd::room::Room;

/// Most elements within each other.
const MAX_DEPTH: usize = 256;

/// The number of an element in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(u32);

impl NodeId {
    /// The root element.
    pub(crate) const ROOT: Self = Self(0);

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// An element.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The expanded name.
    pub(crate) name: QName,
    attributes: Range<u32>,
    next: Option<NodeId>,
    child: Option<NodeId>,
    /// Line and column of its `<`.
    pub(crate) place: (u32, u32),
    /// Whether it has text that is not only white space.
    pub(crate) has_text: bool,
}

/// An attribute that declares no namespace.
#[derive(Debug, Clone)]
pub(crate) struct Attribute {
    /// The expanded name.
    pub(crate) name: QName,
    pub(crate) value: Box<str>,
}

/// A document.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    attributes: Vec<Attribute>,
    /// Shared by a document and those within it.
    bindings: Rc<Bindings>,
    /// What the root is in the whole document.
    first: u32,
    /// How many bytes its DTD adds to it.
    added: usize,
}

impl Tree {
    /// Parses a document. The error has its line and column; so it has if there is too little room. Entities take from `work`.
    pub(crate) fn parse(
        text: &str,
        names: &mut Names,
        room: &mut Room,
        work: &mut Work,
    ) -> Result<Self, (Malformed, (u32, u32))> {
        // Before all else (XML 1.0 §2.11): the carriage returns that are left are those of character references.
        let text = &*line_ends(text);
        let placed = |malformed: Malformed| {
            let place = position(text, malformed.offset);
            (malformed, place)
        };
        if let Some((offset, _)) = text.char_indices().find(|(_, c)| !is_xml_char(*c)) {
            return Err(placed(Malformed::new(offset, "a character is not allowed in XML")));
        }
        match expand(text, work).map_err(placed)? {
            None => Builder::new(text, text, (names, room), &|offset| offset).run().map_err(placed),
            Some(expanded) => {
                let added = expanded.text.len().saturating_sub(text.len());
                let original = |offset| expanded.original(offset);
                Builder::new(&expanded.text, text, (names, room), &original)
                    .run()
                    .map(|tree| Self { added, ..tree })
                    .map_err(|malformed| placed(Malformed { offset: original(malformed.offset), ..malformed }))
            }
        }
    }

    /// How many bytes the entities and defaults of its DTD add to it.
    pub(crate) fn added(&self) -> usize {
        self.added
    }

    /// Returns an element.
    pub(crate) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())
    }

    /// The children of an element, in order.
    pub(crate) fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        std::iter::successors(self.node(id).and_then(|node| node.child), |id| self.node(*id).and_then(|node| node.next))
    }

    /// The first element after an element and all within it.
    pub(crate) fn after(&self, id: NodeId) -> Option<NodeId> {
        let mut inner = self.node(id)?;
        if let Some(next) = inner.next {
            return Some(next);
        }
        // Elements are numbered in the order of the document: the last one within ends where the numbers do.
        let mut last = id;
        while let Some(child) = inner.child {
            last = std::iter::successors(Some(child), |id| self.node(*id).and_then(|node| node.next)).last()?;
            inner = self.node(last)?;
        }
        let after = NodeId(last.0.saturating_add(1));
        self.node(after).is_some().then_some(after)
    }

    /// The document that an element is the root of: with the namespaces in scope there, and the places of the whole one.
    pub(crate) fn within(&self, root: NodeId) -> Self {
        let end = self.after(root).map_or(self.nodes.len(), NodeId::index);
        let mut nodes = self.nodes.get(root.index()..end).unwrap_or_default().to_vec();
        let first = nodes.first().map_or(0, |node| node.attributes.start);
        let last = nodes.iter().map(|node| node.attributes.end).max().unwrap_or(first);
        let moved = |id: NodeId| NodeId(id.0.saturating_sub(root.0));
        for node in &mut nodes {
            let Range { start, end } = node.attributes;
            node.attributes = start.saturating_sub(first)..end.saturating_sub(first);
            (node.next, node.child) = (node.next.map(moved), node.child.map(moved));
        }
        if let Some(root) = nodes.first_mut() {
            root.next = None;
        }
        let attributes = self.attributes.get(first as usize..last as usize).unwrap_or_default().to_vec();
        let first = self.first.saturating_add(root.0);
        Self { nodes, attributes, bindings: Rc::clone(&self.bindings), first, added: 0 }
    }

    /// The attributes of an element, without namespace declarations.
    pub(crate) fn attributes(&self, id: NodeId) -> &[Attribute] {
        let range = self.node(id).map_or(0..0, |node| node.attributes.start as usize..node.attributes.end as usize);
        self.attributes.get(range).unwrap_or_default()
    }

    /// The value of an attribute without a namespace.
    pub(crate) fn attribute(&self, id: NodeId, local: Sym) -> Option<&str> {
        let name = QName::new(Sym::NONE, local);
        self.attributes(id).iter().find(|attribute| attribute.name == name).map(|attribute| &*attribute.value)
    }

    /// The namespace that a prefix is bound to at an element.
    pub(crate) fn namespace(&self, id: NodeId, prefix: &str) -> Option<Sym> {
        self.bindings.find(prefix, self.first.saturating_add(id.0))
    }
}

/// Bytes that an element and an attribute take, beside their texts; tables have room for as many again.
const NODE: usize = 2 * size_of::<Node>();
const ATTRIBUTE: usize = 2 * size_of::<Attribute>();

/// Why a document cannot be read that takes too much.
const NO_ROOM: &str = "the documents of the schema take too much memory, all together";

fn number(length: usize) -> Result<u32, &'static str> {
    u32::try_from(length).map_err(|_| "the document is too large")
}

fn value_of(attribute: &RawAttribute<'_>) -> Result<String, &'static str> {
    attribute_value(attribute.value, 0).map_err(|_| "a reference in an attribute cannot be resolved")
}

/// An element that is open.
struct Open<'a> {
    /// As written.
    name: &'a str,
    id: NodeId,
    last_child: Option<NodeId>,
    /// What the prefixes meant that it declares.
    declared: Vec<Outer>,
}

struct Builder<'a> {
    tokens: Tokens<'a>,
    names: &'a mut Names,
    room: &'a mut Room,
    tree: Tree,
    bindings: Bindings,
    open: Vec<Open<'a>>,
    /// Of the document as it is written.
    lines: Lines<'a>,
    /// What an offset is there.
    original: &'a dyn Fn(usize) -> usize,
}

impl<'a> Builder<'a> {
    fn new(
        text: &'a str,
        document: &'a str,
        (names, room): (&'a mut Names, &'a mut Room),
        original: &'a dyn Fn(usize) -> usize,
    ) -> Self {
        let (tree, bindings, tokens) = (Tree::default(), Bindings::default(), Tokens::new(text, Accepts::SCHEMA));
        Self { tokens, names, room, tree, bindings, open: Vec::new(), lines: Lines::new(document), original }
    }

    fn run(mut self) -> Result<Tree, Malformed> {
        loop {
            let offset = self.tokens.offset();
            let fail = |message: &'static str| Err(Malformed::new(offset, message));
            match self.tokens.next()? {
                Token::Start { name, empty } => {
                    if self.open.is_empty() && !self.tree.nodes.is_empty() {
                        return fail("there is a second root element");
                    }
                    if self.open.len() >= MAX_DEPTH {
                        return fail("elements are nested deeper than 256");
                    }
                    self.start(name, offset).map_err(|message| Malformed::new(offset, message))?;
                    if empty {
                        self.end();
                    }
                }
                Token::End(name) => match self.end() {
                    Some(open) if open == name => {}
                    _ => return fail("an end tag does not match its start tag"),
                },
                Token::Text(text) if text.is_blank() => {}
                token @ (Token::CData(_) | Token::Character(_) | Token::Text(_)) => {
                    let Some(open) = self.open.last() else {
                        return fail("text outside the root element is not allowed");
                    };
                    let blank = match token {
                        Token::CData(text) => text.trim_start_matches(is_space).is_empty(),
                        Token::Character(c) => is_space(c),
                        _ => false,
                    };
                    if let Some(node) = self.tree.nodes.get_mut(open.id.index()).filter(|_| !blank) {
                        node.has_text = true;
                    }
                }
                Token::Doctype(_) if self.open.is_empty() && self.tree.nodes.is_empty() => {}
                Token::Doctype(_) => return fail("a DOCTYPE is only allowed before the root element"),
                Token::Skipped | Token::Instruction => {}
                Token::Incomplete | Token::End_ if self.tree.nodes.is_empty() => return fail("it has no element"),
                Token::Incomplete | Token::End_ if !self.open.is_empty() => {
                    return fail("it ends before all elements are closed");
                }
                Token::Incomplete | Token::End_ => {
                    self.tree.bindings = Rc::new(self.bindings);
                    return Ok(self.tree);
                }
            }
        }
    }

    fn start(&mut self, name: &'a str, offset: usize) -> Result<(), &'static str> {
        let raw: Vec<_> = self.tokens.attributes().to_vec();
        let id = NodeId(number(self.tree.nodes.len())?);
        self.room.take(NODE).map_err(|_| NO_ROOM)?;
        let declared = self.declarations(id, &raw)?;
        let first = number(self.tree.attributes.len())?;
        let place = self.lines.place((self.original)(offset));
        self.tree.nodes.push(Node {
            name: QName::new(Sym::NONE, Sym::NONE),
            attributes: first..first,
            next: None,
            child: None,
            place,
            has_text: false,
        });
        let (prefix, local) = split(name)?;
        let ns = self.bindings.find(prefix, id.0).ok_or("the prefix of the element is bound to no namespace")?;
        let expanded = QName::new(ns, self.intern(local)?);
        self.attributes(id, &raw)?;
        let last = number(self.tree.attributes.len())?;
        if let Some(node) = self.tree.nodes.get_mut(id.index()) {
            node.name = expanded;
            node.attributes = first..last;
        }
        self.link(id);
        self.open.push(Open { name, id, last_child: None, declared });
        Ok(())
    }

    /// The open element ends, whose name as written is returned.
    fn end(&mut self) -> Option<&'a str> {
        let open = self.open.pop()?;
        let next = u32::try_from(self.tree.nodes.len()).unwrap_or(u32::MAX);
        for outer in open.declared {
            self.bindings.end(outer, next);
        }
        Some(open.name)
    }

    fn intern(&mut self, text: &str) -> Result<Sym, &'static str> {
        self.names.intern_within(text, self.room).map_err(|_| NO_ROOM)
    }

    /// Adds the namespaces that an element declares to those in scope.
    fn declarations(&mut self, id: NodeId, raw: &[RawAttribute<'_>]) -> Result<Vec<Outer>, &'static str> {
        let mut declared = Vec::new();
        let mut seen: HashSet<&str> = HashSet::new();
        for attribute in raw {
            let Some(prefix) = declared_prefix(attribute.name)? else { continue };
            if !seen.insert(prefix) {
                return Err("duplicate attribute");
            }
            let uri = value_of(attribute)?;
            check_declaration(prefix, &uri)?;
            let uri = self.intern(&uri)?;
            self.room.take(prefix.len().saturating_add(bindings::SIZE)).map_err(|_| NO_ROOM)?;
            declared.push(self.bindings.declare(prefix, id.0, uri));
        }
        Ok(declared)
    }

    fn attributes(&mut self, id: NodeId, raw: &[RawAttribute<'_>]) -> Result<(), &'static str> {
        let mut seen: HashSet<QName> = HashSet::with_capacity(raw.len());
        for attribute in raw.iter().filter(|attribute| !is_declaration(attribute.name)) {
            let (prefix, local) = split(attribute.name)?;
            let ns = match prefix {
                "" => Some(Sym::NONE),
                prefix => self.bindings.find(prefix, id.0),
            };
            let ns = ns.ok_or("the prefix of an attribute is bound to no namespace")?;
            let name = QName::new(ns, self.intern(local)?);
            if !seen.insert(name) {
                return Err("duplicate attribute");
            }
            let value: Box<str> = value_of(attribute)?.into();
            self.room.take(value.len().saturating_add(ATTRIBUTE)).map_err(|_| NO_ROOM)?;
            self.tree.attributes.push(Attribute { name, value });
        }
        Ok(())
    }

    /// Makes a new element the last child of the open one.
    fn link(&mut self, id: NodeId) {
        let Some(open) = self.open.last_mut() else { return };
        let before = open.last_child.replace(id);
        let parent = open.id;
        if let Some(before) = before.and_then(|before| self.tree.nodes.get_mut(before.index())) {
            before.next = Some(id);
        } else if let Some(parent) = self.tree.nodes.get_mut(parent.index()) {
            parent.child = Some(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_names_values_and_places() {
        let mut names = Names::new();
        let text = "<a xmlns='urn:a' xmlns:p='urn:p'>\n <p:b p:c='&lt;' d=' '/>\n <e xmlns=''>x</e></a>";
        let tree = Tree::parse(text, &mut names, &mut Room::default(), &mut Work::default()).unwrap();
        let children: Vec<_> = tree.children(NodeId::ROOT).collect();
        let (b, e) = (tree.node(children[0]).unwrap(), tree.node(children[1]).unwrap());
        assert_eq!((names.show(b.name), b.place, b.has_text), ("{urn:p}b".to_owned(), (2, 2), false));
        assert_eq!((names.show(e.name), e.place, e.has_text), ("e".to_owned(), (3, 2), true));
        assert_eq!(tree.attribute(children[0], names.find("d")), Some(" "));
        assert_eq!(&*tree.attributes(children[0])[0].value, "<");
    }

    #[test]
    fn a_document_within_another_keeps_namespaces_and_places() {
        let mut names = Names::new();
        let text = "<a xmlns:p='urn:p' x='0'><b y='1'/>\n<p:c z='2'><p:d/><e z='3'/></p:c><f z='4'/></a>";
        let tree = Tree::parse(text, &mut names, &mut Room::default(), &mut Work::default()).unwrap();
        let c = tree.within(tree.children(NodeId::ROOT).nth(1).unwrap());
        let root = c.node(NodeId::ROOT).unwrap();
        assert_eq!((names.show(root.name), root.place), ("{urn:p}c".to_owned(), (2, 1)));
        let children: Vec<NodeId> = c.children(NodeId::ROOT).collect();
        let values: Vec<_> = children.iter().map(|id| c.attribute(*id, names.find("z"))).collect();
        assert_eq!(values, [None, Some("3")]);
        assert_eq!(c.attribute(NodeId::ROOT, names.find("z")), Some("2"));
        assert_eq!((c.after(NodeId::ROOT), c.after(children[0])), (None, Some(children[1])));
        assert_eq!(c.namespace(children[1], "p"), Some(names.find("urn:p")));
    }

    #[test]
    fn a_prefix_means_what_the_innermost_declaration_says() {
        let mut names = Names::new();
        let text = "<a xmlns:p='urn:1'><p:b/><p:b xmlns:p='urn:2'><p:c/></p:b><p:b xmlns:p='urn:3'/><p:b xmlns:p='urn:4' xmlns='urn:5'/><p:b><d xmlns='urn:6'><e xmlns=''/></d></p:b></a>";
        let tree = Tree::parse(text, &mut names, &mut Room::default(), &mut Work::default()).unwrap();
        let shown: Vec<String> = tree.nodes.iter().map(|node| names.show(node.name)).collect();
        assert_eq!(
            shown,
            ["a", "{urn:1}b", "{urn:2}b", "{urn:2}c", "{urn:3}b", "{urn:4}b", "{urn:1}b", "{urn:6}d", "e"]
        );
        // Later, too.
        let of = |node: u32, prefix: &str| tree.namespace(NodeId(node), prefix).map(|ns| names.text(ns));
        let p: Vec<_> = (0..9).map(|node| of(node, "p").unwrap()).collect();
        assert_eq!(p, ["urn:1", "urn:1", "urn:2", "urn:2", "urn:3", "urn:4", "urn:1", "urn:1", "urn:1"]);
        let default: Vec<_> = (0..9).map(|node| of(node, "").unwrap()).collect();
        assert_eq!(default, ["", "", "", "", "", "urn:5", "", "urn:6", ""]);
        assert_eq!((of(3, "q"), of(3, "xml")), (None, Some(crate::xsd::names::XML)));
    }

    #[test]
    fn a_tree_takes_room() {
        let text = "<a b='1'><c/></a>";
        let parsed = |bytes| {
            Tree::parse(text, &mut Names::new(), &mut Room::new(bytes), &mut Work::default())
                .map(|tree| tree.nodes.len())
        };
        assert_eq!(parsed(1_000), Ok(2));
        assert_eq!(parsed(300).map_err(|(malformed, _)| malformed.message.into_owned()), Err(NO_ROOM.to_owned()));
    }

    #[test]
    fn what_is_malformed() {
        for text in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>x",
            "<p:a/>",
            "<a b='' b=''/>",
            "<a xmlns:='urn:a'/>",
            "<a xmlns:=''/>",
            "<a xmlns:b:c='urn:a'/>",
            "<a xmlns:1='urn:a'/>",
            "<a xmlns:b=''/>",
            "<a xmlns:xmlns='urn:a'/>",
            "<a xmlns:xml='urn:a'/>",
            "<a xmlns='http://www.w3.org/2000/xmlns/'/>",
            "<!DOCTYPE a [<!ATTLIST a xmlns:1 CDATA 'urn:a'>]><a/>",
            "<a><!DOCTYPE a></a>",
            "<a>\u{1}</a>",
        ] {
            assert!(
                Tree::parse(text, &mut Names::new(), &mut Room::default(), &mut Work::default()).is_err(),
                "{text}"
            );
        }
        let deep = "<a>".repeat(100_000);
        assert!(Tree::parse(&deep, &mut Names::new(), &mut Room::default(), &mut Work::default()).is_err());
    }
}
