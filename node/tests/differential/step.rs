//! What a sequence is made of.

use crate::support::text::show_request;
use crate::support::wire::Request;

/// One step of a sequence.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A command with one reply.
    Command(Request),
    /// `SCAN` from cursor 0 to cursor 0 with these options; the sets of keys are compared.
    FullScan(Request),
    /// `DUMP` on each server, then both payloads restored on both servers: each must read the
    /// other's format.
    Transfer(Vec<u8>),
}

impl Step {
    /// Returns the step of a command given as words.
    pub(crate) fn words(words: &[&str]) -> Self {
        Self::Command(words.iter().map(|word| word.as_bytes().to_vec()).collect())
    }

    /// Returns the step as a person would type it.
    pub(crate) fn show(&self) -> String {
        match self {
            Self::Command(request) => show_request(request),
            Self::FullScan(options) => format!("(full) SCAN … {}", show_request(options)),
            Self::Transfer(key) => {
                format!("(transfer) DUMP and RESTORE {}", show_request(std::slice::from_ref(key)))
            }
        }
    }
}
