//! Test results, as text for people and as JSON for programs.

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::coverage::Gaps;
use super::run::{Got, Tested};
use crate::policy::diagnostic::Problems;
use crate::rehearsal::trace::shown;

/// Results of one file.
pub(super) struct Report {
    /// Path of the file, as given.
    pub(super) file: String,
    /// Problems of the file or its policy; if there are any, no test ran.
    pub(super) problems: Vec<Problems>,
    pub(super) tested: Vec<Tested>,
    /// What no test covers; absent if only some tests ran.
    pub(super) gaps: Option<Gaps>,
}

const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default();
const DIM: Style = Style::new().dimmed();

impl Tested {
    /// Returns whether everything was as expected.
    pub(super) fn passed(&self) -> bool {
        self.differences.is_empty()
    }
}

impl Report {
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.file);
        for tested in &self.tested {
            if tested.passed() {
                text.push_str(&format!("  {GREEN}ok{GREEN:#}    {}\n", tested.name));
            } else {
                let place = format!("{}:{}", self.file, tested.line);
                text.push_str(&format!("  {RED}FAIL{RED:#}  {}  {DIM}{place}{DIM:#}\n", tested.name));
                text.push_str(&failure(tested, "        "));
            }
        }
        if let Some(gaps) = &self.gaps {
            text.push_str(&uncovered(gaps));
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let problems: Vec<Value> = self.problems.iter().map(|problems| problems.json(&self.file)).collect();
        let problems: Vec<&Value> = problems.iter().filter_map(|each| each["problems"].as_array()).flatten().collect();
        json!({
            "file": self.file,
            "ok": self.problems.is_empty() && self.tested.iter().all(Tested::passed),
            "problems": problems,
            "tests": self.tested.iter().map(tested_json).collect::<Vec<_>>(),
            "coverage": self.gaps.as_ref().map(|gaps| json!({
                "routes_without_a_test": gaps.routes,
                "scopes_never_lacking": gaps.scopes.iter()
                    .map(|(route, scopes)| json!({"route": route, "scopes": scopes})).collect::<Vec<_>>(),
                "schemas_never_broken": gaps.unbroken,
                "schemas_never_satisfied": gaps.unkept,
                "consumers_never_used": gaps.consumers,
            })),
        })
    }
}

/// Returns the differences, `-` expected and `+` actual, and the reason for the actual result.
pub(super) fn failure(tested: &Tested, indent: &str) -> String {
    let mut text = String::new();
    for difference in &tested.differences {
        text.push_str(&format!("{indent}{RED}- {} {}{RED:#}\n", difference.fact, difference.expected));
        text.push_str(&format!("{indent}{GREEN}+ {} {}{GREEN:#}\n", difference.fact, difference.got));
    }
    let Got { code, detail, violations, .. } = &tested.got;
    if let (Some(code), Some(detail)) = (code, detail) {
        text.push_str(&format!("{indent}  {code}: {detail}\n"));
    }
    for (pointer, detail) in violations {
        text.push_str(&format!("{indent}  {}: {detail}\n", shown(pointer)));
    }
    text
}

fn tested_json(tested: &Tested) -> Value {
    let got = &tested.got;
    let violations: Vec<Value> =
        got.violations.iter().map(|(pointer, detail)| json!({"pointer": pointer, "detail": detail})).collect();
    let differences: Vec<Value> = tested
        .differences
        .iter()
        .map(|each| json!({"fact": each.fact, "expected": each.expected, "got": each.got}))
        .collect();
    json!({
        "name": tested.name,
        "line": tested.line,
        "ok": tested.passed(),
        "differences": differences,
        "got": {
            "status": got.status, "grpc_status": got.grpc_status, "code": got.code, "stage": got.stage, "detail": got.detail,
            "violations": violations, "scopes": got.scopes, "granted": got.granted, "consumer": got.consumer,
            "route": got.route, "would_refuse": got.would_refuse,
            "upstream_path": got.upstream_path, "cors": got.cors, "hidden": got.hidden,
        },
    })
}

fn uncovered(gaps: &Gaps) -> String {
    let scopes: Vec<String> =
        gaps.scopes.iter().map(|(route, scopes)| format!("{route}: {}", scopes.join(", "))).collect();
    let parts = [
        ("routes without a test", &gaps.routes),
        ("scopes without a test of a caller who lacks them", &scopes),
        ("schemas that no test violates", &gaps.unbroken),
        ("schemas that no test satisfies", &gaps.unkept),
        ("consumers that no test uses", &gaps.consumers),
    ];
    let mut text = String::new();
    for (title, entries) in parts.into_iter().filter(|(_, entries)| !entries.is_empty()) {
        text.push_str(&format!("  {title}\n"));
        for entry in entries {
            text.push_str(&format!("    {entry}\n"));
        }
    }
    if text.is_empty() {
        return "\n  every route, scope, schema and consumer is covered\n".to_owned();
    }
    format!("\n{text}")
}
