//! Calling methods, with arguments in the types that the method says (OPC 10000-4, section 5.12.2).

use std::{collections::HashMap, sync::Arc, time::Duration};

use opcua::{
    client::{
        Session, UARequest as _,
        services::{Browse, Call},
    },
    types::{
        Argument, BrowseDescription, BrowseDirection, BrowseResultMaskFlags, CallMethodRequest,
        CallMethodResult, NodeId, ReferenceTypeId, StatusCode, Variant,
    },
};
use tidegate_model::{AdapterName, CommandOutcome, Document, NodeAddress, OutcomeKind, Value};

use crate::{
    command::outcome,
    services::{self, ServiceError},
    shared::Shared,
    structures,
    value::{self, BuiltIn, NodeType, Rank, Reader},
};

/// Methods whose arguments are remembered.
const METHODS_MAX: usize = 1_000;
/// Arguments of one method.
const ARGUMENTS_MAX: usize = 100;

/// One argument that a method takes.
#[derive(Clone, Debug, PartialEq)]
struct Input {
    name: String,
    /// Its type; `None` takes values of any.
    node_type: Option<NodeType>,
}

/// Calls methods over one connection.
pub(crate) struct Calls<'a> {
    name: &'a AdapterName,
    session: &'a Arc<Session>,
    shared: &'a Shared,
    inputs: HashMap<NodeAddress, Arc<[Input]>>,
}

/// A method of an object.
pub(crate) struct Method {
    pub(crate) object: NodeId,
    pub(crate) method: NodeId,
    pub(crate) address: NodeAddress,
}

impl<'a> Calls<'a> {
    pub(crate) fn new(
        name: &'a AdapterName,
        session: &'a Arc<Session>,
        shared: &'a Shared,
    ) -> Self {
        Self { name, session, shared, inputs: HashMap::new() }
    }

    /// Returns the arguments as the method takes them. Both variants of an error are outcomes.
    pub(crate) async fn arguments(
        &mut self,
        method: &Method,
        given: &Value,
    ) -> Result<Vec<Variant>, CommandOutcome> {
        let inputs = self.inputs(method).await?;
        arguments(&inputs, given).map_err(CommandOutcome::refused)
    }

    /// Calls the method and waits for its end.
    pub(crate) async fn call(
        &mut self,
        method: &Method,
        arguments: Vec<Variant>,
        patience: Duration,
    ) -> Result<CommandOutcome, ServiceError> {
        let request = CallMethodRequest {
            object_id: method.object.clone(),
            method_id: method.method.clone(),
            input_arguments: Some(arguments),
        };
        let response = Call::new(self.session)
            .method(request)
            .timeout(patience)
            .send(self.session.channel())
            .await?;
        let result = response.results.into_iter().flatten().next();
        let result = result.ok_or(ServiceError(StatusCode::BadUnknownResponse))?;
        if result.status_code.is_bad() {
            // Its arguments may have changed.
            let inputs = self.inputs.remove(&method.address);
            return Ok(refused(&result, inputs.as_deref().unwrap_or_default()));
        }
        let values = result.output_arguments.unwrap_or_default();
        structures::learn(
            self.name,
            self.session,
            self.shared,
            values.iter().map(|value| (value, None)),
        )
        .await;
        Ok(self.confirmed(result.status_code, values))
    }

    fn confirmed(&self, status: StatusCode, values: Vec<Variant>) -> CommandOutcome {
        let namespaces = self.shared.namespaces();
        let structures = self.shared.structures();
        let reader = Reader { namespaces: &namespaces, structures: &structures };
        let mut reason = None;
        let output = values.into_iter().enumerate().map(|(index, variant)| {
            value::value(variant, reader).unwrap_or_else(|error| {
                reason = Some(format!("output value {} cannot be told: {error}", index + 1));
                Value::Null
            })
        });
        let output = Value::Array(output.collect());
        CommandOutcome { value: Some(output), reason, ..outcome(status) }
    }

    /// Returns the arguments of a method; asked once for each method and connection.
    async fn inputs(&mut self, method: &Method) -> Result<Arc<[Input]>, CommandOutcome> {
        if let Some(known) = self.inputs.get(&method.address) {
            return Ok(Arc::clone(known));
        }
        let asked = self.ask_inputs(&method.method).await.map_err(|error| outcome(error.0))?;
        let inputs: Arc<[Input]> = asked.map_err(CommandOutcome::refused)?.into();
        if self.inputs.len() >= METHODS_MAX {
            self.inputs.clear();
        }
        self.inputs.insert(method.address.clone(), Arc::clone(&inputs));
        Ok(inputs)
    }

