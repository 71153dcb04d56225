//! Which of two values of a setting allows more.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};

use super::value::Value;
use crate::exchange::networks;
use crate::policy::units::{Period, Rate, Size};

/// What a change means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Somebody may do more.
    Gain,
    /// It cannot be ordered, so somebody may do more.
    Unjudged,
    /// Somebody may do less.
    Loss,
    /// Callers may do neither more nor less by it; or, as for a plan that came, what it does shows where it is used.
    Other,
}

/// What it means that a key is not there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Absent {
    /// Everything is allowed: no limit, any network.
    Everything,
    /// Nothing is: an empty list.
    Nothing,
    /// The default.
    Default(&'static str),
    /// That depends on other settings.
    Depends,
}

impl Verdict {
    fn of(order: Option<Ordering>) -> Option<Self> {
        match order {
            Some(Ordering::Equal) => None,
            Some(Ordering::Greater) => Some(Self::Gain),
            Some(Ordering::Less) => Some(Self::Loss),
            None => Some(Self::Unjudged),
        }
    }

    /// What several changes mean together; `None` without any.
    pub(super) fn together(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        all.into_iter().reduce(|one, other| if one == other { one } else { mixed(one, other) })
    }
}

fn mixed(one: Verdict, other: Verdict) -> Verdict {
    match (one, other) {
        (Verdict::Other, judged) | (judged, Verdict::Other) => judged,
        _ => Verdict::Unjudged,
    }
}

/// How much the new value allows, compared with the old one.
type Compared = Option<Ordering>;

/// Sets of texts. `more` is what a larger set is: [`Ordering::Greater`] if it allows more.
pub(super) fn sets(old: Option<&Value>, new: Option<&Value>, absent: Absent, more: Ordering) -> Option<Verdict> {
    // `None` is the set of everything.
    let set = |value: Option<&Value>| match (value, absent) {
        (Some(value), _) => Some(value.texts().into_iter().map(str::to_owned).collect::<BTreeSet<_>>()),
        (None, Absent::Everything) => None,
        (None, Absent::Default(list)) => Some(list.split(' ').map(str::to_owned).collect()),
        (None, Absent::Nothing | Absent::Depends) => Some(BTreeSet::new()),
    };
    if matches!(absent, Absent::Depends) && old.is_some() != new.is_some() {
        return Some(Verdict::Unjudged);
    }
    let order = match (set(old), set(new)) {
        (None, None) => Some(Ordering::Equal),
        (None, Some(_)) => Some(Ordering::Less),
        (Some(_), None) => Some(Ordering::Greater),
        (Some(old), Some(new)) => subsets(&old, &new),
    };
    Verdict::of(order.map(|order| if more == Ordering::Greater { order } else { order.reverse() }))
}

/// How a set compares with another one: `None` if each has something that the other lacks.
pub(super) fn subsets<T: Ord>(old: &BTreeSet<T>, new: &BTreeSet<T>) -> Compared {
    match (old.is_subset(new), new.is_subset(old)) {
        (true, true) => Some(Ordering::Equal),
        (true, false) => Some(Ordering::Greater),
        (false, true) => Some(Ordering::Less),
        (false, false) => None,
    }
}

/// Lists of networks, of which more allow more.
pub(super) fn networks(old: Option<&Value>, new: Option<&Value>, absent: Absent) -> Option<Verdict> {
    let everything = || vec![Ok(IpNet::V4(ipnet::Ipv4Net::default())), Ok(IpNet::V6(ipnet::Ipv6Net::default()))];
    let read = |value: Option<&Value>| -> Option<Vec<IpNet>> {
        let all = match (value, absent) {
            (Some(value), _) => value.texts().into_iter().map(|text| networks::network(text).ok_or(())).collect(),
            (None, Absent::Everything) => everything(),
            (None, _) => Vec::new(),
        };
        // Two halves are their whole: what is written in parts compares like what is written at once.
        all.into_iter().collect::<Result<Vec<_>, ()>>().ok().map(|all| IpNet::aggregate(&all))
    };
    let order = read(old).zip(read(new)).and_then(|(old, new)| {
        let within =
            |one: &[IpNet], other: &[IpNet]| one.iter().all(|one| other.iter().any(|other| other.contains(one)));
        match (within(&old, &new), within(&new, &old)) {
            (true, true) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Greater),
            (false, true) => Some(Ordering::Less),
            (false, false) => None,
        }
    });
    Verdict::of(order)
}

/// Quantities. `more` is what a larger one is: [`Ordering::Greater`] if it allows more.
pub(super) fn quantities(old: Option<&Value>, new: Option<&Value>, absent: Absent, more: Ordering) -> Option<Verdict> {
    // `None` is no limit.
    let read = |value: Option<&Value>| -> Result<Option<Quantity>, ()> {
        let text = match (value, absent) {
            (Some(value), _) => value.text().ok_or(())?,
            (None, Absent::Default(text)) => text,
            (None, Absent::Everything) => return Ok(None),
            (None, Absent::Nothing | Absent::Depends) => return Err(()),
        };
        Quantity::read(text).map(Some).ok_or(())
    };
    let order = match (read(old), read(new)) {
        (Ok(None), Ok(None)) => Some(Ordering::Equal),
        (Ok(None), Ok(Some(_))) => return Some(Verdict::Loss),
        (Ok(Some(_)), Ok(None)) => return Some(Verdict::Gain),
        (Ok(Some(old)), Ok(Some(new))) => new.compare(&old),
        _ => None,
    };
    Verdict::of(order.map(|order| if more == Ordering::Greater { order } else { order.reverse() }))
}

