//! Owns the two ways out of a policy text: variables and files. Refuses to know what they are for.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest file that a policy may refer to, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What a policy may ask of its surroundings; passed in so that loading stays pure.
pub trait Environment {
    /// Gives an environment variable's value, if it is set and is UTF-8.
    fn var(&self, name: &str) -> Option<String>;
    /// Reads a whole file of at most 1 MiB.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The real process: its environment variables and its file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Environment for Process {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
        }
        Ok(bytes)
    }
}

/// Variables and files held in memory, for tests and for trying a policy out.
#[derive(Debug, Clone, Default)]
pub struct Fixed {
    /// The variables by name.
    pub vars: HashMap<String, String>,
    /// The files by path, as the policy's folder and reference join to.
    pub files: HashMap<PathBuf, Vec<u8>>,
}

impl Environment for Fixed {
    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).cloned()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
