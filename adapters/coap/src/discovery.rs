//! What `GET /.well-known/core` lists (RFC 6690).

use tidegate_adapter_api::{PathPoint, PointAddress, PointSet};
use tidegate_coap::{Link, content_format};
use tidegate_model::PayloadFormat;

/// The path under which resources are listed.
pub(crate) const WELL_KNOWN_CORE: [&str; 2] = [".well-known", "core"];

/// Resource type of a point that devices write to.
const POINT: &str = "tidegate.point";
/// Resource type of a pattern that stands for many points.
const PATTERN: &str = "tidegate.pattern";

/// Returns a link for each mapped resource, and one for the list itself.
///
/// A pattern with captures is listed once, percent-encoded, with its text as the title: which resources it
/// will stand for is up to the devices.
pub(crate) fn links(points: &PointSet) -> Vec<Link> {
    let list =
        Link::to_path(&WELL_KNOWN_CORE).attribute("ct", content_format::LINK_FORMAT.to_string());
    let resources = points.iter().filter_map(|point| match &point.address {
        PointAddress::Coap(address) => Some(link(address)),
        _ => None,
    });
    std::iter::once(list).chain(resources).collect()
}

fn link(point: &PathPoint) -> Link {
    let text = point.pattern.as_str();
    let segments: Vec<&str> = match &text[1..] {
        "" => Vec::new(),
        rest => rest.split('/').collect(),
    };
    let link = Link::to_path(&segments).attribute("ct", formats(point.payload));
    if point.pattern.names().is_empty() {
        link.attribute("rt", POINT)
    } else {
        link.attribute("rt", PATTERN).attribute("title", text)
    }
}

/// Returns the formats that a resource takes.
fn formats(payload: Option<PayloadFormat>) -> String {
    use content_format::{CBOR, JSON, OCTET_STREAM, SENML_CBOR, SENML_JSON, TEXT};
    let numbers: &[u16] = match payload {
        Some(PayloadFormat::Text) => &[TEXT],
        Some(PayloadFormat::Json) => &[JSON],
        Some(PayloadFormat::Cbor) => &[CBOR],
        Some(PayloadFormat::Senml) => &[SENML_JSON, SENML_CBOR],
        Some(PayloadFormat::Raw) => &[OCTET_STREAM],
        None => &[TEXT, OCTET_STREAM, JSON, CBOR, SENML_JSON, SENML_CBOR],
    };
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
