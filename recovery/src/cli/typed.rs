//! Typed values, as the typed client stores them, shown as text and as JSON.
//!
//! JSON: none is `null`, booleans, strings and lists are themselves, integers that fit 64 bits and
//! finite floats are numbers; everything else is an object with one of the members `integer`,
//! `float` (both as text), `base64`, `tuple`, `set`, `map` (pairs) or `object`.

use std::fmt::Write as _;

use distcache_protocol::value::{Value, codec};
use serde_json::{Map, Value as Json, json};

use super::format::{base64, quoted};

/// Longer values are not read as typed ones: their elements could take fifty times as much memory.
const TYPED_BYTES_MAX: usize = 4 << 20;

/// Returns the typed value that bytes encode, if they do.
pub(super) fn read(bytes: &[u8]) -> Option<Value> {
    if !bytes.starts_with(&codec::MAGIC) || bytes.len() > TYPED_BYTES_MAX {
        return None;
    }
    codec::decode_value(bytes.to_vec()).ok()
}

/// Returns a value as text, much as Rust would write it.
pub(super) fn text(value: &Value) -> String {
    let mut text = String::new();
    push(&mut text, value);
    text
}

fn push(text: &mut String, value: &Value) {
    match value {
        Value::None => text.push_str("none"),
        Value::Bool(truth) => text.push_str(if *truth { "true" } else { "false" }),
        Value::Integer(number) => push_display(text, number),
        Value::Unsigned(number) => push_display(text, number),
        // The debug form of a float always has a point or an exponent.
        Value::Float(number) => push_display(text, &format_args!("{number:?}")),
        Value::String(string) => text.push_str(&quoted(string.as_bytes())),
        Value::Bytes(bytes) => {
            text.push('b');
            text.push_str(&quoted(bytes));
        }
        Value::List(items) => push_all(text, ["[", "]"], items, push),
        Value::Tuple(items) => push_all(text, ["(", ")"], items, push),
        Value::Set(items) => push_all(text, ["#{", "}"], items, push),
        Value::Map(pairs) => push_all(text, ["{", "}"], pairs, |text, (key, value)| {
            push_pair(text, key, value);
        }),
        Value::Object(object) => {
            push_name(text, &object.name);
            if let Some(variant) = &object.variant {
                text.push_str("::");
                push_name(text, variant);
            }
            match &object.content {
                Value::Tuple(items) if items.is_empty() => {}
                Value::Map(fields) => {
                    push_all(text, [" {", "}"], fields, |text, (name, value)| match name {
                        Value::String(name) => {
                            push_name(text, name);
                            text.push_str(": ");
                            push(text, value);
                        }
                        name => push_pair(text, name, value),
                    })
                }
                content @ Value::Tuple(_) => push(text, content),
                content => push_all(text, ["(", ")"], std::slice::from_ref(content), push),
            }
        }
    }
}

/// Names come from whoever wrote the value: what is none could pretend to be other lines of the
/// output, or command the terminal.
fn push_name(text: &mut String, name: &str) {
    let is_name = |char: char| char.is_alphanumeric() || char == '_' || char == ':';
    if !name.is_empty() && name.chars().all(is_name) {
        text.push_str(name);
    } else {
        text.push_str(&quoted(name.as_bytes()));
    }
}

fn push_pair(text: &mut String, key: &Value, value: &Value) {
    push(text, key);
    text.push_str(": ");
    push(text, value);
}

fn push_all<T>(
    text: &mut String,
    [open, close]: [&str; 2],
    items: &[T],
    mut push_one: impl FnMut(&mut String, &T),
) {
    text.push_str(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        push_one(text, item);
    }
    text.push_str(close);
}

fn push_display(text: &mut String, shown: &impl std::fmt::Display) {
    // Writing to a string does not fail.
    let _ = write!(text, "{shown}");
}

