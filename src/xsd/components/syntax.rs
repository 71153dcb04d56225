//! Checks that a document is a schema document: the schema for schemas (XSD 1.0 Part 1, appendix A), by [`super::grammar`].

use std::collections::HashSet;

use super::grammar::{Kind, Shape, Slot, shape};
use crate::xsd::chars::{is_nc_name, split_qname};
use crate::xsd::datatypes::text::{collapse, is_any_uri, is_language, words};
use crate::xsd::document::tree::{NodeId, Tree};
use crate::xsd::names::{Names, Sym};
use crate::xsd::problem::{Place, Problems};

/// Checks a whole document.
pub(super) fn check(tree: &Tree, document: u32, names: &Names, problems: &mut Problems) {
    let mut check = Check { tree, document, names, problems, ids: HashSet::new() };
    let Some(root) = tree.node(NodeId::ROOT) else { return };
    if root.name.ns != Sym::XSD || names.text(root.name.local) != "schema" {
        let message = "the root of the document is not `schema` in the namespace `http://www.w3.org/2001/XMLSchema`";
        return check.problem(NodeId::ROOT, "s4s-elt-schema-ns", message);
    }
    let mut left = vec![(NodeId::ROOT, "", "")];
    while let Some((node, parent, grandparent)) = left.pop() {
        check.element(node, parent, grandparent, &mut left);
    }
}

struct Check<'a> {
    tree: &'a Tree,
    document: u32,
    names: &'a Names,
    problems: &'a mut Problems,
    /// Values of `id` so far.
    ids: HashSet<Box<str>>,
}

impl<'a> Check<'a> {
    fn problem(&mut self, node: NodeId, constraint: &'static str, message: impl Into<String>) {
        let (line, column) = self.tree.node(node).map_or((0, 0), |node| node.place);
        self.problems.add(Place { document: self.document, line, column }, constraint, message);
    }

