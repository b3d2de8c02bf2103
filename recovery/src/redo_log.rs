//! The redo log: a small file of fixed size that makes changes durable before the store does.
//!
//! A group of changes costs one write over blocks that the file has had before and one disk
//! flush: about a third of what a sync of the store costs, which goes through several threads
//! and, as its file grows, through the file system's own journal. What the store has synced is
//! void here, and the next group begins at the front again. (The idea is the redo log of InnoDB
//! and others: write ahead in sequence, bring the real place up to date later.)
//!
//! The file is cut into pages of 4 KiB. Page 0 holds the generation; groups follow from page 1,
//! each at the start of a page. Numbers are little-endian.
//!
//! | bytes | field |
//! |---|---|
//! | 8 | magic |
//! | 8 | generation; groups of another one than page 0 names are void |
//! | 4 | number of the page that this is written to |
//! | 4 | bytes of the body |
//! | 4 | CRC32C of the salt (not in page 0), the 24 bytes before, and the body |
//! | 4 | 0 |
//! | | body: changes; in page 0 how many pages there are, the mark, and the salt (4 bytes each) |
//!
//! A change is its kind (1 byte: 1 insert, 2 remove), the lengths of key and value (4 bytes
//! each), key and value.
//!
//! Each group is on disk before the next one is written. So the first group that is not intact
//! ends the redo log if nothing intact follows it (it was torn, and nobody was told that it is
//! durable), and is damage if something does, or if it lies before the **mark**: the page up to
//! which somebody has noted that groups are on disk ([`RedoLog::mark`]). Without it, damage of the
//! last one would pass for a torn write. Page 0 says so little that it fits into a sector, which
//! is written whole or not at all.
//!
//! Pages of former generations are not erased, and what clients have stored lies in them as it
//! is, at places that they can work out. So that no value passes for a group, the checksums of
//! groups begin with a **salt**: a random number that nobody outside knows.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::store::StoreError;

const MAGIC: [u8; 8] = *b"\x8fDCREDO\n";
const PAGE_BYTES: usize = 4096;
const HEADER_BYTES: usize = 32;
/// Bytes of the body of page 0.
const FRONT_BYTES: usize = 12;
const CHANGE_BYTES: usize = 9;
const INSERT: u8 = 1;
const REMOVE: u8 = 2;

/// Pages of the file, 8 MiB: what a node writes in a second or two, and reads back in
/// milliseconds.
pub(crate) const REDO_LOG_PAGES: u32 = 2048;

/// Most bytes of a group, header included. The store itself syncs larger ones as cheaply.
const GROUP_BYTES_MAX: usize = 64 * PAGE_BYTES;

/// The file, and where the next group goes.
#[derive(Debug)]
pub(crate) struct RedoLog {
    file: File,
    pages: u32,
    generation: u64,
    /// What the checksums of groups begin with.
    salt: u32,
    next_page: u32,
    /// Groups before this page are noted to be on disk.
    marked_page: u32,
    /// Page 0 as it is written.
    front: Pages,
}

/// Changes since the last sync, in order, as the redo log stores them.
#[derive(Debug)]
pub(crate) struct Group {
    pages: Pages,
    used: usize,
    /// Whether there were more changes than fit.
    is_over: bool,
}

/// A change read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    /// The value is stored under the key.
    Insert(&'a [u8], &'a [u8]),
    /// The key is removed.
    Remove(&'a [u8]),
}

/// Bytes that begin at a multiple of a page, as unbuffered writes need it.
#[derive(Debug)]
struct Pages {
    bytes: Box<[u8]>,
    start: usize,
}

