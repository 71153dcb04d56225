//! Builds a tree from YAML events, within bounds.
//!
//! Some parts of YAML are not allowed in a policy: tags, merge keys, keys that are not text, more than one document.
//! They are reported, and their nodes become void. Parsing stops only at invalid syntax, or if a bound is exceeded.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::diagnostic::Problems;
use super::source::{Place, SourceText, quote};
use super::tree::{Kind, Node, NodeId, Scalar, Tree};
use super::yaml_error;

/// The bounds of a kind of text, and its names in messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    /// Maximum number of nodes in a small text; the value of an alias counts every time.
    nodes: usize,
    /// Maximum depth of nesting.
    depth: usize,
    /// The kind of text, such as `policy`.
    noun: &'static str,
    /// The language it is written in.
    language: &'static str,
    /// Help for an empty text.
    beginning: &'static str,
    /// Whether a name may occur twice in an object of a JSON file, which then is a warning.
    pub(super) repeats: bool,
}

/// Maximum number of nodes in any text.
const MOST_NODES: usize = 2_000_000;
/// So many bytes of a large text allow one more node: policies of many consumers take about eleven.
const BYTES_OF_A_NODE: usize = 8;

impl Dialect {
    /// Maximum number of nodes in a text of this length.
    fn most_nodes(&self, length: usize) -> usize {
        self.nodes.max((length / BYTES_OF_A_NODE).min(MOST_NODES))
    }
}

/// Policies.
const POLICY: Dialect = Dialect {
    nodes: 100_000,
    depth: 64,
    noun: "policy",
    language: "the policy language",
    beginning: "begin it with `version: 1`; `config/reference.yaml` shows every key",
    repeats: false,
};

/// Files that a policy includes.
const INCLUDED: Dialect = Dialect {
    noun: "included file",
    beginning: "write `roles:`, `plans:`, `consumers:` or `apis:`; or remove the file",
    ..POLICY
};

/// OpenAPI descriptions: the largest public ones have a million values.
pub(crate) const OPENAPI: Dialect = Dialect {
    nodes: MOST_NODES,
    depth: 120,
    noun: "document",
    language: "OpenAPI",
    beginning: "begin it with `openapi: 3.1.0`",
    repeats: false,
};

/// JSON Schemas in YAML. Published ones have names twice.
pub(crate) const SCHEMA: Dialect = Dialect {
    nodes: MOST_NODES,
    depth: 120,
    noun: "schema",
    language: "JSON Schema",
    beginning: "write a schema, such as `type: object`",
    repeats: true,
};

/// Parses `source` as one YAML document. Returns `None` if there is no tree; `problems` then contains the reason.
pub(crate) fn parse(source: &Arc<SourceText>, problems: &mut Problems) -> Option<Tree> {
    parse_as(POLICY, source, problems)
}

/// Like [`parse`], for another kind of text.
pub(crate) fn parse_as(dialect: Dialect, source: &Arc<SourceText>, problems: &mut Problems) -> Option<Tree> {
    let source = Arc::clone(source);
    let mut tree = Tree { source, included: Vec::new(), nodes: Vec::new(), root: NodeId(0), large: OnceLock::new() };
    tree.root = read(dialect, &mut tree, problems)?;
    Some(tree)
}

/// Parses the text of a file that the policy includes, and adds its nodes to the tree, of which they are no part yet. Returns its
/// root.
pub(super) fn parse_included(tree: &mut Tree, source: &Arc<SourceText>, problems: &mut Problems) -> Option<NodeId> {
    let before = tree.nodes.len();
    tree.included.push(Arc::clone(source));
    let root = read(INCLUDED, tree, problems);
    if root.is_none() {
        tree.nodes.truncate(before);
    }
    root
}

/// Reads the last of the tree's texts. Returns its root.
fn read(dialect: Dialect, tree: &mut Tree, problems: &mut Problems) -> Option<NodeId> {
    let source = Arc::clone(tree.included.last().unwrap_or(&tree.source));
    let (position, before) = (tree.included.len(), tree.nodes.len());
    let (open, anchors) = (Vec::new(), HashMap::new());
    Builder { dialect, tree, source, position, before, problems, open, anchors, root: None }.build()
}

/// A list or map that is being read.
struct Open {
    id: NodeId,
    anchor: usize,
    /// The key whose value has not been read yet.
    key: Option<NodeId>,
    /// The keys so far, to find duplicates.
    seen: HashMap<String, NodeId>,
}

