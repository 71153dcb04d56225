//! Which address of an API's servers a request is sent to.

use crate::exchange::Tick;
use crate::policy::upstream::Balance;
use crate::state::endpoint::Endpoint;

/// What the choice depends on, beside the addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice<'a> {
    pub(crate) balance: Balance,
    /// Counts the requests of the API.
    pub(crate) turn: usize,
    pub(crate) now: Tick,
    /// Positions of those that failed for this request: others come first.
    pub(crate) tried: &'a [usize],
    /// Whether there is no choice when none may be used.
    pub(crate) refuses_if_none_left: bool,
}

/// Chooses one of these; returns its position. `None`: none may be used.
pub(crate) fn choose<T>(all: &[T], endpoint: impl Fn(&T) -> &Endpoint, choice: Choice<'_>) -> Option<usize> {
    let Choice { now, tried, refuses_if_none_left, .. } = choice;
    let may =
        |position: &usize, is: &dyn Fn(&Endpoint) -> bool| all.get(*position).is_some_and(|one| is(endpoint(one)));
    let available = |position: &usize| may(position, &|endpoint| endpoint.is_available(now));
    let pick = |is: &dyn Fn(&usize) -> bool| {
        let busy = |position: usize| all.get(position).map_or(0, |one| endpoint(one).in_flight());
        pick(all.len(), choice, is, busy)
    };
    let preferred = |position: &usize| may(position, &|endpoint| endpoint.is_preferred(now));
    pick(&|position| !tried.contains(position) && preferred(position)).or_else(|| {
        let other = pick(&|position| !tried.contains(position) && available(position));
        let again = other.or_else(|| if tried.is_empty() { None } else { pick(&available) });
        // Servers that all seem to be unhealthy may be so by a fault of the check.
        let any = || pick(&|position| may(position, &|endpoint| !endpoint.is_drained()));
        again.or_else(|| if refuses_if_none_left { None } else { any() })
    })
}

fn pick(
    count: usize,
    choice: Choice<'_>,
    may: &dyn Fn(&usize) -> bool,
    busy: impl Fn(usize) -> usize,
) -> Option<usize> {
    // The first that may be used, from this position on.
    let from = |start: usize| (0..count).filter_map(|step| (start.wrapping_add(step)).checked_rem(count)).find(may);
    match choice.balance {
        Balance::RoundRobin => from(choice.turn.checked_rem(count)?),
        Balance::LeastRequests => {
            let random = mixed(choice.turn as u64);
            let first = usize::try_from(random >> 32).unwrap_or_default().checked_rem(count)?;
            // Another one, if there is another.
            let step =
                usize::try_from(random & 0xffff_ffff).unwrap_or_default().checked_rem(count - 1).unwrap_or(0) + 1;
            let (one, other) = (from(first)?, from(first + step)?);
            Some(if busy(other) < busy(one) { other } else { one })
        }
    }
}

/// Spreads consecutive numbers over all 64 bits (the finaliser of SplitMix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::state::endpoint::KnownEndpoints;

    fn endpoints(count: u16) -> Vec<Arc<Endpoint>> {
        let (known, name) = (KnownEndpoints::default(), Arc::from("http://a"));
        (1..=count).map(|port| known.endpoint(&name, ([127, 0, 0, 1], port).into())).collect()
    }

    fn at(balance: Balance, turn: usize) -> Choice<'static> {
        Choice { balance, turn, now: Tick(100), tried: &[], refuses_if_none_left: false }
    }

    fn chosen(all: &[Arc<Endpoint>], choice: Choice<'_>) -> Option<usize> {
        choose(all, |one| one, choice)
    }

    #[test]
    fn one_after_the_other_without_those_that_may_not_be_used() {
        let all = endpoints(4);
        let round = || (0..8).map(|turn| chosen(&all, at(Balance::RoundRobin, turn)).unwrap()).collect::<Vec<_>>();
        assert_eq!(round(), [0, 1, 2, 3, 0, 1, 2, 3]);
        all[1].set_healthy(false);
        all[2].unreachable(Tick(100));
        assert_eq!(round(), [0, 3, 3, 3, 0, 3, 3, 3]);
        all[2].eject(Tick(101));
        assert_eq!(round(), [0, 3, 3, 3, 0, 3, 3, 3]);
        all[3].set_drained(true);
        assert_eq!(round(), [0; 8]);
        let again = Choice { tried: &[0], ..at(Balance::RoundRobin, 0) };
        assert_eq!(chosen(&all, again), Some(0), "it failed, and there is no other");
        all[0].set_healthy(false);
        // Drained ones alone are never tried.
        assert_eq!(round(), [0, 1, 2, 0, 0, 1, 2, 0]);
        let refusing = Choice { refuses_if_none_left: true, ..at(Balance::RoundRobin, 0) };
        assert_eq!(chosen(&all, refusing), None);
        assert!(all.iter().filter(|one| one.set_drained(true)).count() == 3);
        assert_eq!(chosen(&all, at(Balance::RoundRobin, 0)), None);
        assert_eq!(chosen(&[], at(Balance::RoundRobin, 0)), None);
        assert_eq!(chosen(&[], at(Balance::LeastRequests, 0)), None);
    }

    #[test]
    fn of_two_the_one_with_fewer_requests() {
        let all = endpoints(3);
        let busy: Vec<_> = (0..5).map(|_| all[1].begin()).collect();
        let count = |turns: usize| {
            let mut counts = [0; 3];
            (0..turns).for_each(|turn| counts[chosen(&all, at(Balance::LeastRequests, turn)).unwrap()] += 1);
            counts
        };
        assert_eq!(count(300)[1], 0, "it is one of two, and never the better one");
        drop(busy);
        for part in count(3000) {
            assert!((850..=1150).contains(&part), "{part}");
        }
        let one = endpoints(1);
        assert_eq!(chosen(&one, at(Balance::LeastRequests, 7)), Some(0));
    }

    /// Ten slow servers of a hundred: each of their requests takes fifty times as long.
    #[test]
    fn slow_servers_get_few_requests() {
        let all = endpoints(100);
        let (mut running, mut slow): (std::collections::VecDeque<(usize, crate::state::endpoint::EndpointPermit)>, _) =
            (std::collections::VecDeque::new(), 0);
        for turn in 0..20_000 {
            running.retain(|(end, _)| *end > turn);
            let position = chosen(&all, at(Balance::LeastRequests, turn)).unwrap();
            slow += usize::from(position < 10);
            let takes = if position < 10 { 5000 } else { 100 };
            running.push_back((turn + takes, all[position].begin()));
        }
        assert!(slow * 100 <= 12 * 20_000, "{slow} of 20000");
    }
}
