//! `cluster remove`: asks that a node leaves, and shows how it does.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::members::Members;
use super::pace::Pace;
use super::status::{ASK_AGAIN, first};
use super::text::{clean, counted, estimate, human};
use super::{ANSWER_LIMIT, CliError, Format, Request, json, print};
use crate::clock::{self, Ticks};
use crate::cluster::admin::{LeaveAnswer, NodeStatus, Status};
use crate::cluster::table::NodeId;

/// Time between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// Time between two lines where they do not replace each other.
const LINE_PAUSE: Duration = Duration::from_secs(3);

/// How long nobody may answer until it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How long the cluster may be without a leader when the node is to begin to leave.
const LEAVE_PATIENCE: Duration = Duration::from_secs(15);

/// Drains a node, until it is no member any more.
pub(super) async fn remove(
    members: &mut Members,
    name: &str,
    request: &Request,
    is_terminal: bool,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let status = first(members, ANSWER_LIMIT.min(request.timeout.unwrap_or(ANSWER_LIMIT))).await?;
    let member = find(&status, name).map_err(CliError::NoSuchNode)?;
    members.avoid(member.node);
    begin(members, member.node).await?;
    let format = request.format;
    let (shown, is_drawn) = (None, false);
    let mut progress = Progress { format, is_terminal, out, begun: Ticks::now(), shown, is_drawn };
    let drained = tokio::select! {
        drained = clock::within(request.timeout, watch(members, member, &mut progress)) => drained,
        _ = tokio::signal::ctrl_c() => Some(Err(CliError::Interrupted)),
    };
    progress.end_line()?;
    let limit = request.timeout.unwrap_or_default();
    drained.unwrap_or(Err(CliError::TimedOut(limit)))?;
    progress.done(member)
}

/// Asks until the cluster has agreed.
async fn begin(members: &mut Members, node: NodeId) -> Result<(), CliError> {
    let begun = Ticks::now();
    loop {
        let failure = match members.leave(node).await {
            Ok(LeaveAnswer::Leaving) => return Ok(()),
            Ok(LeaveAnswer::Refused(why)) => return Err(CliError::Refused(clean(&why))),
            Ok(LeaveAnswer::Unknown(why)) => clean(&why),
            Err(unanswered) => unanswered.text,
        };
        if Ticks::now().since(begun) > LEAVE_PATIENCE {
            return Err(CliError::NoAnswer(failure));
        }
        clock::sleep(ASK_AGAIN).await;
    }
}

/// Looks until the node is no member any more.
async fn watch(
    members: &mut Members,
    member: &NodeStatus,
    progress: &mut Progress<'_>,
) -> Result<(), CliError> {
    let mut answered = Ticks::now();
    let mut pace = None;
    loop {
        match members.status().await {
            Ok(status) => {
                answered = Ticks::now();
                let now = status.nodes.iter().find(|known| known.node == member.node);
                let Some(now) = now else { return Ok(()) };
                let partitions = now.partitions.into();
                let eta = now.report.as_ref().and_then(|report| {
                    let begins = || Pace::new(answered, partitions, report.bytes);
                    pace.get_or_insert_with(begins).eta(answered, partitions, report.bytes)
                });
                progress.show(member, now, eta)?;
            }
            Err(unanswered) if Ticks::now().since(answered) > SILENCE_MAX => {
                return Err(CliError::NoAnswer(unanswered.text));
            }
            Err(_) => {}
        }
        clock::sleep(LOOK_AGAIN).await;
    }
}

/// Returns a line for people: how far a node is that had so much when it began to leave.
pub(super) fn line(member: &NodeStatus, now: &NodeStatus, eta: Option<Duration>) -> String {
    let most = member.partitions.max(now.partitions);
    let left = format!("{} of {most} partitions left", now.partitions);
    let line = match &now.report {
        _ if now.partitions == 0 => {
            "everything has moved, waiting for the cluster to let it go".to_owned()
        }
        _ if !now.status.is_up() => {
            format!("{left}, but it is down: start it again, and the drain goes on")
        }
        None => format!("{left}, it does not answer"),
        Some(report) => format!(
            "{left}, {}, {}, {} moving{}",
            counted(report.keys, "key"),
            human(report.bytes),
            now.giving,
            eta.map_or(String::new(), |eta| format!(", {}", estimate(eta)))
        ),
    };
    format!("draining {}: {line}", clean(&member.addresses.client))
}

