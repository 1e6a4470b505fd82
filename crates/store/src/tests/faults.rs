//! Writes and syncs fail, and the disk fills up.
