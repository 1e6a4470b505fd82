//! Pushes that come down as calls on `$push/…`, and the ends of trials, told to who sent the set.

use std::sync::Arc;

use tidegate_model::{
    Command, CommandId, CommandKind, CommandOutcome, OutcomeKind, Principal, UplinkName, json,
};

use super::{
    CommandOrder, CommandOrigin,
    desk::Desk,
    history::{self, Noted},
    outcome::tell,
};
use crate::push::{Action, Ending, PushDesk, Request, Sender};

/// Hands a call to the desk of pushes.
pub(super) async fn carry_out(
    desk: Option<&Arc<PushDesk>>,
    order: &CommandOrder,
    command: Command,
) -> CommandOutcome {
    let uplink = match order.origin() {
        CommandOrigin::Cloud { uplink, .. } => UplinkName::new(uplink).ok(),
        CommandOrigin::Local { .. } => None,
    };
    let Some(uplink) = uplink else {
        return CommandOutcome::refused("pushes come from a cloud, or by `tidegate push`");
    };
    let (Some(action), CommandKind::Call) = (Action::from_topic(order.target()), command.kind)
    else {
        return CommandOutcome::refused(
            "there is `$push/preview/call`, `apply`, `confirm`, `return` and `status`",
        );
    };
    let Some(desk) = desk else {
        return CommandOutcome::refused("the configuration has no `[push]`");
    };
    let sender = Sender::Uplink(uplink);
    if let Some(reason) = desk.refuses(&sender, action) {
        return CommandOutcome::refused(reason);
    }
    let request = match Request::read(action, &command.value) {
        Ok(request) => request,
        Err(reason) => return CommandOutcome::refused(reason),
    };
    let desk = Arc::clone(desk);
    let id = command.id.map(|id| id.as_str().to_owned());
    // It waits for the disk.
    let handled =
        tokio::task::spawn_blocking(move || desk.handle(&sender, id.as_deref(), request)).await;
    match handled {
        Ok(answer) => CommandOutcome {
            reason: answer.reason,
            value: json::parse_value(answer.value.to_string().as_bytes()).ok(),
            ..CommandOutcome::new(answer.kind)
        },
        Err(_) => CommandOutcome::refused("the gateway failed; the log says how"),
    }
}

impl Desk {
    /// Tells the uplink that brought a set how the trial ended, under the id of the set's own command.
    pub(super) fn tell_ending(&self, ending: &Ending) {
        let trial = &ending.trial;
        let Some(id) = trial.id.as_deref().and_then(|id| CommandId::new(id).ok()) else { return };
        let principal = Principal::new(&trial.by).ok();
        let Some(principal) = principal.filter(|by| by.as_str().starts_with("uplink:")) else {
            return;
        };
        let target = Action::Apply.topic();
        let noted = Noted { principal, id, at: trial.at, kind: CommandKind::Call, target };
        let outcome = match &ending.returned {
            None => CommandOutcome::new(OutcomeKind::Confirmed),
            Some(reason) => {
                CommandOutcome::refused(format!("set {} was put back: {reason}", trial.set))
            }
        };
        self.history.finish(&noted, outcome.clone());
        let order = CommandOrder::cut_off(&noted);
        tell(self, &order, Some(&noted.id), &outcome, history::finished(&noted, &outcome));
    }
}