impl Pages {
    fn new(len: usize) -> Self {
        let bytes = vec![0; len + PAGE_BYTES].into_boxed_slice();
        let start = bytes.as_ptr().align_offset(PAGE_BYTES);
        Self { bytes, start }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

impl Default for Group {
    fn default() -> Self {
        Self { pages: Pages::new(GROUP_BYTES_MAX), used: HEADER_BYTES, is_over: false }
    }
}

impl Group {
    /// Adds a change; returns whether it fits, as long as all did.
    pub(crate) fn push(&mut self, change: Change<'_>) -> bool {
        let (kind, key, value) = match change {
            Change::Insert(key, value) => (INSERT, key, value),
            Change::Remove(key) => (REMOVE, key, &[][..]),
        };
        let len = CHANGE_BYTES + key.len() + value.len();
        if self.is_over || self.used + len > GROUP_BYTES_MAX {
            self.is_over = true;
            return false;
        }
        let place = &mut self.pages.bytes()[self.used..self.used + len];
        place[0] = kind;
        place[1..5].copy_from_slice(&(key.len() as u32).to_le_bytes());
        place[5..9].copy_from_slice(&(value.len() as u32).to_le_bytes());
        place[9..9 + key.len()].copy_from_slice(key);
        place[9 + key.len()..].copy_from_slice(value);
        self.used += len;
        true
    }

    /// Returns the changes that fit, in order.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        Changes(&self.pages.bytes[self.pages.start..][HEADER_BYTES..self.used])
            .filter_map(Result::ok)
    }

    /// Returns whether there were more changes than a group holds.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Returns whether there was no change.
    pub(crate) fn is_empty(&self) -> bool {
        self.used == HEADER_BYTES && !self.is_over
    }

    /// Begins a new group.
    pub(crate) fn clear(&mut self) {
        self.used = HEADER_BYTES;
        self.is_over = false;
    }

    fn page_count(&self) -> u32 {
        self.used.div_ceil(PAGE_BYTES) as u32
    }
}

impl RedoLog {
    /// Creates the file, of so many pages, in a directory. `salt` should be random where clients'
    /// values come in. Costs writing it once: some milliseconds.
    ///
    /// # Errors
    ///
    /// When the file system has no room for it or refuses.
    pub(crate) fn create(dir: &Path, pages: u32, salt: u32) -> io::Result<Self> {
        let (path, new) = (path_in(dir), dir.join("redo.new"));
        let file = open_unbuffered(OpenOptions::new().create(true).truncate(true), &new)?;
        let mut zeros = Pages::new(GROUP_BYTES_MAX);
        for page in (0..pages).step_by(GROUP_BYTES_MAX / PAGE_BYTES) {
            let len = GROUP_BYTES_MAX.min((pages - page) as usize * PAGE_BYTES);
            file.write_all_at(&zeros.bytes()[..len], offset(page))?;
        }
        let front = Pages::new(PAGE_BYTES);
        let (next_page, marked_page) = (1, 1);
        let mut redo_log = Self { file, pages, generation: 0, salt, next_page, marked_page, front };
        redo_log.begin_generation(1)?;
        redo_log.file.sync_all()?;
        fs::rename(new, path)?;
        File::open(dir)?.sync_all()?;
        Ok(redo_log)
    }

    /// Opens the file in a directory, if there is one, and reads what is in it.
    ///
    /// # Errors
    ///
    /// When reading fails, and when durable changes are damaged.
    pub(crate) fn open(dir: &Path) -> Result<Option<(Self, Contents)>, StoreError> {
        let path = path_in(dir);
        let mut image = Vec::new();
        let failed = |error: io::Error| StoreError::Io(format!("{}: {error}", path.display()));
        match File::open(&path) {
            Ok(file) => file.take(offset(REDO_LOG_PAGES) + 1).read_to_end(&mut image),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        }
        .map_err(failed)?;
        let contents = Contents::new(image)?;
        let file = open_unbuffered(&mut OpenOptions::new(), &path).map_err(failed)?;
        let front = Pages::new(PAGE_BYTES);
        let Contents { generation, salt, marked_page, end_page: next_page, .. } = contents;
        let pages = (contents.image.len() / PAGE_BYTES) as u32;
        let redo_log = Self { file, pages, generation, salt, next_page, marked_page, front };
        Ok(Some((redo_log, contents)))
    }

    /// Returns the generation, which grows each time that the redo log begins anew.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns whether there is something that a reader would do again.
    pub(crate) fn is_empty(&self) -> bool {
        self.next_page == 1
    }

    /// Returns the bytes of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        offset(self.pages)
    }

    /// Returns whether the group finds room.
    pub(crate) fn has_room(&self, group: &Group) -> bool {
        !group.is_over() && self.next_page + group.page_count() <= self.pages
    }

