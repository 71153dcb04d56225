//! demo placeholder
use super::FAILED;
#[derive(clap::Args)]
pub(super) struct Arguments {}
pub(super) fn run(_: &Arguments) -> u8 {
    FAILED
}
