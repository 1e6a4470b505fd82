use std::sync::Arc;

use tidegate_adapter_api::{
    AdapterContext, Keep, Point, PointAddress,
    test_kit::{Handles, TestGateway},
};
use tidegate_model::{
    AdapterName, Each, Origin, PathPattern, Payload, PayloadFormat, Reading, Topic, Unit, ValueType,
};

use super::*;

const NOW: Timestamp = Timestamp::from_unix_micros(1_772_366_400_123_000);

fn point(id: u32, pattern: &str, payload: Option<PayloadFormat>, each: Option<Each>) -> Point {
    let address = PathPoint {
        pattern: PathPattern::parse(pattern).unwrap(),
        payload,
        text_type: (payload == Some(PayloadFormat::Text)).then_some(ValueType::Float),
        each,
        unit: Some(Unit::new("Cel").unwrap()),
    };
    Point { id: PointId(id), address: PointAddress::Coap(address) }
}

fn points() -> Vec<Point> {
    vec![
        point(0, "/sensors/{room}/temperature", Some(PayloadFormat::Text), None),
        point(1, "/any", None, None),
        point(2, "/pack", Some(PayloadFormat::Senml), Some(Each::Member)),
    ]
}

struct Bench {
    gateway: Arc<TestGateway>,
    site: Site,
    _context: (AdapterContext, Handles),
}

async fn bench(anonymous: bool) -> Bench {
    let gateway = TestGateway::new();
    let context = gateway.context(&AdapterName::new("coap").unwrap(), points(), anonymous);
    let counters = crate::counters::CoapCounters::new(&context.0.counters);
    let client = context.0.access.stranger();
    let mut site = Site::new(context.0.intake.clone(), client, counters.refused);
    site.set_points(context.0.points.borrow().clone());
    Bench { gateway, site, _context: context }
}

fn request(method: Method, path: &str, payload: &[u8]) -> Request {
    Request {
        method,
        confirmable: true,
        path: path.split('/').skip(1).map(str::to_owned).collect(),
        query: Vec::new(),
        content_format: None,
        accept: None,
        if_match: Vec::new(),
        if_none_match: false,
        payload: Bytes::copy_from_slice(payload),
    }
}

impl Bench {
    async fn answer(&self, request: &Request) -> Response {
        let exchange = || Exchange {
            keep: Keep::Newest,
            sender: Bytes::new(),
            id: Bytes::new(),
            answer: Bytes::new(),
            lifetime: Duration::from_secs(1),
        };
        match self.site.handle(request, NOW, exchange) {
            Step::Answer(response) => response,
            Step::Await(receipt) => self.site.outcome(&receipt.await),
        }
    }
}

fn text(response: &Response) -> &str {
    std::str::from_utf8(response.payload()).unwrap()
}

/// main.10: what is refused, and how it is explained.
#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let bench = bench(true).await;
    let temperature = "/sensors/boiler/temperature";
    let with =
        |format| Request { content_format: Some(format), ..request(Method::Post, "/any", b"1") };
    let condition = Request { if_none_match: true, ..request(Method::Put, "/any", b"1") };
    #[rustfmt::skip]
    let cases = [
        (request(Method::Post, "/nothing/here", b"1"),  Code::NotFound,         "nothing is mapped at /nothing/here"),
        (request(Method::Delete, "/any", b""),          Code::MethodNotAllowed, "use GET, PUT or POST"),
        (request(Method::Post, temperature, b"21,5"),   Code::BadRequest,       "expected float, found the string \"21,5\""),
        (request(Method::Post, temperature, b"\xFF"),   Code::BadRequest,       "the text is not UTF-8, see byte 0"),
        (request(Method::Post, "/pack", b"[]"),         Code::BadRequest,       "not SenML: no record has a value"),
        (with(41),                                      Code::UnsupportedContentFormat, "unsupported format; use plain text, JSON, CBOR, SenML (JSON, CBOR) or bytes"),
        (condition,                                     Code::PreconditionFailed, "the resource exists and has no entity tag"),
        (request(Method::Get, "/any", b""),             Code::NotFound,         "no value yet"),
        (request(Method::Put, "/.well-known/core", b""), Code::MethodNotAllowed, "use GET"),
    ];
    for (request, code, expected) in cases {
        let answer = bench.answer(&request).await;
        assert_eq!((answer.code(), text(&answer)), (code, expected), "{request:?}");
    }
    assert_eq!(bench.gateway.batches_waiting(), 0);
}

