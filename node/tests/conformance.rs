//! Requests and the replies they must get, in files that a person can read.
//!
//! `conformance/<group>.case` holds cases; each starts on a new connection and an empty server:
//!
//! ```text
//! # what the case shows
//! @resp3                      speaks RESP3
//! @from 7.2                   not run on a Redis older than this
//! @node                       our node alone: a lone Redis answers otherwise
//! > SET key "a value"         a request, as redis-cli takes it
//! +OK                         its reply
//! 2> GET key                  a request on a second connection
//! "a value"
//! ```
//!
//! A reply is `+text`, `-error`, `:1`, `"bulk"`, `nil`, `[…]`, `{…}` or, where it may vary, `any`
//! (no error), `between 1 5`, `sorted […]`, `containing text` or `closed`.
//! The same files pass on a real Redis. `DISTCACHE_TEST_ADDR=host:port` names a running server;
//! with `DISTCACHE_BLESS=1` that server's replies are written into the files, to be reviewed.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use support::server::Server;
use support::text::{parse_request, show_tree};
use support::wire::{Tree, Wire};

/// One request of a case and the reply it must get.
struct Exchange {
    /// Which connection sends it: 0 or 1.
    connection: usize,
    request: String,
    /// The line of the reply in the file.
    line: usize,
    expected: String,
}

struct Case {
    name: String,
    directives: Vec<String>,
    exchanges: Vec<Exchange>,
}

/// Which cases a server can be asked.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Node,
    Other,
}

#[test]
fn a_real_redis_passes() {
    check(&Server::redis(&[]), Kind::Other);
}

#[test]
fn our_node_passes_with_one_shard_and_with_several() {
    for shards in ["1", "3"] {
        let flags = ["--shards", shards, "--enable-debug-command", "yes"];
        check(&Server::node(&flags), Kind::Node);
    }
}

#[test]
fn every_command_of_the_node_has_a_case() {
    let node = Server::node(&["--oplog", "off"]);
    let Tree::Array(names) = node.connect().call(&["COMMAND", "LIST"]).tree else {
        panic!("COMMAND LIST is no array");
    };
    let mut used = BTreeSet::new();
    for path in case_files() {
        for case in parse_cases(&fs::read_to_string(&path).unwrap()) {
            for exchange in case.exchanges {
                let words = parse_request(&exchange.request.to_lowercase());
                let words: Vec<_> = words.iter().map(|w| String::from_utf8_lossy(w)).collect();
                used.insert(words[0].to_string());
                used.insert(format!("{}|{}", words[0], words.get(1).map_or("", |word| word)));
            }
        }
    }
    let names = names.iter().map(|name| show_tree(name).trim_matches('"').to_owned());
    let unused: Vec<String> = names.filter(|name| !used.contains(name)).collect();
    assert!(unused.is_empty(), "commands without a case: {}", unused.join(" "));
}

#[test]
fn an_external_server_passes() {
    // Without DISTCACHE_TEST_ADDR there is nothing more to test than above.
    if let Some(server) = Server::external() {
        check(&server, Kind::Other);
    }
}

#[test]
fn every_case_has_a_name_and_every_request_a_reply() {
    let files = case_files();
    assert!(files.len() >= 4, "the case files were not found");
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        for case in parse_cases(&text) {
            assert!(!case.exchanges.is_empty(), "{}: {} is empty", path.display(), case.name);
            for exchange in &case.exchanges {
                let known = ["@resp3", "@node"];
                let is_known = |d: &&String| known.contains(&d.as_str()) || d.starts_with("@from ");
                assert_eq!(case.directives.iter().filter(is_known).count(), case.directives.len());
                assert!(
                    !exchange.expected.is_empty(),
                    "{}:{}: no reply",
                    path.display(),
                    exchange.line
                );
            }
        }
    }
}

fn check(server: &Server, kind: Kind) {
    let version = version_of(&mut server.connect());
    let mut wrong = Vec::new();
    for path in case_files() {
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for case in parse_cases(&text).iter().filter(|case| applies(case, kind, version)) {
            let replies = play(server, case);
            for (exchange, reply) in case.exchanges.iter().zip(&replies) {
                lines[exchange.line - 1] = render(&exchange.expected, reply);
                if !matches(&exchange.expected, reply) {
                    wrong.push(format!(
                        "{name}:{}: {}\n  > {}\n  expected {}\n  got      {reply}",
                        exchange.line, case.name, exchange.request, exchange.expected
                    ));
                }
            }
        }
        if std::env::var_os("DISTCACHE_BLESS").is_some() {
            fs::write(&path, lines.join("\n") + "\n").unwrap();
        }
    }
    assert!(
        wrong.is_empty(),
        "{} replies differ on {}:\n{}",
        wrong.len(),
        server.name,
        wrong.join("\n")
    );
}

