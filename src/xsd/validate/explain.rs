//! Violations of simple types in plain words. Values of the document are never in them.

use crate::xsd::components::model::TypeId;
use crate::xsd::datatypes::check::{Fault, Violated};
use crate::xsd::datatypes::facets::Bound;
use crate::xsd::datatypes::simple_type::{SimpleType, Variety};
use crate::xsd::schema::Schema;

/// The name of the constraint that is violated, and what is wrong with a value of this length.
pub(super) fn explain(schema: &Schema, fault: Fault, length: Option<u64>) -> (&'static str, String) {
    let Some(ty) = schema.simple.get(fault.ty.index()) else {
        return ("cvc-datatype-valid", "the value violates its type".to_owned());
    };
    let facets = &ty.facets;
    let number = |value: Option<u64>| value.unwrap_or(0);
    let bound = |bound: &Option<std::sync::Arc<Bound>>| {
        bound.as_ref().map_or((String::new(), true), |bound| (bound.text.to_string(), bound.inclusive))
    };
    let sized = |what: &str, limit: Option<u64>| match length {
        Some(length) => format!("the value has a length of `{length}`; this {what} length of `{}`", number(limit)),
        None => format!("the length of an item {what} length of `{}`", number(limit)),
    };
    match fault.violated {
        Violated::Form | Violated::Members => {
            ("cvc-datatype-valid.1", format!("the value is not of {}", named(schema, ty, fault)))
        }
        Violated::Notation => ("cvc-datatype-valid.1", "the schema declares no notation of this name".to_owned()),
        Violated::Length => ("cvc-length-valid", sized("differs from the allowed", facets.length)),
        Violated::MinLength => ("cvc-minLength-valid", sized("underruns the allowed minimum", facets.min_length)),
        Violated::MaxLength => ("cvc-maxLength-valid", sized("exceeds the allowed maximum", facets.max_length)),
        Violated::Pattern(index) => {
            let patterns = facets.patterns.get(index).map_or(&[][..], |patterns| patterns);
            let shown: Vec<String> = patterns.iter().take(3).map(|pattern| format!("`{}`", pattern.text())).collect();
            ("cvc-pattern-valid", format!("the value does not match the pattern {}", shown.join(" or ")))
        }
        Violated::Enumeration => {
            let shown = facets.enumeration.as_ref().map_or("", |enumeration| &enumeration.shown);
            ("cvc-enumeration-valid", format!("the value is none of {{{shown}}}"))
        }
        Violated::Min => match bound(&facets.min) {
            (text, true) => ("cvc-minInclusive-valid", format!("the value is less than the minimum, `{text}`")),
            (text, false) => ("cvc-minExclusive-valid", format!("the value must be greater than `{text}`")),
        },
        Violated::Max => match bound(&facets.max) {
            (text, true) => ("cvc-maxInclusive-valid", format!("the value is greater than the maximum, `{text}`")),
            (text, false) => ("cvc-maxExclusive-valid", format!("the value must be less than `{text}`")),
        },
        Violated::TotalDigits => {
            ("cvc-totalDigits-valid", format!("the value has more digits than `{}`", number(facets.total_digits)))
        }
        Violated::FractionDigits => {
            let most = number(facets.fraction_digits);
            ("cvc-fractionDigits-valid", format!("the value has more digits after the point than `{most}`"))
        }
    }
}

fn named(schema: &Schema, ty: &SimpleType, fault: Fault) -> String {
    let kind = match ty.variety {
        Variety::List(_) => "the list type",
        Variety::Union(_) => "the union type",
        _ => "the atomic type",
    };
    // The nearest type that has a name.
    let mut at = fault.ty;
    for _ in 0..64 {
        let Some(found) = schema.simple.get(at.index()) else { break };
        if found.name.is_some() {
            return format!("{kind} {}", schema.show_type(TypeId::Simple(at)));
        }
        at = found.base;
    }
    kind.to_owned()
}
