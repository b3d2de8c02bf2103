//! How a node that starts finds its cluster, or becomes the first of a new one.
//!
//! Pure: [`decide`] gets what is known, and says what to do next. Only one node may create a
//! cluster, or there are two; that is the first of the seed list, and only while everybody else
//! on the list has answered that it is in no cluster either. So:
//!
//! | this node | the other seeds | decision |
//! |---|---|---|
//! | was in a cluster, or has joined one | | go on with it |
//! | any | one is in another cluster than it has noted | refuse: two clusters |
//! | any | one is another process of this node | refuse: a copied directory |
//! | is in none, has no other seeds | | create |
//! | is in none | one is in a cluster | join it |
//! | is in none | two are in different clusters | refuse: two clusters |
//! | is in none, is the first seed | all are in none | create |
//! | is in none, is the first seed | some do not answer | wait for them |
//! | is in none, is another seed or none | none is in a cluster | wait for the first seed |
//! | has noted a cluster, and has nothing of it yet | none is in it | wait for it |
//!
//! What a node's own directory says of where it ran last is asked like a seed: see
//! [`Conflict::SameId`].
//!
//! A first seed that lost its disk finds the others in their cluster, and joins it as a new node.

use std::time::Duration;

use crate::clock::Ticks;
use crate::cluster::table::{ClusterId, NodeId};

/// Time between two rounds of questions while a node waits.
pub const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Time after which a node that waits says so again.
pub const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Seeds that a list may have.
pub const SEEDS_MAX: usize = 64;

/// What a node knows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// Its id.
    pub node: NodeId,
    /// Whether it is or was a member of Raft's group, so it has a log or a vote.
    pub is_initialised: bool,
    /// The cluster that it has noted.
    pub cluster: Option<ClusterId>,
}

/// A seed of the list, in its order, with what it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// Its bus address as the list has it.
    pub address: String,
    /// What it is.
    pub answer: Answer,
}

/// What is known of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is this node.
    Myself,
    /// It is in no cluster.
    Blank {
        /// The node there.
        node: NodeId,
    },
    /// It is in a cluster.
    Member {
        /// The node there.
        node: NodeId,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// It has not answered.
    Silent,
    /// Something answered that is no node, or refused, as when the secret is another one.
    Refused {
        /// What it, or the connection, said.
        reason: String,
    },
}

/// What a node that starts does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is a member: nothing is to be decided any more.
    Resume,
    /// It creates a cluster of itself, which others join.
    Create,
    /// It asks these seeds, which are in a cluster, to be taken in.
    Join {
        /// The cluster.
        cluster: ClusterId,
        /// Their bus addresses.
        through: Vec<String>,
    },
    /// It asks again after [`ASK_AGAIN`].
    Wait(Waiting),
    /// It must not go on: somebody has to change something.
    Refuse(Conflict),
}

/// What a node waits for. The text is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Waiting {
    /// It is the first seed, and some others have not answered: they may be in a cluster.
    #[error(
        "this node is the first seed and creates the cluster once all other seeds have answered; \
         {0} has not yet: start it, or remove it from the list of seeds"
    )]
    ForSeeds(String),
    /// The first seed is in no cluster yet, or does not answer.
    #[error("the cluster is created by the first seed, {0}, which is not there yet: start it")]
    ForFirstSeed(String),
    /// It was taken into a cluster and has nothing of it yet.
    #[error("this node belongs to cluster {0}, of which no seed is ({1}): start nodes of it")]
    ForCluster(ClusterId, String),
    /// It is a member, and its cluster has not confirmed that.
    #[error(
        "this node is a member of a cluster, but has heard of no leader for a while, or not that \
         the leader knows where it is now; it goes on asking the seeds: {0}"
    )]
    ForLeader(String),
    /// Nobody answers.
    #[error("none of the seeds answers ({0}): start them, or check the addresses")]
    ForAnybody(String),
}

/// Why a node must not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Its directory is that of another cluster.
    #[error(
        "this node belongs to cluster {own}, but the seed {seed} is in cluster {other}: correct \
         the list of seeds, or start with an empty data directory to join that cluster"
    )]
    OtherCluster {
        /// The node's own cluster.
        own: ClusterId,
        /// The seed.
        seed: String,
        /// Its cluster.
        other: ClusterId,
    },
    /// The seeds are in different clusters.
    #[error(
        "the seeds {first} and {second} are in different clusters ({first_cluster} and \
         {second_cluster}), which cannot be made one: list the seeds of one of them only"
    )]
    TwoClusters {
        /// A seed.
        first: String,
        /// Its cluster.
        first_cluster: ClusterId,
        /// Another seed.
        second: String,
        /// Its cluster.
        second_cluster: ClusterId,
    },
    /// Somebody else uses this node's id, as when a data directory was copied.
    #[error(
        "another running process, at {address}, has this node's id {node}: a data directory must \
         not be copied to another node; start this one with an empty data directory"
    )]
    SameId {
        /// Where it is reached.
        address: String,
        /// The id.
        node: NodeId,
    },
}

