//! How long events took that took long.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::records::UnixMillis;

/// Samples kept of each event (Redis: `LATENCY_TS_LEN`).
const SAMPLES_MAX: usize = 160;

/// Columns and rows of a graph.
const GRAPH_COLUMNS: usize = 80;
const GRAPH_ROWS: usize = 4;
/// What a graph is drawn with, from low to high.
const GRAPH_LEVELS: &[u8; 3] = b"_o#";

/// The worst that one event took within one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Unix seconds.
    pub time_s: u64,
    /// Milliseconds.
    pub millis: u64,
}

/// What is known of one event.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Samples, the oldest first; never empty.
    pub samples: VecDeque<Sample>,
    /// The longest since the last reset, in milliseconds.
    pub max_ms: u64,
}

impl Series {
    /// Draws the samples as Redis does: a column each, with its age below, read downwards.
    pub fn graph(&self, event: &str, now_s: u64) -> String {
        let values = || self.samples.iter().map(|sample| sample.millis);
        let (low, high) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
        let mut text = format!(
            "{event} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
            self.max_ms,
            "-".repeat(GRAPH_COLUMNS)
        );
        let columns: Vec<Column> = self
            .samples
            .iter()
            .map(|sample| {
                let steps = (GRAPH_ROWS * GRAPH_LEVELS.len()) as u64;
                let step = (sample.millis - low) * steps / (high - low).max(1);
                let step = step.min(steps - 1) as usize;
                Column { step, age: age(now_s.saturating_sub(sample.time_s)) }
            })
            .collect();
        for (number, part) in columns.chunks(GRAPH_COLUMNS).enumerate() {
            if number > 0 {
                text.push('\n');
            }
            draw(&mut text, part);
        }
        text
    }
}

/// A column of a graph.
struct Column {
    /// Height, in levels.
    step: usize,
    /// What stands below.
    age: String,
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn draw(text: &mut String, columns: &[Column]) {
    for row in (0..GRAPH_ROWS).rev() {
        let bottom = row * GRAPH_LEVELS.len();
        text.extend(columns.iter().map(|column| match column.step.checked_sub(bottom) {
            None => ' ',
            Some(level) => GRAPH_LEVELS.get(level).map_or('|', |&byte| byte.into()),
        }));
        text.push('\n');
    }
    text.push_str(&" ".repeat(columns.len()));
    text.push('\n');
    let longest = columns.iter().map(|column| column.age.len()).max().unwrap_or(0);
    for at in 0..longest {
        let letter = |column: &Column| column.age.as_bytes().get(at).map_or(' ', |&b| b.into());
        text.extend(columns.iter().map(letter));
        text.push('\n');
    }
}

/// The events that took long.
#[derive(Debug, Default)]
pub struct LatencyMonitor(Mutex<BTreeMap<&'static str, Series>>);

impl LatencyMonitor {
    /// Adds a sample. Samples of one second become one: the worst.
    pub fn add(&self, event: &'static str, millis: u64, now: UnixMillis) {
        let time_s = now.0 / 1000;
        let mut events = self.lock();
        let series = events.entry(event).or_default();
        series.max_ms = series.max_ms.max(millis);
        if let Some(last) = series.samples.back_mut().filter(|last| last.time_s == time_s) {
            last.millis = last.millis.max(millis);
            return;
        }
        if series.samples.len() == SAMPLES_MAX {
            series.samples.pop_front();
        }
        series.samples.push_back(Sample { time_s, millis });
    }

    /// Returns all events.
    pub fn all(&self) -> Vec<(&'static str, Series)> {
        self.lock().iter().map(|(event, series)| (*event, series.clone())).collect()
    }

    /// Returns what is known of an event, if it ever took long.
    pub fn series(&self, event: &str) -> Option<Series> {
        self.lock().get(event).cloned()
    }

    /// Returns the samples of an event, the oldest first.
    pub fn samples(&self, event: &str) -> Vec<Sample> {
        let events = self.lock();
        events.get(event).map(|series| series.samples.iter().copied().collect()).unwrap_or_default()
    }

    /// Forgets an event, or all. Returns how many there were.
    pub fn reset(&self, event: Option<&str>) -> usize {
        let mut events = self.lock();
        match event {
            Some(event) => usize::from(events.remove(event).is_some()),
            None => std::mem::take(&mut *events).len(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Series>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_second_become_the_worst_of_them() {
        let monitor = LatencyMonitor::default();
        for (millis, now) in [(5, 1000), (9, 1900), (7, 1999), (3, 2000)] {
            monitor.add("command", millis, UnixMillis(now));
        }
        let samples = monitor.samples("command");
        assert_eq!(samples, [Sample { time_s: 1, millis: 9 }, Sample { time_s: 2, millis: 3 }]);
        assert_eq!(monitor.all()[0].1.max_ms, 9);
        assert_eq!((monitor.reset(Some("nosuch")), monitor.reset(None)), (0, 1));
        assert!(monitor.samples("command").is_empty());
    }

    #[test]
    fn a_graph_has_a_column_for_each_sample_and_its_age() {
        let monitor = LatencyMonitor::default();
        for (second, millis) in [(0, 100), (86_300, 200), (86_390, 150)] {
            monitor.add("command", millis, UnixMillis(second * 1000));
        }
        let graph = monitor.series("command").unwrap().graph("command", 86_400);
        let rows = [" # ", " |_", " ||", "_||", "   ", "111", "dm0", "  s", ""].join("\n");
        let head = "command - high 200 ms, low 100 ms (all time high 200 ms)";
        let expected = format!("{head}\n{}\n{rows}", "-".repeat(80));
        assert_eq!(graph, expected);
    }

    #[test]
    fn old_samples_make_room() {
        let monitor = LatencyMonitor::default();
        for second in 0..500 {
            monitor.add("command", 1, UnixMillis(second * 1000));
        }
        let samples = monitor.samples("command");
        assert_eq!((samples.len(), samples[0].time_s), (SAMPLES_MAX, 500 - SAMPLES_MAX as u64));
    }
}
