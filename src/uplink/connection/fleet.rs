//! A certificate that AWS IoT Core gives out itself: asked for once with the claim, kept, and shown from then on.
//!
//! A certificate is asked for only if none is kept, and is kept with the token that makes it active before that is used:
//! whoever is killed in between goes on with it. Key and certificate stand in one file, which is replaced as a whole.

mod claim;
mod kept;

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tidegate_tls::{ClientTls, Identity, SigningRequest, TlsError};
use tidegate_uplink::{Disconnect, Failure, FleetAnswer, FleetRefusal, FleetRequest};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::super::{
    link::{LinkError, LinkEvent},
    settings::{FleetSettings, LinkSettings},
    tunnel::Tunnel,
};

use self::{
    claim::Claim,
    kept::{Kept, Pending, Store},
};

/// The service takes one CONNECT a second for a client identifier.
const CONNECT_SPACING: Duration = Duration::from_millis(1_200);
/// The longest common name (X.520, ub-common-name).
const COMMON_NAME_CHARACTERS_MAX: usize = 64;

/// Drives `client` to its end; before that, if the settings want it, sees to a certificate of its own.
pub(super) async fn drive(
    tunnel: Tunnel,
    mut settings: LinkSettings,
    endpoint: usize,
    client: impl Future<Output = LinkError>,
    events: mpsc::Sender<LinkEvent>,
) -> LinkError {
    if let Some(fleet) = settings.fleet.clone() {
        let provisioning = Provisioning {
            fleet: &fleet,
            settings: &settings,
            endpoint,
            events: &events,
            store: Store::new(fleet.folder.clone()),
        };
        match Box::pin(provisioning.own_tls()).await {
            Ok(own) => settings.endpoints[endpoint].tls = Some(own),
            Err(error) => return error,
        }
    }
    tunnel.drive(settings, endpoint, client).await
}

/// One attempt to have a certificate.
struct Provisioning<'p> {
    fleet: &'p FleetSettings,
    settings: &'p LinkSettings,
    endpoint: usize,
    events: &'p mpsc::Sender<LinkEvent>,
    store: Store,
}

