//! `rate-limiting`: how the windows of Kong become a rate, a burst and quotas.

use super::node::{Node, Notes};

/// What may be used in each window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Windows {
    second: Option<u32>,
    minute: Option<u32>,
    hour: Option<u32>,
    day: Option<u32>,
    month: Option<u32>,
}

impl Windows {
    /// Reads the plugin; `None`, with a note, if it limits nothing that can be read.
    pub(super) fn read(node: Node<'_>, notes: &mut Notes) -> Option<Self> {
        let Some(config) = node.get("config") else {
            notes.add(node, "this `rate-limiting` has no limit, so it is not taken over");
            return None;
        };
        let mut number = |key| {
            let number = config.number(key).filter(|number| *number > 0);
            if number.is_none() && config.get(key).is_some() {
                notes.add(
                    node,
                    format!("`{key}` is no number from 1 to 4294967295, so it is not taken over; write the limit"),
                );
            }
            number
        };
        let windows = Self {
            second: number("second"),
            minute: number("minute"),
            hour: number("hour"),
            day: number("day"),
            month: number("month"),
        };
        if config.get("year").is_some() {
            notes.add(node, "a limit for each `year` is not taken over; write a quota for each month");
        }
        if let Some(by) = config.text("limit_by").filter(|by| *by != "consumer") {
            let by =
                if ["credential", "ip", "service", "header", "path"].contains(&by) { by } else { "something else" };
            notes.add(
                node,
                format!(
                    "Kong counted by {by}; here each consumer is counted, and on public routes each client address"
                ),
            );
        }
        if !config.is("policy", "local") {
            notes.add(node, "nodes of Kong may have counted together; here they do with `store: { redis: URL }` only");
        }
        (windows != Self::default()).then_some(windows)
    }

    /// Rate and burst. A window may be used up at once, so it is the burst, too; the shortest window is the burst of the next.
    fn rate(&self) -> (u32, &'static str, u32) {
        match *self {
            Self { second, minute: Some(minute), .. } => {
                (minute, "min", second.map_or(minute, |second| second.min(minute)))
            }
            Self { second: Some(second), .. } => (second, "s", second),
            Self { hour: Some(hour), .. } => (hour, "h", hour),
            Self { day: Some(day), .. } => (day, "day", day),
            // With a quota for the month beside it.
            Self { month, .. } => (month.unwrap_or(1), "day", month.unwrap_or(1)),
        }
    }

    fn quotas(&self) -> Vec<String> {
        let hour = self.hour.filter(|_| self.second.or(self.minute).is_some());
        let all = [(hour, "hour"), (self.day, "day"), (self.month, "month")];
        all.into_iter().filter_map(|(count, unit)| count.map(|count| format!("{count}/{unit}"))).collect()
    }

    /// Whether there is a quota, which needs a store.
    pub(super) fn has_quotas(&self) -> bool {
        !self.quotas().is_empty()
    }

    /// The members of a plan or a class, as a map on one line without its braces.
    pub(super) fn members(&self) -> String {
        let (count, unit, burst) = self.rate();
        let quotas = match &*self.quotas() {
            [] => String::new(),
            quotas => format!(", quota: [{}]", quotas.join(", ")),
        };
        format!("rate: {count}/{unit}, burst: {burst}{quotas}")
    }

    /// The rate of a public route.
    pub(super) fn plain_rate(&self) -> String {
        let (count, unit, _) = self.rate();
        format!("{count}/{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_become_rates_and_quotas() {
        let none = Windows::default();
        for (windows, expected) in [
            (Windows { second: Some(5), ..none }, "rate: 5/s, burst: 5"),
            (Windows { minute: Some(100), ..none }, "rate: 100/min, burst: 100"),
            (Windows { second: Some(5), minute: Some(100), ..none }, "rate: 100/min, burst: 5"),
            (Windows { second: Some(5), hour: Some(900), ..none }, "rate: 5/s, burst: 5, quota: [900/hour]"),
            (Windows { hour: Some(900), ..none }, "rate: 900/h, burst: 900"),
            (Windows { day: Some(9), ..none }, "rate: 9/day, burst: 9, quota: [9/day]"),
            (
                Windows { minute: Some(6), day: Some(9), month: Some(99), ..none },
                "rate: 6/min, burst: 6, quota: [9/day, 99/month]",
            ),
            (Windows { month: Some(99), ..none }, "rate: 99/day, burst: 99, quota: [99/month]"),
        ] {
            assert_eq!(windows.members(), expected);
        }
    }
}
