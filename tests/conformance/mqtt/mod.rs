//! One file per section of the specifications; `page.rs` checks that no statement is without a test.
//!
//! A test is named after its statement: `mqtt5_3_1_0_2_…` shows MQTT-3.1.0-2 of MQTT 5.0, `mqtt3_…` that of 3.1.1.
//! All tests speak to one gateway at the same time, so each has clients and topics of its own. That nothing
//! comes is never told by waiting: a marker is published behind it, and nothing but the marker has come.

/// Makes a test of each line: its name, which names the statement, and what it runs.
macro_rules! statements {
    ($($name:ident => $body:ident($($argument:expr),*);)*) => {
        $(
            #[test]
            fn $name() {
                $body($($argument),*);
            }
        )*
    };
}

mod client;
mod packets;
mod page;
mod server;

mod auth;
mod connack;
mod connect;
mod control;
mod errors;
mod flow;
mod foreign;
mod hostile;
mod publish;
mod qos;
mod retained;
mod session;
mod shared;
mod subscribe;
mod topics;
mod unsubscribe;
mod unusual;
mod websocket;
mod will;
