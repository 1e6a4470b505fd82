//! The writer's thread over simulated storage, and the data directory on a real file system.
#![allow(non_snake_case, reason = "the case ids are part of the names")]

mod directory;
mod writer;
