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

/// The address that is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) position: usize,
    /// None may be used: all seem to be unhealthy or are ejected, and the policy says that one is tried all the same.
    pub(crate) is_last_resort: bool,
}

/// Chooses one of these. `None`: none may be used.
pub(crate) fn choose<T>(all: &[T], endpoint: impl Fn(&T) -> &Endpoint, choice: Choice<'_>) -> Option<Chosen> {
    let Choice { now, tried, refuses_if_none_left, .. } = choice;
    let pick = |may: &dyn Fn(usize, &Endpoint) -> bool| {
        let usable = || all.iter().enumerate().filter(|(position, one)| may(*position, endpoint(one)));
        let nth = |number: usize| usable().nth(number).map(|(position, one)| (position, endpoint(one).in_flight()));
        pick(usable().count(), nth, choice)
    };
    let is_untried = |position: usize| !tried.contains(&position);
    let usable = pick(&|position, endpoint| is_untried(position) && endpoint.is_preferred(now))
        .or_else(|| pick(&|position, endpoint| is_untried(position) && endpoint.is_available(now)))
        .or_else(|| if tried.is_empty() { None } else { pick(&|_, endpoint| endpoint.is_available(now)) });
    match usable {
        Some(position) => Some(Chosen { position, is_last_resort: false }),
        None if refuses_if_none_left => None,
        // Servers that all seem to be unhealthy may be so by a fault of the check.
        None => pick(&|_, endpoint| !endpoint.is_drained()).map(|position| Chosen { position, is_last_resort: true }),
    }
}

/// Chooses one of so many; `nth` gives its position, and how busy it is.
fn pick(count: usize, nth: impl Fn(usize) -> Option<(usize, usize)>, choice: Choice<'_>) -> Option<usize> {
    let chosen = match choice.balance {
        Balance::RoundRobin => nth(choice.turn.checked_rem(count)?),
        Balance::LeastRequests => {
            let random = mixed(choice.turn as u64);
            let first = usize::try_from(random >> 32).unwrap_or_default().checked_rem(count)?;
            // Another one, if there is another.
            let step =
                usize::try_from(random & 0xffff_ffff).unwrap_or_default().checked_rem(count - 1).map(|step| step + 1);
            let one = nth(first)?;
            let other = step.and_then(|step| nth((first + step) % count));
            other.filter(|(_, busy)| *busy < one.1).or(Some(one))
        }
    };
    chosen.map(|(position, _)| position)
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
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::*;
    use crate::state::endpoint::KnownEndpoints;

    fn endpoints(count: u16) -> Vec<Arc<Endpoint>> {
        let (known, name) = (KnownEndpoints::default(), Arc::from("http://a"));
        (1..=count).map(|port| known.endpoint(&name, &name, &SocketAddr::from(([127, 0, 0, 1], port)).into())).collect()
    }

    fn at(balance: Balance, turn: usize) -> Choice<'static> {
        Choice { balance, turn, now: Tick(100), tried: &[], refuses_if_none_left: false }
    }

    fn chosen(all: &[Arc<Endpoint>], choice: Choice<'_>) -> Option<usize> {
        choose(all, |one| one, choice).map(|chosen| chosen.position)
    }

    #[test]
    fn one_after_the_other_without_those_that_may_not_be_used() {
        let known = KnownEndpoints::default();
        let address = SocketAddr::from(([127, 0, 0, 1], 80)).into();
        let names: Vec<Arc<str>> = (0..4).map(|number| format!("http://{number}").into()).collect();
        let all: Vec<_> = names.iter().map(|name| known.endpoint(name, name, &address)).collect();
        let round = || (0..6).map(|turn| chosen(&all, at(Balance::RoundRobin, turn)).unwrap()).collect::<Vec<_>>();
        assert_eq!(round(), [0, 1, 2, 3, 0, 1]);
        // Those that are left share what the others would have got.
        all[1].set_healthy(false);
        assert_eq!(round(), [0, 2, 3, 0, 2, 3]);
        all[2].unreachable(Tick(100));
        assert_eq!(round(), [0, 3, 0, 3, 0, 3]);
        all[2].eject(Tick(101));
        assert_eq!(round(), [0, 3, 0, 3, 0, 3]);
        known.drain(&names[3], None, true);
        assert_eq!(round(), [0; 6]);
        let again = Choice { tried: &[0], ..at(Balance::RoundRobin, 0) };
        assert_eq!(chosen(&all, again), Some(0), "it failed, and there is no other");
        all[0].set_healthy(false);
        // Drained ones alone are never tried.
        assert_eq!(round(), [0, 1, 2, 0, 1, 2]);
        let last = choose(&all, |one| one, at(Balance::RoundRobin, 0));
        assert_eq!(last, Some(Chosen { position: 0, is_last_resort: true }));
        let refusing = Choice { refuses_if_none_left: true, ..at(Balance::RoundRobin, 0) };
        assert_eq!(chosen(&all, refusing), None);
        names.iter().for_each(|name| known.drain(name, None, true));
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
        all[0].set_healthy(false);
        let [out, one, other]: [u32; 3] = count(3000);
        assert!(out == 0 && one.abs_diff(other) < 300, "{one} {other}");
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
