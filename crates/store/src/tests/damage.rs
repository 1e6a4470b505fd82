//! Bytes change after they were acknowledged.
