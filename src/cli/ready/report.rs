//! The checklist as text and as JSON.

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::item::{Finding, Item, Status};
use crate::audit::visible;

/// How the status of an item looks on a terminal.
fn style(status: Status) -> Style {
    let colour = match status {
        Status::Passed => AnsiColor::Green,
        Status::Failed => AnsiColor::Red,
        Status::NotLookedAt => AnsiColor::Yellow,
        Status::NotApplicable => return Style::new().dimmed(),
    };
    Style::new().fg_color(Some(colour.into()))
}

/// Most findings of an item that a short report has.
const SHOWN: usize = 100;

/// The whole checklist.
pub(super) struct Report {
    /// The policy file.
    pub(super) file: String,
    /// Digest of the policy.
    pub(super) digest: String,
    /// When it was made.
    pub(super) at: jiff::Timestamp,
    /// Whether what was not looked at does not count.
    pub(super) offline: bool,
    pub(super) items: Vec<Item>,
}

impl Report {
    /// Whether nothing is in the way of a launch. What was not looked at is, unless `--offline` says that this is meant.
    pub(super) fn is_ready(&self) -> bool {
        self.items.iter().all(|item| match item.status {
            Status::Passed | Status::NotApplicable => true,
            Status::Failed => false,
            Status::NotLookedAt => self.offline,
        })
    }

    /// How many items ended each way.
    pub(super) fn counts(&self) -> [(Status, usize); 4] {
        Status::ALL.map(|status| (status, self.items.iter().filter(|item| item.status == status).count()))
    }

    /// The result in a few words.
    pub(super) fn verdict(&self) -> &'static str {
        match (self.is_ready(), self.offline) {
            (true, false) => "ready",
            (true, true) => "ready, as far as it was looked at",
            (false, _) => "not ready",
        }
    }

    /// The counts in words: `9 passed, 2 failed`.
    pub(super) fn summary(&self) -> String {
        let counted = self.counts().into_iter().filter(|(_, count)| *count > 0);
        counted.map(|(status, count)| format!("{count} {}", status.words())).collect::<Vec<_>>().join(", ")
    }

    /// For people. `colour`: whether they see it on a terminal.
    pub(super) fn text(&self, colour: bool) -> String {
        let mut text = String::new();
        for item in &self.items {
            let Item { asks, status, evidence, findings, .. } = item;
            let style = if colour { style(*status) } else { Style::new() };
            text.push_str(&format!("{style}{:<15}{style:#} {asks} ({})\n", status.words(), visible(evidence)));
            for Finding { message, help, line } in findings {
                let line = line.as_ref().map(|line| format!("{line}: ")).unwrap_or_default();
                text.push_str(&format!("                {}\n", visible(&format!("{line}{message}; {help}"))));
            }
        }
        text.push_str(&format!("\n{}: {}\n", self.verdict(), self.summary()));
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        self.json_with(usize::MAX)
    }

    /// The same with a few findings of each item, and how many there are.
    pub(super) fn short_json(&self) -> Value {
        self.json_with(SHOWN)
    }

    fn json_with(&self, most: usize) -> Value {
        let finding = |finding: &Finding| {
            let Finding { message, help, line } = finding;
            json!({
                "message": message, "help": help, "file": line.as_ref().map(|line| &line.file),
                "line": line.as_ref().map(|line| line.line), "column": line.as_ref().map(|line| line.column),
            })
        };
        let items = self.items.iter().map(|item| {
            let findings: Vec<_> = item.findings.iter().take(most).map(finding).collect();
            json!({
                "name": item.name, "asks": item.asks, "status": item.status.as_str(), "evidence": item.evidence,
                "findings": findings, "more": item.findings.len().saturating_sub(most),
            })
        });
        let mut object = json!({
            "file": self.file, "policy": self.digest, "at": self.at, "offline": self.offline, "ready": self.is_ready(),
            "items": items.collect::<Vec<_>>(),
        });
        for (status, count) in self.counts() {
            object[status.as_str()] = count.into();
        }
        object
    }
}
