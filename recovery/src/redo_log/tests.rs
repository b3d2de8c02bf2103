//! The redo log: groups come back, whatever is torn, damaged or forged.

use super::*;

const PAGES: u32 = 16;
const SALT: u32 = 0x5eed_0001;

fn group(changes: &[Change<'_>]) -> Group {
    let mut group = Group::default();
    assert!(changes.iter().all(|change| group.push(*change)));
    group
}

/// Returns each change as text: `key=length` or `-key`.
fn read(dir: &Path) -> Result<Vec<String>, StoreError> {
    let text = |change| match change {
        Change::Insert(key, value) => {
            format!("{}={}", String::from_utf8_lossy(key), value.len())
        }
        Change::Remove(key) => format!("-{}", String::from_utf8_lossy(key)),
    };
    let (_, contents) = RedoLog::open(dir)?.unwrap();
    Ok(contents.changes().map(text).collect())
}

/// Returns a redo log of two groups, of one page and of three.
fn sample(dir: &Path) -> RedoLog {
    let mut redo_log = RedoLog::create(dir, PAGES, SALT).unwrap();
    let first = [Change::Insert(b"a", b"1"), Change::Remove(b"b")];
    redo_log.append(&mut group(&first)).unwrap();
    redo_log.append(&mut group(&[Change::Insert(b"c", &[7; 10_000])])).unwrap();
    redo_log
}

fn change_file(dir: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path_in(dir)).unwrap();
    change(&mut bytes);
    fs::write(path_in(dir), bytes).unwrap();
}

#[test]
fn groups_come_back_in_order_until_they_are_void() {
    let dir = tempfile::tempdir().unwrap();
    assert!(RedoLog::open(dir.path()).unwrap().is_none());
    let mut redo_log = sample(dir.path());
    assert_eq!(read(dir.path()).unwrap(), ["a=1", "-b", "c=10000"]);
    let (mut again, _) = RedoLog::open(dir.path()).unwrap().unwrap();
    again.append(&mut group(&[Change::Remove(b"d")])).unwrap();
    assert_eq!(read(dir.path()).unwrap(), ["a=1", "-b", "c=10000", "-d"]);
    redo_log.reset().unwrap();
    assert_eq!(read(dir.path()).unwrap(), [""; 0]);
    // What lies behind the new group is of the old generation.
    redo_log.append(&mut group(&[Change::Insert(b"e", b"")])).unwrap();
    assert_eq!(read(dir.path()).unwrap(), ["e=0"]);
}

#[test]
fn a_full_redo_log_and_a_large_group_have_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut redo_log = RedoLog::create(dir.path(), PAGES, SALT).unwrap();
    let mut small = group(&[Change::Insert(b"a", b"1")]);
    for _ in 1..PAGES {
        assert!(redo_log.has_room(&small));
        redo_log.append(&mut small).unwrap();
    }
    assert!(!redo_log.has_room(&small));
    assert_eq!(read(dir.path()).unwrap().len(), PAGES as usize - 1);
    let roomy = tempfile::tempdir().unwrap();
    let redo_log = RedoLog::create(roomy.path(), REDO_LOG_PAGES, SALT).unwrap();
    let value = vec![0; GROUP_BYTES_MAX / 2 - 100];
    let mut large = group(&[Change::Insert(b"a", &value), Change::Insert(b"b", &value)]);
    assert!(redo_log.has_room(&large));
    assert!(!large.push(Change::Insert(b"c", &value)));
    assert!(!redo_log.has_room(&large) && !large.is_empty());
}

#[test]
fn a_last_group_torn_anywhere_is_dropped_and_no_other_is() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let intact = fs::read(path_in(dir.path())).unwrap();
    for at in (2 * PAGE_BYTES..2 * PAGE_BYTES + 10_000).step_by(512) {
        change_file(dir.path(), |bytes| bytes[at..].fill(0));
        assert_eq!(read(dir.path()).unwrap(), ["a=1", "-b"], "torn at {at}");
        fs::write(path_in(dir.path()), &intact).unwrap();
    }
}

