//! The configuration file: flat TOML, `name = value` with the names of the table.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::options::{self, Change, OptionSpec};
use super::raw::{RawConfig, Source};
use super::value::{Dialect, Kind, SizeLimit, Value, write_size};

const WIDTH: usize = 98;

/// One `key = value` of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    /// The value as the table's parser takes it, or what is wrong with its type.
    pub(super) text: Result<String, String>,
    /// Counted from 1.
    pub(super) line: usize,
    /// Where the value stands in the file, in bytes.
    span: Range<usize>,
}

/// Reads the entries of a file in their order, and the lines that are no TOML.
pub(super) fn entries(content: &str) -> (Vec<Entry>, Vec<(usize, String)>) {
    let line = |offset: usize| content[..offset.min(content.len())].matches('\n').count() + 1;
    let (table, errors) = DeTable::parse_recoverable(content);
    let mut entries: Vec<Entry> = table
        .into_inner()
        .into_iter()
        .map(|(key, value)| Entry {
            line: line(key.span().start),
            key: key.into_inner().into_owned(),
            text: plain_text(value.get_ref()),
            span: value.span(),
        })
        .collect();
    entries.sort_by_key(|entry| entry.span.start);
    let mut errors: Vec<(usize, String)> = errors
        .iter()
        .map(|error| (line(error.span().unwrap_or_default().start), error.message().to_owned()))
        .collect();
    // One slip often makes several errors; the first of a line says enough.
    errors.dedup_by_key(|(line, _)| *line);
    (entries, errors)
}

/// Prints the options with an effect, and those without one that were changed, as a file whose
/// reading gives the same configuration. Secrets are left out.
pub(super) fn print(raw: &RawConfig) -> String {
    let mut text = comment(
        "Effective configuration of distcache-node. Passwords are not shown: a file that shall \
         hold one needs it added by hand.",
    );
    for (row, spec) in options::rows().enumerate() {
        if spec.apply.is_none() && raw.source(row) == Source::Default {
            continue;
        }
        text.push('\n');
        text.push_str(&comment(&documentation(spec)));
        if spec.is_secret() {
            let given = raw.source(row) != Source::Default;
            let state = if given { "set, not shown" } else { "not set" };
            text.push_str(&format!("# {} = \"\" # {state}\n", spec.name));
        } else {
            text.push_str(&assignment(spec, raw.value(row)));
        }
    }
    text
}

/// Returns a row's doc with what is allowed, its default, and whether it changes while running.
pub(super) fn documentation(spec: &OptionSpec) -> String {
    let end = if spec.doc.ends_with(['.', ')']) { "" } else { "." };
    let effect = if spec.apply.is_some() { "" } else { " It has no effect." };
    let default = if spec.default.is_empty() { "empty" } else { spec.default };
    let change = match spec.change {
        Change::Live => "CONFIG SET changes it",
        Change::Fixed | Change::Steady | Change::Protected => "Read at start only",
    };
    let allowed = spec.kind.allowed();
    format!("{}{end}{effect}\nAllowed: {allowed}. Default: {default}. {change}.", spec.doc)
}

/// Writes into the file at `path` all that `CONFIG SET` changed.
///
/// Comments, order and whatever else stands there stay. The new file replaces the old one in one
/// step, so a crash leaves either.
///
/// # Errors
/// The reason as text, when the file is no TOML any more or cannot be written; it is unchanged.
pub(super) fn rewrite(path: &Path, raw: &RawConfig) -> io::Result<()> {
    let content = fs::read_to_string(path)?;
    replace(path, &updated(&content, raw).map_err(io::Error::other)?)
}

/// Returns `content` with the values that `CONFIG SET` changed.
fn updated(content: &str, raw: &RawConfig) -> Result<String, String> {
    let (entries, errors) = entries(content);
    if let Some((line, error)) = errors.first() {
        return Err(format!("line {line}: {error}"));
    }
    let mut replacements: Vec<(Range<usize>, String)> = Vec::new();
    let mut additions = String::new();
    for (row, spec) in options::rows().enumerate() {
        if raw.source(row) != Source::ConfigSet {
            continue;
        }
        let value = raw.value(row);
        let mut is_there = false;
        for entry in &entries {
            if let Some(named) = options::find(&entry.key).filter(|named| named.row == row) {
                let text = toml_value(spec.kind, named.dialect, value);
                replacements.push((entry.span.clone(), text));
                is_there = true;
            }
        }
        if !is_there {
            additions.push_str(&assignment(spec, value));
        }
    }
    // From the end, so that the spans before stay where they are.
    replacements.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut content = content.to_owned();
    for (span, value) in replacements {
        content.replace_range(span, &value);
    }
    if !additions.is_empty() && !content.is_empty() && !content.ends_with('\n') {
        content.push('\n');
    }
    content.push_str(&additions);
    Ok(content)
}

