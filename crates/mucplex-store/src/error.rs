//! What can go wrong, for those who have to do something about it.

use std::{io, path::PathBuf};

/// Why a store was not opened. Nothing has been changed in the file; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file or its directory cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was asked for.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process, or another store of this one, has it.
    #[error("{}: in use by another process; a store has one user at a time", path.display())]
    Held {
        /// The store.
        path: PathBuf,
    },
    /// The file is something else.
    #[error(
        "{}: not a store of mucplex, and left as it is; name another file, or move this one away",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A later version wrote the file.
    #[error(
        "{}: written by a later version of mucplex (format {found}, this one knows {known}); \
         run that version, or move the file away with its -wal to start with nothing kept",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The last format known here.
        known: u32,
    },
    /// The file is damaged.
    #[error(
        "{}: damaged ({what}); put a copy back, or move the file away with its -wal to start with \
         nothing kept",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The first thing found.
        what: String,
    },
    /// SQLite cannot work with the file, which is not damaged: no space, no permission.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

/// Why what is stored could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// SQLite cannot read it.
    #[error("the store cannot be read: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// What was read is not what was written.
    #[error("the store holds what was never put into it: {0}")]
    Damaged(String),
}

/// The store has ended with changes that are not stored.
#[derive(Debug, thiserror::Error)]
#[error("{waiting_batches} batches of changes are not stored{}", reason.as_deref().unwrap_or(""))]
pub struct CloseError {
    /// How many; what hangs on them was not dropped.
    pub waiting_batches: usize,
    /// The error that writing ends in, where there is one.
    pub reason: Option<String>,
}
