//! One item of the checklist: its status, the evidence for it, and what to change.

use crate::policy::source::Place;

/// How an item ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// There is evidence that it is so.
    Passed,
    /// It is not so.
    Failed,
    /// The policy has nothing that this is about.
    NotApplicable,
    /// The evidence is not in the policy, and was not looked at.
    NotLookedAt,
}

impl Status {
    /// All of them, in the order of the summary.
    pub(super) const ALL: [Self; 4] = [Self::Passed, Self::Failed, Self::NotLookedAt, Self::NotApplicable];

    /// The name in JSON.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotApplicable => "not_applicable",
            Self::NotLookedAt => "not_looked_at",
        }
    }

    /// The name for people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::NotApplicable => "not applicable",
            Self::NotLookedAt => "not looked at",
            Self::Passed | Self::Failed => self.as_str(),
        }
    }
}

/// Something to change before the launch.
#[derive(Debug)]
pub(super) struct Finding {
    /// What is wrong, in one sentence.
    pub(super) message: String,
    /// What to do.
    pub(super) help: String,
    /// The line to change; absent if it is in no file.
    pub(super) line: Option<LinePlace>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinePlace {
    pub(super) file: String,
    /// From 1.
    pub(super) line: usize,
    /// From 1, in characters.
    pub(super) column: usize,
}

impl From<Place> for LinePlace {
    fn from(place: Place) -> Self {
        let (line, column) = place.start();
        Self { file: place.source().name.clone(), line, column }
    }
}

impl std::fmt::Display for LinePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, line, column } = self;
        write!(f, "{file}:{line}:{column}")
    }
}

impl Finding {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into(), line: None }
    }

    /// Adds the line to change.
    pub(super) fn at(self, place: impl Into<LinePlace>) -> Self {
        Self { line: Some(place.into()), ..self }
    }
}

/// One item of the checklist.
#[derive(Debug)]
pub(super) struct Item {
    /// Its name, for programs.
    pub(super) name: &'static str,
    /// What has to be so, in one sentence.
    pub(super) asks: &'static str,
    /// How it ended.
    pub(super) status: Status,
    /// What was seen, or why nothing was.
    pub(super) evidence: String,
    /// What to change; none unless it failed.
    pub(super) findings: Vec<Finding>,
}

/// The name of an item, and what has to be so.
#[derive(Clone, Copy)]
pub(super) struct Check(pub(super) &'static str, pub(super) &'static str);

impl Check {
    /// Failed if there are findings, passed otherwise. They are in the order of their lines.
    pub(super) fn judged(self, evidence: impl Into<String>, mut findings: Vec<Finding>) -> Item {
        findings.sort_by(|one, other| one.line.cmp(&other.line));
        let status = if findings.is_empty() { Status::Passed } else { Status::Failed };
        Item { findings, ..self.item(status, evidence) }
    }

    /// The policy has nothing that this is about, because of `why`.
    pub(super) fn not_applicable(self, why: impl Into<String>) -> Item {
        self.item(Status::NotApplicable, why)
    }

    /// Nothing was looked at, because of `why`.
    pub(super) fn not_looked_at(self, why: impl Into<String>) -> Item {
        self.item(Status::NotLookedAt, why)
    }

    fn item(self, status: Status, evidence: impl Into<String>) -> Item {
        Item { name: self.0, asks: self.1, status, evidence: evidence.into(), findings: Vec::new() }
    }
}
