//! `kill -9` of a process that writes the log: everything it reported as synced is there.
//!
//! `DISTCACHE_KILL_ROUNDS` sets the number of rounds.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Model, Random, Step, assert_same_state, recover, sequence, with_record};
use distcache_recovery::state::Keyspace;
use distcache_recovery::{OpenMode, open};

/// Set in the child to the directory that it is to write.
const CHILD_DIR: &str = "DISTCACHE_KILL_DIR";

#[test]
fn what_was_synced_survives_kill_9() {
    if let Ok(dir) = std::env::var(CHILD_DIR) {
        write_until_killed(Path::new(&dir));
    }
    let rounds = std::env::var("DISTCACHE_KILL_ROUNDS").map_or(4, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new(u64::from(std::process::id()));
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["what_was_synced_survives_kill_9", "--exact", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acknowledged = lines.map_while(Result::ok).filter_map(|line| {
            line.split_once("synced ").and_then(|(_, number)| number.parse::<u64>().ok())
        });
        let wanted = 1 + random.below(60) as usize;
        let last = acknowledged.take(wanted).last().expect("the child syncs");
        child.kill().unwrap();
        child.wait().unwrap();
        let (log, report, state) = recover(open(dir.path(), OpenMode::Existing).unwrap()).unwrap();
        let next = log.next_sequence();
        assert!(next.0 >= last, "round {round}: {next} records of {last} synced ones");
        assert_same_state(&state, &state_at(next.0), &format!("round {round}"));
        assert!(report.is_intact());
    }
}

/// Returns the state after so many records; each record's seed is its sequence.
fn state_at(next: u64) -> Keyspace {
    let mut state = Keyspace::default();
    for seed in 0..next {
        with_record(seed, |record| state.apply(record).unwrap());
    }
    state
}

/// Appends, syncs, takes snapshots and trims, and reports each sync, until killed.
fn write_until_killed(dir: &Path) -> ! {
    let (log, _, state) = recover(open(dir, OpenMode::Create).unwrap()).unwrap();
    let mut model = Model::new(log, state);
    let mut turn = 0;
    loop {
        let next = sequence(&model).0;
        model.run(&Step::Append((next..next + 7).collect())).unwrap();
        model.history.clear();
        turn += 1;
        if turn % 5 == 0 {
            model.run(&Step::Snapshot(turn / 5 % 4 * 341, 3)).unwrap();
            model.run(&Step::Trim).unwrap();
        }
        model.log.sync().unwrap();
        if turn % 3 == 0 {
            model.log.write_mark().unwrap();
        }
        let mut out = std::io::stdout();
        writeln!(out, "synced {}", sequence(&model)).unwrap();
        out.flush().unwrap();
    }
}
