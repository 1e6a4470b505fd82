//! What entries give, and that indexes change nothing of it.

use std::sync::Arc;

use tidegate_model::{ClientId, Principal, Topic, TopicFilter};

use super::*;

type Entry<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

fn rules(entries: &[Entry<'_>]) -> AccessRules {
    let filters =
        |texts: &[&str]| texts.iter().map(|text| AccessFilter::parse(text).unwrap()).collect();
    AccessRules::new(
        entries
            .iter()
            .map(|(principal, publish, subscribe, command)| AccessEntry {
                principal: Glob::new(principal),
                publish: filters(publish),
                subscribe: filters(subscribe),
                command: filters(command),
                manage: None,
            })
            .collect(),
    )
}

fn rights(rules: &AccessRules, principal: &str) -> Arc<Rights> {
    rules.rights(&Principal::new(principal).unwrap(), Some(&ClientId::new("c1").unwrap()))
}

/// main.8: what `docs/config.md` says about `anonymous` and named principals.
#[test]
fn anonymous_may_all_until_the_first_entry() {
    let none = AccessRules::default();
    let topic = |text| Topic::new(text).unwrap();
    assert!(rights(&none, "anonymous").may_publish(&topic("a/b")));
    assert!(rights(&none, "anonymous").may_publish(&topic("a/b/set")));
    assert!(!rights(&none, "anonymous").may_publish(&topic("$SYS/x")));
    assert!(!rights(&none, "press-7").may_publish(&topic("a/b")));
    let some = rules(&[("press-*", &["hall1/{principal}/#"], &[], &[])]);
    assert!(!rights(&some, "anonymous").may_publish(&topic("a/b")));
}

#[test]
fn placeholders_stand_for_one_name_and_nothing_else() {
    let rules = rules(&[
        ("press-*", &["hall1/{principal}/#", "by/{client-id}"], &["hall1/{principal}/+/set"], &[]),
        ("operators", &[], &["hall1/#"], &["hall1/+/setpoint"]),
    ]);
    let topic = |text| Topic::new(text).unwrap();
    let filter = |text| TopicFilter::new(text).unwrap();
    let press = rights(&rules, "press-7");
    assert!(press.may_publish(&topic("hall1/press-7/temperature")));
    assert!(press.may_publish(&topic("by/c1")));
    assert!(!press.may_publish(&topic("hall1/press-8/temperature")));
    assert!(
        !press.may_publish(&topic("hall1/press-7/setpoint/set")),
        "commands take their own right"
    );
    assert!(press.may_subscribe(&filter("hall1/press-7/+/set")));
    assert!(!press.may_subscribe(&filter("hall1/+/+/set")));
    let tricky = rights(&rules, "press-+");
    assert!(!tricky.may_publish(&topic("hall1/press-7/temperature")));
    let operator = rights(&rules, "operators");
    assert!(operator.may_publish(&topic("hall1/press-7/setpoint/set")));
    assert!(!operator.may_publish(&topic("hall1/press-7/setpoint")));
    assert!(operator.may_subscribe(&filter("hall1/#")) && !operator.may_subscribe(&filter("#")));
}

#[test]
fn wrong_filters_are_refused() {
    assert!(matches!(AccessFilter::parse("a/{name}"), Err(AccessFilterError::Placeholder { .. })));
    assert!(matches!(AccessFilter::parse("a/#/b"), Err(AccessFilterError::Filter(_))));
}

/// identity.4: names with braces, which a client could choose, stand for nothing.
#[test]
fn a_name_with_braces_brings_in_no_other_name() {
    let rules = rules(&[("*", &["hall1/{principal}/#"], &[], &[])]);
    let principal = Principal::new("{client-id}").unwrap();
    let client = ClientId::new("press-7").unwrap();
    let rights = rules.rights(&principal, Some(&client));
    assert!(!rights.may_publish(&Topic::new("hall1/press-7/x").unwrap()));
}

/// identity.4: what is remembered for a principal is the same for each of its clients, unless entries name the client.
#[test]
fn rights_are_shared_where_they_are_the_same() {
    let rules = rules(&[
        ("press-7", &["hall1/{principal}/#"], &[], &[]),
        ("press-8", &["by/{client-id}/#"], &[], &[]),
    ]);
    let of = |principal: &str, client: &str| {
        let client = ClientId::new(client).unwrap();
        rules.rights(&Principal::new(principal).unwrap(), Some(&client))
    };
    assert!(Arc::ptr_eq(&of("press-7", "a"), &of("press-7", "b")));
    let topic = |text| Topic::new(text).unwrap();
    assert!(of("press-8", "a").may_publish(&topic("by/a/x")));
    assert!(!of("press-8", "b").may_publish(&topic("by/a/x")));
    assert!(of("press-8", "b").may_publish(&topic("by/b/x")));
    let without = rules.rights(&Principal::new("press-8").unwrap(), None);
    assert!(!without.may_publish(&topic("by/b/x")));
}

/// identity.4: with more entries than are tried one by one, each still gives what it says and no more.
#[test]
fn many_entries_give_what_each_says() {
    let entry = |number: usize| AccessEntry {
        principal: Glob::new(if number.is_multiple_of(2) { "press-7" } else { "press-?" }),
        publish: vec![AccessFilter::parse(&format!("hall1/{number}/+")).unwrap()],
        subscribe: vec![AccessFilter::parse(&format!("hall2/{number}/#")).unwrap()],
        command: Vec::new(),
        manage: None,
    };
    let rules = AccessRules::new((0..1_000).map(entry).collect());
    let (seven, eight) = (rights(&rules, "press-7"), rights(&rules, "press-8"));
    for number in [0, 1, 499, 998, 999] {
        let topic = Topic::new(&format!("hall1/{number}/x")).unwrap();
        assert!(seven.may_publish(&topic));
        assert_eq!(eight.may_publish(&topic), number % 2 == 1);
        let filter = TopicFilter::new(&format!("hall2/{number}/+/y")).unwrap();
        assert!(seven.may_subscribe(&filter));
        assert_eq!(eight.may_subscribe(&filter), number % 2 == 1);
    }
    assert!(!seven.may_publish(&Topic::new("hall1/1000/x").unwrap()));
    assert!(!seven.may_subscribe(&TopicFilter::new("hall2/#").unwrap()));
}

/// identity.5: only an entry gives a right over the gateway, the highest one counts, and `anonymous` has none.
#[test]
fn management_is_given_and_never_anonymous() {
    let entry = |principal: &str, manage| AccessEntry {
        principal: Glob::new(principal),
        publish: Vec::new(),
        subscribe: Vec::new(),
        command: Vec::new(),
        manage,
    };
    let rules = AccessRules::new(vec![
        entry("*", Some(Management::Read)),
        entry("chief", Some(Management::Write)),
        entry("chief", Some(Management::Read)),
        entry("press-7", None),
    ]);
    let may = |principal: &str, wanted| rights(&rules, principal).may_manage(wanted);
    assert!(may("chief", Management::Write) && may("chief", Management::Read));
    assert!(may("press-7", Management::Read) && !may("press-7", Management::Write));
    assert!(!may("anonymous", Management::Read));
    let none = AccessRules::default();
    assert!(!rights(&none, "chief").may_manage(Management::Read));
    assert!(!rights(&none, "anonymous").may_manage(Management::Read));
}
