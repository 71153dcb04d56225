//! Problems with their places: collects them, and prints them as text for people or JSON for tools.
//!
//! It quotes the files as written. Resolved secrets never reach this file.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use super::source::Place;

/// Maximum number of problems kept per severity; the rest are only counted.
const KEPT: usize = 100;
/// Longest line that is shown with a problem, in bytes.
const LONGEST_LINE: usize = 2000;

/// Whether a policy with this problem can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The policy cannot be used.
    Error,
    /// The policy can be used, but should be reviewed.
    Warning,
    /// Worth knowing, and nothing to change.
    Note,
}

/// A problem in a policy.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What is wrong, in one line.
    pub(crate) message: String,
    /// Its place; `None` if it is not in a text.
    pub(crate) place: Option<Place>,
    /// How to fix it.
    pub(crate) help: Option<String>,
}

impl Problem {
    /// Sets how to fix it.
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    fn sort_key(&self) -> Option<(usize, usize, usize)> {
        self.place.as_ref().map(Place::sort_key)
    }
}

/// The problems of a policy, without duplicates.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    kept: Vec<Problem>,
    /// Numbers of errors and warnings that are not kept.
    dropped_errors: usize,
    dropped_warnings: usize,
    dropped_notes: usize,
    /// Receives the help of a problem that is not kept.
    spare: Option<Box<Problem>>,
}

impl Problems {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds an error, and returns it so that help can be added.
    pub(crate) fn error(&mut self, place: impl Into<Option<Place>>, message: impl Into<String>) -> &mut Problem {
        self.add(Severity::Error, place.into(), message.into())
    }

    /// Adds a warning, and returns it so that help can be added.
    pub(crate) fn warning(&mut self, place: impl Into<Option<Place>>, message: impl Into<String>) -> &mut Problem {
        self.add(Severity::Warning, place.into(), message.into())
    }

    /// Adds what is worth knowing.
    pub(crate) fn note(&mut self, place: impl Into<Option<Place>>, message: impl Into<String>) -> &mut Problem {
        self.add(Severity::Note, place.into(), message.into())
    }

    /// Turns every warning into an error.
    pub(crate) fn make_strict(&mut self) {
        for problem in self.kept.iter_mut().filter(|problem| problem.severity == Severity::Warning) {
            problem.severity = Severity::Error;
        }
        self.dropped_errors += std::mem::take(&mut self.dropped_warnings);
    }

    fn add(&mut self, severity: Severity, place: Option<Place>, message: String) -> &mut Problem {
        let problem = Problem { severity, message, place, help: None };
        let key = problem.sort_key();
        let known = self.kept.iter().any(|kept| kept.sort_key() == key && kept.message == problem.message);
        let full = self.kept.iter().filter(|kept| kept.severity == severity).count() >= KEPT;
        if known || full {
            match severity {
                _ if known => {}
                Severity::Error => self.dropped_errors += 1,
                Severity::Warning => self.dropped_warnings += 1,
                Severity::Note => self.dropped_notes += 1,
            }
            return self.spare.insert(Box::new(problem));
        }
        // Added at the end, because the last one is returned; sorted when printed.
        self.kept.push_mut(problem)
    }

    /// Adds those of another check.
    pub(crate) fn append(&mut self, other: Self) {
        self.dropped_errors += other.dropped_errors;
        self.dropped_warnings += other.dropped_warnings;
        for Problem { severity, message, place, help } in other.kept {
            self.add(severity, place, message).help = help;
        }
    }

    /// Counts problems of this severity that are not kept.
    pub(crate) fn count(&mut self, severity: Severity, more: usize) {
        match severity {
            Severity::Error => self.dropped_errors += more,
            Severity::Warning => self.dropped_warnings += more,
            Severity::Note => self.dropped_notes += more,
        }
    }

