//! What is printed for people.

use std::fmt::Write;
use std::time::Duration;

use super::json::word;
use crate::cluster::admin::{MoveStatus, NodeStatus, Status};
use crate::cluster::table::{NodeId, PARTITIONS, Role};

/// Moves that are listed one by one.
const MOVES_SHOWN: usize = 16;

/// Returns a cluster's state: a line about all, a table of the nodes, and what moves.
pub(super) fn status(status: &Status, eta: Option<Duration>) -> String {
    let mut text = String::new();
    let cluster = status.cluster.map_or_else(String::new, |cluster| cluster.to_string());
    let served = PARTITIONS - status.unserved.min(PARTITIONS);
    let leader = match status.leader {
        _ if status.is_without_lease() => without_lease(status),
        Some(leader) => format!("led by {}", address_of(status, leader)),
        None => "without a leader".to_owned(),
    };
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "cluster {cluster}: {}, {leader}; {served} of {PARTITIONS} partitions served\n",
        counted(status.nodes.len() as u64, "node"),
    );
    let heads = [
        "NODE",
        "CLIENTS AT",
        "ROLE",
        "STATE",
        "PARTITIONS",
        "KEYS",
        "BYTES",
        "CLIENTS",
        "UPTIME",
        "VERSION",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(status.nodes.iter().map(|at| node(status, at)));
    text += &table(&rows, &[4, 5, 6, 7, 8]);
    text += "\n";
    text += &moves(status, eta);
    text
}

/// What keeps a cluster from working in which nobody holds a lease, whoever is believed to lead it.
fn without_lease(status: &Status) -> String {
    let silent = status.silent_voters();
    if silent.is_empty() {
        return "no member holds a lease yet".to_owned();
    }
    let addresses: Vec<String> = silent.iter().map(|at| clean(&at.addresses.client)).collect();
    let what = match has_no_majority(status) {
        true => "no majority of voters answers",
        false => "no member holds a lease, and not all voters answer",
    };
    format!(
        "{what}: {} silent",
        match addresses.len() {
            1 => format!("{} is", addresses[0]),
            _ => format!("{} are", addresses.join(", ")),
        }
    )
}

fn has_no_majority(status: &Status) -> bool {
    status.is_without_lease() && status.silent_voters().len() * 2 >= status.voters.len()
}

fn node(status: &Status, node: &NodeStatus) -> Vec<String> {
    let mut role = match node.role {
        Role::Data => "data",
        Role::Witness => "witness",
    }
    .to_owned();
    if status.leader == Some(node.node) {
        role += ", leads";
    } else if status.voters.contains(&node.node) {
        role += ", votes";
    }
    let mut state = word(node.status).to_owned();
    match &node.report {
        None => state += ", no answer",
        Some(report) if !report.is_leased => state += ", not serving",
        Some(_) => {}
    }
    let mut partitions = node.partitions.to_string();
    if node.receiving + node.giving > 0 {
        partitions = format!("{partitions} (+{} -{})", node.receiving, node.giving);
    }
    let report = node.report.as_ref();
    let figure = |of: &dyn Fn(&crate::cluster::admin::Report) -> String| {
        report.map_or_else(|| "?".to_owned(), of)
    };
    vec![
        node.node.to_string(),
        clean(&node.addresses.client),
        role,
        state,
        partitions,
        figure(&|report| report.keys.to_string()),
        figure(&|report| human(report.bytes)),
        figure(&|report| report.clients.to_string()),
        figure(&|report| duration(report.uptime_s)),
        figure(&|report| clean(&report.version)),
    ]
}

fn moves(status: &Status, eta: Option<Duration>) -> String {
    match (status.moves.is_empty() && status.moves_left == 0, status.unserved) {
        (true, 0) => return "nothing moves: every node has its share\n".to_owned(),
        (true, unserved) => {
            let unserved = counted(unserved.into(), "partition");
            let until = match has_no_majority(status) {
                true => "a majority of voters answers",
                false => "their nodes serve them again",
            };
            return format!("nothing moves; {unserved} cannot be used until {until}\n");
        }
        (false, _) => {}
    }
    let mut text = format!(
        "moving: {} under way, {} to begin, {} to send{}\n",
        counted(status.moves.len() as u64, "partition"),
        status.moves_left,
        human(status.bytes_left),
        eta.map_or(String::new(), |eta| format!("; {}", estimate(eta)))
    );
    if status.moves.is_empty() {
        return text;
    }
    let mut rows = vec![["PARTITION", "FROM", "TO", "SENT"].map(str::to_owned).to_vec()];
    rows.extend(status.moves.iter().take(MOVES_SHOWN).map(|at| one_move(status, at)));
    text += &table(&rows, &[0]);
    if let Some(more) = status.moves.len().checked_sub(MOVES_SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(text, "and {more} more");
    }
    text
}

fn one_move(status: &Status, at: &MoveStatus) -> Vec<String> {
    let sent = |sent: u64, of: u64| format!("{} of about {}", human(sent), human(of.max(sent)));
    vec![
        at.partition.0.to_string(),
        at.from.map_or_else(|| "?".to_owned(), |from| address_of(status, from)),
        address_of(status, at.to),
        at.progress.map_or_else(|| "?".to_owned(), |progress| sent(progress.sent, progress.bytes)),
    ]
}

fn address_of(status: &Status, node: NodeId) -> String {
    let member = status.nodes.iter().find(|member| member.node == node);
    member.map_or_else(|| node.to_string(), |member| clean(&member.addresses.client))
}

/// Returns columns as wide as they need be; those of `right` have numbers.
fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match right.contains(&column) {
                true => write!(line, "{cell:>width$}  "),
                false => write!(line, "{cell:<width$}  "),
            };
        }
        text += line.trim_end();
        text += "\n";
    }
    text
}

/// Returns what another machine has said, as far as it can be shown on a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

/// Returns a number of bytes as people read it.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Returns an estimate as people read it: never less than it says.
pub(super) fn estimate(eta: Duration) -> String {
    format!("about {}", duration(eta.as_secs_f64().ceil() as u64))
}

/// Returns a time as people read it.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

pub(super) fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
