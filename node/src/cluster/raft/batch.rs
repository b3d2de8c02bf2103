//! Entries of the table that are one entry of Raft's log.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cluster::table::Entry;

/// What stands before the entries. Former versions had one entry here and no list of them, which
/// begins with the number of its kind: a smaller one. So neither takes the other's for its own.
const FORM: u8 = 128;

/// Entries that were proposed together, in the order in which they apply: each sees what those
/// before it did, as if each had an entry of Raft's log to itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cluster) struct Batch {
    form: Form,
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Form;

impl Batch {
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        Batch { form: Form, entries }
    }
}

impl Serialize for Form {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        FORM.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Form {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            FORM => Ok(Form),
            other => Err(D::Error::custom(format!(
                "another version of distcache wrote entries of form {other}, this one reads {FORM}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::{decode, encode};
    use super::*;
    use crate::cluster::table::NodeId;

    #[test]
    fn an_entry_as_former_versions_stored_it_is_refused_and_they_refuse_a_batch() {
        let entry = Entry::NodeLeaving { node: NodeId(7) };
        let batch = encode(&Batch::new(vec![entry.clone()])).unwrap();
        assert_eq!(decode::<Batch>(&batch).unwrap().entries, std::slice::from_ref(&entry));
        let error = decode::<Batch>(&encode(&entry).unwrap()).unwrap_err().to_string();
        assert!(error.contains("another version of distcache wrote entries of form 4"), "{error}");
        assert!(decode::<Entry>(&batch).is_err());
    }
}
