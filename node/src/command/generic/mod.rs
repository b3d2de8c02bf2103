//! Commands about keys of any type.
//!
//! - [`keys`]: keys deleted, counted, renamed and copied;
//! - [`expire`]: deadlines set, cleared and told;
//! - [`object`]: what is known of a value beside its bytes;
//! - [`dump`]: values as Redis's own files hold them;
//! - [`scan`]: commands over all keys;
//! - [`databases`]: commands that change databases as a whole;
//! - [`wait`]: `WAIT` and `WAITAOF`.

pub mod databases;
pub mod dump;
pub mod expire;
pub mod keys;
pub mod object;
pub mod scan;
pub mod wait;

use distcache_protocol::resp::decode::parse_integer;

use super::{CommandError, CommandSpec, Group};

const ROW: CommandSpec = CommandSpec { group: Group::Generic, ..CommandSpec::BLANK };

/// Parses an integer that must fit 32 bits, as Redis demands of database numbers.
///
/// # Errors
/// [`CommandError::NotInteger`]; Redis's text with the bounds for one that is too large.
fn small_integer(argument: &[u8]) -> Result<i32, CommandError> {
    let number = parse_integer(argument).ok_or(CommandError::NotInteger)?;
    i32::try_from(number).map_err(|_| {
        let (least, most) = (i32::MIN, i32::MAX);
        CommandError::err(format_args!(
            "value is out of range, value must between {least} and {most}"
        ))
    })
}