    async fn ask_inputs(
        &self,
        method: &NodeId,
    ) -> Result<Result<Vec<Input>, String>, ServiceError> {
        let Some(property) = self.input_arguments(method).await? else {
            // A method without the property takes no arguments (OPC 10000-3, section 5.7).
            return Ok(Ok(Vec::new()));
        };
        let values = services::read(self.session, vec![services::value_of(property)]).await?;
        let arguments = match values.into_iter().next().and_then(|data| data.value) {
            Some(Variant::Array(array)) => array.values,
            None | Some(Variant::Empty) => Vec::new(),
            Some(_) => return Ok(Err("the server does not say what the method takes".into())),
        };
        if arguments.len() > ARGUMENTS_MAX {
            return Ok(Err(format!("the method takes more than {ARGUMENTS_MAX} arguments")));
        }
        let mut inputs = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let Variant::ExtensionObject(argument) = argument else {
                return Ok(Err("the server does not say what the method takes".into()));
            };
            match argument.into_inner_as::<Argument>() {
                Some(argument) => match self.input(&argument).await? {
                    Ok(input) => inputs.push(input),
                    Err(reason) => return Ok(Err(reason)),
                },
                None => return Ok(Err("the server does not say what the method takes".into())),
            }
        }
        Ok(Ok(inputs))
    }

    async fn input(&self, argument: &Argument) -> Result<Result<Input, String>, ServiceError> {
        /// BaseDataType, Number, Integer, UInteger: any type below them.
        fn kind(data_type: &NodeId) -> Option<Option<BuiltIn>> {
            let number = data_type.as_u32().filter(|_| data_type.namespace == 0);
            match number {
                Some(24 | 26..=28) => Some(None),
                _ => BuiltIn::of_data_type(data_type).map(Some),
            }
        }
        let namespaces = self.shared.namespaces();
        let name = argument.name.as_ref().to_owned();
        let kind = services::ancestor(self.session, &namespaces, &argument.data_type, kind).await?;
        let Some(built_in) = kind else {
            let data_type = namespaces.text(&argument.data_type);
            return Ok(Err(format!(
                "the argument `{name}` is of the data type {data_type}, which cannot be given"
            )));
        };
        let rank = Rank::of_value_rank(argument.value_rank);
        Ok(Ok(Input { name, node_type: built_in.map(|built_in| NodeType { built_in, rank }) }))
    }

    /// Finds the property that lists what a method takes.
    async fn input_arguments(&self, method: &NodeId) -> Result<Option<NodeId>, ServiceError> {
        let description = BrowseDescription {
            node_id: method.clone(),
            browse_direction: BrowseDirection::Forward,
            reference_type_id: ReferenceTypeId::HasProperty.into(),
            include_subtypes: true,
            node_class_mask: 0,
            result_mask: BrowseResultMaskFlags::BrowseName.bits(),
        };
        let browsed =
            Browse::new(self.session).browse_node(description).send(self.session.channel()).await?;
        let result = browsed.results.into_iter().flatten().next();
        let result = result.ok_or(ServiceError(StatusCode::BadUnknownResponse))?;
        if result.status_code.is_bad() {
            return Err(ServiceError(result.status_code));
        }
        let is_it = |name: &opcua::types::QualifiedName| {
            name.namespace_index == 0 && name.name.as_ref() == "InputArguments"
        };
        let mut references = result.references.into_iter().flatten();
        let found = references.find(|reference| is_it(&reference.browse_name));
        Ok(found.and_then(|reference| self.shared.namespaces().local(reference.node_id)))
    }
}

/// Puts what was given, by place or by name, into the types of the arguments.
fn arguments(inputs: &[Input], given: &Value) -> Result<Vec<Variant>, String> {
    let given: Vec<&Value> = match given {
        Value::Null => Vec::new(),
        Value::Array(values) => values.iter().collect(),
        Value::Document(document) => by_name(inputs, document)?,
        one => vec![one],
    };
    if given.len() != inputs.len() {
        return Err(format!("the method takes {}, {} given", expected(inputs), given.len()));
    }
    let converted = inputs.iter().zip(given).map(|(input, value)| {
        let variant = match input.node_type {
            Some(node_type) => value::variant(value, node_type).map_err(|error| error.to_string()),
            None => value::natural(value).ok_or_else(|| "no such value can be given".to_owned()),
        };
        variant.map_err(|reason| format!("argument `{}`: {reason}", input.name))
    });
    converted.collect()
}

