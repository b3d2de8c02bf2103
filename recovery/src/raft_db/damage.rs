//! Bytes of a real store and of its redo log are flipped: it opens as it was, or not at all.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::directory::CopyPlan;
use crate::raft_directory::RaftDirectory;

/// What a voter must not forget.
#[derive(Debug, PartialEq, Eq)]
struct Promised {
    vote: Option<Vec<u8>>,
    extent: (u64, u64),
    /// A checksum of the entries.
    entries: u32,
}

fn promised(db: &RaftDb) -> Result<Promised, RaftDbError> {
    let entries = db.entries(0, u64::MAX, usize::MAX)?;
    let entries = entries.iter().fold(0, |sum, entry| crc32c::crc32c_append(sum, entry));
    Ok(Promised { vote: db.note(Note::Vote)?, extent: db.extent(), entries })
}

/// An entry of a term, longer than most.
fn entry(term: u64, index: u64) -> Vec<u8> {
    vec![(term * 31 + index) as u8; 300 + (index * 37 % 900) as usize]
}

fn append(db: &mut RaftDb, term: u64, from: u64, count: u64) {
    let entries: Vec<_> = (from..from + count).map(|index| entry(term, index)).collect();
    db.append(from, &entries).unwrap();
}

/// One term: a vote, entries in place of the last two, and a purge.
fn term(db: &mut RaftDb, term: u64, appends: u64) {
    db.set_note(Note::Vote, &term.to_le_bytes()).unwrap();
    for _ in 0..appends {
        let (first, end) = db.extent();
        append(db, term, end.saturating_sub(2).max(first), 4);
    }
    let (first, end) = db.extent();
    db.purge(first + (end - first) / 3, b"").unwrap();
}

/// What the process that wrote did last; but for the first, it was killed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Marked,
    Appended,
    Voted,
}

/// Returns a log that went through enough for the redo log to begin anew, over a few starts.
fn written(end: End) -> (TempDir, Promised) {
    let dir = tempfile::tempdir().unwrap();
    for number in 1..=3 {
        let mut db = RaftDb::open(dir.path()).unwrap();
        term(&mut db, number, 150);
        db.close().unwrap();
    }
    let mut db = RaftDb::open(dir.path()).unwrap();
    term(&mut db, 4, 20);
    let next = db.extent().1;
    append(&mut db, 4, next, 1);
    match end {
        End::Closed => db.close().unwrap(),
        End::Marked => db.mark().unwrap(),
        End::Appended => {}
        End::Voted => db.set_note(Note::Vote, b"term 5").unwrap(),
    }
    let promised = promised(&db).unwrap();
    (dir, promised)
}

/// Opens a copy in which bytes of a file were changed; `None` if it is refused.
fn after(dir: &Path, changes: &[(&str, usize)], is_marked: bool) -> Option<Promised> {
    let copy = tempfile::tempdir().unwrap();
    for name in ["conf", "db", "redo"] {
        fs::copy(dir.join(name), copy.path().join(name)).unwrap();
    }
    fs::create_dir(copy.path().join("blobs")).unwrap();
    for (name, at) in changes {
        let path = copy.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[*at..].iter_mut().take(8).for_each(|byte| *byte ^= 0x5a);
        fs::write(&path, bytes).unwrap();
    }
    let opened = match is_marked {
        true => RaftDb::open(copy.path()),
        false => SledStore::open(copy.path())
            .and_then(|store| RedoStore::over(store, copy.path(), REDO_LOG_PAGES, 0))
            .map_err(|error| db_error(copy.path(), error))
            .and_then(|store| RaftDb::over(Box::new(store), copy.path())),
    };
    opened.and_then(|db| promised(&db)).ok()
}

/// Returns places all over a file where something is written.
fn places(path: &Path, count: usize) -> Vec<usize> {
    let bytes = fs::read(path).unwrap();
    let used: Vec<usize> =
        (0..bytes.len() / 64).map(|at| at * 64).filter(|at| bytes[at + 16] != 0).collect();
    used.iter().copied().step_by((used.len() / count).max(1)).collect()
}

#[test]
fn a_store_with_damaged_bytes_opens_as_it_was_or_not_at_all() {
    let (mut lost, mut refused) = (0, 0);
    for end in [End::Closed, End::Marked] {
        let (dir, expected) = written(end);
        assert_eq!(after(dir.path(), &[], true).as_ref(), Some(&expected), "undamaged");
        let redo = places(&dir.path().join("redo"), 5).into_iter().cycle();
        for (at, redo) in places(&dir.path().join("db"), 16).into_iter().zip(redo) {
            for changes in [&[("db", at)][..], &[("redo", redo)], &[("db", at), ("redo", redo)]] {
                match after(dir.path(), changes, true) {
                    Some(found) => assert!(found == expected, "{end:?} {changes:?}: {found:?}"),
                    None => refused += 1,
                }
            }
            let unmarked = after(dir.path(), &[("db", at)], false);
            lost += usize::from(unmarked.is_some_and(|found| found != expected));
        }
    }
    assert!(lost > 0, "where nothing is lost without generations, this shows nothing");
    assert!(refused >= lost);
}

#[test]
fn a_damaged_last_write_is_taken_for_a_torn_one_only_if_nothing_says_that_it_was_on_disk() {
    for (end, is_found) in [(End::Marked, true), (End::Voted, true), (End::Appended, false)] {
        let (dir, expected) = written(end);
        let redo = fs::read(dir.path().join("redo")).unwrap();
        // The last page on which a group of this generation begins.
        let begins = |page: &[u8]| page[..16] == redo[..16];
        let last = redo.chunks(4096).rposition(begins).unwrap() * 4096 + 34;
        let found = after(dir.path(), &[("redo", last)], true);
        assert_ne!(found.as_ref(), Some(&expected), "{end:?}: nothing was damaged");
        assert_eq!(found.is_none(), is_found, "{end:?}");
    }
}

#[test]
fn what_is_lost_as_a_whole_is_missed() {
    let losses: [(&[&str], &str); 3] = [
        (&["redo"], "the redo log is missing"),
        (&["db"], "the store is of generation 1 and the redo log of"),
        (&["db", "redo"], "it is empty, and its node was in a cluster"),
    ];
    for (lost, expected) in losses {
        let dir = tempfile::tempdir().unwrap();
        let mut raft = RaftDirectory::open(dir.path(), 7).unwrap();
        raft.set_cluster(5).unwrap();
        term(&mut raft.db, 1, 5);
        raft.db.close().unwrap();
        drop(raft);
        for name in lost {
            fs::remove_file(dir.path().join("raft/log").join(name)).unwrap();
        }
        let plan = CopyPlan::of_raft(dir.path(), &std::env::temp_dir()).unwrap();
        let copy = plan.copy(|_| ()).unwrap().open_raft().unwrap();
        assert!(copy.damages.iter().any(|text| text.contains(expected)), "{:?}", copy.damages);
        let error = RaftDirectory::open(dir.path(), 8).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("remove it"), "{error}");
    }
}

#[test]
fn a_log_whose_front_was_removed_needs_its_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut raft = RaftDirectory::open(dir.path(), 7).unwrap();
    raft.check_snapshot().unwrap();
    append(&mut raft.db, 1, 0, 9);
    raft.db.purge(3, b"").unwrap();
    let error = raft.check_snapshot().unwrap_err().to_string();
    assert!(error.contains("the file snapshot, which has them, is missing"), "{error}");
    assert!(error.contains("put a copy of the directory back"), "{error}");
}
