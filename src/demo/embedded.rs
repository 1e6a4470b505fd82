//! The embedded configuration files, filled in and loaded like any others.

use std::{fs, path::Path};

use anyhow::{Context as _, bail};
use tidegate_mapping::MappingSet;

use crate::config::{self, Config, Style};

/// The configuration of the gateway.
const GATEWAY: &str = include_str!("gateway.toml");
/// Its mappings.
const MAPPING: &str = include_str!("mapping.toml");
/// The configuration of the cloud.
const CLOUD: &str = include_str!("cloud.toml");
/// Stands in [`GATEWAY`] for the address of the OPC UA server.
const OPCUA_PLACE: &str = "opc.tcp://127.0.0.1:4840";
/// Stands in [`GATEWAY`] for the address of the cloud.
const CLOUD_PLACE: &str = "mqtt://127.0.0.1:1884";

/// The id of the gateway, as [`GATEWAY`] says it.
pub(super) const GATEWAY_ID: &str = "press-hall-1";
/// The name of its uplink.
pub(super) const UPLINK: &str = "cloud";
/// The namespace of the nodes that [`MAPPING`] names.
pub(super) const PRESS_NAMESPACE: &str = "urn:example:press";

/// Loads the gateway's configuration, its files and data below `folder`.
///
/// # Errors
///
/// If a file cannot be written or is wrong.
pub(super) fn gateway(
    folder: &Path,
    opcua: &str,
    cloud: &str,
) -> anyhow::Result<(Config, MappingSet)> {
    let text = GATEWAY.replace(OPCUA_PLACE, opcua).replace(CLOUD_PLACE, cloud);
    load(folder, &[("gateway.toml", &text), ("mapping.toml", MAPPING)])
}

/// Loads the cloud's configuration, its files and data below `folder`.
///
/// # Errors
///
/// If a file cannot be written or is wrong.
pub(super) fn cloud(folder: &Path) -> anyhow::Result<(Config, MappingSet)> {
    load(folder, &[("cloud.toml", CLOUD)])
}

/// Writes the files and loads the first one.
fn load(folder: &Path, files: &[(&str, &str)]) -> anyhow::Result<(Config, MappingSet)> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let loaded = config::load(&folder.join(files[0].0))?;
    match (loaded.config, loaded.mapping) {
        (Some(config), Some(mapping)) => Ok((config, mapping)),
        _ => bail!("{}", config::render(&loaded.issues, &loaded.sources, Style::Plain)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_filled_in_once() {
        for place in [OPCUA_PLACE, CLOUD_PLACE] {
            assert_eq!(GATEWAY.matches(place).count(), 1, "{place}");
        }
    }

    #[test]
    fn the_names_are_those_of_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let (config, mapping) =
            gateway(&folder.path().join("gateway"), "opc.tcp://127.0.0.1:9", "mqtt://127.0.0.1:8")
                .unwrap();
        assert_eq!(config.gateway.id.as_str(), GATEWAY_ID);
        assert_eq!(config.uplinks[0].name.as_str(), UPLINK);
        assert!(MAPPING.contains(&format!("nsu={PRESS_NAMESPACE};")));
        assert_eq!(mapping.entries().len(), 5);
    }

    /// Promise B5: what lets anyone in listens on this machine only.
    #[test]
    fn b5_everything_listens_on_loopback() {
        let folder = tempfile::tempdir().unwrap();
        let (gateway, _) =
            gateway(&folder.path().join("gateway"), OPCUA_PLACE, CLOUD_PLACE).unwrap();
        let (cloud, _) = cloud(&folder.path().join("cloud")).unwrap();
        let listeners = [gateway.mqtt, gateway.coap, gateway.http, cloud.mqtt];
        for listener in listeners {
            let listener = listener.unwrap();
            assert!(
                listener
                    .listen
                    .iter()
                    .all(|address| address.ip().is_loopback() && address.port() == 0)
            );
        }
        assert!(cloud.coap.is_none() && cloud.http.is_none() && cloud.uplinks.is_empty());
    }
}
