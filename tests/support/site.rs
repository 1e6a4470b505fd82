//! Configurations to run: the files of a gateway, and the ports that they name.

use super::ports;

/// The files of one gateway, by their path beside `tidegate.toml`.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    files: Vec<(String, String)>,
}

impl Site {
    /// Makes a site of a configuration and mapping files, which come to stand under `mappings/`.
    pub(crate) fn new(config: &str, mappings: &[(&str, &str)]) -> Self {
        let mapping =
            |(name, text): &(&str, &str)| (format!("mappings/{name}"), (*text).to_owned());
        let config = ("tidegate.toml".to_owned(), config.to_owned());
        Self { files: std::iter::once(config).chain(mappings.iter().map(mapping)).collect() }
    }

    /// Makes the site of `examples/press-hall` as written, but for its ports, with the TOML mapping.
    pub(crate) fn press_hall(ports: &PressHall) -> Self {
        let mapping = include_str!("../../examples/press-hall/mappings/press-hall.toml");
        Self::new(&ports.config(), &[("press-hall.toml", mapping)])
    }

    /// As [`press_hall`](Self::press_hall), with the YAML twin in place of the TOML mapping.
    pub(crate) fn press_hall_yaml(ports: &PressHall) -> Self {
        let mapping = include_str!("../../examples/press-hall/mappings/press-hall.yaml.example");
        Self::new(&ports.config(), &[("press-hall.yaml", mapping)])
    }

    /// As [`press_hall`](Self::press_hall), with another mapping.
    pub(crate) fn press_hall_with(ports: &PressHall, mapping: &str) -> Self {
        Self::new(&ports.config(), &[("presses.toml", mapping)])
    }

    /// Returns each file's path and text.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

/// The ports of `examples/press-hall`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PressHall {
    /// The gateway's MQTT listener.
    pub(crate) mqtt: u16,
    /// The gateway's CoAP listener.
    pub(crate) coap: u16,
    /// The gateway's HTTP listener.
    pub(crate) http: u16,
    /// The OPC UA server.
    pub(crate) opcua: u16,
    /// The cloud's broker.
    pub(crate) cloud: u16,
}

impl PressHall {
    /// Takes free ports for the gateway and the OPC UA server; the cloud's broker has its own.
    pub(crate) fn with_cloud(cloud: u16) -> Self {
        let [mqtt, coap, http, opcua] = std::array::from_fn(|_| ports::free_port());
        Self { mqtt, coap, http, opcua, cloud }
    }

    fn config(&self) -> String {
        let mut config = include_str!("../../examples/press-hall/tidegate.toml").to_owned();
        let Self { mqtt, coap, http, opcua, cloud } = *self;
        for (written, port) in
            [(1883, mqtt), (5683, coap), (8080, http), (4840, opcua), (1884, cloud)]
        {
            let (from, to) = (format!("127.0.0.1:{written}\""), format!("127.0.0.1:{port}\""));
            assert_eq!(config.matches(&from).count(), 1, "the example names {from} once");
            config = config.replace(&from, &to);
        }
        config
    }
}
