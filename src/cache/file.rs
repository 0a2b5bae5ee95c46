//! Owns the file that carries entries over a restart.
//! Refuses to know what is in an entry. The file is replaced whole or not at all, and is believed whole or not at all.
//!
//! It holds what was asked and answered in the clear, so only its owner may read it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::codec::{EntryPart, decode, encode};
use super::entry::CacheEntry;

/// What the file begins with; its last digit is the version of the layout.
const MAGIC: &[u8; 12] = b"signalbox-c1";

/// The bytes of the checksum at the end.
const CHECKSUM: usize = 8;

/// A file of entries cannot be believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// The operating system does not give it.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It is longer than the cache may be.
    #[error("it is longer than the cache may be")]
    TooLong,
    /// It was made by another version.
    #[error("it is of another version")]
    Version,
    /// It was cut or changed.
    #[error("it is damaged")]
    Damaged,
}

/// Writes entries beside the file, then moves them to its place.
pub(super) fn write(path: &Path, entries: &[Arc<CacheEntry>]) -> io::Result<()> {
    let beside = beside(path);
    let written = fill(&beside, entries).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What is left of a failed attempt is of no use; that it may stay is no second failure.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Reads the entries of a file that is at most so long; none where there is no file.
pub(super) fn read(path: &Path, max_bytes: usize) -> Result<Vec<CacheEntry>, FileError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    // Lengths are written beside what counts as an entry's weight, and an entry's overhead is more than those.
    let most = max_bytes.saturating_add(MAGIC.len() + CHECKSUM) as u64;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(FileError::TooLong);
    }
    let rest = bytes.strip_prefix(MAGIC).ok_or(FileError::Version)?;
    let (body, checksum) = rest.split_last_chunk::<CHECKSUM>().ok_or(FileError::Damaged)?;
    if hash(body) != u64::from_le_bytes(*checksum) {
        return Err(FileError::Damaged);
    }
    pieces(body).ok_or(FileError::Damaged)
}

fn pieces(mut body: &[u8]) -> Option<Vec<CacheEntry>> {
    let mut entries = Vec::new();
    while !body.is_empty() {
        let (length, rest) = body.split_first_chunk::<4>()?;
        let (piece, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        entries.push(decode(piece)?);
        body = rest;
    }
    Some(entries)
}

fn fill(path: &Path, entries: &[Arc<CacheEntry>]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = BufWriter::new(options.open(path)?);
    let mut hash = Xxh3::new();
    let mut piece = Vec::new();
    out.write_all(MAGIC)?;
    for entry in entries {
        piece.clear();
        encode(entry, EntryPart::Whole, &mut piece);
        let length = u32::try_from(piece.len()).map_err(io::Error::other)?.to_le_bytes();
        for bytes in [&length[..], &piece] {
            hash.update(bytes);
            out.write_all(bytes)?;
        }
    }
    out.write_all(&hash.digest().to_le_bytes())?;
    out.into_inner()?.sync_all()
}

fn hash(body: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(body);
    hash.digest()
}

/// Names the file that is written first, in the same folder, so that it can be moved.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}
