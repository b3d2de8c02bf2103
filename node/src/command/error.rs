//! What a command can answer instead of a result.

use std::borrow::Cow;

use distcache_protocol::resp::ReplyBuffer;

use crate::actors::shard::Stopped;

/// A refusal that the client sees; its connection lives on. Texts equal those of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// The options do not fit together.
    Syntax,
    /// An argument is no integer, or does not fit 64 bits.
    NotInteger,
    /// An argument, or the stored value, is no float.
    NotFloat,
    /// A number is out of the range the command allows.
    OutOfRange,
    /// The sum does not fit 64 bits.
    Overflow,
    /// The key holds another type.
    WrongType,
    /// The key does not exist, and the command needs it.
    NoSuchKey,
    /// The database number is not one of this node's.
    DatabaseOutOfRange,
    /// The string would be longer than `proto-max-bulk-len`.
    StringTooLong,
    /// An expire time that is zero, negative or too far away, for this command.
    InvalidExpire(&'static str),
    /// The number of arguments is wrong for this command (`get`, `config|set`).
    WrongArity(Cow<'static, str>),
    /// A shard may not run the command now: the log has failed, or memory is short. The text
    /// begins with its code.
    Refused(Cow<'static, str>),
    /// Any other text; it begins with its code (`ERR ...`).
    Other(Cow<'static, str>),
    /// Any other text that holds bytes of the request.
    Bytes(Vec<u8>),
}

/// Returns what an error text shows of an argument: at most these bytes, and none from a NUL on,
/// which ends a text in Redis.
pub fn shown(argument: &[u8], bytes_max: usize) -> &[u8] {
    let argument = argument.split(|&byte| byte == 0).next().unwrap_or_default();
    &argument[..argument.len().min(bytes_max)]
}

impl From<Stopped> for CommandError {
    fn from(stopped: Stopped) -> Self {
        CommandError::err(stopped)
    }
}

/// What a command function returns.
pub type CommandResult = Result<(), CommandError>;

impl CommandError {
    /// An error of the general code: `-ERR <text>`.
    pub fn err(text: impl std::fmt::Display) -> Self {
        CommandError::Other(format!("ERR {text}").into())
    }

    /// What a container answers whose subcommand takes other arguments than these.
    pub fn subcommand(container: &str, sub: &[u8]) -> Self {
        const SHOWN_BYTES_MAX: usize = 128;
        let start = b"ERR unknown subcommand or wrong number of arguments for '";
        let end = format!("'. Try {container} HELP.");
        CommandError::Bytes([&start[..], shown(sub, SHOWN_BYTES_MAX), end.as_bytes()].concat())
    }

    /// Writes the reply.
    pub fn write(&self, reply: &mut ReplyBuffer) {
        match self {
            CommandError::Bytes(text) => reply.error_bytes(text),
            _ => reply.error(&self.text()),
        }
    }

    /// The reply's text, its code included.
    pub fn text(&self) -> Cow<'_, str> {
        let text = match self {
            CommandError::Syntax => "ERR syntax error",
            CommandError::NotInteger => "ERR value is not an integer or out of range",
            CommandError::NotFloat => "ERR value is not a valid float",
            CommandError::OutOfRange => "ERR value is out of range",
            CommandError::Overflow => "ERR increment or decrement would overflow",
            CommandError::WrongType => {
                "WRONGTYPE Operation against a key holding the wrong kind of value"
            }
            CommandError::NoSuchKey => "ERR no such key",
            CommandError::DatabaseOutOfRange => "ERR DB index is out of range",
            CommandError::StringTooLong => {
                "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
            }
            CommandError::InvalidExpire(name) => {
                return format!("ERR invalid expire time in '{name}' command").into();
            }
            CommandError::WrongArity(name) => {
                return format!("ERR wrong number of arguments for '{name}' command").into();
            }
            CommandError::Refused(text) | CommandError::Other(text) => text,
            CommandError::Bytes(text) => return String::from_utf8_lossy(text),
        };
        text.into()
    }

    /// The error's code, for `INFO errorstats`.
    pub fn code(&self) -> String {
        self.text().split(' ').next().unwrap_or("ERR").to_owned()
    }
}
