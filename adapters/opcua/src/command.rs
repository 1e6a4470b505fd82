//! Carrying out commands: writing the value of a node in its own data type.

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
    AdapterName, CommandKind, CommandOutcome, NodeAddress, OutcomeKind, Status, Timestamp,
};
use tokio::sync::{mpsc, watch};

use crate::{
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
}

impl<'a> Commands<'a> {
    pub(crate) fn new(
        name: &'a AdapterName,
        session: &'a Arc<Session>,
        shared: &'a Shared,
    ) -> Self {
        Self { name, session, shared, types: HashMap::new() }
    }

    /// Carries out commands one after the other, so that two writes to a node keep their order.
    pub(crate) async fn run(
        &mut self,
        commands: &mut mpsc::Receiver<CommandRequest>,
        points: &watch::Receiver<PointSet>,
    ) -> Infallible {
        while let Some(request) = commands.recv().await {
            let wanted = ServerPoints::new(&points.borrow(), self.name);
            let outcome = match self.carry_out(&request, &wanted).await {
                Ok(outcome) | Err(outcome) => outcome,
            };
            request.reply.send(outcome);
        }
        std::future::pending().await
    }

    /// Both variants of the result are outcomes; an error only ends the work early.
    async fn carry_out(
        &mut self,
        request: &CommandRequest,
        wanted: &ServerPoints,
    ) -> Result<CommandOutcome, CommandOutcome> {
        let expired = || CommandOutcome::new(OutcomeKind::Expired);
        let patience = remaining(request.command.expires).ok_or_else(expired)?.min(REQUEST_TIMEOUT);
        let node = address(request, wanted)?;
        let namespaces = self.shared.namespaces();
        let node_id = namespaces
            .node_id(&node)
            .map_err(|error| CommandOutcome::refused(error.to_string()))?;
        let typed =
            tokio::time::timeout(patience, self.node_type(&node, &node_id, &namespaces)).await;
        let node_type = typed.map_err(|_| expired())??;
        let value = value::variant(&request.command.value, node_type)
            .map_err(|error| CommandOutcome::refused(error.to_string()))?;
        let patience = remaining(request.command.expires).ok_or_else(expired)?.min(REQUEST_TIMEOUT);
        let written = tokio::time::timeout(patience, self.write(node_id, value, patience)).await;
        let status = match written {
            Ok(Ok(status)) => status,
            Ok(Err(ServiceError(StatusCode::BadTimeout))) | Err(_) => {
                return Err(CommandOutcome {
                    reason: Some(
                        "the server did not answer in time; it may have taken the value".into(),
                    ),
                    ..CommandOutcome::new(OutcomeKind::Expired)
                });
            }
            Ok(Err(ServiceError(status))) => status,
        };
        if status == StatusCode::BadTypeMismatch {
            self.types.remove(&node);
        }
        Ok(outcome(status))
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

/// Returns the node a command is for.
fn address(request: &CommandRequest, wanted: &ServerPoints) -> Result<NodeAddress, CommandOutcome> {
    if request.command.kind == CommandKind::Call {
        return Err(CommandOutcome::refused(
            "not supported: the mapping names no method to call, only a value to write",
        ));
    }
    let reloaded = || CommandOutcome::refused("the mappings were loaded again meanwhile");
    if request.generation != wanted.generation() {
        return Err(reloaded());
    }
    let point = wanted.get(request.point).ok_or_else(reloaded)?;
    if !point.writable {
        return Err(CommandOutcome::refused("the mapping does not make the node writable"));
    }
    let node = point.node.fill(&request.captures);
    node.ok_or_else(|| CommandOutcome::refused("the topic does not say which node"))
}

/// Says what a status of a write means. Good statuses of any kind are success, also "completes later".
fn outcome(status: StatusCode) -> CommandOutcome {
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
    use tidegate_model::{Captures, Command, NodePattern, Value};

    use super::*;

    fn server(writable: bool) -> ServerPoints {
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
                method: None,
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
        let node = address(&request(CommandKind::Write, 2, &["7"]), &server(true)).unwrap();
        assert_eq!(node.to_string(), "nsu=urn:p;s=Press.7.Setpoint");
        let refused = [
            address(&request(CommandKind::Write, 2, &["7"]), &server(false)),
            address(&request(CommandKind::Write, 1, &["7"]), &server(true)),
            address(&request(CommandKind::Write, 2, &[]), &server(true)),
            address(&request(CommandKind::Call, 2, &["7"]), &server(true)),
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
