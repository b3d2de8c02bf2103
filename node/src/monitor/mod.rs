//! What was slow: the slow log, and the latency of events and commands.
//!
//! - [`histogram`]: how the times of each command are distributed;
//! - [`slowlog`]: commands over `slowlog-log-slower-than`, with their arguments;
//! - [`latency`]: events over `latency-monitor-threshold`, by kind.

pub mod histogram;
pub mod latency;
pub mod slowlog;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;
use crate::command::{Args, Command, Flags};
use crate::config::Config;
use crate::server::registry::Registry;
use latency::LatencyMonitor;
use slowlog::{SlowEntry, SlowLog};

/// Who has sent a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A client of this node, by its connection's number.
    Client(u64),
    /// Another node, at this address, for a client of its own.
    Node(SocketAddr),
}

impl Default for Caller {
    fn default() -> Self {
        Caller::Client(0)
    }
}

/// Watches how long commands take. Shared by all threads; quick commands cost one comparison.
#[derive(Debug)]
pub struct Monitor {
    /// The slow log.
    pub slowlog: SlowLog,
    /// The latency of events.
    pub latency: LatencyMonitor,
    clients: Arc<Registry>,
    /// Raw clock steps from which on [`Monitor::note`] must be told.
    threshold: AtomicU64,
    slow_us: AtomicU64,
    latency_ms: AtomicU64,
}

/// A threshold that nothing reaches.
const NEVER: u64 = u64::MAX;

impl Monitor {
    /// Returns a monitor of these clients' commands.
    pub fn new(clients: Arc<Registry>, config: &Config) -> Self {
        let monitor = Monitor {
            slowlog: SlowLog::default(),
            latency: LatencyMonitor::default(),
            clients,
            threshold: AtomicU64::new(NEVER),
            slow_us: AtomicU64::new(NEVER),
            latency_ms: AtomicU64::new(NEVER),
        };
        monitor.configure(config);
        monitor
    }

    /// Follows the configuration.
    pub fn configure(&self, config: &Config) {
        let slow_us = u64::try_from(config.slowlog_slower_than_us).unwrap_or(NEVER);
        let latency_ms = match config.latency_threshold_ms {
            0 => NEVER,
            millis => millis,
        };
        let least_us = slow_us.min(latency_ms.saturating_mul(1000));
        let threshold = match least_us {
            NEVER => NEVER,
            micros => clock::raw_of(Duration::from_micros(micros)),
        };
        self.slow_us.store(slow_us, Ordering::Relaxed);
        self.latency_ms.store(latency_ms, Ordering::Relaxed);
        self.threshold.store(threshold, Ordering::Relaxed);
        self.slowlog.set_limit(config.slowlog_len_max);
    }

    /// Raw clock steps from which on a command must be noted.
    #[inline]
    pub fn threshold(&self) -> u64 {
        self.threshold.load(Ordering::Relaxed)
    }

    /// Notes a command that took this many raw clock steps.
    #[cold]
    pub fn note(&self, caller: Caller, command: Command, args: Args<'_>, raw_ticks: u64) {
        let took = clock::duration_of(raw_ticks);
        let millis = took.as_millis() as u64;
        if millis >= self.latency_ms.load(Ordering::Relaxed) {
            let fast = command.spec.flags.has(Flags::FAST);
            let event = if fast { "fast-command" } else { "command" };
            self.latency.add(event, millis, clock::now());
        }
        let micros = took.as_micros() as u64;
        if micros >= self.slow_us.load(Ordering::Relaxed) {
            let (address, name) = self.described(caller);
            let args = slowlog::shortened(command, args);
            self.slowlog.add(SlowEntry { address, name, args, micros, ..SlowEntry::default() });
        }
    }

    /// The address and shortened name of who has sent a command; empty where the client has left.
    fn described(&self, caller: Caller) -> (String, Vec<u8>) {
        match caller {
            Caller::Node(address) => (address.to_string(), Vec::new()),
            Caller::Client(id) => self.clients.get(id).map_or_else(Default::default, |client| {
                (client.address.to_string(), slowlog::short(client.names().name.as_bytes()))
            }),
        }
    }

    /// Notes an event that is no command.
    pub fn note_event(&self, event: &'static str, took: Duration) {
        let millis = took.as_millis() as u64;
        if millis >= self.latency_ms.load(Ordering::Relaxed) {
            self.latency.add(event, millis, clock::now());
        }
    }
}