fn replace(path: &Path, content: &str) -> io::Result<()> {
    // A link stays a link: what it points to is replaced.
    let path = fs::canonicalize(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".rewrite");
    let temporary: PathBuf = path.with_file_name(name);
    let permissions = fs::metadata(&path)?.permissions();
    let written =
        write_synced(&temporary, content, permissions).and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        // What remains is of no use; that it cannot be removed changes nothing for the caller.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory)?.sync_all()
}

fn write_synced(path: &Path, content: &str, permissions: fs::Permissions) -> io::Result<()> {
    let mut file = File::create(path)?;
    // Before the content: it may hold a password.
    file.set_permissions(permissions)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

fn plain_text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Boolean(flag) => Ok(if *flag { "yes" } else { "no" }.to_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|error| format!("'{}': {error}", number.as_str())),
        DeValue::Array(items) => {
            let texts: Result<Vec<_>, _> = items.iter().map(|i| plain_text(i.get_ref())).collect();
            texts.map(|texts| texts.join(" "))
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
            Err(format!("a {} is not allowed here", value.type_str()))
        }
    }
}

fn assignment(spec: &OptionSpec, value: &Value) -> String {
    format!("{} = {}\n", spec.name, toml_value(spec.kind, Dialect::Own, value))
}

fn toml_value(kind: Kind, dialect: Dialect, value: &Value) -> String {
    match value {
        Value::Flag(flag) => flag.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Size(bytes) | Value::SizeOrPercent(SizeLimit::Bytes(bytes)) => {
            let text = write_size(*bytes);
            if text.parse::<i64>().is_ok() { text } else { quoted(&text) }
        }
        Value::Addresses(list) if list.len() > 1 => {
            let texts = value.to_string();
            let texts: Vec<String> = texts.split(' ').map(quoted).collect();
            format!("[{}]", texts.join(", "))
        }
        value => quoted(&kind.write_for_start(dialect, value)),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            letter if letter.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(letter)));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Breaks `text` into comment lines.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    for paragraph in text.lines() {
        let mut width = WIDTH;
        for word in paragraph.split_whitespace() {
            if width + 1 + word.len() > WIDTH {
                let separator = if lines.is_empty() || lines.ends_with('\n') { "#" } else { "\n#" };
                lines.push_str(separator);
                width = 1;
            }
            lines.push(' ');
            lines.push_str(word);
            width += 1 + word.len();
        }
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_survives_quoting() {
        for text in ["", "plain", "a\"b\\c", "tab\tnew\nline\u{7f}", "é€𝄞", "# no comment"] {
            let (entries, errors) = entries(&format!("save = {}\n", quoted(text)));
            assert_eq!(errors, []);
            assert_eq!(entries[0].text.as_deref(), Ok(text));
        }
    }

    #[test]
    fn a_rewrite_touches_only_what_was_set() {
        let mut raw = RawConfig::default();
        for (name, value) in [
            ("hz", Value::Integer(20)),
            ("requirepass", Value::Secret(super::super::Secret::new("se\"cret"))),
            ("fsync", Value::Choice(1)),
            ("log-level", Value::Choice(1)),
        ] {
            raw.put(options::find(name).unwrap().row, value, Source::ConfigSet);
        }
        let before = "# mine\nport = 7000 # first\nappendfsync = \"no\" # why\n\
                      loglevel = 'debug'\nhz = 0x1_0";
        let after = "# mine\nport = 7000 # first\nappendfsync = \"always\" # why\n\
                     loglevel = \"verbose\"\n\
                     hz = 20\n\
                     requirepass = \"se\\\"cret\"\n";
        assert_eq!(updated(before, &raw).as_deref(), Ok(after));
        assert_eq!(updated(after, &raw).as_deref(), Ok(after), "a second time changes nothing");
        assert!(updated("port = = 1", &raw).is_err());
    }

    #[test]
    fn every_value_of_toml_is_read_or_refused() {
        let content = "a = 1_000\nb = true\nc = ['x', \"y\"]\nd = 1.5\n[e]\nf = 1\n";
        let (entries, errors) = entries(content);
        assert_eq!(errors, []);
        let texts: Vec<_> = entries.iter().map(|e| e.text.as_deref().ok()).collect();
        assert_eq!(texts, [Some("1000"), Some("yes"), Some("x y"), None, None]);
        assert_eq!(entries.iter().map(|e| e.line).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }
}
