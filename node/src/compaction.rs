//! Compaction of the log: a snapshot of every partition that has changed, then the removal of
//! the frames that snapshots cover. Without fork: memory never doubles.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::actors::oplog::LogHandle;
use crate::clock;
use crate::keyspace::ShardId;
use crate::node::Node;

/// How often growth is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Time after a failure before it is tried again: it may have copied as much as found room.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Compacts the log whenever it has grown enough (`auto-aof-rewrite-percentage` and
/// `auto-aof-rewrite-min-size`) or lacks something, for ever.
pub async fn run(node: Arc<Node>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(log) = &node.log else { return };
        if has_grown(&node, log)
            && let Err(error) = compact(&node).await
        {
            log::error!(error = error.as_str(); "compaction failed; the log is whole, and grows");
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

fn has_grown(node: &Node, log: &LogHandle) -> bool {
    let (config, figures) = (node.config.current(), log.status.figures());
    if figures.is_behind {
        // Writes are refused until then, however small the log is.
        return figures.can_catch_up;
    }
    let size = figures.frame_bytes + figures.snapshot_bytes;
    let grown = size.saturating_sub(figures.base_bytes);
    let percent = u64::from(config.auto_rewrite_percent);
    percent > 0
        && size >= config.auto_rewrite_size_min_bytes
        && grown >= figures.base_bytes / 100 * percent
        && figures.frame_bytes > 0
        && log.status.failure().is_none()
}

/// Compacts the log now. Returns when it is done.
///
/// # Errors
/// Why it could not be completed, in words; the log is whole all the same.
pub async fn compact(node: &Arc<Node>) -> Result<(), String> {
    let Some(log) = &node.log else { return Ok(()) };
    let started = clock::now();
    let mut begun = false;
    log.status.update_figures(|figures| {
        begun = !std::mem::replace(&mut figures.compacting, true);
        if begun {
            figures.compaction_began = started.0;
        }
    });
    if !begun {
        return Err("compaction in progress".to_owned());
    }
    let result = snapshots_then_trim(node, log).await;
    let ended = clock::now();
    log.status.update_figures(|figures| {
        figures.compacting = false;
        figures.compaction_failed = result.is_err();
        figures.compaction_seconds = Some(ended.0.saturating_sub(started.0) / 1000);
        if let Ok(writes) = result {
            figures.writes_compacted = writes;
            figures.compacted_at = ended.0 / 1000;
            figures.base_bytes = figures.frame_bytes + figures.snapshot_bytes;
        }
    });
    if result.is_ok() {
        let bytes = log.status.figures().base_bytes;
        log::info!(bytes, ms = ended.0.saturating_sub(started.0); "log compacted");
    }
    result.map(|_| ())
}

/// Returns how many changes of keys there were, since the start, when it began.
async fn snapshots_then_trim(node: &Arc<Node>, log: &LogHandle) -> Result<u64, String> {
    let shards = node.shards.len() as u16;
    let mut partitions = vec![VecDeque::new(); shards as usize];
    let mut writes = 0;
    for shard in &node.shards {
        let counted = shard.visit(|state| state.keyspace.stats.writes).await;
        writes += counted.map_err(|error| error.to_string())?;
        // What a shard has not handed over yet belongs to the partitions to copy as well.
        shard.hand_over().await.map_err(|error| error.to_string())?;
    }
    for partition in log.begin_compaction().await {
        let first_slot = partition.0 * crate::keyspace::SLOTS_PER_PARTITION;
        partitions[ShardId::owner_of(first_slot, shards) as usize].push_back(partition);
    }
    let copies: Vec<_> = partitions
        .into_iter()
        .zip(node.shards.clone())
        .map(|(partitions, shard)| {
            tokio::task::spawn_local(async move { shard.copy_partitions(partitions).await })
        })
        .collect();
    let mut result = Ok(());
    for copy in copies {
        let copied = copy.await.unwrap_or_else(|error| Err(error.to_string()));
        result = result.and(copied);
    }
    result?;
    log.end_compaction();
    while log.trim().await.map_err(|error| error.to_string())? {}
    Ok(writes)
}
