//! Options whose value has parts: save points, percentiles, output buffer limits, event classes.

use std::fmt;

use super::value::{ValueError, parse_size};

/// When a snapshot is due: pairs of seconds and changes, as written in `save`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavePoints(Vec<(u64, u64)>);

impl SavePoints {
    pub(super) fn parse(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError::new("Invalid save parameters");
        if text.is_empty() {
            return Ok(Self::default());
        }
        let numbers: Vec<u64> = text
            .split(' ')
            .map(|word| word.parse().ok())
            .collect::<Option<_>>()
            .ok_or_else(error)?;
        let (pairs, rest) = numbers.as_chunks::<2>();
        if !rest.is_empty() || pairs.iter().any(|[seconds, _]| *seconds == 0) {
            return Err(error());
        }
        Ok(Self(pairs.iter().map(|[seconds, changes]| (*seconds, *changes)).collect()))
    }
}

impl fmt::Display for SavePoints {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(s, n)| format!("{s} {n}")).collect();
        formatter.write_str(&pairs.join(" "))
    }
}

/// Which percentiles of a command's times `INFO latencystats` has, each from 0 to 100.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Percentiles(Vec<f64>);

// None of them is NaN.
impl Eq for Percentiles {}

impl Percentiles {
    pub(super) fn parse(text: &str) -> Result<Self, ValueError> {
        let parse = |word: &str| match word.parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
            Ok(_) => Err(ValueError::new(
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
            )),
            Err(_) => Err(ValueError::new("Invalid latency-tracking-info-percentiles parameters")),
        };
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.split(' ').map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Each as a number, and as Redis writes it: six decimals at most.
    pub fn iter(&self) -> impl Iterator<Item = (f64, String)> {
        self.0.iter().map(|&percent| {
            let text = format!("{percent:.6}");
            (percent, text.trim_end_matches('0').trim_end_matches('.').to_owned())
        })
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.iter().map(|(_, text)| text).collect();
        formatter.write_str(&texts.join(" "))
    }
}

/// How much unsent output one client may hold before it is disconnected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// Bytes at which the client is disconnected at once; 0 is no limit.
    pub hard_bytes: u64,
    /// Bytes that may be exceeded for `soft_s` seconds; 0 is no limit.
    pub soft_bytes: u64,
    /// Seconds over `soft_bytes` after which the client is disconnected.
    pub soft_s: u64,
}

/// The output limits of the three classes of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimits {
    /// Clients that send commands.
    pub normal: OutputLimit,
    /// Other nodes that copy our data.
    pub replica: OutputLimit,
    /// Clients that listen to channels.
    pub pubsub: OutputLimit,
}

impl OutputLimits {
    /// Returns these limits with the classes named in `text` replaced, as `CONFIG SET` does.
    pub(super) fn updated(mut self, text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Ok(self);
        }
        let words: Vec<&str> = text.split(' ').collect();
        let (groups, rest) = words.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(ValueError::new(
                "Wrong number of arguments in buffer limit configuration.",
            ));
        }
        for [class, hard, soft, seconds] in groups {
            let class = match class.to_ascii_lowercase().as_str() {
                "normal" => &mut self.normal,
                "slave" | "replica" => &mut self.replica,
                "pubsub" => &mut self.pubsub,
                _ => {
                    return Err(ValueError::new(
                        "Invalid client class specified in buffer limit configuration.",
                    ));
                }
            };
            let limit = || {
                Some(OutputLimit {
                    hard_bytes: parse_size(hard)?,
                    soft_bytes: parse_size(soft)?,
                    soft_s: seconds.parse().ok()?,
                })
            };
            *class = limit().ok_or_else(|| {
                ValueError::new(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
                )
            })?;
        }
        Ok(self)
    }
}

impl fmt::Display for OutputLimits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `slave` is the word with which Redis answers; it accepts both.
        for (separator, name, limit) in [
            ("", "normal", self.normal),
            (" ", "slave", self.replica),
            (" ", "pubsub", self.pubsub),
        ] {
            let OutputLimit { hard_bytes, soft_bytes, soft_s } = limit;
            write!(formatter, "{separator}{name} {hard_bytes} {soft_bytes} {soft_s}")?;
        }
        Ok(())
    }
}

/// Letters of `notify-keyspace-events` in the order in which Redis writes them; bit = position.
const EVENT_LETTERS: &str = "g$lshzxetdnKEm";

/// The classes that `A` stands for: all but `n`, `m` and the two channel kinds `K` and `E`.
const EVENT_ALL: u16 = (1 << 10) - 1;

/// The letters that `A` hides when Redis writes the classes: those of `EVENT_ALL`, and `n`.
const EVENT_HIDDEN_BY_ALL: usize = 11;

pub(super) fn parse_events(text: &str) -> Result<u16, ValueError> {
    text.chars().try_fold(0, |bits, letter| match (letter, EVENT_LETTERS.find(letter)) {
        ('A', _) => Ok(bits | EVENT_ALL),
        (_, Some(position)) => Ok(bits | 1 << position),
        (_, None) => Err(ValueError::new("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")),
    })
}

pub(super) fn write_events(bits: u16) -> String {
    let all = bits & EVENT_ALL == EVENT_ALL;
    let skip = if all { EVENT_HIDDEN_BY_ALL } else { 0 };
    let letters = EVENT_LETTERS.chars().enumerate().skip(skip);
    let named = letters.filter(|(position, _)| bits & (1 << position) != 0);
    all.then_some('A').into_iter().chain(named.map(|(_, letter)| letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_classes_are_written_as_redis_writes_them() {
        for (given, written) in [
            ("", ""),
            ("KEA", "AKE"),
            ("Elg", "glE"),
            ("Km", "Km"),
            ("AKEn", "AKE"),
            ("g$lshzxetdA", "A"),
        ] {
            assert_eq!(parse_events(given).map(write_events), Ok(written.to_owned()));
        }
        assert!(parse_events("xyz").is_err());
    }

    #[test]
    fn percentiles_are_written_with_as_few_digits_as_do() {
        let written = |text| Percentiles::parse(text).map(|parsed| parsed.to_string());
        assert_eq!(written("50 99.0 99.90 0 100"), Ok("50 99 99.9 0 100".to_owned()));
        assert_eq!(written("99.9999"), Ok("99.9999".to_owned()));
        assert_eq!(written(""), Ok(String::new()));
        for wrong in ["x", "50,99", "100.1", "-1", "nan", "inf"] {
            assert!(written(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn output_limits_change_only_the_classes_named() {
        let limits = OutputLimits::default().updated("normal 1 2 3 pubsub 1kb 2k 3").unwrap();
        assert_eq!(limits.to_string(), "normal 1 2 3 slave 0 0 0 pubsub 1024 2000 3");
        let limits = limits.updated("REPLICA 1 2 3 slave 2 3 4").unwrap();
        assert_eq!(limits.to_string(), "normal 1 2 3 slave 2 3 4 pubsub 1024 2000 3");
        for wrong in ["foo 1 1 1", "normal 1 1", "normal  1 1 1", "normal 1 1 -1", "normal 1 1 .5"]
        {
            assert!(limits.updated(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn save_points_are_pairs() {
        for right in ["", "900 1 300 10", "60 0"] {
            assert_eq!(SavePoints::parse(right).unwrap().to_string(), right);
        }
        for wrong in ["900", "0 1", "x 1", "60 -1", " 60 1"] {
            assert!(SavePoints::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
