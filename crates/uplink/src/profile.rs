//! What kinds of clouds take at most: known beforehand, so that nothing is sent that they would refuse or close for.

use std::time::Duration;

use thiserror::Error;

use crate::{backoff::Pauses, pace::Rates};

/// A kind of far side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// Any broker: what it takes it says when it is connected to.
    #[default]
    Mqtt,
    /// AWS IoT Core.
    AwsIotCore,
    /// Azure IoT Hub, or an IoT Edge before it.
    AzureIotHub,
    /// The MQTT broker of Azure Event Grid.
    AzureEventGrid,
    /// A broker of AMQP 0.9.1, such as RabbitMQ.
    Amqp,
}

/// What a kind of far side takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// The largest payload, in bytes.
    pub payload_bytes: usize,
    /// The longest topic, in bytes.
    pub topic_bytes: usize,
    /// The most levels of a topic.
    pub topic_levels: usize,
    /// The longest client identifier, in bytes.
    pub client_id_bytes: usize,
    /// The least and the longest keep alive.
    pub keep_alive: (Duration, Duration),
    /// How many messages may be without an answer: as a rule, and at most.
    pub in_flight: (usize, usize),
    /// How fast it takes messages: as a rule, and at most.
    pub rates: (Rates, Rates),
    /// How long it keeps a session: as a rule, and at most.
    pub session_expiry: (Duration, Duration),
    /// How long to wait between attempts to connect.
    pub pauses: Pauses,
}

/// Why a far side would not take a topic.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicRefusal {
    /// Too many bytes.
    #[error("the topic has {bytes} bytes, of which {most} are taken")]
    TooLong {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        most: usize,
    },
    /// Too many levels.
    #[error("the topic has {levels} levels, of which {most} are taken")]
    TooDeep {
        /// How many it has.
        levels: usize,
        /// How many it may have.
        most: usize,
    },
    /// It begins with `$`, and with nothing that is for us.
    #[error("topics that begin with `$` are the broker's own")]
    Reserved,
}

const DAY: u64 = 24 * 3_600;

/// The largest remaining length of a packet (MQTT 5.0, section 2.1.4).
const PACKET_BYTES_MAX: usize = 268_435_455;

const MQTT: Bounds = Bounds {
    payload_bytes: PACKET_BYTES_MAX,
    topic_bytes: u16::MAX as usize,
    topic_levels: usize::MAX,
    client_id_bytes: u16::MAX as usize,
    keep_alive: (Duration::from_secs(5), Duration::from_secs(3_600)),
    in_flight: (512, 512),
    rates: (Rates { messages: None, bytes: None }, Rates { messages: None, bytes: None }),
    session_expiry: (Duration::from_secs(DAY), Duration::from_secs(365 * DAY)),
    pauses: Pauses::USUAL,
};

/// From the service's page "AWS IoT Core endpoints and quotas" and its protocol pages; the in-flight rule, the longest pause and the
/// least one are its own edge runtime's way to stay inside them.
const AWS_IOT_CORE: Bounds = Bounds {
    payload_bytes: 128 << 10,
    topic_bytes: 256,
    topic_levels: 8,
    client_id_bytes: 128,
    keep_alive: (Duration::from_secs(30), Duration::from_secs(1_200)),
    in_flight: (20, 100),
    rates: (AWS_RATES, AWS_RATES),
    session_expiry: (Duration::from_secs(3_600), Duration::from_secs(7 * DAY)),
    pauses: Pauses {
        // One CONNECT a second for a client identifier.
        first: Duration::from_secs(2),
        longest: Duration::from_secs(120),
        least_after_two: Duration::from_secs(11),
        stable_after: Duration::from_secs(30),
    },
};

const AWS_RATES: Rates = Rates { messages: Some(100), bytes: Some(512 << 10) };

