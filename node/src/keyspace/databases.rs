//! The numbered databases of a keyspace.
//!
//! Commands reach only those that the configuration has, but what the log or another node has of
//! others is kept as well: it is hidden, and is there again when the configuration has it.

use super::{Database, ShardId};

/// The most databases that a node can be configured with; their numbers are below.
pub const DATABASES_MAX: u16 = 255;

/// Databases by their numbers, each made when its first key comes.
pub(super) struct Databases {
    /// How many commands reach.
    reached: u16,
    /// As many as commands reach at least.
    all: Vec<Option<Box<Database>>>,
}

impl Databases {
    /// Returns empty databases, of which commands reach `reached`.
    pub(super) fn new(reached: u16) -> Self {
        Databases { reached, all: (0..reached).map(|_| None).collect() }
    }

    /// How many commands reach.
    pub(super) fn reached(&self) -> u16 {
        self.reached
    }

    /// How many there are, hidden ones too.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    #[inline]
    pub(super) fn get(&self, number: u8) -> Option<&Database> {
        self.all.get(usize::from(number))?.as_deref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u8) -> Option<&mut Database> {
        self.all.get_mut(usize::from(number))?.as_deref_mut()
    }

    /// Returns a database, made if it has had no key yet.
    #[inline]
    pub(super) fn make(&mut self, number: u8, shard: ShardId) -> &mut Database {
        let number = usize::from(number);
        if number >= self.all.len() {
            self.all.resize_with(number + 1, || None);
        }
        self.all[number].get_or_insert_with(|| Box::new(Database::new(shard)))
    }

    /// Returns the number behind this one, or the first one.
    pub(super) fn next(&self, number: u8) -> u8 {
        ((usize::from(number) + 1) % self.all.len()) as u8
    }

    /// Returns all numbers, hidden ones too.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u8> + use<> {
        (0..self.all.len()).map(|number| number as u8)
    }

    /// Returns all databases, `None` for those without a key so far.
    pub(super) fn slots(&self) -> impl Iterator<Item = Option<&Database>> {
        self.all.iter().map(Option::as_deref)
    }

    /// Returns the databases that have had a key.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Database> {
        self.all.iter().flatten().map(|database| &**database)
    }

    /// The same with their numbers.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (u8, &Database)> {
        self.numbers().zip(self.slots()).filter_map(|(number, database)| Some((number, database?)))
    }

    /// The same, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u8, &mut Database)> {
        let numbered = (0..).zip(&mut self.all);
        numbered.filter_map(|(number, database): (u16, _)| {
            Some((number as u8, database.as_deref_mut()?))
        })
    }
}