fn by_name<'v>(inputs: &[Input], given: &'v Document) -> Result<Vec<&'v Value>, String> {
    let known = |name: &str| inputs.iter().any(|input| input.name == name);
    if let Some((name, _)) = given.iter().find(|(name, _)| !known(name)) {
        return Err(format!(
            "there is no argument `{name}`: the method takes {}",
            expected(inputs)
        ));
    }
    let value = |input: &Input| {
        given.get(&input.name).ok_or_else(|| format!("the argument `{}` is missing", input.name))
    };
    inputs.iter().map(value).collect()
}

fn expected(inputs: &[Input]) -> String {
    if inputs.is_empty() {
        return "no arguments".into();
    }
    let names: Vec<_> = inputs.iter().map(|input| format!("`{}`", input.name)).collect();
    format!("{} arguments ({})", inputs.len(), names.join(", "))
}

/// Says why a method was not carried out, and which argument the server did not like.
fn refused(result: &CallMethodResult, inputs: &[Input]) -> CommandOutcome {
    let mut refusal = outcome(result.status_code);
    let results = result.input_argument_results.iter().flatten();
    let wrong = results.enumerate().find(|(_, status)| status.is_bad());
    if let Some((index, status)) = wrong {
        let name = inputs.get(index).map_or("?", |input| &input.name);
        refusal.reason =
            Some(format!("the server answered {}: argument `{name}` {status}", result.status_code));
    }
    debug_assert_eq!(refusal.kind, OutcomeKind::Refused);
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> Vec<Input> {
        let of = |name: &str, built_in, rank| Input {
            name: name.into(),
            node_type: Some(NodeType { built_in, rank }),
        };
        vec![
            of("Speed", BuiltIn::UInt16, Rank::Scalar),
            of("Names", BuiltIn::String, Rank::Array),
            Input { name: "Any".into(), node_type: None },
        ]
    }

    fn array(values: &[Value]) -> Value {
        Value::Array(values.into())
    }

    fn object(members: &[(&str, Value)]) -> Value {
        let members = members.iter().map(|(name, value)| ((*name).into(), value.clone()));
        Value::Document(Document::new(members.collect()).unwrap().into())
    }

    #[test]
    fn main_14_arguments_are_given_by_place_or_by_name() {
        let names = array(&[Value::string("a")]);
        let expected =
            vec![Variant::from(7_u16), Variant::from(vec!["a".to_owned()]), Variant::from(true)];
        let by_place = array(&[Value::Integer(7), names.clone(), Value::Boolean(true)]);
        let by_name = object(&[
            ("Names", names),
            ("Any", Value::Boolean(true)),
            ("Speed", Value::Double(7.0)),
        ]);
        for given in [by_place, by_name] {
            assert_eq!(arguments(&inputs(), &given).unwrap(), expected, "{given}");
        }
        assert_eq!(arguments(&[], &Value::Null).unwrap(), []);
        assert_eq!(arguments(&inputs()[..1], &Value::Integer(7)).unwrap(), [7_u16.into()]);
    }

    #[test]
    fn main_14_what_does_not_fit_is_refused_by_name() {
        let names = array(&[]);
        #[rustfmt::skip]
        let cases = [
            (array(&[Value::Integer(7)]),   "takes 3 arguments (`Speed`, `Names`, `Any`), 1 given"),
            (Value::Null,                   "0 given"),
            (array(&[Value::Integer(-1), names.clone(), Value::Null]), "argument `Speed`: -1 does not fit"),
            (array(&[Value::Integer(1), Value::string("a"), Value::Null]), "argument `Names`: the node takes an array"),
            (object(&[("Spede", Value::Integer(1))]),  "no argument `Spede`"),
            (object(&[("Speed", Value::Integer(1)), ("Any", Value::Null)]), "`Names` is missing"),
        ];
        for (given, part) in cases {
            let reason = arguments(&inputs(), &given).unwrap_err();
            assert!(reason.contains(part), "{reason}");
        }
        assert!(arguments(&[], &Value::Integer(1)).unwrap_err().contains("no arguments, 1 given"));
    }

    #[test]
    fn main_14_the_server_names_the_argument_it_refuses() {
        let result = CallMethodResult {
            status_code: StatusCode::BadInvalidArgument,
            input_argument_results: Some(vec![StatusCode::Good, StatusCode::BadOutOfRange]),
            ..Default::default()
        };
        let refusal = refused(&result, &inputs());
        assert_eq!(refusal.kind, OutcomeKind::Refused);
        let reason = refusal.reason.unwrap();
        assert!(reason.contains("BadInvalidArgument"), "{reason}");
        assert!(reason.contains("`Names` BadOutOfRange"), "{reason}");
    }
}
