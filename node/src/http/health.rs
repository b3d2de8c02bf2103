//! Whether a node serves its share.

use crate::clock::Ticks;
use crate::node::Node;

/// What decides whether a node serves its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// The node is told to stop, or has left its cluster.
    pub is_stopping: bool,
    /// While the log is being read: records read, and records in all.
    pub reading: Option<(u64, u64)>,
    /// Commands on keys are refused still, since it is not known which keys are the node's own.
    pub is_loading: bool,
    /// The table, as this node has it, names the node.
    pub is_member: bool,
    /// It has been in touch with a majority lately, so it may serve what is its own.
    pub is_leased: bool,
}

impl Health {
    /// Looks at a node.
    pub fn of(node: &Node) -> Self {
        let view = node.cluster.view();
        let is_reading = node.log.as_ref().is_some_and(|log| !log.status.is_open());
        Health {
            is_stopping: node.stop.has_begun(),
            reading: is_reading.then(|| node.loading.records()),
            is_loading: node.loading.is_active(),
            is_member: view.table.nodes.contains_key(&view.myself),
            is_leased: view.is_leased() && node.cluster.ownership().is_leased(Ticks::now()),
        }
    }

    /// Why the node does not serve its share; `None` if it does. That other nodes do not serve
    /// theirs is no reason, nor that the log refuses writes, since reads go on.
    pub fn obstacle(&self) -> Option<String> {
        if self.is_stopping {
            return Some("stopping".to_owned());
        }
        match self.reading {
            Some((_, 0)) => return Some("loading: the log is being opened".to_owned()),
            Some((records, total)) => {
                return Some(format!("loading: {records} of {total} records of the log are read"));
            }
            None => {}
        }
        let obstacle = match self {
            Health { is_member: false, .. } => "waiting for its cluster",
            Health { is_loading: true, .. } => "joining its cluster",
            Health { is_leased: false, .. } => {
                "no lease: the node is not in touch with a majority of its cluster"
            }
            _ => return None,
        };
        Some(obstacle.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Health = Health {
        is_stopping: false,
        reading: None,
        is_loading: false,
        is_member: true,
        is_leased: true,
    };

    #[test]
    fn a_node_is_ready_when_nothing_is_in_its_way() {
        assert_eq!(READY.obstacle(), None);
    }

    #[test]
    fn what_comes_first_on_the_way_to_be_ready_is_named_first() {
        let starting = Health {
            is_stopping: false,
            reading: Some((0, 0)),
            is_loading: true,
            is_member: false,
            is_leased: false,
        };
        type Step = fn(&mut Health);
        let steps: [(&str, Step); 5] = [
            ("loading: the log is being opened", |health| health.reading = Some((1, 9))),
            ("loading: 1 of 9", |health| health.reading = None),
            ("waiting for its cluster", |health| health.is_member = true),
            ("joining its cluster", |health| health.is_loading = false),
            ("no lease", |health| health.is_leased = true),
        ];
        let mut health = starting;
        for (obstacle, step) in steps {
            let found = health.obstacle().unwrap();
            assert!(found.starts_with(obstacle), "{found}");
            step(&mut health);
        }
        assert_eq!(health, READY);
        let stopping = Health { is_stopping: true, ..starting };
        assert_eq!(stopping.obstacle().as_deref(), Some("stopping"));
    }
}
