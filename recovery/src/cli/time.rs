//! Times as people write them, and points in the log.

use distcache_recovery::{SequenceNumber, UnixMillis};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

/// Numbers from here on are Unix milliseconds where a sequence number could stand as well: this
/// is March 1973, and a log takes months to get so many records.
const MILLIS_FROM: u64 = 100_000_000_000;

/// Characters of a date.
const DATE_LENGTH: usize = 10;

/// The time zone and the present, to which times are relative.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    now: Zoned,
}

/// A point in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// Its end.
    End,
    /// Right after this record.
    Sequence(SequenceNumber),
    /// After everything that was written up to this time.
    Time(UnixMillis),
}

/// Why text is no time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TimeError {
    /// Nothing that is known.
    #[error(
        "'{0}' is not a time: write 10:00, 2026-11-22, '2026-11-22 10:00', 2026-11-22T10:00:00Z, \
         -15m or Unix milliseconds"
    )]
    Unknown(String),
    /// A number too small for milliseconds.
    #[error("'{0}' as Unix milliseconds would be long before any log: are these seconds?")]
    TooSmall(String),
    /// A time outside the years that can be reckoned with, or before 1970.
    #[error("'{0}' is out of range")]
    Range(String),
    /// No sequence number follows `seq:`.
    #[error("'{0}' is not a sequence number")]
    Sequence(String),
}

impl Clock {
    /// Returns the clock of this moment, in UTC or the local time zone.
    pub(super) fn new(is_utc: bool) -> Self {
        let zone = if is_utc { TimeZone::UTC } else { TimeZone::system() };
        Self { now: Timestamp::now().to_zoned(zone) }
    }

    /// Returns the moment at which the tool was started.
    pub(super) fn now(&self) -> UnixMillis {
        UnixMillis(self.now.timestamp().as_millisecond().max(0).unsigned_abs())
    }

