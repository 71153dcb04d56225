//! The built-in types (XSD 1.0 Part 2, §3).

use std::sync::Arc;

use super::date_time::MomentKind;
use super::decimal::Decimal;
use super::facets::{Bound, Facet, Facets};
use super::simple_type::{Form, Role, SimpleId, SimpleType, Variety};
use super::text::WhiteSpace;
use super::value::{Primitive, Value};
use crate::xsd::names::{Names, QName, Sym};

const PRIMITIVES: [(&str, Primitive); 19] = [
    ("string", Primitive::String),
    ("boolean", Primitive::Boolean),
    ("decimal", Primitive::Decimal),
    ("float", Primitive::Float),
    ("double", Primitive::Double),
    ("duration", Primitive::Duration),
    ("dateTime", Primitive::Moment(MomentKind::DateTime)),
    ("time", Primitive::Moment(MomentKind::Time)),
    ("date", Primitive::Moment(MomentKind::Date)),
    ("gYearMonth", Primitive::Moment(MomentKind::YearMonth)),
    ("gYear", Primitive::Moment(MomentKind::Year)),
    ("gMonthDay", Primitive::Moment(MomentKind::MonthDay)),
    ("gDay", Primitive::Moment(MomentKind::Day)),
    ("gMonth", Primitive::Moment(MomentKind::Month)),
    ("hexBinary", Primitive::HexBinary),
    ("base64Binary", Primitive::Base64Binary),
    ("anyURI", Primitive::AnyUri),
    ("QName", Primitive::QName),
    ("NOTATION", Primitive::Notation),
];

/// Derived from a string: name, base, form and role.
const TEXTS: [(&str, &str, Form, Role); 9] = [
    ("normalizedString", "string", Form::Primitive, Role::None),
    ("token", "normalizedString", Form::Primitive, Role::None),
    ("language", "token", Form::Language, Role::None),
    ("NMTOKEN", "token", Form::Nmtoken, Role::None),
    ("Name", "token", Form::Name, Role::None),
    ("NCName", "Name", Form::NcName, Role::None),
    ("ID", "NCName", Form::NcName, Role::Id),
    ("IDREF", "NCName", Form::NcName, Role::IdRef),
    ("ENTITY", "NCName", Form::NcName, Role::Entity),
];

/// Derived from `xs:decimal`: name, base, least and greatest value.
const INTEGERS: [(&str, &str, &str, &str); 13] = [
    ("integer", "decimal", "", ""),
    ("nonPositiveInteger", "integer", "", "0"),
    ("negativeInteger", "nonPositiveInteger", "", "-1"),
    ("long", "integer", "-9223372036854775808", "9223372036854775807"),
    ("int", "long", "-2147483648", "2147483647"),
    ("short", "int", "-32768", "32767"),
    ("byte", "short", "-128", "127"),
    ("nonNegativeInteger", "integer", "0", ""),
    ("unsignedLong", "nonNegativeInteger", "0", "18446744073709551615"),
    ("unsignedInt", "unsignedLong", "0", "4294967295"),
    ("unsignedShort", "unsignedInt", "0", "65535"),
    ("unsignedByte", "unsignedShort", "0", "255"),
    ("positiveInteger", "nonNegativeInteger", "1", ""),
];

const LISTS: [(&str, &str); 3] = [("NMTOKENS", "NMTOKEN"), ("IDREFS", "IDREF"), ("ENTITIES", "ENTITY")];

/// Returns all built-in simple types; the first is `xs:anySimpleType`.
pub(crate) fn types(names: &mut Names) -> Vec<SimpleType> {
    let mut table = Table { types: Vec::new(), names };
    table.add(
        "anySimpleType",
        SimpleType {
            name: None,
            base: SimpleId::ANY,
            variety: Variety::Any,
            form: Form::Primitive,
            role: Role::None,
            has_roles: false,
            white_space: WhiteSpace::Preserve,
            facets: Facets::default(),
            constrained: false,
            nesting: 0,
        },
    );
    for (name, primitive) in PRIMITIVES {
        let white_space = if primitive == Primitive::String { WhiteSpace::Preserve } else { WhiteSpace::Collapse };
        let mut facets = Facets::default();
        if primitive != Primitive::String {
            facets.fixed = Facet::WhiteSpace.bit();
        }
        table.derive(name, "anySimpleType", |ty| SimpleType {
            variety: Variety::Atomic(primitive),
            white_space,
            facets,
            ..ty
        });
    }
    table.derived();
    table.types
}

struct Table<'a> {
    types: Vec<SimpleType>,
    names: &'a mut Names,
}

impl Table<'_> {
    /// Adds the types that are derived from the primitive ones.
    fn derived(&mut self) {
        for (name, base, form, role) in TEXTS {
            let white_space = if name == "normalizedString" { WhiteSpace::Replace } else { WhiteSpace::Collapse };
            let has_roles = role != Role::None;
            self.derive(name, base, |ty| SimpleType { form, role, has_roles, white_space, ..ty });
        }
        for (name, base, least, greatest) in INTEGERS {
            self.derive(name, base, |mut ty| {
                ty.form = Form::Integer;
                ty.facets.fraction_digits = Some(0);
                ty.facets.fixed |= Facet::FractionDigits.bit();
                ty.facets.min = bound(least).or(ty.facets.min);
                ty.facets.max = bound(greatest).or(ty.facets.max);
                ty.constrained = ty.facets.min.is_some() || ty.facets.max.is_some();
                ty
            });
        }
        for (name, item) in LISTS {
            let item = self.find(item);
            let has_roles = name != "NMTOKENS";
            self.derive(name, "anySimpleType", |ty| SimpleType {
                variety: Variety::List(item),
                white_space: WhiteSpace::Collapse,
                has_roles,
                facets: Facets { min_length: Some(1), ..Facets::default() },
                constrained: true,
                nesting: 1,
                ..ty
            });
        }
    }

    fn add(&mut self, name: &str, mut ty: SimpleType) {
        ty.name = Some(QName::new(Sym::XSD, self.names.intern(name)));
        self.types.push(ty);
    }

    fn find(&mut self, name: &str) -> SimpleId {
        let name = QName::new(Sym::XSD, self.names.intern(name));
        let index = self.types.iter().position(|ty| ty.name == Some(name)).unwrap_or(0);
        SimpleId(u32::try_from(index).unwrap_or(0))
    }

    fn derive(&mut self, name: &str, base: &str, change: impl FnOnce(SimpleType) -> SimpleType) {
        let base = self.find(base);
        if let Some(ty) = self.types.get(base.index()) {
            let ty = change(SimpleType { base, ..ty.clone() });
            self.add(name, ty);
        }
    }
}

fn bound(text: &str) -> Option<Arc<Bound>> {
    let value = Value::Decimal(Decimal::parse(text)?.to_owned());
    Some(Arc::new(Bound { value, text: text.into(), inclusive: true }))
}
