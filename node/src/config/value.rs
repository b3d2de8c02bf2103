//! Values of options: what each kind accepts, and how a value is written back.
//!
//! One parser serves all sources. Error texts are those of Redis 7.0 where it has the kind.

use std::fmt;
use std::net::IpAddr;

use super::seeds::{self, Seed};
use super::structured::{OutputLimits, Percentiles, SavePoints, parse_events, write_events};

/// The largest value of options that Redis holds in a C `int`.
pub(super) const INT_MAX: i64 = i32::MAX as i64;

/// What an option accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `yes` or `no`; at start also `on`, `off`, `true`, `false`.
    Flag,
    /// A decimal integer from `min` to `max`, counted in `unit` (empty: a bare number).
    Integer {
        /// Smallest value accepted.
        min: i64,
        /// Largest value accepted.
        max: i64,
        /// What is counted, for people.
        unit: &'static str,
    },
    /// As `Integer` from 0 to `INT_MAX`, silently moved into `low..=high`, as Redis does with `hz`.
    Clamped {
        /// Smallest value kept.
        low: i64,
        /// Largest value kept.
        high: i64,
    },
    /// Bytes, with Redis's units: `k` is 1000, `kb` is 1024, and so `m`, `mb`, `g`, `gb`.
    Size {
        /// Smallest value accepted, in bytes.
        min: u64,
        /// Largest value accepted, in bytes.
        max: u64,
    },
    /// Bytes as `Size`, or a share such as `5%`.
    SizeOrPercent,
    /// One word of a list.
    Choice {
        /// The words of our own name.
        words: &'static [&'static str],
        /// The words under the names of Redis, by position; empty when they are the same ones.
        redis: &'static [&'static str],
    },
    /// Any text.
    Text,
    /// A file or directory.
    Path,
    /// A text that is never printed.
    Secret,
    /// IP addresses, `*` for all of IPv4, `::*` for all of IPv6; a leading `-` means "if any".
    Addresses,
    /// The name or the IP address of a machine, or nothing.
    Host,
    /// Nodes as `host[:port]`, with commas or spaces between them; may be none.
    Seeds,
    /// Pairs of seconds and changes.
    SavePoints,
    /// Numbers from 0 to 100; may be none.
    Percentiles,
    /// Groups of class, hard limit, soft limit, soft seconds.
    OutputLimits,
    /// Letters of event classes.
    Events,
}

/// A password: compares and clones as text, prints as `(hidden)`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text itself; never log it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(hidden)")
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindAddress {
    /// The address.
    pub ip: IpAddr,
    /// True when the node shall start even if the machine has no such address.
    pub optional: bool,
    /// As it was written.
    text: String,
}

impl BindAddress {
    /// Returns an address that must be there.
    pub fn new(ip: IpAddr) -> Self {
        Self { ip, optional: false, text: ip.to_string() }
    }

    fn parse(text: &str) -> Option<Self> {
        let (optional, name) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let ip = match name {
            "*" => IpAddr::from([0, 0, 0, 0]),
            "::*" => IpAddr::from([0u16; 8]),
            "localhost" => IpAddr::from([127, 0, 0, 1]),
            _ => name.parse().ok()?,
        };
        Some(Self { ip, optional, text: text.to_owned() })
    }
}

/// A limit in bytes or in percent of `maxmemory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeLimit {
    /// A number of bytes; 0 is no limit.
    Bytes(u64),
    /// 1 to 100 percent of `maxmemory`.
    Percent(u8),
}

/// A parsed value; which variant belongs to which [`Kind`] is checked over the whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of `Kind::Flag`.
    Flag(bool),
    /// Of `Kind::Integer` and `Kind::Clamped`.
    Integer(i64),
    /// Of `Kind::Size`, in bytes.
    Size(u64),
    /// Of `Kind::SizeOrPercent`.
    SizeOrPercent(SizeLimit),
    /// Of `Kind::Choice`: the position of the word.
    Choice(usize),
    /// Of `Kind::Text`, `Kind::Path` and `Kind::Host`.
    Text(String),
    /// Of `Kind::Secret`.
    Secret(Secret),
    /// Of `Kind::Addresses`.
    Addresses(Vec<BindAddress>),
    /// Of `Kind::Seeds`.
    Seeds(Vec<Seed>),
    /// Of `Kind::SavePoints`.
    SavePoints(SavePoints),
    /// Of `Kind::Percentiles`.
    Percentiles(Percentiles),
    /// Of `Kind::OutputLimits`.
    OutputLimits(OutputLimits),
    /// Of `Kind::Events`: a bit for each class.
    Events(u16),
}

