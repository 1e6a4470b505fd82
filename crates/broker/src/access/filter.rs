//! Topic filters with the names of whoever asks.

use thiserror::Error;
use tidegate_model::{ClientId, Principal, TopicFilter, TopicFilterError};

/// A topic filter in which `{principal}` and `{client-id}` stand for the names of whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessFilter(String);

/// Why a text is not an access filter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AccessFilterError {
    /// Without its braces it is no topic filter.
    #[error(transparent)]
    Filter(#[from] TopicFilterError),
    /// Braces hold something else than the two names, or have no partner.
    #[error("`{text}`: only {{principal}} and {{client-id}} can stand in braces")]
    Placeholder {
        /// The text as it was found.
        text: String,
    },
}

const PRINCIPAL: &str = "{principal}";
const CLIENT_ID: &str = "{client-id}";

impl AccessFilter {
    /// Reads a filter.
    ///
    /// # Errors
    ///
    /// [`AccessFilterError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, AccessFilterError> {
        let plain = text.replace(PRINCIPAL, "x").replace(CLIENT_ID, "x");
        if plain.contains(['{', '}']) {
            return Err(AccessFilterError::Placeholder { text: text.into() });
        }
        TopicFilter::new(&plain)?;
        Ok(Self(text.into()))
    }

    /// Returns the filter for one party; `None` if a name would change its meaning or is missing.
    pub fn resolve(
        &self,
        principal: &Principal,
        client_id: Option<&ClientId>,
    ) -> Option<TopicFilter> {
        // A name with braces could bring in the other name, which its bearer chooses.
        let unsafe_characters = ['/', '+', '#', '\0', '{', '}'];
        let safe = |name: &str| !name.contains(unsafe_characters) && !name.starts_with('$');
        let mut text = self.0.clone();
        if text.contains(PRINCIPAL) {
            text = safe(principal.as_str()).then(|| text.replace(PRINCIPAL, principal.as_str()))?;
        }
        if text.contains(CLIENT_ID) {
            let name = client_id?.as_str();
            text = safe(name).then(|| text.replace(CLIENT_ID, name))?;
        }
        TopicFilter::new(&text).ok()
    }

    /// Returns whether the filter differs between the clients of one principal.
    pub(super) fn depends_on_client(&self) -> bool {
        self.0.contains(CLIENT_ID)
    }
}
