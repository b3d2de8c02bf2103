//! The data directory: its lock, its format, and the copy that inspections work on.
//!
//! | name | what |
//! |---|---|
//! | `LOCK` | locked while a process has the directory open |
//! | `FORMAT` | the format of all that is here; written last, so it says that the rest is whole |
//! | `mark` | the durable mark |
//! | `generations` | which snapshots were on disk, once records were removed for them |
//! | `log/` | the store, with its redo log `redo` |
//! | `raft/` | [`raft_directory`](crate::raft_directory), with a lock of its own |

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::LogError;
use crate::frame::FORMAT_VERSION;
use crate::generations::GENERATIONS;
use crate::mark::MarkFile;
use crate::raft_directory::RAFT;

const LOCK: &str = "LOCK";
const FORMAT: &str = "FORMAT";
const FORMAT_TEXT: &str = "distcache data directory, format ";
const MARK: &str = "mark";
const LOG: &str = "log";

/// A data directory, locked until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

/// What the `FORMAT` file says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// There is none: a new directory, or one whose creation was cut short.
    Missing,
    /// A format.
    Version(u32),
    /// The file is there and has no meaning.
    Unreadable,
}

impl DataDirectory {
    /// Locks a directory, which is created if that is asked for.
    pub(crate) fn lock(path: &Path, create: bool) -> Result<Self, LogError> {
        if create {
            fs::create_dir_all(path)
                .map_err(|error| LogError::file("creation of", path, &error))?;
        } else if !path.is_dir() {
            let reason = "there is no such directory".to_owned();
            return Err(LogError::NotALog { dir: path.to_owned(), reason });
        }
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&lock_path)
            .map_err(|error| LogError::file("open of", &lock_path, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(LogError::InUse { dir: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(LogError::file("lock of", lock_path, &error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.path.join(LOG)
    }

    pub(crate) fn mark_path(&self) -> PathBuf {
        self.path.join(MARK)
    }

    pub(crate) fn format(&self) -> Result<Format, LogError> {
        read_format(&self.path)
    }

    /// Writes the `FORMAT` file, after everything else is in place.
    pub(crate) fn write_format(&self) -> Result<(), LogError> {
        let path = self.path.join(FORMAT);
        let new = self.path.join("FORMAT.new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            writeln!(file, "{FORMAT_TEXT}{FORMAT_VERSION}")?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| LogError::file("write of", &path, &error))
    }

    /// Returns the bytes free for this process on the directory's file system, and its size.
    pub(crate) fn space(&self) -> Option<(u64, u64)> {
        free_space(&self.path)
    }

    pub(crate) fn open_mark(&self) -> Result<(MarkFile, crate::mark::MarkState), LogError> {
        MarkFile::open(&self.mark_path())
    }
}

/// Returns the bytes free for this process on a path's file system, and its size.
fn free_space(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
}

fn read_format(dir: &Path) -> Result<Format, LogError> {
    let path = dir.join(FORMAT);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Format::Missing),
        Err(error) => return Err(LogError::file("read of", path, &error)),
    };
    let text = String::from_utf8_lossy(&bytes);
    let version = text.strip_prefix(FORMAT_TEXT).and_then(|rest| rest.strip_suffix('\n'));
    Ok(version.and_then(|number| number.parse().ok()).map_or(Format::Unreadable, Format::Version))
}

/// Bytes copied between two reports of progress.
const COPY_STEP_BYTES: u64 = 16 << 20;

/// A private copy of a data directory, removed when dropped.
#[derive(Debug)]
pub struct InspectionCopy {
    dir: tempfile::TempDir,
    source: PathBuf,
}

/// A copy that can be made: the source is locked against nodes until this is dropped.
#[derive(Debug)]
pub struct CopyPlan {
    source: PathBuf,
    parent: PathBuf,
    files: Vec<(PathBuf, u64)>,
    bytes: u64,
    _locks: [Option<File>; 2],
}

impl CopyPlan {
    /// Plans a copy of the data directory `dir` in a new folder below `parent`.
    ///
    /// # Errors
    ///
    /// When a running node has the directory open and when it is no data directory.
    pub fn new(dir: &Path, parent: &Path) -> Result<Self, LogError> {
        check_is_data_directory(dir)?;
        let lock = lock_for_reading(dir)?;
        Ok(Self::of_files(dir, parent, list_files(dir)?, [lock, None]))
    }

    /// The same, with the node's part in Raft if there is one: all that a start reads.
    ///
    /// # Errors
    ///
    /// As [`CopyPlan::new`].
    pub fn of_all(dir: &Path, parent: &Path) -> Result<Self, LogError> {
        check_is_data_directory(dir)?;
        let locks = [lock_for_reading(dir)?, lock_for_reading(&dir.join(RAFT))?];
        let mut files = list_files(dir)?;
        list_folder(dir, PathBuf::from(RAFT), &mut files)?;
        Ok(Self::of_files(dir, parent, files, locks))
    }

    /// Plans a copy of a node's part in Raft alone, which lies in its data directory `dir`.
    ///
    /// # Errors
    ///
    /// When a running node has the directory open, and when there is nothing of the kind in it.
    pub fn of_raft(dir: &Path, parent: &Path) -> Result<Self, LogError> {
        if !dir.is_dir() {
            let reason = "there is no such directory".to_owned();
            return Err(LogError::NotALog { dir: dir.to_owned(), reason });
        }
        let path = dir.join(RAFT);
        if !path.is_dir() {
            return Err(LogError::NoRaft { dir: dir.to_owned() });
        }
        let locks = [lock_for_reading(dir)?, lock_for_reading(&path)?];
        let mut files = Vec::new();
        list_folder(dir, PathBuf::from(RAFT), &mut files)?;
        Ok(Self::of_files(dir, parent, files, locks))
    }

    fn of_files(
        dir: &Path,
        parent: &Path,
        files: Vec<(PathBuf, u64)>,
        locks: [Option<File>; 2],
    ) -> Self {
        let bytes = files.iter().map(|(_, len)| len).sum();
        let (source, parent) = (dir.to_owned(), parent.to_owned());
        Self { source, parent, files, bytes, _locks: locks }
    }

    /// Returns the bytes that the copy takes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the copy. The source is opened for reading only. `progress` hears of bytes copied.
    ///
    /// # Errors
    ///
    /// When there is too little space, which is looked at before anything is copied, and when
    /// copying fails. Nothing is left behind.
    pub fn copy(self, mut progress: impl FnMut(u64)) -> Result<InspectionCopy, LogError> {
        let Self { source, parent, files, bytes, _locks } = self;
        let no_room = |free: u64| {
            LogError::DiskFull(format!(
                "the inspector works on a copy of {bytes} bytes, and {} has {free} bytes free",
                parent.display()
            ))
        };
        let free = || free_space(&parent).map(|(free, _)| free);
        if let Some(free) = free().filter(|free| *free < bytes) {
            return Err(no_room(free));
        }
        let dir = tempfile::Builder::new()
            .prefix("distcache-log-")
            .tempdir_in(&parent)
            .map_err(|error| LogError::file("creation of a folder in", &parent, &error))?;
        let mut copied = 0;
        for (name, _) in files {
            let (from, to) = (source.join(&name), dir.path().join(&name));
            let step = |step| {
                copied += step;
                progress(copied);
            };
            copy_file(&from, &to, step).map_err(|error| match error.kind() {
                io::ErrorKind::StorageFull => no_room(free().unwrap_or(0)),
                _ => LogError::file("copy of", &from, &error),
            })?;
        }
        Ok(InspectionCopy { dir, source })
    }
}

/// Copies a file in steps; the copy of a read-only one can be written.
fn copy_file(from: &Path, to: &Path, mut step: impl FnMut(u64)) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    let source = File::open(from)?;
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    loop {
        let copied = io::copy(&mut (&source).take(COPY_STEP_BYTES), &mut copy)?;
        if copied == 0 {
            return Ok(());
        }
        step(copied);
    }
}

impl InspectionCopy {
    /// Copies a data directory into the system's directory for temporary files.
    ///
    /// sled has no read-only mode: opening a store changes its files. So whoever only wants to
    /// look works on a copy, which needs as much space as the directory. The source is opened for
    /// reading only. `progress` hears of bytes copied and bytes in all.
    ///
    /// # Errors
    ///
    /// As [`CopyPlan::of_all`] and [`CopyPlan::copy`].
    pub fn new(dir: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Self, LogError> {
        let plan = CopyPlan::of_all(dir, &std::env::temp_dir())?;
        let total = plan.bytes();
        plan.copy(|copied| progress(copied, total))
    }

    /// Returns the directory that was copied.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Returns where the copy is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Refuses directories in which nothing looks like a log.
pub(crate) fn check_is_data_directory(dir: &Path) -> Result<(), LogError> {
    let reason = if !dir.is_dir() {
        "there is no such directory"
    } else if !dir.join(LOG).is_dir() && !dir.join(FORMAT).exists() {
        "it has neither a log nor a FORMAT file"
    } else {
        return Ok(());
    };
    Err(LogError::NotALog { dir: dir.to_owned(), reason: reason.to_owned() })
}

/// Locks a directory against nodes without writing to it; a missing lock file is no obstacle.
pub(crate) fn lock_for_reading(dir: &Path) -> Result<Option<File>, LogError> {
    let path = dir.join(LOCK);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LogError::file("open of", path, &error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(LogError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(LogError::file("lock of", path, &error)),
    }
}

/// Lists the files of a data directory that make up the log, relative to it, with their lengths.
pub(crate) fn list_files(dir: &Path) -> Result<Vec<(PathBuf, u64)>, LogError> {
    let mut files = Vec::new();
    for name in [FORMAT, MARK, GENERATIONS] {
        if let Ok(metadata) = fs::metadata(dir.join(name)) {
            files.push((PathBuf::from(name), metadata.len()));
        }
    }
    list_folder(dir, PathBuf::from(LOG), &mut files)?;
    Ok(files)
}

/// Lists the files of a folder of a data directory and of those in it.
fn list_folder(
    dir: &Path,
    folder: PathBuf,
    files: &mut Vec<(PathBuf, u64)>,
) -> Result<(), LogError> {
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        let path = dir.join(&folder);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(LogError::file("read of", path, &error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| LogError::file("read of", &path, &error))?;
            let name = folder.join(entry.file_name());
            let metadata =
                entry.metadata().map_err(|error| LogError::file("read of", &path, &error))?;
            if metadata.is_dir() {
                folders.push(name);
            } else if metadata.is_file() {
                files.push((name, metadata.len()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_file_is_read_back_and_nonsense_is_called_so() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDirectory::lock(dir.path(), true).unwrap();
        assert_eq!(data.format().unwrap(), Format::Missing);
        data.write_format().unwrap();
        assert_eq!(data.format().unwrap(), Format::Version(FORMAT_VERSION.into()));
        fs::write(dir.path().join(FORMAT), "distcache data directory, format \0").unwrap();
        assert_eq!(data.format().unwrap(), Format::Unreadable);
    }

    #[test]
    fn the_second_opener_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let _first = DataDirectory::lock(dir.path(), true).unwrap();
        let error = DataDirectory::lock(dir.path(), true).unwrap_err();
        assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
        assert!(matches!(lock_for_reading(dir.path()), Err(LogError::InUse { .. })));
    }
}
