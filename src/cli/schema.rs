//! `bartizan schema`: the JSON Schema of the policy, for editors and other tools.

use super::exit_code::DONE;
use super::output;
use crate::policy::document::schema;

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan schema > bartizan.schema.json
Editors with a YAML language server use it for a policy that begins with this line:
  # yaml-language-server: $schema=./bartizan.schema.json")]
pub(super) struct Arguments {}

pub(super) fn run() -> u8 {
    output::print(&format!("{:#}\n", schema::policy()));
    DONE
}
