//! The thread that reads and writes a node's part in Raft, one thing after the other.
//!
//! A sync takes milliseconds, and would hold up heartbeats where Raft runs. The queue keeps the
//! order, which Raft relies on: a reading sees every change that was handed over before it.

use std::io;
use std::thread;

use distcache_recovery::raft_directory::{RaftDirectory, RaftDirectoryError};
use tokio::sync::{mpsc, oneshot};

use super::limits::{DISK_QUEUE, MARK_PAUSE};
use crate::clock;

type Work = Box<dyn FnOnce(&mut RaftDirectory) + Send>;

enum Job {
    Run(Work),
    Close(oneshot::Sender<io::Result<()>>),
}

/// A handle to the thread. The directory is closed when it is told so, or the last handle goes.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    jobs: mpsc::Sender<Job>,
}

impl Disk {
    /// Starts the thread.
    pub(super) fn start(mut directory: RaftDirectory) -> io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel(DISK_QUEUE);
        thread::Builder::new().name("raft-disk".to_owned()).spawn(move || {
            let mut closer = None;
            while let Some(job) = queue.blocking_recv() {
                match job {
                    Job::Run(work) => work(&mut directory),
                    Job::Close(done) => {
                        closer = Some(done);
                        break;
                    }
                }
            }
            let closed = directory.db.close().map_err(io::Error::other);
            drop(directory);
            match (closer, closed) {
                // Nobody who waits for it is left: then nobody needs the answer.
                (Some(done), closed) => drop(done.send(closed)),
                (None, Ok(())) => {}
                (None, Err(error)) => {
                    log::warn!(error = error.to_string().as_str(); "raft's log did not close");
                }
            }
        })?;
        tokio::spawn(mark_regularly(jobs.downgrade()));
        Ok(Disk { jobs })
    }

    /// Does something with the directory, and returns the result.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut RaftDirectory) -> Result<T, RaftDirectoryError> + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = oneshot::channel();
        // Who does not wait any more needs no answer.
        self.submit(move |directory| drop(done.send(work(directory)))).await?;
        result.await.map_err(|_| closed())?.map_err(io::Error::other)
    }

    /// Hands something over, and returns at once if there is room.
    pub(super) async fn submit(
        &self,
        work: impl FnOnce(&mut RaftDirectory) + Send + 'static,
    ) -> io::Result<()> {
        self.jobs.send(Job::Run(Box::new(work))).await.map_err(|_| closed())
    }

    /// Does what was handed over, and closes the directory; another process may open it then.
    pub(super) async fn close(&self) -> io::Result<()> {
        let (done, result) = oneshot::channel();
        self.jobs.send(Job::Close(done)).await.map_err(|_| closed())?;
        result.await.map_err(|_| closed())?
    }
}

/// Lets the log note what it has on disk, as long as there is a handle.
async fn mark_regularly(jobs: mpsc::WeakSender<Job>) {
    loop {
        clock::sleep(MARK_PAUSE).await;
        let Some(jobs) = jobs.upgrade() else { return };
        // If it fails, the next change fails and says why.
        let mark = Job::Run(Box::new(|directory| drop(directory.db.mark())));
        if jobs.send(mark).await.is_err() {
            return;
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "raft's log is closed")
}
