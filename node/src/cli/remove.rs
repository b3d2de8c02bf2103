//! `cluster remove`: asks that a node leaves, and shows how it does.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::members::Members;
use super::pace::Pace;
use super::status::{ASK_AGAIN, first};
use super::text::{clean, counted, estimate, human};
use super::{ANSWER_LIMIT, CliError, Format, Keys, Request, json, print};
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

/// Who is to be removed, and how.
pub(super) struct Asked<'a> {
    /// What the operator calls the node.
    pub(super) name: &'a str,
    /// What becomes of its keys.
    pub(super) keys: Keys,
}

/// Drains a node or goes on without it, until it is no member any more.
pub(super) async fn remove(
    members: &mut Members,
    Asked { name, keys }: Asked<'_>,
    request: &Request,
    is_terminal: bool,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let status = first(members, ANSWER_LIMIT.min(request.timeout.unwrap_or(ANSWER_LIMIT))).await?;
    let member = find(&status, name).map_err(CliError::NoSuchNode)?;
    members.avoid(member.node);
    if keys != Keys::Move {
        check_lost(member, keys).map_err(CliError::Refused)?;
    }
    begin(members, member.node, keys).await?;
    let format = request.format;
    let (shown, is_drawn) = (None, false);
    let mut progress =
        Progress { keys, format, is_terminal, out, begun: Ticks::now(), shown, is_drawn };
    let drained = tokio::select! {
        drained = clock::within(request.timeout, watch(members, member, &mut progress)) => drained,
        _ = tokio::signal::ctrl_c() => Some(Err(CliError::Interrupted)),
    };
    progress.end_line()?;
    let limit = request.timeout.unwrap_or_default();
    drained.unwrap_or(Err(CliError::TimedOut(limit)))?;
    progress.done(member)
}

/// Says why a node is not given up, if it is not down, or nobody has said that its keys may go.
pub(super) fn check_lost(member: &NodeStatus, keys: Keys) -> Result<(), String> {
    let node = format!("node {} at {}", member.node, clean(&member.addresses.client));
    if member.status.is_up() {
        return Err(format!("{node} is not down: without --lost, its keys move to the others"));
    }
    match keys {
        Keys::Lost => Err(format!(
            "{node} is down with {}: their keys would be lost, and they would come back empty; \
             add --give-up-keys if that is to be, or start the node again if its data exists",
            counted(member.partitions.into(), "partition")
        )),
        Keys::Move | Keys::GiveUp => Ok(()),
    }
}

/// Asks until the cluster has agreed.
async fn begin(members: &mut Members, node: NodeId, keys: Keys) -> Result<(), CliError> {
    let begun = Ticks::now();
    loop {
        let asked = match keys {
            Keys::Move => members.leave(node).await,
            Keys::Lost | Keys::GiveUp => members.give_up(node).await,
        };
        let failure = match asked {
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
    keys: Keys,
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
        let line = match self.keys {
            Keys::Move => line(member, now, eta),
            Keys::Lost | Keys::GiveUp => {
                let left = counted(now.partitions.into(), "partition");
                format!("giving up {}: {left} left", clean(&member.addresses.client))
            }
        };
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
            "node {node} at {address} has left the cluster after {:.1} s; {}",
            took.as_secs_f64(),
            match self.keys {
                Keys::Move => "its process ends".to_owned(),
                Keys::Lost | Keys::GiveUp => {
                    let partitions = counted(member.partitions.into(), "partition");
                    format!("{partitions} came back empty; do not start it again with its data")
                }
            }
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
