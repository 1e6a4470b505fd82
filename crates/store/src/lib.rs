//! The journal: segments, commit records, cursors and recovery over a file-system trait.
