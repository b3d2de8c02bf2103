//! A strict reader of Prometheus' text format 0.0.4: whatever the format does not allow, or its
//! rules of good form do not, is refused with the line.

use std::collections::{BTreeMap, BTreeSet};

/// A sample's name and labels, as they are written.
pub(crate) type Series = String;

/// One scrape.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    /// Values by series.
    pub(crate) values: BTreeMap<Series, f64>,
    /// Types by name.
    pub(crate) types: BTreeMap<String, String>,
}

impl Exposition {
    /// Reads a scrape.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut read = Exposition::default();
        let mut helped = BTreeSet::new();
        let mut family = String::new();
        if !text.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        for line in text.lines() {
            let wrong = |why: &str| Err(format!("{why}: {line:?}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or(format!("no help: {line:?}"))?;
                if !is_name(name) || help.is_empty() || !is_escaped(help, "\\n") {
                    return wrong("not a HELP line");
                }
                if !helped.insert(name.to_owned()) {
                    return wrong("a second HELP");
                }
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or(format!("no type: {line:?}"))?;
                if !helped.contains(name) {
                    return wrong("no HELP before");
                }
                if !["counter", "gauge", "histogram"].contains(&kind) {
                    return wrong("not a type that is used here");
                }
                if (kind == "counter") != name.ends_with("_total") {
                    return wrong("counters, and no others, end in _total");
                }
                if read.types.insert(name.to_owned(), kind.to_owned()).is_some() {
                    return wrong("a second TYPE");
                }
                family = name.to_owned();
            } else {
                let (series, value) = sample(line).ok_or(format!("not a sample: {line:?}"))?;
                let name = series.split('{').next().unwrap_or_default();
                let kind = read.types.get(&family).map(String::as_str);
                let of_family = matches!(
                    (kind, name.strip_prefix(family.as_str())),
                    (Some("histogram"), Some("_bucket" | "_sum" | "_count"))
                        | (Some("counter" | "gauge"), Some(""))
                );
                if !of_family {
                    return wrong("not below its TYPE");
                }
                if kind != Some("gauge") && (value < 0.0 || !value.is_finite()) {
                    return wrong("no value of a counter");
                }
                if read.values.insert(series.to_owned(), value).is_some() {
                    return wrong("a second sample of the series");
                }
            }
        }
        read.check_histograms()?;
        let has_sample = |name: &String| {
            let names = read.values.keys().filter_map(|series| series.split('{').next());
            let mut rests = names.filter_map(|sample| sample.strip_prefix(name.as_str()));
            rests.any(|rest| ["", "_count"].contains(&rest))
        };
        let empty = read.types.keys().find(|name| !has_sample(name));
        empty.map_or(Ok(()), |name| Err(format!("no sample of {name}")))?;
        Ok(read)
    }

    /// Checks that the buckets of a histogram, which a sample's `le` is the last label of, hold
    /// more and more, and at last all.
    fn check_histograms(&self) -> Result<(), String> {
        let mut buckets: BTreeMap<Series, Vec<(f64, f64)>> = BTreeMap::new();
        for (series, &count) in &self.values {
            let Some((of, rest)) = series.split_once(",le=\"") else { continue };
            let bound = rest.trim_end_matches("\"}").replace("+Inf", "inf");
            let bound = bound.parse().map_err(|_| format!("no bound: {series}"))?;
            buckets.entry(of.to_owned()).or_default().push((bound, count));
        }
        for (of, mut buckets) in buckets {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            let total = of.replace("_bucket{", "_count{");
            let total = self.values.get(&format!("{total}}}"));
            let last = buckets.last().copied();
            if !buckets.is_sorted_by_key(|bucket| bucket.1)
                || last != total.map(|&total| (f64::INFINITY, total))
            {
                return Err(format!("not the buckets of a histogram: {of}"));
            }
        }
        Ok(())
    }

    /// The value of a series.
    pub(crate) fn value(&self, series: &str) -> f64 {
        let value = self.values.get(series).copied();
        value.unwrap_or_else(|| panic!("no {series} in {:#?}", self.values))
    }
}

/// Splits a sample into its series and its value.
fn sample(line: &str) -> Option<(&str, f64)> {
    let name_len = line.find(|char: char| !is_name_char(char)).unwrap_or(line.len());
    let (name, mut rest) = line.split_at(name_len);
    if !is_name(name) {
        return None;
    }
    if let Some(labels) = rest.strip_prefix('{') {
        rest = labels;
        let mut known = BTreeSet::new();
        loop {
            let (label, behind) = rest.split_once("=\"")?;
            let is_label = !label.is_empty()
                && label.chars().all(|char| is_name_char(char) && char != ':')
                && !label.starts_with(|char: char| char.is_ascii_digit());
            if !is_label || !known.insert(label) {
                return None;
            }
            let end = end_of_value(behind)?;
            if !is_escaped(&behind[..end], "\\n\"") {
                return None;
            }
            rest = &behind[end + 1..];
            match rest.as_bytes().first()? {
                b',' => rest = &rest[1..],
                b'}' => break,
                _ => return None,
            }
        }
        rest = &rest[1..];
    }
    let series = &line[..line.len() - rest.len()];
    let value = rest.strip_prefix(' ')?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        // Words that Rust reads and Go does not.
        _ if value.contains(|char: char| char.is_ascii_alphabetic() && char != 'e') => return None,
        _ => value.parse().ok()?,
    };
    Some((series, value))
}

/// Where a label's value ends: at the first quote that no backslash is before.
fn end_of_value(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, char) in text.char_indices() {
        match char {
            '"' if !escaped => return Some(at),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

/// Whether each backslash is before one of these, and no control character stands bare.
fn is_escaped(text: &str, after: &str) -> bool {
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        let is_right = match char {
            '\\' => chars.next().is_some_and(|next| after.contains(next)),
            char => !char.is_control(),
        };
        if !is_right {
            return false;
        }
    }
    true
}

fn is_name_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_' || char == ':'
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(is_name_char)
        && !name.starts_with(|char: char| char.is_ascii_digit())
}
