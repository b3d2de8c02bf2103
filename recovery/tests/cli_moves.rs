//! What the tool says of partitions that move between nodes.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop a test as tests do")]

mod cli_support;

use cli_support::{Log, Owned, TEN, after, clean, on, put};
use distcache_recovery::{Epoch, Operation};
use tempfile::TempDir;

const A: u64 = 0xa;
const B: u64 = 0xb;

/// On `n`'s partition: a copy comes, is given up, comes again, is served, and goes on. On `w`'s:
/// what was there goes, and a copy comes that is not served yet. On `k`'s: nothing.
fn history() -> Vec<(u8, Owned)> {
    let on_n = |operation| (0, on(b"n", operation));
    let on_w = |operation| (0, on(b"w", operation));
    vec![
        on_n(Operation::MoveIn { epoch: 3, from: A }),
        (0, put(b"n", 1_i64)),
        on_n(Operation::MoveOut { epoch: 4, to: A }),
        (0, put(b"w", b"old")),
        (5, put(b"w", b"older")),
        (0, put(b"k", b"stays")),
        on_w(Operation::MoveOut { epoch: 9, to: B }),
        on_n(Operation::MoveIn { epoch: 5, from: A }),
        (0, put(b"n", 2_i64)),
        on_n(Operation::Own { epoch: 6, from: A }),
        (0, put(b"n", 3_i64)),
        on_w(Operation::MoveIn { epoch: 10, from: B }),
        (0, put(b"w", b"new")),
    ]
}

fn written() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path());
    log.frame(TEN, &history());
    log.close();
    dir
}

/// The same with all of it in snapshots, as a node writes them.
fn compacted() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path());
    log.frame(TEN, &history());
    let epoch = |key: &[u8]| match key {
        b"n" => Epoch(6),
        b"w" => Epoch(9),
        _ => Epoch(0),
    };
    let keys = [
        (0, put(b"n", 3_i64)),
        (0, put(b"k", b"stays")),
        (0, on(b"w", Operation::MoveIn { epoch: 10, from: B })),
        (0, put(b"w", b"new")),
    ];
    log.compact_in(after(60), &keys, epoch);
    log.close();
    dir
}

#[test]
fn dump_shows_moves_and_takes_them_alone_when_asked() {
    let dir = written();
    let moves = ["dump", "-q", "--op", "move-in,own,move-out"];
    let expected = "         \
0  2026-11-22 10:00:00.000Z  p214       move-in      from node 000000000000000a  epoch 3
         2  2026-11-22 10:00:00.000Z  p214       move-out     to node 000000000000000a  epoch 4
         6  2026-11-22 10:00:00.000Z  p231       move-out     to node 000000000000000b  epoch 9
         7  2026-11-22 10:00:00.000Z  p214       move-in      from node 000000000000000a  epoch 5
         9  2026-11-22 10:00:00.000Z  p214       own          from node 000000000000000a  epoch 6
        11  2026-11-22 10:00:00.000Z  p231       move-in      from node 000000000000000b  epoch 10
";
    assert_eq!(clean(dir.path(), &moves).out, expected);
    for (options, expected) in [
        (vec!["--op", "own"], "9"),
        (vec!["--op", "move-in", "--partition", "231"], "11"),
        // A move is in every database, and about no key in particular.
        (vec!["--db", "5"], "0 2 4 6 7 9 11"),
        (vec!["--key", "n"], "1 8 10"),
    ] {
        let arguments = [vec!["dump", "--format", "json"], options].concat();
        assert_eq!(clean(dir.path(), &arguments).members("sequence"), expected, "{arguments:?}");
    }
    let json = clean(dir.path(), &["dump", "--format", "json", "--op", "move-out"]).out;
    let expected = concat!(
        r#""partition":214,"database":null,"operation":"move-out","#,
        r#""epoch":4,"to":"000000000000000a"}"#
    );
    assert!(json.lines().next().unwrap().ends_with(expected), "{json}");
}