    /// The local name of an element of XML Schema; empty for another one.
    fn name(&self, node: NodeId) -> &'a str {
        match self.tree.node(node) {
            Some(node) if node.name.ns == Sym::XSD => self.names.text(node.name.local),
            _ => "",
        }
    }

    fn element(
        &mut self,
        node: NodeId,
        parent: &'a str,
        grandparent: &'a str,
        left: &mut Vec<(NodeId, &'a str, &'a str)>,
    ) {
        let name = self.name(node);
        let derives = |child| matches!(self.name(child), "simpleContent" | "complexContent");
        let derived = name == "complexType" && self.tree.children(node).any(derives);
        let Some(shape) = shape(name, parent, grandparent, derived) else {
            return self.problem(node, "s4s-elt-invalid-content", "this element is not one of XML Schema");
        };
        self.attributes(node, name, shape);
        if matches!(name, "appinfo" | "documentation") {
            return;
        }
        if self.tree.node(node).is_some_and(|node| node.has_text) {
            self.problem(node, "s4s-elt-character", format!("text is not allowed in `{name}`"));
        }
        self.content(node, name, shape.content);
        let from = left.len();
        left.extend(
            self.tree.children(node).filter(|child| !self.name(*child).is_empty()).map(|child| (child, name, parent)),
        );
        if let Some(added) = left.get_mut(from..) {
            added.reverse();
        }
    }

    fn attributes(&mut self, node: NodeId, name: &str, shape: &Shape) {
        let (tree, names) = (self.tree, self.names);
        for attribute in tree.attributes(node) {
            let local = names.text(attribute.name.local);
            if attribute.name.ns == Sym::XSD {
                self.problem(
                    node,
                    "s4s-att-not-allowed",
                    format!("the attribute `{local}` is not allowed in the namespace of XML Schema"),
                );
                continue;
            }
            if attribute.name.ns == Sym::XML && local == "lang" {
                let sound = is_language(&collapse(&attribute.value));
                if !sound {
                    self.problem(node, "s4s-att-invalid-value", "`xml:lang` is not a language");
                }
                continue;
            }
            if attribute.name.ns != Sym::NONE {
                continue;
            }
            match shape.attributes.iter().find(|(known, _)| *known == local) {
                Some((_, kind)) => {
                    if !self.is_sound(*kind, &attribute.value) {
                        let message = format!("the value of `{local}` is not {}", expected(*kind));
                        self.problem(node, "s4s-att-invalid-value", message);
                    }
                }
                None => self.problem(node, "s4s-att-not-allowed", format!("`{name}` has no attribute `{local}` here")),
            }
        }
        for required in shape.required {
            if tree.attribute(node, names.find(required)).is_none() {
                self.problem(node, "s4s-att-must-appear", format!("`{name}` has no attribute `{required}`"));
            }
        }
    }

    fn is_sound(&mut self, kind: Kind, raw: &str) -> bool {
        let value = &*collapse(raw);
        let among = |allowed: &[&str]| value == "#all" || words(value).all(|word| allowed.contains(&word));
        match kind {
            Kind::Any => true,
            Kind::Boolean => matches!(value, "true" | "false" | "1" | "0"),
            Kind::TypeDerivations => among(&["extension", "restriction"]),
            Kind::SimpleDerivations => among(&["list", "union", "restriction"]),
            Kind::Block => among(&["extension", "restriction", "substitution"]),
            Kind::FullDerivations => among(&["extension", "restriction", "list", "union"]),
            Kind::Form => matches!(value, "qualified" | "unqualified"),
            Kind::Id => is_nc_name(value) && self.ids.insert(value.into()),
            Kind::MaxOccurs => value == "unbounded" || is_non_negative(value),
            Kind::AllMin => is_non_negative(value) && number(value) <= 1,
            Kind::AllMax => is_non_negative(value) && number(value) == 1,
            Kind::Name => is_nc_name(value),
            Kind::Namespaces => {
                matches!(value, "##any" | "##other")
                    || words(value).all(|word| {
                        matches!(word, "##targetNamespace" | "##local") || is_any_uri(word) && !word.starts_with("##")
                    })
            }
            Kind::NonNegative => is_non_negative(value),
            Kind::Process => matches!(value, "skip" | "lax" | "strict"),
            Kind::QName => split_qname(value).is_some(),
            Kind::QNames => words(value).all(|word| split_qname(word).is_some()),
            Kind::Uri => is_any_uri(value),
            Kind::Use => matches!(value, "optional" | "required" | "prohibited"),
            Kind::WhiteSpace => matches!(value, "preserve" | "replace" | "collapse"),
        }
    }

    fn content(&mut self, node: NodeId, name: &str, slots: &[Slot]) {
        let (mut at, mut count) = (0, 0_u32);
        for child in self.tree.children(node) {
            let found = self.name(child);
            loop {
                let Some(slot) = slots.get(at) else {
                    let shown = if found.is_empty() {
                        "an element of another namespace".to_owned()
                    } else {
                        format!("`{found}`")
                    };
                    return self.problem(
                        child,
                        "s4s-elt-invalid-content",
                        format!("{shown} is not allowed here in `{name}`"),
                    );
                };
                if slot.names.contains(&found) && count < slot.most {
                    count = count.saturating_add(1);
                    break;
                }
                if count < slot.least {
                    return self.missing(child, name, slot);
                }
                (at, count) = (at.saturating_add(1), 0);
            }
        }
        while let Some(slot) = slots.get(at) {
            if count < slot.least {
                return self.missing(node, name, slot);
            }
            (at, count) = (at.saturating_add(1), 0);
        }
    }

    fn missing(&mut self, node: NodeId, name: &str, slot: &Slot) {
        let message = format!("`{name}` has no {} here", slot.names.join(" or "));
        self.problem(node, "s4s-elt-must-match", message);
    }
}

/// What a value should be, in words.
fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Any => "a text",
        Kind::Boolean => "`true` or `false`",
        Kind::TypeDerivations => "a list of `extension` and `restriction`, or `#all`",
        Kind::SimpleDerivations => "a list of `list`, `union` and `restriction`, or `#all`",
        Kind::Block => "a list of `extension`, `restriction` and `substitution`, or `#all`",
        Kind::FullDerivations => "a list of `extension`, `restriction`, `list` and `union`, or `#all`",
        Kind::Form => "`qualified` or `unqualified`",
        Kind::Id => "a name without a colon that is used once in the document",
        Kind::MaxOccurs => "a number or `unbounded`",
        Kind::AllMin => "0 or 1",
        Kind::AllMax => "1",
        Kind::Name => "a name without a colon",
        Kind::Namespaces => "`##any`, `##other` or a list of namespaces",
        Kind::NonNegative => "a number",
        Kind::Process => "`skip`, `lax` or `strict`",
        Kind::QName => "a name with or without a prefix",
        Kind::QNames => "a list of names with or without a prefix",
        Kind::Uri => "a URI",
        Kind::Use => "`optional`, `required` or `prohibited`",
        Kind::WhiteSpace => "`preserve`, `replace` or `collapse`",
    }
}

/// `xs:nonNegativeInteger`
fn is_non_negative(value: &str) -> bool {
    let digits = value.strip_prefix('+').unwrap_or(value);
    let zero =
        value.strip_prefix('-').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|digit| digit == b'0'));
    zero || (!digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
}

/// A number that is one of `xs:nonNegativeInteger`; the greatest there is if it is greater.
pub(crate) fn number(value: &str) -> u64 {
    let digits = value.trim_start_matches(['+', '-', '0']);
    if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) }
}