    /// Whether the policy cannot be used.
    pub(crate) fn has_errors(&self) -> bool {
        self.kept.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Whether so many errors were found that there is no use in looking for more.
    pub(crate) fn is_full(&self) -> bool {
        self.kept.iter().filter(|problem| problem.severity == Severity::Error).count() >= KEPT
    }

    /// The number of problems, including those that are only counted.
    pub(crate) fn len(&self) -> usize {
        self.kept.len() + self.dropped_errors + self.dropped_warnings + self.dropped_notes
    }

    /// Whether there are no problems.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The kept problems: those without a place first, then by file in the order of reading, then by place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Problem> {
        let mut sorted: Vec<&Problem> = self.kept.iter().collect();
        sorted.sort_by_key(|problem| problem.sort_key());
        sorted.into_iter()
    }

    /// All problems as text in the style of rustc, separated by blank lines, with a line break at the end.
    pub(crate) fn text(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut text = String::new();
        for problem in self.iter() {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&render(problem, &renderer));
            text.push('\n');
        }
        if let Some(rest) = self.rest() {
            text.push_str(&format!("\n{rest}\n"));
        }
        text
    }

    /// All problems as one JSON object; `file` is the path of the policy.
    pub(crate) fn json(&self, file: &str) -> Value {
        let problems: Vec<Value> = self.iter().map(problem_json).collect();
        let mut object = json!({ "file": file, "ok": !self.has_errors(), "problems": problems });
        if let (Some(rest), Some(fields)) = (self.rest(), object.as_object_mut()) {
            fields.insert("rest".to_owned(), Value::String(rest));
        }
        object
    }

    /// Says how many problems are not shown.
    fn rest(&self) -> Option<String> {
        let counts = [(self.dropped_errors, "error"), (self.dropped_warnings, "warning"), (self.dropped_notes, "note")];
        let more = counts.into_iter().filter(|(count, _)| *count > 0);
        let more: Vec<String> = more.map(|(count, word)| format!("{count} more {}", plural(count, word))).collect();
        (!more.is_empty()).then(|| format!("and {}", more.join(" and ")))
    }
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

fn render(problem: &Problem, renderer: &Renderer) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let mut group = Group::with_title(level.primary_title(problem.message.as_str()));
    if let Some(place) = &problem.place {
        let source = place.source();
        let (number, column) = place.start();
        let (line, span) = first_line(&source.text, place.span());
        if line.len() > LONGEST_LINE {
            group = group.element(Origin::path(source.name.as_str()).line(number).char_column(column));
        } else {
            let annotation = AnnotationKind::Primary.span(span);
            group = group
                .element(Snippet::source(line).path(source.name.as_str()).line_start(number).annotation(annotation));
        }
    }
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group])
}

/// The line where `span` starts, and the part of `span` within it: one line is enough to find the place.
fn first_line(text: &str, span: std::ops::Range<usize>) -> (&str, std::ops::Range<usize>) {
    let before = text.get(..span.start).unwrap_or(text);
    let mut start = before.rfind('\n').map_or(0, |newline| newline + 1);
    if start == 0 && text.starts_with('\u{feff}') && span.start >= '\u{feff}'.len_utf8() {
        start = '\u{feff}'.len_utf8();
    }
    let rest = text.get(start..).unwrap_or("");
    let line = rest.split('\n').next().unwrap_or("").trim_end_matches('\r');
    let from = span.start.saturating_sub(start).min(line.len());
    let to = span.end.saturating_sub(start).clamp(from, line.len());
    (line, from..to)
}

fn problem_json(problem: &Problem) -> Value {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let (start, end) = (problem.place.as_ref().map(Place::start), problem.place.as_ref().map(Place::end));
    json!({
        "severity": severity,
        "message": problem.message,
        "file": problem.place.as_ref().map(|place| place.source().name.as_str()),
        "line": start.map(|(line, _)| line),
        "column": start.map(|(_, column)| column),
        "end_line": end.map(|(line, _)| line),
        "end_column": end.map(|(_, column)| column),
        "help": problem.help,
    })
}

/// Returns the known name that was most likely meant.
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    let wrong = wrong.to_lowercase();
    let length = wrong.chars().count();
    if length == 0 || length > LONGEST {
        return None;
    }
    known
        .into_iter()
        .filter(|name| name.len() <= LONGEST)
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let distance = strsim::osa_distance(&wrong, &lower);
            // A third of the letters may be wrong. An abbreviation of at least three letters counts as near, too.
            let near = distance <= length.max(lower.chars().count()) / 3;
            let abbreviation = length >= 3 && lower.starts_with(&wrong);
            (near || abbreviation).then_some((!near, distance, name))
        })
        .min()
        .map(|(_, _, name)| name)
}

