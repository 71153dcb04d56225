//! `mode`: which stages only report.

use crate::policy::Reporting;
use crate::policy::compile::context::Context;
use crate::policy::diagnostic::did_you_mean;
use crate::policy::document::Mode;
use crate::policy::tree::At;
use crate::refusal::Stage;

/// Compiles `mode` of an API or a route; what it leaves out is as in `around`.
pub(super) fn compile(context: &mut Context<'_>, around: Reporting, written: Option<&Mode>, at: At<'_>) -> Reporting {
    let Some(Mode { all, stages }) = written else { return around };
    let mut reporting = match all {
        None => around,
        Some(mode) if reports(context, mode, at) => {
            Stage::REPORTABLE.iter().fold(Reporting::default(), |all, stage| all.with(*stage))
        }
        Some(_) => Reporting::default(),
    };
    for (name, mode) in stages {
        let at = at.key(name);
        match Stage::REPORTABLE.iter().find(|stage| stage.as_str() == name) {
            Some(stage) if reports(context, mode, at) => reporting = reporting.with(*stage),
            Some(stage) => reporting = reporting.without(*stage),
            None => {
                let known = Stage::REPORTABLE.map(Stage::as_str);
                let help = did_you_mean(name, known).unwrap_or_else(|| format!("the stages are {}", known.join(", ")));
                context.problems.error(at.key_place(), format!("there is no stage `{name}`")).help(help);
            }
        }
    }
    if reporting.contains(Stage::Auth) || reporting.contains(Stage::Scope) {
        context.warning(at, "in this mode no request is refused by authentication or authorization").help(
            "let only the stage that you are changing report, such as `mode: { schema: report }`; switch to `enforce` when no more violations are reported",
        );
    }
    reporting
}

fn reports(context: &mut Context<'_>, mode: &str, at: At<'_>) -> bool {
    match mode {
        "report" => true,
        "enforce" => false,
        other => {
            context.unknown(at, "mode", other, ["enforce", "report"]);
            false
        }
    }
}