/// Why a text is no value of a kind; the text is the one Redis 7.0 gives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(super) String);

impl ValueError {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Whose words a name speaks: ours, or those of Redis for an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The option's own name.
    Own,
    /// A name that Redis gives to the option.
    Redis,
}

impl Kind {
    /// Parses `text` as `CONFIG SET` does; `present` supplies what `text` leaves out.
    ///
    /// # Errors
    /// [`ValueError`], ready to follow the option's name.
    pub fn parse(
        &self,
        dialect: Dialect,
        text: &str,
        present: &Value,
    ) -> Result<Value, ValueError> {
        match *self {
            Self::Flag => parse_flag(text).map(Value::Flag),
            Self::Integer { min, max, .. } => parse_integer(text, min, max).map(Value::Integer),
            Self::Clamped { low, high } => {
                parse_integer(text, 0, INT_MAX).map(|n| Value::Integer(n.clamp(low, high)))
            }
            Self::Size { min, max } => {
                let bytes = parse_size(text)
                    .ok_or_else(|| ValueError::new("argument must be a memory value"))?;
                check_range(bytes, min, max).map(Value::Size)
            }
            Self::SizeOrPercent => parse_size_or_percent(text).map(Value::SizeOrPercent),
            Self::Choice { words, redis } => {
                let words = choice_words(dialect, words, redis);
                position(words, text).map(Value::Choice).ok_or_else(|| {
                    let list = words.join(", ");
                    ValueError(format!("argument(s) must be one of the following: {list}"))
                })
            }
            Self::Text | Self::Path => Ok(Value::Text(text.to_owned())),
            Self::Secret => Ok(Value::Secret(Secret::new(text))),
            Self::Addresses => parse_addresses(text).map(Value::Addresses),
            Self::Host if text.is_empty() || seeds::is_host(text) => {
                Ok(Value::Text(text.to_owned()))
            }
            Self::Host => Err(ValueError::new("argument must be a host name or an IP address")),
            Self::Seeds => seeds::parse(text).map(Value::Seeds).ok_or_else(|| {
                ValueError::new("argument must be hosts, each with or without a port")
            }),
            Self::SavePoints => SavePoints::parse(text).map(Value::SavePoints),
            Self::Percentiles => Percentiles::parse(text).map(Value::Percentiles),
            Self::OutputLimits => {
                let before = match present {
                    Value::OutputLimits(limits) => *limits,
                    _ => OutputLimits::default(),
                };
                before.updated(text).map(Value::OutputLimits)
            }
            Self::Events => parse_events(text).map(Value::Events),
        }
    }

    /// Parses `text` as flags, environment and file may write it: as [`Kind::parse`], and also
    /// `on`, `off`, `true`, `false`, and of a choice also the words of the other dialect.
    ///
    /// # Errors
    /// [`ValueError`], as [`Kind::parse`].
    pub fn parse_at_start(
        &self,
        dialect: Dialect,
        text: &str,
        present: &Value,
    ) -> Result<Value, ValueError> {
        let text = match (self, text.to_ascii_lowercase().as_str()) {
            (Self::Flag, "on" | "true") => "yes",
            (Self::Flag, "off" | "false") => "no",
            _ => text,
        };
        let other = match dialect {
            Dialect::Own => Dialect::Redis,
            Dialect::Redis => Dialect::Own,
        };
        self.parse(dialect, text, present).or_else(|error| match self {
            Self::Choice { .. } => self.parse(other, text, present).map_err(|_| error),
            _ => Err(error),
        })
    }

