//! A small file that is replaced as a whole: after a crash there is the old content or the new.
//!
//! | bytes | field (little-endian) |
//! |---|---|
//! | 8 | magic |
//! | 4 | CRC32C of the magic and of what follows this field |
//! | 8 | bytes of the content |
//! | | content |

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::limits::SEALED_FILE_BYTES_MAX;

const HEADER_BYTES: usize = 20;

/// Why a sealed file could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedFileError {
    /// What is there is not what was written.
    #[error("{path} is damaged: {reason}; put a copy of it back")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Reading or writing failed; what the file held before still stands.
    #[error("{action} {path} failed: {reason}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
}

/// The file, by its name.
#[derive(Clone, Debug)]
pub struct SealedFile {
    path: PathBuf,
    magic: [u8; 8],
}

impl SealedFile {
    /// Names a file; nothing is read or written. `magic` says what kind of content it has.
    pub fn new(path: PathBuf, magic: [u8; 8]) -> Self {
        Self { path, magic }
    }

    /// Reads the content; `None` if the file was never written.
    ///
    /// # Errors
    ///
    /// When reading fails, and on damage.
    pub fn read(&self) -> Result<Option<Vec<u8>>, SealedFileError> {
        let len = match fs::metadata(&self.path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("read of", &error)),
        };
        if len > (SEALED_FILE_BYTES_MAX + HEADER_BYTES) as u64 {
            return Err(self.damaged(format!("it has {len} bytes")));
        }
        let bytes = fs::read(&self.path).map_err(|error| self.failed("read of", &error))?;
        let Some((header, content)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Err(self.damaged(format!("it has {len} bytes")));
        };
        if header != self.header(content) {
            return Err(self.damaged("it does not match its checksum".to_owned()));
        }
        Ok(Some(content.to_vec()))
    }

    /// Replaces the content. It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// When writing fails, or the content is longer than [`SEALED_FILE_BYTES_MAX`].
    pub fn write(&self, content: &[u8]) -> Result<(), SealedFileError> {
        let write = || -> io::Result<()> {
            if content.len() > SEALED_FILE_BYTES_MAX {
                return Err(io::Error::other(format!("{} bytes are too many", content.len())));
            }
            let new = self.path.with_extension("new");
            let mut file = File::create(&new)?;
            file.write_all(&self.header(content))?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| self.failed("write of", &error))
    }

    fn header(&self, content: &[u8]) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&self.magic);
        header[12..].copy_from_slice(&(content.len() as u64).to_le_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&self.magic), &header[12..]);
        header[8..12].copy_from_slice(&crc32c::crc32c_append(sum, content).to_le_bytes());
        header
    }

    fn damaged(&self, reason: String) -> SealedFileError {
        SealedFileError::Damaged { path: self.path.clone(), reason }
    }

    fn failed(&self, action: &'static str, error: &io::Error) -> SealedFileError {
        let reason = error.to_string().to_lowercase();
        SealedFileError::Failed { action, path: self.path.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_back_and_every_damaged_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = SealedFile::new(dir.path().join("file"), *b"\x8fDCTEST\n");
        assert_eq!(file.read().unwrap(), None);
        file.write(b"old content").unwrap();
        file.write(b"new").unwrap();
        assert_eq!(file.read().unwrap().unwrap(), b"new");
        let intact = fs::read(&file.path).unwrap();
        for at in 0..intact.len() {
            let mut bytes = intact.clone();
            bytes[at] ^= 1;
            fs::write(&file.path, &bytes).unwrap();
            assert!(matches!(file.read(), Err(SealedFileError::Damaged { .. })), "byte {at}");
            fs::write(&file.path, &intact[..at]).unwrap();
            assert!(matches!(file.read(), Err(SealedFileError::Damaged { .. })), "length {at}");
        }
    }

    #[test]
    fn what_a_crash_left_of_a_new_content_is_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let file = SealedFile::new(dir.path().join("file"), *b"\x8fDCTEST\n");
        file.write(b"old").unwrap();
        fs::write(dir.path().join("file.new"), b"half").unwrap();
        assert_eq!(file.read().unwrap().unwrap(), b"old");
        assert!(file.write(&vec![0; SEALED_FILE_BYTES_MAX + 1]).is_err());
        assert_eq!(file.read().unwrap().unwrap(), b"old");
    }
}