#[test]
fn history_has_the_moves_of_the_keys_partition() {
    let dir = written();
    let expected = "         \
3  2026-11-22 10:00:00.000Z  p231  db0  put          \"w\" = \"old\"
         4  2026-11-22 10:00:00.000Z  p231  db5  put          \"w\" = \"older\"
         6  2026-11-22 10:00:00.000Z  p231       move-out     to node 000000000000000b  epoch 9  -> gone
        11  2026-11-22 10:00:00.000Z  p231       move-in      from node 000000000000000b  epoch 10  -> gone
        12  2026-11-22 10:00:00.000Z  p231  db0  put          \"w\" = \"new\"
";
    assert_eq!(clean(dir.path(), &["history", "w", "-q"]).out, expected);
    let run = clean(dir.path(), &["history", "n", "--format", "json", "--db", "5"]);
    assert_eq!(run.members("operation"), r#""move-in" "move-out" "move-in" "own""#);
    let objects = run.json();
    assert!(objects[0]["after"].is_null() && objects[0].get("after").is_some());
    assert!(objects[3].get("after").is_none(), "{}", objects[3]);
    let run = clean(compacted().path(), &["history", "w", "-q"]);
    assert!(run.out.contains("\"new\"  (before record 13, not served yet)"), "{}", run.out);
    let run = clean(compacted().path(), &["history", "n", "-q"]);
    assert!(run.out.contains("= 3  (before record 13)\n"), "{}", run.out);
}

#[test]
fn state_leaves_out_what_no_client_sees_and_says_so() {
    for dir in [written(), compacted()] {
        let run = clean(dir.path(), &["state"]);
        let expected = "p214  db0  \"n\" = 3\np476  db0  \"k\" = \"stays\"\n";
        assert_eq!(run.out, expected);
        let note = "partitions that were received and not served yet are left out: 1";
        assert_eq!(run.err.lines().filter(|line| line.contains(note)).count(), 1, "{}", run.err);
        assert!(run.err.contains(": 2 keys\n"), "nothing has expired: {}", run.err);
    }
    let dir = written();
    for (at, expected) in [("1", ""), ("5", r#""w" "k" "w""#), ("8", r#""k""#), ("9", r#""n" "k""#)]
    {
        let run = clean(dir.path(), &["state", "--at", at, "--format", "json"]);
        assert_eq!(run.members("key"), expected, "{at}");
        assert_eq!(run.err.contains("left out"), ["1", "8"].contains(&at), "{at}: {}", run.err);
    }
}

#[test]
fn diff_shows_a_received_partition_when_it_is_served() {
    let dir = written();
    let diff = |from, to| clean(dir.path(), &["diff", "--from", from, "--to", to]);
    let during = diff("7", "8");
    assert_eq!(during.out, "");
    assert!(during.err.contains("left out: 1 at --from, 1 at --to"));
    assert_eq!(diff("8", "9").out, "+ p214  db0  \"n\" = 2\n");
    let gone = diff("5", "6");
    assert_eq!(gone.out, "- p231  db0  \"w\" = \"old\"\n- p231  db5  \"w\" = \"older\"\n");
    assert!(!gone.err.contains("left out"), "{}", gone.err);
}

#[test]
fn summary_counts_moves_and_names_the_epochs() {
    let dir = written();
    let json = &clean(dir.path(), &["summary", "--format", "json"]).json()[0];
    let expected = concat!(
        r#"{"cancelled":1,"in":1,"out":1,"partitions":["#,
        r#"{"epoch":6,"node":"000000000000000a","partition":214,"status":"served"},"#,
        r#"{"epoch":10,"node":"000000000000000b","partition":231,"status":"receiving"}],"#,
        r#""under_way":1}"#
    );
    let sorted = serde_json::from_str::<serde_json::Value>(expected).unwrap();
    assert_eq!(json["moves"], sorted);
    assert_eq!(json["operations"]["move-in"], 3);
    assert_eq!(json["databases"].to_string().matches("database").count(), 2);
    assert_eq!(json["databases"][0]["records"], 6, "moves are in no database of their own");
    let text = clean(dir.path(), &["summary"]).out;
    let expected = "
moves        1 in, 1 out, 1 cancelled, 1 under way
  231          epoch 10  received from node 000000000000000b, not served yet
  214          epoch 6  served, came from node 000000000000000a
";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("  move-in                 3\n"), "{text}");
}

#[test]
fn summary_takes_epochs_and_what_is_not_served_from_snapshots() {
    let dir = compacted();
    let text = clean(dir.path(), &["summary", "--all"]).out;
    let expected = "
moves        0 in, 0 out, 0 cancelled, 1 under way
  231          epoch 10  received from node 000000000000000b, not served yet
  214          epoch 6
";
    assert!(text.contains(expected), "{text}");
    let line = "  214                     1 records  before record 13, 2026-11-22 10:01:00.000Z, epoch 6\n";
    assert!(text.contains(line), "{text}");
    assert!(!text.contains("epoch 0"), "{text}");
    let json = &clean(dir.path(), &["summary", "--format", "json"]).json()[0];
    assert_eq!(json["snapshots"][214]["epoch"], 6);
}

#[test]
fn a_copy_that_a_snapshot_and_the_log_tell_of_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path());
    let begin = (0, on(b"w", Operation::MoveIn { epoch: 10, from: B }));
    let key = (0, put(b"w", b"new"));
    log.frame(TEN, &[begin.clone(), key.clone()]);
    // Nothing is trimmed, so its begin is in the log as well.
    log.snapshot(b"w", after(2), &[begin, key], Epoch(10));
    log.close();
    let moves = |dir: &TempDir| {
        let text = clean(dir.path(), &["summary"]).out;
        text.lines().find(|line| line.starts_with("moves")).unwrap().to_owned()
    };
    assert_eq!(moves(&dir), "moves        0 in, 0 out, 0 cancelled, 1 under way");
    // A copy of which only the snapshot has the begin ends in the log.
    let dir = compacted();
    let mut log = Log::create(dir.path());
    log.frame(after(90), &[(0, on(b"w", Operation::Own { epoch: 11, from: B }))]);
    log.close();
    assert_eq!(moves(&dir), "moves        1 in, 0 out, 0 cancelled, 0 under way");
    assert!(clean(dir.path(), &["state", "-q"]).out.contains("\"w\" = \"new\""));
}

#[test]
fn a_snapshot_decides_what_is_served_where_the_log_has_lost_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path());
    let key = (0, put(b"w", b"new"));
    log.frame(TEN, &[(0, on(b"w", Operation::MoveIn { epoch: 10, from: B })), key.clone()]);
    log.snapshot(b"w", after(2), &[key], Epoch(11));
    log.close();
    let text = clean(dir.path(), &["summary"]).out;
    assert!(text.contains("0 under way\n  231          epoch 11\n"), "{text}");
}

#[test]
fn a_node_that_was_always_alone_has_no_moves_in_its_summary() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path());
    log.compact(TEN, &[(0, put(b"k", b"v"))]);
    log.frame(after(1), &[(0, put(b"k", b"w"))]);
    log.close();
    let text = clean(dir.path(), &["summary"]).out;
    assert!(!text.contains("moves") && !text.contains("epoch"), "{text}");
}

#[test]
fn repair_keeps_moves_and_epochs() {
    for dir in [written(), compacted()] {
        let parent = tempfile::tempdir().unwrap();
        let new = parent.path().join("new");
        clean(dir.path(), &["repair", "--output", new.to_str().unwrap()]);
        for arguments in [&["dump", "--snapshots", "-q"][..], &["state", "-q"]] {
            assert_eq!(clean(dir.path(), arguments).out, clean(&new, arguments).out);
        }
        let moves = |dir| clean(dir, &["summary", "--format", "json"]).json()[0]["moves"].clone();
        assert_eq!(moves(dir.path()), moves(&new));
    }
}
