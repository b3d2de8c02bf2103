//! `LCS`: the longest common subsequence of two strings.

use distcache_protocol::resp::ReplyBuffer;
use distcache_protocol::resp::reply::DECIMAL_LEN_MAX;

use super::super::{Args, CommandError, CommandResult, CommandSpec, Flags, Keys, Run};
use super::{ROW, bytes_of};
use crate::keyspace::Keyspace;

/// The options of `LCS`.
#[derive(Debug, Default)]
struct Options {
    length_only: bool,
    indices: bool,
    with_lengths: bool,
    /// Shorter matches are not shown.
    length_min: i64,
}

impl Options {
    fn parse(args: Args<'_>) -> Result<Self, CommandError> {
        let mut cursor = args.cursor(3);
        let mut options = Options::default();
        while cursor.remaining() > 0 {
            if cursor.take("IDX") {
                options.indices = true;
            } else if cursor.take("LEN") {
                options.length_only = true;
            } else if cursor.take("WITHMATCHLEN") {
                options.with_lengths = true;
            } else if cursor.take("MINMATCHLEN") {
                options.length_min = cursor.integer()?;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if options.indices && options.length_only {
            return Err(CommandError::err(
                "If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(options)
    }
}

/// `LCS key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]`
fn lcs(keyspace: &mut Keyspace, args: Args<'_>, reply: &mut ReplyBuffer) -> CommandResult {
    let (a, b) = (copy_of(keyspace, args.at(1)), copy_of(keyspace, args.at(2)));
    let options = Options::parse(args)?;
    let table = Table::new(&a, &b, keyspace.limits.string_bytes_max)?;
    let length = table.length(a.len(), b.len());
    if options.indices {
        reply_matches(&table.matches(), i64::from(length), &options, reply);
    } else if options.length_only {
        reply.integer(length.into());
    } else {
        let mut matches = table.matches();
        matches.reverse();
        let common: Vec<u8> =
            matches.iter().flat_map(|found| &a[found.a..found.a + found.length]).copied().collect();
        reply.bulk(&common);
    }
    Ok(())
}

fn copy_of(keyspace: &mut Keyspace, key: &[u8]) -> Vec<u8> {
    let mut digits = [0; DECIMAL_LEN_MAX];
    keyspace.read(key).map_or(Vec::new(), |entry| bytes_of(entry.value(), &mut digits).to_vec())
}

fn reply_matches(matches: &[Match], length: i64, options: &Options, reply: &mut ReplyBuffer) {
    let is_shown = |found: &&Match| found.length as i64 >= options.length_min;
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(matches.iter().filter(is_shown).count());
    for found in matches.iter().filter(is_shown) {
        reply.array(if options.with_lengths { 3 } else { 2 });
        for start in [found.a, found.b] {
            reply.array(2);
            reply.integer(start as i64);
            reply.integer((start + found.length - 1) as i64);
        }
        if options.with_lengths {
            reply.integer(found.length as i64);
        }
    }
    reply.bulk(b"len");
    reply.integer(length);
}

/// A run of equal bytes that is part of the common subsequence.
#[derive(Debug, PartialEq, Eq)]
struct Match {
    /// Where it starts in the first string.
    a: usize,
    /// Where it starts in the second string.
    b: usize,
    length: usize,
}

/// Lengths of the longest common subsequences of all pairs of beginnings of two strings.
struct Table<'a> {
    a: &'a [u8],
    b: &'a [u8],
    /// One row for each length of the beginning of `a`.
    lengths: Vec<u32>,
}

impl<'a> Table<'a> {
    /// Fills the table. Takes time and memory of the product of the lengths; more than
    /// `bytes_max` bytes are refused.
    fn new(a: &'a [u8], b: &'a [u8], bytes_max: u64) -> Result<Self, CommandError> {
        if a.len() >= u32::MAX as usize - 1 || b.len() >= u32::MAX as usize - 1 {
            return Err(CommandError::err("String too long for LCS"));
        }
        let width = b.len() + 1;
        let cells = (a.len() + 1) * width;
        if cells as u128 * size_of::<u32>() as u128 > u128::from(bytes_max) {
            return Err(CommandError::err(
                "Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
            ));
        }
        let mut lengths: Vec<u32> = Vec::new();
        lengths.try_reserve_exact(cells).map_err(|_| {
            CommandError::err("Insufficient memory, failed allocating transient memory for LCS")
        })?;
        lengths.resize(cells, 0);
        let (mut above, mut rest) = lengths.split_at_mut(width);
        for &byte_a in a {
            let (row, below) = rest.split_at_mut(width);
            for (j, &byte_b) in b.iter().enumerate() {
                row[j + 1] = if byte_a == byte_b { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
            (above, rest) = (row, below);
        }
        Ok(Table { a, b, lengths })
    }

    fn length(&self, a: usize, b: usize) -> u32 {
        self.lengths[a * (self.b.len() + 1) + b]
    }

    /// Walks back from the ends and returns the matches, the last one first.
    fn matches(&self) -> Vec<Match> {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        let mut matches: Vec<Match> = Vec::new();
        while i > 0 && j > 0 {
            if self.a[i - 1] == self.b[j - 1] {
                (i, j) = (i - 1, j - 1);
                match matches.last_mut() {
                    Some(last) if last.a == i + 1 && last.b == j + 1 => {
                        (last.a, last.b, last.length) = (i, j, last.length + 1);
                    }
                    _ => matches.push(Match { a: i, b: j, length: 1 }),
                }
            } else if self.length(i - 1, j) > self.length(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        matches
    }
}

pub(in crate::command) const SPECS: &[CommandSpec] = &[CommandSpec {
    name: "lcs",
    arity: -3,
    flags: Flags::READONLY,
    keys: Keys::FIRST_TWO,
    since: "7.0.0",
    complexity: "O(N*M) where N and M are the lengths of s1 and s2, respectively",
    summary: "Finds the longest common substring.",
    syntax: "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
    run: Run::Keyspace(lcs),
    ..ROW
}];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_come_last_first_and_cover_the_common_subsequence() {
        let table = Table::new(b"ohmytext", b"mynewtext", 1 << 20).unwrap();
        assert_eq!(table.length(8, 9), 6);
        let expected = [Match { a: 4, b: 5, length: 4 }, Match { a: 2, b: 0, length: 2 }];
        assert_eq!(table.matches(), expected);
    }

    #[test]
    fn a_table_that_is_too_large_is_refused() {
        // Three times three cells of four bytes.
        assert!(Table::new(b"ab", b"cd", 36).is_ok());
        let Err(error) = Table::new(b"ab", b"cd", 35) else { panic!("35 bytes are not enough") };
        assert!(error.text().contains("transient memory"), "{}", error.text());
    }
}
