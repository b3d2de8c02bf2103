//! The declared differences: everything not named here must be equal byte for byte.

use crate::support::wire::Request;

/// How two replies to the same command are compared. Errors are always compared exactly, but for
/// [`Compare::BothFail`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Compare {
    /// Byte for byte.
    Exact,
    /// Two integers no further apart than this; a negative one (no key, no deadline) exactly.
    Near(i64),
    /// An array in any order, and so the arrays in it.
    AnyOrder,
    /// A map, or an array of names and values in turn, in any order.
    AnyOrderPairs,
    /// Both null or both something of the same kind.
    SameKind,
    /// A map, or an array of names and values in turn: the same names in the same order.
    SameNames,
    /// Both an error, with whatever text.
    BothFail,
}

/// One row: a command, or a command and its first argument, and why it may differ.
pub(crate) struct Difference {
    /// Lowercase; a second word is the subcommand.
    pub(crate) command: &'static str,
    /// How it is compared instead.
    pub(crate) compare: Compare,
    /// Why that is right.
    pub(crate) reason: &'static str,
}

const CLOCK: &str = "the two servers read their clocks at different instants";
const ORDER: &str = "the order is that of a hash table with a random seed";
const MEMORY: &str = "memory is counted by each server's own layout and allocator";
const IDENTITY: &str = "numbers of connections, processes and runs are each server's own";
const HINT: &str = "the text lists what the server supports, and ours has no features it lacks";

/// All that may differ.
pub(crate) const DIFFERENCES: &[Difference] = &[
    row("ttl", Compare::Near(5), CLOCK),
    row("pttl", Compare::Near(5_000), CLOCK),
    row("expiretime", Compare::Near(5), CLOCK),
    row("pexpiretime", Compare::Near(5_000), CLOCK),
    row("object idletime", Compare::Near(5), CLOCK),
    row(
        "object refcount",
        Compare::SameKind,
        "Redis shares small integers, but not copies of them",
    ),
    row(
        "object freq",
        Compare::SameKind,
        "the access counter is probabilistic, but at factor 0, which keys.case compares",
    ),
    row("time", Compare::SameKind, CLOCK),
    row("lastsave", Compare::SameKind, CLOCK),
    row("scan", Compare::SameKind, "cursors are each server's own; see Step::FullScan"),
    row("command info", Compare::AnyOrder, ORDER),
    row("command docs", Compare::AnyOrderPairs, ORDER),
    row("keys", Compare::AnyOrder, ORDER),
    row("randomkey", Compare::SameKind, "each server throws its own dice"),
    row("dump", Compare::SameKind, "LZF may be compressed in many ways; see Step::Transfer"),
    row("memory usage", Compare::SameKind, MEMORY),
    row("memory stats", Compare::SameKind, MEMORY),
    row("memory doctor", Compare::SameKind, MEMORY),
    row("memory malloc-stats", Compare::SameKind, MEMORY),
    row("memory help", Compare::SameKind, HINT),
    row("debug object", Compare::SameKind, MEMORY),
    row("client id", Compare::SameKind, IDENTITY),
    row("client list", Compare::SameKind, IDENTITY),
    row("client info", Compare::SameKind, IDENTITY),
    row("client help", Compare::SameKind, HINT),
    row("hello", Compare::SameNames, IDENTITY),
    row("info", Compare::SameKind, "figures of each server; its fields have a test of their own"),
    row("command count", Compare::SameKind, "ours has fewer commands"),
    row("command list", Compare::AnyOrder, ORDER),
    row("config get", Compare::AnyOrderPairs, ORDER),
    row("slowlog get", Compare::SameKind, CLOCK),
    row("slowlog len", Compare::SameKind, CLOCK),
    row("latency help", Compare::SameKind, HINT),
];

const fn row(command: &'static str, compare: Compare, reason: &'static str) -> Difference {
    Difference { command, compare, reason }
}

/// Returns how replies to this request are compared.
pub(crate) fn compare_for(request: &Request) -> Compare {
    let word = |at: usize| {
        let bytes: &[u8] = request.get(at).map_or(&[], |argument| argument.as_slice());
        String::from_utf8_lossy(bytes).to_lowercase()
    };
    let (name, with_subcommand) = (word(0), format!("{} {}", word(0), word(1)));
    DIFFERENCES
        .iter()
        .find(|row| row.command == name || row.command == with_subcommand)
        .map_or(Compare::Exact, |row| row.compare)
}

#[test]
fn every_difference_is_named_once_and_has_a_reason() {
    for (at, row) in DIFFERENCES.iter().enumerate() {
        assert!(row.reason.len() > 10, "{} has no reason", row.command);
        assert_eq!(row.command, row.command.to_lowercase());
        assert!(DIFFERENCES[..at].iter().all(|other| other.command != row.command));
    }
}
