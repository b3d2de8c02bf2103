//! The pools of keys, values and numbers that random commands draw from.

/// Few keys, so that commands meet each other's effects; one is empty, one binary.
#[rustfmt::skip]
pub(crate) const KEYS: &[&[u8]] = &[
    b"a", b"b", b"c", b"d", b"e", b"{t}1", b"{t}2", b"{t}3", b"", b"\x00\xff\r\n*\"",
    b"key:with:a:rather:long:name:that:is:still:legal:and:has:more:than:sixty-four:bytes",
];

/// Values at the borders of Redis's encodings and of the number parsers.
#[rustfmt::skip]
pub(crate) const VALUES: &[&[u8]] = &[
    b"", b"0", b"1", b"-1", b"10", b"9999", b"10000", b"-0", b"007", b"+1", b" 1", b"1 ",
    b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"3.14", b"1e3",
    b"5.0e-3", b"0x10", b"inf", b"-inf", b"nan", b"1.7976931348623157e308", b"abc",
    b"hello world", b"\x00\xff\r\n", b"ohmytext", b"mynewtext",
    b"exactly-forty-four-bytes-of-text-in-a-value.",
    b"exactly-forty-five-bytes-of-text-in-a-value..",
    b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// Integers, and what only looks like one.
#[rustfmt::skip]
pub(crate) const INTEGERS: &[&str] = &[
    "0", "1", "-1", "2", "5", "-3", "10", "100", "-100", "9223372036854775807",
    "-9223372036854775808", "9223372036854775808", "-9223372036854775809", "4294967296", "1.5",
    "", " 1", "1 ", "+1", "01", "abc", "1e2",
];

/// Positions in a string, near its ends and far outside it.
#[rustfmt::skip]
pub(crate) const OFFSETS: &[&str] = &[
    "0", "1", "2", "5", "10", "43", "100", "-1", "-2", "-5", "-100", "536870912", "4294967295",
    "-4294967296", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "x",
];

/// Increments of `INCRBYFLOAT`.
#[rustfmt::skip]
pub(crate) const FLOATS: &[&str] = &[
    "0", "1", "-1", "0.1", "3.0", "-2.5", "1e2", "5e-3", "1e400", "inf", "-inf", "nan", "abc", "",
    " 1", "1 ", "0x1p3", "1.7976931348623157e308", "9223372036854775807", "3.333333333333333333",
];

/// Times that are refused, or that are over at once.
#[rustfmt::skip]
pub(crate) const BAD_TIMES: &[&str] = &[
    "0", "-1", "-100", "9223372036854775807", "-9223372036854775808", "9223372036854775",
    "9223372036854776", "9223372036854775808", "abc", "1.5", "",
];

/// Database numbers.
#[rustfmt::skip]
pub(crate) const DATABASES: &[&str] = &[
    "0", "0", "0", "1", "1", "2", "15", "16", "-1", "abc", "99999999999",
];

/// Patterns of `KEYS`, `SCAN` and `CONFIG GET`.
#[rustfmt::skip]
pub(crate) const PATTERNS: &[&str] = &[
    "*", "a", "?", "[a-c]", "[^a]", "[c-a]", "{t}*", "\\a", "*:*", "", "[", "[a", "a*b", "**",
    "\\", "key:*e?ght*", "[\\a-b]", "*[12]",
];

/// Commands in scope, for those that take a command's name.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[&str] = &[
    "get", "set", "mset", "msetnx", "mget", "incr", "append", "del", "object", "object|encoding",
    "client|list", "config|get", "rename", "copy", "lcs", "expire", "setrange", "getex", "select",
    "nosuchcommand", "nosuch", "client|nosuch", "GET", "ping", "hello", "command|getkeys", "memory|usage",
];

/// Parameters whose change alters no reply to other commands.
#[rustfmt::skip]
pub(crate) const PARAMETERS: &[&str] = &[
    "slowlog-max-len", "maxmemory-samples", "lfu-log-factor", "lfu-decay-time", "hz", "nosuch",
    "slowlog-log-slower-than", "SLOWLOG-MAX-LEN",
];

/// Values for them.
#[rustfmt::skip]
pub(crate) const SETTINGS: &[&str] = &[
    "1", "5", "10", "64", "128", "-1", "abc", "", "1kb", "99999999999999999999",
];

