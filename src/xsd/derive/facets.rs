//! The facets of a restriction, checked against those of the base (XSD 1.0 Part 2, §4.3).

use std::sync::Arc;

use super::bounds::{check_against_base, check_range};
use crate::xsd::components::context::Builder;
use crate::xsd::components::model::RawFacet;
use crate::xsd::components::syntax::number;
use crate::xsd::datatypes::check::{Checker, Surroundings};
use crate::xsd::datatypes::decimal::is_integer;
use crate::xsd::datatypes::facets::{Bound, Enumeration, Facet, Facets};
use crate::xsd::datatypes::simple_type::{SimpleType, Variety};
use crate::xsd::datatypes::text::{WhiteSpace, collapse};
use crate::xsd::datatypes::value::{Primitive, Value};
use crate::xsd::names::{Names, QName, Sym};
use crate::xsd::pattern::{Making, Pattern, PatternError};
use crate::xsd::problem::{Place, Problems};

/// What values in a schema document need from around them.
pub(crate) struct InSchema<'a> {
    /// In the order of the prefixes.
    pub(crate) prefixes: &'a [(Box<str>, Sym)],
    pub(crate) names: &'a Names,
    pub(crate) notations: &'a crate::xsd::names::FastMap<QName, Place>,
}

impl Surroundings for InSchema<'_> {
    fn namespace(&self, prefix: &str) -> Option<&str> {
        let found = self.prefixes.binary_search_by(|(known, _)| (**known).cmp(prefix)).ok()?;
        self.prefixes.get(found).map(|(_, ns)| self.names.text(*ns))
    }

    fn has_notation(&self, namespace: &str, local: &str) -> bool {
        let (ns, local) = (self.names.find(namespace), self.names.find(local));
        ns != Sym::UNKNOWN && local != Sym::UNKNOWN && self.notations.contains_key(&QName::new(ns, local))
    }
}

/// Whether a facet can be used with a type (XSD 1.0 Part 2, §4.1.5).
fn applies(facet: Facet, variety: &Variety) -> bool {
    match facet {
        Facet::Pattern => *variety != Variety::Any,
        Facet::Enumeration => !matches!(variety, Variety::Any | Variety::Atomic(Primitive::Boolean)),
        Facet::WhiteSpace => matches!(variety, Variety::Atomic(_) | Variety::List(_)),
        Facet::Length | Facet::MinLength | Facet::MaxLength => match variety {
            Variety::Atomic(primitive) => primitive.has_length(),
            variety => matches!(variety, Variety::List(_)),
        },
        Facet::TotalDigits | Facet::FractionDigits => *variety == Variety::Atomic(Primitive::Decimal),
        Facet::MinInclusive | Facet::MinExclusive | Facet::MaxInclusive | Facet::MaxExclusive => {
            matches!(variety, Variety::Atomic(primitive) if primitive.is_ordered())
        }
    }
}

impl Builder {
    /// Adds facets to a copy of the base.
    pub(crate) fn add_facets(&mut self, ty: &mut SimpleType, facets: &[RawFacet], place: Place) {
        let base = ty.facets.clone();
        let base_space = ty.white_space;
        let (mut patterns, mut enumeration) = (Vec::new(), None);
        for raw in facets {
            if !applies(raw.facet, &ty.variety) {
                let message = format!("`{}` is not a facet of this type", raw.facet.name());
                self.problems.add(raw.place, "cos-applicable-facets", message);
                continue;
            }
            match raw.facet {
                Facet::Pattern => match self.pattern(&raw.value) {
                    Ok(pattern) => patterns.push(pattern),
                    Err(error) => {
                        let message = format!("the pattern is wrong at character {}: {}", error.column, error.message);
                        self.problems.add(raw.place, "src-pattern-value", message);
                    }
                },
                Facet::Enumeration => self.enumerated(ty, raw, &base, enumeration.get_or_insert_default()),
                Facet::WhiteSpace => self.white_space(ty, raw, base_space),
                Facet::Length | Facet::MinLength | Facet::MaxLength | Facet::TotalDigits | Facet::FractionDigits => {
                    self.size(ty, raw);
                }
                _ => self.bound(ty, raw),
            }
            if raw.fixed {
                ty.facets.fixed |= raw.facet.bit();
            }
        }
        if !patterns.is_empty() {
            // Those of the base are copied.
            self.keep_entries::<Arc<[Pattern]>>(ty.facets.patterns.len().saturating_add(1));
            Arc::make_mut(&mut ty.facets.patterns).push(patterns.into());
        }
        if let Some(enumeration) = enumeration {
            ty.facets.enumeration = Some(Arc::new(enumeration));
        }
        let written = |facet| facets.iter().any(|raw| raw.facet == facet);
        if written(Facet::MinInclusive) && written(Facet::MinExclusive) {
            self.problems.add(place, "minInclusive-minExclusive", "there are both `minInclusive` and `minExclusive`");
        }
        if written(Facet::MaxInclusive) && written(Facet::MaxExclusive) {
            self.problems.add(place, "maxInclusive-maxExclusive", "there are both `maxInclusive` and `maxExclusive`");
        }
        check_sizes(&ty.facets, &base, facets, place, &mut self.problems);
        check_range(&ty.facets, place, &mut self.problems);
        check_against_base(&ty.facets, &base, facets, &mut self.problems);
        check_fixed(&ty.facets, &base, facets, &mut self.problems);
    }

