use std::ffi::OsString;

use serde_json::Value;

use super::pace::Pace;
use super::*;
use crate::clock::Ticks;
use crate::cluster::admin::{MoveStatus, NodeStatus, Report, Sending, Status};
use crate::cluster::table::{
    ClusterId, Incarnation, NodeAddresses, NodeId, PartitionId, Role, Status as MemberStatus,
};
use crate::config::{Launch, LaunchError, launch};

fn parse(line: &str, variables: &[(&str, &str)]) -> Result<Launch, LaunchError> {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), value.into()));
    launch(line.split(' ').map(OsString::from), variables)
}

fn request(line: &str, variables: &[(&str, &str)]) -> Request {
    match parse(line, variables) {
        Ok(Launch::Cluster(request)) => request,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn seeds_and_secret_are_read_as_the_node_reads_them() {
    let asked = request("distcache-node cluster status", &[]);
    assert_eq!(asked.action, Action::Status);
    assert_eq!((asked.seeds, asked.format), (vec!["127.0.0.1:12050".to_owned()], Format::Text));
    let variables = [
        ("DISTCACHE_SEEDS", "a,b:7"),
        ("DISTCACHE_CLUSTER_SECRET", "hidden-in-the-environment"),
        // What is no option of the subcommand does not matter.
        ("DISTCACHE_PORT", "tcp://10.0.0.1:2050"),
    ];
    let asked = request("distcache-node cluster status", &variables);
    assert_eq!(asked.seeds, ["a:12050", "b:7"]);
    assert_eq!(asked.secret, Some(Secret::new("hidden-in-the-environment")));
    let line = "distcache-node cluster remove 3fa0 --seeds c --format json --timeout 9";
    let asked = request(line, &variables);
    let remove = |keys| Action::Remove { node: "3fa0".to_owned(), keys };
    assert_eq!(asked.action, remove(Keys::Move));
    assert_eq!((asked.seeds, asked.format), (vec!["c:12050".to_owned()], Format::Json));
    assert_eq!(asked.timeout, Some(Duration::from_secs(9)));
    let line = "distcache-node cluster remove 3fa0 --lost";
    assert_eq!(request(line, &[]).action, remove(Keys::Lost));
    let asked = request(&format!("{line} --give-up-keys"), &[]);
    assert_eq!(asked.action, remove(Keys::GiveUp));
}

#[test]
fn what_cannot_be_understood_is_a_matter_of_usage() {
    for line in [
        "distcache-node cluster",
        "distcache-node cluster remove",
        "distcache-node cluster stop",
        "distcache-node cluster remove 3fa0 --give-up-keys",
        "distcache-node cluster status --lost",
        "distcache-node cluster status --timeout 0",
        "distcache-node cluster status --format xml",
        "distcache-node --port 1 cluster status",
    ] {
        assert!(matches!(parse(line, &[]), Err(LaunchError::Usage(_))), "{line}");
    }
    let wrong = parse("distcache-node cluster status --seeds a:b:c", &[]);
    assert!(matches!(wrong, Err(LaunchError::Invalid(_))));
    for line in ["distcache-node cluster --help", "distcache-node cluster remove --help"] {
        let Ok(Launch::Print(help)) = parse(line, &[]) else { panic!("{line}") };
        assert!(help.contains("Examples:"), "{help}");
    }
    assert!(matches!(parse("distcache-node --port 1", &[]), Ok(Launch::Run { .. })));
}

fn node(id: u64, port: u16) -> NodeStatus {
    let address = |port: u16| format!("127.0.0.1:{port}");
    let addresses = NodeAddresses {
        bus: address(port + 10_000),
        client: address(port),
        direct: address(port + 1),
        http: String::new(),
    };
    let report = Report {
        incarnation: Incarnation(id),
        version: "0.1.0".to_owned(),
        uptime_s: 3700,
        is_leased: true,
        keys: 500,
        bytes: 1_234_567,
        clients: 3,
        given: 1,
        failed: 0,
        given_bytes: 5,
        frozen_max_us: 900,
        sending: Vec::new(),
    };
    NodeStatus {
        node: NodeId(id),
        addresses,
        role: Role::Data,
        status: MemberStatus::Up,
        partitions: 512,
        receiving: 0,
        giving: 0,
        report: Some(report),
    }
}

fn two_nodes() -> Status {
    Status {
        told_by: NodeId(0xab01),
        cluster: Some(ClusterId(7)),
        version: 40,
        leader: Some(NodeId(0xab01)),
        voters: vec![NodeId(0xab01)],
        nodes: vec![node(0xab01, 2050), node(0xab02, 2060)],
        moves: Vec::new(),
        moves_left: 0,
        bytes_left: 0,
        unserved: 0,
    }
}

#[test]
fn a_node_is_found_by_what_people_call_it() {
    let mut status = two_nodes();
    let full = format!("{:040x}", 0xab02);
    let found = |name: &str| remove::find(&status, name).map(|node| node.node);
    for name in [
        "127.0.0.1:2060",
        "127.0.0.1:2061",
        "127.0.0.1:12060",
        "000000000000ab02",
        "localhost:2060",
    ] {
        assert_eq!(found(name), Ok(NodeId(0xab02)), "{name}");
    }
    assert_eq!(found(&full), Ok(NodeId(0xab02)));
    assert!(found("000000000000ab").unwrap_err().contains("several"));
    for name in ["", "127.0.0.1:1", "ffff", "127.0.0.1", &"é".repeat(20)] {
        assert!(found(name).unwrap_err().contains("127.0.0.1:2050"), "{name}");
    }
    status.nodes[1].node = NodeId(0xab02 << 48);
    let found = |name: &str| remove::find(&status, name).map(|node| node.node);
    assert_eq!(found("AB"), Ok(NodeId(0xab02 << 48)));
}

#[test]
fn a_status_reads_as_a_table() {
    let mut status = two_nodes();
    let text = text::status(&status, None);
    assert!(
        text.contains("2 nodes, led by 127.0.0.1:2050; 1024 of 1024 partitions served"),
        "{text}"
    );
    assert!(text.contains("nothing moves"), "{text}");
    status.nodes[1].report = None;
    status.nodes[1].status = MemberStatus::Down { leaving: false };
    // What another machine says cannot take the terminal over.
    status.nodes[1].addresses.client = "evil\x1b[2J".to_owned();
    status.unserved = 512;
    status.moves_left = 9;
    let progress = Some(Sending { partition: PartitionId(3), sent: 10, bytes: 2000 });
    let (partition, from, to) = (PartitionId(3), Some(NodeId(0xab01)), NodeId(0xab02));
    status.moves.push(MoveStatus { partition, from, to, progress });
    let text = text::status(&status, Some(Duration::from_secs(75)));
    for part in [
        "512 of 1024 partitions served",
        "down, no answer",
        "evil?[2J",
        "1 partition under way, 9 to begin",
        "about 1 min 15 s",
        "10 B of about 2.0 kB",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = json::status(&status, None);
    assert_eq!(json["nodes"][1]["answers"], false);
    assert_eq!(json["nodes"][0]["id"], "000000000000ab01");
    assert_eq!(json["moves"][0]["bytes_sent"], 10);
}

#[test]
fn a_cluster_without_a_majority_is_shown_as_one_that_serves_nothing() {
    let mut status = two_nodes();
    (status.unserved, status.nodes[1].report) = (1024, None);
    status.voters.push(NodeId(0xab02));
    status.nodes[0].report.as_mut().unwrap().is_leased = false;
    let text = text::status(&status, None);
    for part in [
        "2 nodes, no majority of voters answers: 127.0.0.1:2060 is silent; 0 of 1024 partitions",
        "1024 partitions cannot be used until a majority of voters answers",
        "up, not serving",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("led by"), "{text}");
    status.nodes[1] = node(0xab02, 2060);
    status.nodes[1].report.as_mut().unwrap().is_leased = false;
    let text = text::status(&status, None);
    assert!(text.contains("2 nodes, no member holds a lease yet; 0 of 1024"), "{text}");
    assert!(text.contains("until their nodes serve them again"), "{text}");
}

/// It read as if nothing were left on the node.
#[test]
fn a_node_that_goes_down_while_it_is_drained_is_not_shown_as_empty() {
    let member = node(0xab02, 2060);
    let line = |now: &NodeStatus| remove::line(&member, now, None);
    let mut now = member.clone();
    assert!(line(&now).contains("512 of 512 partitions left, 500 keys, 1.2 MB"), "{}", line(&now));
    now.report = None;
    let silent = line(&now);
    assert!(silent.contains("512 of 512 partitions left, it does not answer"), "{silent}");
    now.status = MemberStatus::Down { leaving: true };
    let down = line(&now);
    assert!(down.contains("down") && down.contains("start it again"), "{down}");
    for line in [silent, down] {
        assert!(!line.contains("0 keys") && !line.contains("0 B"), "{line}");
    }
    let json = json::draining(&now, None);
    assert_eq!((&json["keys_left"], &json["bytes_left"]), (&Value::Null, &Value::Null));
    assert_eq!((&json["status"], &json["partitions_left"]), (&"down, leaving".into(), &512.into()));
}

#[test]
fn keys_are_given_up_only_of_a_node_that_is_down_and_when_the_operator_says_so() {
    let mut member = node(0xab02, 2060);
    let refused = remove::check_lost(&member, Keys::GiveUp).unwrap_err();
    assert!(refused.contains("000000000000ab02 at 127.0.0.1:2060 is not down"), "{refused}");
    member.status = MemberStatus::Down { leaving: false };
    let refused = remove::check_lost(&member, Keys::Lost).unwrap_err();
    assert!(refused.contains("512 partitions") && refused.contains("--give-up-keys"), "{refused}");
    assert_eq!(remove::check_lost(&member, Keys::GiveUp), Ok(()));
}

#[test]
fn the_time_left_follows_from_what_was_done() {
    let begun = Ticks::now();
    let pace = Pace::new(begun, 100, 1000);
    let later = begun.after(Duration::from_secs(10));
    let seconds = |partitions, bytes| {
        pace.eta(later, partitions, bytes).map(|eta| eta.as_secs_f64().round() as u64)
    };
    assert_eq!(seconds(100, 1000), None);
    assert_eq!(seconds(120, 1000), None);
    assert_eq!(seconds(50, 500), Some(10));
    assert_eq!(seconds(50, 900), Some(90), "the heavy ones come last");
    assert_eq!(seconds(50, 1000), Some(10));
    assert_eq!(seconds(0, 1000), Some(0));
}
