use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use serde_json::json;

use super::codec::{MAGIC, VERSION, decode_value, encode_value};
use super::*;
use crate::limits::{VALUE_DEPTH_MAX, VALUE_NODES_MAX};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle(f64),
    Line((i32, i32), (i32, i32)),
    Named { title: String, corners: Vec<(i32, i32)> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Metres(f64);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    height: Metres,
    nickname: Option<String>,
    nested: Option<Option<bool>>,
    #[serde(with = "as_set")]
    tags: BTreeSet<String>,
    avatar: Vec<u8>,
    scores: BTreeMap<u32, f32>,
    shapes: Vec<Shape>,
    anything: Value,
    letter: char,
    large: (i128, u128),
    unit: (),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Marker;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Event {
    Upload { name: String, data: Vec<u8> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Pixel(u8, u8),
    Data(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Account {
    id: u64,
    #[serde(flatten)]
    profile: Profile,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Profile {
    avatar: Vec<u8>,
    color: (u8, u8, u8),
    name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Label {
    Tags(Vec<String>),
    Name(Option<String>),
    Unit(()),
    Fields {},
    Bare,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Labelled {
    id: u64,
    #[serde(flatten)]
    inner: Inner,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Inner {
    label: Label,
    nested: Option<Option<bool>>,
}

fn through_bytes<T: Serialize + serde::de::DeserializeOwned>(source: &T) -> Result<T, ValueError> {
    decode(encode(source)?)
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<i128>().prop_map(Value::Integer),
        any::<u128>().prop_map(Value::from_u128),
        prop::num::f64::NORMAL.prop_map(Value::Float),
        ".{0,8}".prop_map(Value::String),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        let several = || prop::collection::vec(inner.clone(), 0..6);
        let object = ("[a-z]{0,6}", prop::option::of("[A-Z]{1,3}"), inner.clone());
        prop_oneof![
            several().prop_map(Value::List),
            several().prop_map(Value::Tuple),
            several().prop_map(Value::Set),
            prop::collection::vec((inner.clone(), inner.clone()), 0..4).prop_map(Value::Map),
            object.prop_map(|(name, variant, content)| {
                Value::Object(Box::new(Object { name, variant, content }))
            }),
        ]
    })
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let point = || any::<(i32, i32)>();
    prop_oneof![
        Just(Shape::Empty),
        prop::num::f64::NORMAL.prop_map(Shape::Circle),
        (point(), point()).prop_map(|(from, to)| Shape::Line(from, to)),
        (".{0,5}", prop::collection::vec(point(), 0..4))
            .prop_map(|(title, corners)| Shape::Named { title, corners }),
    ]
}

fn any_user() -> impl Strategy<Value = User> {
    let text = || ".{0,6}";
    let first = (any::<u64>(), text(), prop::num::f64::NORMAL, prop::option::of(text()));
    let second = (
        any::<Option<Option<bool>>>(),
        prop::collection::btree_set(text(), 0..4),
        prop::collection::vec(any::<u8>(), 0..6),
        prop::collection::btree_map(any::<u32>(), prop::num::f32::NORMAL, 0..4),
    );
    let third = (
        prop::collection::vec(any_shape(), 0..3),
        any_value(),
        any::<char>(),
        any::<(i128, u128)>(),
    );
    (first, second, third).prop_map(|(first, second, third)| User {
        id: first.0,
        name: first.1,
        height: Metres(first.2),
        nickname: first.3,
        nested: second.0,
        tags: second.1,
        avatar: second.2,
        scores: second.3,
        shapes: third.0,
        anything: third.1,
        letter: third.2,
        large: third.3,
        unit: (),
    })
}

/// Whether the type of the value is not stored with it.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::String(_) | Value::Integer(_) | Value::Unsigned(_) => true,
        Value::Bytes(bytes) => !bytes.starts_with(&MAGIC),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_value_passes_through_serde_unchanged(value in any_value()) {
        prop_assert_eq!(to_value(&value), Ok(value.clone()));
        prop_assert_eq!(from_value(value.clone()), Ok(value));
    }

    #[test]
    fn a_value_passes_through_bytes_unchanged(value in any_value()) {
        let bytes = encode_value(&value).unwrap();
        prop_assert_eq!(bytes.starts_with(&MAGIC), !is_plain(&value));
        // In a list, every type is stored.
        let list = Value::List(vec![value]);
        prop_assert_eq!(decode_value(encode_value(&list).unwrap()), Ok(list));
    }

    #[test]
    fn a_struct_passes_through_bytes_unchanged(user in any_user()) {
        prop_assert_eq!(decode(encode(&user).unwrap()), Ok(user));
    }

    #[test]
    fn text_is_stored_as_it_is(text in ".*") {
        prop_assert_eq!(encode(&text).unwrap(), text.as_bytes());
        prop_assert_eq!(decode(text.clone().into_bytes()), Ok(text));
    }

    #[test]
    fn bytes_come_back_even_if_they_look_encoded(
        looks_encoded in any::<bool>(),
        tail in prop::collection::vec(any::<u8>(), 1..32),
    ) {
        let bytes = if looks_encoded { [&MAGIC[..], &tail].concat() } else { tail };
        let stored = encode(&bytes).unwrap();
        prop_assert_eq!(stored == bytes, !bytes.starts_with(&MAGIC));
        prop_assert_eq!(decode(stored), Ok(bytes));
    }

    #[test]
    fn integers_are_stored_as_decimal_text(number in any::<i128>(), large in any::<u128>()) {
        prop_assert_eq!(encode(&number).unwrap(), number.to_string().into_bytes());
        prop_assert_eq!(decode(number.to_string().into_bytes()), Ok(number));
        prop_assert_eq!(decode(encode(&large).unwrap()), Ok(large));
    }

    #[test]
    fn equal_maps_are_equal_keys(map in prop::collection::hash_map(".{0,4}", any::<u16>(), 0..8)) {
        let again: HashMap<_, _> = map.clone().into_iter().collect();
        prop_assert_eq!(encode_key(&map), encode_key(&again));
    }

    #[test]
    fn arbitrary_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..64)) {
        let encoded = [&MAGIC[..], &[VERSION], &tail].concat();
        if let Ok(value) = decode_value(encoded.clone()) {
            // Whatever is accepted can be stored again, though not always in the same bytes: a
            // number may have been written longer than needed.
            let list = Value::List(vec![value]);
            let again = decode_value(encode_value(&list).unwrap());
            let same: Result<_, ValueError> = Ok(list);
            prop_assert_eq!(format!("{again:?}"), format!("{same:?}"));
        }
        let _ = decode::<User>(encoded);
        let _ = decode::<Shape>(tail);
    }

    #[test]
    fn a_cut_encoding_is_damage(value in any_value(), cut in any::<prop::sample::Index>()) {
        let whole = encode_value(&Value::List(vec![value])).unwrap();
        let cut = 2 + cut.index(whole.len() - 2);
        let is_damaged = matches!(decode_value(whole[..cut].to_vec()), Err(ValueError::Damaged(_)));
        prop_assert!(is_damaged);
        let longer = [&whole[..], b"x"].concat();
        prop_assert_eq!(decode_value(longer), Err(ValueError::TrailingBytes(1)));
    }
}

/// Version 1 as it was released: these bytes must be read for ever, by every language.
#[test]
fn the_bytes_of_version_1_are_these() {
    let named = |name: &str, variant: Option<&str>, content| {
        let variant = variant.map(str::to_owned);
        Value::Object(Box::new(Object { name: name.into(), variant, content }))
    };
    let cases: Vec<(Value, &[u8])> = vec![
        ("football".into(), b"football"),
        (42.into(), b"42"),
        (Value::Integer(-7), b"-7"),
        (Value::from_u128(u128::MAX), b"340282366920938463463374607431768211455"),
        (Value::Bytes(vec![0xFF, 0x00]), b"\xFF\x00"),
        (Value::Bytes(vec![0xDC, 0x44, 0x01]), b"\xDC\x44\x01\x06\x03\xDC\x44\x01"),
        (Value::None, b"\xDC\x44\x01\x00"),
        (true.into(), b"\xDC\x44\x01\x01\x01"),
        (1.5.into(), b"\xDC\x44\x01\x04\0\0\0\0\0\0\xF8\x3F"),
        (
            Value::List(vec![0.into(), Value::Integer(-1), 125.into(), 126.into(), 40_000.into()]),
            b"\xDC\x44\x01\x07\x05\x02\x00\x02\x01\x02\xFA\x02\xFB\xFC\x00\x02\xFC\x80\x38\x01\x00",
        ),
        (
            Value::List(vec![i64::MIN.into(), Value::Unsigned(1 << 127)]),
            b"\xDC\x44\x01\x07\x02\x02\xFD\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\
              \x03\xFE\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x80",
        ),
        (Value::Tuple(vec!["user".into(), 42.into()]), b"\xDC\x44\x01\x08\x02\x05\x04user\x02\x54"),
        (Value::Set(vec!["red".into()]), b"\xDC\x44\x01\x09\x01\x05\x03red"),
        (Value::Map(vec![("a".into(), false.into())]), b"\xDC\x44\x01\x0A\x01\x05\x01a\x01\x00"),
        (
            named("User", None, Value::Map(vec![("id".into(), 7.into())])),
            b"\xDC\x44\x01\x0B\x04User\x00\x0A\x01\x05\x02id\x02\x0E",
        ),
        (
            named("Shape", Some("Circle"), 1.5.into()),
            b"\xDC\x44\x01\x0B\x05Shape\x01\x06Circle\x04\0\0\0\0\0\0\xF8\x3F",
        ),
    ];
    for (value, bytes) in cases {
        assert_eq!(encode_value(&value).as_deref(), Ok(bytes), "{value:?}");
        let read = match value {
            Value::Bytes(_) => Value::Bytes(decode(bytes.to_vec()).unwrap()),
            _ => decode_value(bytes.to_vec()).unwrap(),
        };
        assert_eq!(read, value, "{bytes:02X?}");
    }
}

#[test]
fn serde_types_become_the_documented_values() {
    assert_eq!(to_value(&Some(5u8)), Ok(5.into()));
    assert_eq!(to_value(&vec![1u8, 2]), Ok(Value::Bytes(vec![1, 2])));
    assert_eq!(to_value(b"abc"), Ok(Value::Bytes(b"abc".to_vec())));
    assert_eq!(to_value(&vec![1u16, 2]), Ok(Value::List(vec![1.into(), 2.into()])));
    assert_eq!(to_value(&(1u8, 2u16)), Ok(Value::Tuple(vec![1.into(), 2.into()])));
    assert_eq!(to_value(&Metres(2.0)), Ok(2.0.into()));
    let Ok(Value::Object(circle)) = to_value(&Shape::Circle(1.0)) else { panic!("no object") };
    assert_eq!((circle.name.as_str(), circle.variant.as_deref()), ("Shape", Some("Circle")));
}

#[test]
fn some_of_none_is_not_none() {
    for nested in [None, Some(None), Some(Some(None)), Some(Some(Some(())))] {
        assert_eq!(from_value(to_value(&nested).unwrap()), Ok(nested));
    }
}

#[test]
fn null_stays_null_where_any_type_is_read() {
    for json in [json!(null), json!({"a": null, "b": [null, 1], "c": []})] {
        assert_eq!(through_bytes(&json), Ok(json));
    }
    assert_eq!(to_value(&()), Ok(Value::None));
    assert_eq!(from_value::<serde_json::Value>(to_value(&Marker).unwrap()), Ok(json!(null)));
    let before = Value::Tuple(Vec::new());
    assert_eq!(from_value(before.clone()), Ok(()), "as earlier versions wrote it");
    let before = Object { name: "Marker".into(), variant: None, content: before };
    assert_eq!(from_value(Value::Object(Box::new(before))), Ok(Marker));
}

#[test]
fn bytes_are_read_within_tagged_untagged_and_flattened_types() {
    let upload = Event::Upload { name: "a".into(), data: vec![0, 255] };
    assert_eq!(through_bytes(&upload), Ok(upload));
    let account = Account {
        id: 1,
        profile: Profile { avatar: vec![1, 2], color: (7, 8, 9), name: "Ada".into() },
    };
    assert_eq!(through_bytes(&account), Ok(account));
    let several = vec![Either::Pixel(1, 2), Either::Data(vec![1, 2, 3])];
    assert_eq!(through_bytes(&several), Ok(several));
    assert_eq!(from_value(Value::Bytes(b"text".to_vec())), Ok("text".to_owned()));
}

#[test]
fn empty_content_of_a_variant_is_kept_within_flattened_types() {
    let labels = [
        Label::Tags(Vec::new()),
        Label::Tags(vec!["red".into()]),
        Label::Name(None),
        Label::Name(Some("a".into())),
        Label::Unit(()),
        Label::Fields {},
        Label::Bare,
    ];
    for label in labels {
        for nested in [None, Some(None), Some(Some(true))] {
            let labelled = Labelled { id: 1, inner: Inner { label: label.clone(), nested } };
            assert_eq!(through_bytes(&labelled), Ok(labelled));
        }
    }
}

#[test]
fn not_a_number_keeps_its_bits() {
    let bytes = encode(&f64::NAN).unwrap();
    assert_eq!(decode::<f64>(bytes).unwrap().to_bits(), f64::NAN.to_bits());
}

#[test]
fn what_other_clients_stored_reads_as_the_type_asked_for() {
    assert_eq!(decode(b"10.5".to_vec()), Ok(10.5f64));
    assert_eq!(decode(b"12".to_vec()), Ok(Some(12u8)));
    assert_eq!(decode(b"12".to_vec()), Ok("12".to_owned()));
    assert_eq!(decode(b"Empty".to_vec()), Ok(Shape::Empty));
    assert_eq!(decode(b"\xFF\xFE".to_vec()), Ok(vec![0xFFu8, 0xFE]));
    assert_eq!(decode_value(b"12".to_vec()), Ok(12.into()));
    assert_eq!(decode_value(b"012".to_vec()), Ok("012".into()));
    assert_eq!(decode_value(b"-0".to_vec()), Ok("-0".into()));
    assert_eq!(decode_value(b"\xFF".to_vec()), Ok(Value::Bytes(vec![0xFF])));
}

#[test]
fn errors_say_what_was_found() {
    let text = |error: ValueError| error.to_string();
    let not_a_number = decode::<i64>(b"football".to_vec()).map_err(text);
    assert_eq!(not_a_number, Err("\"football\" is not an integer".to_owned()));
    let too_large = decode::<u8>(b"300".to_vec()).map_err(text);
    assert_eq!(too_large, Err("invalid value: integer `300`, expected u8".to_owned()));
    let version = decode::<u8>(b"\xDC\x44\x02\x00".to_vec()).map_err(text);
    let expected = "encoded value of version 2: this library reads version 1";
    assert_eq!(version, Err(expected.to_owned()));
    let length = decode_value(b"\xDC\x44\x01\x07\xFD\0\0\0\0\0\0\0\x10".to_vec()).map_err(text);
    let expected = "damaged encoded value: length 1152921504606846976 where 0 bytes are left";
    assert_eq!(length, Err(expected.to_owned()));
    let too_short = decode::<(u8, u8, u8)>(encode(&vec![1u8, 2]).unwrap()).map_err(text);
    let expected = "invalid length 2, expected a tuple of size 3";
    assert_eq!(too_short, Err(expected.to_owned()));
}

#[test]
fn keys_are_plain_where_redis_clients_have_a_form() {
    assert_eq!(encode_key(&1), Ok(b"1".to_vec()));
    assert_eq!(encode_key(&1), encode_key("1"), "one key, as for every Redis client");
    assert_eq!(encode_key(""), Ok(Vec::new()));
    assert_eq!(encode_key(&("user", 42)), Ok(b"\xDC\x44\x01\x08\x02\x05\x04user\x02\x54".to_vec()));
    assert_ne!(encode_key(&("user", 42)), encode_key(&("user", "42")));
    let sets = [Value::Set(vec![1.into(), 2.into()]), Value::Set(vec![2.into(), 1.into()])];
    assert_eq!(encode_key(&sets[0]), encode_key(&sets[1]));
}

fn nested_lists(depth: usize) -> Value {
    (1..depth).fold(Value::List(Vec::new()), |value, _| Value::List(vec![value]))
}

#[test]
fn depth_is_limited_both_ways() {
    let deepest = nested_lists(VALUE_DEPTH_MAX);
    let bytes = encode(&deepest).unwrap();
    assert_eq!(decode(bytes), Ok(deepest));
    let too_deep = nested_lists(VALUE_DEPTH_MAX + 1);
    assert_eq!(encode(&too_deep), Err(ValueError::TooDeep));
    let crafted = [&b"\xDC\x44\x01"[..], &b"\x07\x01".repeat(100_000), b"\x00"].concat();
    assert_eq!(decode_value(crafted), Err(ValueError::TooDeep));
    let maps =
        (0..VALUE_DEPTH_MAX - 1).fold(Value::None, |value, _| Value::Map(vec![(1.into(), value)]));
    assert_eq!(decode(encode(&maps).unwrap()), Ok(maps));
}

#[test]
fn the_number_of_values_is_limited() {
    let count = u32::try_from(VALUE_NODES_MAX).unwrap();
    let mut crafted = b"\xDC\x44\x01\x07\xFC".to_vec();
    crafted.extend_from_slice(&count.to_le_bytes());
    crafted.resize(crafted.len() + VALUE_NODES_MAX, 0);
    assert_eq!(decode_value(crafted), Err(ValueError::TooManyNodes));
}
