//! `plans`: the limits of consumers.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use crate::policy::units::{CalendarCount, Rate};

/// Limits of a consumer.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Plan {
    /// Sustained rate per consumer. Required.
    pub(crate) rate: Option<Rate>,
    /// Number of requests that may come at once. Default: one second's worth, at least 1.
    pub(crate) burst: Option<u32>,
    /// What may be used in each hour, day or month of the calendar, such as `10000/day`; one, or a list. Default: no limit.
    pub(crate) quota: Option<Quotas>,
    /// Additional sustained rate for each user that the consumer acts for. Default: no limit.
    pub(crate) per_user: Option<Rate>,
    /// Number of requests that may be under way at the same time, on each node. Default: no limit.
    #[schemars(range(min = 1))]
    pub(crate) concurrent: Option<u32>,
    /// Whose requests are counted together. Default: `consumer`, each alone.
    #[schemars(extend("default" = "consumer"))]
    pub(crate) count_by: Option<CountBy>,
    /// Tighter limits: a class of routes and the rate of all its routes together, or a map with `rate` and `quota`.
    pub(crate) classes: BTreeMap<String, Class>,
}

/// Whose requests count together against a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CountBy {
    /// Those of a consumer.
    Consumer,
    /// Those of all consumers with the same `organization`.
    Organization,
}

/// Limits of a class of routes: `report: 1/s`, or a map.
#[derive(Debug, Default)]
pub(crate) struct Class {
    pub(crate) rate: Option<Rate>,
    pub(crate) burst: Option<u32>,
    pub(crate) quota: Option<Quotas>,
}

/// Limits of a class of routes.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Class")]
#[schemars(inline)]
pub(super) struct ClassMap {
    /// Sustained rate of all routes of the class together. Required without `quota`.
    rate: Option<Rate>,
    /// Number of requests that may come at once. Default: one second's worth, at least 1.
    burst: Option<u32>,
    /// What may be used in each hour, day or month of the calendar; one, or a list.
    quota: Option<Quotas>,
}

/// Quotas: one, or a list.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    pub(crate) all: Vec<Quota>,
    /// Whether they were written as a list.
    pub(crate) is_list: bool,
}

/// A quota: `10000/day`, or a map with a time zone.
#[derive(Debug)]
pub(crate) struct Quota {
    pub(crate) count: CalendarCount,
    pub(crate) zone: Option<String>,
}

/// A quota in a time zone.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "Quota")]
#[schemars(inline)]
pub(super) struct QuotaMap {
    /// How much in each hour, day or month.
    count: CalendarCount,
    /// Time zone of the calendar, such as `Europe/Berlin`. Default: UTC.
    #[serde(default)]
    zone: Option<String>,
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Class;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate such as `10/s`, or a map with `rate` and `quota`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Class, E> {
                Rate::deserialize(text.into_deserializer()).map(|rate| Class { rate: Some(rate), ..Class::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Class, A::Error> {
                let ClassMap { rate, burst, quota } = ClassMap::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Class { rate, burst, quota })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Quota {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Quota;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quota such as `10000/day`, or a map with `count` and `zone`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Quota, E> {
                CalendarCount::deserialize(text.into_deserializer()).map(|count| Quota { count, zone: None })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Quota, A::Error> {
                let QuotaMap { count, zone } = QuotaMap::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Quota { count, zone })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Quotas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Quotas;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quota such as `10000/day`, a map with `count` and `zone`, or a list of them")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Quotas, E> {
                Ok(Quotas { all: vec![Quota::deserialize(text.into_deserializer())?], is_list: false })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Quotas, A::Error> {
                Ok(Quotas { all: vec![Quota::deserialize(MapAccessDeserializer::new(map))?], is_list: false })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Quotas, A::Error> {
                Ok(Quotas { all: Vec::deserialize(SeqAccessDeserializer::new(list))?, is_list: true })
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}
