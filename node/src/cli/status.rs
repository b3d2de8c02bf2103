//! `cluster status`.

use std::io::Write;
use std::time::Duration;

use super::members::Members;
use super::pace::Pace;
use super::{ANSWER_LIMIT, CliError, Format, Request, json, print, text};
use crate::clock::{self, Ticks};
use crate::cluster::admin::Status;

/// Time between two looks at moves, to see how fast they are.
const LOOK_TWICE: Duration = Duration::from_secs(1);

/// Time from an attempt that nobody answered to the next.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(300);

/// Prints how the cluster stands.
pub(super) async fn show(
    members: &mut Members,
    request: &Request,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let limit = request.timeout.unwrap_or(ANSWER_LIMIT);
    let mut status = first(members, limit).await?;
    let pace = Pace::new(Ticks::now(), moves_left(&status), status.bytes_left);
    if moves_left(&status) > 0 {
        clock::sleep(LOOK_TWICE).await;
        let again = members.status().await;
        status = again.map_err(|unanswered| CliError::NoAnswer(unanswered.text))?;
    }
    let eta = pace.eta(Ticks::now(), moves_left(&status), status.bytes_left);
    match request.format {
        Format::Json => print(out, &json::status(&status, eta).to_string()),
        Format::Text => print(out, text::status(&status, eta).trim_end()),
    }
}

/// Asks until somebody answers. Only if somebody is reached who cannot say yet it is waited.
pub(super) async fn first(members: &mut Members, limit: Duration) -> Result<Status, CliError> {
    let begun = Ticks::now();
    loop {
        let left = limit.saturating_sub(Ticks::now().since(begun));
        let unanswered = match clock::within(Some(left), members.status()).await {
            Some(Ok(status)) => return Ok(status),
            Some(Err(unanswered)) => unanswered,
            None => {
                let seconds = limit.as_secs();
                return Err(CliError::NoAnswer(format!("no node answers within {seconds} s")));
            }
        };
        if !unanswered.may_change || left < ASK_AGAIN {
            return Err(CliError::NoAnswer(unanswered.text));
        }
        clock::sleep(ASK_AGAIN).await;
    }
}

/// Partitions that move, or must.
fn moves_left(status: &Status) -> u64 {
    status.moves_left + status.moves.len() as u64
}