    /// Shows a time in this clock's zone, with milliseconds and offset.
    pub(super) fn show(&self, time: UnixMillis) -> String {
        let zone = self.now.time_zone();
        let timestamp =
            i64::try_from(time.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        match timestamp {
            Some(timestamp) if *zone == TimeZone::UTC => {
                timestamp.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3fZ").to_string()
            }
            Some(timestamp) => {
                timestamp.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f%:z").to_string()
            }
            None => format!("{time} ms after 1970"),
        }
    }

    /// Parses a time.
    pub(super) fn parse_time(&self, text: &str) -> Result<UnixMillis, TimeError> {
        let text = text.trim();
        let digits = text.strip_prefix("ms:").unwrap_or(text);
        if let Ok(number) = digits.parse::<u64>() {
            return match number {
                MILLIS_FROM.. => Ok(UnixMillis(number)),
                _ if digits.len() < text.len() => Ok(UnixMillis(number)),
                _ => Err(TimeError::TooSmall(text.to_owned())),
            };
        }
        let range = || TimeError::Range(text.to_owned());
        let timestamp = match self.parse_calendar(text) {
            Some(zoned) => zoned.map_err(|_| range())?.timestamp(),
            None => self.parse_span(text)?.timestamp(),
        };
        u64::try_from(timestamp.as_millisecond()).map(UnixMillis).map_err(|_| range())
    }

    /// Parses a point: a sequence number, a time, or `end`.
    pub(super) fn parse_point(&self, text: &str) -> Result<Point, TimeError> {
        let text = text.trim();
        if text == "end" {
            return Ok(Point::End);
        }
        if let Some(digits) = text.strip_prefix("seq:") {
            let number = digits.parse().map_err(|_| TimeError::Sequence(text.to_owned()))?;
            return Ok(Point::Sequence(SequenceNumber(number)));
        }
        match text.parse::<u64>() {
            Ok(number @ ..MILLIS_FROM) => Ok(Point::Sequence(SequenceNumber(number))),
            _ => self.parse_time(text).map(Point::Time),
        }
    }

    /// Parses what has a clock or a calendar in it; none if the text has no such form.
    fn parse_calendar(&self, text: &str) -> Option<Result<Zoned, jiff::Error>> {
        let zone = self.now.time_zone();
        // With an offset or Z.
        if let Ok(timestamp) = text.parse::<Timestamp>() {
            return Some(Ok(timestamp.to_zoned(zone.clone())));
        }
        let civil = match text.split_at_checked(DATE_LENGTH) {
            Some((date, "")) if date.contains('-') => {
                parse_date(date)?.to_datetime(Time::midnight())
            }
            Some((date, time)) if date.contains('-') => {
                parse_date(date)?.to_datetime(parse_clock(time.strip_prefix(['T', ' '])?)?)
            }
            _ => self.now.date().to_datetime(parse_clock(text)?),
        };
        Some(civil.to_zoned(zone.clone()))
    }

    /// Parses a span before now, as `-15m`.
    fn parse_span(&self, text: &str) -> Result<Zoned, TimeError> {
        let unknown = || TimeError::Unknown(text.to_owned());
        let length = text.strip_prefix('-').filter(|rest| starts_with_digit(rest));
        let span: Span = length.ok_or_else(unknown)?.parse().map_err(|_| unknown())?;
        // '-1h ago' would be in the future.
        if span.is_negative() {
            return Err(unknown());
        }
        self.now.checked_sub(span).map_err(|_| TimeError::Range(text.to_owned()))
    }
}

// The parser takes times as dates, and offsets and zones with either, and drops what it has no
// use for; so only what has nothing but a date or a clock in it is given to it.

fn parse_date(text: &str) -> Option<Date> {
    let is_date = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    (is_date && starts_with_digit(text)).then(|| text.parse().ok()).flatten()
}

fn parse_clock(text: &str) -> Option<Time> {
    let is_clock = |byte: u8| byte.is_ascii_digit() || byte == b':' || byte == b'.';
    let is_clock = text.contains(':') && text.bytes().all(is_clock);
    is_clock.then(|| text.parse().ok()).flatten()
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|char: char| char.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(zone: &str) -> Clock {
        let now: Timestamp = "2026-11-22T10:30:00Z".parse().unwrap();
        Clock { now: now.to_zoned(TimeZone::get(zone).unwrap()) }
    }

    fn parsed(zone: &str, text: &str) -> Result<String, TimeError> {
        let time = clock(zone).parse_time(text)?;
        Ok(clock("UTC").show(time))
    }

    #[test]
    fn times_are_read_in_every_documented_form() {
        for (zone, text, expected) in [
            ("UTC", "10:00", "2026-11-22 10:00:00.000Z"),
            ("Europe/Berlin", "10:00", "2026-11-22 09:00:00.000Z"),
            ("UTC", "10:00:01.5", "2026-11-22 10:00:01.500Z"),
            ("Europe/Berlin", "2026-07-01", "2026-06-30 22:00:00.000Z"),
            ("UTC", "2026-11-22 10:00", "2026-11-22 10:00:00.000Z"),
            ("Europe/Berlin", "2026-11-22T10:00", "2026-11-22 09:00:00.000Z"),
            ("Europe/Berlin", "2026-11-22T10:00:00Z", "2026-11-22 10:00:00.000Z"),
            ("UTC", "2026-11-22T10:00:00+02:00", "2026-11-22 08:00:00.000Z"),
            ("Europe/Berlin", "2026-11-22 10:00-02:00", "2026-11-22 12:00:00.000Z"),
            ("UTC", "2026-11-22 10:00:00.25", "2026-11-22 10:00:00.250Z"),
            ("UTC", "-15m", "2026-11-22 10:15:00.000Z"),
            ("UTC", "-2h30m", "2026-11-22 08:00:00.000Z"),
            ("UTC", "-1d", "2026-11-21 10:30:00.000Z"),
            ("UTC", "1764000000123", "2025-11-24 16:00:00.123Z"),
            ("UTC", "ms:5", "1970-01-01 00:00:00.005Z"),
        ] {
            assert_eq!(parsed(zone, text).as_deref(), Ok(expected), "{text} in {zone}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_its_reason() {
        for text in [
            "",
            "ten",
            "25:00",
            "2026-13-01",
            "2026-11-22T",
            "15m",
            "-",
            "-x",
            "ñññññ",
            // These were taken, and a part of them was dropped.
            "10:00+02:00",
            "10:00-02:00",
            "10:00Z",
            "2026-11-22T11",
            "2026-11-22T1130",
            "2026-11-22T11:00[Asia/Tokyo]",
            "2026-11-22 11:00-99:00",
            "--1d",
            "-+1d",
            "-1h ago",
        ] {
            assert_eq!(parsed("UTC", text), Err(TimeError::Unknown(text.to_owned())), "{text}");
        }
        assert_eq!(parsed("UTC", "1764000000"), Err(TimeError::TooSmall("1764000000".to_owned())));
        assert_eq!(parsed("UTC", "-99y"), Err(TimeError::Range("-99y".to_owned())));
    }

    #[test]
    fn points_are_sequences_or_times() {
        let clock = clock("UTC");
        let sequence = |number| Ok(Point::Sequence(SequenceNumber(number)));
        assert_eq!(clock.parse_point("0"), sequence(0));
        assert_eq!(clock.parse_point("seq:999999999999"), sequence(999_999_999_999));
        let time = Ok(Point::Time(UnixMillis(1_764_000_000_000)));
        assert_eq!(clock.parse_point("1764000000000"), time);
        assert_eq!(clock.parse_point("ms:1764000000000"), time);
        assert_eq!(clock.parse_point("end"), Ok(Point::End));
        assert!(clock.parse_point("seq:x").is_err());
    }

    #[test]
    fn times_beyond_the_calendar_are_still_shown() {
        let shown = clock("UTC").show(UnixMillis(u64::MAX));
        assert_eq!(shown, "18446744073709551615 ms after 1970");
        let shown = clock("Europe/Berlin").show(UnixMillis(0));
        assert_eq!(shown, "1970-01-01 01:00:00.000+01:00");
    }
}
