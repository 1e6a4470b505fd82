//! The formats in which devices send bodies, by the names of the protocols.

/// A format of bodies that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// `text/plain`, UTF-8.
    Text,
    /// `application/json` and other JSON.
    Json,
    /// `application/cbor`.
    Cbor,
    /// `application/senml+json`.
    SenmlJson,
    /// `application/senml+cbor`.
    SenmlCbor,
    /// `application/octet-stream`.
    OctetStream,
}

/// What the sender says about the format of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// It says nothing.
    Nothing,
    /// It names this format.
    Known(MediaType),
    /// It names a format that cannot be read.
    Unknown,
}

impl Announced {
    /// Takes the value of the CoAP option Content-Format.
    pub fn from_content_format(number: Option<u16>) -> Self {
        let Some(number) = number else { return Self::Nothing };
        Self::Known(match number {
            0 => MediaType::Text,
            42 => MediaType::OctetStream,
            50 => MediaType::Json,
            60 => MediaType::Cbor,
            110 => MediaType::SenmlJson,
            112 => MediaType::SenmlCbor,
            _ => return Self::Unknown,
        })
    }

    /// Takes the value of the HTTP header Content-Type.
    ///
    /// Any `+json` counts as JSON. A text in another character set than UTF-8 cannot be read.
    pub fn from_mime(text: Option<&str>) -> Self {
        let Some(text) = text else { return Self::Nothing };
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        let essence = essence.trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        Self::Known(if is("application/json") {
            MediaType::Json
        } else if is("text/plain") {
            if !is_utf8(parameters) {
                return Self::Unknown;
            }
            MediaType::Text
        } else if is("application/cbor") {
            MediaType::Cbor
        } else if is("application/senml+json") {
            MediaType::SenmlJson
        } else if is("application/senml+cbor") {
            MediaType::SenmlCbor
        } else if is("application/octet-stream") {
            MediaType::OctetStream
        } else if essence
            .rsplit_once('+')
            .is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"))
        {
            MediaType::Json
        } else {
            return Self::Unknown;
        })
    }
}

fn is_utf8(parameters: &str) -> bool {
    parameters
        .split(';')
        .filter_map(|parameter| parameter.trim().split_once('='))
        .filter(|(name, _)| name.eq_ignore_ascii_case("charset"))
        .map(|(_, value)| value.trim_matches('"'))
        .all(|value| value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("us-ascii"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_number_and_by_name() {
        use Announced::{Known, Nothing, Unknown};
        #[rustfmt::skip]
        let names = [
            (None,                                      Nothing),
            (Some("application/json"),                  Known(MediaType::Json)),
            (Some("Application/JSON; charset=utf-8"),   Known(MediaType::Json)),
            (Some("application/vnd.plant+json"),        Known(MediaType::Json)),
            (Some("application/senml+json"),            Known(MediaType::SenmlJson)),
            (Some("application/senml+cbor"),            Known(MediaType::SenmlCbor)),
            (Some("application/cbor"),                  Known(MediaType::Cbor)),
            (Some("text/plain"),                        Known(MediaType::Text)),
            (Some("text/plain;charset=\"UTF-8\""),      Known(MediaType::Text)),
            (Some("text/plain; charset=iso-8859-1"),    Unknown),
            (Some("application/octet-stream"),          Known(MediaType::OctetStream)),
            (Some("application/x-www-form-urlencoded"), Unknown),
            (Some(""),                                  Unknown),
        ];
        for (name, expected) in names {
            assert_eq!(Announced::from_mime(name), expected, "{name:?}");
        }
        for (number, expected) in [
            (None, Nothing),
            (Some(0), Known(MediaType::Text)),
            (Some(50), Known(MediaType::Json)),
            (Some(60), Known(MediaType::Cbor)),
            (Some(110), Known(MediaType::SenmlJson)),
            (Some(112), Known(MediaType::SenmlCbor)),
            (Some(42), Known(MediaType::OctetStream)),
            (Some(41), Unknown),
        ] {
            assert_eq!(Announced::from_content_format(number), expected, "{number:?}");
        }
    }
}
