//! Tests of the whole journal over simulated storage, named after the cases of the fault catalogue.
#![allow(non_snake_case, reason = "the case ids are part of the names")]

mod damage;
mod faults;
mod harness;
mod power_cuts;
mod reading;

pub(crate) use self::power_cuts::seeds;
