//! The grammar of schema documents: which attributes and children each element has (XSD 1.0 Part 1, appendix A).

/// The type of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Any,
    Boolean,
    /// `extension`, `restriction` or `#all`
    TypeDerivations,
    /// `list`, `union`, `restriction` or `#all`
    SimpleDerivations,
    /// `extension`, `restriction`, `substitution` or `#all`
    Block,
    /// All that `finalDefault` can have.
    FullDerivations,
    Form,
    Id,
    MaxOccurs,
    /// 0 or 1
    AllMin,
    /// 1
    AllMax,
    Name,
    Namespaces,
    NonNegative,
    Process,
    QName,
    QNames,
    Uri,
    Use,
    WhiteSpace,
}

/// Some children of an element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) names: &'static [&'static str],
    pub(super) least: u32,
    pub(super) most: u32,
}

/// What an element of a schema document has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) required: &'static [&'static str],
    pub(super) attributes: &'static [(&'static str, Kind)],
    pub(super) content: &'static [Slot],
}

const MANY: u32 = u32::MAX;
const fn slot(names: &'static [&'static str], least: u32, most: u32) -> Slot {
    Slot { names, least, most }
}

const NOTE: Slot = slot(&["annotation"], 0, 1);
const SIMPLE: Slot = slot(&["simpleType"], 0, 1);
const TYPE: Slot = slot(&["simpleType", "complexType"], 0, 1);
const KEYS: Slot = slot(&["unique", "key", "keyref"], 0, MANY);
const USES: Slot = slot(&["attribute", "attributeGroup"], 0, MANY);
const ANY_ATTRIBUTE: Slot = slot(&["anyAttribute"], 0, 1);
const MODEL: Slot = slot(&["group", "all", "choice", "sequence"], 0, 1);
const PARTICLES: Slot = slot(&["element", "group", "choice", "sequence", "any"], 0, MANY);
const FACETS: Slot = slot(
    &[
        "minExclusive",
        "minInclusive",
        "maxExclusive",
        "maxInclusive",
        "totalDigits",
        "fractionDigits",
        "length",
        "minLength",
        "maxLength",
        "enumeration",
        "whiteSpace",
        "pattern",
    ],
    0,
    MANY,
);

/// Declares shapes: required attributes, attributes, content.
macro_rules! shapes {
    ($($name:ident: [$($required:literal),*] [$($attribute:literal: $kind:ident),*] [$($slot:expr),*];)+) => {
        $(
            const $name: Shape = Shape {
                required: &[$($required),*],
                attributes: &[("id", Kind::Id), $(($attribute, Kind::$kind)),*],
                content: &[$($slot),*],
            };
        )+
    };
}

