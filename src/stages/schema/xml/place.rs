//! Translates a node path of libxml2 into a readable path and a location: `/order/line[2]/@id`, line and column.

use quick_xml::Reader;
use quick_xml::events::Event;

/// All elements of a document, in order. Built only when a document is refused.
pub(super) struct Index<'a> {
    elements: Vec<Entry<'a>>,
}

struct Entry<'a> {
    /// Qualified name, as written.
    name: &'a str,
    /// Offset of its `<`, in bytes.
    offset: usize,
    /// Positions of its first child and its next sibling.
    child: Option<usize>,
    next: Option<usize>,
}

impl Entry<'_> {
    fn local_name(&self) -> &str {
        self.name.split_once(':').map_or(self.name, |(_, local)| local)
    }
}

impl<'a> Index<'a> {
    /// Builds the index of a document that the guard has accepted.
    pub(super) fn new(text: &'a str) -> Self {
        let mut elements: Vec<Entry<'a>> = Vec::new();
        // The open elements, each with its last child.
        let mut open: Vec<(usize, Option<usize>)> = Vec::new();
        let mut reader = Reader::from_str(text);
        loop {
            let offset = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
            let (tag, empty) = match reader.read_event() {
                Ok(Event::Start(tag)) => (tag, false),
                Ok(Event::Empty(tag)) => (tag, true),
                Ok(Event::End(_)) => {
                    open.pop();
                    continue;
                }
                Ok(Event::Eof) | Err(_) => break,
                Ok(_) => continue,
            };
            let start = offset.saturating_add(1);
            let name = text.get(start..start.saturating_add(tag.name().into_inner().len())).unwrap_or_default();
            let index = elements.len();
            elements.push(Entry { name, offset, child: None, next: None });
            if let Some((parent, last)) = open.last_mut() {
                match last.replace(index) {
                    Some(before) => set(&mut elements, before, |entry| entry.next = Some(index)),
                    None => set(&mut elements, *parent, |entry| entry.child = Some(index)),
                }
            }
            if !empty {
                open.push((index, None));
            }
        }
        Self { elements }
    }

    /// Converts a path such as `/*/p:line[2]/@id` into one without prefixes, where positions count siblings with the same
    /// local name. Also returns the offset of the element.
    pub(super) fn locate(&self, path: &str) -> (String, usize) {
        let mut readable = String::new();
        let mut offset = 0;
        let mut first = (!self.elements.is_empty()).then_some(0);
        for step in path.split('/').skip(1) {
            if let Some(attribute) = step.strip_prefix('@') {
                let local = attribute.split_once(':').map_or(attribute, |(_, local)| local);
                readable.extend(["/@", local]);
                break;
            }
            let (name, position) = match step.strip_suffix(']').and_then(|step| step.split_once('[')) {
                Some((name, position)) => (name, position.parse().unwrap_or(1)),
                None => (step, 1_usize),
            };
            let mut matching = self.from(first).filter(|entry| name == "*" || entry.name == name);
            let Some(found) = matching.nth(position.saturating_sub(1)) else { break };
            let same_name = || self.from(first).filter(|entry| entry.local_name() == found.local_name());
            readable.extend(["/", found.local_name()]);
            if same_name().nth(1).is_some() {
                let before = same_name().take_while(|entry| entry.offset < found.offset).count();
                readable.push_str(&format!("[{}]", before + 1));
            }
            (offset, first) = (found.offset, found.child);
        }
        (readable, offset)
    }

    fn from(&self, first: Option<usize>) -> impl Iterator<Item = &Entry<'a>> {
        std::iter::successors(first.and_then(|first| self.elements.get(first)), |entry| {
            entry.next.and_then(|next| self.elements.get(next))
        })
    }
}

fn set<'a>(elements: &mut [Entry<'a>], index: usize, change: impl FnOnce(&mut Entry<'a>)) {
    if let Some(entry) = elements.get_mut(index) {
        change(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_words() {
        let text =
            "<?xml version='1.0'?><p:a xmlns:p='u' xmlns:q='u'>\n<b/><p:b>x</p:b><!--<b/>--><q:b><c/></q:b><d/></p:a>";
        let index = Index::new(text);
        for (path, readable, at) in [
            ("/p:a", "/a", "<p:a xmlns"),
            ("/*", "/a", "<p:a xmlns"),
            ("/p:a/b", "/a/b[1]", "<b/><p:b>"),
            ("/p:a/p:b", "/a/b[2]", "<p:b>"),
            ("/p:a/q:b/c", "/a/b[3]/c", "<c/>"),
            ("/p:a/*[3]/*", "/a/b[3]/c", "<c/>"),
            ("/p:a/d/@q:id", "/a/d/@id", "<d/>"),
            ("/p:a/d/text()", "/a/d", "<d/>"),
            ("/p:a/*[9]", "/a", "<p:a xmlns"),
            ("", "", "<?xml"),
        ] {
            let (got, offset) = index.locate(path);
            assert_eq!(got, readable, "{path}");
            assert!(text[offset..].starts_with(at), "{path}: {}", &text[offset..]);
        }
        assert_eq!(Index::new("").locate("/a"), (String::new(), 0));
    }
}
