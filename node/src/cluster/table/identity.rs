//! Names of clusters, nodes, processes and moves.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! identities {
    ($($(#[$doc:meta])* $name:ident($int:ty, $digits:literal);)*) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize,
        )]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{:0", $digits, "x}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, ParseIntError> {
                <$int>::from_str_radix(text, 16).map($name)
            }
        }
    )*};
}

identities! {
    /// A node: random, made once for a data directory and kept in it. Shown as 16 hex digits.
    NodeId(u64, "16");

    /// One process of a node: random, made at each start. What an earlier process held in memory
    /// is gone, so promises made to it are void. Shown as 16 hex digits.
    Incarnation(u64, "16");

    /// A cluster: random, made when its first node creates it. Shown as 32 hex digits.
    ClusterId(u128, "32");

    /// A move of a partition: random, made by who plans it, never used twice. Shown as 16 hex
    /// digits.
    MoveId(u64, "16");
}

/// The number of a change on the stream that a partition's primary sends to its replicas.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct StreamSequence(pub u64);

impl fmt::Display for StreamSequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_shown_as_hex_digits_of_one_width_and_read_back() {
        assert_eq!(NodeId(0xab).to_string(), "00000000000000ab");
        assert_eq!(ClusterId(1).to_string().len(), 32);
        assert_eq!("00000000000000ab".parse(), Ok(NodeId(0xab)));
        assert_eq!(MoveId(u64::MAX).to_string().parse(), Ok(MoveId(u64::MAX)));
        assert!("node-1".parse::<NodeId>().is_err());
    }
}
