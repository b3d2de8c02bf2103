//! A full disk: the log refuses to go on, says why, and heals when space returns.
//!
//! The disk is made full by a limit on file sizes, which a shell sets for a child: this test
//! again, in the role that the environment gives it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Model, NOW, Step, assert_same_state, recover, sequence};
use distcache_recovery::{LogError, OpenMode, open};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Set in the child to the directory that it is to fill.
const CHILD_DIR: &str = "DISTCACHE_FULL_DIR";

/// The limit in blocks of 512 bytes: 6 MiB, three of the store's segments.
const LIMIT_BLOCKS: u64 = 12 * 1024;

#[test]
fn a_full_disk_poisons_the_log_until_space_returns() {
    if let Ok(dir) = std::env::var(CHILD_DIR) {
        fill_and_heal(Path::new(&dir));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!("trap '' XFSZ; ulimit -S -f {LIMIT_BLOCKS}; exec \"$0\" \"$@\"");
    let status = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["a_full_disk_poisons_the_log_until_space_returns", "--exact", "--nocapture"])
        .env(CHILD_DIR, dir.path())
        .status()
        .unwrap();
    assert!(status.success(), "the child failed: {status}");
    // What the child checked last is there for a new process too.
    let (log, report, _) = recover(open(dir.path(), OpenMode::Existing).unwrap()).unwrap();
    assert!(report.is_intact() && log.next_sequence().0 > 0);
}

fn fill_and_heal(dir: &Path) {
    let limit = getrlimit(Resource::Fsize);
    assert!(limit.current.is_some(), "the shell has set no limit");
    let (log, _, state) = recover(open(dir, OpenMode::Create).unwrap()).unwrap();
    let mut model = Model::new(log, state);
    let mut seed = 0;
    let failed = loop {
        let result = model.run(&Step::Append((seed..seed + 40).collect()));
        seed += 40;
        model.history.clear();
        let synced = if seed % 400 == 0 { model.log.sync() } else { Ok(()) };
        if let Err(error) = result.and(synced) {
            break error;
        }
        assert!(seed < 1_000_000, "the limit has no effect");
    };
    assert!(failed.is_disk_full(), "{failed}");
    let refused = model.run(&Step::Append(vec![1])).unwrap_err();
    assert!(matches!(refused, LogError::Poisoned { .. }), "{refused}");
    let (next, synced) = (sequence(&model), model.log.synced_sequence());
    setrlimit(Resource::Fsize, Rlimit { current: None, ..limit }).unwrap();
    let healed = model.log.try_heal(NOW).unwrap();
    if let Some((first, end)) = healed.lost {
        assert!(first >= synced && end == next, "lost {first} to {end}, synced {synced}");
    }
    assert_eq!(sequence(&model), next, "numbers are not given anew");
    // As the node must: what is in memory goes to new snapshots, and the log goes on.
    for partition in 0..4 {
        model.run(&Step::Snapshot(partition * 341, 20)).unwrap();
    }
    model.run(&Step::Append(vec![7, 8, 9])).unwrap();
    let expected = model.state;
    model.log.close().unwrap();
    let (_, report, state) = recover(open(dir, OpenMode::Existing).unwrap()).unwrap();
    assert_same_state(&state, &expected, "after healing");
    assert_eq!(report.declared_gaps.is_empty(), healed.lost.is_none());
}