/// What an anchor names.
#[derive(Clone, Copy)]
enum Anchor {
    /// A list or map that is not complete: an alias to it would contain itself.
    Unfinished,
    Finished(NodeId),
}

/// Parsing stopped without a tree; the reason was reported.
struct Stopped;

struct Builder<'p> {
    dialect: Dialect,
    tree: &'p mut Tree,
    source: Arc<SourceText>,
    /// That of the text among all of the tree.
    position: usize,
    /// How many nodes there are of other texts.
    before: usize,
    problems: &'p mut Problems,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchor>,
    /// That of the document, once it is complete.
    root: Option<NodeId>,
}

impl Builder<'_> {
    fn build(mut self) -> Option<NodeId> {
        let source = Arc::clone(&self.source);
        let Dialect { depth, noun, beginning, .. } = self.dialect;
        let options = granit_parser::options! {
            emit_comments: false,
            emit_unresolved_aliases: true,
            flow_nesting_limit: depth * 2,
            block_nesting_limit: depth * 2,
        };
        let mut documents = 0;
        for event in Parser::new_from_str_with_options(&source.text, options) {
            match event {
                Ok((Event::DocumentStart(..), span)) => {
                    documents += 1;
                    if documents > 1 {
                        self.problems.error(self.place(&span), "a second document begins here").help(format!(
                            "a {noun} is one YAML document: remove this `---` and what follows, or merge the two"
                        ));
                        break;
                    }
                }
                Ok((event, span)) => self.event(event, &span).ok()?,
                Err(error) => {
                    yaml_error::report(&error, &source, self.problems);
                    return None;
                }
            }
        }
        let is_empty = |id: &NodeId| matches!(self.tree.kind(*id), Kind::Scalar(scalar) if scalar.is_null());
        let root = self.root.filter(|id| !is_empty(id));
        if root.is_none() {
            self.problems.error(Place::new(&source, 0..0), format!("the {noun} is empty")).help(beginning);
        }
        root
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Stopped> {
        let tag = event.tag().map(granit_parser::Tag::original);
        let id = match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                // The parser returns `~` for an empty value; only the place distinguishes the two.
                let written = if plain && bytes(span).is_empty() { String::new() } else { text.into_owned() };
                let scalar = Scalar { written, resolved: None, plain };
                let id = self.add(Kind::Scalar(scalar), bytes(span))?;
                self.name(anchor, Anchor::Finished(id));
                self.place_node(id)?;
                id
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Kind::Sequence(Vec::new()), anchor, span)?,
            Event::MappingStart(_, anchor, _) => self.begin(Kind::Mapping(Vec::new()), anchor, span)?,
            Event::SequenceEnd | Event::MappingEnd => return self.end(span),
            Event::Alias(anchor) => return self.alias(anchor, span),
            Event::UnresolvedAlias(name) => {
                let scalar = Scalar { written: format!("*{name}"), resolved: None, plain: true };
                let id = self.add(Kind::Scalar(scalar), bytes(span))?;
                self.problems
                    .error(
                        self.place(span),
                        format!("there is no anchor {} before this alias", quote(&format!("&{name}"))),
                    )
                    .help("put text that begins with `*` in quotes");
                self.place_node(id)?;
                self.tree.void(id);
                return Ok(());
            }
            _ => return Ok(()),
        };
        if let Some(tag) = tag {
            let place = span.tag_span().map_or_else(|| self.place(span), |tag| self.place(&tag));
            self.problems
                .error(place, format!("the tag {} is not part of {}", quote(&tag), self.dialect.language))
                .help("remove it; put text that begins with `!` in quotes");
            self.tree.void(id);
        }
        Ok(())
    }

    fn add(&mut self, kind: Kind, span: Range<usize>) -> Result<NodeId, Stopped> {
        let id = NodeId(self.tree.nodes.len());
        let noun = self.dialect.noun;
        let nodes = self.dialect.most_nodes(self.source.text.len());
        // Those of all files together are bounded, too.
        if id.0 - self.before >= nodes || id.0 >= MOST_NODES {
            let place = Place::new(&self.source, span);
            self.problems
                .error(place, format!("the {noun} has more than {nodes} values"))
                .help("the value of an alias (`*name`) counts every time");
            return Err(Stopped);
        }
        let parent = self.open.last().map(|open| open.id);
        self.tree.nodes.push(Node { kind, source: self.position, span, parent, void: false, damaged: false });
        Ok(id)
    }

    fn begin(&mut self, kind: Kind, anchor: usize, span: &Span) -> Result<NodeId, Stopped> {
        if self.open.len() >= self.dialect.depth {
            self.too_deep(bytes(span));
            return Err(Stopped);
        }
        let id = self.add(kind, bytes(span))?;
        self.name(anchor, Anchor::Unfinished);
        self.open.push(Open { id, anchor, key: None, seen: HashMap::new() });
        Ok(id)
    }

    fn end(&mut self, span: &Span) -> Result<(), Stopped> {
        let Some(Open { id, anchor, .. }) = self.open.pop() else { return Ok(()) };
        self.name(anchor, Anchor::Finished(id));
        let last = match self.tree.kind(id) {
            Kind::Sequence(items) => items.last().copied(),
            Kind::Mapping(entries) => entries.last().map(|(_, value)| *value),
            Kind::Scalar(_) => None,
        };
        // A block ends with its last value, but its event comes only after the blank lines and comments that follow.
        let closed = bytes(span);
        let end = if closed.is_empty() { last.map_or(0, |last| self.tree.span(last).end) } else { closed.end };
        if let Some(node) = self.tree.nodes.get_mut(id.0) {
            node.span.end = end.max(node.span.end);
        }
        self.place_node(id)
    }

    /// Adds a complete node to its parent: as the root, an element, a key or a value.
    fn place_node(&mut self, id: NodeId) -> Result<(), Stopped> {
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert(id);
            return Ok(());
        };
        let (parent, key) = (open.id, open.key.take());
        let Some(node) = self.tree.nodes.get_mut(parent.0) else { return Err(Stopped) };
        match (&mut node.kind, key) {
            (Kind::Sequence(items), _) => items.push(id),
            (Kind::Mapping(entries), Some(key)) => entries.push((key, id)),
            (Kind::Mapping(_), None) => {
                open.key = Some(id);
                self.check_key(id);
            }
            (Kind::Scalar(_), _) => {}
        }
        Ok(())
    }

    fn check_key(&mut self, id: NodeId) {
        let (message, help) = match self.tree.kind(id) {
            Kind::Scalar(scalar) if scalar.plain && scalar.written.is_empty() => {
                ("there is no key before this `:`".to_owned(), None)
            }
            Kind::Scalar(scalar) if scalar.plain && scalar.written == "<<" => (
                format!("merge keys (`<<`) are not part of {}", self.dialect.language),
                Some("write the keys out, or use an alias for a whole value"),
            ),
            Kind::Scalar(scalar) => {
                let Some(open) = self.open.last_mut() else { return };
                match open.seen.get(&scalar.written) {
                    Some(first) => {
                        let (line, _) = self.tree.place(*first).start();
                        let message =
                            format!("{} is defined twice; the first is on line {line}", quote(&scalar.written));
                        (message, Some("remove one of the two, or merge them"))
                    }
                    None => {
                        open.seen.insert(scalar.written.clone(), id);
                        return;
                    }
                }
            }
            _ => ("a key cannot be a list or a map".to_owned(), Some("put text that begins with `[` or `{` in quotes")),
        };
        let place = self.tree.place(id);
        self.problems.error(place, message).help = help.map(str::to_owned);
        self.tree.void(id);
    }

    fn name(&mut self, anchor: usize, value: Anchor) {
        // 0 means that there is no anchor.
        if anchor != 0 {
            self.anchors.insert(anchor, value);
        }
    }

    fn alias(&mut self, anchor: usize, span: &Span) -> Result<(), Stopped> {
        let id = match self.anchors.get(&anchor).copied() {
            Some(Anchor::Finished(target)) => self.copy(target, self.open.len(), span)?,
            _ => {
                self.problems
                    .error(self.place(span), "this alias contains itself")
                    .help("an alias cannot be used inside its own anchor");
                return Err(Stopped);
            }
        };
        if self.tree.nodes.get(id.0).is_some_and(|node| node.damaged) {
            self.tree.damage(self.open.last().map(|open| open.id));
        }
        self.place_node(id)
    }

    /// Copies the value of an alias, so that every node has one parent. The copies keep their original places.
    fn copy(&mut self, target: NodeId, depth: usize, alias: &Span) -> Result<NodeId, Stopped> {
        if depth > self.dialect.depth {
            self.too_deep(bytes(alias));
            return Err(Stopped);
        }
        let Some(original) = self.tree.nodes.get(target.0) else { return Err(Stopped) };
        let (kind, span, void, damaged) =
            (original.kind.clone(), original.span.clone(), original.void, original.damaged);
        let id = self.add(Kind::Sequence(Vec::new()), span)?;
        let kind = match kind {
            Kind::Scalar(scalar) => Kind::Scalar(scalar),
            Kind::Sequence(items) => Kind::Sequence(
                items.into_iter().map(|item| self.copy_into(id, item, depth, alias)).collect::<Result<_, _>>()?,
            ),
            Kind::Mapping(entries) => Kind::Mapping(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        Ok((self.copy_into(id, key, depth, alias)?, self.copy_into(id, value, depth, alias)?))
                    })
                    .collect::<Result<_, _>>()?,
            ),
        };
        if let Some(node) = self.tree.nodes.get_mut(id.0) {
            (node.kind, node.void, node.damaged) = (kind, void, damaged);
        }
        Ok(id)
    }

    fn copy_into(&mut self, parent: NodeId, child: NodeId, depth: usize, alias: &Span) -> Result<NodeId, Stopped> {
        let copy = self.copy(child, depth + 1, alias)?;
        if let Some(node) = self.tree.nodes.get_mut(copy.0) {
            node.parent = Some(parent);
        }
        Ok(copy)
    }

    fn too_deep(&mut self, span: Range<usize>) {
        let place = Place::new(&self.source, span);
        let Dialect { depth, noun, .. } = self.dialect;
        self.problems.error(place, format!("the {noun} is nested deeper than {depth} levels"));
    }

    fn place(&self, span: &Span) -> Place {
        Place::new(&self.source, bytes(span))
    }
}