    /// Compiles a pattern, each only once: many types have the same one.
    fn pattern(&mut self, text: &str) -> Result<Pattern, PatternError> {
        if let Some(known) = self.patterns.get(text) {
            return Ok(known.clone());
        }
        let (steps, tables, room) = (&mut self.steps, &mut self.tables, &mut self.room);
        let pattern = Pattern::new(text, &mut Making { steps, tables, room })?;
        self.patterns.insert(text.into(), pattern.clone());
        Ok(pattern)
    }

    fn enumerated(&mut self, ty: &SimpleType, raw: &RawFacet, base: &Facets, values: &mut Enumeration) {
        let around =
            InSchema { prefixes: &raw.prefixes, names: &self.names, notations: &self.components.globals.notations };
        // The type is still a copy of its base but for its new facets, of which enumerated values need none.
        let mut types = std::mem::take(&mut self.simple);
        let index = types.len();
        types.push(SimpleType { facets: base.clone(), constrained: base.any(), ..ty.clone() });
        let id = crate::xsd::datatypes::simple_type::SimpleId(u32::try_from(index).unwrap_or(0));
        let checked = self.values.judge(|work| {
            Checker::new(&types, &around, work).check(id, &raw.value, true, &mut Vec::new()).ok().flatten()
        });
        types.pop();
        self.simple = types;
        match checked.flatten() {
            Some(value) => {
                self.keep_entries::<(Value, u64)>(1);
                self.room.keep(value.size());
                values.add(value, &raw.value);
            }
            None => {
                let message = self.values.explain(&raw.value, "the type that is restricted");
                self.problems.add(raw.place, "enumeration-valid-restriction", message);
            }
        }
    }

    fn white_space(&mut self, ty: &mut SimpleType, raw: &RawFacet, base: WhiteSpace) {
        let space = match &*collapse(&raw.value) {
            "preserve" => WhiteSpace::Preserve,
            "replace" => WhiteSpace::Replace,
            _ => WhiteSpace::Collapse,
        };
        if space < base {
            let message = format!("`whiteSpace` is `{}` in the base, and cannot be weaker", base.as_str());
            self.problems.add(raw.place, "whiteSpace-valid-restriction", message);
        }
        if space != base && ty.facets.fixed & Facet::WhiteSpace.bit() != 0 {
            self.problems.add(raw.place, "whiteSpace-valid-restriction", "`whiteSpace` is fixed in the base");
        }
        ty.white_space = space;
    }

    /// A facet that is a number.
    fn size(&mut self, ty: &mut SimpleType, raw: &RawFacet) {
        let value = number(&collapse(&raw.value));
        let facets = &mut ty.facets;
        let field = match raw.facet {
            Facet::Length => &mut facets.length,
            Facet::MinLength => &mut facets.min_length,
            Facet::MaxLength => &mut facets.max_length,
            Facet::TotalDigits => &mut facets.total_digits,
            _ => &mut facets.fraction_digits,
        };
        *field = Some(value);
        if raw.facet == Facet::TotalDigits && value == 0 {
            self.problems.add(raw.place, "s4s-att-invalid-value", "`totalDigits` must be at least 1");
        }
    }