impl Provisioning<'_> {
    /// Returns handshakes that show the certificate of its own, which is asked for if there is none.
    async fn own_tls(&self) -> Result<Arc<ClientTls>, LinkError> {
        let kept = match self.store.kept().await? {
            Some(kept) => {
                self.store.forget_pending().await?;
                kept
            }
            None => self.provision().await?,
        };
        self.tls(kept.identity)
    }

    fn tls(&self, identity: Identity) -> Result<Arc<ClientTls>, LinkError> {
        let setup = self.fleet.setups[self.endpoint].clone();
        let tls = ClientTls::new(tidegate_tls::ClientSetup { identity: Some(identity), ..setup });
        tls.map(Arc::new).map_err(|error| LinkError::transient(error.to_string()))
    }

    async fn provision(&self) -> Result<Kept, LinkError> {
        let earlier = self.store.pending().await?;
        let is_earlier = earlier.is_some();
        let mut next_connect = Instant::now() + CONNECT_SPACING;
        let mut claim = self.claim().await?;
        let pending = match earlier {
            Some(pending) => pending,
            None => self.ask_for_certificate(&mut claim).await?,
        };
        let thing = self.ask_for_thing(&mut claim, &pending).await;
        claim.leave().await;
        let thing = match thing? {
            Ok(thing) => thing,
            // It may have been made active by what was asked before a kill.
            Err(refusal) if is_earlier && refusal.is_lasting() => {
                self.pause_until(next_connect).await?;
                next_connect = Instant::now() + CONNECT_SPACING;
                if !self.is_let_in(&pending).await? {
                    return Err(self.give_up(&refusal).await?);
                }
                String::new()
            }
            Err(refusal) => return Err(refused("the thing", &refusal)),
        };
        let kept = self.store.keep(&pending, &thing).await?;
        info!(template = %self.fleet.template.name(), %thing, "Provisioned by AWS IoT Core: a certificate is kept");
        self.pause_until(next_connect).await?;
        Ok(kept)
    }

    async fn claim(&self) -> Result<Claim, LinkError> {
        self.is_alive().await?;
        let filters = self.fleet.template.filters();
        let claim = Claim::open(self.settings.clone(), self.endpoint, &filters).await;
        let claim = claim.map_err(|error| LinkError {
            reason: format!("with the claim: {}", error.error.reason),
            ..error.error
        })?;
        self.is_alive().await?;
        Ok(claim)
    }

    /// Asks for a certificate of a new key; it is kept with its token when this returns.
    async fn ask_for_certificate(&self, claim: &mut Claim) -> Result<Pending, LinkError> {
        let name = self.settings.client_id.chars().take(COMMON_NAME_CHARACTERS_MAX);
        let made =
            SigningRequest::new(&name.collect::<String>()).map_err(|error| unusable(&error))?;
        let request = FleetRequest::Certificate(&made.request);
        let answer = claim.ask(&self.fleet.template, request).await?;
        self.is_alive().await?;
        match answer {
            Ok(FleetAnswer::Certificate { certificate, token }) => {
                let pending = Pending::new(&token, &made.key, &certificate);
                let pending = pending.map_err(|error| unusable(&error))?;
                self.store.keep_pending(&pending).await?;
                Ok(pending)
            }
            Ok(FleetAnswer::Thing(_)) => Err(LinkError::transient("a thing is no certificate")),
            Err(refusal) => Err(refused("a certificate", &refusal)),
        }
    }

    /// Asks for the thing that the certificate is for; returns its name, or why there is none.
    async fn ask_for_thing(
        &self,
        claim: &mut Claim,
        pending: &Pending,
    ) -> Result<Result<String, FleetRefusal>, LinkError> {
        let request = FleetRequest::Thing(pending.token());
        let answer = claim.ask(&self.fleet.template, request).await?;
        self.is_alive().await?;
        Ok(answer.map(|answer| match answer {
            FleetAnswer::Thing(name) => name,
            FleetAnswer::Certificate { .. } => String::new(),
        }))
    }

    /// Returns whether the service lets somebody in who shows a certificate.
    async fn is_let_in(&self, pending: &Pending) -> Result<bool, LinkError> {
        self.is_alive().await?;
        let mut settings = self.settings.clone();
        settings.endpoints[self.endpoint].tls = Some(self.tls(pending.identity().clone())?);
        match Claim::open(settings, self.endpoint, &[]).await {
            Ok(claim) => {
                claim.leave().await;
                Ok(true)
            }
            Err(error) if error.is_refusal => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets a certificate whose token is worth nothing any more; returns why nothing was given out.
    async fn give_up(&self, refusal: &FleetRefusal) -> Result<LinkError, LinkError> {
        if refusal.is_about_token() {
            warn!(error = %refusal, "A certificate that was never made active is forgotten; another one will be asked for");
            self.store.forget_pending().await?;
            let failure = Failure::Transient;
            return Ok(LinkError { failure, ..refused("the thing", refusal) });
        }
        Ok(refused("the thing", refusal))
    }

    async fn pause_until(&self, due: Instant) -> Result<(), LinkError> {
        tokio::time::sleep_until(due.into()).await;
        self.is_alive().await
    }

    /// Tells the run that the attempt goes on.
    async fn is_alive(&self) -> Result<(), LinkError> {
        let told = self.events.send(LinkEvent::Alive).await;
        told.map_err(|_| LinkError::transient("nobody listens"))
    }
}

fn refused(what: &str, refusal: &FleetRefusal) -> LinkError {
    let failure = if refusal.is_lasting() { Failure::Lasting } else { Failure::Transient };
    let reason = format!("AWS IoT Core does not give out {what}: {refusal}");
    LinkError { reason, failure, how: Disconnect::Otherwise }
}

fn unusable(error: &TlsError) -> LinkError {
    LinkError::transient(format!("the certificate given out: {error}"))
}
