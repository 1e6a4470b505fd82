//! The paths of the gateway itself.

use std::sync::Arc;

use axum::{Router, extract::Request, http::Method, routing::any};

use crate::{health, management, problem::Problem, site::Site, topics};

/// Returns what answers requests for the paths of the gateway.
///
/// Each handler looks at the method itself, so that a wrong one gets a problem document, too.
pub(crate) fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/health/live", any(health::live))
        .route("/health/ready", any(health::ready))
        .route("/metrics", any(health::metrics))
        .route("/v1/status", any(management::status))
        .route("/v1/topics", any(topics::list))
        .route("/v1/topics/{*topic}", any(topics::one))
        .fallback(unknown)
        .with_state(site)
}

/// Refuses every method but GET and HEAD.
pub(crate) fn only_get(method: &Method) -> Result<(), Problem> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Problem::method("GET, HEAD")),
    }
}

async fn unknown(request: Request) -> Problem {
    Problem::not_found(format!("there is no {}", request.uri().path()))
}
