//! Pages of lists. Rows are made for the page that is asked for, however many entries there are: all requests of operators share one
//! thread.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{Completed, Operation, Result, wrong_query};
use crate::state::registry::Part;

/// Which part of a list is asked for: `?limit=` and `?after=`.
pub(super) struct Page {
    pub(super) limit: usize,
    pub(super) after: Option<String>,
}

/// An entry that the policy lists, or that was made at run time.
pub(super) enum Row<L, M> {
    Listed(L),
    Made(M),
}

impl Operation<'_> {
    /// Which part of a list this request asks for.
    pub(super) fn page(&self) -> Result<Page> {
        Page::of(self.query)
    }
}

impl Page {
    fn of(query: Option<&str>) -> Result<Self> {
        let (mut limit, mut after) = (100, None);
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8().map_err(|_| wrong_query("the query is not UTF-8"))?;
            match name {
                "limit" => {
                    let number = value.parse().ok().filter(|number| (1..=1000).contains(number));
                    limit =
                        number.ok_or_else(|| wrong_query("`limit` in the query must be a number from 1 to 1000"))?;
                }
                "after" => after = Some(value.into_owned()),
                _ => return Err(wrong_query("the query has an unknown parameter; use `limit` or `after`")),
            }
        }
        Ok(Self { limit, after })
    }

    /// What has to be known of a sorted list: one more entry than is shown says whether there is another page.
    pub(super) fn part(&self) -> Part<'_> {
        Part { after: self.after.as_deref(), limit: self.limit + 1 }
    }

    /// The entries of this page, each with its id, sorted by that; and the last id if there are more. Of a list that is sorted
    /// already, only [`Self::part`] has to be among `entries`.
    pub(super) fn take<'e, T>(
        &self,
        entries: impl Iterator<Item = (&'e str, T)>,
    ) -> (Vec<(&'e str, T)>, Option<String>) {
        let mut entries: Vec<_> = entries.filter(|(id, _)| self.part().is_behind(id)).collect();
        entries.sort_by_key(|(id, _)| *id);
        let is_last = entries.len() <= self.limit;
        entries.truncate(self.limit);
        let next = entries.last().filter(|_| !is_last).map(|(id, _)| (*id).to_owned());
        (entries, next)
    }

    /// The page of these entries.
    pub(super) fn show<'e, T>(
        &self,
        entries: impl Iterator<Item = (&'e str, T)>,
        row: impl Fn(T) -> Value,
    ) -> Completed {
        let (entries, next) = self.take(entries);
        let items: Vec<Value> = entries.into_iter().map(|(_, entry)| row(entry)).collect();
        Completed::shown(json!({"items": items, "next": next}))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn rows_are_made_for_the_page_alone() {
        let entries: Vec<String> = (0..1000).rev().map(|number| format!("{number:03}")).collect();
        for (query, items, next) in [
            ("", (0, 100), Some("099")),
            ("limit=2", (0, 2), Some("001")),
            ("limit=2&after=001", (2, 4), Some("003")),
            ("limit=2&after=0015", (2, 4), Some("003")),
            ("limit=2&after=997", (998, 1000), None),
            ("limit=3&after=998", (999, 1000), None),
            ("after=999", (0, 0), None),
            ("limit=1000", (0, 1000), None),
        ] {
            let made = Cell::new(0);
            let row = |one: &String| {
                made.set(made.get() + 1);
                Value::from(one.as_str())
            };
            let shown = Page::of(Some(query)).unwrap().show(entries.iter().map(|one| (one.as_str(), one)), row).body;
            let expected: Vec<_> = (items.0..items.1).map(|number| format!("{number:03}")).collect();
            assert_eq!(shown, json!({"items": expected, "next": next}), "{query}");
            assert_eq!(made.get(), expected.len(), "{query}");
        }
    }
}
