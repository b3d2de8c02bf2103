//! Removal of keys whose time is over.
/// Where the next slice begins.
#[derive(Debug, Default)]
pub struct Cursor {}