/// From the service's pages "Communicate with an IoT hub using the MQTT protocol" and "Reference - IoT Hub quotas and
/// throttling". A topic is a property here, which takes up to three times as many bytes when it is encoded; with it a
/// message stays below 256 KiB. The rate is what a hub takes of all its devices in the smallest paid tier; larger ones take
/// more. The in-flight rule is ours.
const AZURE_IOT_HUB: Bounds = Bounds {
    payload_bytes: 252 << 10,
    topic_bytes: 1_024,
    topic_levels: usize::MAX,
    client_id_bytes: 128,
    keep_alive: (Duration::from_secs(5), Duration::from_secs(1_177)),
    in_flight: (64, 512),
    rates: (Rates { messages: Some(100), bytes: None }, Rates { messages: None, bytes: None }),
    session_expiry: (Duration::from_secs(3_600), Duration::from_secs(2 * DAY)),
    pauses: Pauses::USUAL,
};

/// From the service's pages "MQTT features supported by Azure Event Grid's MQTT broker feature" and "Quotas and limits";
/// that its 512 KiB are those of the packet leaves less for the payload. The in-flight rule is ours.
const AZURE_EVENT_GRID: Bounds = Bounds {
    payload_bytes: 508 << 10,
    topic_bytes: u16::MAX as usize,
    topic_levels: usize::MAX,
    client_id_bytes: 128,
    keep_alive: (Duration::from_secs(5), Duration::from_secs(1_160)),
    in_flight: (64, 100),
    rates: (EVENT_GRID_RATES, EVENT_GRID_RATES),
    session_expiry: (Duration::from_secs(3_600), Duration::from_secs(8 * 3_600)),
    pauses: Pauses::USUAL,
};

/// What RabbitMQ takes unless it is told otherwise: 16 MiB in a message since version 4 (128 MiB before), and 255 bytes in a
/// routing key (AMQP 0.9.1, section 4.2.5.3). The name of a connection may be longer than ours ever are.
const AMQP: Bounds = Bounds { payload_bytes: 16 << 20, topic_bytes: 255, ..MQTT };

const EVENT_GRID_RATES: Rates = Rates { messages: Some(1_000), bytes: Some(1_000_000) };

/// What stands for topics of the hub's own, on the way to them.
const HUB_OWN: [&str; 2] = ["$iothub/result/", "$iothub/methods/res/"];

/// Topics that go straight to a rule of AWS IoT Core; what comes before the third `/` counts in no limit.
const BASIC_INGEST: &str = "$aws/rules/";