/// Sends a case's requests and returns the replies as text.
fn play(server: &Server, case: &Case) -> Vec<String> {
    let mut wires = [server.connect(), server.connect()];
    wires[0].call(&["FLUSHALL"]);
    if case.directives.iter().any(|directive| directive == "@resp3") {
        wires.iter_mut().for_each(|wire| drop(wire.call(&["HELLO", "3"])));
    }
    let mut replies = Vec::new();
    for exchange in &case.exchanges {
        let wire = &mut wires[exchange.connection];
        let reply = if exchange.expected == "closed" {
            wire.read_to_close().map(|rest| format!("closed{}", rest.escape_ascii()))
        } else {
            let reply = wire.try_call(&parse_request(&exchange.request));
            reply.map(|reply| show(&exchange.expected, &reply.tree))
        };
        replies.push(reply.unwrap_or_else(|error| format!("no reply: {error}")));
    }
    server.restore_settings();
    replies
}

/// Writes a reply on one line, its items in order where the case asks for that.
fn show(expected: &str, tree: &Tree) -> String {
    match tree {
        Tree::Array(items) if expected.starts_with("sorted ") => {
            let mut items: Vec<String> = items.iter().map(show_tree).collect();
            items.sort();
            format!("[{}]", items.join(", "))
        }
        _ => show_tree(tree),
    }
}

fn matches(expected: &str, reply: &str) -> bool {
    match expected.split_once(' ') {
        Some(("between", range)) => {
            let (low, high) = range.split_once(' ').unwrap();
            let [low, high]: [i64; 2] = [low, high].map(|number| number.parse().unwrap());
            let number = reply.strip_prefix(':').and_then(|number| number.parse().ok());
            number.is_some_and(|number: i64| (low..=high).contains(&number))
        }
        Some(("sorted", items)) => items == reply,
        Some(("containing", text)) => reply.contains(text),
        _ if expected == "any" => !reply.starts_with('-') && !reply.starts_with("no reply"),
        _ => expected == reply,
    }
}

/// Returns the line to write into the file for a reply: what may vary stays as it is.
fn render(expected: &str, reply: &str) -> String {
    match expected.split_once(' ') {
        Some(("between" | "containing", _)) => expected.to_owned(),
        Some(("sorted", _)) => format!("sorted {reply}"),
        _ if expected == "any" => expected.to_owned(),
        _ => reply.to_owned(),
    }
}

fn applies(case: &Case, kind: Kind, version: (u32, u32)) -> bool {
    case.directives.iter().all(|directive| match directive.strip_prefix("@from ") {
        Some(from) => version >= parse_version(from),
        None => directive != "@node" || kind == Kind::Node,
    })
}

fn version_of(wire: &mut Wire) -> (u32, u32) {
    let Tree::Bulk(info) = wire.call(&["INFO", "server"]).tree else { panic!("INFO has no text") };
    let info = String::from_utf8(info).unwrap();
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
    parse_version(version.expect("INFO server has a redis_version"))
}

fn parse_version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap())
}

fn case_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_case = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "case");
    let mut files: Vec<PathBuf> = entries.filter(is_case).collect();
    files.sort();
    files
}

fn parse_cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        if let Some(name) = line.strip_prefix("# ") {
            let name = name.to_owned();
            cases.push(Case { name, directives: Vec::new(), exchanges: Vec::new() });
            continue;
        }
        let case = cases.last_mut().unwrap_or_else(|| panic!("line {}: no case yet", at + 1));
        let first = line.strip_prefix("> ").map(|request| (0, request));
        if let Some((connection, request)) = first.or(line.strip_prefix("2> ").map(|r| (1, r))) {
            let request = request.to_owned();
            let exchange = Exchange { connection, request, line: at + 2, expected: String::new() };
            case.exchanges.push(exchange);
        } else if line.starts_with('@') {
            case.directives.push(line.to_owned());
        } else {
            let exchange = case.exchanges.last_mut();
            let exchange = exchange.filter(|exchange| exchange.line == at + 1);
            let exchange = exchange.unwrap_or_else(|| panic!("line {}: no request", at + 1));
            exchange.expected = line.to_owned();
        }
    }
    cases
}
