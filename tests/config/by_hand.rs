//! Wrong configurations written by hand (main.23). The folder `wrong` holds the cases: in each file they are
//! divided by `====`; a line `---- PATH` begins a file of the case, `---- found` what must be found, all of
//! it, in order, as `file:line:column `marked text` message | hint`. `tidegate.toml:` is left out.

use crate::harness::{Case, check};

#[test]
fn gateway_and_files() {
    check(&Case::all_of(include_str!("wrong/gateway.txt")));
}

#[test]
fn store_and_limits() {
    check(&Case::all_of(include_str!("wrong/store_and_limits.txt")));
}

#[test]
fn listeners() {
    check(&Case::all_of(include_str!("wrong/listeners.txt")));
}

#[test]
fn opcua_servers() {
    check(&Case::all_of(include_str!("wrong/opcua.txt")));
}

#[test]
fn principals_and_access() {
    check(&Case::all_of(include_str!("wrong/principals_and_access.txt")));
}

/// identity.3: where an issuer is, and which names it may give, is never left to chance.
#[test]
fn issuers_of_tokens() {
    check(&Case::all_of(include_str!("wrong/jwt.txt")));
}

#[test]
fn uplinks() {
    check(&Case::all_of(include_str!("wrong/uplinks.txt")));
}

/// uplink.1, uplink.28: second queues and stand-ins have names, connections and topics that fit.
#[test]
fn queues_of_uplinks() {
    check(&Case::all_of(include_str!("wrong/queues.txt")));
}

/// uplink.22: what a realm would answer by throwing the session away shows before the start.
#[test]
fn devices_of_astarte() {
    check(&Case::all_of(include_str!("wrong/astarte.txt")));
}

/// uplink.24: what a cloud would not take, or has no meaning there.
#[test]
fn uplink_24_clouds() {
    check(&Case::all_of(include_str!("wrong/clouds.txt")));
}

/// uplink.4, uplink.5: a rule that is wrong is told by its key and value.
#[test]
fn rules_of_uplinks() {
    check(&Case::all_of(include_str!("wrong/rules.txt")));
}

#[test]
fn syntax() {
    check(&Case::all_of(include_str!("wrong/syntax.txt")));
}

#[test]
fn yaml() {
    check(&Case::all_of(include_str!("wrong/yaml.txt")));
}

#[test]
fn mapping_files() {
    check(&Case::all_of(include_str!("wrong/mapping_files.txt")));
}
