//! `distcache-log raft`, on directories whose entries are written byte by byte.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop a test as tests do")]

mod cli_support;

use std::fs;
use std::path::Path;

use cli_support::{Log, clean, contents, run, wait_for_lock};
use distcache_recovery::raft_db::Note;
use distcache_recovery::raft_directory::RaftDirectory;
use tempfile::TempDir;

const NODE: u64 = 7;

/// Returns an entry of term 2 that node 7 proposed.
fn entry(index: u8, payload: &[u8]) -> Vec<u8> {
    [&[2, 7, index], payload].concat()
}

fn node_join(zone: &str) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    [
        &[1, 128, 1, 1, 9, 200][..],
        &text("h:1"),
        &text("h:2"),
        &text("h:\n3"),
        &text(""),
        &text(zone),
        &[100, 1],
    ]
    .concat()
}

fn fill(raft: &mut RaftDirectory) {
    raft.set_cluster(0xc1).unwrap();
    raft.db.set_note(Note::Vote, &[2, 7, 1]).unwrap();
    let entries = [
        entry(1, &[0]),
        entry(2, &[2, 2, 2, 7, 8, 1, 7, 3, 7, 0, 8, 1, b'h', 9, 0]),
        entry(3, &node_join("a zone with a name of its own")),
        entry(4, &[1, 128, 1, 6, 251, 0x2c, 0x01, 5, 0, 1, 9, 200, 0, 1, 7]),
        // Two that were proposed together.
        entry(5, &[1, 128, 2, 4, 8, 6, 17, 5, 5, 8, 1]),
    ];
    raft.db.append(1, &entries).unwrap();
    raft.db.purge(1, &[2, 7, 1]).unwrap();
    // Of the table, which is not read, there are four bytes.
    let snapshot = [1, 2, 7, 1, 0, 1, 1, 7, 1, 7, 0, 3, b'2', b'-', b'1', 4, 1, 2, 3, 4];
    raft.snapshot.write(&snapshot).unwrap();
    raft.db.set_note(Note::Committed, &[1, 2, 7, 4]).unwrap();
}

fn written() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut raft = RaftDirectory::open(dir.path(), NODE).unwrap();
    fill(&mut raft);
    raft.db.close().unwrap();
    drop(raft);
    wait_for_lock(&dir.path().join("raft"));
    dir
}

/// Appends entries from 6 on.
fn append(dir: &Path, entries: &[Vec<u8>]) {
    let mut raft = RaftDirectory::open(dir, NODE).unwrap();
    raft.db.append(6, entries).unwrap();
    raft.db.close().unwrap();
    drop(raft);
    wait_for_lock(&dir.join("raft"));
}

const ENTRIES: [&str; 5] = [
    "         2  t2    membership   voters 0000000000000007 0000000000000008 -> 0000000000000007  \
     learners 0000000000000009",
    "         3  t2    node-join    node 0000000000000009  process 00000000000000c8  bus h:1  \
     client h:2  direct h:\\n3  zone a zone with a name of its own  weight 100  witness",
    "         4  t2    begin-move   p300 if in epoch 5  move 0000000000000001  \
     to node 0000000000000009  process 00000000000000c8  as primary  \
     instead of node 0000000000000007",
    "         5  t2    node-leaving node 0000000000000008",
    "         5  t2    promote      p17 if in epoch 5  to node 0000000000000008  unclean",
];

#[test]
fn the_head_says_who_the_node_is_and_each_entry_what_it_does() {
    let dir = written();
    let before = contents(dir.path());
    let run = clean(dir.path(), &["raft"]);
    let expected = "\
node         0000000000000007
cluster      000000000000000000000000000000c1
vote         term 2 for node 0000000000000007, a majority agreed
committed    4, term 2
purged       1, term 2
snapshot     up to 1, term 2; 4 B of table; voters 0000000000000007
entries      2 to 5

";
    assert_eq!(run.out, format!("{expected}{}\n", ENTRIES.join("\n")));
    assert!(run.err.contains("private copy"), "{}", run.err);
    assert!(contents(dir.path()) == before, "the directory was changed");
    for (options, expected) in
        [(["--since-index", "4"], "4 5 5"), (["--last", "1"], "5 5"), (["--since-index", "9"], "")]
    {
        let arguments = [&["raft", "--format", "json"][..], &options].concat();
        let objects = clean(dir.path(), &arguments).json();
        let found: Vec<_> = objects[1..].iter().map(|entry| entry["index"].to_string()).collect();
        assert_eq!(found.join(" "), expected, "{options:?}");
    }
}

