//! Judges a text by a simple type (XSD 1.0 Part 2, §4.1.4 and §4.3).

use std::borrow::Cow;
use std::cmp::Ordering;

use super::binary;
use super::date_time::Moment;
use super::decimal::{Decimal, is_integer};
use super::duration::Duration;
use super::facets::{Bound, Facets};
use super::float;
use super::simple_type::{Form, Role, SimpleId, SimpleType, Variety};
use super::text::{WhiteSpace, is_any_uri, is_language, words};
use super::value::{Primitive, Value};
use super::work::Work;
use crate::xsd::chars::{is_name, is_nc_name, is_nmtoken, split_qname};
use crate::xsd::pattern::Pattern;

/// What a text needs from around it.
pub(crate) trait Surroundings {
    /// The namespace that a prefix is bound to; for the empty prefix the default one, or the empty string.
    fn namespace(&self, prefix: &str) -> Option<&str>;
    /// Whether the schema declares a notation.
    fn has_notation(&self, namespace: &str, local: &str) -> bool;
}

/// Which rule a text violates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Violated {
    /// The lexical form.
    Form,
    Length,
    MinLength,
    MaxLength,
    /// The patterns of this derivation.
    Pattern(usize),
    Enumeration,
    Min,
    Max,
    TotalDigits,
    FractionDigits,
    /// None of a union's types has it.
    Members,
    /// The notation is not declared.
    Notation,
}

/// Why a text is not of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The type whose rule is violated.
    pub(crate) ty: SimpleId,
    pub(crate) violated: Violated,
}

/// The identifiers in a value.
pub(crate) type Roles = Vec<(Role, Box<str>)>;

/// Texts longer than this, in bytes, are looked through only until the first rule that they violate.
const LONG: usize = 256;
/// Bytes of a text that are looked at in a step; of numbers, whose digits are looked at several times; and of binary fractions, which
/// may need an exact conversion.
const BYTES: usize = 16;
const NUMBER_BYTES: usize = 8;
const FRACTION_BYTES: usize = 2;
/// Steps for a binary fraction, or for comparing durations.
const FRACTION: usize = 4;
const EXACT: usize = 300;
const EXACT_PLAIN: usize = 30;
const DURATION: usize = 12;
/// Digits of which a binary fraction is made without an exact conversion.
const EXACT_DIGITS: usize = 19;
/// Steps to find the namespace of a prefix.
const PREFIX: usize = 4;
/// Bytes that a role takes beside its text.
const ROLE: usize = 48;

/// The simple types of a schema, and what a text needs from around it. Where too little work is left, what it finds is worth
/// nothing; see [`Work::is_short`].
#[derive(Clone, Copy)]
pub(crate) struct Checker<'a> {
    types: &'a [SimpleType],
    around: &'a dyn Surroundings,
    work: &'a Work,
}

impl<'a> Checker<'a> {
    /// Returns a checker.
    pub(crate) fn new(types: &'a [SimpleType], around: &'a dyn Surroundings, work: &'a Work) -> Self {
        Self { types, around, work }
    }

    /// Checks a text as it stands in the document, and returns its value if it is wanted.
    ///
    /// Recurses from unions and lists to their types, whose nesting the schema's own compilation bounds.
    pub(crate) fn check(
        &self,
        id: SimpleId,
        text: &str,
        wanted: bool,
        roles: &mut Roles,
    ) -> Result<Option<Value>, Fault> {
        self.judge(id, text, wanted, roles).map(|(value, _)| value)
    }