    fn bound(&mut self, ty: &mut SimpleType, raw: &RawFacet) {
        let text = ty.white_space.apply(&raw.value);
        let form = crate::xsd::datatypes::simple_type::Form::Integer;
        let sound = ty.form != form || is_integer(&text);
        let around = InSchema { prefixes: &[], names: &self.names, notations: &self.components.globals.notations };
        let primitive = ty.primitive().filter(|_| sound);
        let value = self.values.judge(|work| {
            primitive.and_then(|primitive| Checker::new(&self.simple, &around, work).primitive(primitive, &text))
        });
        let Some(value) = value.flatten() else {
            let message = self.values.explain(&raw.value, "the type that is restricted");
            let constraint = match raw.facet {
                Facet::MinInclusive => "minInclusive-valid-restriction",
                Facet::MinExclusive => "minExclusive-valid-restriction",
                Facet::MaxInclusive => "maxInclusive-valid-restriction",
                _ => "maxExclusive-valid-restriction",
            };
            return self.problems.add(raw.place, constraint, message);
        };
        let inclusive = matches!(raw.facet, Facet::MinInclusive | Facet::MaxInclusive);
        let bound = Some(Arc::new(Bound { value, text: text.into(), inclusive }));
        if matches!(raw.facet, Facet::MinInclusive | Facet::MinExclusive) {
            ty.facets.min = bound;
        } else {
            ty.facets.max = bound;
        }
    }
}

/// Lengths and digits among themselves and against the base.
fn check_sizes(own: &Facets, base: &Facets, raw: &[RawFacet], place: Place, problems: &mut Problems) {
    let at = |facet| raw.iter().find(|raw| raw.facet == facet).map(|raw| raw.place);
    let more =
        |ours: Option<u64>, theirs: Option<u64>| matches!((ours, theirs), (Some(ours), Some(theirs)) if ours > theirs);
    if more(own.min_length, own.max_length) {
        problems.add(place, "minLength-less-than-equal-to-maxLength", "`minLength` is greater than `maxLength`");
    }
    if more(own.fraction_digits, own.total_digits) {
        let constraint = "fractionDigits-totalDigits";
        problems.add(place, constraint, "`fractionDigits` is greater than `totalDigits`");
    }
    if let Some(length) = own.length {
        // What the base has already can be repeated.
        let new = |facet, ours: Option<u64>, theirs: Option<u64>| at(facet).is_some() && ours != theirs;
        let written_both = at(Facet::Length).is_some()
            && (new(Facet::MinLength, own.min_length, base.min_length)
                || new(Facet::MaxLength, own.max_length, base.max_length));
        let outside =
            own.min_length.is_some_and(|least| least > length) || own.max_length.is_some_and(|most| most < length);
        if outside || written_both {
            let message = "`length` cannot be used together with `minLength` or `maxLength`";
            problems.add(place, "length-minLength-maxLength", message);
        }
    }
    let mut weaker = |facet: Facet, constraint, wrong: bool| {
        if let Some(place) = at(facet).filter(|_| wrong) {
            let message = format!("`{}` allows more than the base does", facet.name());
            problems.add(place, constraint, message);
        }
    };
    let changed = base.length.is_some() && own.length != base.length;
    weaker(Facet::Length, "length-valid-restriction", changed);
    weaker(Facet::MinLength, "minLength-valid-restriction", more(base.min_length, own.min_length));
    weaker(Facet::MaxLength, "maxLength-valid-restriction", more(own.max_length, base.max_length));
    weaker(Facet::TotalDigits, "totalDigits-valid-restriction", more(own.total_digits, base.total_digits));
    weaker(Facet::FractionDigits, "fractionDigits-valid-restriction", more(own.fraction_digits, base.fraction_digits));
}

/// Facets that are fixed in the base.
fn check_fixed(own: &Facets, base: &Facets, raw: &[RawFacet], problems: &mut Problems) {
    let same = |ours: &Option<Arc<Bound>>, theirs: &Option<Arc<Bound>>| match (ours, theirs) {
        (Some(ours), Some(theirs)) => ours.inclusive == theirs.inclusive && ours.value == theirs.value,
        _ => true,
    };
    for facet in raw {
        if base.fixed & facet.facet.bit() == 0 {
            continue;
        }
        let unchanged = match facet.facet {
            Facet::Length => own.length == base.length,
            Facet::MinLength => own.min_length == base.min_length,
            Facet::MaxLength => own.max_length == base.max_length,
            Facet::TotalDigits => own.total_digits == base.total_digits,
            Facet::FractionDigits => own.fraction_digits == base.fraction_digits,
            Facet::MinInclusive | Facet::MinExclusive => same(&own.min, &base.min),
            Facet::MaxInclusive | Facet::MaxExclusive => same(&own.max, &base.max),
            Facet::Pattern | Facet::Enumeration | Facet::WhiteSpace => true,
        };
        if !unchanged {
            let message = format!("`{}` is fixed in the base, and cannot be changed", facet.facet.name());
            problems.add(facet.place, "facet-fixed", message);
        }
    }
}
