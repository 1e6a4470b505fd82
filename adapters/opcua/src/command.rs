//! Carrying out commands: writing the value of a node in its own data type, or calling a method.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use opcua::{
    client::{Session, UARequest as _, services::Write},
    types::{AttributeId, DataValue, NodeId, StatusCode, Variant, WriteValue},
};
use tidegate_adapter_api::{CommandRequest, PointSet};
use tidegate_model::{
    AdapterName, Captures, CommandKind, CommandOutcome, NodeAddress, OutcomeKind, Status, Timestamp,
};
use tokio::sync::{mpsc, watch};

use crate::{
    call::{Calls, Method},
    link::REQUEST_TIMEOUT,
    namespaces::Namespaces,
    plan::ServerPoints,
    services::{self, ServiceError},
    shared::Shared,
    value::{self, BuiltIn, NodeType, Rank},
};

/// Data types that are remembered.
const TYPES_MAX: usize = 10_000;

/// Refuses every command while there is no connection.
pub(crate) async fn refuse_all(commands: &mut mpsc::Receiver<CommandRequest>) -> Infallible {
    while let Some(request) = commands.recv().await {
        let outcome = match remaining(request.command.expires) {
            Some(_) => CommandOutcome::refused("the server is not connected"),
            None => CommandOutcome::new(OutcomeKind::Expired),
        };
        request.reply.send(outcome);
    }
    std::future::pending().await
}

/// Carries out commands over one connection.
pub(crate) struct Commands<'a> {
    name: &'a AdapterName,
    session: &'a Arc<Session>,
    shared: &'a Shared,
    types: HashMap<NodeAddress, NodeType>,
    calls: Calls<'a>,
}

/// What a command is for.
#[derive(Debug, PartialEq)]
enum Target {
    /// A node to write.
    Node(NodeAddress),
    /// A method to call.
    Method { object: NodeAddress, method: NodeAddress },
}

impl<'a> Commands<'a> {
    pub(crate) fn new(
        name: &'a AdapterName,
        session: &'a Arc<Session>,
        shared: &'a Shared,
    ) -> Self {
        Self {
            name,
            session,
            shared,
            types: HashMap::new(),
            calls: Calls::new(name, session, shared),
        }
    }

    /// Carries out commands one after the other, so that two writes to a node keep their order.
    pub(crate) async fn run(
        &mut self,
        commands: &mut mpsc::Receiver<CommandRequest>,
        points: &watch::Receiver<PointSet>,
    ) -> Infallible {
        while let Some(request) = commands.recv().await {
            let wanted = ServerPoints::new(&points.borrow(), self.name);
            let carried_out = match target(&request, &wanted) {
                Ok(Target::Node(node)) => self.write_value(&request, node).await,
                Ok(Target::Method { object, method }) => self.call(&request, &object, method).await,
                Err(refusal) => Err(refusal),
            };
            let outcome = match carried_out {
                Ok(outcome) | Err(outcome) => outcome,
            };
            request.reply.send(outcome);
        }
        std::future::pending().await
    }

    /// Both variants of the result are outcomes; an error only ends the work early.
    async fn write_value(
        &mut self,
        request: &CommandRequest,
        node: NodeAddress,
    ) -> Result<CommandOutcome, CommandOutcome> {
        let patience = patience_left(request)?;
        let namespaces = self.shared.namespaces();
        let node_id = node_id(&namespaces, &node)?;
        let typed =
            tokio::time::timeout(patience, self.node_type(&node, &node_id, &namespaces)).await;
        let node_type = typed.map_err(|_| CommandOutcome::new(OutcomeKind::Expired))??;
        let value = value::variant(&request.command.value, node_type)
            .map_err(|error| CommandOutcome::refused(error.to_string()))?;
        let patience = patience_left(request)?;
        let written = tokio::time::timeout(patience, self.write(node_id, value, patience)).await;
        let status = match written {
            Ok(Ok(status)) => status,
            Ok(Err(ServiceError(StatusCode::BadTimeout))) | Err(_) => {
                return Err(unanswered("it may have taken the value"));
            }
            Ok(Err(ServiceError(status))) => status,
        };
        if status == StatusCode::BadTypeMismatch {
            self.types.remove(&node);
        }
        Ok(outcome(status))
    }

