//! Sets: serde writes them as sequences, so a type has to say that it means a set.

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

/// The newtype name by which our serializer knows that the sequence inside is a set.
pub(super) const SET_NAME: &str = "distcache::Set";

/// Stores the sequence inside as a [`Value::Set`](super::Value::Set), not as a list.
///
/// Reading needs no wrapper: a `HashSet` reads a set and a list alike. In other serde formats
/// the wrapper is invisible.
///
/// ```
/// use std::collections::BTreeSet;
/// use distcache_protocol::value::{AsSet, Value, to_value};
///
/// let tags = BTreeSet::from(["new", "red"]);
/// assert_eq!(to_value(&AsSet(&tags))?, Value::Set(vec!["new".into(), "red".into()]));
/// # Ok::<(), distcache_protocol::value::ValueError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsSet<T>(pub T);

impl<T: Serialize> Serialize for AsSet<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(SET_NAME, &self.0)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for AsSet<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

/// For a field that is a set: `#[serde(with = "distcache_protocol::value::as_set")]`.
pub mod as_set {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the field as [`AsSet`](super::AsSet) does.
    ///
    /// # Errors
    ///
    /// Those of `serializer`.
    pub fn serialize<T: Serialize, S: Serializer>(
        set: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        super::AsSet(set).serialize(serializer)
    }

    /// Reads the field as the type itself does.
    ///
    /// # Errors
    ///
    /// Those of `deserializer`.
    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        T::deserialize(deserializer)
    }
}