#[tokio::test]
async fn outcomes_have_their_codes() {
    let bench = bench(true).await;
    let later =
        |seconds, text: &str| Response::diagnostic(Code::ServiceUnavailable, text).max_age(seconds);
    #[rustfmt::skip]
    let cases = [
        (Outcome::Durable,  Response::new(Code::Changed)),
        (Outcome::Accepted, Response::new(Code::Changed)),
        (Outcome::Refused(Refusal::Busy { retry_after: Duration::from_millis(2_100) }), later(3, "busy, try again in 2 s")),
        (Outcome::Refused(Refusal::StorageFull),    later(60, "storage is full")),
        (Outcome::Refused(Refusal::RetainedQuota),  later(60, "the quota of retained messages is used up")),
        (Outcome::Refused(Refusal::ShuttingDown),   later(5, "shutting down")),
        (Outcome::Refused(Refusal::NotAuthorized),  Response::diagnostic(Code::Forbidden, "not authorized")),
        (Outcome::Refused(Refusal::Invalid { reason: "no such unit".into() }), Response::diagnostic(Code::BadRequest, "no such unit")),
        (Outcome::Refused(Refusal::TooLarge { limit: 9 }), Response::diagnostic(Code::RequestEntityTooLarge, "larger than the 9 bytes allowed").size1(9)),
    ];
    for (outcome, expected) in cases {
        bench.gateway.answer(outcome.clone());
        let answer = bench.answer(&request(Method::Post, "/any", b"1")).await;
        assert_eq!(answer, expected, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_batch_says_who_what_and_how() {
    let bench = bench(true).await;
    let put = Request {
        confirmable: false,
        ..request(Method::Put, "/sensors/boiler/temperature", b"21")
    };
    assert_eq!(bench.answer(&put).await.code(), Code::Changed);
    let batch = bench.gateway.next_batch().await;
    assert_eq!((batch.generation, batch.delivery), (1, Delivery::Unconfirmed));
    assert_eq!(batch.principal, Some(Principal::anonymous()));
    let reading = &batch.readings[0];
    assert_eq!((reading.point, reading.captures.get(0)), (PointId(0), Some("boiler")));
    assert_eq!((&reading.reading.value, reading.reading.arrival), (&Value::Double(21.0), NOW));
    assert_eq!(reading.reading.origin.adapter.as_str(), "coap");
}

/// main.8: without anonymous clients nobody without credentials is served.
#[tokio::test]
async fn strangers_are_not_served() {
    let bench = bench(false).await;
    for path in ["/any", "/.well-known/core", "/nothing"] {
        let answer = bench.answer(&request(Method::Get, path, b"")).await;
        assert_eq!(
            (answer.code(), text(&answer)),
            (Code::Unauthorized, "credentials are required")
        );
    }
}

/// main.10: GET gives the last value, as its subscribers got it or in the wanted format.
#[tokio::test]
async fn the_last_value_is_read() {
    let bench = bench(true).await;
    let origin = Origin { adapter: AdapterName::new("coap").unwrap() };
    let reading = Reading::new(Value::Double(21.5), NOW, origin);
    let last = |presentation| LastMessage {
        topic: Topic::new("hall1/boiler/temperature").unwrap(),
        payload: Payload::reading(reading.clone(), presentation),
        content_type: Some("application/json".into()),
        arrival: NOW,
    };
    let envelope = r#"{"value":21.5,"time":"2026-03-01T12:00:00.123Z","quality":"good"}"#;
    use Presentation::{Envelope, Value as Bare};
    #[rustfmt::skip]
    let cases = [
        (Envelope,  None,       Some((content_format::JSON, envelope))),
        (Envelope,  Some(50),   Some((content_format::JSON, envelope))),
        (Envelope,  Some(0),    Some((content_format::TEXT, "21.5"))),
        (Envelope,  Some(60),   None),
        (Bare,      None,       Some((content_format::TEXT, "21.5"))),
        (Bare,      Some(50),   Some((content_format::JSON, envelope))),
    ];
    for (presentation, accept, expected) in cases {
        bench.gateway.set_last(PointId(0), Captures::new(["boiler".into()]), last(presentation));
        let get = request(Method::Get, "/sensors/boiler/temperature", b"");
        let answer = bench.answer(&Request { accept, ..get }).await;
        let expected = match expected {
            Some((format, text)) => Response::content(format, text.to_owned()).max_age(1),
            None => {
                Response::diagnostic(Code::NotAcceptable, "use text (0) or JSON (50)").max_age(1)
            }
        };
        assert_eq!(answer, expected, "{presentation:?} {accept:?}");
    }
    bench.gateway.forbid(Principal::anonymous());
    let answer = bench.answer(&request(Method::Get, "/any", b"")).await;
    assert_eq!(answer.code(), Code::Forbidden);
}

/// main.10: the resources are listed, patterns with their text as title.
#[tokio::test]
async fn resources_are_listed() {
    let bench = bench(true).await;
    let list = async |query: &[&str]| {
        let query = query.iter().map(ToString::to_string).collect();
        let get = request(Method::Get, "/.well-known/core", b"");
        text(&bench.answer(&Request { query, ..get }).await).to_owned()
    };
    let pattern = "</sensors/%7Broom%7D/temperature>;ct=0;rt=\"tidegate.pattern\";title=\"/sensors/{room}/temperature\"";
    let pack = "</pack>;ct=\"110 112\";rt=\"tidegate.point\"";
    let all = list(&[]).await;
    assert!(all.starts_with("</.well-known/core>;ct=40,"), "{all}");
    assert!(all.contains(pattern) && all.contains(pack), "{all}");
    assert_eq!(list(&["rt=tidegate.pattern"]).await, pattern);
    assert_eq!(list(&["ct=112", "rt=tidegate.point", "href=/p*"]).await, pack);
    assert_eq!(list(&["rt=other"]).await, "");
}
