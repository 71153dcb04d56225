//! `secrets.watch`, as written.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IntoDeserializer, MapAccess, Visitor};

use crate::policy::units::Period;

/// Whether files that change are loaded without being asked: `watch: 5s` is short for `watch: { every: 5s }`.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Watch {
    /// How often they are read.
    pub(crate) every: Option<Period>,
    /// Whether the policy file is, too.
    pub(crate) policy: Option<bool>,
    /// Written in the short form: the place of `every` is that of the value itself.
    pub(crate) short: bool,
}

/// Which files are watched.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Watch")]
#[schemars(inline)]
pub(super) struct WatchMap {
    /// How often the files are read and compared with what is in force.
    #[schemars(extend("default" = "5s"))]
    every: Option<Period>,
    /// Whether a change of the policy file itself is loaded, too.
    #[schemars(extend("default" = false))]
    policy: Option<bool>,
}

impl<'de> Deserialize<'de> for Watch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Watch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as `5s`, or a map with `every` and `policy`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Watch, E> {
                let every = Period::deserialize(text.into_deserializer())?;
                Ok(Watch { every: Some(every), policy: None, short: true })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Watch, A::Error> {
                let WatchMap { every, policy } = WatchMap::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Watch { every, policy, short: false })
            }
        }
        deserializer.deserialize_any(Either)
    }
}
