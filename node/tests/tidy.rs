//! The rules of form that no compiler checks: sizes, who may import what, nothing left undone.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of code in one file, its test module not counted.
const FILE_LINES_MAX: usize = 600;
/// Lines of one function, from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Characters in one line.
const LINE_CHARS_MAX: usize = 100;

/// Where a word may not stand.
struct Ban {
    /// What is looked for in code; comments and test modules are not searched.
    words: &'static [&'static str],
    /// Folders or files that the rule covers, from the workspace's root.
    within: &'static [&'static str],
    /// Folders or files that are excepted.
    except: &'static [&'static str],
    /// Why.
    reason: &'static str,
}

const SOURCES: &[&str] = &["node/src", "protocol/src", "recovery/src"];

const BANS: &[Ban] = &[
    Ban {
        words: &["actix::", "use actix", "actix_rt::"],
        within: SOURCES,
        except: &[
            "node/src/actors",
            "node/src/main.rs",
            "node/src/server",
            "node/src/start.rs",
            "node/src/cluster/run.rs",
        ],
        reason: "an actor is a thin shell; everything else is tested without one",
    },
    Ban {
        words: &["sled::", "use sled;", "extern crate sled"],
        within: SOURCES,
        except: &["recovery/src/sled_store.rs"],
        reason: "only sled_store.rs names the store",
    },
    Ban {
        words: &["openraft::", "use openraft"],
        within: SOURCES,
        except: &["node/src/cluster/raft"],
        reason: "the library of consensus can be exchanged in one place",
    },
    Ban {
        words: &["Instant::now", "SystemTime::now", "rand::", "quanta::", "getrandom"],
        within: &["node/src"],
        except: &["node/src/clock.rs"],
        reason: "only clock.rs reads time and randomness",
    },
    Ban {
        words: &["tokio::", "use tokio"],
        within: &["node/src/command", "node/src/keyspace", "node/src/config", "recovery/src"],
        except: &[],
        reason: "pure code knows no runtime",
    },
    Ban {
        words: &["tokio::", "use tokio"],
        within: &["protocol/src"],
        except: &["protocol/src/client"],
        reason: "the codecs do no input or output",
    },
    Ban {
        words: &["unsafe "],
        within: SOURCES,
        except: &["node/src/keyspace/entry.rs", "node/src/keyspace/entry"],
        reason: "allowed in one module, where its invariants are written down",
    },
    Ban {
        words: &["todo!", "unimplemented!", "dbg!", "#[ignore"],
        within: &["node", "protocol", "recovery"],
        except: &["node/tests/tidy.rs"],
        reason: "nothing is left undone or switched off",
    },
];

struct Source {
    path: String,
    /// All lines.
    lines: Vec<String>,
    /// How many lines come before the test module.
    code: usize,
}

#[test]
fn files_functions_and_lines_are_short() {
    let mut wrong = Vec::new();
    for source in sources() {
        if source.code > FILE_LINES_MAX {
            wrong.push(format!("{}: {} lines of code", source.path, source.code));
        }
        for (at, line) in source.lines.iter().enumerate() {
            let chars = line.chars().count();
            // Expected output in a test is as wide as it is.
            let is_test = source.path.contains("/tests/");
            if chars > LINE_CHARS_MAX && !is_test && !line.contains("://") {
                wrong.push(format!("{}:{}: {chars} characters", source.path, at + 1));
            }
        }
        for (at, length) in functions(&source.lines[..source.code]) {
            if length > FUNCTION_LINES_MAX {
                wrong.push(format!("{}:{}: a function of {length} lines", source.path, at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "too long:\n{}", wrong.join("\n"));
}

#[test]
fn each_folder_imports_only_what_it_may() {
    let mut wrong = Vec::new();
    for source in sources() {
        let under = |places: &[&str]| places.iter().any(|place| is_under(&source.path, place));
        for ban in BANS.iter().filter(|ban| under(ban.within) && !under(ban.except)) {
            for (at, line) in source.lines[..source.code].iter().enumerate() {
                let code = line.split("//").next().unwrap();
                if let Some(word) = ban.words.iter().find(|word| contains_word(code, word)) {
                    wrong.push(format!("{}:{}: {word}: {}", source.path, at + 1, ban.reason));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "out of place:\n{}", wrong.join("\n"));
}

#[test]
fn no_comment_postpones_work() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.path != "node/tests/tidy.rs") {
        for (at, line) in source.lines.iter().enumerate() {
            let marks = ["FIXME", "TODO", "XXX", "HACK"];
            let comment = line.split_once("//").map_or("", |(_, comment)| comment);
            if marks.iter().any(|mark| contains_word(comment, mark)) {
                wrong.push(format!("{}:{}: {}", source.path, at + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "left undone:\n{}", wrong.join("\n"));
}

#[test]
fn the_rules_see_what_they_look_for() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let code =
        lines("impl A {\n    pub fn a() {\n        b();\n    }\n}\nfn c() {}\nconst fn d() {\n}");
    assert_eq!(functions(&code), [(1, 3), (5, 1), (6, 2)]);
    assert_eq!(code_lines(&lines("a\n#[cfg(test)]\nmod tests {\n}")), 1);
    assert_eq!(code_lines(&lines("a\n#[cfg(test)]\nfn helper() {}\nb")), 4);
    assert!(contains_word("use actix::Actor;", "actix::"));
    assert!(!contains_word("operand::new()", "rand::"));
    assert!(is_under("node/src/server/mod.rs", "node/src/server"));
    assert!(!is_under("node/src/server_x.rs", "node/src/server"));
    assert!(sources().len() > 10, "the sources were not found");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    for folder in ["node", "protocol", "recovery"] {
        collect(&root().join(folder), &mut sources);
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn collect(folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let path = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            // A file that is nothing but tests is measured by its lines and functions alone.
            let tests = path.ends_with("/tests.rs") || path.contains("/tests/");
            let code = if tests { 0 } else { code_lines(&lines) };
            sources.push(Source { path, lines, code });
        }
    }
}

/// Returns how many lines come before the module of unit tests.
fn code_lines(lines: &[String]) -> usize {
    let is_tests = |pair: &[String]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ");
    lines.windows(2).position(is_tests).unwrap_or(lines.len())
}

/// Returns each function's first line and length, as rustfmt lays functions out: the closing
/// brace stands in the column of the signature.
fn functions(lines: &[String]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let prefixes = ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "unsafe "];
        let mut rest = trimmed;
        while let Some(prefix) = prefixes.iter().find(|prefix| rest.starts_with(**prefix)) {
            rest = &rest[prefix.len()..];
        }
        if !rest.starts_with("fn ") {
            continue;
        }
        let is_end = |line: &String| {
            let (margin, rest) = line.split_at_checked(indent).unwrap_or(("", ""));
            let closes = rest.starts_with('}') || rest.starts_with(')') && rest.ends_with(';');
            margin.trim().is_empty() && closes
        };
        let one_line = line.ends_with('}') || line.ends_with(';');
        let length = if one_line { 0 } else { lines[at..].iter().position(is_end).unwrap_or(0) };
        found.push((at, length + 1));
    }
    found
}

fn contains_word(line: &str, word: &str) -> bool {
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(is_part))
}

fn is_under(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
