//! Every bound of the bus.

use std::time::Duration;

use distcache_protocol::peer::Class;

use crate::cluster::table::limits::NODES_MAX;

/// Calls under way to one peer in one class, those that wait for room included; more are refused
/// at once.
pub const CALLS_MAX: usize = 1024;

/// How often the time of a call begins anew while parts of long messages go or come on its
/// connection: with 10 s each time, 4 GiB need 7 MiB a second.
pub const CALL_EXTENSIONS_MAX: usize = 60;

/// Bytes of request bodies under way to one peer in one class; calls beyond wait. One that goes in
/// parts counts as the longest frame.
pub const fn call_bytes_max(class: Class) -> usize {
    2 * class.body_bytes_max()
}

/// Time that calls under way have still to be answered when their peer is none any more.
pub const LINK_LINGER: Duration = Duration::from_secs(1);

/// Requests of one peer in one class that are handled at once, those of all its connections of
/// class Forward together; while there are so many, no more are read.
pub const fn handled_max(class: Class) -> usize {
    match class {
        Class::Control | Class::Replication | Class::Forward(_) => 128,
        Class::Bulk => 1,
    }
}

/// Bytes of requests of one peer in one class that are handled, or whose replies are not written
/// yet, counted in the same way; while there are so many, no more are read. One that came in parts
/// counts as the longest frame.
pub const fn handled_bytes_max(class: Class) -> usize {
    2 * class.body_bytes_max()
}

/// How often the runtime looks at its sockets before what a connection has to send is sent, so
/// that what others ask for meanwhile goes with it: a call of the system costs more than a small
/// command. A turn costs a microsecond where nothing comes.
pub const fn collecting_turns(class: Class) -> usize {
    match class {
        Class::Forward(_) => 2,
        // Somebody waits for each of these, and they are few.
        Class::Control | Class::Replication | Class::Bulk => 0,
    }
}

/// Accepted connections that have ended their handshake.
pub const INBOUND_MAX: usize = Class::COUNT * NODES_MAX;

/// Handshakes of accepted connections at once; more connections wait to be accepted.
pub const HANDSHAKES_MAX: usize = 64;

/// Processes that are remembered as replaced by a later one of the same node id.
pub const REPLACED_MAX: usize = 1024;

/// Longest text of an error reply, in bytes; longer ones are cut.
pub const ERROR_TEXT_BYTES_MAX: usize = 1024;

/// Small frames are collected up to this many bytes before they are written.
pub const WRITE_BUFFER_BYTES: usize = 64 * 1024;

/// Longest body that is copied behind other frames instead of being written by itself, in bytes.
pub const BODY_COLLECTED_BYTES_MAX: usize = 16 * 1024;

/// Time for connecting, with looking the name up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for the handshake, on either side.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a peer may take nothing of what is written, or leave a frame half sent.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long sent bytes may stay unconfirmed by the peer's system before the connection counts as
/// lost: a cut network is noticed, and the next call dials anew.
pub const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(5);

/// Silence after which the system asks whether the peer is there; then every third of it.
pub const KEEPALIVE: Duration = Duration::from_secs(15);

/// Pause after the first failed dial; each further one doubles it.
pub const BACK_OFF_MIN: Duration = Duration::from_millis(50);

/// Longest pause between dials.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// How long accepting rests after an error, such as too many open files.
pub const ACCEPT_REST: Duration = Duration::from_millis(100);

const _: () = assert!(call_bytes_max(Class::Bulk) <= u32::MAX as usize);
const _: () = assert!(BACK_OFF_MIN.as_millis() < BACK_OFF_MAX.as_millis());