#[test]
fn json_has_an_object_for_the_head_and_one_for_each_entry() {
    let out = clean(written().path(), &["raft", "--format", "json"]).out;
    let mut lines = out.lines();
    let expected = concat!(
        r#"{"node":"0000000000000007","cluster":"000000000000000000000000000000c1","#,
        r#""vote":{"term":2,"node":"0000000000000007","is_committed":true},"#,
        r#""committed":{"index":4,"term":2},"purged":{"index":1,"term":2},"#,
        r#""snapshot":{"last":{"index":1,"term":2},"bytes":4,"members":"voters 0000000000000007"},"#,
        r#""entries":{"first":2,"end":6},"damages":[],"unknown":[]}"#
    );
    assert_eq!(lines.next().unwrap(), expected);
    let expected = concat!(
        r#"{"index":4,"term":2,"leader":"0000000000000007","kind":"begin-move","entry":"#,
        r#"{"Partition":{"partition":300,"expect_epoch":5,"change":{"BeginMove":"#,
        r#"{"move_id":"0000000000000001","target":"0000000000000009","#,
        r#""incarnation":"00000000000000c8","then":"become-primary","#,
        r#""drop":"0000000000000007"}}}}}"#
    );
    assert_eq!(lines.nth(2).unwrap(), expected);
}

#[test]
fn the_directory_of_a_crashed_node_shows_all_that_was_acknowledged() {
    let (dir, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut raft = RaftDirectory::open(dir.path(), NODE).unwrap();
    fill(&mut raft);
    let open = run(dir.path(), &["raft"]);
    assert_eq!(open.code, 2);
    assert!(open.err.contains("stop the node first"), "{}", open.err);
    for (path, (bytes, _)) in contents(dir.path()) {
        let to = crashed.path().join(path.strip_prefix(dir.path()).unwrap());
        if path.is_file() {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, bytes).unwrap();
        }
    }
    let out = clean(crashed.path(), &["raft"]).out;
    assert!(out.ends_with(&format!("\n\n{}\n", ENTRIES.join("\n"))), "{out}");
}

/// Puts a snapshot back that has no entry.
fn older_snapshot(raft: &Path) {
    let raft = RaftDirectory::open(raft.parent().unwrap(), NODE).unwrap();
    raft.snapshot.write(&[0, 0, 1, 1, 7, 1, 7, 0, 3, b'2', b'-', b'1', 4, 1, 2, 3, 4]).unwrap();
    drop(raft);
}

#[test]
fn damage_ends_with_code_1_and_what_is_intact_is_shown() {
    let dir = written();
    append(dir.path(), &[entry(9, &[0]), entry(7, &[0])]);
    let found = run(dir.path(), &["raft", "-q"]);
    assert_eq!(found.code, 1, "{}", found.err);
    assert_eq!(found.err, "distcache-log: the log is damaged: entry 6 says it is 9\n");
    assert!(found.out.contains(ENTRIES[4]), "{}", found.out);
    assert!(found.out.ends_with("7  t2    blank        node 0000000000000007 begins its term\n"));

    type Loss = fn(&Path);
    let losses: [(Loss, &str, bool); 9] = [
        (|raft| fs::remove_file(raft.join("identity")).unwrap(), "identity is missing", true),
        (|raft| fs::write(raft.join("identity"), "x").unwrap(), "identity is damaged", true),
        (|raft| fs::write(raft.join("snapshot"), "x").unwrap(), "snapshot is damaged", true),
        (|raft| fs::remove_dir_all(raft.join("log")).unwrap(), "log is missing", false),
        (|raft| fs::remove_file(raft.join("log/redo")).unwrap(), "redo log is missing", false),
        (
            |raft| fs::remove_file(raft.join("log/db")).unwrap(),
            "the store is of generation 1 and the redo log of 2",
            false,
        ),
        (
            |raft| {
                fs::remove_file(raft.join("log/db")).unwrap();
                fs::remove_file(raft.join("log/redo")).unwrap();
            },
            "it is empty, and its node was in a cluster",
            false,
        ),
        (|raft| fs::remove_file(raft.join("snapshot")).unwrap(), "snapshot, which has them", true),
        (older_snapshot, "entries up to 1 were removed, and the file snapshot has those", true),
    ];
    for (lose, text, has_entries) in losses {
        let dir = written();
        lose(&dir.path().join("raft"));
        let found = run(dir.path(), &["raft", "-q"]);
        assert_eq!(found.code, 1, "{text}: {}", found.err);
        assert!(found.err.contains(text) && found.err.lines().count() == 1, "{}", found.err);
        assert_eq!(found.out.contains(ENTRIES[4]), has_entries, "{text}: {}", found.out);
    }
}