    /// The same, with the white space of the type that has the text, which is a union's member.
    fn judge(
        &self,
        id: SimpleId,
        text: &str,
        wanted: bool,
        roles: &mut Roles,
    ) -> Result<(Option<Value>, WhiteSpace), Fault> {
        let fail = |violated| Err(Fault { ty: id, violated });
        let Some(ty) = self.types.get(id.index()) else { return fail(Violated::Form) };
        if !self.work.take(1 + text.len() / BYTES) {
            return fail(Violated::Form);
        }
        let space = ty.white_space;
        match &ty.variety {
            Variety::Any => Ok((wanted.then(|| Value::Text(text.into())), space)),
            Variety::Atomic(primitive) => {
                // Base64 has its own white space, and is often long: it is only copied if a pattern has to match it.
                let as_written = *primitive == Primitive::Base64Binary && ty.facets.patterns.is_empty();
                let text = if as_written { Cow::Borrowed(text) } else { ty.white_space.apply(text) };
                Ok((self.atomic(id, ty, *primitive, &text, wanted, roles)?, space))
            }
            Variety::List(item) => {
                let text = ty.white_space.apply(text);
                let listed = |count| ty.facets.enumeration.as_ref().is_some_and(|listed| listed.may_have(count));
                let (mut values, mut count) = (Vec::new(), 0_usize);
                for word in words(&text) {
                    count += 1;
                    let wanted = wanted || listed(count);
                    let Some(value) = self.check(*item, word, wanted, roles)?.filter(|_| wanted) else { continue };
                    if !self.work.take_memory(value.size()) {
                        return fail(Violated::Form);
                    }
                    values.push(value);
                }
                let value = (wanted || listed(count)).then_some(Value::List(values));
                self.facets(id, ty, &text, value.as_ref(), || count as u64)?;
                Ok((value, space))
            }
            Variety::Union(members) => {
                let wanted = wanted || ty.facets.enumeration.is_some();
                let before = roles.len();
                for member in members.iter() {
                    match self.judge(*member, text, wanted, roles) {
                        Ok((value, space)) => {
                            self.facets(id, ty, &space.apply(text), value.as_ref(), || 0)?;
                            return Ok((value, space));
                        }
                        Err(_) => roles.truncate(before),
                    }
                }
                fail(Violated::Members)
            }
        }
    }

    /// The value of a text of a primitive type, whose white space is as it has to be.
    pub(crate) fn primitive(&self, primitive: Primitive, text: &str) -> Option<Value> {
        self.value(primitive, text, true).ok().flatten()
    }

