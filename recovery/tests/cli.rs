//! The tool on logs whose history is known: what it prints and which exit code it gives.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop a test as tests do")]

mod cli_support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use cli_support::{Log, Owned, TEN, after, clean, command, contents, damage, on, put, run};
use distcache_protocol::value;
use distcache_recovery::{DeleteCause, Epoch, OpenMode, Operation, UnixMillis, open};

/// Three frames, written at 10:00, 10:05 and 10:10.
fn history() -> Vec<(UnixMillis, Vec<(u8, Owned)>)> {
    let typed = value::encode(&(1.5, "x", None::<u8>)).unwrap();
    let gone = Operation::Delete { key: b"user:2", cause: DeleteCause::Expired };
    let swap = Operation::Swap { other: 1 };
    vec![
        (TEN, vec![(0, put(b"user:1", b"Ana")), (0, put(b"n", i64::MAX))]),
        (
            after(300),
            vec![
                (0, put(b"user:2", typed).until(after(500))),
                (0, on(b"user:1", Operation::Append { key: b"user:1", bytes: b" Lima" })),
                (3, put(b"\x00\xff", b"\xfe\"\n")),
            ],
        ),
        (
            after(600),
            vec![
                (0, put(b"n", i64::MIN)),
                (0, on(b"user:2", gone)),
                (0, on(b"n", Operation::SetDeadline { key: b"n", deadline: Some(after(9000)) })),
                (0, on(b"w", Operation::WriteRange { key: b"w", offset: 2, bytes: b"zz" })),
                (0, on(b"user:1", swap)),
            ],
        ),
    ]
}

fn written() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path());
    for (at, records) in history() {
        log.frame(at, &records);
    }
    log.close();
    dir
}

/// The same history, with everything but the last frame in snapshots.
fn compacted() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path());
    let frames = history();
    for (at, records) in &frames[..2] {
        log.frame(*at, records);
    }
    let typed = value::encode(&(1.5, "x", None::<u8>)).unwrap();
    let keys = [
        (0, put(b"user:1", b"Ana Lima")),
        (0, put(b"n", i64::MAX)),
        (0, put(b"user:2", typed).until(after(500))),
        (3, put(b"\x00\xff", b"\xfe\"\n")),
    ];
    log.compact(after(400), &keys);
    log.frame(frames[2].0, &frames[2].1);
    log.close();
    dir
}

#[test]
fn dump_prints_every_record_for_people() {
    let dir = written();
    let run = clean(dir.path(), &["dump"]);
    let expected = "         \
0  2026-11-22 10:00:00.000Z  p673  db0  put          \"user:1\" = \"Ana\"
         1  2026-11-22 10:00:00.000Z  p214  db0  put          \"n\" = 9223372036854775807
         2  2026-11-22 10:05:00.000Z  p423  db0  put          \"user:2\" = (1.5, \"x\", none)  expires 2026-11-22 10:08:20.000Z
         3  2026-11-22 10:05:00.000Z  p673  db0  append       \"user:1\" + \" Lima\"
         4  2026-11-22 10:05:00.000Z  p495  db3  put          \"\\x00\\xff\" = \"\\xfe\\\"\\n\"
         5  2026-11-22 10:10:00.000Z  p214  db0  put          \"n\" = -9223372036854775808
         6  2026-11-22 10:10:00.000Z  p423  db0  expire       \"user:2\"
         7  2026-11-22 10:10:00.000Z  p214  db0  set-deadline \"n\" expires 2026-11-22 12:30:00.000Z
         8  2026-11-22 10:10:00.000Z  p231  db0  write-range  \"w\" at 2 \"zz\"
         9  2026-11-22 10:10:00.000Z  p673  db0  swap         with db1
";
    assert_eq!(run.out, expected);
    assert!(run.err.contains("private copy"), "{}", run.err);
    assert!(clean(dir.path(), &["dump", "--quiet"]).err.is_empty());
}