    /// Says for people what is allowed.
    pub fn allowed(&self) -> String {
        match *self {
            Self::Flag => "yes or no".to_owned(),
            Self::Integer { min, max, unit: "" } => format!("{min} to {max}"),
            Self::Integer { min, max, unit } => format!("{min} to {max} {unit}"),
            Self::Clamped { low, high } => format!("{low} to {high}"),
            Self::Size { min, .. } if min > 0 => {
                format!("a size of at least {}, as 100mb or 2gb", write_size(min))
            }
            Self::Size { .. } => "a size, as 100mb or 2gb".to_owned(),
            Self::SizeOrPercent => "a size, as 100mb, or a share, as 5%".to_owned(),
            Self::Choice { words, .. } => words.join(", "),
            Self::Path => "a path".to_owned(),
            Self::Text | Self::Secret => "any text".to_owned(),
            Self::Addresses => "IP addresses, * (all IPv4), ::* (all IPv6)".to_owned(),
            Self::Host => "a host name or an IP address".to_owned(),
            Self::Seeds => "host[:port], with commas or spaces between several".to_owned(),
            Self::SavePoints => "pairs of seconds and changes, as '3600 1 300 100'".to_owned(),
            Self::Percentiles => "numbers from 0 to 100 with spaces between them".to_owned(),
            Self::OutputLimits => {
                "groups of class (normal, replica, pubsub), hard limit, soft limit, soft seconds"
                    .to_owned()
            }
            Self::Events => "letters of Ag$lshzxeKEtmdn".to_owned(),
        }
    }

    /// Writes `value` as [`Kind::parse_at_start`] reads it back: as [`Kind::write`], but with our
    /// own word where Redis has none.
    pub(super) fn write_for_start(&self, dialect: Dialect, value: &Value) -> String {
        match (self, value) {
            (Self::Choice { redis, .. }, Value::Choice(position)) if *position >= redis.len() => {
                self.write(Dialect::Own, value)
            }
            _ => self.write(dialect, value),
        }
    }

    /// Writes `value` as `CONFIG GET` answers it.
    pub fn write(&self, dialect: Dialect, value: &Value) -> String {
        match (self, value) {
            (Self::Choice { words, redis }, Value::Choice(position)) => {
                let words = choice_words(dialect, words, redis);
                // A word that Redis lacks (log level `error`) shows as the nearest it has.
                words[(*position).min(words.len() - 1)].to_owned()
            }
            (_, value) => value.to_string(),
        }
    }
}

impl fmt::Display for Value {
    /// Writes the value as `CONFIG GET` does; of a choice only the position is known here.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(true) => formatter.write_str("yes"),
            Self::Flag(false) => formatter.write_str("no"),
            Self::Integer(number) => write!(formatter, "{number}"),
            Self::Size(bytes) | Self::SizeOrPercent(SizeLimit::Bytes(bytes)) => {
                write!(formatter, "{bytes}")
            }
            Self::SizeOrPercent(SizeLimit::Percent(percent)) => write!(formatter, "{percent}%"),
            Self::Choice(position) => write!(formatter, "{position}"),
            Self::Text(text) => formatter.write_str(text),
            Self::Secret(secret) => formatter.write_str(secret.reveal()),
            Self::Addresses(list) => {
                let texts: Vec<&str> = list.iter().map(|address| address.text.as_str()).collect();
                formatter.write_str(&texts.join(" "))
            }
            Self::Seeds(seeds) => {
                let texts: Vec<String> = seeds.iter().map(Seed::to_string).collect();
                formatter.write_str(&texts.join(","))
            }
            Self::SavePoints(points) => write!(formatter, "{points}"),
            Self::Percentiles(percentiles) => write!(formatter, "{percentiles}"),
            Self::OutputLimits(limits) => write!(formatter, "{limits}"),
            Self::Events(bits) => formatter.write_str(&write_events(*bits)),
        }
    }
}