    /// A text with the white space of a type.
    pub(crate) fn normalized<'t>(&self, id: SimpleId, text: &'t str) -> Cow<'t, str> {
        self.types.get(id.index()).map_or(Cow::Borrowed(text), |ty| ty.white_space.apply(text))
    }

    /// All rules that a text violates which is not of the type `id`, given the first one. It is the only one of a long text, or if
    /// an item or a member type has it: its own text is not known.
    pub(crate) fn all_faults(&self, id: SimpleId, fault: Fault, text: &str) -> Vec<Fault> {
        let known = self.types.get(id.index()).filter(|_| fault.ty == id && text.len() <= LONG);
        let Some(ty) = known else { return vec![fault] };
        let text = ty.white_space.apply(text);
        let (value, length) = match &ty.variety {
            Variety::Atomic(primitive) => (self.primitive(*primitive, &text), length(*primitive, &text, &ty.facets)),
            Variety::List(item) => {
                let items: Option<Vec<Value>> =
                    words(&text).map(|word| self.check(*item, word, true, &mut Roles::new()).ok().flatten()).collect();
                (items.map(Value::List), words(&text).count() as u64)
            }
            _ => return vec![fault],
        };
        if matches!(fault.violated, Violated::Form | Violated::Members | Violated::Notation) {
            return vec![fault];
        }
        let facets = &ty.facets;
        let mut all: Vec<Violated> = Vec::new();
        all.extend(within_length(facets, || length));
        all.extend(within_bounds(facets, &text, value.as_ref()));
        all.extend(within_digits(facets, &text));
        all.extend(within_values(facets, &text, value.as_ref()));
        all.extend(
            facets.patterns.iter().position(|patterns| !self.matches_one(patterns, &text)).map(Violated::Pattern),
        );
        if !all.contains(&fault.violated) {
            all.insert(0, fault.violated);
        }
        all.into_iter().map(|violated| Fault { violated, ..fault }).collect()
    }

    /// How long a text is that has a fault, for the facets of the type `id`; `None` if the fault is that of an item.
    pub(crate) fn length(&self, id: SimpleId, fault: Fault, text: &str) -> Option<u64> {
        let ty = self.types.get(id.index()).filter(|_| fault.ty == id)?;
        let text = ty.white_space.apply(text);
        Some(match &ty.variety {
            Variety::Atomic(primitive) => length(*primitive, &text, &ty.facets),
            _ => words(&text).count() as u64,
        })
    }

    fn atomic(
        &self,
        id: SimpleId,
        ty: &SimpleType,
        primitive: Primitive,
        text: &str,
        wanted: bool,
        roles: &mut Roles,
    ) -> Result<Option<Value>, Fault> {
        let fail = |violated| Err(Fault { ty: id, violated });
        let formed = match ty.form {
            Form::Primitive => true,
            Form::Integer => is_integer(text),
            Form::Language => is_language(text),
            Form::Nmtoken => is_nmtoken(text),
            Form::Name => is_name(text),
            Form::NcName => is_nc_name(text),
        };
        if !formed {
            return fail(Violated::Form);
        }
        let bounds = [&ty.facets.min, &ty.facets.max];
        let bounded = bounds.iter().any(|bound| bound.is_some());
        let sizes = bounds.iter().filter_map(|bound| bound.as_ref()).map(|bound| bound.text.len());
        if !self.work.take(cost(primitive, text, bounded, sizes.sum())) {
            return fail(Violated::Form);
        }
        let by_value = wanted
            || (bounded && primitive != Primitive::Decimal)
            || (ty.facets.enumeration.is_some() && primitive != Primitive::String);
        let value = match self.value(primitive, text, by_value) {
            Ok(value) => value,
            Err(violated) => return fail(violated),
        };
        if ty.constrained {
            self.facets(id, ty, text, value.as_ref(), || length(primitive, text, &ty.facets))?;
        }
        if ty.role != Role::None && !roles.last().is_some_and(|(role, last)| *role == Role::IdRef && **last == *text) {
            if !self.work.take_memory(text.len().saturating_add(ROLE)) {
                return fail(Violated::Form);
            }
            roles.push((ty.role, text.into()));
        }
        Ok(value)
    }

    /// Checks the lexical form of a primitive type, and makes the value if it is wanted.
    fn value(&self, primitive: Primitive, text: &str, wanted: bool) -> Result<Option<Value>, Violated> {
        let value = match primitive {
            Primitive::String => return Ok(wanted.then(|| Value::Text(text.into()))),
            Primitive::AnyUri if is_any_uri(text) => return Ok(wanted.then(|| Value::Uri(text.into()))),
            Primitive::AnyUri => None,
            Primitive::Boolean => match text {
                "true" | "1" => Some(Value::Boolean(true)),
                "false" | "0" => Some(Value::Boolean(false)),
                _ => None,
            },
            Primitive::Decimal => match Decimal::parse(text) {
                Some(decimal) => return Ok(wanted.then(|| Value::Decimal(decimal.to_owned()))),
                None => None,
            },
            Primitive::Float => float::parse_float(text).map(Value::Float),
            Primitive::Double => float::parse_double(text).map(Value::Double),
            Primitive::Duration => Duration::parse(text).map(Value::Duration),
            Primitive::Moment(kind) => Moment::parse(kind, text).map(Value::Moment),
            Primitive::HexBinary if !wanted => return known(binary::hex_length(text)),
            Primitive::HexBinary => binary::hex_bytes(text).map(Value::Hex),
            Primitive::Base64Binary if !wanted => return known(binary::base64_length(text)),
            Primitive::Base64Binary => binary::base64_bytes(text).map(Value::Base64),
            Primitive::QName | Primitive::Notation => {
                let (prefix, local) = split_qname(text).ok_or(Violated::Form)?;
                let namespace = self.around.namespace(prefix).ok_or(Violated::Form)?;
                // It is looked at, or copied.
                if !self.work.take(namespace.len() / BYTES) {
                    return Err(Violated::Form);
                }
                if primitive == Primitive::QName {
                    return Ok(wanted.then(|| Value::QName(namespace.into(), local.into())));
                }
                if !self.around.has_notation(namespace, local) {
                    return Err(Violated::Notation);
                }
                return Ok(wanted.then(|| Value::Notation(namespace.into(), local.into())));
            }
        };
        value.ok_or(Violated::Form).map(Some)
    }

    /// Checks the facets of a type.
    fn facets(
        &self,
        id: SimpleId,
        ty: &SimpleType,
        text: &str,
        value: Option<&Value>,
        length: impl FnOnce() -> u64,
    ) -> Result<(), Fault> {
        let facets = &ty.facets;
        let violated = within_length(facets, length)
            .or_else(|| within_digits(facets, text))
            .or_else(|| within_bounds(facets, text, value))
            .or_else(|| {
                facets.patterns.iter().position(|patterns| !self.matches_one(patterns, text)).map(Violated::Pattern)
            })
            .or_else(|| within_values(facets, text, value));
        violated.map_or(Ok(()), |violated| Err(Fault { ty: id, violated }))
    }

    fn matches_one(&self, patterns: &[Pattern], text: &str) -> bool {
        patterns.iter().any(|pattern| pattern.matches(text, self.work))
    }
}