    /// Writes a group, which must find room, and returns once it is on disk.
    ///
    /// # Errors
    ///
    /// It is unknown whether the group is on disk.
    pub(crate) fn append(&mut self, group: &mut Group) -> io::Result<()> {
        let (used, pages) = (group.used, group.page_count());
        let len = pages as usize * PAGE_BYTES;
        let bytes = &mut group.pages.bytes()[..len];
        bytes[used..].fill(0);
        seal(&mut bytes[..used], self.salt, self.generation, self.next_page);
        self.file.write_all_at(bytes, offset(self.next_page))?;
        self.file.sync_data()?;
        self.next_page += pages;
        Ok(())
    }

    /// Voids all groups: the store has synced what is in them.
    ///
    /// # Errors
    ///
    /// It is unknown whether they are void.
    pub(crate) fn reset(&mut self) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.begin_generation(self.generation + 1)
    }

    /// Voids all groups and has another salt from now on.
    ///
    /// # Errors
    ///
    /// It is unknown whether that is so.
    pub(crate) fn reset_with_salt(&mut self, salt: u32) -> io::Result<()> {
        self.salt = salt;
        self.begin_generation(self.generation + 1)
    }

    /// Begins anew with this generation, which voids all groups.
    ///
    /// # Errors
    ///
    /// It is unknown whether they are void.
    pub(crate) fn begin_generation(&mut self, generation: u64) -> io::Result<()> {
        self.write_front(generation, 1)?;
        self.generation = generation;
        self.next_page = 1;
        Ok(())
    }

    /// Notes that all groups so far are on disk, so that a damaged last one does not pass for one
    /// that was torn. Costs an `fdatasync`, and nothing if there is no new one.
    ///
    /// # Errors
    ///
    /// It is unknown whether that is noted.
    pub(crate) fn mark(&mut self) -> io::Result<()> {
        if self.marked_page == self.next_page {
            return Ok(());
        }
        self.write_front(self.generation, self.next_page)
    }

    fn write_front(&mut self, generation: u64, marked_page: u32) -> io::Result<()> {
        let page = &mut self.front.bytes()[..PAGE_BYTES];
        let body = &mut page[HEADER_BYTES..HEADER_BYTES + FRONT_BYTES];
        body[..4].copy_from_slice(&self.pages.to_le_bytes());
        body[4..8].copy_from_slice(&marked_page.to_le_bytes());
        body[8..].copy_from_slice(&self.salt.to_le_bytes());
        seal(&mut page[..HEADER_BYTES + FRONT_BYTES], 0, generation, 0);
        self.file.write_all_at(page, 0)?;
        self.file.sync_data()?;
        self.marked_page = marked_page;
        Ok(())
    }
}

/// What a redo log holds.
#[derive(Debug)]
pub(crate) struct Contents {
    image: Vec<u8>,
    generation: u64,
    salt: u32,
    marked_page: u32,
    /// The first page after the last intact group.
    end_page: u32,
    /// Whether a group was torn there, and is left out.
    is_torn: bool,
}

impl Contents {
    fn new(image: Vec<u8>) -> Result<Self, StoreError> {
        let damaged = |what: &str| StoreError::Damaged(format!("the redo log {what}"));
        let front = read_group(&image, 0, 0).and_then(|front| {
            let (numbers, _) = front.body.as_chunks();
            let number = |at: usize| numbers.get(at).map(|bytes| u32::from_le_bytes(*bytes));
            // Former versions had no mark or no salt.
            Some((front.generation, number(0)?, number(1).unwrap_or(1), number(2).unwrap_or(0)))
        });
        let Some((generation, pages, marked_page, salt)) = front else {
            return Err(damaged("has an unreadable first page"));
        };
        if image.len() as u64 != offset(pages) {
            return Err(damaged(&format!("has {} bytes, not {}", image.len(), offset(pages))));
        }
        let is_ours =
            |page| read_group(&image, page, salt).filter(|found| found.generation == generation);
        let mut end_page = 1;
        while let Some(found) = is_ours(end_page) {
            if Changes(found.body).any(|change| change.is_err()) {
                return Err(damaged(&format!("has changes without meaning on page {end_page}")));
            }
            end_page += found.pages;
        }
        if let Some(page) = (end_page..pages).find(|page| is_ours(*page).is_some()) {
            return Err(damaged(&format!("is unreadable from page {end_page} to {page}")));
        }
        if end_page < marked_page {
            let last = marked_page - 1;
            return Err(damaged(&format!(
                "is unreadable from page {end_page} on, and was on disk up to page {last}"
            )));
        }
        let is_torn = torn_generation(&image, end_page) == Some(generation);
        Ok(Self { image, generation, salt, marked_page, end_page, is_torn })
    }

