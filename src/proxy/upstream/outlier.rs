//! Addresses that fail are left alone for a while (`eject`).

use std::rc::Rc;

use http::StatusCode;

use super::pool::Pool;
use crate::exchange::Tick;
use crate::policy::Upstream;
use crate::policy::upstream::Ejection;
use crate::state::endpoint::ApiLoad;

/// Whether a response counts as a failure of its server.
pub(crate) fn is_failure(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// Notes that a request to an address failed. `all` are those of the API, whose load this is.
pub(crate) fn failed(upstream: &Upstream, load: &ApiLoad, all: &[Rc<Pool>], pool: &Pool, now: Tick) {
    let Some(Ejection { after, lasts, most }) = upstream.eject else { return };
    if !pool.endpoint.failed(after) {
        return;
    }
    let _one_after_the_other = load.ejecting();
    let ejected = all.iter().filter(|one| one.endpoint.is_ejected(now)).count();
    if !may_eject(all.len(), ejected, most.0) {
        return;
    }
    pool.endpoint.eject(Tick(now.0.saturating_add(u64::try_from(lasts.as_nanos()).unwrap_or(u64::MAX / 2))));
    pool.ejected();
    tracing::warn!(
        server = &*pool.server.name,
        address = %pool.endpoint.address,
        "the server failed {after} times in a row; it gets no requests for {lasts:?}"
    );
}

/// Whether one more of these may be ejected, beside those that are. `most` in millionths of all.
fn may_eject(all: usize, ejected: usize, most: u32) -> bool {
    let most = (all as u64).saturating_mul(most.into()) / 1_000_000;
    (ejected as u64) < most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_servers_is_ejected_at_most_and_never_the_only_one() {
        for (all, ejected, most, expected) in [
            (3, 0, 500_000, true),
            (3, 1, 500_000, false),
            (2, 0, 500_000, true),
            (1, 0, 500_000, false),
            (1, 0, 1_000_000, true),
            (100, 9, 100_000, true),
            (100, 10, 100_000, false),
            (0, 0, 1_000_000, false),
        ] {
            assert_eq!(may_eject(all, ejected, most), expected, "{all} {ejected} {most}");
        }
    }
}