    async fn call(
        &mut self,
        request: &CommandRequest,
        object: &NodeAddress,
        method: NodeAddress,
    ) -> Result<CommandOutcome, CommandOutcome> {
        let namespaces = self.shared.namespaces();
        let method = Method {
            object: node_id(&namespaces, object)?,
            method: node_id(&namespaces, &method)?,
            address: method,
        };
        let arguments = self.calls.arguments(&method, &request.command.value);
        let arguments = tokio::time::timeout(patience_left(request)?, arguments)
            .await
            .map_err(|_| CommandOutcome::new(OutcomeKind::Expired))??;
        let patience = patience_left(request)?;
        let called = self.calls.call(&method, arguments, patience);
        match tokio::time::timeout(patience, called).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(ServiceError(StatusCode::BadTimeout))) | Err(_) => {
                Err(unanswered("it may have carried out the method"))
            }
            Ok(Err(ServiceError(status))) => Err(outcome(status)),
        }
    }

    async fn write(
        &self,
        node: NodeId,
        value: Variant,
        patience: Duration,
    ) -> Result<StatusCode, ServiceError> {
        // Without times and status: many servers do not let clients write them.
        let value = WriteValue {
            node_id: node,
            attribute_id: AttributeId::Value as u32,
            value: DataValue { value: Some(value), ..Default::default() },
            ..Default::default()
        };
        let response = Write::new(self.session)
            .nodes_to_write(vec![value])
            .timeout(patience)
            .send(self.session.channel())
            .await?;
        let result = response.results.unwrap_or_default().into_iter().next();
        result.ok_or(ServiceError(StatusCode::BadUnknownResponse))
    }

    /// Returns what the node takes; asked once for each node and connection.
    async fn node_type(
        &mut self,
        node: &NodeAddress,
        node_id: &NodeId,
        namespaces: &Namespaces,
    ) -> Result<NodeType, CommandOutcome> {
        if let Some(known) = self.types.get(node) {
            return Ok(*known);
        }
        let attributes = [AttributeId::DataType, AttributeId::ValueRank, AttributeId::Value];
        let attributes =
            attributes.map(|attribute| services::attribute_of(node_id.clone(), attribute));
        let values = services::read(self.session, attributes.to_vec())
            .await
            .map_err(|error| outcome(error.0))?;
        let [data_type, rank, value] = values.as_slice() else {
            return Err(outcome(StatusCode::BadUnknownResponse));
        };
        let Some(Variant::NodeId(type_id)) = &data_type.value else {
            return Err(outcome(
                data_type.status.filter(StatusCode::is_bad).unwrap_or(StatusCode::BadNotWritable),
            ));
        };
        let by_value = || value.value.as_ref().and_then(BuiltIn::of_value);
        let built_in = match BuiltIn::of_data_type(type_id).or_else(by_value) {
            Some(built_in) => Some(built_in),
            None => services::ancestor(self.session, namespaces, type_id, BuiltIn::of_data_type)
                .await
                .map_err(|error| outcome(error.0))?,
        };
        let built_in = built_in.ok_or_else(|| {
            let type_id = namespaces.text(type_id);
            CommandOutcome::refused(format!("values of the data type {type_id} cannot be written"))
        })?;
        let rank = match rank.value {
            Some(Variant::Int32(rank)) => Rank::of_value_rank(rank),
            _ => Rank::Any,
        };
        let node_type = NodeType { built_in, rank };
        if self.types.len() >= TYPES_MAX {
            self.types.clear();
        }
        self.types.insert(node.clone(), node_type);
        Ok(node_type)
    }
}

/// Returns what a command is for.
fn target(request: &CommandRequest, wanted: &ServerPoints) -> Result<Target, CommandOutcome> {
    let reloaded = || CommandOutcome::refused("the mappings were loaded again meanwhile");
    if request.generation != wanted.generation() {
        return Err(reloaded());
    }
    let point = wanted.get(request.point).ok_or_else(reloaded)?;
    let node = point.node.fill(&request.captures);
    let node = node.ok_or_else(|| CommandOutcome::refused("the topic does not say which node"))?;
    match (request.command.kind, &point.method) {
        (CommandKind::Write, None) if point.writable => Ok(Target::Node(node)),
        (CommandKind::Write, _) => {
            Err(CommandOutcome::refused("the mapping does not make the node writable"))
        }
        (CommandKind::Call, Some(method)) => {
            let captures = Captures::new(method.names().iter().filter_map(|name| {
                let place = point.node.names().iter().position(|other| other == name)?;
                request.captures.get(place).map(Box::from)
            }));
            let method = method.fill(&captures);
            let method = method
                .ok_or_else(|| CommandOutcome::refused("the topic does not say which method"))?;
            Ok(Target::Method { object: node, method })
        }
        (CommandKind::Call, None) => {
            Err(CommandOutcome::refused("the mapping names no method here"))
        }
    }
}

fn node_id(namespaces: &Namespaces, node: &NodeAddress) -> Result<NodeId, CommandOutcome> {
    namespaces.node_id(node).map_err(|error| CommandOutcome::refused(error.to_string()))
}

/// Returns how long the next request of a command may take.
fn patience_left(request: &CommandRequest) -> Result<Duration, CommandOutcome> {
    let left = remaining(request.command.expires);
    let left = left.ok_or_else(|| CommandOutcome::new(OutcomeKind::Expired))?;
    Ok(left.min(REQUEST_TIMEOUT))
}

fn unanswered(what_may_be: &str) -> CommandOutcome {
    let reason = format!("the server did not answer in time; {what_may_be}");
    CommandOutcome { reason: Some(reason), ..CommandOutcome::new(OutcomeKind::Expired) }
}

