//! Cursors over all keys.
