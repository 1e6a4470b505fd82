//! The examples of `docs/mappings.md` are true.

use tidegate_mapping::expression::{Expression, Inputs, ResultKind, Scope, Subject};
use tidegate_mapping::{Environment, MappingSet};
use tidegate_model::{AdapterName, Captures, Status, Timestamp, json};
use tidegate_settings::{Format, Issues, Sources, parse};

const PAGE: &str = include_str!("../../../docs/mappings.md");

#[test]
fn the_files_shown_are_accepted() {
    let blocks: Vec<&str> = PAGE.split("```toml\n").skip(1).collect();
    assert!(blocks.len() >= 4, "the page shows files");
    for block in blocks {
        let text = block.split("```").next().unwrap_or_default();
        let mut sources = Sources::default();
        let file = sources.add("mappings.md", text);
        let mut issues = Issues::default();
        let tree = parse(file, Format::Toml, text, &mut issues);
        let opcua_servers = vec![AdapterName::new("plc7").unwrap()];
        let environment = Environment { opcua_servers, generation: 1 };
        let set = MappingSet::compile(tree.as_slice(), &environment, &mut issues);
        let problems: Vec<&str> = issues.iter().map(|issue| issue.message.as_str()).collect();
        assert!(problems.is_empty() && set.is_some(), "{text}\n{problems:?}");
    }
}

#[test]
fn the_formulas_shown_give_the_results_shown() {
    let rows: Vec<[&str; 3]> = PAGE
        .split("| formula | value | result |")
        .nth(1)
        .expect("the page has a table of formulas")
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = line.split('`').skip(1).step_by(2);
            std::array::from_fn(|_| cells.next().expect("a row has three cells"))
        })
        .collect();
    assert!(rows.len() >= 20, "the table has a row for each function");
    for [formula, value, expected] in rows {
        let scope = Scope { captures: &[], payload: None, subject: Subject::Reading };
        let expression = Expression::parse(formula, scope, ResultKind::Value)
            .unwrap_or_else(|faults| panic!("{formula}: {faults:?}"));
        let value = json::parse_value(value.as_bytes()).expect("a cell is JSON");
        let result = expression.evaluate(&Inputs {
            value: &value,
            time: Timestamp::from_unix_millis(0),
            status: Status::GOOD,
            captures: &Captures::none(),
            unit: None,
            topic: None,
        });
        assert_eq!(result.map(|it| it.to_string()).as_deref(), Ok(expected), "{formula}");
    }
}