shapes! {
    SCHEMA: [] ["targetNamespace": Uri, "version": Any, "finalDefault": FullDerivations, "blockDefault": Block,
        "attributeFormDefault": Form, "elementFormDefault": Form]
        [slot(&["include", "import", "redefine", "annotation"], 0, MANY),
         slot(&["simpleType", "complexType", "group", "attributeGroup", "element", "attribute", "notation", "annotation"], 0, MANY)];
    INCLUDE: ["schemaLocation"] ["schemaLocation": Uri] [NOTE];
    IMPORT: [] ["namespace": Uri, "schemaLocation": Uri] [NOTE];
    REDEFINE: ["schemaLocation"] ["schemaLocation": Uri]
        [slot(&["annotation", "simpleType", "complexType", "group", "attributeGroup"], 0, MANY)];
    GLOBAL_ELEMENT: ["name"] ["name": Name, "type": QName, "substitutionGroup": QName, "default": Any, "fixed": Any,
        "nillable": Boolean, "abstract": Boolean, "final": TypeDerivations, "block": Block] [NOTE, TYPE, KEYS];
    LOCAL_ELEMENT: [] ["name": Name, "ref": QName, "type": QName, "minOccurs": NonNegative, "maxOccurs": MaxOccurs,
        "default": Any, "fixed": Any, "nillable": Boolean, "block": Block, "form": Form] [NOTE, TYPE, KEYS];
    ALL_ELEMENT: [] ["name": Name, "ref": QName, "type": QName, "minOccurs": AllMin, "maxOccurs": AllMin,
        "default": Any, "fixed": Any, "nillable": Boolean, "block": Block, "form": Form] [NOTE, TYPE, KEYS];
    GLOBAL_ATTRIBUTE: ["name"] ["name": Name, "type": QName, "default": Any, "fixed": Any] [NOTE, SIMPLE];
    LOCAL_ATTRIBUTE: [] ["name": Name, "ref": QName, "type": QName, "use": Use, "default": Any, "fixed": Any,
        "form": Form] [NOTE, SIMPLE];
    GLOBAL_COMPLEX: ["name"] ["name": Name, "abstract": Boolean, "final": TypeDerivations, "block": TypeDerivations,
        "mixed": Boolean] [NOTE, MODEL, USES, ANY_ATTRIBUTE];
    LOCAL_COMPLEX: [] ["mixed": Boolean] [NOTE, MODEL, USES, ANY_ATTRIBUTE];
    GLOBAL_COMPLEX_CONTENT: ["name"] ["name": Name, "abstract": Boolean, "final": TypeDerivations,
        "block": TypeDerivations, "mixed": Boolean] [NOTE, slot(&["simpleContent", "complexContent"], 1, 1)];
    LOCAL_COMPLEX_CONTENT: [] ["mixed": Boolean] [NOTE, slot(&["simpleContent", "complexContent"], 1, 1)];
    SIMPLE_CONTENT: [] [] [NOTE, slot(&["restriction", "extension"], 1, 1)];
    COMPLEX_CONTENT: [] ["mixed": Boolean] [NOTE, slot(&["restriction", "extension"], 1, 1)];
    SIMPLE_CONTENT_RESTRICTION: ["base"] ["base": QName] [NOTE, SIMPLE, FACETS, USES, ANY_ATTRIBUTE];
    SIMPLE_CONTENT_EXTENSION: ["base"] ["base": QName] [NOTE, USES, ANY_ATTRIBUTE];
    COMPLEX_DERIVATION: ["base"] ["base": QName] [NOTE, MODEL, USES, ANY_ATTRIBUTE];
    ATTRIBUTE_GROUP: ["name"] ["name": Name] [NOTE, USES, ANY_ATTRIBUTE];
    ATTRIBUTE_GROUP_REF: ["ref"] ["ref": QName] [NOTE];
    GROUP: ["name"] ["name": Name] [NOTE, slot(&["all", "choice", "sequence"], 1, 1)];
    GROUP_REF: ["ref"] ["ref": QName, "minOccurs": NonNegative, "maxOccurs": MaxOccurs] [NOTE];
    ALL: [] ["minOccurs": AllMin, "maxOccurs": AllMax] [NOTE, slot(&["element"], 0, MANY)];
    NAMED_ALL: [] [] [NOTE, slot(&["element"], 0, MANY)];
    MODEL_GROUP: [] ["minOccurs": NonNegative, "maxOccurs": MaxOccurs] [NOTE, PARTICLES];
    NAMED_MODEL_GROUP: [] [] [NOTE, PARTICLES];
    ANY: [] ["namespace": Namespaces, "processContents": Process, "minOccurs": NonNegative, "maxOccurs": MaxOccurs] [NOTE];
    ANY_ATTRIBUTES: [] ["namespace": Namespaces, "processContents": Process] [NOTE];
    KEY: ["name"] ["name": Name] [NOTE, slot(&["selector"], 1, 1), slot(&["field"], 1, MANY)];
    KEYREF: ["name", "refer"] ["name": Name, "refer": QName] [NOTE, slot(&["selector"], 1, 1), slot(&["field"], 1, MANY)];
    PATH: ["xpath"] ["xpath": Any] [NOTE];
    NOTATION: ["name"] ["name": Name, "public": Any, "system": Uri] [NOTE];
    GLOBAL_SIMPLE: ["name"] ["name": Name, "final": SimpleDerivations] [NOTE, slot(&["restriction", "list", "union"], 1, 1)];
    LOCAL_SIMPLE: [] [] [NOTE, slot(&["restriction", "list", "union"], 1, 1)];
    SIMPLE_RESTRICTION: [] ["base": QName] [NOTE, SIMPLE, FACETS];
    LIST: [] ["itemType": QName] [NOTE, SIMPLE];
    UNION: [] ["memberTypes": QNames] [NOTE, slot(&["simpleType"], 0, MANY)];
    FACET: ["value"] ["value": Any, "fixed": Boolean] [NOTE];
    NUMBER_FACET: ["value"] ["value": NonNegative, "fixed": Boolean] [NOTE];
    SPACE_FACET: ["value"] ["value": WhiteSpace, "fixed": Boolean] [NOTE];
    UNFIXED_FACET: ["value"] ["value": Any] [NOTE];
    ANNOTATION: [] [] [slot(&["appinfo", "documentation"], 0, MANY)];
}

