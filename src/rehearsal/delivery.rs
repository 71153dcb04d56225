//! What would become of a request after the chain: which server would get it, and what if that fails.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::policy::Upstream;
use crate::policy::upstream::{Balance, RetryCause};

/// How an API's upstream would treat requests with this method.
pub(crate) struct Delivery<'a> {
    upstream: &'a Upstream,
    is_idempotent: bool,
    method: &'a str,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(upstream: &'a Upstream, method: &'a str) -> Self {
        let is_idempotent = method.parse::<Method>().is_ok_and(|method| method.is_idempotent());
        Self { upstream, is_idempotent, method }
    }

    /// Each as a name, and a sentence.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        if let Some(choice) = self.choice() {
            facts.push(("server", choice));
        }
        facts.push(("retries", self.retries()));
        facts
    }

    /// As JSON: how a server is chosen, and when the request is sent once more.
    pub(crate) fn to_json(&self) -> Value {
        let Upstream { eject, refuses_if_none_left, retries, .. } = self.upstream;
        json!({
            "balance": match self.upstream.balance {
                Balance::RoundRobin => "round_robin",
                Balance::LeastRequests => "least_requests",
            },
            "ejects": eject.is_some(),
            "none_left": if *refuses_if_none_left { "refuse" } else { "try" },
            "retries": retries.as_ref().map_or(0, |retries| if self.causes().is_empty() { 0 } else { retries.most }),
            "retries_on": self.causes().iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
        })
    }

    /// How one of several servers is chosen.
    fn choice(&self) -> Option<String> {
        let Upstream { servers, balance, eject, refuses_if_none_left, .. } = self.upstream;
        let has_health = servers.iter().any(|server| server.health.is_some());
        if servers.len() < 2 && !has_health && servers.iter().all(|server| server.literal().is_some()) {
            return None;
        }
        let mut text = match balance {
            Balance::RoundRobin => "one address after the other".to_owned(),
            Balance::LeastRequests => "of two addresses at random, the one with fewer requests".to_owned(),
        };
        if has_health {
            text.push_str("; none that is unhealthy");
        }
        if let Some(eject) = eject {
            let (after, lasts) = (eject.after, eject.lasts);
            text.push_str(&format!("; none for {lasts:?} that has failed {after} times in a row"));
        }
        if has_health || eject.is_some() {
            text.push_str(if *refuses_if_none_left { "; 503 if none is left" } else { "; any if none is left" });
        }
        Some(text)
    }

    fn retries(&self) -> String {
        let kept = match self.is_idempotent {
            true => "; always once if a kept connection turns out to be closed",
            false => "",
        };
        let (causes, method) = (self.causes(), self.method);
        let Some(retries) = self.upstream.retries.as_ref().filter(|_| !causes.is_empty()) else {
            return match &self.upstream.retries {
                Some(_) if !self.is_idempotent => format!("none: {method} is not idempotent"),
                _ => format!("none{kept}"),
            };
        };
        let causes: Vec<String> = causes.into_iter().map(|(_, text)| text).collect();
        let why = if self.is_idempotent { "" } else { ", because it is not idempotent" };
        let only = if self.is_idempotent { "" } else { "only " };
        format!("{} at most, {only}{}{why}{kept}", retries.most, causes.join(" or "))
    }

    /// What a request with this method would be sent again for: its name, and in words.
    fn causes(&self) -> Vec<(String, String)> {
        let Some(retries) = &self.upstream.retries else { return Vec::new() };
        let status = |status: &StatusCode| {
            let code = status.as_u16();
            (RetryCause::Status(*status), code.to_string(), format!("after {code}"))
        };
        let all = [
            (RetryCause::NotConnected, "connect".to_owned(), "if no connection could be opened".to_owned()),
            (RetryCause::Unanswered, "no_response".to_owned(), "if the connection broke before a response".to_owned()),
        ];
        let all = all.into_iter().chain(retries.on.iter().map(status));
        let covered = all.filter(|(cause, ..)| retries.covers(*cause, self.is_idempotent));
        covered.map(|(_, name, text)| (name, text)).collect()
    }
}