/// Bytes that `RESTORE` must refuse; a good payload is made by `Step::Transfer`.
#[rustfmt::skip]
pub(crate) const BAD_PAYLOADS: &[&[u8]] = &[
    b"", b"x", b"\x00\x03abc\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00", b"0123456789",
    b"\x00\x03abc\xff\xff12345678",
];

/// Commands of a connection, with their misuses.
#[rustfmt::skip]
pub(crate) const CONNECTION: &[&str] = &[
    "PING", "PING hello", "PING a b", "ECHO hello", "ECHO", "HELLO", "HELLO 2", "HELLO 3",
    "HELLO 4", "HELLO 1", "HELLO abc", "HELLO 3 BOGUS", "HELLO 3 SETNAME me", "HELLO 2 AUTH",
    "HELLO 3 AUTH default", "HELLO 3 AUTH default wrong", "HELLO 3 AUTH nosuch wrong",
    "HELLO 3 SETNAME", "AUTH", "AUTH wrong", "AUTH default wrong", "AUTH nosuch wrong",
    "AUTH a b c", "RESET", "RESET now", "CLIENT GETNAME", "CLIENT SETNAME tester",
    "CLIENT SETNAME", "CLIENT ID", "CLIENT INFO", "CLIENT LIST", "CLIENT LIST TYPE normal",
    "CLIENT LIST TYPE bogus", "CLIENT LIST ID abc", "CLIENT LIST ID 0", "CLIENT LIST BOGUS",
    "CLIENT KILL 1.2.3.4:5", "CLIENT KILL ID 0", "CLIENT KILL ID abc", "CLIENT KILL BOGUS x",
    "CLIENT KILL TYPE bogus", "CLIENT KILL ID 999999999", "CLIENT NO-EVICT on",
    "CLIENT NO-EVICT off", "CLIENT NO-EVICT maybe", "CLIENT UNPAUSE", "CLIENT PAUSE abc",
    "CLIENT PAUSE -1", "CLIENT PAUSE 1 BOGUS", "CLIENT REPLY ON", "CLIENT REPLY MAYBE",
    "CLIENT UNBLOCK 0", "CLIENT UNBLOCK abc", "CLIENT", "CLIENT BOGUS", "CLIENT ID x",
];

/// Commands of the server, with their misuses.
#[rustfmt::skip]
pub(crate) const SERVER: &[&str] = &[
    "TIME", "TIME now", "LASTSAVE", "INFO", "INFO server", "INFO nosuch", "WAIT 0 0",
    "WAIT 0 abc", "WAIT abc 0", "WAIT -1 0", "WAIT 0 -1", "MEMORY", "MEMORY BOGUS",
    "MEMORY DOCTOR", "MEMORY STATS", "MEMORY USAGE", "MEMORY USAGE a SAMPLES 5",
    "MEMORY USAGE a SAMPLES abc", "MEMORY USAGE a BOGUS 5", "MEMORY PURGE", "DEBUG SLEEP 0",
    "DEBUG OBJECT nosuchkey", "SLOWLOG LEN", "SLOWLOG RESET", "SLOWLOG GET", "SLOWLOG GET 0",
    "SLOWLOG GET -2", "SLOWLOG GET abc", "SLOWLOG BOGUS", "LATENCY LATEST", "LATENCY RESET",
    "LATENCY HISTORY nosuch", "LATENCY BOGUS", "LATENCY RESET nosuch", "FUNCTION FLUSH",
    "FUNCTION FLUSH ASYNC", "FUNCTION FLUSH BOGUS", "FUNCTION LIST", "SCRIPT FLUSH",
    "SCRIPT FLUSH SYNC", "SCRIPT FLUSH BOGUS", "CLUSTER", "NOSUCHCOMMAND a b", "SHUTDOWN BOGUS",
    "SAVE now", "QUIT1",
];

/// Arguments that `COMMAND` refuses or finds nothing for.
#[rustfmt::skip]
pub(crate) const COMMAND_MISUSES: &[&str] = &[
    "BOGUS", "COUNT x", "GETKEYS", "GETKEYS nosuch a", "GETKEYS ping", "LIST FILTERBY",
    "LIST FILTERBY BOGUS x", "LIST BOGUS", "GETKEYS get", "LIST FILTERBY MODULE nosuch",
    "LIST FILTERBY ACLCAT nosuch", "DOCS nosuch",
];