/// It looked at the log only.
#[test]
fn verify_finds_what_keeps_a_node_from_starting_in_raft_too() {
    let whole = || {
        let dir = written();
        Log::create(dir.path()).close();
        dir
    };
    let dir = whole();
    clean(dir.path(), &["verify"]);
    let redo = dir.path().join("raft/log/redo");
    let mut bytes = fs::read(&redo).unwrap();
    bytes[9] ^= 1;
    fs::write(&redo, bytes).unwrap();
    let before = contents(dir.path());
    let found = run(dir.path(), &["verify"]);
    assert_eq!(found.code, 1, "{}", found.out);
    for text in ["DAMAGED", "raft: the log is damaged: the redo log has an unreadable", "to do "] {
        assert!(found.out.contains(text), "{text} in {}", found.out);
    }
    // The log itself needs no repair.
    assert!(!found.out.contains("distcache-log repair"), "{}", found.out);
    let json = &run(dir.path(), &["verify", "--format", "json"]).json()[0];
    assert_eq!(json["is_intact"], false);
    assert!(json["raft_damages"][0].as_str().unwrap().contains("unreadable"), "{json}");
    assert!(contents(dir.path()) == before, "the directory was changed");
    // A node says the same.
    RaftDirectory::open(dir.path(), NODE).unwrap_err();

    type Change = fn(&Path);
    let changes: [(Change, i32, &str); 4] = [
        (|dir| append(dir, &[entry(9, &[0])]), 1, "entry 6 says it is 9"),
        (|dir| fs::write(dir.join("raft/snapshot"), "x").unwrap(), 1, "snapshot is damaged"),
        // A node starts without its part in Raft then.
        (|dir| fs::remove_file(dir.join("raft/identity")).unwrap(), 0, "identity is missing"),
        (|dir| append(dir, &[entry(6, &[1, 4, 8])]), 2, "another version wrote it"),
    ];
    for (change, code, text) in changes {
        let dir = whole();
        change(dir.path());
        let found = run(dir.path(), &["verify", "-q"]);
        assert_eq!(found.code, code, "{text}: {}{}", found.out, found.err);
        assert!(found.out.contains(text) || found.err.contains(text), "{}", found.out);
    }
}

#[test]
fn what_another_version_wrote_ends_with_code_2_behind_the_rest() {
    let dir = written();
    let entries: [&[u8]; 4] = [&[1, 128, 1, 99, 1], &[1, 128, 1, 4, 8], &[0, 0], &[1, 4, 8]];
    let entries = (6..).zip(entries).map(|(index, payload)| entry(index, payload));
    append(dir.path(), &entries.collect::<Vec<_>>());
    let found = run(dir.path(), &["raft", "-q", "--last", "4"]);
    assert_eq!(found.code, 2, "{}", found.err);
    assert!(
        found.err.contains("entry 6: another version wrote it (invalid value"),
        "{}",
        found.err
    );
    assert!(found.err.contains("entry 8: another version wrote it (1 bytes follow its end)"));
    // Before there were batches.
    assert!(found.err.contains("entry 9: another version wrote it (entries of form 4)"));
    assert!(found.out.ends_with("7  t2    node-leaving node 0000000000000008\n"), "{}", found.out);
}

#[test]
fn a_node_that_was_in_no_cluster_has_nothing_to_show() {
    let dir = tempfile::tempdir().unwrap();
    Log::create(dir.path()).close();
    let found = run(dir.path(), &["raft"]);
    assert_eq!((found.code, found.out.as_str()), (2, ""));
    assert!(found.err.contains("has no folder raft"), "{}", found.err);
    let found = run(&dir.path().join("missing"), &["raft"]);
    assert_eq!(found.code, 2);
    assert!(found.err.contains("there is no such directory"), "{}", found.err);
    drop(RaftDirectory::open(dir.path(), NODE).unwrap());
    wait_for_lock(&dir.path().join("raft"));
    let out = clean(dir.path(), &["raft", "-q"]).out;
    assert!(out.contains("cluster      none\nvote         none\n"), "{out}");
    assert!(out.ends_with("entries      none\n\n"), "{out}");
}
