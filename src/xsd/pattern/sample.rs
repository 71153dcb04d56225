//! A text that a pattern matches.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Most bytes of a text.
const MAX_LENGTH: usize = 1024;
/// Characters that are chosen first, where a class has them.
const PLAIN: [char; 4] = ['a', 'A', '1', ' '];

/// Returns a text that matches, where everything is repeated this often, or as near to it as it may be; `None` if that is too long.
///
/// Recurses on groups, whose nesting the pattern's own parser bounds.
pub(super) fn sample(pattern: &Hir, times: u32) -> Option<String> {
    let mut text = String::new();
    write(pattern, times, &mut text)?;
    Some(text)
}

fn write(pattern: &Hir, times: u32, text: &mut String) -> Option<()> {
    match pattern.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(std::str::from_utf8(&literal.0).ok()?),
        HirKind::Class(Class::Unicode(class)) => {
            let has = |c: &char| class.iter().any(|range| range.start() <= *c && *c <= range.end());
            let first = || class.iter().map(|range| range.start()).find(|c| !c.is_control());
            text.push(PLAIN.into_iter().find(has).or_else(first)?);
        }
        HirKind::Class(Class::Bytes(_)) => return None,
        HirKind::Repetition(repetition) => {
            let least = times.min(repetition.max.unwrap_or(u32::MAX));
            for _ in 0..repetition.min.max(least) {
                write(&repetition.sub, times, text)?;
                // What repeats nothing never gets long.
                if text.is_empty() || text.len() > MAX_LENGTH {
                    break;
                }
            }
        }
        HirKind::Capture(capture) => write(&capture.sub, times, text)?,
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| write(part, times, text))?,
        HirKind::Alternation(branches) => write(branches.first()?, times, text)?,
    }
    (text.len() <= MAX_LENGTH).then_some(())
}