/// Says what a node does next. `seeds` is the list in its order, empty if there is none; whoever
/// makes it has found out which of them is this node itself.
pub fn decide(own: Own, seeds: &[Seed]) -> Decision {
    if let Some(conflict) = conflict(own, seeds) {
        return Decision::Refuse(conflict);
    }
    if own.is_initialised {
        return Decision::Resume;
    }
    let mut through = Vec::new();
    let mut found = None;
    for seed in seeds {
        if let Answer::Member { cluster, .. } = seed.answer {
            found = Some(cluster);
            through.push(seed.address.clone());
        }
    }
    if let Some(cluster) = found {
        return Decision::Join { cluster, through };
    }
    if let Some(cluster) = own.cluster {
        let waiting = Waiting::ForCluster(cluster, list(&seeds.iter().collect::<Vec<_>>()));
        return Decision::Wait(waiting);
    }
    let is_first = seeds.first().is_none_or(|seed| seed.answer == Answer::Myself);
    let is_other = |seed: &&Seed| seed.answer != Answer::Myself;
    let open = |seed: &&Seed| !matches!(seed.answer, Answer::Myself | Answer::Blank { .. });
    let silent: Vec<&Seed> = seeds.iter().filter(open).collect();
    match seeds.first() {
        _ if is_first && silent.is_empty() => Decision::Create,
        None => Decision::Create,
        Some(_) if silent.len() == seeds.iter().filter(is_other).count() => {
            Decision::Wait(Waiting::ForAnybody(list(&silent)))
        }
        Some(_) if is_first => Decision::Wait(Waiting::ForSeeds(list(&silent))),
        Some(first) => Decision::Wait(Waiting::ForFirstSeed(described(first))),
    }
}

fn conflict(own: Own, seeds: &[Seed]) -> Option<Conflict> {
    let mut first: Option<(&Seed, ClusterId)> = None;
    for seed in seeds {
        let (node, cluster) = match seed.answer {
            Answer::Member { node, cluster } => (node, Some(cluster)),
            Answer::Blank { node } => (node, None),
            Answer::Myself | Answer::Silent | Answer::Refused { .. } => continue,
        };
        if node == own.node {
            return Some(Conflict::SameId { address: seed.address.clone(), node });
        }
        let Some(cluster) = cluster else { continue };
        if let Some(own) = own.cluster.filter(|own| *own != cluster) {
            let seed = seed.address.clone();
            return Some(Conflict::OtherCluster { own, seed, other: cluster });
        }
        match first {
            Some((other, known)) if known != cluster => {
                return Some(Conflict::TwoClusters {
                    first: other.address.clone(),
                    first_cluster: known,
                    second: seed.address.clone(),
                    second_cluster: cluster,
                });
            }
            Some(_) => {}
            None => first = Some((seed, cluster)),
        }
    }
    None
}

/// Says what a member waits for that asks its seeds where the others are.
pub fn for_leader(seeds: &[Seed]) -> Waiting {
    let said = |seed: &Seed| match &seed.answer {
        Answer::Myself => format!("{} is this node", seed.address),
        Answer::Blank { .. } => format!("{} is in no cluster", seed.address),
        Answer::Member { .. } => format!("{} answers", seed.address),
        Answer::Silent => format!("{} does not answer", seed.address),
        Answer::Refused { reason } => reason.clone(),
    };
    let said: Vec<String> = seeds.iter().map(said).collect();
    Waiting::ForLeader(if said.is_empty() { "there are none".to_owned() } else { said.join(", ") })
}

fn list(seeds: &[&Seed]) -> String {
    seeds.iter().map(|seed| described(seed)).collect::<Vec<_>>().join(", ")
}

fn described(seed: &Seed) -> String {
    match &seed.answer {
        Answer::Refused { reason } => format!("{} ({reason})", seed.address),
        _ => seed.address.clone(),
    }
}

/// Says when a node that waits says so: once for each reason, and then seldom.
#[derive(Debug, Default)]
pub struct Announcer {
    said: Option<(Waiting, Ticks)>,
}

impl Announcer {
    /// Whether to write a log line now.
    pub fn is_due(&mut self, waiting: &Waiting, now: Ticks) -> bool {
        let is_known = self
            .said
            .as_ref()
            .is_some_and(|(reason, at)| reason == waiting && now.since(*at) < SAY_AGAIN);
        if !is_known {
            self.said = Some((waiting.clone(), now));
        }
        !is_known
    }