/// Rates of which the count is also how much is allowed at once: what is slower may allow more at once.
pub(super) fn counted(old: Option<&Value>, new: Option<&Value>, absent: Absent) -> Option<Verdict> {
    let default = match absent {
        Absent::Default(text) => Some(text),
        _ => None,
    };
    let count = |value: Option<&Value>| -> Option<u32> {
        let Rate { count, .. } = parsed(value.map_or(default, Value::text)?)?;
        Some(count.get())
    };
    let rate = quantities(old, new, absent, Ordering::Greater);
    match (count(old), count(new)) {
        (Some(one), Some(other)) => Verdict::together(rate.into_iter().chain(Verdict::of(Some(other.cmp(&one))))),
        // It came or went, or the rate says that it cannot be read.
        _ => rate,
    }
}

/// URLs of servers: while their schemes and base paths are the same, callers reach the same paths of them.
pub(super) fn servers(old: Option<&Value>, new: Option<&Value>) -> Option<Verdict> {
    let shapes = |value: Option<&Value>| -> Option<BTreeSet<(String, String)>> {
        let shape = |text: &&str| {
            let (scheme, rest) = text.split_once("://")?;
            let path = rest.split_once('/').map_or("", |(_, path)| path);
            Some((scheme.to_owned(), path.trim_end_matches('/').to_owned()))
        };
        value?.texts().iter().map(shape).collect()
    };
    let is_same = shapes(old).is_some_and(|old| Some(old) == shapes(new));
    Some(if is_same { Verdict::Other } else { Verdict::Unjudged })
}

/// Reads a text of the policy language.
fn parsed<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    let deserializer: StrDeserializer<'a, Error> = text.into_deserializer();
    T::deserialize(deserializer).ok()
}

/// A quantity of the policy language as a fraction.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Quantity {
    count: i128,
    per: i128,
}

impl Quantity {
    /// Reads a number, a duration, a size, a rate or a time.
    pub(super) fn read(text: &str) -> Option<Self> {
        let whole = |count: i128| Self { count, per: 1 };
        let nanoseconds = |duration: std::time::Duration| i128::try_from(duration.as_nanos()).ok();
        if let Ok(number) = text.parse::<u64>() {
            return Some(whole(number.into()));
        }
        if let Some(Period(duration)) = parsed(text) {
            return nanoseconds(duration).map(whole);
        }
        if let Some(Size(bytes)) = parsed(text) {
            return Some(whole(bytes.into()));
        }
        if let Some(Rate { count, per }) = parsed(text) {
            return Some(Self { count: count.get().into(), per: nanoseconds(per)? });
        }
        text.parse::<Timestamp>().ok().map(|time| whole(time.as_nanosecond()))
    }

    fn compare(&self, other: &Self) -> Compared {
        Some(self.count.checked_mul(other.per)?.cmp(&other.count.checked_mul(self.per)?))
    }
}

/// Words, of which later ones allow more.
pub(super) fn ranked(
    old: Option<&Value>,
    new: Option<&Value>,
    words: &[&str],
    default: Option<&'static str>,
) -> Option<Verdict> {
    let rank = |value: Option<&Value>| {
        let word = value.map_or(default, Value::text)?;
        words.iter().position(|known| *known == word)
    };
    Verdict::of(rank(old).zip(rank(new)).map(|(old, new)| new.cmp(&old)))
}

/// Quotas: one, or a list; a further one, or a lower one, allows less.
pub(super) fn quotas(old: Option<&Value>, new: Option<&Value>) -> Option<Verdict> {
    let read = |value: Option<&Value>| -> Option<Vec<(String, u64)>> {
        let items = value.map(Value::items).unwrap_or_default();
        items.iter().map(quota).collect()
    };
    let Some((old, new)) = read(old).zip(read(new)) else { return Some(Verdict::Unjudged) };
    let of = |all: &[(String, u64)], window: &str| {
        all.iter().filter(|(known, _)| known == window).map(|(_, count)| *count).min().unwrap_or(u64::MAX)
    };
    let windows: BTreeSet<&str> = old.iter().chain(&new).map(|(window, _)| window.as_str()).collect();
    let changes = windows.into_iter().map(|window| of(&new, window).cmp(&of(&old, window)));
    Verdict::together(changes.filter_map(|order| Verdict::of(Some(order))))
}

/// The window of a quota, and how much it allows.
fn quota(value: &Value) -> Option<(String, u64)> {
    let count = value.get("count").unwrap_or(value).text()?;
    let zone = value.get("zone").and_then(Value::text).unwrap_or("UTC");
    let (count, unit) = count.split_once('/')?;
    Some((format!("{unit} {zone}"), count.parse().ok()?))
}

/// What replaces a masked value: the less of it, the less it shows.
pub(super) fn replacements(old: Option<&Value>, new: Option<&Value>) -> Option<Verdict> {
    let read = |value: Option<&Value>| match value.map_or(Some("remove"), Value::text)? {
        "remove" => Some(0_u64),
        // That there is something shows.
        "null" | "~" | "" => Some(1),
        "***" => Some(2),
        other => other.strip_prefix("keep_last ")?.trim().parse::<u64>().ok()?.checked_add(2),
    };
    Verdict::of(read(old).zip(read(new)).map(|(old, new)| new.cmp(&old)))
}