#[test]
fn dump_prints_exact_json_for_programs() {
    let dir = written();
    let run = clean(dir.path(), &["dump", "--format", "json"]);
    let expected = concat!(
        r#"{"sequence":5,"time":"2026-11-22T10:10:00.000Z","unix_ms":1795342200000,"#,
        r#""partition":214,"database":0,"operation":"put","key":"n","#,
        r#""value":-9223372036854775808,"deadline_ms":null}"#
    );
    assert_eq!(run.out.lines().nth(5).unwrap(), expected);
    let objects = run.json();
    assert_eq!(objects[2]["value"].to_string(), r#"{"typed":{"tuple":[1.5,"x",null]}}"#);
    assert_eq!(objects[4]["key"].to_string(), r#"{"base64":"AP8="}"#);
    assert_eq!(objects[4]["value"].to_string(), r#"{"base64":"/iIK"}"#);
    let raw = clean(dir.path(), &["dump", "--format", "json", "--raw"]);
    assert!(raw.json()[2]["value"]["base64"].is_string());
}

#[test]
fn dump_takes_only_what_is_asked_for() {
    let dir = written();
    for (options, expected) in [
        (vec!["--key", "user:*"], "0 2 3 6"),
        (vec!["--since", "2026-11-22T10:05:00Z", "--until", "2026-11-22 10:09"], "2 3 4"),
        (vec!["--since", "1795342200000"], "5 6 7 8 9"),
        (vec!["--op", "expire,swap"], "6 9"),
        (vec!["--db", "3"], "4"),
        // Of either database that changed places.
        (vec!["--db", "1", "--op", "swap"], "9"),
        (vec!["--db", "0", "--op", "swap"], "9"),
        (vec!["--db", "2", "--op", "swap"], ""),
        (vec!["--partition", "214"], "1 5 7"),
        (vec!["--from-seq", "3", "--to-seq", "5"], "3 4 5"),
        (vec!["--limit", "2", "--from-seq", "1"], "1 2"),
        (vec!["--limit", "0"], ""),
        // The records are of 2026, whenever this runs.
        (vec!["--since", "-3650d", "--limit", "1"], "0"),
        (vec!["--until", "-3650d"], ""),
    ] {
        let arguments = [vec!["dump", "--format", "json"], options].concat();
        assert_eq!(clean(dir.path(), &arguments).members("sequence"), expected, "{arguments:?}");
    }
}

#[test]
fn dump_prints_snapshots_when_asked() {
    let dir = compacted();
    let records = ["dump", "--format", "json", "--key", "user:*"];
    assert_eq!(clean(dir.path(), &records).members("sequence"), "6");
    let run = clean(dir.path(), &[&records[..], &["--snapshots"]].concat());
    assert_eq!(run.members("operation"), r#""snapshot" "snapshot" "expire""#);
    assert_eq!(run.members("partition"), "423 673 423");
    assert_eq!(run.json()[1]["value"], "Ana Lima");
}

#[test]
fn changes_behind_a_copy_and_pieces_are_no_keys_of_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path());
    let gone = Operation::Delete { key: b"{n}gone", cause: DeleteCause::Command };
    let piece = Operation::WriteRange { key: b"{n}long", offset: 0, bytes: b"piece" };
    let records =
        [(0, put(b"{n}gone", b"value")), (0, on(b"{n}gone", gone)), (0, on(b"{n}long", piece))];
    log.snapshot(b"n", TEN, &records, Epoch(0));
    log.close();
    let run = clean(dir.path(), &["dump", "--snapshots", "--format", "json"]);
    assert_eq!(run.members("operation"), r#""snapshot" "delete" "write-range""#);
    let text = clean(dir.path(), &["dump", "--snapshots", "-q"]).out;
    assert!(text.contains("db0  delete       \"{n}gone\"\n"), "{text}");
    let text = clean(dir.path(), &["summary"]).out;
    assert!(text.contains("\nsnapshots    1 with 3 records\n"), "{text}");
}

#[test]
fn wrong_usage_ends_with_code_2_and_says_what_is_wrong() {
    let dir = written();
    for (arguments, text) in [
        (vec!["dump", "--since", "soon"], "'soon' is not a time"),
        (vec!["dump", "--since", "1795342200"], "seconds"),
        (vec!["dump", "--op", "pit"], "'pit'"),
        (vec!["dump", "--partition", "1024"], "1024"),
        (vec!["dump", "--temp-dir", "/nowhere"], "cannot be used multiple times"),
        (vec!["history"], "<KEY>"),
        (vec!["history", "\\q", "--escaped"], "unknown escape"),
        (
            vec!["state", "--at", "10"],
            "record 10 is not in the log; available are the records 0 to 9",
        ),
        (vec!["diff", "--from", "5", "--to", "4"], "after --to"),
    ] {
        let run = run(dir.path(), &arguments);
        assert_eq!(run.code, 2, "{arguments:?}");
        assert!(run.err.contains(text) && run.out.is_empty(), "{arguments:?}: {}", run.err);
    }
}

#[test]
fn what_is_no_data_directory_ends_with_code_2_and_one_line() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["summary", "dump", "state", "verify"] {
        for path in [dir.path().to_owned(), dir.path().join("missing")] {
            let run = run(&path, &[command]);
            assert_eq!(run.code, 2);
            assert!(run.err.starts_with("distcache-log: ") && run.err.lines().count() == 1);
            assert!(run.err.contains("is not a data directory"), "{}", run.err);
        }
    }
}

#[test]
fn the_directory_of_a_running_node_is_refused() {
    let dir = written();
    let _node = open(dir.path(), OpenMode::Existing).unwrap();
    let run = run(dir.path(), &["summary"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("stop the node first") && run.err.contains("in use"), "{}", run.err);
}

#[test]
fn a_copy_that_has_no_place_is_refused_before_it_begins() {
    let dir = written();
    let missing = dir.path().join("missing");
    let output = command(dir.path(), &missing, &["dump"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("use --temp-dir"));
}

#[test]
fn history_shows_all_changes_of_a_key_and_its_value_after_each() {
    let dir = written();
    let run = clean(dir.path(), &["history", "user:1", "-q"]);
    let expected = "         \
0  2026-11-22 10:00:00.000Z  p673  db0  put          \"user:1\" = \"Ana\"
         3  2026-11-22 10:05:00.000Z  p673  db0  append       \"user:1\" + \" Lima\"  -> \"Ana Lima\"
         9  2026-11-22 10:10:00.000Z  p673  db0  swap         with db1  -> gone
";
    assert_eq!(run.out, expected);
    let run = clean(dir.path(), &["history", "w", "--format", "json"]);
    assert_eq!(run.json()[0]["after"]["value"], "\0\0zz");
    let run = clean(dir.path(), &["history", r"\x00\xff", "--escaped", "--format", "json"]);
    assert_eq!(run.members("sequence"), "4");
    assert_eq!(clean(dir.path(), &["history", "user:1", "--db", "3"]).out, "");
}

#[test]
fn history_begins_with_the_snapshot_where_the_log_begins_later() {
    let dir = compacted();
    let run = clean(dir.path(), &["history", "n", "-q"]);
    let expected = "         \
-  2026-11-22 10:06:40.000Z  p214  db0  snapshot     \"n\" = 9223372036854775807  (before record 5)
         5  2026-11-22 10:10:00.000Z  p214  db0  put          \"n\" = -9223372036854775808
         7  2026-11-22 10:10:00.000Z  p214  db0  set-deadline \"n\" expires 2026-11-22 12:30:00.000Z  \
-> -9223372036854775808  expires 2026-11-22 12:30:00.000Z
";
    assert_eq!(run.out, expected);
    let run = clean(dir.path(), &["history", "absent", "--format", "json"]);
    assert_eq!(run.json()[0]["after"], serde_json::Value::Null);
    assert_eq!(run.members("before_sequence"), "5");
}

#[test]
fn history_does_not_guess_a_value_behind_missing_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path());
    log.compact(TEN, &[(0, put(b"k", b"old"))]);
    let append = |bytes| on(b"k", Operation::Append { key: b"k", bytes });
    log.frame(after(1), &[(0, append(b"!"))]);
    log.frame(after(2), &[(0, append(b"lost for ever"))]);
    log.frame(after(3), &[(0, append(b"?"))]);
    log.close();
    damage(dir.path(), b"lost for ever");
    let parent = tempfile::tempdir().unwrap();
    let new = parent.path().join("new");
    assert_eq!(run(dir.path(), &["repair", "-o", new.to_str().unwrap()]).code, 1);
    let history = clean(&new, &["history", "k", "-q"]);
    let expected = "         \
-  2026-11-22 10:00:00.000Z  p476  db0  snapshot     \"k\" = \"old\"  (before record 0)
         0  2026-11-22 10:00:01.000Z  p476  db0  append       \"k\" + \"!\"  -> \"old!\"
         2  2026-11-22 10:00:03.000Z  p476  db0  append       \"k\" + \"?\"
";
    assert_eq!(history.out, expected);
}

#[test]
fn state_is_the_keyspace_at_each_point() {
    let dir = written();
    for (at, expected) in [
        ("0", r#""user:1""#),
        ("seq:1", r#""n" "user:1""#),
        ("2026-11-22 09:59", ""),
        ("2026-11-22 10:05", r#""n" "user:2" "user:1" {"base64":"AP8="}"#),
        // The deadline of user:2 is 10:08:20.
        ("2026-11-22 10:09", r#""n" "user:1" {"base64":"AP8="}"#),
        ("9", r#""n" "w" "user:1" {"base64":"AP8="}"#),
        ("end", r#""n" "w" "user:1" {"base64":"AP8="}"#),
    ] {
        let run = clean(dir.path(), &["state", "--at", at, "--format", "json"]);
        assert_eq!(run.members("key"), expected, "{at}");
    }
    let run = clean(dir.path(), &["state", "--key", "user:*", "-q"]);
    assert_eq!(run.out, "p673  db1  \"user:1\" = \"Ana Lima\"\n");
}

#[test]
fn state_makes_commands_that_are_exact_for_binary_keys() {
    let dir = written();
    let run = clean(dir.path(), &["state", "--at", "7", "--format", "resp"]);
    let expected = [
        &b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"[..],
        b"*5\r\n$3\r\nSET\r\n$1\r\nn\r\n$20\r\n-9223372036854775808\r\n",
        b"$4\r\nPXAT\r\n$13\r\n1795350600000\r\n",
        b"*3\r\n$3\r\nSET\r\n$6\r\nuser:1\r\n$8\r\nAna Lima\r\n",
        b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*3\r\n$3\r\nSET\r\n$2\r\n\x00\xff\r\n$3\r\n\xfe\"\n\r\n",
    ];
    assert_eq!(run.bytes, expected.concat());
}

#[test]
fn a_state_before_the_snapshots_is_refused_with_the_range_there_is() {
    let dir = compacted();
    for at in ["3", "2026-11-22 10:00"] {
        let run = run(dir.path(), &["state", "--at", at]);
        assert_eq!(run.code, 2);
        let text = "available are the records 4 (2026-11-22 10:06:40.000Z) to 9";
        assert!(run.err.contains(text), "{at}: {}", run.err);
    }
    let whole = written();
    for at in ["4", "5", "7", "9", "2026-11-22 10:07"] {
        let arguments = ["state", "--at", at, "--format", "resp"];
        let (one, other) = (clean(dir.path(), &arguments), clean(whole.path(), &arguments));
        assert_eq!(one.bytes, other.bytes, "{at}");
    }
}

#[test]
fn diff_shows_what_came_went_and_changed() {
    let dir = written();
    let run = clean(dir.path(), &["diff", "--from", "2", "--to", "6", "-q"]);
    let expected = "\
~ p214  db0  \"n\" = 9223372036854775807  ->  -9223372036854775808
- p423  db0  \"user:2\" = (1.5, \"x\", none)  expires 2026-11-22 10:08:20.000Z
~ p673  db0  \"user:1\" = \"Ana\"  ->  \"Ana Lima\"
+ p495  db3  \"\\x00\\xff\" = \"\\xfe\\\"\\n\"
";
    assert_eq!(run.out, expected);
    let run = clean(dir.path(), &["diff", "--from", "8", "--format", "json"]);
    assert_eq!(run.members("change"), r#""removed" "added""#);
    assert_eq!(run.members("database"), "0 1");
    assert_eq!(clean(dir.path(), &["diff", "--from", "4", "--to", "4"]).out, "");
}

#[test]
fn summary_counts() {
    let dir = compacted();
    let run = clean(dir.path(), &["summary", "--format", "json"]);
    let json = &run.json()[0];
    assert_eq!(json["records"], 5);
    assert_eq!(json["sequence"].to_string(), r#"{"first":5,"last":9,"next":10}"#);
    assert_eq!(json["operations"]["expire"], 1);
    assert_eq!(json["snapshots"].as_array().unwrap().len(), 1024);
    assert_eq!(json["snapshot_records"], 4);
    assert_eq!(json["written"]["first"], "2026-11-22T10:10:00.000Z");
    assert_eq!(json["is_clean_shutdown"], true);
    let text = clean(dir.path(), &["summary"]).out;
    for line in ["sequences    5 to 9", "records      5", "  set-deadline            1"] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(text.contains("and 1014 others; --all lists them"), "{text}");
    assert!(clean(dir.path(), &["summary", "--all"]).out.lines().count() > 1024);
}

#[test]
fn verify_tells_a_clean_log_from_a_damaged_one() {
    let dir = written();
    let run = clean(dir.path(), &["verify"]);
    assert!(run.out.contains(": intact\nread       10 records in 3 frames"), "{}", run.out);
    damage(dir.path(), b" Lima");
    check_damaged(dir.path());
}

#[test]
fn repair_saves_what_is_intact_and_says_what_is_lost() {
    let dir = written();
    damage(dir.path(), b" Lima");
    let before = contents(dir.path());
    let parent = tempfile::tempdir().unwrap();
    let new = parent.path().join("new");
    let output = new.to_str().unwrap();
    let repaired = run(dir.path(), &["repair", "--output", output, "--format", "json"]);
    assert_eq!(repaired.code, 1, "{}", repaired.err);
    let report = &repaired.json()[0];
    assert_eq!((&report["is_whole"], &report["frames"]), (&false.into(), &2.into()));
    assert_eq!(report["lost"].to_string(), "[[2,5]]");
    assert!(contents(dir.path()) == before, "the damaged directory was changed");

    let verified = clean(&new, &["verify"]);
    assert!(verified.out.contains("records 2 to 4 are missing"), "{}", verified.out);
    let dumped = clean(&new, &["dump", "--format", "json"]);
    assert_eq!(dumped.members("sequence"), "0 1 5 6 7 8 9");
    assert!(dumped.err.contains("warning: records 2 to 4 are missing"), "{}", dumped.err);
    let history = clean(&new, &["history", "user:1", "--format", "json"]);
    assert_eq!(history.members("sequence"), "0 9");
    assert!(history.json()[1].get("after").is_none(), "the gap leaves the value unknown");

    let again = run(dir.path(), &["repair", "--output", output]);
    assert_eq!(again.code, 2);
    assert!(again.err.contains("not empty"), "{}", again.err);
    let inside = dir.path().join("new");
    let inside = run(dir.path(), &["repair", "--output", inside.to_str().unwrap()]);
    assert_eq!(inside.code, 2);
    assert!(inside.err.contains("which is only read"), "{}", inside.err);
    assert!(contents(dir.path()) == before, "the damaged directory was changed");
}

#[test]
fn repair_of_an_intact_log_loses_nothing() {
    let (dir, parent) = (compacted(), tempfile::tempdir().unwrap());
    let new = parent.path().join("new");
    let run = clean(dir.path(), &["repair", "--output", new.to_str().unwrap()]);
    assert!(run.out.contains("nothing was lost"), "{}", run.out);
    for arguments in [&["dump", "--snapshots"][..], &["state", "--format", "resp"]] {
        let (old, new) = (clean(dir.path(), arguments), clean(&new, arguments));
        assert_eq!(old.out, new.out, "{arguments:?}");
    }
}

/// It was found out at the end, when `NEW/.partial` could not become `NEW/`.
#[test]
fn the_output_of_a_repair_may_end_with_a_slash_and_is_no_file() {
    let (dir, parent) = (compacted(), tempfile::tempdir().unwrap());
    let new = parent.path().join("new");
    clean(dir.path(), &["repair", "--output", &format!("{}/", new.display())]);
    assert!(clean(&new, &["verify"]).out.contains("intact"));
    // An empty directory is taken as well.
    let empty = parent.path().join("empty");
    fs::create_dir(&empty).unwrap();
    clean(dir.path(), &["repair", "--output", &format!("{}/.", empty.display())]);

    let file = parent.path().join("file");
    fs::write(&file, "mine").unwrap();
    let refused = run(dir.path(), &["repair", "--output", file.to_str().unwrap()]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("is not a directory"), "{}", refused.err);
    let mut left: Vec<_> =
        fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["empty", "file", "new"]);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

fn check_damaged(dir: &Path) {
    let verified = run(dir, &["verify"]);
    assert_eq!(verified.code, 1, "{}{}", verified.out, verified.err);
    for text in ["DAMAGED", "first bad", "lost ", "to save ", "distcache-log repair"] {
        assert!(verified.out.contains(text), "{text} in {}", verified.out);
    }
    let json = &run(dir, &["verify", "--format", "json"]).json()[0];
    assert_eq!(json["is_intact"], false);
    assert!(json["damages"][0]["lost"].is_string());
    for command in [&["summary"][..], &["dump"], &["history", "n"]] {
        let run = run(dir, command);
        assert_eq!(run.code, 1, "{command:?}");
        assert!(run.err.contains("log is damaged"), "{}", run.err);
    }
    // A node says the same.
    let mut replay = open(dir, OpenMode::Existing).unwrap();
    assert!(replay.any(|block| block.is_err()));
}

#[test]
fn no_subcommand_changes_what_it_reads() {
    for dir in [written(), compacted()] {
        let before = contents(dir.path());
        for arguments in [
            &["summary"][..],
            &["dump"],
            &["history", "n"],
            &["state"],
            &["diff", "--from", "5"],
            &["verify"],
        ] {
            clean(dir.path(), arguments);
            assert!(contents(dir.path()) == before, "{arguments:?} changed the directory");
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path());
    for number in 0..200_u64 {
        let key = format!("key:{number}");
        let records: Vec<_> = (0..40).map(|_| (0, put(key.as_bytes(), vec![b'v'; 100]))).collect();
        log.frame(after(number), &records);
    }
    log.close();
    let temp = tempfile::tempdir().unwrap();
    let mut child = command(dir.path(), temp.path(), &["dump", "-q"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// The code was 0 whenever the reader was gone.
#[test]
fn damage_is_told_by_the_code_also_to_a_reader_that_is_gone() {
    let dir = written();
    let parent = tempfile::tempdir().unwrap();
    damage(dir.path(), b"Lima");
    let new = parent.path().join("new");
    let repair = ["repair", "--output", new.to_str().unwrap()];
    for arguments in [&["verify"][..], &["summary"], &["dump"], &["history", "n"], &repair] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(dir.path(), parent.path(), arguments);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    }
}
