//! What the system says about this process, for `/metrics`: read from `/proc` when the page is requested.

use std::fs;

use crate::telemetry::ProcessNumbers;

/// Ticks per second in `/proc` (`USER_HZ`, proc(5)): 100 in the interface of every Linux that Rust has a target for.
const TICKS: f64 = 100.0;

/// Reads the numbers; `None` on a system without `/proc`.
pub(super) fn numbers() -> Option<ProcessNumbers> {
    let read = |name: &str| fs::read_to_string(name).ok();
    // One of the entries is the folder that is being read.
    let open_fds = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    parse(&read("/proc/self/stat")?, &read("/proc/self/status")?, &read("/proc/self/limits")?, &read("/proc/stat")?)
        .map(|numbers| ProcessNumbers { open_fds: open_fds as u64, ..numbers })
}

fn parse(stat: &str, status: &str, limits: &str, system: &str) -> Option<ProcessNumbers> {
    // The name of the program, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // proc(5) counts from 1, and these begin with the third.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let after = |text: &str, start: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(start))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    let kilobytes = after(status, "VmRSS:")?.parse::<u64>().ok()?;
    let boot: f64 = after(system, "btime ")?.parse().ok()?;
    Some(ProcessNumbers {
        cpu_seconds: (field(14)? + field(15)?) as f64 / TICKS,
        started: boot + field(22)? as f64 / TICKS,
        virtual_memory: field(23)?,
        resident_memory: kilobytes.saturating_mul(1024),
        // Absent if it is unlimited.
        max_fds: after(limits, "Max open files").and_then(|count| count.parse().ok()),
        open_fds: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_proc() {
        let stat = "42 (odd) name)) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 3 0 1000 987654 12 184467440";
        let status = "Name:\todd\nVmPeak:\t  999 kB\nVmRSS:\t    2048 kB\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 4096                 files\n";
        let parsed = parse(stat, status, limits, "cpu 1 2\nbtime 1700000000\n").unwrap();
        let expected = ProcessNumbers {
            cpu_seconds: 2.0,
            started: 1_700_000_010.0,
            virtual_memory: 987_654,
            resident_memory: 2 << 20,
            max_fds: Some(1024),
            open_fds: 0,
        };
        assert_eq!(parsed, expected);
        assert_eq!(parse("", status, limits, ""), None);
        let unlimited = parse(stat, status, "Max open files            unlimited", "btime 1\n");
        assert_eq!(unlimited.unwrap().max_fds, None);
    }

    #[test]
    fn this_process_has_numbers() {
        let numbers = numbers().unwrap();
        assert!(numbers.resident_memory > 1 << 20 && numbers.open_fds > 2 && numbers.started > 1e9, "{numbers:?}");
    }
}