    /// Says what was left out although the redo log counts as intact, if anything.
    pub(crate) fn warning(&self) -> Option<String> {
        let text = "the last sync was cut short: what it had written is dropped, nobody was told \
                    that it is on disk";
        self.is_torn.then(|| format!("{text} (redo log, page {})", self.end_page))
    }

    /// Returns the changes that were on disk, in order.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        let mut page = 1;
        let groups = std::iter::from_fn(move || {
            let is_group = page < self.end_page;
            let found = is_group.then(|| read_group(&self.image, page, self.salt)).flatten()?;
            page += found.pages;
            Some(found.body)
        });
        groups.flat_map(|changes| Changes(changes).filter_map(Result::ok))
    }
}

/// An intact group, or page 0.
struct Found<'a> {
    generation: u64,
    pages: u32,
    body: &'a [u8],
}

/// Returns what is written at a page, if that is intact.
fn read_group(image: &[u8], page: u32, salt: u32) -> Option<Found<'_>> {
    let bytes = image.get(page as usize * PAGE_BYTES..)?;
    let header = bytes.get(..HEADER_BYTES)?;
    let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
    if !header.starts_with(&MAGIC) || u32_at(16) != page {
        return None;
    }
    let len = u32_at(20) as usize;
    let body = bytes.get(HEADER_BYTES..HEADER_BYTES.checked_add(len)?)?;
    let sum = checksum(salt, header, body);
    let generation = u64::from_le_bytes([8, 9, 10, 11, 12, 13, 14, 15].map(|at| header[at]));
    let pages = (HEADER_BYTES + len).div_ceil(PAGE_BYTES) as u32;
    (sum == u32_at(24)).then_some(Found { generation, pages, body })
}

/// Returns the generation that the header of a page names, intact or not.
fn torn_generation(image: &[u8], page: u32) -> Option<u64> {
    let header = image.get(page as usize * PAGE_BYTES..)?.strip_prefix(&MAGIC)?;
    header.first_chunk().map(|generation| u64::from_le_bytes(*generation))
}

/// Completes the header in front of a body.
fn seal(bytes: &mut [u8], salt: u32, generation: u64, page: u32) {
    let (header, body) = bytes.split_at_mut(HEADER_BYTES);
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&generation.to_le_bytes());
    header[16..20].copy_from_slice(&page.to_le_bytes());
    header[20..24].copy_from_slice(&(body.len() as u32).to_le_bytes());
    let sum = checksum(salt, header, body);
    header[24..28].copy_from_slice(&sum.to_le_bytes());
    header[28..].fill(0);
}

fn checksum(salt: u32, header: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(salt, &header[..24]), body)
}

/// The changes in the bytes of a group.
struct Changes<'a>(&'a [u8]);

/// Bytes that are no change, under a checksum that is right.
#[derive(Debug)]
struct Meaningless;

impl<'a> Iterator for Changes<'a> {
    type Item = Result<Change<'a>, Meaningless>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let change = self.take();
        if change.is_none() {
            self.0 = &[];
        }
        Some(change.ok_or(Meaningless))
    }
}

impl<'a> Changes<'a> {
    fn take(&mut self) -> Option<Change<'a>> {
        let (kind, rest) = self.0.split_first()?;
        let (key_len, rest) = rest.split_first_chunk()?;
        let (value_len, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_len) as usize)?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_len) as usize)?;
        self.0 = rest;
        match (*kind, value) {
            (INSERT, value) => Some(Change::Insert(key, value)),
            (REMOVE, []) => Some(Change::Remove(key)),
            _ => None,
        }
    }
}

fn offset(page: u32) -> u64 {
    u64::from(page) * PAGE_BYTES as u64
}

fn path_in(dir: &Path) -> PathBuf {
    dir.join("redo")
}

/// Opens past the system's page cache, which saves a copy and a search a write; some file systems
/// in memory cannot do that.
fn open_unbuffered(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
    match options.write(true).custom_flags(direct).open(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            options.custom_flags(0).open(path)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests;
