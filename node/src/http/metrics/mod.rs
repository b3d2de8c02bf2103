//! The figures of `INFO` in the text format of Prometheus, version 0.0.4.
//!
//! Names begin with `distcache_`, units are seconds and bytes, and what only grows ends in
//! `_total`. It begins at zero with each process, and with `CONFIG RESETSTAT`, as Prometheus
//! expects of counters.
//!
//! - [`families`]: metrics, and their text;
//! - `sections`: which figure is which metric.

pub mod families;
mod sections;

use self::families::Families;
use crate::command::Figures;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns the figures as text.
pub(crate) fn text(figures: &Figures<'_>) -> String {
    let mut families = Families::default();
    for section in sections::ALL {
        section(figures, &mut families);
    }
    families.text()
}