/// Returns a value as JSON.
pub(super) fn json(value: &Value) -> Json {
    let all = |items: &[Value]| items.iter().map(json).collect::<Vec<_>>();
    match value {
        Value::None => Json::Null,
        Value::Bool(truth) => json!(truth),
        Value::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
            (Ok(small), _) => json!(small),
            (_, Ok(small)) => json!(small),
            _ => json!({ "integer": number.to_string() }),
        },
        Value::Unsigned(number) => json!({ "integer": number.to_string() }),
        Value::Float(number) if number.is_finite() => json!(number),
        Value::Float(number) => json!({ "float": format!("{number:?}") }),
        Value::String(text) => json!(text),
        Value::Bytes(bytes) => json!({ "base64": base64(bytes) }),
        Value::List(items) => json!(all(items)),
        Value::Tuple(items) => json!({ "tuple": all(items) }),
        Value::Set(items) => json!({ "set": all(items) }),
        Value::Map(pairs) => {
            let pairs: Vec<_> =
                pairs.iter().map(|(key, value)| json!([json(key), json(value)])).collect();
            json!({ "map": pairs })
        }
        Value::Object(object) => {
            let mut members = Map::new();
            members.insert("object".to_owned(), json!(object.name));
            if let Some(variant) = &object.variant {
                members.insert("variant".to_owned(), json!(variant));
            }
            members.insert("content".to_owned(), json(&object.content));
            Json::Object(members)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distcache_protocol::value::Object;

    fn sample() -> Value {
        let field = |name: &str, value| (Value::from(name), value);
        Value::Object(Box::new(Object {
            name: "User".to_owned(),
            variant: None,
            content: Value::Map(vec![
                field("name", "Zoë".into()),
                field("score", Value::Float(1.0)),
                field("big", Value::Integer(i128::MAX)),
                field("picture", Value::Bytes(vec![0xff, 0])),
                field("tags", Value::Set(vec!["a".into(), 2_i64.into()])),
                field("pair", Value::Tuple(vec![Value::None, true.into()])),
            ]),
        }))
    }

    #[test]
    fn a_typed_value_reads_like_source_text() {
        let bytes = codec::encode_value(&sample()).unwrap();
        let expected = "User {name: \"Zoë\", score: 1.0, \
            big: 170141183460469231731687303715884105727, picture: b\"\\xff\\x00\", \
            tags: #{\"a\", 2}, pair: (none, true)}";
        assert_eq!(text(&read(&bytes).unwrap()), expected);
        let unit = Object {
            name: "Color".to_owned(),
            variant: Some("Red".to_owned()),
            content: Value::Tuple(vec![]),
        };
        assert_eq!(text(&Value::Object(Box::new(unit))), "Color::Red");
    }

    #[test]
    fn names_that_are_none_are_quoted() {
        let trick = "U\n        99  put \"fake\" = 1\x1b[31mRED";
        let shown = "\"U\\n        99  put \\\"fake\\\" = 1\\x1b[31mRED\"";
        let object = |name: &str, variant: Option<&str>, content| {
            let (name, variant) = (name.to_owned(), variant.map(str::to_owned));
            text(&Value::Object(Box::new(Object { name, variant, content })))
        };
        let fields = Value::Map(vec![(trick.into(), 1_i64.into()), ("ok".into(), 2_i64.into())]);
        let found = object(trick, Some(trick), fields);
        assert_eq!(found, format!("{shown}::{shown} {{{shown}: 1, ok: 2}}"));
        assert!(!found.contains(char::is_control));
        assert_eq!(object("app::User", None, Value::Tuple(vec![])), "app::User");
        assert_eq!(object("", None, Value::Tuple(vec![])), "\"\"");
        assert_eq!(
            object("\u{202e}", Some("\u{9b}"), Value::None),
            r#""\xe2\x80\xae"::"\xc2\x9b"(none)"#
        );
    }

    #[test]
    fn json_says_what_json_has_no_form_for() {
        let map = concat!(
            r#"[["name","Zoë"],["score",1.0],"#,
            r#"["big",{"integer":"170141183460469231731687303715884105727"}],"#,
            r#"["picture",{"base64":"/wA="}],["tags",{"set":["a",2]}],"#,
            r#"["pair",{"tuple":[null,true]}]]"#
        );
        let expected = format!(r#"{{"object":"User","content":{{"map":{map}}}}}"#);
        assert_eq!(json(&sample()).to_string(), expected);
        assert_eq!(json(&Value::Float(f64::NAN)).to_string(), r#"{"float":"NaN"}"#);
        assert_eq!(json(&Value::Integer(u64::MAX.into())).to_string(), "18446744073709551615");
    }

    #[test]
    fn plain_and_broken_values_are_not_typed() {
        assert_eq!(read(b"text"), None);
        assert_eq!(read(&[codec::MAGIC[0], codec::MAGIC[1], 1, 0xf0]), None);
    }
}
