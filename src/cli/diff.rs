//! `bartizan diff`: who may do what more, and less, under another policy.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::exit_code::{DONE, FAILED, INVALID};
use super::output::{self, Format, counted};
use crate::audit::visible;
use crate::evidence::diff::{self, Change, Side, Verdict};

/// So many lines are shown of each kind.
const MOST: usize = 200;

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan diff policy.yaml policy.new.yaml
Routes are compared by the requests that they match, consumers by what their credentials can be used for, and every other setting by
what it limits. What cannot be ordered, such as a schema that was changed, counts as a gain.
What operators keep in the store, and the content of tokens, are not known here.
Exit codes: 0 nobody gains, 1 somebody gains, 2 a policy has errors.")]
pub(super) struct Arguments {
    /// The policy in force
    old: PathBuf,
    /// The policy to compare with it
    new: PathBuf,
    /// Exit with 0 even if somebody gains
    #[arg(long)]
    allow_gains: bool,
    /// Output format of the results
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// The kinds of changes, with their titles and names.
const KINDS: [(Verdict, &str, &str); 4] = [
    (Verdict::Gain, "more is allowed", "gains"),
    (Verdict::Unjudged, "changed, and may allow more", "unjudged"),
    (Verdict::Loss, "less is allowed", "losses"),
    (Verdict::Other, "changed otherwise", "other"),
];

pub(super) fn run(arguments: &Arguments) -> u8 {
    let sides = [&arguments.old, &arguments.new].map(|path| Side::read(path));
    for problems in sides.iter().filter_map(|side| side.as_ref().err()) {
        output::report(problems);
    }
    let [Ok(old), Ok(new)] = sides else {
        output::message(format_args!("error: nothing is compared; correct the policy first"));
        return INVALID;
    };
    let changes = diff::compare(&old, &new);
    let gains = changes.iter().filter(|change| matches!(change.verdict, Verdict::Gain | Verdict::Unjudged)).count();
    match arguments.format {
        Format::Json => output::print(&format!("{}\n", of_programs(&changes, gains == 0))),
        Format::Text => output::print(&text(&changes)),
    };
    if gains == 0 || arguments.allow_gains { DONE } else { FAILED }
}

fn of(changes: &[Change], verdict: Verdict) -> Vec<&Change> {
    changes.iter().filter(|change| change.verdict == verdict).collect()
}

fn of_programs(changes: &[Change], ok: bool) -> Value {
    let mut result = json!({"ok": ok});
    for (verdict, _, name) in KINDS {
        result[name] = of(changes, verdict).into_iter().map(Change::json).collect();
    }
    result
}

fn text(changes: &[Change]) -> String {
    let mut text = String::new();
    for (verdict, title, _) in KINDS {
        let all = of(changes, verdict);
        if all.is_empty() {
            continue;
        }
        text.push_str(&format!("{title}:\n"));
        for change in all.iter().take(MOST) {
            text.push_str(&format!("  {}\n", visible(&change.text())));
        }
        if let Some(more @ 1..) = all.len().checked_sub(MOST) {
            text.push_str(&format!("  and {more} more; `--format json` has all\n"));
        }
        text.push('\n');
    }
    let count = |verdict| of(changes, verdict).len();
    let (unjudged, other) = (count(Verdict::Unjudged), count(Verdict::Other));
    text.push_str(&match changes {
        [] => "nothing has changed\n".to_owned(),
        _ => format!(
            "{}, {unjudged} that may be one, {}, {}\n",
            counted(count(Verdict::Gain), "gain"),
            match count(Verdict::Loss) {
                1 => "1 loss".to_owned(),
                losses => format!("{losses} losses"),
            },
            counted(other, "other change")
        ),
    });
    text
}
