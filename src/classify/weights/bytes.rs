//! The bytes of a file of weights, in this binary or on disk, read in pieces.
//!
//! Knows nothing of what is in them.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Files are read in pieces of so many bytes, so that no tensor is in memory twice, as bytes and as numbers.
pub(super) const PIECE: usize = 1 << 20;

pub(super) enum WeightBytes {
    Static(&'static [u8]),
    File(File),
}

impl WeightBytes {
    pub(super) fn len(&self) -> std::io::Result<u64> {
        match self {
            Self::Static(bytes) => Ok(bytes.len() as u64),
            Self::File(file) => Ok(file.metadata()?.len()),
        }
    }

    pub(super) fn read(&self, start: u64, into: &mut [u8]) -> std::io::Result<()> {
        match self {
            Self::Static(bytes) => {
                let bytes = bytes.get(start as usize..start as usize + into.len());
                into.copy_from_slice(bytes.ok_or(std::io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Self::File(file) => file.read_exact_at(into, start),
        }
    }

    pub(super) fn pieces(&self, start: u64, end: u64, take: &mut dyn FnMut(&[u8])) -> std::io::Result<()> {
        if let Self::Static(bytes) = self {
            take(bytes.get(start as usize..end as usize).ok_or(std::io::ErrorKind::UnexpectedEof)?);
            return Ok(());
        }
        let mut piece = vec![0; PIECE.min((end - start) as usize)];
        for at in (start..end).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min((end - at) as usize)];
            self.read(at, piece)?;
            take(piece);
        }
        Ok(())
    }
}
