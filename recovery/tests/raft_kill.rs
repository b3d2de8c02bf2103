//! `kill -9` of a process that appends to raft's log and votes: what it acknowledged is there.
//!
//! `DISTCACHE_KILL_ROUNDS` sets the number of rounds.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use distcache_recovery::raft_db::Note;
use distcache_recovery::raft_directory::RaftDirectory;

/// Set in the child to the directory that it is to write.
const CHILD_DIR: &str = "DISTCACHE_RAFT_KILL_DIR";

/// Entries that the child keeps before it purges, and those that it truncates now and then.
const KEPT: u64 = 200;
const TRUNCATED: u64 = 3;

#[test]
fn what_raft_acknowledged_survives_kill_9() {
    if let Ok(dir) = std::env::var(CHILD_DIR) {
        write_until_killed(Path::new(&dir));
    }
    let rounds = std::env::var("DISTCACHE_KILL_ROUNDS").map_or(4, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["what_raft_acknowledged_survives_kill_9", "--exact", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acknowledged = lines.map_while(Result::ok).filter_map(|line| {
            let (_, numbers) = line.split_once("acknowledged ")?;
            let numbers: Vec<u64> = numbers.split(' ').map(|n| n.parse().unwrap()).collect();
            Some((numbers[0], numbers[1]))
        });
        let wanted = 1 + (round * 37 + u64::from(std::process::id())) % 60;
        let (vote, end) = acknowledged.take(wanted as usize).last().expect("the child writes");
        child.kill().unwrap();
        child.wait().unwrap();
        let raft = RaftDirectory::open(dir.path(), 2).unwrap();
        assert_eq!(raft.identity().node, 1, "round {round}");
        let found = vote_of(&raft);
        assert!(found >= vote, "round {round}: vote {found} of {vote}");
        let (first, found) = raft.db.extent();
        assert!(found + TRUNCATED >= end, "round {round}: {found} entries of {end}");
        let entries = raft.db.entries(first, found, usize::MAX).unwrap();
        assert_eq!(entries, (first..found).map(entry).collect::<Vec<_>>(), "round {round}");
    }
}

/// Appends, votes, truncates and purges, and reports what is acknowledged, until killed.
fn write_until_killed(dir: &Path) -> ! {
    let mut raft = RaftDirectory::open(dir, 1).unwrap();
    loop {
        let vote = vote_of(&raft) + 1;
        let (first, end) = raft.db.extent();
        if vote.is_multiple_of(5) && end > first + TRUNCATED {
            raft.db.truncate(end - TRUNCATED).unwrap();
        }
        let (first, end) = raft.db.extent();
        if end - first > 2 * KEPT {
            raft.db.purge(end - KEPT, b"").unwrap();
        }
        let count = vote % 7 + TRUNCATED;
        raft.db.append(end, &(end..end + count).map(entry).collect::<Vec<_>>()).unwrap();
        if vote.is_multiple_of(3) {
            raft.db.mark().unwrap();
        }
        raft.db.set_note(Note::Committed, &end.to_le_bytes()).unwrap();
        raft.db.set_note(Note::Vote, &vote.to_le_bytes()).unwrap();
        let mut out = std::io::stdout();
        writeln!(out, "acknowledged {vote} {}", end + count).unwrap();
        out.flush().unwrap();
    }
}

fn vote_of(raft: &RaftDirectory) -> u64 {
    let vote = raft.db.note(Note::Vote).unwrap();
    vote.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
}

fn entry(index: u64) -> Vec<u8> {
    vec![index as u8; (index * 131 % 40_000) as usize]
}
