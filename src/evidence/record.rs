//! Reads what evidence needs of a record. Texts are borrowed from the line: records are read by the million.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, de};

use crate::audit::{ARRAY_MAX, REQUEST, TEXT_MAX};

/// Most bytes of a text: a little more than any recorder writes, so that what is kept of records is bounded.
const MOST_BYTES: usize = TEXT_MAX + 64;

/// A text of a record, borrowed unless it has escapes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                of_record(text)?;
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                of_record(text)?;
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrowed)
    }
}

/// Checks that a recorder may have written a text of this length.
fn of_record<E: de::Error>(text: &str) -> Result<(), E> {
    if text.len() > MOST_BYTES { Err(E::custom("a text is longer than any of a record")) } else { Ok(()) }
}

/// A record, as far as evidence needs it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Record<'a> {
    #[serde(rename = "@timestamp", borrow)]
    at: Text<'a>,
    #[serde(borrow)]
    client: Client<'a>,
    #[serde(borrow)]
    http: Http<'a>,
    #[serde(borrow)]
    url: Url<'a>,
    #[serde(borrow)]
    user: User<'a>,
    #[serde(borrow)]
    bartizan: Facts<'a>,
    #[serde(borrow)]
    event: Event<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Client<'a> {
    #[serde(borrow)]
    ip: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Http<'a> {
    #[serde(borrow)]
    request: HttpRequest<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HttpRequest<'a> {
    #[serde(borrow)]
    method: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Url<'a> {
    #[serde(borrow)]
    path: Text<'a>,
    #[serde(borrow)]
    domain: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct User<'a> {
    #[serde(borrow)]
    id: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Facts<'a> {
    #[serde(borrow)]
    consumer: Option<Text<'a>>,
    #[serde(borrow)]
    api: Option<Text<'a>>,
    #[serde(borrow)]
    route: Option<Text<'a>>,
    #[serde(borrow)]
    stage: Option<Text<'a>>,
    #[serde(borrow)]
    cause: Option<Text<'a>>,
    #[serde(borrow)]
    would_refuse: Vec<Text<'a>>,
    #[serde(borrow)]
    credential: Credential<'a>,
    #[serde(borrow)]
    scopes: Scopes<'a>,
    #[serde(borrow)]
    policy: Text<'a>,
    dropped: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Credential<'a> {
    #[serde(borrow)]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    issuer: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Scopes<'a> {
    #[serde(borrow)]
    granted: Vec<Text<'a>>,
    #[serde(borrow)]
    lent: Vec<Text<'a>>,
    #[serde(borrow)]
    cut: Vec<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event<'a> {
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    action: Text<'a>,
    #[serde(borrow)]
    reason: Option<Text<'a>>,
}

impl<'a> Record<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// It is no record.
    pub(crate) fn read(line: &'a [u8]) -> Result<Self, serde_json::Error> {
        let text = std::str::from_utf8(line).map_err(serde_json::Error::custom)?;
        serde_json::from_str(text)
    }

    /// Whether it is about a request of a caller: not about what an operator did, an alert, or the record itself.
    pub(crate) fn is_request(&self) -> bool {
        *self.event.action == *REQUEST && *self.event.kind == *"event" && !self.http.request.method.is_empty()
    }

    /// How many records were dropped before this line.
    pub(crate) fn dropped(&self) -> u64 {
        self.bartizan.dropped
    }

    /// When the request began.
    pub(crate) fn at(&self) -> Option<Timestamp> {
        self.at.parse().ok()
    }

    /// The same as text. Texts of one recorder sort like their times.
    pub(crate) fn at_text(&self) -> &str {
        &self.at
    }

    pub(crate) fn client(&self) -> Option<IpAddr> {
        self.client.ip.parse().ok()
    }

    pub(crate) fn method(&self) -> &str {
        &self.http.request.method
    }

    pub(crate) fn path(&self) -> &str {
        &self.url.path
    }

    /// Whether the path may have been longer.
    pub(crate) fn is_cut(&self) -> bool {
        self.url.path.len() + 4 > TEXT_MAX
    }

    pub(crate) fn host(&self) -> &str {
        &self.url.domain
    }

    /// The user that the consumer acts for, otherwise the consumer.
    pub(crate) fn user(&self) -> &str {
        &self.user.id
    }

    /// The consumer whose credential was sent.
    pub(crate) fn consumer(&self) -> Option<&str> {
        self.bartizan.consumer.as_deref()
    }

    /// The API and the route.
    pub(crate) fn route(&self) -> Option<(&str, &str)> {
        self.bartizan.api.as_deref().zip(self.bartizan.route.as_deref())
    }

    /// The stage that refused it.
    pub(crate) fn stage(&self) -> Option<&str> {
        self.bartizan.stage.as_deref()
    }

    /// What happened, for operators.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.bartizan.cause.as_deref()
    }

    /// The code of the refusal.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.event.reason.as_deref()
    }

    /// The codes of refusals that were only reported.
    pub(crate) fn would_refuse(&self) -> impl Iterator<Item = &str> {
        self.bartizan.would_refuse.iter().map(|code| &**code)
    }

    /// Kind and id of the credential.
    pub(crate) fn credential(&self) -> (Option<&str>, Option<&str>) {
        (self.bartizan.credential.kind.as_deref(), self.bartizan.credential.id.as_deref())
    }

    /// Who issued the token, by its name in the policy then. Absent: it is no token, or the recorder was older than this field.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.bartizan.credential.issuer.as_deref()
    }

    /// Scopes of the caller.
    pub(crate) fn granted(&self) -> &[Text<'a>] {
        &self.bartizan.scopes.granted
    }

    /// Those of them that were granted for a time.
    pub(crate) fn lent(&self) -> &[Text<'a>] {
        &self.bartizan.scopes.lent
    }

    /// Scopes of the credential that its consumer's roles did not allow.
    pub(crate) fn cut(&self) -> &[Text<'a>] {
        &self.bartizan.scopes.cut
    }

    /// Whether the record may lack some of the scopes.
    pub(crate) fn lacks_scopes(&self) -> bool {
        self.granted().len() >= ARRAY_MAX || self.cut().len() >= ARRAY_MAX
    }

    /// The digest of the policy that decided it.
    pub(crate) fn policy(&self) -> &str {
        &self.bartizan.policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_no_recorder_writes_are_damage() {
        let line = |length: usize| format!(r#"{{"url": {{"path": "{}"}}}}"#, "a".repeat(length));
        assert!(Record::read(line(TEXT_MAX).as_bytes()).is_ok());
        assert!(Record::read(line(2 * TEXT_MAX).as_bytes()).is_err());
        assert!(Record::read(line(2 * TEXT_MAX).replacen("aa", "\\n", 1).as_bytes()).is_err());
    }
}
