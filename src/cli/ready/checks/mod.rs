//! The checklist: pure functions from facts to items, one file for each subject.

mod consumers;
mod credentials;
mod record;
mod routes;
mod running;
mod secrets;
mod tests;

use super::facts::Facts;
use super::item::Item;

/// Everything on the list, in its order.
pub(super) fn all(facts: &Facts<'_>) -> Vec<Item> {
    vec![
        consumers::plans(facts),
        tests::pass(facts),
        tests::scopes(facts),
        tests::refusals(facts),
        routes::powerful(facts),
        routes::requests(facts),
        routes::responses(facts),
        credentials::token_lifetimes(facts),
        credentials::keys(facts),
        secrets::sources(facts),
        record::leaves(facts),
        record::signed(facts),
        record::drilled(facts),
        running::policy(facts),
    ]
}