/// Byte offsets of an event; always known, as the text is in memory.
fn bytes(span: &Span) -> Range<usize> {
    span.byte_range().unwrap_or(0..0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tree::Step;

    fn read(text: &str) -> (Option<Tree>, Vec<String>) {
        let source = Arc::new(SourceText::new("p".to_owned(), text.to_owned(), 0));
        let mut problems = Problems::new();
        let tree = parse(&source, &mut problems);
        let messages = problems
            .iter()
            .map(|problem| {
                let (line, column) = problem.place.as_ref().map_or((0, 0), |place| place.start());
                format!("{line}:{column} {}", problem.message)
            })
            .collect();
        (tree, messages)
    }

    #[test]
    fn what_a_policy_does_without_is_reported_at_its_place() {
        for (text, expected) in [
            ("a: 1\nb: 2\na: 3\n", vec!["3:1 `a` is defined twice; the first is on line 1"]),
            (
                "é: 1\nx: { 'a': ü, \"a\": 2, a: 3 }\n",
                vec![
                    "2:14 `a` is defined twice; the first is on line 2",
                    "2:22 `a` is defined twice; the first is on line 2",
                ],
            ),
            (
                "[a]: 1\n? {b: c}\n: 2\n",
                vec!["1:1 a key cannot be a list or a map", "2:3 a key cannot be a list or a map"],
            ),
            ("a: 1\n---\nb: 2\n", vec!["2:1 a second document begins here"]),
            (
                "é: !x 1\nb: !!str 2\n",
                vec![
                    "1:4 the tag `!x` is not part of the policy language",
                    "2:4 the tag `!!str` is not part of the policy language",
                ],
            ),
            ("x: &x { a: 1 }\ny: { <<: *x }\n", vec!["2:6 merge keys (`<<`) are not part of the policy language"]),
            ("a: *b\n", vec!["1:4 there is no anchor `&b` before this alias"]),
            (": 1\n", vec!["1:1 there is no key before this `:`"]),
            ("", vec!["1:1 the policy is empty"]),
            ("# only a comment\n", vec!["1:1 the policy is empty"]),
            ("---\n", vec!["1:1 the policy is empty"]),
            ("~\n", vec!["1:1 the policy is empty"]),
            ("a: &a [ *a ]\n", vec!["1:9 this alias contains itself"]),
            ("a: &a { b: { c: *a } }\n", vec!["1:17 this alias contains itself"]),
        ] {
            let (_, messages) = read(text);
            assert_eq!(messages, expected, "{text}");
        }
    }

    #[test]
    fn broken_syntax_is_one_problem_in_words() {
        for (text, expected) in [
            ("a:\n\tb: 1\n", "2:1 YAML allows only spaces here, but this is a tab"),
            ("a: \"x\nb: 1\n", "is not closed"),
            ("a: [x, y\nb: 1\n", "a `[` or `{` above may not be closed"),
            ("a: [x, y", "never closed"),
            ("a: { x: [y }\n", "`[` is closed by `}`"),
            ("a: b: c\n", "1:5 a `:` is not allowed here"),
            ("a:\n  b: 1\n c: 2\n", "3:2 the indentation does not match"),
            ("a: @x\n", "1:4 text cannot begin with `@`"),
            ("a: `x`\n", "1:4 text cannot begin with"),
            ("a: 1\nb\n", "neither `key: value` nor"),
            ("a: \"\\q\"\n", "is not the start of a known escape"),
            ("a: 'it's'\n", "closing `'`"),
        ] {
            let (tree, messages) = read(text);
            assert!(tree.is_none() && messages.len() == 1, "{text}: {messages:?}");
            assert!(messages[0].contains(expected), "{text}: {messages:?}");
        }
    }

    #[test]
    fn bombs_end_quickly_with_a_clear_error() {
        let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..20 {
            let below = level - 1;
            let row = vec![format!("*a{below}"); 9].join(", ");
            aliases.push_str(&format!("a{level}: &a{level} [{row}]\n"));
        }
        assert_eq!(read(&aliases).1.len(), 1);
        assert!(read(&aliases).1[0].ends_with("the policy has more than 100000 values"));
        let mut chain = "a0: &a0 [x]\n".to_owned();
        for level in 1..80 {
            let below = level - 1;
            chain.push_str(&format!("a{level}: &a{level} [*a{below}]\n"));
        }
        assert!(read(&chain).1[0].ends_with("nested deeper than 64 levels"));
        let many = "- x\n".repeat(200_000);
        assert!(read(&many).1[0].ends_with("more than 100000 values"));
        let flow = |open: &str, close: &str| format!("{}x{}", open.repeat(65), close.repeat(65));
        for nested in [flow("[", "]"), flow("{a: ", "}"), "- ".repeat(65), "? ".repeat(65)] {
            let messages = read(&nested).1;
            assert!(messages.len() == 1 && messages[0].ends_with("nested deeper than 64 levels"), "{messages:?}");
        }
        for piece in [
            "[",
            "{",
            "- ",
            "? ",
            "\"",
            "'",
            "&a ",
            "!",
            "*a ",
            "|\n",
            "a: ",
            "#\n",
            "\u{feff}",
            "\t",
            "%",
            "é",
            ", ",
            "a: &a *a\n",
        ] {
            let (_, messages) = read(&piece.repeat((1 << 20) / piece.len()));
            assert!(messages.len() <= 101, "{piece:?}: {messages:?}");
        }
    }

    #[test]
    fn places_are_bytes_of_the_text_whatever_stands_before() {
        for prefix in ["", "\u{feff}", "# ünï\r\n", "ключ: 値\n"] {
            let text = format!("{prefix}list: [é, \"ß ß\", *x, plain text ]\nmap:\n  k: v\n\n# end\n");
            let text = text.replace("*x", "'it''s'");
            let (tree, messages) = read(&text);
            let tree = tree.unwrap();
            assert_eq!(messages, [""; 0]);
            let shown = |at: crate::policy::tree::At<'_>| text.get(at.place().span()).unwrap().to_owned();
            let list = tree.at().key("list");
            assert_eq!(shown(list), "[é, \"ß ß\", 'it''s', plain text ]");
            assert_eq!(shown(list.index(0)), "é");
            assert_eq!(shown(list.index(1)), "\"ß ß\"");
            assert_eq!(shown(list.index(2)), "'it''s'");
            assert_eq!(shown(list.index(3)), "plain text");
            assert_eq!(shown(tree.at().key("map")), "k: v");
            assert_eq!(text.get(tree.at().key("map").key_place().span()), Some("map"));
        }
    }

    #[test]
    fn paths_lead_to_their_nodes() {
        let (tree, _) = read("apis:\n  orders:\n    hosts: [a, b]\n");
        let tree = tree.unwrap();
        let leaf = (0..tree.nodes.len()).map(NodeId).find(|id| tree.key_text(*id) == "b").unwrap();
        assert_eq!(tree.path(leaf), [Step::Key("apis"), Step::Key("orders"), Step::Key("hosts"), Step::Index(1)]);
    }

    #[test]
    fn copies_behind_an_alias_carry_their_damage() {
        let (tree, messages) = read("a: &a { x: 1, x: 2 }\nb: { c: *a }\nd: {}\n");
        let tree = tree.unwrap();
        assert_eq!(messages.len(), 1);
        assert!(tree.at().key("b").damaged() && tree.at().key("b").key("c").damaged() && !tree.at().key("d").damaged());
    }
}
