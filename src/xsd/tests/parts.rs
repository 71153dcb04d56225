//! Documents that come in parts: whatever the parts are, the verdict is that of the whole.

use std::collections::HashSet;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::instance::Judge;
use super::super::pointer::pointers;
use super::{Bounds, Limits, Rejection, Schema, limits, schema};

/// The verdict about a text, with the places of what is wrong.
fn verdict(text: &str, judged: Result<(), Rejection>) -> String {
    match judged {
        Err(Rejection::Invalid(found)) => format!("{:?} {found:?}", pointers(text, &found)),
        other => format!("{other:?}"),
    }
}

/// Judges a text that has come up to each of these places in turn.
pub(super) fn in_parts(
    schema: &Schema,
    text: &str,
    limits: (Bounds, Limits),
    entities: HashSet<Box<str>>,
    places: impl IntoIterator<Item = usize>,
) -> Result<(), Rejection> {
    let mut judge = Judge::new(schema, (), limits, entities);
    let mut used = 0;
    for place in places {
        let come = text.floor_char_boundary(place);
        if come > used {
            used += judge.feed(&text[used..come], false)?;
        }
    }
    let rest = &text[used..];
    assert_eq!(judge.feed(rest, true)?, rest.len());
    judge.finish()
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    schema(
        r#"<xs:element name="r" type="t"><xs:key name="k"><xs:selector xpath=".//e"/><xs:field xpath="@i"/></xs:key></xs:element>
<xs:complexType name="t"><xs:sequence>
  <xs:element name="v" type="xs:int" minOccurs="0" maxOccurs="3"/>
  <xs:choice minOccurs="0" maxOccurs="unbounded"><xs:element name="e" type="t"/><xs:element name="s" type="xs:token"/><xs:element name="m" type="m"/></xs:choice>
</xs:sequence><xs:attribute name="i" type="xs:NCName"/><xs:attribute name="o" type="xs:IDREF"/></xs:complexType>
<xs:complexType name="m" mixed="true"><xs:sequence><xs:any processContents="lax" minOccurs="0"/></xs:sequence></xs:complexType>"#,
    )
});

/// What documents are made of.
const PIECES: [&str; 44] = [
    "<e>",
    "</e>",
    "<e i='a'>",
    "</e>",
    "<s>",
    "</s>",
    "<v>12</v>",
    "<v>x</v>",
    "<v> 1&#50; </v>",
    "<v>1<!-- 2 -->2</v>",
    "<m>",
    "</m>",
    "<m>a<e/>b</m>",
    "<e i=\"b\" o='b'/>",
    "<e\n i = 'c&amp;' />",
    "<e i='d' i='d'/>",
    "<é/>",
    "<p:x xmlns:p='urn:p'>",
    "</p:x>",
    "<p:x/>",
    "</e >",
    "<",
    ">",
    "&",
    "&lt;",
    "&nbsp;",
    "]",
    "]]>",
    "<![CDATA[",
    "<![CDATA[ < ]]>",
    "<!-- - -->",
    "<!-- -- -->",
    "<?p i?>",
    "<!DOCTYPE r>",
    "é€🦀",
    "\r\n",
    "\r",
    " \t",
    "\u{1}",
    "\u{ffff}",
    "text",
    "'",
    "</r>",
    "<r>",
];

fn document() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(prop::sample::select(&PIECES[..]), 0..12);
    (
        prop::sample::select(&["<r>", "<?xml version='1.0'?>\n<r>", ""][..]),
        pieces,
        prop::sample::select(&["</r>", "</r>\n", ""][..]),
    )
        .prop_map(|(start, pieces, end)| [start, &pieces.concat(), end].concat())
}

proptest! {
    #[test]
    fn a_document_is_judged_alike_in_whatever_parts_it_comes(text in document(), places in prop::collection::vec(0_usize..200, 0..6)) {
        let bounds = |doctype| {
            let (mut bounds, limits) = limits(1_000_000);
            (bounds.markup.doctype, bounds.instructions) = (doctype, doctype);
            (bounds, limits)
        };
        for doctype in [false, true] {
            let judged = |places: &mut dyn Iterator<Item = usize>| {
                verdict(&text, in_parts(&SCHEMA, &text, bounds(doctype), HashSet::new(), places))
            };
            let whole = judged(&mut std::iter::empty());
            prop_assert_eq!(&judged(&mut (0..text.len())), &whole, "each byte: {:?}", text);
            let mut places = places.clone();
            places.sort_unstable();
            prop_assert_eq!(&judged(&mut places.iter().map(|place| *place.min(&text.len()))), &whole, "{:?} {:?}", text, places);
        }
    }
}

#[test]
fn a_value_is_used_with_the_tag_that_ends_it_so_that_it_need_not_be_kept() {
    let text = "<r><v>1</v><s>a long text</s>";
    for (come, used) in
        [("<", ""), ("<r>", "<r>"), ("<r><v>1", "<r><v>"), ("<r><v>1</v", "<r><v>"), ("<r><v>1</v>", "<r><v>1</v>")]
    {
        let mut judge = Judge::new(&SCHEMA, (), limits(1_000_000), HashSet::new());
        assert!(text.starts_with(come));
        assert_eq!(judge.feed(come, false).unwrap(), used.len(), "{come}");
    }
}

/// A value is hashed and kept once, however many elements around it are selected, and counted when it is kept.
#[test]
fn what_fields_keep_is_counted() {
    let schema = schema(
        r#"<xs:element name="f" type="t"><xs:unique name="u"><xs:selector xpath=".//f"/><xs:field xpath=".//n"/></xs:unique></xs:element>
<xs:complexType name="t"><xs:choice minOccurs="0" maxOccurs="unbounded"><xs:element ref="f"/><xs:element name="n" type="xs:string"/></xs:choice></xs:complexType>"#,
    );
    let kept = |length: usize| {
        let text = format!("{}<n>{}</n>", "<f>".repeat(100), "x".repeat(length));
        let mut judge = Judge::new(&schema, (), limits(1_000_000), HashSet::new());
        judge.feed(&text, false).unwrap();
        judge.kept()
    };
    assert_eq!(kept(200_001) - kept(1), 200_000);
    for length in [1, 1_000_000] {
        let text = format!("{}<n>{}</n>{}", "<f>".repeat(100), "x".repeat(length), "</f>".repeat(100));
        let judged = in_parts(&schema, &text, limits(1_000_000), HashSet::new(), []);
        assert!(matches!(judged, Err(Rejection::Invalid(_))), "{length} {judged:?}");
    }
}
