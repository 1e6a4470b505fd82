//! What tests of the real binary share: processes that end with the test, peers, a broker, waiting.
//!
//! Every test has its own folder, ports and processes, so all may run side by side. Nothing here sleeps to
//! let things happen: [`wait::until`] polls for what is expected and panics with its name when it does not come.

pub(crate) mod authority;
pub(crate) mod canary;
pub(crate) mod capture;
pub(crate) mod chaos;
pub(crate) mod crowd;
pub(crate) mod disk;
pub(crate) mod gateway;
pub(crate) mod group;
pub(crate) mod journal;
pub(crate) mod load;
pub(crate) mod mosquitto;
pub(crate) mod peer;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod rabbitmq;
pub(crate) mod rules;
pub(crate) mod site;
pub(crate) mod trace;
pub(crate) mod wait;
pub(crate) mod wall_clock;
pub(crate) mod wire;
