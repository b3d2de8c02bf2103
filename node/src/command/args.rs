//! The arguments of one command, and a typed cursor over them.

use distcache_protocol::resp::ArgRange;
use distcache_protocol::resp::decode::parse_integer;

use super::error::CommandError;

/// Arguments, the command's name being the first; they borrow the connection's read buffer.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    buffer: &'a [u8],
    ranges: &'a [ArgRange],
}

impl<'a> Args<'a> {
    /// Returns the arguments that `ranges` of `buffer` are. There is at least the name.
    #[inline]
    pub fn new(buffer: &'a [u8], ranges: &'a [ArgRange]) -> Self {
        debug_assert!(!ranges.is_empty());
        Args { buffer, ranges }
    }

    /// Number of arguments, the name included.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "there is always the name")]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Returns argument `index`, the name being 0.
    ///
    /// # Panics
    /// Where there is none: the table's arity promises what a command may ask for.
    #[inline]
    pub fn at(&self, index: usize) -> &'a [u8] {
        self.ranges[index].of(self.buffer)
    }

    /// Returns argument `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.ranges.get(index).map(|range| range.of(self.buffer))
    }

    /// Returns argument `index` as an integer.
    ///
    /// # Errors
    /// [`CommandError::NotInteger`].
    pub fn integer(&self, index: usize) -> Result<i64, CommandError> {
        parse_integer(self.at(index)).ok_or(CommandError::NotInteger)
    }

    /// Whether argument `index` is this word, in any case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// The arguments from `first` on.
    pub fn from(&self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let buffer = self.buffer;
        self.ranges[first.min(self.ranges.len())..].iter().map(move |range| range.of(buffer))
    }

    /// Copies the arguments, for a task that outlives the connection's buffer.
    pub fn to_owned_parts(&self) -> (Vec<u8>, Vec<ArgRange>) {
        let mut input = Vec::with_capacity(self.from(0).map(<[u8]>::len).sum());
        let ranges = self
            .from(0)
            .map(|arg| {
                let start = input.len() as u32;
                input.extend_from_slice(arg);
                ArgRange { start, end: input.len() as u32 }
            })
            .collect();
        (input, ranges)
    }

    /// A cursor that begins at argument `first`.
    pub fn cursor(&self, first: usize) -> Cursor<'a> {
        Cursor { args: *self, next: first }
    }
}

/// Reads arguments one after the other, for options.
#[derive(Debug)]
pub struct Cursor<'a> {
    args: Args<'a>,
    next: usize,
}

impl<'a> Cursor<'a> {
    /// Returns the next argument, if there is one.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "it is no iterator: options take operands")]
    pub fn next(&mut self) -> Option<&'a [u8]> {
        let arg = self.args.get(self.next)?;
        self.next += 1;
        Some(arg)
    }

    /// Takes the next argument if it is this word, in any case.
    pub fn take(&mut self, word: &str) -> bool {
        let found = self.args.is(self.next, word);
        self.next += usize::from(found);
        found
    }

    /// Number of arguments not read yet.
    pub fn remaining(&self) -> usize {
        self.args.len() - self.next.min(self.args.len())
    }

    /// Returns the next argument, which an option needs.
    ///
    /// # Errors
    /// [`CommandError::Syntax`] where there is none.
    pub fn operand(&mut self) -> Result<&'a [u8], CommandError> {
        self.next().ok_or(CommandError::Syntax)
    }

    /// Returns the next argument as an integer.
    ///
    /// # Errors
    /// [`CommandError::Syntax`] where there is none, [`CommandError::NotInteger`].
    pub fn integer(&mut self) -> Result<i64, CommandError> {
        parse_integer(self.operand()?).ok_or(CommandError::NotInteger)
    }
}
