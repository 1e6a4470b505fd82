//! `[mqtt.tls]`, `[http.tls]` and `[coap.dtls]`: checked, and refused until this version can serve them.

use tidegate_settings::{Issues, TableReader, read};

use super::context::Context;
use super::listener::listen_address;
use super::secret;

/// Checks the table, and notes that it cannot be used yet: leaving it out silently would leave a listener
/// less safe than its author thinks.
pub(super) fn refuse(
    mut table: TableReader<'_>,
    what: &str,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<()> {
    table.required_list("listen", "listen = [\"0.0.0.0:8883\"]", listen_address, issues);
    table.required_like("cert", "cert = \"server.pem\"", read::text, issues);
    let key = "key = { file = \"server.key\" }";
    table.required_like("key", key, |node, issues| secret::read(node, context, issues), issues);
    table.optional("client-ca", read::text, issues);
    issues.error(
        table.span(),
        format!("{what} listeners are not available in this version"),
        "remove the table, and listen on loopback addresses only",
    );
    table.finish(issues);
    Some(())
}
