//! `bartizan help TOPIC`: reference pages, printed from what the code uses, so that they cannot go out of date.

mod policy;
mod topics;

use std::ffi::OsString;

/// A name, and what prints the page.
type Topic = (&'static str, fn() -> String);

/// The topics of `bartizan help`.
const TOPICS: [Topic; 5] = [
    ("policy", policy::page),
    ("codes", topics::codes),
    ("admin", topics::admin),
    ("metrics", topics::metrics),
    ("record", topics::record),
];

/// The page of the topic that these arguments ask for. Everything else is for clap, which knows the commands.
pub(super) fn page(mut arguments: impl Iterator<Item = OsString>) -> Option<String> {
    let (word, topic) = (arguments.next()?, arguments.next()?);
    let (_, page) = TOPICS.iter().find(|(name, _)| topic == *name)?;
    (word == "help" && arguments.next().is_none()).then(page)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn help(words: &[&str]) -> Option<String> {
        page(words.iter().map(OsString::from))
    }

    #[test]
    fn topics_are_listed_and_hide_no_command() {
        let command = crate::cli::Arguments::command();
        let help_of_all = command.get_after_help().unwrap().to_string();
        for (topic, _) in TOPICS {
            assert!(command.find_subcommand(topic).is_none(), "{topic}");
            assert!(help_of_all.contains(topic), "{topic}");
            assert!(help(&["help", topic]).unwrap().lines().count() > 10, "{topic}");
        }
        for others in [&["help"][..], &["help", "check"], &["help", "policy", "more"], &["check", "policy"], &[]] {
            assert_eq!(help(others), None, "{others:?}");
        }
    }
}
