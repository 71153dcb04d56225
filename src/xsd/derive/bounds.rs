//! Bounds of ordered types: among themselves, and against those of the base (XSD 1.0 Part 2, §4.3.7 to §4.3.10).

use std::cmp::Ordering;

use crate::xsd::components::model::RawFacet;
use crate::xsd::datatypes::facets::{Bound, Facet, Facets};
use crate::xsd::problem::{Place, Problems};

/// Whether the least value is above the greatest.
pub(super) fn check_range(own: &Facets, place: Place, problems: &mut Problems) {
    let (Some(min), Some(max)) = (&own.min, &own.max) else { return };
    let order = min.value.compare(&max.value);
    let wrong = match (min.inclusive, max.inclusive) {
        (true, true) | (false, false) => order == Some(Ordering::Greater),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    };
    if wrong {
        let constraint = match (min.inclusive, max.inclusive) {
            (true, true) => "minInclusive-less-than-equal-to-maxInclusive",
            (false, false) => "minExclusive-less-than-equal-to-maxExclusive",
            (true, false) => "minInclusive-less-than-maxExclusive",
            (false, true) => "minExclusive-less-than-maxInclusive",
        };
        problems.add(
            place,
            constraint,
            format!("the least value, `{}`, is above the greatest, `{}`", min.text, max.text),
        );
    }
}

/// Whether a bound is outside of those of the base.
pub(super) fn check_against_base(own: &Facets, base: &Facets, raw: &[RawFacet], problems: &mut Problems) {
    for facet in raw {
        let (bound, lower, constraint) = match facet.facet {
            Facet::MinInclusive => (&own.min, true, "minInclusive-valid-restriction"),
            Facet::MinExclusive => (&own.min, true, "minExclusive-valid-restriction"),
            Facet::MaxInclusive => (&own.max, false, "maxInclusive-valid-restriction"),
            Facet::MaxExclusive => (&own.max, false, "maxExclusive-valid-restriction"),
            _ => continue,
        };
        let Some(bound) = bound else { continue };
        let below = base.min.as_deref().is_some_and(|limit| outside(bound, limit, Ordering::Less, lower));
        let above = base.max.as_deref().is_some_and(|limit| outside(bound, limit, Ordering::Greater, !lower));
        if below || above {
            let message = format!("`{}` is `{}`, outside of the bounds of the base", facet.facet.name(), bound.text);
            problems.add(facet.place, constraint, message);
        }
    }
}

/// Whether a bound is on this side of a limit of the base. `same` tells that both are lower or both upper bounds.
fn outside(bound: &Bound, limit: &Bound, side: Ordering, same: bool) -> bool {
    match bound.value.compare(&limit.value) {
        Some(Ordering::Equal) => !limit.inclusive && (bound.inclusive || !same),
        Some(order) => order == side,
        None => false,
    }
}