const APPINFO: Shape = Shape { required: &[], attributes: &[("source", Kind::Uri)], content: &[] };

/// Returns the shape of an element in its parent; `None` if there is no such element. `named` tells a definition or
/// declaration from a reference, and `derived` that the type has `simpleContent` or `complexContent`.
pub(super) fn shape(name: &str, parent: &str, grandparent: &str, derived: bool) -> Option<&'static Shape> {
    let global = matches!(parent, "schema" | "redefine");
    Some(match name {
        "schema" => &SCHEMA,
        "include" => &INCLUDE,
        "import" => &IMPORT,
        "redefine" => &REDEFINE,
        "element" if global => &GLOBAL_ELEMENT,
        "element" if parent == "all" => &ALL_ELEMENT,
        "element" => &LOCAL_ELEMENT,
        "attribute" if global => &GLOBAL_ATTRIBUTE,
        "attribute" => &LOCAL_ATTRIBUTE,
        "complexType" if global && derived => &GLOBAL_COMPLEX_CONTENT,
        "complexType" if global => &GLOBAL_COMPLEX,
        "complexType" if derived => &LOCAL_COMPLEX_CONTENT,
        "complexType" => &LOCAL_COMPLEX,
        "simpleContent" => &SIMPLE_CONTENT,
        "complexContent" => &COMPLEX_CONTENT,
        "restriction" if parent == "simpleContent" => &SIMPLE_CONTENT_RESTRICTION,
        "extension" if parent == "simpleContent" => &SIMPLE_CONTENT_EXTENSION,
        "restriction" | "extension" if parent == "complexContent" => &COMPLEX_DERIVATION,
        "restriction" => &SIMPLE_RESTRICTION,
        "attributeGroup" if global => &ATTRIBUTE_GROUP,
        "attributeGroup" => &ATTRIBUTE_GROUP_REF,
        "group" if global => &GROUP,
        "group" => &GROUP_REF,
        "all" if parent == "group" => &NAMED_ALL,
        "all" => &ALL,
        "choice" | "sequence" if parent == "group" && matches!(grandparent, "schema" | "redefine") => {
            &NAMED_MODEL_GROUP
        }
        "choice" | "sequence" => &MODEL_GROUP,
        "any" => &ANY,
        "anyAttribute" => &ANY_ATTRIBUTES,
        "unique" | "key" => &KEY,
        "keyref" => &KEYREF,
        "selector" | "field" => &PATH,
        "notation" => &NOTATION,
        "simpleType" if global => &GLOBAL_SIMPLE,
        "simpleType" => &LOCAL_SIMPLE,
        "list" => &LIST,
        "union" => &UNION,
        "pattern" | "enumeration" => &UNFIXED_FACET,
        "whiteSpace" => &SPACE_FACET,
        "length" | "minLength" | "maxLength" | "totalDigits" | "fractionDigits" => &NUMBER_FACET,
        "minInclusive" | "minExclusive" | "maxInclusive" | "maxExclusive" => &FACET,
        "annotation" => &ANNOTATION,
        "appinfo" | "documentation" => &APPINFO,
        _ => return None,
    })
}
