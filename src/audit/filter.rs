//! Which records somebody wants to see.

use serde_json::Value;

/// What records must say; what is absent can be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// `bartizan.consumer`.
    pub(crate) consumer: Option<String>,
    /// `user.id`.
    pub(crate) user: Option<String>,
    /// `bartizan.api`.
    pub(crate) api: Option<String>,
    /// `bartizan.route`.
    pub(crate) route: Option<String>,
    /// `event.action`.
    pub(crate) action: Option<String>,
    /// `event.reason`; or a status such as `403` or `4xx`.
    pub(crate) code: Option<String>,
}

impl Filter {
    /// Names of the criteria.
    pub(crate) const NAMES: [&str; 6] = ["consumer", "user", "api", "route", "action", "code"];

    /// Sets a criterion. Returns false if there is none of this name.
    pub(crate) fn set(&mut self, name: &str, value: String) -> bool {
        let criterion = match name {
            "consumer" => &mut self.consumer,
            "user" => &mut self.user,
            "api" => &mut self.api,
            "route" => &mut self.route,
            "action" => &mut self.action,
            "code" => &mut self.code,
            _ => return false,
        };
        *criterion = Some(value);
        true
    }

    /// Whether the record on this line is wanted. What is no record is wanted only if everything is.
    pub(crate) fn wants(&self, line: &[u8]) -> bool {
        if *self == Self::default() {
            return true;
        }
        // Parsing costs far more than a look at the text, and most lines are not wanted.
        let texts = [&self.consumer, &self.user, &self.api, &self.route, &self.action];
        let lacks = |text: &String| {
            let quoted = Value::from(text.as_str()).to_string();
            memchr::memmem::find(line, quoted.as_bytes()).is_none()
        };
        // Escapes of recorders are not all those of this library: only plain texts can be looked for.
        let is_plain =
            |text: &&String| text.bytes().all(|byte| (0x20..0x7f).contains(&byte) && !b"\"\\".contains(&byte));
        if texts.into_iter().flatten().filter(is_plain).any(lacks) {
            return false;
        }
        serde_json::from_slice(line).is_ok_and(|record| self.wants_record(&record))
    }

    fn wants_record(&self, record: &Value) -> bool {
        let says = |pointer: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| record.pointer(pointer).and_then(Value::as_str) == Some(wanted))
        };
        says("/bartizan/consumer", &self.consumer)
            && says("/user/id", &self.user)
            && says("/bartizan/api", &self.api)
            && says("/bartizan/route", &self.route)
            && says("/event/action", &self.action)
            && self.code.as_ref().is_none_or(|code| has_code(record, code))
    }
}

fn has_code(record: &Value, code: &str) -> bool {
    let status = record.pointer("/http/response/status_code").and_then(Value::as_u64).map(|status| status.to_string());
    let class = code.strip_suffix("xx").filter(|class| class.len() == 1);
    let reason = record.pointer("/event/reason").and_then(Value::as_str);
    match class {
        Some(class) => status.is_some_and(|status| status.len() == 3 && status.starts_with(class)),
        None => reason == Some(code) || status.as_deref() == Some(code),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::super::record::tests::{line, sample};
    use super::*;

    #[test]
    fn records_are_wanted_if_they_say_everything_that_is_asked_for() {
        let record = Record {
            consumer: Some("acme"),
            user: Some("żółw"),
            api: Some("orders"),
            route: Some("GET /v1/orders/{id}"),
            reason: Some("insufficient_scope"),
            status: Some(403),
            ..sample()
        };
        let line = line(&record);
        for (criteria, wanted) in [
            (vec![], true),
            (vec![("consumer", "acme")], true),
            (vec![("consumer", "acm")], false),
            (vec![("user", "żółw"), ("api", "orders")], true),
            (vec![("route", "GET /v1/orders/{id}"), ("code", "insufficient_scope")], true),
            (vec![("code", "403")], true),
            (vec![("code", "4xx")], true),
            (vec![("code", "40x")], false),
            (vec![("code", "5xx")], false),
            (vec![("action", "request"), ("code", "403"), ("consumer", "acme")], true),
            (vec![("action", "admin_read")], false),
            // The text is there, but says something else.
            (vec![("consumer", "orders")], false),
            (vec![("consumer", "a\"b")], false),
        ] {
            let mut filter = Filter::default();
            for (name, value) in &criteria {
                assert!(filter.set(name, (*value).to_owned()));
            }
            assert_eq!(filter.wants(&line), wanted, "{criteria:?}");
        }
        assert!(
            Filter::default().wants(b"no record")
                && !Filter { api: Some("a".into()), ..Filter::default() }.wants(b"no")
        );
        assert!(!Filter::default().set("color", String::new()));
        assert!(Filter::NAMES.iter().all(|name| Filter::default().set(name, String::new())));
    }
}