#[test]
fn a_damaged_last_group_is_refused_if_it_is_marked() {
    let dir = tempfile::tempdir().unwrap();
    let mut redo_log = sample(dir.path());
    redo_log.mark().unwrap();
    let intact = fs::read(path_in(dir.path())).unwrap();
    for at in [2 * PAGE_BYTES + 3, 3 * PAGE_BYTES, 4 * PAGE_BYTES + 99] {
        change_file(dir.path(), |bytes| bytes[at] ^= 1);
        let refused = RedoLog::open(dir.path()).map(|_| ()).unwrap_err().to_string();
        let expected = "is unreadable from page 2 on, and was on disk up to page 4";
        assert!(refused.contains(expected), "{refused}");
        fs::write(path_in(dir.path()), &intact).unwrap();
    }
    // What comes behind the mark may be torn; and a new generation has none.
    redo_log.append(&mut group(&[Change::Remove(b"d")])).unwrap();
    change_file(dir.path(), |bytes| bytes[5 * PAGE_BYTES + 3] ^= 1);
    assert_eq!(read(dir.path()).unwrap(), ["a=1", "-b", "c=10000"]);
    redo_log.mark().unwrap();
    redo_log.reset().unwrap();
    assert_eq!(read(dir.path()).unwrap(), [""; 0]);
}

/// Returns a value with groups in it, one at the start of each page from `pages` on, if it is
/// the first of the group at page 1 under the key `a`.
fn forged(pages: std::ops::Range<u32>, generation: u64) -> Vec<u8> {
    let mut value = vec![7; (pages.end as usize - 1) * PAGE_BYTES];
    let begin = PAGE_BYTES + HEADER_BYTES + CHANGE_BYTES + 1;
    for page in pages {
        let at = page as usize * PAGE_BYTES - begin;
        let len = CHANGE_BYTES + 1;
        let place = &mut value[at..at + HEADER_BYTES + len];
        place[HEADER_BYTES..].copy_from_slice(&[REMOVE, 1, 0, 0, 0, 0, 0, 0, 0, b'x']);
        seal(place, 0, generation, page);
    }
    value
}

#[test]
fn a_value_does_not_pass_for_a_group() {
    // Behind the group of the next generation, and right at its end.
    for first in [4, 2] {
        let dir = tempfile::tempdir().unwrap();
        let mut redo_log = RedoLog::create(dir.path(), PAGES, SALT).unwrap();
        let value = forged(first..8, redo_log.generation() + 1);
        redo_log.append(&mut group(&[Change::Insert(b"a", &value)])).unwrap();
        redo_log.reset().unwrap();
        redo_log.append(&mut group(&[Change::Insert(b"b", b"1")])).unwrap();
        assert_eq!(read(dir.path()).unwrap(), ["b=1"], "forged from page {first} on");
    }
}

#[test]
fn files_without_a_salt_are_read_and_get_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut redo_log = RedoLog::create(dir.path(), PAGES, 0).unwrap();
    redo_log.append(&mut group(&[Change::Insert(b"a", b"1")])).unwrap();
    // As former versions wrote it.
    change_file(dir.path(), |bytes| seal(&mut bytes[..HEADER_BYTES + 4], 0, 1, 0));
    let (mut redo_log, contents) = RedoLog::open(dir.path()).unwrap().unwrap();
    assert_eq!(contents.changes().collect::<Vec<_>>(), [Change::Insert(b"a", b"1")]);
    redo_log.reset_with_salt(SALT).unwrap();
    redo_log.append(&mut group(&[Change::Insert(b"b", b"1")])).unwrap();
    let (redo_log, _) = RedoLog::open(dir.path()).unwrap().unwrap();
    assert_eq!(redo_log.salt, SALT);
    assert_eq!(read(dir.path()).unwrap(), ["b=1"]);
}

#[test]
fn damage_before_something_intact_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let intact = fs::read(path_in(dir.path())).unwrap();
    let damages: [fn(&mut Vec<u8>); 5] = [
        |bytes| bytes[PAGE_BYTES + HEADER_BYTES] ^= 1,
        |bytes| bytes[PAGE_BYTES..2 * PAGE_BYTES].fill(0),
        |bytes| bytes[9] ^= 1,
        |bytes| bytes.truncate(5 * PAGE_BYTES),
        |bytes| bytes.clear(),
    ];
    for damage in damages {
        change_file(dir.path(), damage);
        let refused = RedoLog::open(dir.path()).map(|_| ()).unwrap_err();
        assert!(matches!(&refused, StoreError::Damaged(_)), "{refused}");
        fs::write(path_in(dir.path()), &intact).unwrap();
    }
}