/// Writes bytes with the largest unit that divides them, as `64mb`.
pub(super) fn write_size(bytes: u64) -> String {
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if bytes >> shift > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Parses a number of bytes with an optional unit.
///
/// An empty text is 0, as in Redis; a number over 64 bits is refused, where Redis wraps around.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    let number: u64 = if number.is_empty() { 0 } else { number.parse().ok()? };
    number.checked_mul(factor)
}

fn parse_flag(text: &str) -> Result<bool, ValueError> {
    if text.eq_ignore_ascii_case("yes") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("no") {
        Ok(false)
    } else {
        Err(ValueError::new("argument must be 'yes' or 'no'"))
    }
}

fn parse_integer(text: &str, min: i64, max: i64) -> Result<i64, ValueError> {
    // Redis accepts the canonical form alone: no sign `+`, no leading zero, no spaces.
    let number = text
        .parse()
        .ok()
        .filter(|number: &i64| number.to_string() == text)
        .ok_or_else(|| ValueError::new("argument couldn't be parsed into an integer"))?;
    check_range(number, min, max)
}

fn check_range<T: PartialOrd + fmt::Display>(number: T, min: T, max: T) -> Result<T, ValueError> {
    if number < min || number > max {
        return Err(ValueError(format!("argument must be between {min} and {max} inclusive")));
    }
    Ok(number)
}

fn parse_size_or_percent(text: &str) -> Result<SizeLimit, ValueError> {
    let error = || ValueError::new("argument must be a memory or percent value");
    let too_much = || ValueError::new("percentage argument must be less or equal to 100");
    let Some(share) = text.strip_suffix('%') else {
        let bytes = parse_size(text).ok_or_else(error)?;
        // Redis holds percents as negative numbers, and so mistakes a large size for one.
        return i64::try_from(bytes).map(|_| SizeLimit::Bytes(bytes)).map_err(|_| too_much());
    };
    let percent: u64 = share.parse().ok().ok_or_else(error)?;
    match u8::try_from(percent) {
        Ok(0) => Ok(SizeLimit::Bytes(0)),
        Ok(percent) if percent <= 100 => Ok(SizeLimit::Percent(percent)),
        _ => Err(too_much()),
    }
}

fn choice_words(
    dialect: Dialect,
    words: &'static [&'static str],
    redis: &'static [&'static str],
) -> &'static [&'static str] {
    if dialect == Dialect::Redis && !redis.is_empty() { redis } else { words }
}

fn position(words: &[&str], text: &str) -> Option<usize> {
    words.iter().position(|word| word.eq_ignore_ascii_case(text))
}

fn parse_addresses(text: &str) -> Result<Vec<BindAddress>, ValueError> {
    let addresses: Option<Vec<_>> = text.split_whitespace().map(BindAddress::parse).collect();
    match addresses {
        Some(addresses) if !addresses.is_empty() => Ok(addresses),
        _ => Err(ValueError::new("Failed to bind to specified addresses.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_units_of_redis() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("", Some(0)),
            ("7b", Some(7)),
            ("1k", Some(1000)),
            ("1Kb", Some(1024)),
            ("2m", Some(2_000_000)),
            ("2MB", Some(2 << 20)),
            ("3g", Some(3_000_000_000)),
            ("3gb", Some(3 << 30)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("17179869184gb", None),
            ("1.5gb", None),
            ("-1", None),
            (" 1", None),
            ("10xx", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_written_with_the_unit_that_divides_them() {
        for (bytes, text) in
            [(0, "0"), (1000, "1000"), (1024, "1kb"), (3 << 30, "3gb"), ((1 << 20) + 1, "1048577")]
        {
            assert_eq!(write_size(bytes), text);
            assert_eq!(parse_size(text), Some(bytes));
        }
    }

    #[test]
    fn integers_are_canonical() {
        for text in ["", " 1", "+1", "01", "1 ", "-0", "99999999999999999999", "x"] {
            assert!(parse_integer(text, i64::MIN, i64::MAX).is_err(), "{text:?}");
        }
        assert_eq!(parse_integer("-7", -9, 9), Ok(-7));
    }

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", Value::Secret(Secret::new("hunter2"))), "Secret((hidden))");
    }
}