    /// What was said last.
    pub fn said(&self) -> Option<&Waiting> {
        self.said.as_ref().map(|(waiting, _)| waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);

    fn own(is_initialised: bool, cluster: Option<u128>) -> Own {
        Own { node: ME, is_initialised, cluster: cluster.map(ClusterId) }
    }

    fn seeds(answers: &[Answer]) -> Vec<Seed> {
        let seed = |(number, answer): (usize, &Answer)| Seed {
            address: format!("host{number}:12050"),
            answer: answer.clone(),
        };
        answers.iter().enumerate().map(seed).collect()
    }

    fn member(node: u64, cluster: u128) -> Answer {
        Answer::Member { node: NodeId(node), cluster: ClusterId(cluster) }
    }

    const BLANK: Answer = Answer::Blank { node: NodeId(2) };
    use Answer::{Myself, Silent};

    #[test]
    fn a_node_without_seeds_is_a_cluster_of_one() {
        assert_eq!(decide(own(false, None), &[]), Decision::Create);
        assert_eq!(decide(own(false, None), &seeds(&[Myself])), Decision::Create);
    }

    #[test]
    fn only_the_first_seed_creates_and_only_when_all_others_are_blank() {
        let blank = own(false, None);
        assert_eq!(decide(blank, &seeds(&[Myself, BLANK, BLANK])), Decision::Create);
        let waits = |answers: &[Answer]| match decide(blank, &seeds(answers)) {
            Decision::Wait(waiting) => waiting.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(waits(&[Myself, BLANK, Silent]).contains("host2:12050 has not yet"));
        assert!(waits(&[BLANK, Myself, BLANK]).contains("first seed, host0:12050"));
        assert!(waits(&[BLANK, BLANK]).contains("first seed, host0:12050"), "no seed itself");
        assert!(waits(&[Silent, Myself, BLANK]).contains("first seed, host0:12050"));
        let refused = Answer::Refused { reason: "not a distcache".to_owned() };
        assert!(waits(&[Myself, BLANK, refused]).contains("not a distcache"));
    }

    #[test]
    fn every_combination_of_answers_lets_at_most_the_first_seed_create() {
        let refused = Answer::Refused { reason: String::new() };
        let answers = [BLANK, Silent, refused, member(2, 7)];
        for number in 0..64 {
            let others: Vec<Answer> =
                [number % 4, number / 4 % 4, number / 16].map(|i| answers[i].clone()).to_vec();
            for place in 0..=3 {
                let mut list = others.clone();
                list.insert(place, Myself);
                let decision = decide(own(false, None), &seeds(&list));
                let may = place == 0 && others.iter().all(|answer| *answer == BLANK);
                assert_eq!(decision == Decision::Create, may, "{list:?}");
                let joins = matches!(decision, Decision::Join { .. });
                assert_eq!(joins, others.contains(&member(2, 7)), "{list:?}");
            }
        }
    }

    #[test]
    fn a_restart_goes_on_and_a_node_that_lost_its_disk_joins() {
        let resumed = decide(own(true, Some(7)), &seeds(&[Myself, Silent, Silent]));
        assert_eq!(resumed, Decision::Resume);
        assert_eq!(decide(own(true, Some(7)), &seeds(&[Silent])), Decision::Resume);
        assert_eq!(decide(own(true, None), &seeds(&[Myself, BLANK])), Decision::Resume);
        let waits = decide(own(false, Some(7)), &seeds(&[Myself, BLANK]));
        assert!(matches!(waits, Decision::Wait(Waiting::ForCluster(..))), "{waits:?}");
        let joined = decide(own(false, None), &seeds(&[Myself, Silent, member(3, 7)]));
        let through = vec!["host2:12050".to_owned()];
        assert_eq!(joined, Decision::Join { cluster: ClusterId(7), through });
    }

    #[test]
    fn a_seed_list_with_nobody_alive_waits_and_says_so_seldom() {
        let list = seeds(&[Myself, Silent]);
        let text = for_leader(&list).to_string();
        assert!(text.ends_with("host0:12050 is this node, host1:12050 does not answer"), "{text}");
        let Decision::Wait(waiting) = decide(own(false, None), &list) else { panic!() };
        assert!(waiting.to_string().contains("none of the seeds answers (host1:12050)"));
        let (mut announcer, now) = (Announcer::default(), Ticks::now());
        assert!(announcer.is_due(&waiting, now));
        assert!(!announcer.is_due(&waiting, now));
        assert!(announcer.is_due(&Waiting::ForFirstSeed("a".to_owned()), now));
    }

    #[test]
    fn clusters_formed_apart_refuse_each_other() {
        let refused = |own, answers: &[Answer]| match decide(own, &seeds(answers)) {
            Decision::Refuse(conflict) => conflict.to_string(),
            other => panic!("{other:?}"),
        };
        let text = refused(own(true, Some(7)), &[Myself, member(2, 8)]);
        assert!(text.contains("host1:12050") && text.contains("empty data directory"), "{text}");
        let text = refused(own(false, None), &[Myself, member(2, 7), member(3, 8)]);
        assert!(text.contains("host1:12050 and host2:12050"), "{text}");
        let text = refused(own(true, Some(7)), &[Myself, member(ME.0, 7)]);
        assert!(text.contains("must not be copied"), "{text}");
    }
}