/// Steps to judge a text by a primitive type, with bounds whose texts have so many bytes, beside those to read it.
fn cost(primitive: Primitive, text: &str, bounded: bool, bounds: usize) -> usize {
    let bytes = text.len().saturating_add(bounds);
    match primitive {
        Primitive::Decimal if bounded => bytes / NUMBER_BYTES,
        Primitive::Decimal => text.len() / BYTES,
        Primitive::Float | Primitive::Double if digits(text) > EXACT_DIGITS => {
            // Only one with an exponent takes very long.
            let exact = if text.contains(['e', 'E']) { EXACT } else { EXACT_PLAIN };
            exact.saturating_add(bytes / FRACTION_BYTES)
        }
        Primitive::Float | Primitive::Double => FRACTION,
        Primitive::Duration | Primitive::Moment(_) if bounded => DURATION.saturating_add(bytes / NUMBER_BYTES),
        Primitive::QName | Primitive::Notation => PREFIX,
        _ => 0,
    }
}

/// Digits of a number before its exponent, without zeros before them.
fn digits(text: &str) -> usize {
    let digits = text.bytes().take_while(|byte| !matches!(byte, b'e' | b'E')).filter(u8::is_ascii_digit);
    digits.skip_while(|digit| *digit == b'0').count()
}

fn known(length: Option<usize>) -> Result<Option<Value>, Violated> {
    length.map(|_| None).ok_or(Violated::Form)
}

/// The length of an atomic value, in characters or bytes. Qualified names have whatever length is asked for, as theirs
/// would depend on the prefix.
fn length(primitive: Primitive, text: &str, facets: &Facets) -> u64 {
    let length = match primitive {
        Primitive::QName | Primitive::Notation => {
            return facets.length.or(facets.min_length).or(facets.max_length).unwrap_or(0);
        }
        Primitive::HexBinary => binary::hex_length(text).unwrap_or(0),
        Primitive::Base64Binary => binary::base64_length(text).unwrap_or(0),
        _ if text.is_ascii() => text.len(),
        _ => text.chars().count(),
    };
    length as u64
}