/// Returns "did you mean `…`?" if a known name is near.
pub(crate) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(wrong, known).map(|name| format!("did you mean {}?", super::source::quote(name)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::source::SourceText;

    fn source(text: &str) -> Arc<SourceText> {
        Arc::new(SourceText::new("policy.yaml".to_owned(), text.to_owned(), 0))
    }

    #[test]
    fn text_shows_place_line_and_help() {
        let source = source("version: 1\nlisten:\n  - adress: ärger\n");
        let mut problems = Problems::new();
        problems.error(Place::new(&source, 23..29), "unknown key `adress`").help("did you mean `address`?");
        problems.warning(None, "nothing listens");
        let text = problems.text(false);
        let expected = "\
warning: nothing listens

error: unknown key `adress`
 --> policy.yaml:3:5
  |
3 |   - adress: ärger
  |     ^^^^^^
  |
  = help: did you mean `address`?
";
        assert_eq!(text, expected);
        assert!(problems.text(true).contains("\u{1b}["));
    }

    #[test]
    fn json_has_every_field() {
        let source = source("a: é\nb: xyz\n");
        let mut problems = Problems::new();
        problems.error(Place::new(&source, 9..12), "wrong").help("right");
        problems.warning(None, "odd");
        assert_eq!(
            problems.json("policy.yaml"),
            json!({ "file": "policy.yaml", "ok": false, "problems": [
                { "severity": "warning", "message": "odd", "file": null, "line": null, "column": null, "end_line": null,
                  "end_column": null, "help": null },
                { "severity": "error", "message": "wrong", "file": "policy.yaml", "line": 2, "column": 4, "end_line": 2,
                  "end_column": 7, "help": "right" },
            ]})
        );
    }

    #[test]
    fn problems_are_sorted_kept_once_and_bounded() {
        let source = source(&"x\n".repeat(300));
        let mut problems = Problems::new();
        for line in (0..150).rev() {
            problems.error(Place::new(&source, line * 2..line * 2 + 1), "wrong");
            problems.error(Place::new(&source, line * 2..line * 2 + 1), "wrong").help("of the second, not kept");
        }
        problems.warning(None, "odd");
        assert_eq!((problems.kept.len(), problems.len()), (101, 151 + 50));
        assert!(problems.has_errors() && problems.is_full());
        let lines: Vec<_> = problems.iter().filter_map(|p| p.place.as_ref().map(|place| place.start().0)).collect();
        assert!(lines.is_sorted());
        assert!(problems.text(false).ends_with("and 100 more errors\n"));
    }

    #[test]
    fn long_lines_and_control_characters_do_not_reach_the_terminal() {
        let long = source(&"y".repeat(100_000));
        let escape = source("a: \u{1b}[31mred\n");
        let mut problems = Problems::new();
        problems.error(Place::new(&long, 5000..5001), "long");
        problems.error(Place::new(&escape, 3..4), "escape");
        let text = problems.text(false);
        assert!(text.len() < 500 && text.contains("policy.yaml:1:5001") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn the_nearest_name_is_found_or_none() {
        let known = ["certificate", "key", "orders:read", "orders:write", "idle", "rate"];
        for (wrong, right) in [
            ("certificat", Some("certificate")),
            ("cert", Some("certificate")),
            ("KEY", Some("key")),
            ("kye", Some("key")),
            ("orders:raed", Some("orders:read")),
            ("Idle", Some("idle")),
            ("rates", Some("rate")),
            ("xyz", None),
            ("", None),
            ("k", None),
        ] {
            assert_eq!(nearest(wrong, known), right, "{wrong}");
        }
        assert_eq!(nearest(&"a".repeat(100_000), known), None);
        assert_eq!(did_you_mean("kye", known).as_deref(), Some("did you mean `key`?"));
    }
}
