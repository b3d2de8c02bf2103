//! Properties of all rows.

use super::*;

fn rows() -> impl Iterator<Item = &'static CommandSpec> {
    let groups = GROUPS.iter().copied().flatten();
    groups.flat_map(|spec| std::iter::once(spec).chain(spec.subcommands))
}

#[test]
fn names_are_lowercase_and_unique() {
    let mut names: Vec<&str> = TABLE.full_names.iter().map(String::as_str).collect();
    assert!(names.iter().all(|name| *name == name.to_lowercase()));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TABLE.len());
}

#[test]
fn every_row_is_found_by_its_name_in_any_case() {
    for spec in GROUPS.iter().copied().flatten() {
        let found = TABLE.find(spec.name.to_uppercase().as_bytes()).unwrap();
        assert_eq!(found.spec.name, spec.name);
        assert_eq!(TABLE.full_name(found.index), spec.name);
        for sub in spec.subcommands {
            let sub_found = TABLE.find_subcommand(found, sub.name.as_bytes()).unwrap();
            assert_eq!(TABLE.full_name(sub_found.index), format!("{}|{}", spec.name, sub.name));
        }
    }
    assert!(TABLE.find(b"nosuchcommand").is_none());
    assert!(TABLE.find(&[b'x'; 100]).is_none());
    for name in [&b"GET\0"[..], b"GET\0\0", b"\0GET", b"G\0ET", b"", b"\0"] {
        assert!(TABLE.find(name).is_none(), "{name:?}");
    }
}

#[test]
fn a_row_that_runs_on_keys_has_keys_within_its_arity() {
    for spec in rows() {
        match (&spec.run, spec.keys) {
            (Run::Keyspace(_), Keys::None) => panic!("{} has no keys to route by", spec.name),
            (_, Keys::Range { first, last, .. }) => {
                let least = spec.arity.unsigned_abs() as i8;
                assert!(first >= 1 && first < least && last < least, "{}", spec.name);
            }
            (_, Keys::None) => {}
        }
    }
}

#[test]
fn no_row_both_reads_and_writes() {
    for spec in rows() {
        assert!(!spec.flags.has(Flags::WRITE | Flags::READONLY), "{}", spec.name);
        if let Run::Keyspace(_) = spec.run {
            assert!(
                spec.flags.has(Flags::WRITE) || spec.flags.has(Flags::READONLY),
                "{}",
                spec.name
            );
        }
    }
}

#[test]
fn every_row_is_documented() {
    for spec in rows() {
        assert!(!spec.summary.is_empty() && !spec.since.is_empty(), "{}", spec.name);
        assert!(!spec.complexity.is_empty(), "{}", spec.name);
    }
}