fn within_length(facets: &Facets, length: impl FnOnce() -> u64) -> Option<Violated> {
    if !facets.has_length() {
        return None;
    }
    let length = length();
    if facets.length.is_some_and(|exact| length != exact) {
        Some(Violated::Length)
    } else if facets.min_length.is_some_and(|least| length < least) {
        Some(Violated::MinLength)
    } else if facets.max_length.is_some_and(|most| length > most) {
        Some(Violated::MaxLength)
    } else {
        None
    }
}

fn within_values(facets: &Facets, text: &str, value: Option<&Value>) -> Option<Violated> {
    let enumeration = facets.enumeration.as_ref()?;
    let contained = match value {
        Some(value) => enumeration.contains(value),
        None => enumeration.contains_text(text),
    };
    (!contained).then_some(Violated::Enumeration)
}

fn within_digits(facets: &Facets, text: &str) -> Option<Violated> {
    if facets.total_digits.is_none() && facets.fraction_digits.is_none() {
        return None;
    }
    let decimal = Decimal::parse(text)?;
    if facets.total_digits.is_some_and(|most| decimal.total_digits() as u64 > most) {
        Some(Violated::TotalDigits)
    } else if facets.fraction_digits.is_some_and(|most| decimal.fraction_digits() as u64 > most) {
        Some(Violated::FractionDigits)
    } else {
        None
    }
}

fn within_bounds(facets: &Facets, text: &str, value: Option<&Value>) -> Option<Violated> {
    let order = |bound: &Bound| match (&bound.value, value) {
        (Value::Decimal(bound), None) => Decimal::parse(text).map(|decimal| decimal.cmp(&bound.borrow())),
        (bound, Some(value)) => value.compare(bound),
        (_, None) => None,
    };
    let allowed = |bound: &Bound, side: Ordering| match order(bound) {
        Some(Ordering::Equal) => bound.inclusive,
        Some(order) => order == side,
        None => false,
    };
    if facets.min.as_deref().is_some_and(|bound| !allowed(bound, Ordering::Greater)) {
        Some(Violated::Min)
    } else if facets.max.as_deref().is_some_and(|bound| !allowed(bound, Ordering::Less)) {
        Some(Violated::Max)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::builtin;
    use super::*;
    use crate::xsd::names::{Names, QName, Sym};

    struct Nothing;

    impl Surroundings for Nothing {
        fn namespace(&self, prefix: &str) -> Option<&str> {
            (prefix == "p").then_some("urn:p")
        }
        fn has_notation(&self, _: &str, local: &str) -> bool {
            local == "gif"
        }
    }

    #[test]
    fn built_in_types() {
        let mut names = Names::new();
        let types = builtin::types(&mut names);
        for (name, text, expected) in [
            ("string", " any ", true),
            ("boolean", " true\n", true),
            ("boolean", "TRUE", false),
            ("integer", "+007", true),
            ("integer", "1.0", false),
            ("byte", "127", true),
            ("byte", "128", false),
            ("byte", "-129", false),
            ("unsignedLong", "18446744073709551615", true),
            ("unsignedLong", "18446744073709551616", false),
            ("positiveInteger", "0", false),
            ("negativeInteger", "-1", true),
            ("decimal", "1.50", true),
            ("language", "en-US", true),
            ("NCName", "a:b", false),
            ("NMTOKENS", "a -b", true),
            ("NMTOKENS", "  ", false),
            ("QName", "p:a", true),
            ("QName", "q:a", false),
            ("NOTATION", "p:gif", true),
            ("NOTATION", "p:jpg", false),
            ("anySimpleType", "x", true),
            ("hexBinary", "0fa", false),
        ] {
            let local = names.intern(name);
            let id = types.iter().position(|ty| ty.name == Some(QName::new(Sym::XSD, local))).unwrap();
            let work = Work::in_schema();
            let checker = Checker::new(&types, &Nothing, &work);
            let result = checker.check(SimpleId(id as u32), text, true, &mut Vec::new());
            assert_eq!(result.is_ok(), expected, "{name} {text}");
        }
    }
}
