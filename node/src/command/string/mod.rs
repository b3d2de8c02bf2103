//! Commands on strings.
//!
//! - `get`: commands that answer with a value;
//! - `set`: commands that put a value or a part of one;
//! - `number`: strings as numbers;
//! - `lcs`: the longest common subsequence;
//! - `long_double`: the arithmetic and the digits of `INCRBYFLOAT`.

pub(super) mod get;
pub(super) mod lcs;
mod long_double;
pub(super) mod number;
pub(super) mod set;

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::resp::decode::parse_integer;
use distcache_protocol::resp::reply::{DECIMAL_LEN_MAX, decimal};

use super::args::Cursor;
use super::{CommandError, CommandResult, CommandSpec, Group};
use crate::keyspace::Keyspace;
use crate::keyspace::entry::{Entry, Value};
use crate::records::UnixMillis;

const ROW: CommandSpec = CommandSpec { group: Group::String, ..CommandSpec::BLANK };

/// Writes a value as a bulk string, or a null.
#[inline]
pub(super) fn reply_value(entry: Option<&Entry>, reply: &mut ReplyBuffer) {
    match entry.map(Entry::value) {
        None => reply.null(),
        Some(Value::Integer(integer)) => reply.bulk_integer(integer),
        Some(Value::String(bytes)) => reply.bulk(bytes),
    }
}

/// Returns a string as it is stored: canonical integers as numbers.
#[inline]
pub(super) fn encoded(bytes: &[u8]) -> Value<'_> {
    // Longer than any 64-bit integer, so not worth a look.
    if bytes.len() > 20 {
        return Value::String(bytes);
    }
    parse_integer(bytes).map_or(Value::String(bytes), Value::Integer)
}

/// Returns the bytes of a value; `digits` is room for those of an integer.
fn bytes_of<'a>(value: Value<'a>, digits: &'a mut [u8; DECIMAL_LEN_MAX]) -> &'a [u8] {
    match value {
        Value::Integer(integer) => decimal(integer, digits),
        Value::String(bytes) => bytes,
    }
}

/// Returns the length in bytes of the string under a key, if there is one.
fn length_of(entry: Option<&Entry>) -> Option<usize> {
    entry.map(|entry| bytes_of(entry.value(), &mut [0; DECIMAL_LEN_MAX]).len())
}

/// Refuses a string of `length` bytes with `added` more.
fn check_length(keyspace: &Keyspace, length: u64, added: usize) -> CommandResult {
    match length.checked_add(added as u64) {
        Some(total) if total <= keyspace.limits.string_bytes_max => Ok(()),
        _ => Err(CommandError::StringTooLong),
    }
}

/// How a time is given: its unit, and whether it counts from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimeForm {
    Seconds,
    Milliseconds,
    UnixSeconds,
    UnixMilliseconds,
}

/// An option that names a deadline. Its number is looked at only when the command is about to
/// use it, so that the errors of other options come first, as in Redis.
#[derive(Debug, Clone, Copy)]
struct TimeOption<'a> {
    form: TimeForm,
    number: &'a [u8],
}

impl<'a> TimeOption<'a> {
    const NAMES: [(&'static str, TimeForm); 4] = [
        ("EX", TimeForm::Seconds),
        ("PX", TimeForm::Milliseconds),
        ("EXAT", TimeForm::UnixSeconds),
        ("PXAT", TimeForm::UnixMilliseconds),
    ];

    /// Takes the next arguments if they are such an option; `before` is the one that the command
    /// has already, which may be given again but not in another form.
    fn take(
        options: &mut Cursor<'a>,
        before: Option<TimeOption<'_>>,
    ) -> Result<Option<TimeOption<'a>>, CommandError> {
        let mut names = Self::NAMES.iter();
        let Some(&(_, form)) = names.find(|(name, _)| options.take(name)) else { return Ok(None) };
        if before.is_some_and(|before| before.form != form) {
            return Err(CommandError::Syntax);
        }
        Ok(Some(TimeOption { form, number: options.operand()? }))
    }

    /// Returns the point in time that is meant.
    ///
    /// # Errors
    /// [`CommandError::NotInteger`]; [`CommandError::InvalidExpire`] with the command's name where
    /// the number is not positive or the time does not fit 64 bits of milliseconds.
    fn deadline(self, now: UnixMillis, command: &'static str) -> Result<UnixMillis, CommandError> {
        let number = parse_integer(self.number).ok_or(CommandError::NotInteger)?;
        let (unit_ms, start_ms) = match self.form {
            TimeForm::Seconds => (1000, now.0 as i64),
            TimeForm::Milliseconds => (1, now.0 as i64),
            TimeForm::UnixSeconds => (1000, 0),
            TimeForm::UnixMilliseconds => (1, 0),
        };
        let sum = number.checked_mul(unit_ms).and_then(|span| span.checked_add(start_ms));
        match sum {
            Some(deadline) if number > 0 => Ok(UnixMillis(deadline as u64)),
            _ => Err(CommandError::InvalidExpire(command)),
        }
    }
}
