//! What has changed between two policies.

use serde_json::{Value, json};

use super::order::Verdict;

/// Who or what a change is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    /// The consumer; absent: every caller that the setting is about.
    pub(crate) consumer: Option<String>,
    /// The API and the route; absent: all that the setting is about.
    pub(crate) route: Option<(String, String)>,
}

/// One difference.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// What it means.
    pub(crate) verdict: Verdict,
    /// Who or what it is about.
    pub(crate) subject: Subject,
    /// The setting by its path; `call` where a consumer may call a route or no longer may.
    pub(crate) setting: String,
    /// Where it is written: in the new policy, or in the old one if it is gone.
    pub(crate) place: Option<String>,
    /// `added`, `removed` or `changed`.
    pub(crate) what: &'static str,
    /// The value before, if it may be shown.
    pub(crate) old: Option<String>,
    /// The value now.
    pub(crate) new: Option<String>,
}

impl Subject {
    /// What the path of a setting says.
    pub(super) fn of_path(path: &[&str]) -> Self {
        match *path {
            ["consumers", consumer, ..] => Self { consumer: Some(consumer.to_owned()), route: None },
            ["apis", api, "routes", route, ..] => {
                Self { consumer: None, route: Some((api.to_owned(), route.to_owned())) }
            }
            _ => Self::default(),
        }
    }

    /// A route.
    pub(super) fn route(api: &str, route: &str) -> Self {
        Self { consumer: None, route: Some((api.to_owned(), route.to_owned())) }
    }
}

impl Change {
    /// The change in a line.
    pub(crate) fn text(&self) -> String {
        let Subject { consumer, route } = &self.subject;
        let (mut text, mut setting) = (String::new(), self.setting.as_str());
        if let Some(consumer) = consumer {
            text.push_str(&format!("{consumer}  "));
            setting = setting.strip_prefix(&format!("consumers.{consumer}.")).unwrap_or(setting);
        }
        if let Some((api, route)) = route {
            text.push_str(&format!("{api}  {route}  "));
            setting = setting.strip_prefix(&format!("apis.{api}.routes.{route}.")).unwrap_or(setting);
        }
        let what = match (&self.old, &self.new) {
            (Some(old), Some(new)) => format!("{old} → {new}"),
            (Some(old), None) => format!("{old} → absent"),
            (None, Some(new)) if self.what == "added" => format!("absent → {new}"),
            _ => self.what.to_owned(),
        };
        text.push_str(&format!("{setting}: {what}"));
        if let Some(place) = &self.place {
            text.push_str(&format!("  ({place})"));
        }
        text
    }

    /// The change for programs.
    pub(crate) fn json(&self) -> Value {
        let (api, route) = self.subject.route.as_ref().map(|(api, route)| (api.as_str(), route.as_str())).unzip();
        json!({
            "consumer": self.subject.consumer,
            "api": api,
            "route": route,
            "setting": self.setting,
            "what": self.what,
            "old": self.old,
            "new": self.new,
            "place": self.place,
        })
    }
}
