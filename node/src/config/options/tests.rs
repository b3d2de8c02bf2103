use super::super::settings::NO_PROTECTION;
use super::super::{RawConfig, Source};
use super::*;

/// A value of the option's kind other than its default, in Redis's strict form.
fn another(spec: &OptionSpec) -> String {
    match spec.kind {
        Kind::Flag => if spec.default == "yes" { "no" } else { "yes" }.to_owned(),
        Kind::Integer { max, .. } => max.to_string(),
        Kind::Clamped { high, .. } => high.to_string(),
        Kind::Size { max, .. } => max.to_string(),
        Kind::SizeOrPercent => "7%".to_owned(),
        Kind::Choice { words, .. } => {
            let other = words.iter().find(|word| **word != spec.default);
            (*other.expect("two words at least")).to_owned()
        }
        Kind::Text | Kind::Path | Kind::Secret => "other # \"text\" \\ é".to_owned(),
        Kind::Addresses => "::1 127.0.0.1".to_owned(),
        Kind::Host => "node-1.example".to_owned(),
        Kind::Seeds => "other,[::1]:12051".to_owned(),
        Kind::SavePoints => "60 1 30 100".to_owned(),
        Kind::Percentiles => "12.5 100".to_owned(),
        Kind::OutputLimits => "normal 1 2 3 slave 4 5 6 pubsub 7 8 9".to_owned(),
        Kind::Events => "AKE".to_owned(),
    }
}

/// Whether the option has a value other than its default.
fn can_change(spec: &OptionSpec) -> bool {
    !matches!(spec.kind, Kind::Integer { min, max, .. } if min == max)
}

fn raw_with(spec: &OptionSpec, text: &str) -> RawConfig {
    let mut raw = RawConfig::default();
    let named = find(spec.name).unwrap();
    let value = spec.kind.parse(Dialect::Own, text, raw.value(named.row)).unwrap();
    raw.put(named.row, value, Source::Flag);
    raw
}

/// Whether every other value than the default is refused, as it would protect nothing.
fn is_refused(spec: &OptionSpec) -> bool {
    NO_PROTECTION.iter().any(|(name, _)| *name == spec.name)
}

#[test]
fn names_are_unique_and_spelt_alike() {
    let mut all: Vec<&str> = names().map(|named| named.name).collect();
    for name in &all {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
        assert!(name.bytes().all(is_plain), "{name}");
        assert_eq!(find(&name.to_uppercase()).map(|named| named.name), Some(*name));
    }
    all.sort_unstable();
    let count = all.len();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn every_value_is_read_back_from_what_config_get_answers() {
    for named in names() {
        let (spec, other) = (named.spec, another(named.spec));
        for text in [spec.default, &other] {
            let raw = raw_with(spec, text);
            let shown = raw.text(named);
            let again = spec.kind.parse(named.dialect, &shown, raw.value(named.row));
            assert_eq!(again.as_ref(), Ok(raw.value(named.row)), "{} {text}", named.name);
        }
        if can_change(spec) {
            assert_ne!(raw_with(spec, &other), raw_with(spec, spec.default), "{}", named.name);
        }
    }
}

#[test]
fn exactly_the_options_with_an_effect_change_the_config() {
    // Beyond loopback a password is needed: give one, so that any other option may change alone.
    let password = find("requirepass").unwrap();
    let config = |spec: &OptionSpec, text: &str| {
        let mut raw = raw_with(spec, text);
        if spec.name != "requirepass" {
            let secret = Value::Secret(super::super::Secret::new("x"));
            raw.put(password.row, secret, Source::Flag);
        }
        Config::new(&raw).unwrap_or_else(|problems| panic!("{}: {problems:?}", spec.name))
    };
    for spec in rows().filter(|spec| can_change(spec) && !is_refused(spec)) {
        let changes = config(spec, &another(spec)) != config(spec, spec.default);
        assert_eq!(changes, spec.apply.is_some(), "{}", spec.name);
    }
}

#[test]
fn every_field_of_the_config_has_its_row() {
    let shown = format!("{:#?}", Config::default());
    let is_field = |line: &&str| line.starts_with("    ") && !line.starts_with("     ");
    let fields = shown.lines().filter(is_field).filter(|line| line.contains(": ")).count();
    assert_eq!(fields, rows().filter(|spec| spec.apply.is_some()).count(), "{shown}");
}

#[test]
fn bounds_are_accepted_and_stored_and_beyond_them_refused() {
    for spec in rows() {
        let Kind::Integer { min, max, .. } = spec.kind else { continue };
        let bounds = if is_refused(spec) { [min, min] } else { [min, max] };
        for bound in bounds {
            Config::new(&raw_with(spec, &bound.to_string()))
                .unwrap_or_else(|problems| panic!("{}: {problems:?}", spec.name));
        }
        for beyond in [min.checked_sub(1), max.checked_add(1)].into_iter().flatten() {
            let nothing = Value::Integer(0);
            let error = spec.kind.parse(Dialect::Own, &beyond.to_string(), &nothing).unwrap_err();
            let expected = format!("argument must be between {min} and {max} inclusive");
            assert_eq!(error.to_string(), expected, "{}", spec.name);
        }
    }
}

#[test]
fn choices_under_names_of_redis_use_its_words() {
    let find = |name| find(name).unwrap();
    let raw = raw_with(find("log-level").spec, "debug");
    assert_eq!(raw.text(find("log-level")), "debug");
    assert_eq!(raw.text(find("loglevel")), "verbose");
    let raw = raw_with(find("log-level").spec, "error");
    assert_eq!(raw.text(find("loglevel")), "warning");
}

#[test]
fn docs_are_sentences() {
    for spec in rows() {
        assert!(!spec.doc.contains("  ") && !spec.doc.contains('\n'), "{}", spec.name);
        assert!(spec.doc.chars().next().is_some_and(char::is_uppercase), "{}", spec.name);
        if spec.apply.is_some() {
            assert!(spec.doc.len() >= 50 && spec.doc.ends_with(['.', ')']), "{}", spec.name);
        }
    }
}

#[test]
fn a_mistyped_name_finds_the_one_that_was_meant() {
    for (typed, meant) in [
        ("prot", Some("port")),
        ("data_dir", Some("data-dir")),
        ("MaxMemry", Some("maxmemory")),
        ("append-only", Some("appendonly")),
        ("maxmemory-polcy", Some("maxmemory-policy")),
        ("zzzzzzzz", None),
    ] {
        assert_eq!(suggest(typed), meant, "{typed}");
    }
}
