//! What the log stores, as the rest of the node names it.
#![allow(missing_docs)]
// TEMPORARY until the recovery crate lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub u64);
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u16);
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteCause {
    Command,
    Expired,
    Evicted,
}
#[derive(Debug, Clone, Copy)]
pub enum StoredValue<'a> {
    String(&'a [u8]),
    Integer(i64),
}
#[derive(Debug, Clone, Copy)]
pub enum Operation<'a> {
    Put { key: &'a [u8], value: StoredValue<'a>, deadline: Option<UnixMillis> },
    Delete { key: &'a [u8], cause: DeleteCause },
    SetDeadline { key: &'a [u8], deadline: Option<UnixMillis> },
    Append { key: &'a [u8], bytes: &'a [u8] },
    WriteRange { key: &'a [u8], offset: u64, bytes: &'a [u8] },
    Flush,
    Swap { other: u8 },
}
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub partition: PartitionId,
    pub database: u8,
    pub operation: Operation<'a>,
}