impl Profile {
    /// Returns what the far side takes.
    pub fn bounds(self) -> &'static Bounds {
        match self {
            Self::Mqtt => &MQTT,
            Self::AwsIotCore => &AWS_IOT_CORE,
            Self::AzureIotHub => &AZURE_IOT_HUB,
            Self::AzureEventGrid => &AZURE_EVENT_GRID,
            Self::Amqp => &AMQP,
        }
    }

    /// Checks a topic to publish to.
    ///
    /// # Errors
    ///
    /// [`TopicRefusal`] if the far side would refuse it, or close the connection for it.
    pub fn check_topic(self, topic: &str) -> Result<(), TopicRefusal> {
        let counted = match self {
            Self::Mqtt | Self::Amqp => topic,
            Self::AzureIotHub if HUB_OWN.iter().any(|own| topic.starts_with(own)) => topic,
            Self::AzureIotHub | Self::AzureEventGrid if topic.starts_with('$') => {
                return Err(TopicRefusal::Reserved);
            }
            Self::AzureIotHub | Self::AzureEventGrid => topic,
            Self::AwsIotCore => match topic.strip_prefix(BASIC_INGEST) {
                Some(behind) => behind.split_once('/').map_or("", |(_, rest)| rest),
                None if topic.starts_with('$') => return Err(TopicRefusal::Reserved),
                None => topic,
            },
        };
        let Bounds { topic_bytes, topic_levels, .. } = *self.bounds();
        let levels = counted.split('/').count();
        if counted.len() > topic_bytes {
            return Err(TopicRefusal::TooLong { bytes: counted.len(), most: topic_bytes });
        }
        if levels > topic_levels {
            return Err(TopicRefusal::TooDeep { levels, most: topic_levels });
        }
        Ok(())
    }

    /// Returns why the far side would not take a client identifier; `None` if it does.
    pub fn refuses_client_id(self, id: &str) -> Option<String> {
        let most = self.bounds().client_id_bytes;
        if id.len() > most {
            return Some(format!("it has {} bytes, of which {most} are taken", id.len()));
        }
        (self == Self::AwsIotCore && id.starts_with('$'))
            .then(|| "it must not begin with `$`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// uplink.21: the validator of topics: 256 bytes, 8 levels, what stands before the rule's own part is exempt.
    #[test]
    fn aws_takes_short_and_flat_topics() {
        let aws = |topic: &str| Profile::AwsIotCore.check_topic(topic);
        let long = "x".repeat(256);
        for good in ["a", "1/2/3/4/5/6/7/8", &long, "$aws/rules/r", "$aws/rules/r/1/2/3/4/5/6/7/8"]
        {
            assert_eq!(aws(good), Ok(()), "{good}");
        }
        assert_eq!(aws(&format!("$aws/rules/rule/{long}")), Ok(()));
        let too_long = TopicRefusal::TooLong { bytes: 257, most: 256 };
        assert_eq!(aws(&format!("{long}x")), Err(too_long.clone()));
        assert_eq!(aws(&format!("$aws/rules/rule/{long}x")), Err(too_long));
        let too_deep = TopicRefusal::TooDeep { levels: 9, most: 8 };
        assert_eq!(aws("1/2/3/4/5/6/7/8/9"), Err(too_deep.clone()));
        assert_eq!(aws("$aws/rules/r/1/2/3/4/5/6/7/8/9"), Err(too_deep));
        for reserved in ["$aws/things/x/shadow/update", "$SYS/x", "$aws/rule/x"] {
            assert_eq!(aws(reserved), Err(TopicRefusal::Reserved), "{reserved}");
        }
        assert_eq!(Profile::Mqtt.check_topic(&"a/".repeat(500)), Ok(()));
        // uplink.26: a routing key.
        let too_long = TopicRefusal::TooLong { bytes: 256, most: 255 };
        assert_eq!(Profile::Amqp.check_topic(&"x".repeat(256)), Err(too_long));
    }

    #[test]
    fn client_identifiers_are_short_and_not_the_services() {
        let aws = Profile::AwsIotCore;
        assert_eq!(aws.refuses_client_id(&"x".repeat(128)), None);
        assert!(aws.refuses_client_id(&"x".repeat(129)).is_some());
        assert!(aws.refuses_client_id("$GEN/1").is_some());
        assert_eq!(Profile::Mqtt.refuses_client_id("$x"), None);
    }

    /// uplink.24: a topic is a property of a message to a hub; only outcomes of commands go elsewhere.
    #[test]
    fn azure_takes_topics_that_are_not_its_own() {
        for profile in [Profile::AzureIotHub, Profile::AzureEventGrid] {
            assert_eq!(profile.check_topic("hall1/a/b/c/d/e/f/g/h/i"), Ok(()));
            assert_eq!(profile.check_topic("$SYS/x"), Err(TopicRefusal::Reserved));
            assert_eq!(profile.check_topic("$share/x"), Err(TopicRefusal::Reserved));
        }
        let hub = Profile::AzureIotHub;
        assert_eq!(hub.check_topic("$iothub/result/hall1/a"), Ok(()));
        assert_eq!(hub.check_topic("$iothub/methods/res/?$rid=1"), Ok(()));
        assert_eq!(hub.check_topic("$iothub/twin/GET"), Err(TopicRefusal::Reserved));
        let long = TopicRefusal::TooLong { bytes: 1_025, most: 1_024 };
        assert_eq!(hub.check_topic(&"x".repeat(1_025)), Err(long));
    }
}
