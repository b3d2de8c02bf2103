//! The log lines of the program: where they go and what they look like.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter};

use crate::clock::{self, Ticks};
use crate::records::UnixMillis;

/// Libraries whose lines below `warn` are about their insides, not about this node.
const QUIET: &[&str] = &["sled", "mio", "tokio", "actix"];

/// Sends log lines to standard error, from this level on; [`set_level`] changes it later.
pub fn start(level: LevelFilter) {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Trace);
    for library in QUIET {
        builder.filter_module(library, LevelFilter::Warn);
    }
    builder.format(|out, record| {
        let mut fields = Fields(String::new());
        // Visiting fails only if a field refuses to be written, which ours do not.
        let _ = record.key_values().visit(&mut fields);
        let time = utc(clock::now());
        writeln!(out, "{time} {:<5} {}{}", record.level(), record.args(), fields.0)
    });
    // A test may have installed a logger before; its choice stands.
    let _ = builder.try_init();
    set_level(level);
}

/// Changes the least severe level that is written.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

/// A warning that is repeated now and then only, as what causes it may go on for ever, or be
/// anybody's doing.
#[derive(Debug)]
pub struct Seldom {
    pause: Duration,
    last: Mutex<Option<Ticks>>,
}

impl Seldom {
    /// A warning that comes no more often than once in `pause`.
    pub const fn new(pause: Duration) -> Self {
        Seldom { pause, last: Mutex::new(None) }
    }

    /// Returns the level of the line that is to be logged now: debug, where there was a warning
    /// within the pause.
    pub fn level(&self) -> Level {
        self.level_at(Ticks::now())
    }

    fn level_at(&self, now: Ticks) -> Level {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.since(last) < self.pause) {
            return Level::Debug;
        }
        *last = Some(now);
        Level::Warn
    }
}

struct Fields(String);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        use std::fmt::Write;
        write!(self.0, " {key}={value}").map_err(kv::Error::from)
    }
}

/// A time as `2026-11-22T18:14:56.123Z`.
fn utc(time: UnixMillis) -> String {
    let seconds = time.0 / 1000;
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let milli = time.0 % 1000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Year, month and day of a day counted from 1970 (Howard Hinnant, `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_repeated_only_after_its_pause() {
        let second = Duration::from_secs(1);
        let seldom = Seldom::new(10 * second);
        let begin = Ticks::now();
        let at = |seconds| seldom.level_at(begin.after(seconds * second));
        assert_eq!([at(0), at(1), at(9)], [Level::Warn, Level::Debug, Level::Debug]);
        assert_eq!([at(11), at(12), at(22)], [Level::Warn, Level::Debug, Level::Warn]);
    }

    #[test]
    fn times_are_written_in_utc() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_371_296_123, "2026-11-22T18:14:56.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        ] {
            assert_eq!(utc(UnixMillis(millis)), text);
        }
    }
}