/// Says what the status of a write or a call means. Good statuses of any kind are success, also "completes later".
pub(crate) fn outcome(status: StatusCode) -> CommandOutcome {
    let told = Some(Status::from_code(status.bits()));
    if status.is_bad() {
        let reason = Some(format!("the server answered {status}"));
        return CommandOutcome {
            reason,
            status: told,
            ..CommandOutcome::new(OutcomeKind::Refused)
        };
    }
    CommandOutcome { status: told, ..CommandOutcome::new(OutcomeKind::Confirmed) }
}

/// Returns how long a command may still take; `None` if it has expired.
fn remaining(expires: Timestamp) -> Option<Duration> {
    let left = expires.saturating_since(now());
    (!left.is_zero()).then_some(left)
}

/// Returns the wall-clock time.
pub(crate) fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use tidegate_adapter_api::{CommandReply, OpcUaPoint, Point, PointAddress, PointId};
    use tidegate_model::{Command, NodePattern, Value};

    use super::*;

    fn server(writable: bool) -> ServerPoints {
        server_with(writable, None)
    }

    fn server_with(writable: bool, method: Option<&str>) -> ServerPoints {
        let name = AdapterName::new("plc7").unwrap();
        let point = Point {
            id: PointId(4),
            address: PointAddress::OpcUa(OpcUaPoint {
                server: name.clone(),
                node: NodePattern::parse("nsu=urn:p;s=Press.{n}.Setpoint").unwrap(),
                sampling: None,
                deadband: None,
                unit: None,
                writable,
                method: method.map(|method| NodePattern::parse(method).unwrap()),
            }),
        };
        ServerPoints::new(&PointSet::new(vec![point], 2), &name)
    }

    fn request(kind: CommandKind, generation: u64, captures: &[&str]) -> CommandRequest {
        let command = Command { id: None, kind, value: Value::Double(66.5), expires: now() };
        let captures = Captures::new(captures.iter().map(|text| Box::from(*text)));
        let (reply, _) = CommandReply::pair();
        CommandRequest { point: PointId(4), generation, captures, command, reply }
    }

    #[test]
    fn main_14_a_command_names_one_node_or_is_refused() {
        let written = target(&request(CommandKind::Write, 2, &["7"]), &server(true)).unwrap();
        let address = |text| NodePattern::parse(text).unwrap().literal().unwrap();
        let node = address("nsu=urn:p;s=Press.7.Setpoint");
        assert_eq!(written, Target::Node(node.clone()));
        let method = server_with(false, Some("nsu=urn:p;s=Press.{n}.Reset"));
        let called = target(&request(CommandKind::Call, 2, &["7"]), &method).unwrap();
        let reset = address("nsu=urn:p;s=Press.7.Reset");
        assert_eq!(called, Target::Method { object: node, method: reset });
        let refused = [
            target(&request(CommandKind::Write, 2, &["7"]), &server(false)),
            target(&request(CommandKind::Write, 1, &["7"]), &server(true)),
            target(&request(CommandKind::Write, 2, &[]), &server(true)),
            target(&request(CommandKind::Call, 2, &["7"]), &server(true)),
            target(&request(CommandKind::Write, 2, &["7"]), &method),
            target(&request(CommandKind::Call, 2, &[]), &method),
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().kind, OutcomeKind::Refused);
        }
    }

    #[test]
    fn main_14_the_status_of_the_node_is_told() {
        #[rustfmt::skip]
        let cases = [
            (StatusCode::Good,                          OutcomeKind::Confirmed, 0),
            (StatusCode::GoodCompletesAsynchronously,   OutcomeKind::Confirmed, 0x002E_0000),
            (StatusCode::BadTypeMismatch,               OutcomeKind::Refused,   0x8074_0000),
            (StatusCode::BadUserAccessDenied,           OutcomeKind::Refused,   0x801F_0000),
        ];
        for (status, kind, code) in cases {
            let outcome = outcome(status);
            assert_eq!(
                (outcome.kind, outcome.status),
                (kind, Some(Status::from_code(code))),
                "{status}"
            );
            assert_eq!(outcome.reason.is_some(), kind == OutcomeKind::Refused);
        }
    }

    #[tokio::test]
    async fn main_14_without_a_connection_commands_are_refused_at_once() {
        let (sender, mut receiver) = mpsc::channel(2);
        let send = |expires| {
            let (reply, outcome) = CommandReply::pair();
            let mut request = request(CommandKind::Write, 2, &["7"]);
            (request.reply, request.command.expires) = (reply, expires);
            sender.try_send(request).unwrap();
            outcome
        };
        let fresh = send(now().saturating_add(Duration::from_secs(10)));
        let late = send(Timestamp::from_unix_millis(1));
        let outcomes = async { (fresh.await.unwrap(), late.await.unwrap()) };
        tokio::select! {
            never = refuse_all(&mut receiver) => match never {},
            (fresh, late) = outcomes => {
                assert_eq!(fresh, CommandOutcome::refused("the server is not connected"));
                assert_eq!(late.kind, OutcomeKind::Expired);
            }
        }
    }
}
