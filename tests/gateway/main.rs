//! The real binary with real protocols on loopback: mosquitto, asyncua, aiocoap, libcoap, paho, curl.

#[allow(dead_code, reason = "tests take from the harness what they need")]
#[path = "../support/mod.rs"]
mod support;

mod amqp;
mod astarte;
mod aws;
mod azure;
mod backlog;
mod bridge;
mod chaos;
mod clock;
mod durability;
mod event_grid;
mod faults;
mod first_start;
mod formats;
mod harness;
mod journal;
mod kill;
mod ledger;
mod limits;
mod links;
mod logins;
mod management;
mod memory;
mod mqtt;
mod mqtt5;
mod press_hall;
mod presses;
mod push;
mod queues;
mod repeats;
mod rights;
mod scram;
mod service;
mod sessions;
mod sparkplug;
mod sums;
mod swap;
mod syscalls;
mod thingsboard;
mod tls;
