//! The tool against random histories and random damage.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop a test as tests do")]

mod cli_support;
mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use cli_support::{Log, after, command, put, run, wait_for_lock};
use common::{Model, NOW, Random, Step, random_step, recover};
use distcache_recovery::state::Keyspace;
use distcache_recovery::{OpenMode, open};

/// Reads the output of `state --format resp`.
fn commands(bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut rest = bytes;
    let number = |prefix: u8, rest: &mut &[u8]| -> usize {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
        assert_eq!(rest[0], prefix);
        let text = std::str::from_utf8(&rest[1..end - 1]).unwrap();
        *rest = &rest[end + 1..];
        text.parse().unwrap()
    };
    let mut commands = Vec::new();
    while !rest.is_empty() {
        let count = number(b'*', &mut rest);
        let arguments = (0..count).map(|_| {
            let len = number(b'$', &mut rest);
            let argument = rest[..len].to_vec();
            rest = &rest[len + 2..];
            argument
        });
        commands.push(arguments.collect());
    }
    commands
}

/// Returns what the commands of `state --format resp` must be for a keyspace.
fn expected_commands(state: &Keyspace) -> Vec<Vec<Vec<u8>>> {
    let mut commands = Vec::new();
    let mut selected = None;
    for (database, partition, key, item) in state.iter() {
        if state.is_received(partition) || item.deadline.is_some_and(|at| at <= NOW) {
            continue;
        }
        if selected != Some(database) {
            selected = Some(database);
            commands.push(vec![b"SELECT".to_vec(), database.to_string().into_bytes()]);
        }
        let mut set = vec![b"SET".to_vec(), key.to_vec(), item.value.to_bytes()];
        if let Some(deadline) = item.deadline {
            set.extend([b"PXAT".to_vec(), deadline.to_string().into_bytes()]);
        }
        commands.push(set);
    }
    commands
}

fn random_log(dir: &Path, seed: u64, with_snapshots: bool) -> Model {
    let (log, _, state) = recover(open(dir, OpenMode::Create).unwrap()).unwrap();
    let mut model = Model::new(log, state);
    let mut random = Random::new(seed);
    for number in 0..50 {
        let step = random_step(&mut random);
        let is_append = matches!(step, Step::Append(_) | Step::Sync);
        if with_snapshots || is_append {
            model.run(&step).unwrap();
        }
        if with_snapshots && number == 15 {
            let snapshots = [0, 341, 682, 1023].map(|partition| Step::Snapshot(partition, 3));
            snapshots.iter().chain([&Step::Trim]).for_each(|step| model.run(step).unwrap());
        }
    }
    model
}

#[test]
fn the_state_at_any_record_is_what_the_node_had_then() {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut refused = 0;
    for with_snapshots in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let Model { log, history, .. } = random_log(dir.path(), seed, with_snapshots);
        log.close().unwrap();
        wait_for_lock(dir.path());
        let last = history.len() - 2;
        for at in (0..=last).step_by(last / 12 + 1).chain([last]) {
            let text = at.to_string();
            let run = run(dir.path(), &["state", "--at", &text, "--format", "resp"]);
            if run.code == 2 && with_snapshots {
                assert!(run.err.contains("available are the records"), "{at}: {}", run.err);
                refused += 1;
                continue;
            }
            assert_eq!(run.code, 0, "{at}: {}", run.err);
            let expected = expected_commands(&history[at + 1]);
            assert!(commands(&run.bytes) == expected, "{at}: the states differ");
        }
    }
    assert!(refused > 0, "no state was before the snapshots");
}

#[test]
fn whatever_byte_is_damaged_no_subcommand_panics() {
    let dir = tempfile::tempdir().unwrap();
    random_log(dir.path(), 3, true).log.close().unwrap();
    wait_for_lock(dir.path());
    let path = dir.path().join("log/db");
    let intact = fs::read(&path).unwrap();
    let used = intact.iter().rposition(|byte| *byte != 0).unwrap();
    let mut random = Random::new(9);
    let mut damaged = 0;
    for _ in 0..12 {
        let at = random.below(used as u64) as usize;
        let mut bytes = intact.clone();
        bytes[at] ^= 1 << random.below(8);
        fs::write(&path, &bytes).unwrap();
        let verified = run(dir.path(), &["verify"]);
        assert!(matches!(verified.code, 0 | 1), "byte {at}: {}", verified.err);
        damaged += verified.code;
        for arguments in [&["dump"][..], &["state"], &["history", "key:0:1"]] {
            let run = run(dir.path(), arguments);
            assert!(!run.err.contains("panicked"), "byte {at}, {arguments:?}: {}", run.err);
            assert_eq!(run.code.min(1), verified.code, "byte {at}, {arguments:?}: {}", run.err);
        }
    }
    assert!(damaged > 0, "no byte mattered");
}

#[test]
fn an_interrupted_tool_leaves_no_copy_behind() {
    let (dir, temp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut log = Log::create(dir.path());
    for number in 0..200_u64 {
        let records: Vec<_> = (0..40).map(|_| (0, put(b"key", vec![b'v'; 100]))).collect();
        log.frame(after(number), &records);
    }
    log.close();
    // Nobody reads on after the first line, so that the tool waits with its work half done.
    let mut child =
        command(dir.path(), temp.path(), &["dump", "-q"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::with_capacity(64, child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "there is no copy");
    let kill =
        Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().signal(), Some(2));
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0, "the copy was left behind");
}