/// Shows how far it is.
struct Progress<'a> {
    format: Format,
    is_terminal: bool,
    out: &'a mut dyn Write,
    begun: Ticks,
    /// When a line was last printed.
    shown: Option<Ticks>,
    /// Whether the cursor stands behind a line that is to be replaced.
    is_drawn: bool,
}

impl Progress<'_> {
    fn show(
        &mut self,
        member: &NodeStatus,
        now: &NodeStatus,
        eta: Option<Duration>,
    ) -> Result<(), CliError> {
        let replaces = self.is_terminal && self.format == Format::Text;
        let is_due = |shown: Ticks| Ticks::now().since(shown) >= LINE_PAUSE;
        if !replaces && !self.shown.is_none_or(is_due) {
            return Ok(());
        }
        self.shown = Some(Ticks::now());
        if self.format == Format::Json {
            return print(self.out, &json::draining(now, eta).to_string());
        }
        let line = line(member, now, eta);
        if !replaces {
            return print(self.out, &line);
        }
        write!(self.out, "\r{line}\x1b[K")?;
        self.is_drawn = true;
        Ok(self.out.flush()?)
    }

    fn end_line(&mut self) -> Result<(), CliError> {
        if std::mem::take(&mut self.is_drawn) { print(self.out, "") } else { Ok(()) }
    }

    fn done(&mut self, member: &NodeStatus) -> Result<(), CliError> {
        let took = Ticks::now().since(self.begun);
        if self.format == Format::Json {
            return print(self.out, &json::removed(member.node, took).to_string());
        }
        let (node, address) = (member.node, clean(&member.addresses.client));
        let line = format!(
            "node {node} at {address} has left the cluster after {:.1} s; its process ends",
            took.as_secs_f64()
        );
        print(self.out, &line)
    }
}

/// Finds the member that is meant by an id, the beginning of one, or an address.
pub(super) fn find<'a>(status: &'a Status, name: &str) -> Result<&'a NodeStatus, String> {
    let addresses = |node: &NodeStatus| {
        let all = &node.addresses;
        [all.bus.clone(), all.client.clone(), all.direct.clone()]
    };
    let by_address = |node: &&NodeStatus| {
        addresses(node).iter().any(|address| address.eq_ignore_ascii_case(name))
    };
    if let Some(found) = status.nodes.iter().find(by_address) {
        return Ok(found);
    }
    // `CLUSTER NODES` writes ids with zeros before them.
    let digits = if name.len() == 40 { name.get(24..).unwrap_or(name) } else { name };
    let digits = digits.to_ascii_lowercase();
    let mut by_id =
        status.nodes.iter().filter(|node| node.node.to_string().starts_with(digits.as_str()));
    match (by_id.next(), by_id.next()) {
        _ if digits.is_empty() => {}
        (Some(found), None) => return Ok(found),
        (Some(_), Some(_)) => {
            return Err(format!("several nodes have an id that begins with {name}"));
        }
        (None, _) => {}
    }
    if name.contains(':') {
        let meant: Vec<SocketAddr> = name.to_socket_addrs().into_iter().flatten().collect();
        let is_meant = |address: &String| {
            address.parse::<SocketAddr>().is_ok_and(|address| meant.contains(&address))
        };
        let mut by_meaning =
            status.nodes.iter().filter(|node| addresses(node).iter().any(is_meant));
        if let (Some(found), None) = (by_meaning.next(), by_meaning.next()) {
            return Ok(found);
        }
    }
    let known: Vec<String> = (status.nodes.iter())
        .map(|node| format!("{} at {}", node.node, clean(&node.addresses.client)))
        .collect();
    Err(format!("no node is {name}; the cluster has {}", known.join(", ")))
}
