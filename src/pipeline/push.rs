//! Pushes: who takes them, and what is asked over the control socket.

use std::sync::Arc;

use serde_json::json;
use tidegate_model::{CommandId, Document, Value, json::parse_value};
use tokio::sync::{Notify, mpsc};

use super::{StartError, reload::Reloader};
use crate::{
    commander::Commander,
    config::Config,
    push::{Action, Ending, FOLDER, Folder, PushDesk, Request, Sender, Surroundings},
    supervise::{Conditions, Stage},
    uplink::UplinkHandle,
};

/// Ends of trials that wait to be told: there is one trial at a time.
const ENDINGS: usize = 16;

/// Who takes pushes, and the ends of trials on their way to those who sent the sets.
pub(super) struct Ways {
    desk: Arc<PushDesk>,
    endings: mpsc::Receiver<Ending>,
}

impl Ways {
    /// Lets clouds push, and has trials watched over. Returns who takes what is asked on this machine.
    pub(super) fn keep(
        self,
        commander: &mut Commander,
        stage: &mut Stage,
        conditions: &Conditions,
    ) -> Arc<PushDesk> {
        commander.take_pushes(Arc::clone(&self.desk), self.endings);
        let watching = Arc::clone(&self.desk);
        stage.keep("push", conditions, move |stop| Arc::clone(&watching).run(stop));
        self.desk
    }
}

/// Prepares taking pushes, if the configuration lets anybody push.
pub(super) fn start(
    config: &Config,
    reloader: &Arc<Reloader>,
    uplinks: &[UplinkHandle],
    restart: &Arc<Notify>,
) -> Result<Option<Ways>, StartError> {
    let Some((settings, path)) = config.push.clone().zip(reloader.source.path()) else {
        return Ok(None);
    };
    let (sender, endings) = mpsc::channel(ENDINGS);
    let reload = Arc::clone(reloader);
    let status = Arc::clone(&reloader.status);
    let conditions = status.conditions.clone();
    let desk = PushDesk::new(Surroundings {
        path: path.to_owned(),
        settings,
        folder: Folder::new(config.gateway.data_dir.join(FOLDER)),
        broker: reloader.broker.clone(),
        uplinks: uplinks.to_vec(),
        conditions,
        status,
        reload: Box::new(move || reload.reload_now()),
        endings: sender,
        restart: Arc::clone(restart),
    })?;
    Ok(Some(Ways { desk: Arc::new(desk), endings }))
}

/// Answers what somebody on this machine asks: `{"id":…,"args":{…}}`, as from a cloud.
pub(super) async fn answer(
    desk: Option<Arc<PushDesk>>,
    action: Action,
    body: Vec<u8>,
    uid: u32,
) -> serde_json::Value {
    let Some(desk) = desk else {
        return json!({ "error": "the configuration has no `[push]`" });
    };
    let answered = tokio::task::spawn_blocking(move || {
        let (id, request) = match read(action, &body) {
            Ok(read) => read,
            Err(reason) => return json!({ "outcome": "refused", "reason": reason }),
        };
        desk.handle(&Sender::Local { uid }, id.as_ref().map(CommandId::as_str), request).to_json()
    });
    answered.await.unwrap_or_else(|_| json!({ "error": "the gateway failed; the log says how" }))
}

fn read(action: Action, body: &[u8]) -> Result<(Option<CommandId>, Request), String> {
    let nothing = || Value::Document(Document::default().into());
    let body = match body {
        [] => nothing(),
        body => parse_value(body).map_err(|error| format!("that is not JSON: {error}"))?,
    };
    let Value::Document(body) = body else { return Err("that is not an object".into()) };
    let id = match body.get("id") {
        None => None,
        Some(Value::String(id)) => Some(CommandId::new(id).map_err(|error| error.to_string())?),
        Some(_) => return Err("`id` must be a text".into()),
    };
    let request = Request::read(action, body.get("args").unwrap_or(&nothing()))?;
    Ok((id, request))
}
