//! What the operating system says of this process and its machine.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::disable_transparent_huge_pages;

/// Clock ticks a second in `/proc`: the same on every Linux architecture that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time used so far, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuTimes {
    /// In the program.
    pub user: f64,
    /// In the system, for the program.
    pub system: f64,
    /// In the program, of children that have ended.
    pub user_children: f64,
    /// In the system, of children that have ended.
    pub system_children: f64,
}

/// Returns the processor time of all threads; zero where the system does not tell.
pub fn cpu_times() -> CpuTimes {
    fs::read_to_string("/proc/self/stat").map(|text| parse_stat(&text)).unwrap_or_default()
}

fn parse_stat(text: &str) -> CpuTimes {
    // The second field is the program's name in parentheses, which may hold anything.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let seconds = |index: usize| {
        let ticks = fields.split_whitespace().nth(index).and_then(|field| field.parse().ok());
        ticks.unwrap_or(0.0) / TICKS_PER_SECOND
    };
    CpuTimes {
        user: seconds(11),
        system: seconds(12),
        user_children: seconds(13),
        system_children: seconds(14),
    }
}

/// Returns the resident memory in bytes; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    kilobytes_of("/proc/self/status", "VmRSS:") * 1024
}

/// Returns the machine's memory in bytes; 0 where the system does not tell.
pub fn machine_bytes() -> u64 {
    kilobytes_of("/proc/meminfo", "MemTotal:") * 1024
}

fn kilobytes_of(file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let rest = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    rest.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Sees to it that the process may have so many files open, as far as the system lets it. Returns
/// how many it may have.
pub fn raise_open_files(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(allowed) = current.filter(|&current| current < wanted) else {
        return current.unwrap_or(u64::MAX);
    };
    let raised = maximum.unwrap_or(wanted).min(wanted);
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
        Ok(()) => raised,
        Err(_) => allowed,
    }
}

/// Has the system give this process memory in pages of 4 KB only, see the option `disable-thp`.
/// Returns whether it does so.
pub fn disable_huge_pages() -> bool {
    disable_transparent_huge_pages(true).is_ok()
}

/// Returns system, release and architecture, as `uname` has them.
pub fn system_name() -> String {
    let read = |name: &str| {
        fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default().trim().to_owned()
    };
    format!("{} {} {}", read("ostype"), read("osrelease"), std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_times_are_read_behind_any_name() {
        let line = "7 (a) (b) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 7 8 20 0 1";
        let times = parse_stat(line);
        assert_eq!((times.user, times.system), (1.5, 0.25));
        assert_eq!((times.user_children, times.system_children), (0.07, 0.08));
        assert_eq!(parse_stat(""), CpuTimes::default());
    }

    #[test]
    fn open_files_are_raised_and_never_lowered() {
        let before = raise_open_files(0);
        let wanted = before.saturating_add(1);
        let raised = raise_open_files(wanted);
        assert!(raised == wanted || raised == before, "{before} {raised}");
        assert_eq!(raise_open_files(0), raised);
    }

    #[test]
    fn huge_pages_are_disabled_where_the_system_says_so() {
        if disable_huge_pages() {
            assert!(rustix::thread::transparent_huge_pages_are_disabled().unwrap());
        }
    }

    #[test]
    fn this_process_is_resident_in_this_machine() {
        assert!(resident_bytes() > 0 && resident_bytes() < machine_bytes());
        assert!(system_name().contains(std::env::consts::ARCH));
    }
}
